"""Laws of training over processes: two of them train every bundle as one does, and in place of one."""

import json
import os
import re
import subprocess
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import monai.bundle
import pytest
from bundle_files import BUNDLES, NAMES, RETINA, TUMOR, weights
from fresh import python
from monai.utils import set_determinism

from equivariant_nets.training import processes

PHANTOM = "phantom_so3_segmentation"
# Two processes have not the gradient of one larger batch where statistics are those of the batch in a process (batch
# normalization), or the loss is weighted by what is in it (the weighted cross entropy of the phantoms).
TURNED_BRAINS = [f"brain_structures_mri_{family}_segmentation" for family in ("so3", "sides")]
READS_THE_BATCH = [*RETINA, *TUMOR, PHANTOM, *TURNED_BRAINS]


@pytest.fixture(scope="module")
def results(small_trainings, tmp_path_factory):
    """What each of two processes saw and found when they trained every bundle, one after another."""
    folder = tmp_path_factory.mktemp("processes")
    plan = {
        name: {"root": str(BUNDLES / name), "overrides": overrides, "output_dir": str(folder / name)}
        for name, overrides in small_trainings.items()
    }
    phantom = plan[PHANTOM]
    one_case = {"num_validation": 1, "dataset_dir": str(folder / "one_case")}
    too_many = {**phantom, "overrides": {**phantom["overrides"], **one_case}}
    (folder / "plan.json").write_text(json.dumps({"train": plan, "too many processes": too_many}))
    command = [python(), "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += [str(Path(__file__).parents[1] / "helpers" / "train_in_processes.py"), str(folder / "plan.json")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    ranks = [json.loads((folder / f"results_{rank}.json").read_text()) for rank in range(2)]
    return SimpleNamespace(folder=folder, ranks=ranks)


every_bundle = pytest.mark.parametrize("name", NAMES)


@every_bundle
def test_each_case_is_seen_once_and_one_twice_where_they_do_not_divide(name, results, small_trainings):
    seen = [rank[name]["seen"] for rank in results.ranks]
    assert len(seen[0]) == len(seen[1])
    if name in RETINA:  # whose samples are patches
        assert sum(map(len, seen)) == small_trainings[name]["patches_per_epoch"]
    else:
        assert sorted(Counter(seen[0] + seen[1]).values()) == [1, 1, 2]


@every_bundle
def test_the_gradient_is_the_mean_over_the_processes(name, results):
    for rank in results.ranks:
        errors = rank[name]["gradient_errors"]
        assert errors["processes"] < 1e-5
        assert (errors["batch"] > 1e-3) if name in READS_THE_BATCH else (errors["batch"] < 1e-9)


@every_bundle
def test_one_process_writes(name, results):
    first, second = (rank[name]["files"] for rank in results.ranks)
    assert set(first) - {"", "split"} == {"events", "model", "training_state"}  # and the hidden one of the owner
    assert [file for file in second if file != "split"] == []


@every_bundle
def test_one_process_reports_and_the_others_do_all_else(name, results):
    reports = {"StatsHandler", "TensorBoardStatsHandler", "ProgressBar"}
    first, second = (rank[name]["handlers"] for rank in results.ranks)
    for section in ("train", "validate"):
        assert reports & {*first[section]} >= {"StatsHandler", "TensorBoardStatsHandler"}
        assert second[section] == [handler for handler in first[section] if handler not in reports]


@every_bundle
@pytest.mark.parametrize("overlay", ["multi_gpu_train.json", "multi_gpu_inference.json"])
def test_overlays_of_processes_name_no_handler_by_its_position(name, overlay):
    text = (BUNDLES / name / "configs" / overlay).read_text(encoding="utf-8")
    assert not re.search(r"handlers(#-?\d|\[)", text)


@every_bundle
def test_metrics_of_all_cases_reach_every_process(name, results, small_trainings):
    folder = results.folder / name / "rank_0"
    workflow = monai.bundle.create_workflow(
        config_file=str(BUNDLES / name / "configs" / "train.json"), workflow_type="train", logging_file=False,
        bundle_root=str(BUNDLES / name), **{**small_trainings[name], "output_dir": str(folder / "one")},
        **{"validate#handlers": []}, ckpt_dir=str(folder / "one"),
    )  # fmt: skip
    workflow.network_def.load_state_dict(weights(folder / "model.pt"), strict=True)
    evaluator = workflow.parser.get_parsed_content("validate#evaluator")
    evaluator.run()
    set_determinism(None)
    expected = {key: float(value) for key, value in evaluator.state.metrics.items()}
    for rank in results.ranks:
        assert rank[name]["metrics"] == pytest.approx(expected, rel=1e-5)


def test_too_many_processes_are_an_error_before_the_training(results):
    for rank in results.ranks:
        message = "2 processes are too many for 1 validation cases: each needs one of its own. Start at most 1"
        assert message in rank["too many processes"]


def test_a_case_for_each_process_is_enough(monkeypatch):
    monkeypatch.setattr(processes.idist, "get_world_size", lambda: 3)
    processes.check_validation_cases(range(3))
    with pytest.raises(ValueError, match="3 processes are too many for 2"):
        processes.check_validation_cases(range(2))
