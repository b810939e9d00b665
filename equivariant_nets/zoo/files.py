"""Rules of a bundle's files: which it needs, which go into its archive, and how large they may be."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

from monai.bundle import ConfigParser
from monai.utils import OptionalImportError

from equivariant_nets.zoo.bundle import CARD, DATA_LICENSE, METADATA, WEIGHTS, Bundle

__all__ = ["ARCHIVED", "REQUIRED", "file_findings", "large_files", "missing_weights"]

LARGE_FILES = ("large_files.yml", "large_files.yaml", "large_files.json")  # MONAI takes any of them
REQUIRED = (
    "LICENSE",
    METADATA,
    *(f"configs/{name}.json" for name in ("train", "inference", "evaluate", "multi_gpu_train", "multi_gpu_inference")),
    "configs/logging.conf",
    CARD,
    DATA_LICENSE,
)
# Patterns of what an archive takes of a bundle: nothing else goes in.
ARCHIVED = (*REQUIRED, "configs/evaluate_*.json", "configs/multi_gpu_*.json", "docs/*.png", WEIGHTS, *LARGE_FILES)
_MAX_BYTES = 25 * 10**6
_HASHES = {"md5": 32, "sha1": 40, "sha256": 64, "sha512": 128}  # hexadecimal digits


def file_findings(bundle: Bundle) -> Iterator[str]:
    """What is wrong with the files of a bundle, apart from what they hold."""
    for file in REQUIRED:
        if not (bundle.root / file).is_file():
            yield f"{bundle.root / file}: missing; a bundle needs it. Take it from another bundle, and adapt it."
        elif not (bundle.root / file).stat().st_size:
            yield f"{bundle.root / file}: empty; a bundle needs its content. Take it from another bundle, and adapt it."
    archived = archived_files(bundle)
    for file in archived:
        target = (bundle.root / file).resolve()
        if not target.is_relative_to(bundle.root.resolve()):
            yield (
                f"{bundle.root / file}: leads out of the bundle, to {target}, which an archive would hold. Put a copy "
                "in its place."
            )
    for file in sorted(path.relative_to(bundle.root).as_posix() for path in (bundle.root / "configs").iterdir()):
        if file not in archived:
            yield (
                f"{bundle.root / file}: no archive takes this file; legal in configs are "
                f"{', '.join(pattern for pattern in ARCHIVED if pattern.startswith('configs/'))}. Remove it."
            )
    listed: list[dict[str, str]] = []
    try:
        listed = large_files(bundle)
    except ValueError as error:
        yield str(error)
    yield from _large_file_findings(bundle, listed)
    large = {entry.get("path") for entry in listed}
    for file in archived:
        size = (bundle.root / file).stat().st_size
        if size > _MAX_BYTES and file not in large:
            yield (
                f"{bundle.root / file}: {size / 10**6:.1f} MB; legal are {_MAX_BYTES // 10**6} MB. Put it where it can "
                "be downloaded, and into large_files.yml with path, url, hash_val and hash_type."
            )


def archived_files(bundle: Bundle) -> list[str]:
    """The files of a bundle that are its own part of an archive, as sorted paths below its folder with ``/``."""
    found = {path for pattern in ARCHIVED for path in bundle.root.glob(pattern) if path.is_file()}
    return sorted(path.relative_to(bundle.root).as_posix() for path in found)


def missing_weights(bundle: Bundle) -> str | None:
    """What to say of a bundle that neither has weights nor says where they can be downloaded, or None."""
    try:
        listed = any(entry.get("path") == WEIGHTS for entry in large_files(bundle))
    except ValueError:
        listed = True  # a finding of its own
    if listed or (bundle.root / WEIGHTS).is_file():
        return None
    root = shlex.quote(str(bundle.root))
    return (
        f"{bundle.root}: ships without weights. Train it: python -m monai.bundle run --bundle_root {root} "
        f"--config_file {root}/configs/train.json --ckpt_dir {root}/models --dataset_dir DATA"
    )


def large_files(bundle: Bundle) -> list[dict[str, str]]:
    """Entries of the list of files that ``monai.bundle download_large_files`` fetches; empty without such a list.

    Raises:
        ValueError: the list cannot be read, or is none.
    """
    for path in (bundle.root / name for name in LARGE_FILES):
        if not path.is_file():
            continue
        try:
            entries = ConfigParser.load_config_file(path).get("large_files")
        except OptionalImportError:
            raise ValueError(f"{path}: PyYAML reads it, and is not installed: pip install pyyaml") from None
        except Exception as error:  # of the parsers of YAML and JSON
            raise ValueError(f"{path}: cannot be read ({' '.join(str(error).split())}). Correct it.") from None
        if not isinstance(entries, list) or not all(_is_texts(entry) for entry in entries):
            raise ValueError(f"{path}: large_files is {entries!r}; legal is a list of objects of texts. Correct it.")
        return entries
    return []


def _is_texts(entry: Any) -> bool:
    return isinstance(entry, dict) and all(isinstance(value, str) for value in entry.values())


def _large_file_findings(bundle: Bundle, entries: list[dict[str, str]]) -> Iterator[str]:
    for entry in entries:
        name = f"{bundle.root}: the large file {entry.get('path')!r}"
        if missing := [key for key in ("path", "url", "hash_val", "hash_type") if not entry.get(key)]:
            yield f"{name} has no {' and no '.join(missing)}; a download that can be trusted needs them. Add them."
            continue
        digits = _HASHES.get(entry["hash_type"])
        if digits is None:
            yield f"{name} has hash_type {entry['hash_type']!r}; legal are {', '.join(_HASHES)}."
        elif not re.fullmatch(f"[0-9a-f]{{{digits}}}", entry["hash_val"]):
            yield f"{name} has hash_val {entry['hash_val']!r}; legal are {digits} digits of {entry['hash_type']}."
