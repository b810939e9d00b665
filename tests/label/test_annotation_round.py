"""A small round of annotation, as a user starts it."""

import csv
import os
import subprocess

import pytest
from clients import LABEL, free_port


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def run(label_python, *arguments):
    command = [label_python, LABEL / "annotation_round.py", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)


@pytest.fixture(scope="module")
def output(label_python, real_hippocampus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("round")
    result = run(
        label_python, "--dataset_dir", real_hippocampus, "--output_dir", folder, "--port", free_port(),
        "--cases", 5, "--clicks", 0, 1, "--submitted", 4, "--epochs", 1,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


def test_every_case_is_measured_before_and_after(output):
    clicks = rows(output / "clicks.csv")
    assert [row["clicks"] for row in clicks] == ["0", "1"] * 5
    tuning = rows(output / "fine_tuning.csv")
    assert [row["fine-tuning"] for row in tuning] == ["before", "after"]
    assert tuning[0]["case"] == tuning[1]["case"]
    assert all(0.5 < float(row["mean"]) < 1 for row in clicks + tuning)


def test_the_transcript_holds_every_request(output):
    text = (output / "transcript.md").read_text()
    for request in (
        "GET /info/",
        "POST /scoring/",
        "POST /activelearning/epistemic",
        "PUT /datastore/label",
        "POST /train/",
    ):
        assert request in text
    assert text.count("POST /infer/hippocampus_mri_so3_deepedit") == 10
    assert len(list((output / "studies" / "labels" / "final").glob("*.nii.gz"))) == 4


def test_what_cannot_be_done_is_refused(label_python, real_hippocampus, tmp_path):
    options = ["--dataset_dir", real_hippocampus, "--output_dir", tmp_path, "--port", free_port()]
    result = run(label_python, *options, "--cases", 5, "--submitted", 5)
    assert result.returncode == 1
    assert "--cases 5 and --submitted 5 are not legal" in result.stderr
