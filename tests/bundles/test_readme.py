"""The commands of README.md and the pages behind it, in their order, as a new user gives them in a fresh copy:
shortened, but not changed."""

import re
import shutil

import pytest
from bundle_files import weights
from readme import COMMANDS, ROOT, run

# What needs a network, data that is not here, several processes, or minutes; other tests run the last kinds on less.
LEFT_OUT = (
    "make ", "mkdir", "pip ", "python3 -m venv", "torchrun", "$TUMOR", "$BRAIN", "$RETINA", "data.brain", "poses",
    "onnx_export",
)  # fmt: skip
SHORTER = {
    "/train.json --": "--epochs 1 --train_cases 2 --features 2x0e+1x1e",
    "/evaluate.json": "--features 2x0e+1x1e --sweep_cases 1 --sweep_angles [0] --sweep_random_poses 1 "
    "--sweep_scales [1.0]",
    "equivariant_nets.experiments": "--quick",
    "--ckpt_dir output/so3": "--features 2x0e+1x1e",
    "zoo check": "--quick",
}
LAST = {  # what each command says last
    "data.hippocampus": r"test: 2 cases",
    "/train.json --": r".*SupervisedTrainer - INFO - Engine run finished\. Time taken: .*",
    "/evaluate.json": r".* Dice of the scale sweep is in output/so3/scale_dice\.csv, and drawn in .*scale_dice\.png\.",
    "segmentations": r".* - 2 segmented\. The results lie in .*output/segmentations, and cases\.csv lists them\.",
    "own_weights": r".* - 2 segmented\. The results lie in .*output/own_weights, and cases\.csv lists them\.",
    "clicked": r".* - 2 segmented\. The results lie in .*output/clicked, and cases\.csv lists them\.",
    "equivariant_nets.experiments": r"Smoke run: its numbers mean nothing\.",
    "ckpt_export": r".*model\.ts.*",
    "zoo new": r"Train it: python -m monai\.bundle run --bundle_root bundles/liver_ct_so3 .*",
    "zoo check": r"15 bundles, no findings",
    "zoo pack": r".*dist/hippocampus_mri_so3_segmentation_v.*\.zip.*",
}


def shortened(command):
    extra = [options for part, options in SHORTER.items() if part in command]
    return " ".join([command.replace(" --download", ""), *extra])


def last_line(output):
    lines = [line for line in re.split(r"[\r\n]+", output) if line.strip()]
    return lines[-1] if lines else ""


@pytest.fixture(scope="module")
def session(tmp_path_factory, shared_cases):
    """What each command printed last, by the command, in a copy of what is shipped with small data."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "output" / "phantoms").mkdir(parents=True)
    for name in ("bundles", "equivariant_nets", "experiments"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "eval"))
    for task in ("hippocampus", "liver"):
        shutil.copytree(shared_cases, folder / "data" / task)
    images = sorted((folder / "data" / "hippocampus" / "imagesTr").glob("*.nii.gz"))
    for image in images[:2]:
        (folder / "data" / "hippocampus" / "imagesTs").mkdir(exist_ok=True)
        shutil.copy(image, folder / "data" / "hippocampus" / "imagesTs" / f"test_{image.name}")
    clicks = '{"test_case_0.nii.gz": {"anterior hippocampus": [[8, 12, 7]]}}'
    (folder / "clicks.json").write_text(clicks)
    shipped = folder / "bundles" / "hippocampus_mri_so3_segmentation" / "models" / "model.pt"
    before, printed = shipped.read_bytes(), {}
    for command in COMMANDS:
        if not any(part in command for part in LEFT_OUT) and not re.fullmatch(r"\w+=\S+", command):
            result = run(shortened(command), folder)
            output = result.stdout + result.stderr if result.returncode else result.stdout or result.stderr
            printed[command] = result.returncode, last_line(output), result.stdout + result.stderr
    assert shipped.read_bytes() == before  # a training replaces no shipped weights
    return folder, printed


def test_each_command_succeeds_and_says_last_what_it_did(session):
    _, printed = session
    assert len(printed) == len(LAST)
    for command, (code, last, output) in printed.items():
        assert code == 0, f"{command}\n{output[-3000:]}"
        expected = next(pattern for part, pattern in LAST.items() if part in command)
        assert re.fullmatch(expected, last), f"{command}\n{last}"


def test_what_was_trained_was_evaluated(session):
    folder, printed = session
    trained = folder / "output" / "so3" / "model.pt"
    assert sum(value.numel() for value in weights(trained).values()) < 8000  # narrower than the shipped network
    evaluated = next(output for command, (_, _, output) in printed.items() if "/evaluate.json" in command)
    assert re.search(r"Weights: output/so3/model\.pt \(trained in output/so3\)", evaluated)
    assert "new best" not in evaluated
    for table in ("mean_dice_raw.csv", "rotation_dice.csv", "scale_dice.csv"):
        assert "output/so3/model.pt" in (folder / "output" / "so3" / table).read_text()


def test_every_command_is_run_or_left_out_for_a_reason():
    run = [c for c in COMMANDS if "=" not in c.split()[0] and not any(part in c for part in LEFT_OUT)]
    assert {part for part in LAST if any(part in command for command in run)} == set(LAST)
