"""What an experiment is: a small JSON file, read and checked, and the runs that it asks for. It needs no extra."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

__all__ = ["PLOTS", "Experiment", "Run", "read_experiment"]

PLOTS = ("rotation", "curve", "structures", "parameters")
TRAINING = "train.json"
EVALUATION = (TRAINING, "evaluate.json")
_KEYS = {"title", "question", "plot", "networks", "vary", "folds", "seeds", "overrides", "evaluation", "quick"}
_QUICK_KEYS = {"vary", "folds", "seeds", "overrides", "evaluation"}
_NETWORK_KEYS = {"bundle", "overrides", "vary"}
OWN_KEYS = {"seed", "dataset_dir", "output_dir", "ckpt_dir", "bundle_root", "resume"}  # what the engine itself sets


@dataclass(frozen=True)
class Run:
    """One training of one network and its evaluation.

    Args:
        network: what plots and tables call it.
        bundle: folder of the bundle.
        overrides: values of its training config, with the seed.
        evaluation: values that only the evaluation reads.
        value: of what the experiment varies, or None.
        dataset_dir: folder of the data.
    """

    network: str
    bundle: Path
    overrides: dict[str, Any]
    evaluation: dict[str, Any]
    value: Any
    dataset_dir: Path

    @property
    def seed(self) -> int:
        """Of the weights, the order of the cases and the augmentation."""
        return int(self.overrides["seed"])

    @property
    def fold(self) -> int | None:
        """Of a cross-validation, the part of the patients that is its test section; None without one."""
        return self.overrides.get("fold")

    # Imported when first asked for: to read an experiment needs no extra.

    @cached_property
    def training_id(self) -> str:
        """Name of the training: the same wherever its config, the content of its data and the package are the same."""
        from equivariant_nets.experiments.identity import digest_of

        return f"{self.bundle.name}-{digest_of(self, [TRAINING], {})}"

    @cached_property
    def evaluation_id(self) -> str:
        """Name of the evaluation of that training, likewise."""
        from equivariant_nets.experiments.identity import digest_of

        return f"evaluation-{digest_of(self, EVALUATION, self.evaluation)}"


@dataclass(frozen=True)
class Experiment:
    """A question, and the runs that answer it.

    Args:
        name: of its folder and its section.
        title, question: text of its section.
        plot: its main picture, one of ``PLOTS``.
        varies: the override that its networks are compared over, or None.
        runs: of all networks, values, folds and seeds; the first network is the reference of the paired tests.
        quick: whether it is a smoke run, of a few steps: it shows that all works, and nothing else.
    """

    name: str
    title: str
    question: str
    plot: str
    varies: str | None
    runs: tuple[Run, ...]
    quick: bool = False

    @property
    def networks(self) -> list[str]:
        """Names of the networks, in the order of the file."""
        return list(dict.fromkeys(run.network for run in self.runs))

    @property
    def values(self) -> list[Any]:
        """Values of what varies, in the order of the file."""
        return list({json.dumps(run.value): run.value for run in self.runs}.values())


def read_experiment(
    path: str | Path, dataset_dir: str | Path, bundles_dir: str | Path | None = None, quick: bool = False
) -> Experiment:
    """Read an experiment's file.

    The file is a JSON object::

        {"title": "...", "question": "...", "plot": "rotation",
         "networks": {"steerable": {"bundle": "hippocampus_mri_so3_segmentation"},
                      "conventional": {"bundle": "hippocampus_mri_conventional_segmentation"}},
         "vary": {"train_cases": [2, 8, 32]},
         "seeds": [0, 1],
         "overrides": {"epochs": 10},
         "evaluation": {"sweep_angles": [0, 45, 90]},
         "quick": {"seeds": [0], "overrides": {"epochs": 1}}}

    ``overrides`` are values of the bundles' ``train.json``, ``evaluation`` those of it and of ``evaluate.json`` that
    only the evaluation reads: a change of them repeats no training. A network may have ``overrides`` and a ``vary`` of
    its own. ``vary`` names one override and its values. ``folds``, such as [0, 1, 2, 3], makes it a cross-validation:
    each network is trained once for each value of the override ``fold``, and the test cases of all folds are one
    sample. ``quick`` replaces ``seeds``, ``folds`` and ``vary`` (the file's own alone) and updates the others.

    Args:
        path: the file.
        dataset_dir: folder of the data of its bundles.
        bundles_dir: folder of the bundles; by default ``bundles`` beside the folder of the file.
        quick: whether to make the small version of it, a smoke run.

    Raises:
        FileNotFoundError: there is no such file, bundle or folder of data.
        ValueError: the file is not as above, or names an override that a bundle has not.
    """
    path = Path(path).expanduser().absolute()
    content = _read(path)
    _check(path, content)
    if quick:
        content = _quick(path, content)
    dataset_dir = Path(dataset_dir).expanduser().absolute()
    if not dataset_dir.is_dir():
        raise FileNotFoundError(f"There is no folder of data {dataset_dir}. Give the folder of the bundles' data.")
    bundles = Path(bundles_dir).expanduser().absolute() if bundles_dir else path.parent.parent / "bundles"
    runs = tuple(_runs(content, bundles, dataset_dir))
    for run in runs:
        _check_overrides(path, run)
    name = path.stem + ("_quick" if quick else "")
    title = content["title"] + (" (smoke run)" if quick else "")
    return Experiment(
        name, title, content["question"], content["plot"], next(iter(_varied(content)), None), runs, quick
    )


def _read(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"There is no experiment {path}. Give the path of its JSON file.")
    if path.stem == "runs":
        raise ValueError(f"{path} would write its section where all runs are kept. Give the file another name.")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error}).") from None


def _check(path: Path, content: Any) -> None:
    """Refuse what is no experiment, whatever its bundles and data are."""
    _check_keys(path, "an experiment", content, _KEYS, {"title", "question", "plot", "networks", "seeds"})
    if content["plot"] not in PLOTS:
        raise ValueError(f"{path}: plot is {content['plot']!r}; legal are {', '.join(PLOTS)}.")
    for key in ("seeds", "folds"):
        numbers = content.get(key, [0])
        if not isinstance(numbers, list) or not numbers or not all(isinstance(number, int) for number in numbers):
            raise ValueError(f"{path}: {key} is {numbers!r}; legal is a list of one or more whole numbers.")
    networks = content["networks"]
    if not isinstance(networks, dict) or not networks:
        raise ValueError(f"{path}: networks is {networks!r}; legal is an object of one or more, by their names.")
    for name, network in networks.items():
        _check_keys(path, f"the network {name!r}", network, _NETWORK_KEYS, {"bundle"})
    for key in ("overrides", "evaluation"):
        for part in (content, *networks.values()):
            if not isinstance(part.get(key, {}), dict):
                raise ValueError(f"{path}: {key} is {part[key]!r}; legal is an object of values by their names.")
    for vary in _varies(content):
        if not isinstance(vary, dict) or len(vary) > 1 or not all(isinstance(v, list) and v for v in vary.values()):
            raise ValueError(f"{path}: vary is {vary!r}; legal is one override with the list of its values.")
    varied = _varied(content)
    if len(varied) > 1:
        raise ValueError(f"{path}: its networks vary {', '.join(sorted(varied))}; legal is one override for all.")
    if content["plot"] == "curve" and not varied:
        raise ValueError(f"{path}: the plot 'curve' needs what is varied: add {{'vary': {{OVERRIDE: [VALUES]}}}}.")


def _varies(content: dict[str, Any]) -> list[Any]:
    """What each network varies: its own, or else that of all."""
    return [network.get("vary", content.get("vary", {})) for network in content["networks"].values()]


def _varied(content: dict[str, Any]) -> set[str]:
    """The overrides that the networks vary, of which one is legal."""
    return {key for vary in _varies(content) for key in vary}


def _quick(path: Path, content: dict[str, Any]) -> dict[str, Any]:
    """The small version."""
    if "quick" not in content:
        raise ValueError(f"{path} has no quick version: add {{'quick': {{'overrides': ...}}}} to it.")
    quick = content["quick"]
    _check_keys(path, "quick", quick, _QUICK_KEYS, set())
    merged = {key: {**content.get(key, {}), **quick.get(key, {})} for key in ("overrides", "evaluation")}
    replaced = {key: quick[key] for key in ("vary", "folds", "seeds") if key in quick}
    small = {**content, **merged, **replaced}
    _check(path, small)
    return small


def _runs(content: dict[str, Any], bundles: Path, dataset_dir: Path) -> Iterator[Run]:
    """Of all seeds, folds, networks and values, outermost first: a stopped experiment has all networks first."""
    shared, evaluation = content.get("overrides", {}), content.get("evaluation", {})
    folds = [{"fold": fold} for fold in content["folds"]] if "folds" in content else [{}]
    for seed, fold in itertools.product(content["seeds"], folds):
        for (name, network), vary in zip(content["networks"].items(), _varies(content), strict=True):
            common = {**shared, **network.get("overrides", {}), **fold, "seed": seed}
            settings = [(value, {key: value}) for key, values in vary.items() for value in values] or [(None, {})]
            for value, own in settings:
                yield Run(name, bundles / network["bundle"], {**common, **own}, evaluation, value, dataset_dir)


def _check_keys(path: Path, what: str, content: Any, legal: set[str], required: set[str]) -> None:
    if not isinstance(content, dict):
        raise ValueError(f"{path}: {what} is a JSON {type(content).__name__}; legal is an object.")
    if unknown := set(content) - legal:
        raise ValueError(
            f"{path}: {what} has the keys {', '.join(sorted(unknown))}; legal are {', '.join(sorted(legal))}."
        )
    if missing := required - set(content):
        raise ValueError(f"{path}: {what} lacks {', '.join(sorted(missing))}.")


def _check_overrides(path: Path, run: Run) -> None:
    file = run.bundle / "configs" / TRAINING
    if not file.is_file():
        raise FileNotFoundError(f"{path} names the bundle {run.bundle}, which has no configs/{TRAINING}.")
    training = json.loads(file.read_text(encoding="utf-8"))
    evaluated = file.with_name(EVALUATION[-1])
    evaluation = {**training, **(json.loads(evaluated.read_text(encoding="utf-8")) if evaluated.is_file() else {})}
    for key, config in [*((key, training) for key in run.overrides), *((key, evaluation) for key in run.evaluation)]:
        if key in OWN_KEYS and key != "seed":
            raise ValueError(f"{path} overrides {key!r}, which is set for each run. Leave it out.")
        first, *inner = key.split("#")
        if first not in config or (inner and not isinstance(config[first], dict)):
            files = file if config is training else f"{file} and {evaluated.name}"
            raise ValueError(
                f"{path} overrides {key!r}, which {run.bundle.name} has not. Legal are the keys at the top of "
                f"{files}, such as epochs, or a value in them, as network_def#depth."
            )
