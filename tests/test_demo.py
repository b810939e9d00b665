"""The demo, at a size that takes seconds: it ends with all that it promises."""

import csv
import os
import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from fresh import python

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "demo" / "run.py"
TEMPLATE = ROOT / "output" / "demo" / "template" / "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
BLOBS = {1: (11, 8, 6), 2: (6, 17, 12), 3: (16, 19, 13)}  # centres of bright parts, of no symmetry


@pytest.fixture
def parts(monkeypatch):
    """The modules of the demo."""
    monkeypatch.syspath_prepend(str(DEMO.parent))
    import brain_picture
    import brain_poses

    return brain_poses, brain_picture


@pytest.fixture
def brain(tmp_path):
    """A file of an ellipsoid with bright parts, in a header that turns the axes."""
    grid = np.indices((24, 28, 20))
    image = np.where((((grid.T - (11.5, 13.5, 9.5)) / (9, 11, 8)) ** 2).sum(-1).T < 1, 100.0, 0.0)
    for value, centre in BLOBS.items():
        image[((grid.T - centre) ** 2).sum(-1).T < 16] = 100 + 50 * value
    volume = nib.Nifti1Image(image.astype(np.float32), np.diag([3.0, 3.0, 3.0, 1.0]))
    path = tmp_path / "brain.nii.gz"
    nib.save(volume.as_reoriented(nib.orientations.axcodes2ornt("ASR")), path)
    return path


def run(folder, *options, **variables):
    command = [python(), str(DEMO), f"--output_dir={folder / 'out'}", *options]
    environment = {**os.environ, **variables}
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=environment)


def test_the_demo_shows_a_brain_and_compares_two_networks(tmp_path, brain):
    tiny = ["--epochs=1", "--num_training=2", "--size=20", "--sweep_cases=1", "--sweep_random_poses=1"]
    done = run(tmp_path, f"--brain={brain}", *tiny)
    assert done.returncode == 0, done.stderr
    for name in ("report.html", "brain/brain.png", "rotation.png", "turned_phantom.png"):
        assert (tmp_path / "out" / name).stat().st_size > 1000
        assert str(tmp_path / "out" / name) in done.stdout
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert 0 < page.index("<img") < page.index("this brain has no labels") < page.index("<td>conventional</td>")
    for pose in ("upright", "sagittal_30", "random_1"):
        for network in ("equivariant", "conventional"):
            assert (tmp_path / "out" / "brain" / network / f"{pose}_seg.nii.gz").is_file()
    for name in ("steerable", "conventional"):
        results = tmp_path / "out" / name
        assert (results / "phantom_test_0000_seg.nii.gz").is_file()
        assert (results / "phantom_test_0000_preview.png").is_file()
    with (tmp_path / "out" / "steerable" / "rotation_dice.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    on_the_grid = {
        (r["class"], r["plane"], r["angle_degrees"]): float(r["dice"]) for r in rows if r["plane"] != "random"
    }
    for (name, plane, angle), dice in on_the_grid.items():
        if float(angle) % 90 == 0:
            assert dice == pytest.approx(on_the_grid[name, plane, "0"], abs=0.01)


def test_without_a_package_index_the_demo_says_so_and_a_failing_step_stops_it(tmp_path):
    done = run(tmp_path, "--size=2", PIP_NO_INDEX="1")
    assert done.returncode != 0
    assert done.stdout.count("No brain could be fetched, so the demo goes on with phantoms alone. pip says: ") == 1
    assert "nilearn==0.14.1" in done.stdout
    assert "whole numbers of voxels from 20" in done.stderr
    assert "The command above failed" in done.stderr


def test_a_brain_that_is_none_is_an_error_that_says_why(tmp_path):
    nib.save(nib.Nifti1Image(np.ones((24, 28, 20), np.float32), np.eye(4)), tmp_path / "flat.nii.gz")
    done = run(tmp_path, f"--brain={tmp_path / 'flat.nii.gz'}")
    assert done.returncode == 1
    assert "flat.nii.gz" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_network_that_fails_is_told_with_what_it_said(tmp_path, parts, capsys):
    from bundle_commands import BundleRun, bundle_runs

    brain_poses, _ = parts
    paths = {"dataset_dir": tmp_path / "nowhere", "output_dir": tmp_path / "out"}
    runs = {name: BundleRun(bundle, ["inference.json"], paths) for name, bundle in brain_poses.NETWORKS.items()}
    with pytest.raises(
        SystemExit, match=r"so3_segmentation failed with exit code 1; the last lines of .*equivariant\.log"
    ):
        bundle_runs(runs, tmp_path / "logs", [tmp_path / "never"])
    assert "nowhere" in capsys.readouterr().err.splitlines()[-2]


def test_an_answer_that_turns_with_the_brain_agrees_and_one_that_stays_does_not(tmp_path, brain, parts, monkeypatch):
    brain_poses, brain_picture = parts

    def segment(bundle, dataset_dir, output_dir, roi_size=None):
        """By intensity, which turns with the brain; or always the same, which does not."""
        output_dir.mkdir()
        for file in dataset_dir.iterdir():
            volume = nib.load(file)
            label = np.searchsorted([125, 175, 225], volume.get_fdata()).astype(np.uint8)
            if bundle == brain_poses.NETWORKS["conventional"]:
                label[:] = 0
                label[tuple(slice(n // 3, n // 2) for n in label.shape)] = 1
            nib.save(nib.Nifti1Image(label, volume.affine), output_dir / file.name.replace(".nii", "_seg.nii"))

    def segment_all(runs, folder, results):
        for run in runs.values():
            segment(run.bundle, **run.overrides)
        assert all(path.is_file() for path in results)

    monkeypatch.setattr(brain_poses, "bundle_runs", segment_all)
    posed = brain_poses.write_poses(brain, tmp_path / "poses")
    size = posed["upright"].image.shape  # to the right, front and top, of 1 mm, and nothing beside the brain
    assert size == pytest.approx((3 * 18, 3 * 22, 3 * 16), abs=3)
    answers = brain_poses.segment_poses(posed, tmp_path / "poses", tmp_path)
    for pose in ("sagittal_30", "random_1"):
        turns, stays = (answers[network][pose].dice for network in ("equivariant", "conventional"))
        assert turns[:3].min() > 0.75
        assert np.isnan(turns[3:]).all()
        assert stays[0] < 0.6
    names = dict.fromkeys(answers, "network")
    path = brain_picture.draw_brain(posed, answers, names, ["A note."], tmp_path / "brain.png")
    assert path.stat().st_size > 10_000


def test_the_template_is_a_brain_without_skull_that_fits_into_every_pose(tmp_path, parts):
    if not TEMPLATE.is_file():
        pytest.skip(f"make demo was not run: it fetches {TEMPLATE.name}")
    brain_poses, _ = parts
    from equivariant_nets.data import CheckSkullStrippedd, LoadVolumed

    item = CheckSkullStrippedd("image")(LoadVolumed("image")({"image": str(TEMPLATE)}))
    assert item["image"].shape == (1, 197, 233, 189)
    posed = brain_poses.write_poses(TEMPLATE, tmp_path)
    masses = [brain.image.sum(dtype=float) for brain in posed.values()]
    assert masses == pytest.approx([masses[0]] * 3, rel=0.002)
