"""Finite groups of rotations and reflections of the plane and of space, computed from their matrices."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

import numpy as np

from equivariant_nets.networks.checks import check_spatial_dims
from equivariant_nets.rotations import lattice_symmetries, plane_turn

__all__ = ["Group", "find_group"]

TOLERANCE = 1e-9


@dataclass(frozen=True, eq=False)
class Group:
    """A finite group of orthogonal matrices, the identity first. Groups of one name and the same matrices are equal.

    Attributes:
        name: such as ``D8``.
        matrices: ``(order, d, d)``, acting on coordinates in the order of the d spatial axes.
        composition: ``(order, order)``; the element a after b is ``composition[a, b]``.
        inverse: ``(order,)``, of each element.
    """

    name: str
    matrices: np.ndarray
    composition: np.ndarray
    inverse: np.ndarray

    @property
    def order(self) -> int:
        """Number of elements."""
        return len(self.matrices)

    @property
    def spatial_dims(self) -> int:
        return self.matrices.shape[1]

    @property
    def relative(self) -> np.ndarray:
        """g^-1 h for each g and h, ``(order, order)``."""
        return self.composition[self.inverse]

    @property
    def is_lattice_group(self) -> bool:
        """Whether every element takes the voxel lattice, of equal spacing, to itself."""
        return bool(np.isin(self.matrices, (-1, 0, 1)).all())

    @property
    def lattice_subgroup(self) -> np.ndarray:
        """The elements that take the voxel lattice to itself, as indices."""
        return np.flatnonzero(np.isin(self.matrices, (-1, 0, 1)).all((1, 2)))

    def keeps(self, spacing: tuple[float, ...]) -> bool:
        """Whether no element takes an axis to one of another spacing."""
        steps = np.array(spacing)
        mixed = np.abs(self.matrices).max(0) > TOLERANCE
        return bool(np.isclose(steps[:, None], steps, rtol=1e-6)[mixed].all())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Group):
            return NotImplemented
        return self is other or (self.name == other.name and np.array_equal(self.matrices, other.matrices))

    def __hash__(self) -> int:
        return hash((self.name, self.matrices.shape))

    def __repr__(self) -> str:
        return f"Group({self.name}, order {self.order})"


@functools.cache
def find_group(name: str, spatial_dims: int) -> Group:
    """The group of a name.

    Args:
        name: in 2-D, ``C1``, ``C2``, ... (n rotations) or ``D1``, ``D2``, ... (n rotations and n reflections); in 3-D,
            ``V4`` (the half turns about the axes), ``T`` (12 rotations of the tetrahedron), ``O`` (24 of the cube) or
            ``O_h`` (those and the reflections, 48); in both, ``trivial``.
        spatial_dims: 2 or 3.

    Raises:
        ValueError: there is no such group in this dimension.
    """
    check_spatial_dims(spatial_dims)
    matrices = _matrices(name, spatial_dims)
    products = np.einsum("aij,bjk->abik", matrices, matrices)
    equal = np.abs(products[:, :, None] - matrices).max((-1, -2)) < 1e-6
    composition = equal.argmax(-1)
    return Group(name, matrices, composition, (composition == 0).argmax(1))


def _matrices(name: str, spatial_dims: int) -> np.ndarray:
    if name == "trivial":
        return np.eye(spatial_dims)[None]
    if spatial_dims == 2 and (match := re.fullmatch(r"([CD])([1-9]\d*)", name)):
        order = int(match[2])
        turns = np.stack([plane_turn(360 * k / order) for k in range(order)])
        return turns if match[1] == "C" else np.concatenate([turns, turns @ np.diag([1.0, -1.0])])
    symmetries = sorted(lattice_symmetries(3), key=lambda m: (-np.linalg.det(m), -np.trace(m)))
    # The rotations of the tetrahedron permute the axes evenly: the permutation without its signs is a rotation too.
    chosen = {
        "V4": [m for m in symmetries if np.linalg.det(m) > 0 and (np.abs(m) == np.eye(3)).all()],
        "T": [m for m in symmetries if np.linalg.det(m) > 0 and np.linalg.det(np.abs(m)) > 0],
        "O": [m for m in symmetries if np.linalg.det(m) > 0],
        "O_h": symmetries,
    }
    if spatial_dims == 2 or name not in chosen:
        legal = "C1, C2, ..., D1, D2, ..." if spatial_dims == 2 else ", ".join(chosen)
        raise ValueError(f"group={name!r} is not known in {spatial_dims}-D; choose from trivial, {legal}.")
    return np.stack(chosen[name])
