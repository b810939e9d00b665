"""Rotation augmentation as MONAI dictionary transforms: by a given matrix, or by a random one.

All of them turn channel-first volumes (C, D, H, W) about their centre, f'(x) = f(R^-1 x), with the convention of
:mod:`equivariant_nets.rotations`: R acts on voxel coordinates, ordered as the array axes. Resample volumes to isotropic
voxels first (``Spacingd``), else the turn is not rigid in the world; the affine of a MetaTensor stays right either way.
"""

from __future__ import annotations

from equivariant_nets import bundles_extra  # noqa: F401

# isort: split

from abc import abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import get_track_meta
from monai.transforms import (
    Affine,
    AffineGrid,
    Identityd,
    InvertibleTransform,
    MapTransform,
    RandomizableTransform,
    Resample,
    ResizeWithPadOrCropd,
)
from monai.utils import TraceKeys, convert_to_dst_type, convert_to_tensor

from equivariant_nets.rotations import lattice_rotations, plane_rotation, random_rotation
from equivariant_nets.types import Rotation, VolumeOfAnyType

__all__ = ["RandRotateAxisd", "RandRotateLatticed", "RandRotateUniformd", "RotateMatrixd", "rotation_augmentation"]

LABEL_MODES = ("nearest", "one_hot")
MODES = (0, 1, 2, 3, 4, 5, "bilinear", *LABEL_MODES)
PADDING_MODES = ("zeros", "border", "reflection")


def _checked_rotation(matrix: Any) -> Rotation:
    rotation = np.asarray(matrix, dtype=float)
    if rotation.shape != (3, 3) or not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-5):
        problem = "is not an orthogonal 3x3 matrix"
    elif np.linalg.det(rotation) < 0:
        problem = "is a reflection (determinant -1)"
    else:
        # Rounding errors must not cost a rotation of the lattice its exactness, nor grow its canvas.
        lattice = np.round(rotation)
        return lattice if np.allclose(rotation, lattice, atol=1e-6) else rotation
    raise ValueError(
        f"matrix={matrix!r} {problem}. A rotation has orthonormal rows and determinant +1: take one from "
        "equivariant_nets.rotations, or for a reflection use monai.transforms.Flipd."
    )


def _one_per_key(name: str, given: Any, legal: tuple, keys: tuple[Hashable, ...]) -> tuple:
    values = tuple(given) if isinstance(given, list | tuple) else (given,)
    if len(values) not in (1, len(keys)) or any(value not in legal for value in values):
        raise ValueError(
            f"{name}={given!r} does not fit the {len(keys)} keys {keys}. Give one for all keys, or one per key in "
            f"their order, out of {legal}."
        )
    return values * len(keys) if len(values) == 1 else values


def _turned_size(matrix: np.ndarray, size: Sequence[int]) -> tuple[int, ...]:
    """The smallest canvas (D, H, W) that holds the turned volume; the axes of a lattice rotation only trade places."""
    return tuple(int(n) for n in np.ceil(np.abs(matrix) @ np.array(size) - 1e-6))


def _centred_affine(matrix: np.ndarray) -> np.ndarray:
    """The map of output to input coordinates, both counted from the centre, that MONAI's Affine asks for."""
    affine = np.eye(4)
    affine[:3, :3] = matrix.T  # R^-1
    return affine


def _permute_and_flip(volume: torch.Tensor, signed_permutation: np.ndarray) -> torch.Tensor:
    axes = np.abs(signed_permutation).argmax(1)
    flipped = [1 + i for i in range(3) if signed_permutation[i, axes[i]] < 0]
    return volume.permute(0, *(1 + axes).tolist()).flip(flipped)


def _resample(
    volume: torch.Tensor, matrix: np.ndarray, size: Sequence[int], mode: str | int, padding_mode: str
) -> torch.Tensor:
    if padding_mode == "zeros" and isinstance(mode, int):
        # MONAI's choice for splines, "constant", is zero as soon as a coordinate passes the centre of a border voxel,
        # even by 1e-16, and so loses half of those voxels. This one fades over one voxel, as the torch modes do.
        padding_mode = "grid-constant"
    grid, _ = AffineGrid(affine=_centred_affine(matrix), device=volume.device, dtype=np.float64)(size)
    return Resample(mode=mode, padding_mode=padding_mode, dtype=np.float64)(volume, grid)


def _resample_one_hot(label: torch.Tensor, matrix: np.ndarray, size: Sequence[int], padding_mode: str) -> torch.Tensor:
    """The label with the highest linearly interpolated indicator. One label at a time, since there can be hundreds."""
    turned = label.new_zeros((len(label), *size))
    highest = total = torch.zeros(turned.shape, device=label.device)
    for value in label[label != 0].unique():
        score = _resample(label == value, matrix, size, "bilinear", padding_mode)
        turned = torch.where(score > highest, value, turned)
        highest, total = torch.maximum(highest, score), total + score
    # What is missing from the sum is background, inside the volume and beyond its border.
    return torch.where(1 - total >= highest, torch.zeros_like(turned), turned)


def _turn(
    volume: torch.Tensor, matrix: np.ndarray, size: Sequence[int], mode: str | int, padding_mode: str
) -> torch.Tensor:
    """The volume turned on a canvas of the given size: permuted and flipped where that does it, else interpolated."""
    if (matrix == np.round(matrix)).all() and _turned_size(matrix, volume.shape[1:]) == tuple(size):
        return _permute_and_flip(volume, matrix)
    if mode == "one_hot":
        return _resample_one_hot(volume, matrix, size, padding_mode).to(volume.dtype)
    return _resample(volume, matrix, size, mode, padding_mode).to(volume.dtype)


class _Rotated(MapTransform, InvertibleTransform):
    """Turns every key of an item by one matrix, keeps the affine of a MetaTensor right, and turns it back."""

    def __init__(
        self,
        keys: KeysCollection,
        mode: Sequence[str | int] | str | int,
        padding_mode: Sequence[str] | str,
        keep_size: bool,
        allow_missing_keys: bool,
        spatial_size: Sequence[int] | None = None,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.mode = _one_per_key("mode", mode, MODES, self.keys)
        self.padding_mode = _one_per_key("padding_mode", padding_mode, PADDING_MODES, self.keys)
        self.keep_size = keep_size
        self.spatial_size = None if spatial_size is None else tuple(int(n) for n in spatial_size)
        if self.spatial_size is not None and (len(self.spatial_size) != 3 or min(self.spatial_size) < 1):
            raise ValueError(
                f"spatial_size={spatial_size!r} is not the size (D, H, W) of a canvas: give three positive numbers of "
                "voxels, or None to let keep_size decide."
            )

    def _volume(self, key: Hashable, item: Any, mode: str | int) -> VolumeOfAnyType:
        """The item as a tensor, of a dtype that depends on the mode only, so that prob does not mix dtypes."""
        volume = convert_to_tensor(item, track_meta=get_track_meta())
        where = f"{type(self).__name__}, key {key!r}"
        if filename := getattr(volume, "meta", {}).get("filename_or_obj"):
            where += f" (file {filename})"
        # MONAI's Resample puts the centre of an axis of one voxel half a voxel off.
        if volume.ndim != 4 or min(volume.shape[1:]) < 2:
            raise ValueError(
                f"{where}: got the shape {tuple(volume.shape)}. Only volumes (C, D, H, W) with two voxels or more "
                "along D, H and W can be turned: add a channel with EnsureChannelFirstd, or stack 2-D slices."
            )
        if mode == "one_hot" and volume.is_floating_point() and (volume != volume.round()).any():
            raise ValueError(
                f"{where}: got values that are no whole numbers, and mode 'one_hot' is for label maps. Use a spline "
                "order such as 3 or 'bilinear' for images and probabilities."
            )
        return volume if mode in LABEL_MODES or volume.is_floating_point() else volume.float()

    def _rotate(self, data: Mapping[Hashable, Any], matrix: np.ndarray) -> dict[Hashable, Any]:
        d = dict(data)
        for key, mode, padding_mode in self.key_iterator(d, self.mode, self.padding_mode):
            volume = self._volume(key, d[key], mode)
            shape = tuple(volume.shape[1:])
            size = self.spatial_size or (shape if self.keep_size else _turned_size(matrix, shape))
            turned, *_ = convert_to_dst_type(_turn(volume, matrix, size, mode, padding_mode), volume)
            trace = {"matrix": matrix, "mode": mode, "padding_mode": padding_mode}
            affine = Affine.compute_w_affine(3, _centred_affine(matrix), shape, size)
            d[key] = self.push_transform(turned, orig_size=shape, affine=affine, extra_info=trace)
        return d

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Turns every key back onto its former canvas: exactly after a lattice rotation, else interpolated again."""
        d = dict(data)
        for key in self.key_iterator(d):
            applied = self.pop_transform(d[key])
            trace, size = applied[TraceKeys.EXTRA_INFO], applied[TraceKeys.ORIG_SIZE]
            back = np.asarray(trace["matrix"]).T
            volume: Any = self._volume(key, d[key], trace["mode"])  # a MetaTensor, since it was traced
            turned, *_ = convert_to_dst_type(_turn(volume, back, size, trace["mode"], trace["padding_mode"]), volume)
            affine = Affine.compute_w_affine(3, _centred_affine(back), volume.shape[1:], size)
            d[key] = turned.copy_meta_from(self.track_transform_meta(turned, affine=affine))
        return d


class RotateMatrixd(_Rotated):
    """Turns every key by a given rotation about the centre of the volume: f'(x) = f(R^-1 x).

    A signed permutation matrix (a turn of the lattice onto itself) permutes and flips the array, without interpolation,
    wherever the canvas has the size of the turned volume: always with ``keep_size=False``, and for cubes.
    Invertible, traced, and never lazy.

    Args:
        keys: the items to turn, each of shape (C, D, H, W).
        matrix: the 3x3 rotation R, in voxel coordinates ordered as the axes D, H, W.
        mode: interpolation, one for all keys or one per key, such as ``(3, "nearest")`` for an image and its label. An
            integer is a spline order (3 is cubic; needs cupy for tensors on a GPU), for images as is ``"bilinear"``;
            for label maps ``"nearest"``, or ``"one_hot"``: the label whose interpolated indicator is the highest,
            0 being the background, which leaves smoother surfaces.
        padding_mode: what lies beyond the border, ``"zeros"``, ``"border"`` or ``"reflection"``; one, or one per key.
        keep_size: keep the size (D, H, W) and lose what turns out of it. Otherwise the size is ceil(abs(R) (D, H, W)).
        allow_missing_keys: do not raise if a key is missing.

    Returns:
        the item, with every key of shape (C, D', H', W'). Label modes keep the dtype; others make integers float32.

    Raises:
        ValueError: if the matrix is no rotation, if modes are unknown or do not fit the keys, or if an item is no
            volume.

    Example:
        >>> import torch
        >>> from equivariant_nets.rotations import plane_rotation
        >>> from equivariant_nets.transforms import RotateMatrixd
        >>> turn = RotateMatrixd(("image", "label"), plane_rotation("axial", 90), mode=(3, "nearest"))
        >>> item = turn({"image": torch.rand(1, 4, 6, 8), "label": torch.ones(1, 4, 6, 8)})
        >>> tuple(item["image"].shape)
        (1, 6, 4, 8)
        >>> tuple(turn.inverse(item)["image"].shape)
        (1, 4, 6, 8)
    """

    def __init__(
        self,
        keys: KeysCollection,
        matrix: Any,
        mode: Sequence[str | int] | str | int = 3,
        padding_mode: Sequence[str] | str = "zeros",
        keep_size: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, mode, padding_mode, keep_size, allow_missing_keys)
        self.matrix = _checked_rotation(matrix)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        return self._rotate(data, self.matrix)


class _RandRotated(RandomizableTransform, _Rotated):
    """Draws a rotation per item, the same for all its keys."""

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 1.0,
        mode: Sequence[str | int] | str | int = 3,
        padding_mode: Sequence[str] | str = "zeros",
        keep_size: bool = True,
        allow_missing_keys: bool = False,
        spatial_size: Sequence[int] | None = None,
    ) -> None:
        RandomizableTransform.__init__(self, prob)
        _Rotated.__init__(self, keys, mode, padding_mode, keep_size, allow_missing_keys, spatial_size)
        self.matrix = np.eye(3)

    @abstractmethod
    def _draw(self, size: Sequence[int]) -> Rotation:
        """A random rotation for a volume of size (D, H, W)."""

    def randomize(self, data: Sequence[int]) -> None:
        """Draws the matrix for a volume of size (D, H, W): the identity, an exact copy, if it is not to turn."""
        super().randomize(None)
        self.matrix = self._draw(data) if self._do_transform else np.eye(3)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        first_key = next(self.key_iterator(d, self.mode), None)
        if first_key is None:  # allow_missing_keys, and none of them is there
            return d
        key, mode = first_key
        self.randomize(self._volume(key, d[key], mode).shape[1:])
        return self._rotate(d, self.matrix)


class RandRotateUniformd(_RandRotated):
    """Turns every key of an item by one rotation drawn uniformly from SO(3), with a probability of ``prob``.

    Args, dtypes and errors are those of :class:`RotateMatrixd`, without the matrix; but ``keep_size`` is on, so that
    items still fit in one batch. An item that is not turned is traced too, and its inverse is the identity.

    With ``spatial_size``, (D, H, W) in voxels, the result is a canvas of this size about the centre of the volume: a
    patch is then turned for the price of a patch. Cut out ceil(sqrt(3) D) and so on before, and it has no corner
    without data.

    Example:
        >>> import torch
        >>> from equivariant_nets.transforms import RandRotateUniformd
        >>> augment = RandRotateUniformd(("image", "label"), mode=(3, "one_hot")).set_random_state(seed=0)
        >>> item = augment({"image": torch.rand(1, 8, 8, 8), "label": torch.ones(1, 8, 8, 8)})
        >>> tuple(item["label"].shape)
        (1, 8, 8, 8)
    """

    def _draw(self, size: Sequence[int]) -> Rotation:
        return random_rotation(self.R)


class RandRotateAxisd(_RandRotated):
    """Turns every key of an item about one axis, in a plane drawn at random by an angle drawn uniformly from a range.

    Args:
        range_degrees: the lowest and the highest angle.
        planes: the planes to draw from: ``"axial"``, ``"coronal"``, ``"sagittal"`` for volumes in RAS orientation, or
            pairs of axes such as (0, 1), the first of which turns towards the second.
        keys, prob, mode, padding_mode, keep_size, allow_missing_keys, spatial_size: as for
            :class:`RandRotateUniformd`.

    Raises:
        ValueError: if the range is not (low, high), if there is no plane or an unknown one, and as
            :class:`RotateMatrixd`.

    Example:
        >>> import torch
        >>> from equivariant_nets.transforms import RandRotateAxisd
        >>> augment = RandRotateAxisd("image", range_degrees=(-20, 20), mode="bilinear").set_random_state(seed=0)
        >>> tuple(augment({"image": torch.rand(1, 8, 8, 8)})["image"].shape)
        (1, 8, 8, 8)
    """

    def __init__(
        self,
        keys: KeysCollection,
        range_degrees: Sequence[float] = (0.0, 360.0),
        planes: Sequence[str | tuple[int, int]] = ("axial", "coronal", "sagittal"),
        prob: float = 1.0,
        mode: Sequence[str | int] | str | int = 3,
        padding_mode: Sequence[str] | str = "zeros",
        keep_size: bool = True,
        allow_missing_keys: bool = False,
        spatial_size: Sequence[int] | None = None,
    ) -> None:
        super().__init__(keys, prob, mode, padding_mode, keep_size, allow_missing_keys, spatial_size)
        if np.shape(range_degrees) != (2,) or not -np.inf < range_degrees[0] <= range_degrees[1] < np.inf:
            raise ValueError(
                f"range_degrees={range_degrees!r} is not a range (low, high): give the lowest and the highest angle in "
                "degrees, such as (-20, 20)."
            )
        if isinstance(planes, str) or not len(planes):
            raise ValueError(f'planes={planes!r} is not a sequence of planes: give one or more, such as ("axial",).')
        for plane in planes:
            plane_rotation(plane, 0)  # raises if there is no such plane
        self.range_degrees, self.planes = range_degrees, planes

    def _draw(self, size: Sequence[int]) -> Rotation:
        plane = self.planes[self.R.randint(len(self.planes))]
        low, high = self.range_degrees
        return plane_rotation(plane, self.R.uniform(low, high))


class RandRotateLatticed(_RandRotated):
    """Turns every key of an item by one of the 24 rotations of the cube: permutes and flips, without interpolation.

    With ``keep_size`` only those rotations are drawn that keep the size of the volume (all 24 for a cube, 8 if two
    sizes are equal, 4 if none are): the others could be neither exact nor complete. Args as for
    :class:`RandRotateUniformd`.

    Example:
        >>> import torch
        >>> from equivariant_nets.transforms import RandRotateLatticed
        >>> augment = RandRotateLatticed("image").set_random_state(seed=0)
        >>> item = {"image": torch.rand(1, 8, 8, 8)}
        >>> bool((augment.inverse(augment(item))["image"] == item["image"]).all())
        True
    """

    def _draw(self, size: Sequence[int]) -> Rotation:
        any_size = self.spatial_size is not None or not self.keep_size
        fitting = [m for m in lattice_rotations() if any_size or _turned_size(m, size) == tuple(size)]
        return fitting[self.R.randint(len(fitting))]


_SCHEMES: dict[str, Callable[..., MapTransform]] = {
    "moderate": partial(RandRotateAxisd, range_degrees=(-20.0, 20.0)),
    "full": RandRotateAxisd,
    "uniform": RandRotateUniformd,
    "lattice": RandRotateLatticed,
}


def rotation_augmentation(
    scheme: str,
    keys: KeysCollection,
    mode: Sequence[str | int] | str | int,
    prob: float = 1.0,
    padding_mode: Sequence[str] | str = "zeros",
    keep_size: bool = True,
    spatial_size: Sequence[int] | None = None,
) -> MapTransform:
    """The rotation augmentation of a name, for configs.

    Args:
        scheme: ``"none"``; ``"moderate"`` or ``"full"``: about one axis by -20 to 20 or 0 to 360 degrees
            (:class:`RandRotateAxisd`); ``"uniform"`` (:class:`RandRotateUniformd`); or ``"lattice"``
            (:class:`RandRotateLatticed`).
        keys, mode, prob, padding_mode, keep_size, spatial_size: as for :class:`RandRotateUniformd`. With ``"none"``
            and a ``spatial_size`` the centre of this size is cut out, or padded with zeros.

    Raises:
        ValueError: if there is no such scheme.

    Example:
        >>> from equivariant_nets.transforms import rotation_augmentation
        >>> type(rotation_augmentation("full", ("image", "label"), mode=(3, "nearest"))).__name__
        'RandRotateAxisd'
    """
    if scheme == "none":
        return Identityd(keys) if spatial_size is None else ResizeWithPadOrCropd(keys, spatial_size)
    if scheme not in _SCHEMES:
        raise ValueError(f"scheme={scheme!r} is unknown: choose one of {['none', *_SCHEMES]}.")
    return _SCHEMES[scheme](
        keys, prob=prob, mode=mode, padding_mode=padding_mode, keep_size=keep_size, spatial_size=spatial_size
    )
