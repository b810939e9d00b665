"""Which run is the same as another: its config, parsed, and what of it decides about the results."""

from __future__ import annotations

from equivariant_nets import bundles_extra  # noqa: F401

# isort: split

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from monai.bundle import ConfigParser
from monai.bundle.reference_resolver import ReferenceResolver
from monai.bundle.utils import ID_SEP_KEY

from equivariant_nets import __version__
from equivariant_nets.errors import find_cause
from equivariant_nets.experiments.plan import EVALUATION, OWN_KEYS, Run
from equivariant_nets.fingerprints import digest, fingerprint, is_place

__all__ = ["config_of", "digest_of", "what_runs"]


def config_of(run: Run, configs: Sequence[str] = EVALUATION) -> ConfigParser:
    """The config of the evaluation of a run, or another, for building the network or a part of it."""
    parser = ConfigParser()
    parser.read_config([str(run.bundle / "configs" / name) for name in configs])
    own = {"bundle_root": str(run.bundle), "dataset_dir": str(run.dataset_dir)}
    parser.update({**own, **run.overrides, **run.evaluation})
    return parser


def digest_of(run: Run, configs: Sequence[str], evaluation: dict[str, Any]) -> str:
    """Of what a command reads: the config below what it runs, with the data lists by the content of their files.

    Args:
        run: the run.
        configs: files of its bundle, as the command merges them.
        evaluation: values that stand for its own that only the evaluation reads.

    Raises:
        ValueError: the data of the bundle cannot be listed.
    """
    parser = config_of(replace(run, evaluation=evaluation), configs)
    values = what_runs(parser)
    lists = {id.rpartition(ID_SEP_KEY)[0] for id, value in values.items() if _is_datalist(id, value)}
    with tempfile.TemporaryDirectory() as folder:  # for a split that a data list writes where results go
        parser.update({"output_dir": folder, "ckpt_dir": folder})
        try:
            data = {id: parser.get_parsed_content(id) for id in sorted(lists)}
        except Exception as error:  # MONAI hides what was wrong in errors of its own
            raise ValueError(f"The data of {run.bundle.name} cannot be listed. {find_cause(error).text}") from error
        return digest([__version__, run.bundle.name, fingerprint(config=values, data=data)])


def what_runs(parser: ConfigParser) -> dict[str, Any]:
    """The values of a bundle's config that reach what it initializes and runs, by their ids, but for places."""
    values: dict[str, Any] = {}
    waiting, seen = ["initialize", "run"], set()
    while waiting:
        if (id := waiting.pop()) in seen or id not in parser:
            continue
        seen.add(id)
        value = parser[id]
        if isinstance(value, dict | list):
            waiting += [f"{id}{ID_SEP_KEY}{key}" for key in (value if isinstance(value, dict) else range(len(value)))]
        elif id in OWN_KEYS - {"seed"} or is_place(id.rpartition(ID_SEP_KEY)[2]):
            continue
        else:
            values[id] = value
            waiting += ReferenceResolver.match_refs_pattern(value) if isinstance(value, str) else []
    return values


def _is_datalist(id: str, value: Any) -> bool:
    return id.endswith(f"{ID_SEP_KEY}_target_") and isinstance(value, str) and value.endswith("datalist")
