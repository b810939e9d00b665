"""Where the slices of a DICOM series lie, and why some series are no volume."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

__all__ = ["TAGS", "Slice", "slices_of", "why_not_regular", "why_several_volumes"]

# What tells apart images of one place: the time, the echo, the weighting, or how the image was computed.
_TELLING = (
    "EchoTime", "EchoNumbers", "InversionTime", "TemporalPositionIdentifier", "TriggerTime", "AcquisitionNumber",
    "DiffusionBValue", "ImageType",
)  # fmt: skip
_OF_FRAMES = ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence")
TAGS = ("ImagePositionPatient", "ImageOrientationPatient", *_TELLING, *_OF_FRAMES)
SAME_ORIENTATION = 1e-3  # of direction cosines, which scanners round
SAME_STEP = 0.05  # of the distance of slices, likewise
_SAME_PLACE_MM = 1e-3
_GAP = 1.5  # times the usual step
_TILT_DEGREES = 0.1


class Slice(NamedTuple):
    """One slice: a file, or a frame of one."""

    name: str
    position_mm: np.ndarray  # (3,), left, back and up, of the middle of the first pixel
    orientation: np.ndarray  # (6,), direction cosines of rows and columns
    telling: tuple[str, ...]  # what differs between images of one place


def slices_of(name: str, header: Any) -> list[Slice] | None:
    """The slices of a file; None where it does not say where one lies.

    Args:
        name: of the file.
        header: a dataset of pydicom.
    """
    if "PerFrameFunctionalGroupsSequence" in header:
        shared = header.get("SharedFunctionalGroupsSequence") or [{}]
        frames = [[frame, shared[0]] for frame in header.PerFrameFunctionalGroupsSequence]
        names = [f"frame {number} of {name}" for number in range(1, len(frames) + 1)]
        places = [
            (_in_groups(groups, "PlanePositionSequence"), _in_groups(groups, "PlaneOrientationSequence"))
            for groups in frames
        ]
    else:
        names, places = [name], [(header, header)]
    slices = []
    for part, (position, orientation) in zip(names, places, strict=True):
        origin, cosines = position.get("ImagePositionPatient"), orientation.get("ImageOrientationPatient")
        if not origin or not cosines:
            return None
        telling = tuple(str(header.get(keyword, "")) for keyword in _TELLING) if len(names) == 1 else ()
        slices.append(Slice(part, np.array(origin, dtype=float), np.array(cosines, dtype=float), telling))
    return slices


def _in_groups(groups: Sequence[Any], name: str) -> Any:
    found = next((group.get(name) for group in groups if group.get(name)), None)
    return found[0] if found else {}


def why_several_volumes(slices: Sequence[Slice]) -> str:
    """Why slices of one orientation are several volumes; empty where they are not."""
    places = _by_place(slices)
    counts = {len(place) for place in places}
    if counts == {1}:
        return ""
    for number, keyword in enumerate(_TELLING):
        if any(len({part.telling[number] for part in place if part.telling}) > 1 for place in places):
            return f"it is several volumes, which differ in {keyword}"
    if len(counts) == 1 and not any(part.telling for part in slices):
        return f"it is {counts.pop()} volumes in one file"
    return ""


def why_not_regular(slices: Sequence[Slice]) -> str:
    """What is wrong with slices that are one volume, but at no even distances; empty where nothing is known."""
    places = _by_place(slices)
    if doubled := [place for place in places if len(place) > 1]:
        names = " and ".join(part.name for part in doubled[0])
        return (
            f"{len(doubled)} places have more than one slice, the first of them {names}. Remove those that are copies, "
            "or of another image"
        )
    distances = [_distance(place[0]) for place in places]
    steps = np.diff(distances)
    usual = float(np.median(steps))
    if gaps := np.flatnonzero(steps > _GAP * usual).tolist():
        missing = round(sum(float(steps[gap]) / usual - 1 for gap in gaps))
        before, after = places[gaps[0]][0], places[gaps[0] + 1][0]
        return (
            f"about {missing} slices are missing: {before.name} and {after.name} lie {steps[gaps[0]]:.4g} mm apart, "
            f"others {usual:.4g} mm. Export or copy the series again, complete"
        )
    if np.ptp(steps) > SAME_STEP * usual:
        return f"its slices lie {steps.min():.4g} to {steps.max():.4g} mm apart; legal is one distance"
    first = places[0][0].position_mm
    straight = (places[-1][0].position_mm - first) / np.linalg.norm(places[-1][0].position_mm - first)
    degrees = float(np.degrees(np.arccos(min(1.0, abs(straight @ _normal(places[0][0]))))))
    if degrees > _TILT_DEGREES:
        return (
            f"its slices are stacked {degrees:.3g} degrees off straight, as of a tilted gantry. Resample it, "
            "by dcm2niix for example, and give that"
        )
    return ""


def _distance(part: Slice) -> float:
    return float(part.position_mm @ _normal(part))


def _normal(part: Slice) -> np.ndarray:
    return np.cross(*part.orientation.reshape(2, 3))


def _by_place(slices: Sequence[Slice]) -> list[list[Slice]]:
    """Slices of one orientation, in the order of their places."""
    places: list[list[Slice]] = []
    for part in sorted(slices, key=_distance):
        if places and _distance(part) - _distance(places[-1][0]) < _SAME_PLACE_MM:
            places[-1].append(part)
        else:
            places.append([part])
    return places
