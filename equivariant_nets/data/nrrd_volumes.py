"""Reading volumes in the format NRRD, whichever way its axes of the patient run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from monai.config import PathLike
from monai.data.image_reader import NrrdImage, NrrdReader
from monai.utils import ensure_tuple

from equivariant_nets.data.notices import FileFault

__all__ = ["NrrdVolumeReader"]

_LPS = "left-posterior-superior"
# By the spaces of the format that name sides of the patient, what turns their axes to the left, back and up.
_TO_LPS = {
    _LPS: (1, 1, 1), "LPS": (1, 1, 1),
    "right-anterior-superior": (-1, -1, 1), "RAS": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1), "LAS": (1, -1, 1),
}  # fmt: skip
_DIRECTIONS, _ORIGIN = "space directions", "space origin"


class NrrdVolumeReader(NrrdReader):
    """MONAI's reader of NRRD, which knows one of the spaces that a file may be in, for all that name the patient's
    sides.

    Raises:
        FileFault: on call, a file has other axes than three of space, or does not say how they lie in the patient.
    """

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> Any:
        """The opened images, one or a list of them, in the space left-posterior-superior."""
        images = [NrrdImage(image.array, _in_lps(image.header)) for image in ensure_tuple(super().read(data, **kwargs))]
        return images if len(images) > 1 else images[0]


def _in_lps(header: dict[str, Any]) -> dict[str, Any]:
    if header["dimension"] != 3:
        raise FileFault(
            f"it has {header['dimension']} axes of the kinds {', '.join(header.get('kinds', ['?']))}; legal are three "
            "of space. Save one volume of it as a file."
        )
    missing = [field for field in ("space", _DIRECTIONS, _ORIGIN) if field not in header]
    if missing or header["space"] not in _TO_LPS:
        got = f"no field {missing[0]!r}" if missing else f"the space {header['space']!r}"
        raise FileFault(
            f"its header has {got}, and so does not say how its patient lies; legal are {_DIRECTIONS!r}, {_ORIGIN!r} "
            f"and one of the spaces {', '.join(_TO_LPS)}. Convert it anew from its source."
        )
    signs = np.array(_TO_LPS[header["space"]], dtype=float)
    return {
        **header,
        "space": _LPS,
        _DIRECTIONS: np.asarray(header[_DIRECTIONS]) * signs,
        _ORIGIN: np.asarray(header[_ORIGIN]) * signs,
    }
