"""Rules of ``configs/metadata.json``: what the Model Zoo asks for, and versions that are those of the software."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import monai.bundle
from monai.utils import optional_import

import equivariant_nets
from equivariant_nets.zoo.bundle import METADATA, PACKAGE, Bundle, quiet

__all__ = ["check_schema", "metadata_findings"]

_TEXTS = (
    "schema", "version", "monai_version", "pytorch_version", "numpy_version", "name", "task", "description", "authors",
    "copyright", "data_source", "data_type", "intended_use",
)  # fmt: skip
_TENSORS = {"inputs": "image", "outputs": "pred"}
_VERSION = r"\d+\.\d+\.\d+"
_REQUIREMENTS = Path(equivariant_nets.__file__).parents[1] / "requirements.txt"  # of a checkout
_DISTRIBUTION = "equivariant-nets"


def metadata_findings(bundle: Bundle) -> Iterator[str]:
    """What is wrong with the metadata of a bundle."""
    meta = bundle.metadata
    for finding in (*_fields(meta), *_names(bundle), *_versions(bundle), *_tensors(meta.get("network_data_format"))):
        yield f"{bundle.root / METADATA}: {finding}"


def check_schema(bundle: Bundle, schema: str | Path) -> str | None:
    """Validate the metadata of a bundle against a file of JSON schema, by MONAI's ``verify_metadata``.

    Args:
        bundle: of the metadata.
        schema: the file; the address in the metadata is not asked for.

    Returns:
        the finding, or None.

    Raises:
        ValueError: jsonschema is not installed, or the file is no schema.
    """
    if not optional_import("jsonschema")[1]:
        raise ValueError("A schema is validated by jsonschema, which is not installed: pip install jsonschema")
    if not Path(schema).is_file():
        raise ValueError(f"The schema {schema} is no file. Download it from the address in {METADATA}, key schema.")
    try:
        with quiet():
            monai.bundle.verify_metadata(meta_file=str(bundle.root / METADATA), filepath=str(schema))
    except Exception as error:
        cause = error.__cause__
        if cause is None or not hasattr(cause, "json_path"):
            text = " ".join(str(error).split())
            raise ValueError(f"The schema {schema} cannot be used ({type(error).__name__}: {text}).") from None
        return f"{bundle.root / METADATA}: {cause.json_path}: {getattr(cause, 'message', cause)}, says {schema}."
    return None


def _fields(meta: dict[str, Any]) -> Iterator[str]:
    for key in _TEXTS:
        if not isinstance(meta.get(key), str) or not meta[key].strip():
            yield f"{key} is {meta.get(key)!r}; legal is a text. Write it."
    if "optional_packages_version" in meta:
        yield "optional_packages_version is the old name, which is refused. Call it required_packages_version."
    if not re.search(r"/meta_schema_\d{8}\.json$", str(meta.get("schema"))):
        yield f"schema is {meta.get('schema')!r}; legal is the address of meta_schema_DATE.json. Take another bundle's."


def _names(bundle: Bundle) -> Iterator[str]:
    if not re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)+", bundle.name):
        yield f"the folder is called {bundle.name!r}; legal are words of a-z and 0-9, joined by _. Rename the folder."
    if bundle.metadata.get("name") != bundle.name:
        yield f"name is {bundle.metadata.get('name')!r}; legal is that of the folder, {bundle.name!r}."


def _versions(bundle: Bundle) -> Iterator[str]:
    meta = bundle.metadata
    version, changelog, required = (meta.get(key) for key in ("version", "changelog", "required_packages_version"))
    if not re.fullmatch(_VERSION, str(version)):
        yield f"version is {version!r}; legal is MAJOR.MINOR.PATCH, such as '0.1.0'."
    if not isinstance(changelog, dict) or not changelog.get(str(version)):
        yield f"changelog has no entry {version!r}, the version. Say there what this version changed."
    if not isinstance(required, dict) or not all(isinstance(text, str) for text in required.values()):
        yield f"required_packages_version is {required!r}; legal is an object of versions by package."
        return
    yield from _own_version(bundle, required)
    named = {"monai": "monai_version", "torch": "pytorch_version", "numpy": "numpy_version"}
    pins, needed = _pins(), _needed()
    for package, got in {**required, **{package: meta.get(key) for package, key in named.items()}}.items():
        if pins.get(package, got) != got:
            yield (
                f"{named.get(package, package)} is {got!r}; legal is {pins[package]!r}, which {_REQUIREMENTS.name} "
                "pins. Change one of them."
            )
    for package in sorted(needed - required.keys() - named.keys()):
        yield f"required_packages_version has no {package}, which {PACKAGE} needs. Add it with its version."


def _own_version(bundle: Bundle, required: dict[str, str]) -> Iterator[str]:
    version, listed = bundle.metadata.get("version"), required.get(PACKAGE)
    if bundle.vendored is None:
        if listed != version:
            yield f"required_packages_version has {PACKAGE} {listed!r}; legal is {version!r}, the bundle's version."
        own: str | None = equivariant_nets.__version__
        where = f"the package {PACKAGE}"
    else:
        if listed is not None:
            yield f"required_packages_version has {PACKAGE}, which lies in the bundle. Leave it out."
        source = bundle.vendored / "__init__.py"
        text = source.read_text(encoding="utf-8") if source.is_file() else ""
        found = re.search(r'^__version__ = "(.+)"', text, re.MULTILINE)
        own, where = found[1] if found else None, str(bundle.vendored)
    if version != own:
        yield f"version is {version!r}; legal is {own!r}, that of {where}. Change one of them."


def _pins() -> dict[str, str]:
    """Versions that a checkout pins, by package; none where the package was installed otherwise."""
    text = _REQUIREMENTS.read_text(encoding="utf-8") if _REQUIREMENTS.is_file() else ""
    return dict(re.findall(r"^([\w-]+)==([\w.]+)", text, re.MULTILINE))


def _needed() -> set[str]:
    """What the installed package and its extra ``bundles`` depend on; nothing where it lies in a bundle alone."""
    try:
        requirements = importlib.metadata.requires(_DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return set()
    own = [text for text in requirements if "extra ==" not in text or re.search(r"extra == .bundles\b", text)]
    return {match[0] for text in own if (match := re.match(r"[\w-]+", text))}


def _tensors(formats: Any) -> Iterator[str]:
    for group, key in _TENSORS.items():
        tensor = formats.get(group, {}).get(key) if isinstance(formats, dict) else None
        name = f"network_data_format.{group}.{key}"
        if not isinstance(tensor, dict):
            yield f"{name} is {tensor!r}; legal is an object that describes the tensor."
            continue
        for finding in _tensor(tensor):
            yield f"{name}.{finding}"


def _tensor(tensor: dict[str, Any]) -> Iterator[str]:
    for key in ("type", "format", "dtype"):
        if not isinstance(tensor.get(key), str) or not tensor[key]:
            yield f"{key} is {tensor.get(key)!r}; legal is a text."
    shape, limits = tensor.get("spatial_shape"), tensor.get("value_range")
    if not isinstance(shape, list) or len(shape) not in (2, 3) or not all(isinstance(n, int | str) for n in shape):
        yield f"spatial_shape is {shape!r}; legal is a list of 2 or 3 whole numbers, '*', or formulas of n and p."
    if not isinstance(limits, list) or len(limits) != 2 or not all(isinstance(value, int | float) for value in limits):
        yield f"value_range is {limits!r}; legal is a list of two numbers, lowest and highest."
    channels, names = tensor.get("num_channels"), tensor.get("channel_def")
    if not isinstance(channels, int) or channels < 1:
        yield f"num_channels is {channels!r}; legal is a whole number from 1."
    elif not isinstance(names, dict) or list(names) != [str(channel) for channel in range(channels)]:
        yield f"channel_def is {names!r}; legal is a name for each of '0' to '{channels - 1}', in order."
