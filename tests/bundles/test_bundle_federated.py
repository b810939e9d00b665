"""Laws of federated learning: MONAI's client runs the bundles as they are, and sites learn from each other."""

import csv
import json
import shutil

import pytest
import torch
from bundle_files import BUNDLES, NAMES
from monai.fl.client import MonaiAlgo
from monai.fl.utils.constants import ExtraItems
from monai.fl.utils.exchange_object import ExchangeObject
from monai.utils import set_determinism

SO3 = "hippocampus_mri_so3_segmentation"


@pytest.fixture
def site(tmp_path):
    """Start a site: a copy of a bundle in a folder of its own, and the client that trains it there."""

    def start(name, where, evaluate="default", **options):
        root = tmp_path / where / "bundle"
        shutil.copytree(BUNDLES / name / "configs", root / "configs")
        options = {**options, "bundle_root": str(root)}
        client = MonaiAlgo(
            bundle_root="bundle", send_weight_diff=False, train_kwargs=dict(options), eval_kwargs=dict(options),
            config_evaluate_filename=evaluate,
        )  # fmt: skip
        client.initialize({ExtraItems.CLIENT_NAME: where, ExtraItems.APP_ROOT: str(tmp_path / where)})
        return client

    threads, settings = torch.get_num_threads(), (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark)
    torch.set_num_threads(1)
    yield start
    torch.set_num_threads(threads)
    set_determinism(None)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = settings


def copy_cases(source, folder, entries):
    for file in (file for entry in entries for file in entry.values()):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / file, folder / file)
    (folder / "dataset.json").write_text(json.dumps({"training": entries}))
    return str(folder)


def test_two_sites_learn_from_each_other(real_hippocampus, site, tmp_path):
    entries = json.loads((real_hippocampus / "dataset.json").read_text())["training"]
    options = {"epoch_length": 8, "epochs": 3, "learning_rate": 0.02, "val_interval": 3, "augmentation": "none"}
    options["features"] = "4x0e+2x1e+1x2e"  # faster than the bundle's own
    sites = []
    for index in range(2):
        data = copy_cases(real_hippocampus, tmp_path / f"data_{index}", entries[10 * index : 10 * index + 10])
        sites.append(site(SO3, f"site_{index}", dataset_dir=data, **options))
    weights = ExchangeObject(weights=sites[0].get_weights().weights)
    before = [client.evaluate(weights).metrics["mean_dice"] for client in sites]
    for epoch in range(1, 4):
        for client in sites:
            client.train(weights)
            assert client.trainer.state.epoch == epoch
        first, second = (client.get_weights().weights for client in sites)
        assert not any(torch.equal(first[key], second[key]) for key in first if first[key].dim() > 1)
        weights = ExchangeObject(weights={key: (first[key] + second[key]) / 2 for key in first})
    after = [client.evaluate(weights).metrics["mean_dice"] for client in sites]
    held = [client.evaluator.network.state_dict() for client in sites]
    assert all(torch.equal(held[0][key], held[1][key]) for key in held[0])
    assert min(after) > max(before) + 0.1
    for client in sites:
        client.finalize()
    results = tmp_path / "site_0" / "bundle" / "eval"
    assert sorted(path.name for path in results.glob("*.pt")) == ["model.pt", "training_state.pt"]
    for table in ("mean_dice_raw.csv", "hausdorff95_summary.csv"):  # of the weights that the server sent
        with (results / table).open(newline="") as file:
            assert {row["weights"] for row in csv.DictReader(file)} == {"in memory"}


@pytest.mark.parametrize("name", NAMES)
def test_a_site_trains_every_bundle(name, small_trainings, site):
    client = site(name, "site", evaluate=None, **small_trainings[name])
    given = client.get_weights().weights
    given = {key: value.clone() for key, value in given.items()}
    client.train(ExchangeObject(weights=given))
    trained = client.get_weights()
    assert trained.statistics["num_executed_iterations"] > 0
    assert all(torch.isfinite(value).all() for value in trained.weights.values())
    assert not all(torch.equal(trained.weights[key], given[key]) for key in given)
    client.finalize()
