"""Which files are DICOM, and the packages that read them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from equivariant_nets.data.notices import FileFault

__all__ = ["check_packages", "is_dicom", "missing_packages"]

PACKAGES = ("pydicom", "highdicom")
_PREAMBLE = 128  # bytes before the mark of a DICOM file


def is_dicom(path: str | Path) -> bool:
    """Whether a file is DICOM, by its content: names and endings say nothing."""
    try:
        with Path(path).open("rb") as file:
            return file.read(_PREAMBLE + 4)[_PREAMBLE:] == b"DICM"
    except OSError:
        return False


def missing_packages() -> str:
    """What to do where a package that DICOM needs is not installed; empty where all are."""
    if any(find_spec(name) is None for name in PACKAGES):
        return f"DICOM needs packages that are not installed: pip install {' '.join(PACKAGES)}"
    return ""


def check_packages() -> None:
    """Check that DICOM can be read and written.

    Raises:
        FileFault: a package is missing.
    """
    if missing := missing_packages():
        raise FileFault(f"{missing}.")
