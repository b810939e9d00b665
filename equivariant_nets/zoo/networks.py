"""Rules that build the networks of a bundle: what its workflows offer, shapes, weights and the export."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import monai.bundle
import torch
from monai.bundle import ConfigWorkflow
from monai.bundle.scripts import _get_fake_spatial_shape
from monai.utils import BundleProperty, BundlePropertyConfig, set_determinism

from equivariant_nets.errors import find_cause
from equivariant_nets.training.checkpoints import read_weights
from equivariant_nets.zoo.bundle import METADATA, WEIGHTS, Bundle, quiet

__all__ = ["network_findings"]

_CONFIGS = {"train": "train.json", "inference": "inference.json"}
_DATASETS = {"train": ("train#dataset", "validate#dataset"), "inference": ("dataset",)}
_SIZES = (1, 2, 5)  # of n in the metadata's shapes: odd and even
_TOLERANCE = 1e-4


def network_findings(bundle: Bundle) -> Iterator[str]:
    """What is wrong with the networks of a bundle, and with all that its workflows build around them.

    The networks run on the CPU. Data is not asked for: the data sets are replaced by one of an empty item.
    """
    for kind in _CONFIGS:
        yield from _properties(bundle, kind)
    yield from _shapes(bundle)
    if (bundle.root / WEIGHTS).is_file():
        yield from _weights(bundle)


def _properties(bundle: Bundle, kind: str) -> Iterator[str]:
    path = bundle.root / "configs" / _CONFIGS[kind]
    with tempfile.TemporaryDirectory() as folder, quiet():
        own = {
            "bundle_root": str(bundle.root),
            "device": "$torch.device('cpu')",
            "output_dir": folder,
        }
        workflow = ConfigWorkflow(str(path), logging_file=False, workflow_type=kind, **own)
        properties: dict[str, Any] = workflow.properties or {}
        ids = [p[BundlePropertyConfig.ID] for p in properties.values() if p[BundleProperty.REQUIRED]]
        if missing := sorted(id for id in ids if id not in workflow.parser):
            yield f"{path}: has no {', '.join(missing)}, which MONAI requires of this workflow. Define them."
            return
        workflow.parser.update({id: {"_target_": "Dataset", "data": [{}]} for id in _DATASETS[kind]})
        try:
            workflow.initialize()
            wrong = workflow.check_properties()
        except Exception as error:  # whatever a component of the config raises
            yield f"{path}: cannot be built ({_told(error)}). Correct the config."
            return
        finally:
            set_determinism(None)
    if wrong:
        yield f"{path}: MONAI finds {', '.join(wrong)} missing, or under another id than it reads. Correct the ids."


def _shapes(bundle: Bundle) -> Iterator[str]:
    path = bundle.root / "configs" / _CONFIGS["inference"]  # whose network is that of training: see configs.py
    for n in _SIZES:
        try:
            with quiet():
                monai.bundle.verify_net_in_out(
                    "network_def", meta_file=str(bundle.root / METADATA), config_file=str(path), device="cpu", n=n
                )
        except Exception as error:
            yield (
                f"{path}: network_def with n={n} does not what {METADATA} says ({_told(error)}). Correct "
                "network_data_format or the network."
            )
            return


def _weights(bundle: Bundle) -> Iterator[str]:
    path = bundle.root / WEIGHTS
    parser = bundle.parser("inference.json", device="$torch.device('cpu')")
    network = parser.get_parsed_content("network_def")
    try:
        network.load_state_dict(read_weights(path), strict=True)
    except Exception as error:
        yield f"{path}: does not fit network_def ({_told(error)}). Train again, or take the config it was trained with."
        return
    yield from _export(bundle, network.eval())


def _export(bundle: Bundle, network: torch.nn.Module) -> Iterator[str]:
    image = bundle.metadata["network_data_format"]["inputs"]["image"]
    smallest = _get_fake_spatial_shape(image["spatial_shape"], p=1, n=1, any=9)
    x = torch.rand(1, image["num_channels"], *(side + axis for axis, side in enumerate(smallest)))  # no two alike
    path = bundle.root / "configs" / "inference.json"
    with tempfile.TemporaryDirectory() as folder, quiet(), torch.no_grad():
        exported = Path(folder) / "model.ts"
        try:
            monai.bundle.ckpt_export(
                "network_def", filepath=str(exported), ckpt_file=str(bundle.root / WEIGHTS),
                meta_file=str(bundle.root / METADATA), config_file=str(path),
            )  # fmt: skip
            y = torch.jit.load(exported)(x)
        except Exception as error:
            yield f"{path}: ckpt_export fails ({_told(error)}). Give the network a form that TorchScript compiles."
            return
        expected = network(x)
        difference = float((y - expected).norm() / expected.norm())
    if not difference < _TOLERANCE:
        yield f"{path}: what ckpt_export writes differs from the network by {difference:.1g}; legal is {_TOLERANCE:g}."


def _told(error: Exception) -> str:
    """The cause of an error, in one line."""
    return " ".join(find_cause(error).text.split())
