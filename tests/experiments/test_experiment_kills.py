"""An experiment that is killed, while its child goes on, and is given again: it ends as one that was not."""

import random
import shutil

import pytest
from fresh import run_module
from kills import survive

pytestmark = pytest.mark.faults


def test_an_experiment_loses_nothing(experiment_file, kills_of, tmp_path):
    kills = kills_of(0.05, least=0)
    if not kills:
        pytest.skip("each takes a minute: make test-faults")
    path = experiment_file(networks={"fast": {"bundle": "fast"}}, without=["vary"], seeds=[0], plot="rotation")
    out = tmp_path / "out"

    def run(anew, kill_after_s):
        if anew:
            shutil.rmtree(out, ignore_errors=True)
        options = ["--dataset_dir", tmp_path, "--output_dir", out]
        module = "equivariant_nets.experiments"
        result = run_module(module, path, *options, cwd=tmp_path, kill_after_s=kill_after_s)
        is_done = len(list(out.rglob("record.json"))) == 2  # its bundle writes no tables to report
        return 0 if is_done and kill_after_s is None else result.returncode

    survive(run, kills, random.Random(4), folder=out)
