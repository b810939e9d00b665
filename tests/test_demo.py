"""The demo, at a size that takes seconds: it ends with all that it promises."""

import csv
import subprocess
from pathlib import Path

import pytest
from fresh import python

DEMO = Path(__file__).parent.parent / "demo" / "run.py"


def test_the_demo_compares_two_networks_and_says_where_its_results_lie(tmp_path):
    tiny = ["--epochs=1", "--num_training=2", "--size=20", "--sweep_cases=1", "--sweep_random_poses=1"]
    command = [python(), str(DEMO), f"--output_dir={tmp_path / 'out'}", *tiny]
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    for name in ("report.html", "rotation.png", "turned_phantom.png"):
        assert (tmp_path / "out" / name).stat().st_size > 1000
        assert str(tmp_path / "out" / name) in run.stdout
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


def test_a_failing_step_stops_the_demo(tmp_path):
    command = [python(), str(DEMO), f"--output_dir={tmp_path / 'out'}", "--size=2"]
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert run.returncode != 0
    assert "whole numbers of voxels from 20" in run.stderr
    assert "The command above failed" in run.stderr
