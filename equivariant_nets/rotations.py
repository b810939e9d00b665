"""Rotation matrices, and the symmetries of the voxel lattice among them.

A matrix acts on coordinates ordered as the spatial axes of a tensor ``(B, C, D, H, W)``: the first coordinate runs
along D, the second along H, the third along W. It turns a volume f into f'(x) = f(R^-1 x), about the volume's centre.
"""

from __future__ import annotations

import functools
import itertools

import numpy as np

from equivariant_nets.types import Matrix, Rotation

__all__ = ["PLANES", "lattice_rotations", "lattice_symmetries", "plane_rotation", "plane_turn", "random_rotation"]

# The plane a rotation acts in, for volumes in RAS orientation (axes right, anterior, superior): its two axes.
PLANES = {"sagittal": (1, 2), "coronal": (0, 2), "axial": (0, 1)}


def lattice_symmetries(spatial_dims: int = 3) -> list[Matrix]:
    """All signed permutation matrices: the 48 symmetries of the cube in 3-D, the 8 of the square in 2-D."""
    matrices = []
    for permutation in itertools.permutations(range(spatial_dims)):
        for signs in itertools.product((1.0, -1.0), repeat=spatial_dims):
            matrix = np.zeros((spatial_dims, spatial_dims))
            matrix[np.arange(spatial_dims), permutation] = signs
            matrices.append(matrix)
    return matrices


@functools.cache
def lattice_rotations(spatial_dims: int = 3) -> tuple[Matrix, ...]:
    """The 24 rotations of the cube in 3-D, the 4 of the square in 2-D, the identity first."""
    rotations = [m for m in lattice_symmetries(spatial_dims) if np.linalg.det(m) > 0]
    return tuple(sorted(rotations, key=lambda m: -np.trace(m)))


def plane_rotation(plane: str | tuple[int, int], degrees: float) -> Rotation:
    """The rotation by an angle in the plane of two axes, which turns the first axis towards the second.

    Args:
        plane: two axis numbers, or ``axial``, ``coronal`` or ``sagittal`` for a volume in RAS orientation.
        degrees: the angle. Multiples of 90 give exact signed permutation matrices.
    """
    if isinstance(plane, str):
        if plane not in PLANES:
            raise ValueError(
                f"plane={plane!r} is not one of {sorted(PLANES)}; or give two axis numbers such as (0, 1)."
            )
        plane = PLANES[plane]
    first, second = plane
    if first == second or not {first, second} <= {0, 1, 2}:
        raise ValueError(f"plane={plane!r} is not legal; give two different axes among 0, 1 and 2, such as (0, 1).")
    matrix = np.eye(3)
    matrix[np.ix_([first, second], [first, second])] = plane_turn(degrees)
    return matrix


def plane_turn(degrees: float) -> Matrix:
    """The 2x2 rotation by an angle, which turns the first axis of an image towards the second. Multiples of 90 degrees
    give exact signed permutation matrices."""
    radians = np.deg2rad(degrees)
    cos, sin = np.cos(radians), np.sin(radians)
    if degrees % 90 == 0:
        cos, sin = np.round(cos), np.round(sin)
    return np.array([[cos, -sin], [sin, cos]])


def random_rotation(random_state: np.random.RandomState) -> Rotation:
    """A rotation drawn uniformly (Haar measure) from SO(3): a uniform unit quaternion, as a matrix."""
    w, x, y, z = (lambda q: q / np.linalg.norm(q))(random_state.normal(size=4))
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
