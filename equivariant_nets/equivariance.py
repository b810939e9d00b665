"""How far a network is from equivariance: measured here, judged by :func:`assert_equivariant`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import scipy.ndimage
import torch
from e3nn import o3
from torch import Tensor, nn

from equivariant_nets.rotations import lattice_rotations, plane_rotation
from equivariant_nets.types import Features, Field, Mask, TurnedFeatures, TurnedField

__all__ = [
    "assert_equivariant",
    "central_error",
    "equivariance_curve",
    "equivariance_error",
    "interpolation_error",
    "scale_equivariance_error",
    "scale_field",
    "transform_field",
]

SPLINE_ORDER = 3
# Share of the half width of a volume: free turns are compared in a ball that stays inside, away from the zeros outside.
BALL = 0.6


def transform_field(field: Field, matrix: np.ndarray, irreps: o3.Irreps | None = None) -> TurnedField:
    """Turn or mirror a field about the centre of its volume: f'(x) = D(R) f(R^-1 x).

    Args:
        field: ``(B, C, *spatial)``, with 2 or 3 spatial axes.
        matrix: the orthogonal matrix R, acting on coordinates in the order of the spatial axes. Signed permutations
            are exact and permute the size; all others keep the size and interpolate with cubic splines.
        irreps: what the channels carry; scalars if None.

    Raises:
        ValueError: R is not orthogonal, or its size is not the number of spatial axes, or the irreps do not fit the
            channels.
    """
    spatial_dims = field.dim() - 2
    if irreps is not None and irreps.dim != field.shape[1]:
        raise ValueError(
            f"irreps {irreps} are {irreps.dim} channels, and the field of shape {tuple(field.shape)} has "
            f"{field.shape[1]}. Give the irreps of its channels."
        )
    matrix = np.asarray(matrix, dtype=np.float64)
    if matrix.shape != (spatial_dims, spatial_dims) or not np.allclose(matrix @ matrix.T, np.eye(spatial_dims)):
        raise ValueError(
            f"transform must be an orthogonal {spatial_dims}x{spatial_dims} matrix for a field of shape "
            f"{tuple(field.shape)}; got {matrix.tolist()}."
        )
    moved = _permute(field, matrix) if _is_signed_permutation(matrix) else _interpolate(field, matrix)
    if irreps is None:
        return moved
    return torch.einsum("ij,bj...->bi...", _representation(irreps, matrix).to(field), moved)


def _representation(irreps: o3.Irreps, matrix: np.ndarray) -> Tensor:
    """D(R) in full float64 precision, which e3nn's angles do not keep: from Y_l(R x) = D_l(R) Y_l(x)."""
    determinant = round(float(np.linalg.det(matrix)))
    rotation = torch.from_numpy(determinant * matrix)
    points = torch.from_numpy(np.random.RandomState(0).normal(size=(64, 3)))
    blocks = []
    for mul, ir in irreps:
        harmonics, turned = (
            o3.spherical_harmonics(ir.l, x, normalize=True, normalization="component")
            for x in (points, points @ rotation.T)
        )
        block = torch.linalg.lstsq(harmonics, turned).solution.T * (ir.p if determinant < 0 else 1)
        blocks += [block] * mul
    return torch.block_diag(*blocks)


def _is_signed_permutation(matrix: np.ndarray) -> bool:
    return bool(np.all((matrix == 0) | (np.abs(matrix) == 1)))


def _permute(field: Tensor, matrix: np.ndarray) -> Tensor:
    source = np.abs(matrix).argmax(axis=1)  # axis i of the result is axis source[i] of the field
    reversed_axes = [2 + i for i, s in enumerate(source) if matrix[i, s] < 0]
    return field.permute(0, 1, *(2 + int(s) for s in source)).flip(reversed_axes)


def _interpolate(field: Tensor, matrix: np.ndarray) -> Tensor:
    centre = (np.array(field.shape[2:]) - 1) / 2
    offset = centre - matrix.T @ centre
    volumes = field.detach().cpu().double().flatten(0, 1).numpy()
    turned = [scipy.ndimage.affine_transform(v, matrix.T, offset, order=SPLINE_ORDER) for v in volumes]
    return torch.from_numpy(np.stack(turned)).to(field).reshape(field.shape)


def scale_field(field: Features, factor: float, multiple: int = 1) -> TurnedFeatures:
    """Shrink (or enlarge) a field of scalars about the centre of its volume: f'(x) = f(x / factor).

    Args:
        field: ``(B, C, *spatial)``, smooth enough for the factor: nothing is filtered before it is sampled.
        factor: above 0, of every length.
        multiple: the size becomes ``factor * size``, rounded to the nearest multiple of this; nearest voxels continue
            the field outwards where it is too small.

    Raises:
        ValueError: the factor is not above 0.
    """
    if not factor > 0:
        raise ValueError(f"factor={factor} is not above 0: it is the ratio of the new size to the old.")
    old = np.array(field.shape[2:])
    new = np.maximum(np.round(factor * old / multiple).astype(int), 1) * multiple
    if factor == 1 and (new == old).all():
        return field
    offset = (old - 1) / 2 - (new - 1) / 2 / factor
    volumes = field.detach().cpu().double().flatten(0, 1).numpy()
    options = {"output_shape": tuple(new), "order": SPLINE_ORDER, "mode": "nearest"}
    scaled = [scipy.ndimage.affine_transform(v, np.full(v.ndim, 1 / factor), offset, **options) for v in volumes]
    return torch.from_numpy(np.stack(scaled)).to(field).reshape(*field.shape[:2], *new.tolist())


@torch.no_grad()
def scale_equivariance_error(net: nn.Module, image: Features, factor: float) -> float:
    """The relative error of what a network says of a smaller image: ``|net(S image) - S net(image)|`` over the
    deviation of ``S net(image)`` from its mean, in a central ball, where S is :func:`scale_field`.

    A constant output would be equivariant to everything, and so does not count in the denominator.

    Args:
        net: a network of scalars on its device, in the mode in which it is to be measured.
        image: ``(B, C, *spatial)``, on the same device; smooth, and 0 towards the border.
        factor: of every length.

    Returns:
        0 for exact equivariance, about 1.4 for unrelated outputs.
    """
    with _no_tf32():
        return central_error(net(scale_field(image, factor)), scale_field(net(image), factor))


def central_error(got: Features, expected: Features) -> float:
    """|got - expected| over the deviation of what is expected from its mean, in a central ball of ``(B, C, *spatial)``.

    Raises:
        ValueError: what is expected is constant.
    """
    ball = _ball(expected.shape[2:]).to(expected.device)
    got, expected = got[..., ball], expected[..., ball]
    deviation = (expected - expected.mean(-1, keepdim=True)).norm()
    if deviation <= 1e-6 * expected.norm():
        raise ValueError("The output is constant, so a relative error means nothing; give another image.")
    return float((got - expected).norm() / deviation)


def _ball(size: Sequence[int]) -> Mask:
    grids = torch.meshgrid(*[torch.arange(n) - (n - 1) / 2 for n in size], indexing="ij")
    radius = torch.stack(grids).norm(dim=0)
    return radius <= BALL * (min(size) - 1) / 2


def _relative_error(got: Tensor, expected: Tensor, exact: bool) -> float:
    if got.shape != expected.shape:
        raise ValueError(
            f"The turned image gives an output of shape {tuple(got.shape)}, and that of the image, turned, is of shape "
            f"{tuple(expected.shape)}: the transform takes an axis to one that the network resizes otherwise. Give "
            "transforms that keep such axes apart, or the network in evaluation mode."
        )
    if not exact:
        ball = _ball(expected.shape[2:]).to(expected.device)
        if not ball.any():
            raise ValueError(
                f"An output of spatial size {tuple(expected.shape[2:])} has no voxel in the central ball in which free "
                "rotations are compared. Give a larger image, or the network in evaluation mode."
            )
        got, expected = got[..., ball], expected[..., ball]
    norm = expected.norm()
    if norm == 0:
        raise ValueError("The output is zero everywhere, so a relative error means nothing; give another image.")
    return float((got - expected).norm() / norm)


@contextmanager
def _no_tf32() -> Iterator[None]:
    """Products of float32 in full precision, on GPUs too, whose convolutions else keep 10 bits of each factor."""
    cudnn: Any = torch.backends.cudnn
    matmul = torch.backends.cuda.matmul
    has_precisions = hasattr(cudnn, "conv")  # from torch 2.9 on
    name, off = ("fp32_precision", "ieee") if has_precisions else ("allow_tf32", False)
    switches = [cudnn.conv, cudnn.rnn, matmul] if has_precisions else [cudnn, matmul]
    before = [getattr(switch, name) for switch in switches]
    try:
        for switch in switches:
            setattr(switch, name, off)
        yield
    finally:
        for switch, value in zip(switches, before, strict=True):
            setattr(switch, name, value)


def _said_irreps(net: Any) -> list[o3.Irreps | None]:
    """What a module says that its input and output carry; None where it says nothing."""
    both = getattr(net, "irreps", None)  # of a layer whose output carries what its input does
    said = [getattr(net, name, both) for name in ("irreps_in", "irreps_out")]
    return [o3.Irreps(text) if isinstance(text, str | o3.Irreps) else None for text in said]


def _hidden_irreps(net: Any) -> Iterator[o3.Irreps]:
    """Irreps other than scalars that the outermost of the modules inside say something of."""
    for child in net.children() if isinstance(net, nn.Module) else ():
        said = [irreps for irreps in _said_irreps(child) if irreps is not None]
        yield from (irreps for irreps in said if any(ir != o3.Irrep("0e") for _, ir in irreps))
        if not said:
            yield from _hidden_irreps(child)


def _irreps_of(net: Any, *given: str | o3.Irreps | None) -> list[o3.Irreps | None]:
    """What the input and the output of a network carry: what is given, else what it says itself, else scalars, None."""
    if isinstance(net, nn.DataParallel | nn.parallel.DistributedDataParallel):
        net = net.module
    said = _said_irreps(net)
    irreps = [own if text is None else o3.Irreps(text) for text, own in zip(given, said, strict=True)]
    if None in irreps and (hidden := next(_hidden_irreps(net), None)):
        raise ValueError(
            f"{type(net).__name__} does not say what its channels carry, and a network inside of it has channels of "
            f"{hidden}. Give irreps_in and irreps_out, such as irreps_in='1x0e', irreps_out='1x1o'."
        )
    return irreps


def equivariance_error(
    net: nn.Module,
    image: Features,
    transform: np.ndarray,
    *,
    irreps_in: str | o3.Irreps | None = None,
    irreps_out: str | o3.Irreps | None = None,
) -> float:
    """The relative error ``|net(R image) - R net(image)| / |R net(image)|``.

    It is measured without TF32, whose rounding alone is 1e-3. Of a network that returns several outputs, as with deep
    supervision in training mode, the largest error counts. An output on a coarser grid is turned about its own centre;
    at free rotations it says more of the interpolation between its few voxels than of the network, so measure these in
    evaluation mode.

    Args:
        net: a network on its device, in the mode in which it is to be measured.
        image: ``(B, C, *spatial)``, on the same device. For free rotations it should be smooth (a few voxels), or the
            error of interpolating it hides that of the network: see :func:`interpolation_error`.
        transform: the orthogonal matrix R. For a symmetry of the lattice the error is that of the whole volume;
            otherwise that of a central ball.
        irreps_in: what the channels of the image carry, such as ``1x0e+1x1o``. By default what the network says as its
            ``irreps_in``, as those of this package do, also materialized, scripted, compiled or parallel; else scalars.
            A traced or exported network says nothing.
        irreps_out: what the channels of each output carry; likewise.

    Returns:
        0 for exact equivariance, about 1.4 for unrelated outputs.

    Raises:
        ValueError: the network says nothing of its irreps and contains one with other channels than scalars; an output
            is 0, or has another shape for the turned image; or the transform is not orthogonal.
    """
    return _errors(net, image, [transform], irreps_in, irreps_out)[0]


@torch.no_grad()
def _errors(
    net: nn.Module, image: Features, transforms: Iterable[np.ndarray], *irreps: str | o3.Irreps | None
) -> list[float]:
    """The error of each transform, with one output of the upright image for all."""
    rep_in, rep_out = _irreps_of(net, *irreps)
    errors = []
    with _no_tf32():
        upright = _outputs(net(image))
        for transform in transforms:
            turned = _outputs(net(transform_field(image, transform, rep_in)))
            exact = _is_signed_permutation(np.asarray(transform))
            pairs = zip(turned, upright, strict=True)
            each = [_relative_error(got, transform_field(own, transform, rep_out), exact) for got, own in pairs]
            errors.append(float(np.max(each)))  # NaN, where one is
    return errors


def _outputs(output: Tensor | Sequence[Tensor]) -> Sequence[Tensor]:
    return [output] if isinstance(output, Tensor) else output


@torch.no_grad()
def interpolation_error(field: Features, transform: np.ndarray) -> float:
    """The relative error of turning scalars ``(B, C, *spatial)`` there and back: the floor of what can be measured."""
    there_and_back = transform_field(transform_field(field, transform), np.asarray(transform).T)
    return _relative_error(there_and_back, field, _is_signed_permutation(np.asarray(transform)))


def equivariance_curve(
    net: nn.Module,
    image: Features,
    angles_degrees: Iterable[float],
    plane: str | tuple[int, int] = "axial",
    *,
    irreps_in: str | o3.Irreps | None = None,
    irreps_out: str | o3.Irreps | None = None,
) -> list[float]:
    """:func:`equivariance_error` at each angle of a rotation in a plane, for 3-D networks."""
    return _errors(net, image, (plane_rotation(plane, angle) for angle in angles_degrees), irreps_in, irreps_out)


def assert_equivariant(
    net: nn.Module,
    image: Features,
    transforms: Iterable[np.ndarray] | None = None,
    tolerance: float = 1e-5,
    *,
    irreps_in: str | o3.Irreps | None = None,
    irreps_out: str | o3.Irreps | None = None,
) -> None:
    """Raise an AssertionError, with the worst transform and its error, unless all errors are within the tolerance.

    Args:
        net, irreps_in, irreps_out: see :func:`equivariance_error`.
        image: ``(B, C, *spatial)``.
        transforms: orthogonal matrices; the 24 rotations of the cube, or the 4 of the square, if None.
        tolerance: highest relative error; 1e-5 suits float32 and 1e-10 float64.

    Raises:
        AssertionError: an error is above the tolerance, or NaN.
        ValueError: there is no transform, and as :func:`equivariance_error`.
    """
    matrices = lattice_rotations(image.dim() - 2) if transforms is None else list(transforms)
    if len(matrices) == 0:
        raise ValueError("transforms is empty: nothing was measured; give at least one matrix.")
    errors = _errors(net, image, matrices, irreps_in, irreps_out)
    worst, transform = max(zip(errors, matrices, strict=True), key=lambda pair: np.nan_to_num(pair[0], nan=np.inf))
    if not worst <= tolerance:
        raise AssertionError(
            f"Equivariance error {worst:.2e} exceeds the tolerance {tolerance:.0e} under the transform "
            f"{np.asarray(transform).tolist()}."
        )
