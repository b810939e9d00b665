"""Poses of a patient by name: turns and orders of the voxels, turned headers, a mirror; and sizes of the anatomy."""

from __future__ import annotations

import itertools
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.transform import Rotation

from equivariant_nets.rotations import PLANES, lattice_rotations, plane_rotation, random_rotation

__all__ = ["SETS", "UPRIGHT", "Pose", "named_poses"]

SETS = {
    "quick": "axial:45,random:2",
    "standard": "planes:45+90,random:8,header:30",
    "all": "lattice,planes:30+45+60,cone,random:8,orders,header:30",
}
CONE_HALF_ANGLE_DEGREES = 60.0
CONE_REFINEMENTS = 2
SIZES = (0.1, 10.0)
TURNS = ("upright", "lattice", "plane", "cone", "random")  # kinds that turn the patient


@dataclass(frozen=True, eq=False)
class Pose:
    """How a case is written as a file.

    Args:
        name: stands in tables, and names the folder.
        kind: ``upright``, ``lattice``, ``plane``, ``cone`` or ``random``: the voxels are turned and the header is kept,
            so that the patient lies otherwise; ``order``: the voxels are stored in another order, and the header says
            so; ``header``: the voxels stay, and the header says that the patient lies otherwise; ``mirrored``: the
            voxels change sides and the header is kept, so that left lies where right was.
        matrix: the rotation (3, 3) of the body, in its right-anterior-superior axes, or the mirror; None draws one for
            each case.
        seed: two whole numbers from 0 that a random rotation is drawn by, with the name of the case.
        size: of the anatomy over its own. The header keeps its spacing, so that the anatomy changes in voxels and mm.
    """

    name: str
    kind: str
    matrix: np.ndarray | None
    seed: tuple[int, int] = (0, 0)
    size: float = 1.0

    def rotation(self, case: str) -> np.ndarray:
        """The rotation (3, 3) of a case, or the mirror. It depends on no other case, and not on how many there are."""
        if self.matrix is not None:
            return self.matrix
        return random_rotation(np.random.RandomState([*self.seed, zlib.crc32(case.encode())]))

    def angle_degrees(self, case: str) -> float:
        """The angle of the rotation of a case, from 0 to 180; 0 of a mirror."""
        if self.kind == MIRRORED.kind:
            return 0.0
        return round(float(np.rad2deg(Rotation.from_matrix(self.rotation(case)).magnitude())), 1)

    @property
    def folder(self) -> str:
        """The name as that of a folder."""
        return self.name.replace(" ", "_")

    @property
    def group(self) -> str:
        """The kind and the size, which stand in a row of the table together."""
        if self.size == 1:
            return self.kind
        return f"{'' if self.kind == UPRIGHT.kind else f'{self.kind} at '}size {self.size:g}"


UPRIGHT = Pose("upright", "upright", np.eye(3))
MIRRORED = Pose("mirrored", "mirrored", np.diag([-1.0, 1.0, 1.0]))


def named_poses(text: str, seed: int = 0) -> list[Pose]:
    """The poses of a list such as ``planes:45+90,random:8``, upright first.

    Args:
        text: names of sets (``quick``, ``standard``, ``all``) and of poses, with commas between them:

            - ``upright``: as it is; it is always among the poses.
            - ``lattice``: the 23 other turns of the lattice onto itself, exact for isotropic voxels.
            - ``axial:45``, ``coronal:30+60``, ``sagittal:90``: degrees in a plane; ``planes:45``: in all three.
            - ``cone``: the published protocol, below.
            - ``random:8``: so many rotations of each case, drawn uniformly from SO(3).
            - ``orders``: the 23 other orders of the voxels of the same handedness, under a header that tells them.
            - ``header:30``: the header turned by an angle about the diagonal of the body axes.
            - ``mirrored``: left and right exchanged. Labels keep their values, so it is for structures without sides.
            - ``size:0.7+1.25``: the anatomy at a part or a multiple of its size.
            - ``axial:45@0.7``, ``random:8@0.7``, ...: turned, and at that size.
        seed: of the random rotations, from 0.

    The cone is that of "A Bispectral 3D U-Net for Rotation Robustness in Medical Segmentation" (TGI3 2024): the corners
    of an octahedron that was refined twice, as far as they lie within 60 degrees of the superior axis, which are 13;
    each is where the z-y-z Euler angles (azimuth, polar angle, 0) carry that axis.

    Raises:
        ValueError: a name is unknown, or an angle or a number does not fit it.

    Example:
        >>> from equivariant_nets.evaluation.on_files.poses import named_poses
        >>> [pose.name for pose in named_poses("axial:45+90,random:1")]
        ['upright', 'axial 45', 'axial 90', 'random 1']
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    parts = [part for name in parts for part in SETS.get(name, name).split(",")]
    chosen = {UPRIGHT.name: UPRIGHT}
    for part in parts:
        chosen |= {pose.name: pose for pose in _poses(part, text, seed)}
    return list(chosen.values())


def _poses(part: str, text: str, seed: int) -> Iterator[Pose]:
    turn, at, size = part.partition("@")
    if at:
        factor, *others = _sizes(size, text)
        if others:
            raise ValueError(f"--poses {text!r} holds {part!r}: behind a turn stands one size, as in axial:45@0.7.")
        for pose in _poses(turn, text, seed):
            if pose.kind not in TURNS or pose.size != 1:
                raise ValueError(f"--poses {text!r} holds {part!r}: {turn} takes no size. Turns do: axial:45@0.7.")
            yield _resized(pose, factor)
        return
    name, _, values = part.partition(":")
    numbers = _numbers(values)
    if name in ("planes", *PLANES) and numbers:
        for plane, angle in itertools.product(PLANES if name == "planes" else [name], numbers):
            yield Pose(f"{plane} {angle:g}", "plane", plane_rotation(plane, angle))
    elif name == "random" and len(numbers) == 1 and numbers[0] >= 1 and numbers[0].is_integer():
        for number in range(1, int(numbers[0]) + 1):
            yield Pose(f"random {number}", "random", None, (seed, number))
    elif name == "header" and len(numbers) == 1:
        axis = np.ones(3) / np.sqrt(3)
        yield Pose(f"header {numbers[0]:g}", "header", Rotation.from_rotvec(np.deg2rad(numbers[0]) * axis).as_matrix())
    elif name == "size" and values:
        for factor in _sizes(values, text):
            yield _resized(UPRIGHT, factor)
    elif part == UPRIGHT.name:
        yield UPRIGHT
    elif part == MIRRORED.name:
        yield MIRRORED
    elif part in ("lattice", "orders"):
        kind = part.removesuffix("s")
        for number, matrix in enumerate(lattice_rotations()[1:], 1):
            yield Pose(f"{kind} {number}", kind, matrix)
    elif part == "cone":
        yield from _cone()
    else:
        raise ValueError(
            f"--poses {text!r} holds {part!r}, which is no pose. Legal are the sets {', '.join(SETS)}, and upright, "
            "lattice, planes:45+90 or axial:45, coronal:45, sagittal:45 (degrees), cone, random:8 (how many), orders, "
            "header:30 (degrees), mirrored, size:0.7+1.25 (of the anatomy over its own) and a turn at a size, "
            "axial:45@0.7, with commas between them."
        )


def _numbers(text: str) -> list[float]:
    """The numbers between plus signs; none where one of them is no number."""
    parts = text.split("+")
    return [float(part) for part in parts] if all(re.fullmatch(r"-?\d+(\.\d+)?", part) for part in parts) else []


def _sizes(text: str, poses: str) -> list[float]:
    """The sizes between plus signs."""
    sizes = _numbers(text)
    if not sizes or min(sizes) < SIZES[0] or max(sizes) > SIZES[1]:
        raise ValueError(
            f"--poses {poses!r} holds the size {text!r}. Legal are numbers from {SIZES[0]:g} to {SIZES[1]:g}, the size "
            "of the anatomy over its own, with plus signs between them: size:0.7+1.25; behind a turn one: axial:45@0.7."
        )
    return sizes


def _resized(pose: Pose, size: float) -> Pose:
    if size == 1:
        return pose
    name = f"size {size:g}" if pose is UPRIGHT else f"{pose.name} at size {size:g}"
    return replace(pose, name=name, size=size)


def _cone() -> Iterator[Pose]:
    points = _refined_octahedron(CONE_REFINEMENTS)
    inside = points[points[:, 2] >= np.cos(np.deg2rad(CONE_HALF_ANGLE_DEGREES)) - 1e-9]
    polar = np.rad2deg(np.arccos(inside[:, 2].clip(-1, 1)))
    azimuth = np.rad2deg(np.arctan2(inside[:, 1], inside[:, 0])) % 360
    for down, around in sorted(zip(polar.round(6), azimuth.round(6), strict=True)):
        matrix = Rotation.from_euler("ZYZ", [around, down, 0], degrees=True).as_matrix()
        yield Pose(f"cone {down:.1f} at {around:.0f}", "cone", matrix)


def _refined_octahedron(refinements: int) -> np.ndarray:
    """Points (N, 3) on the unit sphere: each triangle of the octahedron becomes four, again and again."""
    triangles = np.array([np.diag(signs) for signs in itertools.product((1.0, -1.0), repeat=3)])
    for _ in range(refinements):
        a, b, c = triangles.swapaxes(0, 1)
        ab, bc, ca = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in (a + b, b + c, c + a))
        corners = [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)]
        triangles = np.concatenate([np.stack(three, 1) for three in corners])
    return np.unique(triangles.reshape(-1, 3).round(9) + 0.0, axis=0)
