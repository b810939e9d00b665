"""Commands on a disk that is really full: a small one in memory, mounted where this process alone sees it."""

import os
import subprocess
import sys

import pytest
from bundle_files import BUNDLES
from kills import content, torn, visible

pytestmark = pytest.mark.faults
STEERABLE = "hippocampus_mri_so3_segmentation"
# The command on a small disk, then on a larger one; what lay there after each is copied out.
ON_A_SMALL_DISK = """
set -e
mount -t tmpfs -o size="$1" none "$2"
small="$2" results="$3"
shift 3
"$@" 2> "$results/error" && exit 9
cp -a "$small" "$results/full"
mount -o remount,size=64m "$small"
"$@" 2> "$results/error_with_room" || exit 8
cp -a "$small" "$results/with_room"
"""
NAMESPACES = ["unshare", "--map-root-user", "--mount"]


@pytest.fixture
def on_a_small_disk(request, tmp_path):
    """Run a bundle with ``--output_dir`` on a disk of so many kB, and again with room.

    Returns the last lines of the first error, and the folders: full, with room, and of the command undisturbed.
    """
    if not request.config.getoption("--faults"):
        pytest.skip("each takes a minute: make test-faults")
    if subprocess.run([*NAMESPACES, "mount", "-t", "tmpfs", "none", tmp_path], capture_output=True).returncode:
        pytest.skip("this system lets nobody mount a disk in memory")

    def run(file, kilobytes, **options):
        root = BUNDLES / STEERABLE
        command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", "--bundle_root", root]
        command += ["--config_file", root / "configs" / file]
        command += [part for key, value in options.items() for part in (f"--{key}", value)]
        command = list(map(str, command))
        disk, results = tmp_path / "disk", tmp_path / "results"
        disk.mkdir()
        results.mkdir()
        given = {"cwd": tmp_path, "env": {**os.environ, "OMP_NUM_THREADS": "1"}, "capture_output": True, "text": True}
        undisturbed = subprocess.run([*command, "--output_dir", results / "undisturbed"], **given)
        assert undisturbed.returncode == 0, undisturbed.stderr
        script = [*NAMESPACES, "sh", "-c", ON_A_SMALL_DISK, "sh", f"{kilobytes}k", disk, results]
        both = subprocess.run([*script, *command, "--output_dir", disk], **given)
        assert both.returncode == 0, both.stderr
        error = (results / "error").read_text().splitlines()
        return error, *(results / name for name in ("full", "with_room", "undisturbed"))

    return run


def test_a_training_says_what_has_no_room_and_goes_on_when_there_is(on_a_small_disk, shared_cases):
    error, full, with_room, undisturbed = on_a_small_disk(
        "train.json", 80, dataset_dir=shared_cases, features="2x0e+1x1e", train_cases=2, epochs=2, epoch_length=2,
        val_interval=1, resume=True,
    )  # fmt: skip
    assert "training_state.pt cannot be written: No space left on device. Nothing of it is left. Free" in error[-1]
    assert [path.name for path in visible(full)] == ["model.pt"]
    assert torn(full) == []
    assert content(with_room) == content(undisturbed)


def test_an_inference_keeps_what_is_segmented_and_makes_the_rest(on_a_small_disk, shared_cases):
    error, full, with_room, undisturbed = on_a_small_disk(
        "inference.json", 150, dataset_dir=shared_cases / "imagesTr", pattern="*[0-2].nii.gz"
    )
    assert any("of 3 cases failed, the others are segmented" in line for line in error)
    assert "No space left on device" in error[-1]
    masks = {path.name for path in visible(full) if path.name.endswith("_seg.nii.gz")}
    assert 0 < len(masks) < 3
    assert torn(full) == []
    made, expected = content(with_room), content(undisturbed)
    assert made.keys() == expected.keys()
    assert all(made[name] == expected[name] for name in made if name != "cases.csv")  # which holds the folder's name
