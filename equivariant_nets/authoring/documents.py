"""The texts of a new bundle: its JSON, as a person reads it, its metadata, its card and its notes on licences."""

from __future__ import annotations

import importlib.metadata
import json
import re
from pathlib import Path
from typing import Any

import numpy as np

import equivariant_nets
from equivariant_nets.webpage import templates

__all__ = ["card_text", "data_license_text", "metadata_of", "readable_json"]

_WIDTH = 120
_SCHEMA = "https://project-monai.github.io/schema/meta_schema_20240725.json"
_REQUIREMENTS = Path(equivariant_nets.__file__).parents[1] / "requirements.txt"  # of a checkout
_TEMPLATES = templates(Path(__file__).parent, autoescape=False)


def readable_json(value: Any, indent: int = 0, room: int = 0) -> str:
    """JSON in which what fits into a line stands in one.

    >>> print(readable_json({"size": [1, 2]}))
    {
        "size": [1, 2]
    }
    """
    line = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict | list) or not value or (indent and len(line) <= room):
        return line
    pad = " " * (indent + 4)
    if isinstance(value, dict):
        keys = [f"{json.dumps(key, ensure_ascii=False)}: " for key in value]
    else:
        keys = [""] * len(value)
    nodes = value.values() if isinstance(value, dict) else value
    rows = [
        pad + key + readable_json(node, indent + 4, _WIDTH - len(pad) - len(key) - 1)
        for key, node in zip(keys, nodes, strict=True)
    ]
    start, end = "{}" if isinstance(value, dict) else "[]"
    return f"{start}\n" + ",\n".join(rows) + f"\n{' ' * indent}{end}"


def metadata_of(name: str, authored: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """The content of ``configs/metadata.json``."""
    shared = authored["train_and_inference"]
    classes = ["background", *shared["class_names"]]
    step = 2 ** shared["network_def"]["depth"]
    shape = [f"n + {step}"] * len(shared["roi_size"])
    limit = 5 if "turned_files" in authored["extends"] else 10
    versions = _versions()
    what = ", ".join(shared["class_names"])
    tensor = {"type": "image", "spatial_shape": shape, "dtype": "float32", "is_patch_data": False}
    return {
        "schema": _SCHEMA,
        "version": equivariant_nets.__version__,
        "changelog": {equivariant_nets.__version__: "made by python -m equivariant_nets.zoo new"},
        "monai_version": versions.pop("monai"),
        "pytorch_version": versions.pop("torch"),
        "numpy_version": versions.pop("numpy"),
        "required_packages_version": {"equivariant_nets": equivariant_nets.__version__, **versions},
        "name": name,
        "task": f"Segmentation of {what}",
        "description": f"Segments {what}, by {found['reasons']['Network'].partition(';')[0]}",
        "authors": "the makers of this bundle",
        "copyright": "the makers of this bundle",
        "data_source": "data of one's own: say here where it is from before you share the bundle",
        "data_type": "nibabel" if len(shape) == 3 else "png, jpeg, tiff",
        "image_classes": ", ".join(found["channels"]),
        "label_classes": ", ".join(f"{number}: {one}" for number, one in enumerate(classes)),
        "pred_classes": f"{len(classes)} channels of logits, in the order of label_classes",
        "intended_use": "Research. Not a medical device, and not for diagnosis or treatment.",
        "network_data_format": {
            "inputs": {
                "image": {
                    **tensor,
                    "format": "magnitude",
                    "modality": "as in its training data",
                    "num_channels": len(found["channels"]),
                    "value_range": [-limit, limit],
                    "channel_def": dict(zip(map(str, range(99)), found["channels"], strict=False)),
                }
            },
            "outputs": {
                "pred": {
                    **tensor,
                    "format": "segmentation",
                    "num_channels": len(classes),
                    "value_range": [0, 1],
                    "channel_def": {str(number): one for number, one in enumerate(classes)},
                }
            },
        },
    }


def card_text(root: Path, authored: dict[str, Any], found: dict[str, Any], split: dict[str, Any]) -> str:
    """The text of ``docs/README.md``."""
    cases = found["cases"]
    sizes = np.median([case["size"] for case in cases], axis=0)
    spacings = [case["spacing_mm"] for case in cases]
    counts = {
        one: [sum(case["labels"].get(str(v), case["labels"].get(v, 0)) for v in values) for case in cases]
        for one, values in found["classes"].items()
    }
    return _TEMPLATES.get_template("card.md.jinja").render(
        name=root.name,
        path=root.as_posix() if not root.is_absolute() else root.name,
        class_names=authored["train_and_inference"]["class_names"],
        channels=found["channels"],
        contrasts=authored["train_and_inference"].get("contrasts", [""]),
        description=found["reasons"]["Network"],
        reasons={topic: reason for topic, reason in found["reasons"].items() if topic != "Network"},
        layout=found["layout"],
        counts={section: len(split[section]) for section in ("training", "validation", "test")},
        size=" x ".join(f"{side:g}" for side in sizes),
        spacing=_range(spacings) if spacings[0] else "",
        axes=sorted({case["axes"] for case in cases if case["axes"]}),
        classes=[
            (one, found["classes"][one], sum(count > 0 for count in voxels), int(np.median(voxels)))
            for one, voxels in counts.items()
        ],
        number=len(cases),
        is_volume=len(authored["train_and_inference"]["roi_size"]) == 3,
    )


def data_license_text(name: str) -> str:
    """The text of ``docs/data_license.txt``."""
    return (
        f"The data that {name} is trained on are not part of this bundle. Before you share weights, say here where the "
        "data are from, under which terms they are, and whether these allow to share what was learned from them.\n"
    )


def _versions() -> dict[str, str]:
    """Versions of what bundles need: those that a checkout pins, else those that are installed."""
    text = _REQUIREMENTS.read_text(encoding="utf-8") if _REQUIREMENTS.is_file() else ""
    pins = dict(re.findall(r"^([\w-]+)==([\w.]+)", text, re.MULTILINE))
    requirements = importlib.metadata.requires("equivariant-nets") or []
    own = [text for text in requirements if "extra ==" not in text or re.search(r"extra == .bundles\b", text)]
    names = sorted({match[0] for text in own if (match := re.match(r"[\w-]+", text))} | {"torch", "monai", "numpy"})
    return {name: pins.get(name) or importlib.metadata.version(name).partition("+")[0] for name in names}


def _range(spacings: list[Any]) -> str:
    low, high = np.min(spacings, axis=0), np.max(spacings, axis=0)
    return " x ".join(f"{a:.3g}" if a == b else f"{a:.3g} to {b:.3g}" for a, b in zip(low, high, strict=True))
