"""A site: MONAI's federated client of a bundle, driven by NVIDIA FLARE's Client API. ``job.py`` starts it."""

from __future__ import annotations

import json
import shutil
from contextlib import contextmanager
from pathlib import Path

import nvflare.client as flare
import torch
from monai.fl.client import MonaiAlgo
from monai.fl.utils.constants import ExtraItems
from monai.fl.utils.exchange_object import ExchangeObject

from equivariant_nets.cli import command_line
from equivariant_nets.errors import find_cause

PROBLEM = "problem.txt"
KEY_METRIC = "val_mean_dice"


def run(*, bundle: Path, dataset_dir: Path, output_dir: Path, rounds: int, overrides: Path | None = None) -> None:
    """Evaluate what the server sends on the validation cases of this site, train it on, and send it back.

    Args:
        bundle: folder of the bundle, whose configs this site trusts: they are code.
        dataset_dir: folder of the data of this site.
        output_dir: receives the copy of the bundle that is trained, and ``sent/round_N.pt``, all that leaves the site.
        rounds: how often the server asks, an epoch each; the learning rate follows it.
        overrides: JSON file of values of ``train.json``.
    """
    problem = output_dir / PROBLEM
    problem.unlink(missing_ok=True)
    flare.init()
    with told_in(problem):
        site = start(bundle, dataset_dir, output_dir, rounds, overrides)
    while flare.is_running():
        received = flare.receive()
        with told_in(problem):
            own = answer(site, received, output_dir / "sent")
        flare.send(own)
    site.finalize()


def start(bundle: Path, dataset_dir: Path, output_dir: Path, rounds: int, overrides: Path | None) -> MonaiAlgo:
    """MONAI's client of a copy of the bundle; what it evaluates are the validation cases."""
    shutil.copytree(bundle / "configs", output_dir / "bundle" / "configs", dirs_exist_ok=True)
    shutil.rmtree(output_dir / "sent", ignore_errors=True)
    (output_dir / "sent").mkdir()
    options = json.loads(overrides.read_text(encoding="utf-8")) if overrides else {}
    options |= {"epochs": rounds, "bundle_root": str(output_dir / "bundle"), "dataset_dir": str(dataset_dir)}
    site = MonaiAlgo(
        bundle_root="bundle",
        send_weight_diff=False,
        train_kwargs=options,
        config_evaluate_filename="configs/train.json",
        eval_kwargs={**options, "validate#handlers": []},
    )
    site.initialize({ExtraItems.CLIENT_NAME: flare.get_site_name(), ExtraItems.APP_ROOT: str(output_dir)})
    return site


def answer(site: MonaiAlgo, received: flare.FLModel, folder: Path) -> flare.FLModel:
    """Evaluate and train what the server sent; the result, of which the folder keeps a copy."""
    weights = ExchangeObject(weights={name: torch.as_tensor(value) for name, value in received.params.items()})
    metrics = {KEY_METRIC: float(site.evaluate(weights).metrics[KEY_METRIC])}
    site.train(weights)
    own = site.get_weights()
    steps = own.statistics["num_executed_iterations"]
    file = folder / f"round_{received.current_round}.pt"
    torch.save({"model": own.weights, "steps": steps, "metrics": metrics}, file)
    return flare.FLModel(params=own.weights, metrics=metrics, meta={"NUM_STEPS_CURRENT_ROUND": steps})


@contextmanager
def told_in(file: Path):
    """Leave the cause of a failure in a file: the server only hears that there was one."""
    try:
        yield
    except Exception as error:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(find_cause(error).text, encoding="utf-8")
        raise


if __name__ == "__main__":
    command_line(run)()
