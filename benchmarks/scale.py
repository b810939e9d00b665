"""How much networks answer a change of scale: errors of a layer, a block and the whole network, and Dice by size.

    python benchmarks/scale.py errors [--output scale.json]
    python benchmarks/scale.py dice --scale "output/scale_*/poses_dice.csv" [--picture scale.png]

Weights are random, from fixed seeds. A smooth random image, which fades out towards the border, is made smaller by each
factor; the error is that of :func:`equivariant_nets.scale_equivariance_error`, in a central ball, of the output and of
the output after a Gaussian filter, which hides the checkerboards of transposed convolutions. Batch normalization uses
the statistics of the image at its own size. `published` is the network of Wimmer et al. 2023 as described there,
in MONAI's wiring: sampled filters, the first 27 of total order 4, strided and transposed convolutions; `published
baseline` is MONAI's own U-Net of the same widths.
"""

from __future__ import annotations

import glob
import itertools
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import monai.networks.nets
import numpy as np
import scipy.ndimage
import torch
from common import environment, print_table, smooth_image, write_json
from numpy.polynomial.hermite_e import hermeval
from torch import Tensor, nn
from tqdm import tqdm

from equivariant_nets import ConventionalUNet, ScaleUNet
from equivariant_nets.cli import command_line
from equivariant_nets.equivariance import central_error, scale_field
from equivariant_nets.evaluation.plots import plot_scale_curves
from equivariant_nets.evaluation.tables import case_means, read_sizes, standard_error, summarize_scale_table

FACTORS = (0.9, 0.81, 0.73, 0.6)
SMOOTHNESS = 4.0  # voxels, standard deviation of the Gaussian filter of the image
MULTIPLE = 8  # the published wiring takes no other sizes
SMOOTHING = 2.0  # voxels, of the output, in the second column of each factor
Z_95 = 1.96  # standard errors to either side of a mean
SCALES, RATIO, TAPS, FILTERS = 4, 0.9, 5, 27


def published_filters() -> Tensor:
    """Hermite-Gaussian functions sampled on 5^3 taps, ``(scales, filters, 5, 5, 5)``."""
    orders = [n for n in itertools.product(range(5), repeat=3) if sum(n) <= 4][:FILTERS]
    taps = np.arange(TAPS) - TAPS // 2
    filters = np.empty((SCALES, FILTERS, TAPS, TAPS, TAPS))
    for step in range(SCALES):
        sigma = RATIO**step
        lines = [hermeval(taps / sigma, [0] * n + [1]) * np.exp(-(taps**2) / (2 * sigma**2)) / sigma for n in range(5)]
        for index, (n, m, k) in enumerate(orders):
            filters[step, index] = np.einsum("i,j,k->ijk", lines[n], lines[m], lines[k])
    return torch.from_numpy(filters).float()


def publish(convolution: nn.Module, filters: Tensor) -> None:
    """Give a plain convolution random weights of the published kind: a kernel for each scale, apart from the others."""
    transposed = isinstance(convolution, nn.ConvTranspose3d)
    weight = convolution.weight.data.transpose(0, 1) if transposed else convolution.weight.data
    channels_out, channels_in, *taps = weight.shape
    lifting = channels_in < SCALES
    fields_out, fields_in = channels_out // SCALES, channels_in if lifting else channels_in // SCALES
    own = filters if taps[0] == TAPS else torch.ones(SCALES, 1, 1, 1, 1)
    coefficients = torch.randn(fields_out, fields_in, own.shape[1]) / (fields_in * own.shape[1]) ** 0.5
    kernels = torch.einsum("oib,sbxyz->osixyz", coefficients, own)
    dense = kernels
    if not lifting:
        dense = torch.einsum("osixyz,st->ositxyz", kernels, torch.eye(SCALES))
    weight.copy_(dense.reshape(weight.shape))
    # A bias for each field, alike at every scale.
    convolution.bias.data = torch.randn(fields_out).mul(0.1).repeat_interleave(SCALES)


class Published(nn.Module):
    """The published network, ``(B, 1, D, H, W)`` to the same, for sizes divisible by 8."""

    def __init__(self) -> None:
        super().__init__()
        self.net = monai_unet(SCALES)
        filters = published_filters()
        for module in self.net.modules():
            if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
                publish(module, filters)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x).mean(1, keepdim=True)


def monai_unet(scales: int = 1) -> nn.Module:
    """MONAI's U-Net in the widths of the paper, of so many scales."""
    channels = [width * scales for width in (4, 8, 16, 32)]
    options: dict[str, Any] = {"kernel_size": TAPS, "up_kernel_size": TAPS, "num_res_units": 2, "norm": "batch"}
    return monai.networks.nets.UNet(3, 1, scales, channels, (2, 2, 2), act="swish", **options)


def scale_unet(**options: Any) -> Callable[[], nn.Module]:
    return lambda: ScaleUNet(in_channels=1, **options)


def conventional_unet(**options: Any) -> Callable[[], nn.Module]:
    return lambda: ConventionalUNet(in_channels=1, out_channels=1, features=16, **options)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "ScaleUNet": scale_unet(),
    "ScaleUNet, residual": scale_unet(residual=True),
    "ScaleUNet, scale_size=2": scale_unet(scale_size=2),
    "ScaleUNet, residual, scale_size=2": scale_unet(residual=True, scale_size=2),
    "ScaleUNet, residual, scale_size=2, num_scales=6": scale_unet(residual=True, scale_size=2, num_scales=6),
    "ScaleUNet, residual, scale_size=2, kernel_size=7": scale_unet(residual=True, scale_size=2, kernel_size=7),
    "ScaleUNet, residual, max_order=4": scale_unet(residual=True, max_order=4),
    "ScaleUNet, residual, isotropic": scale_unet(residual=True, isotropic=True),
    "ScaleUNet, residual, batch norm": scale_unet(residual=True, normalization="batch"),
    "ConventionalUNet": conventional_unet(),
    "ConventionalUNet, residual": conventional_unet(residual=True),
    "ConventionalUNet, residual, batch norm": conventional_unet(residual=True, normalization="batch"),
    "published": Published,
    "published baseline": lambda: monai_unet(4),
}


@torch.no_grad()
def calibrated(net: nn.Module, image: Tensor) -> nn.Module:
    """The network in evaluation mode, with the statistics of an image."""
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0
    net.train()(image)
    return net.eval()


@torch.no_grad()
def layer_error(features: nn.Module, image: Tensor, steps: int, scales: int) -> float:
    """The error of features of an image shrunk by so many steps, against those of the image as many scales before; of
    one scale, against the same features."""
    factor, moved = RATIO**steps, steps if scales > 1 else 0
    before = features(image).unflatten(1, (-1, scales))[:, :, : scales - moved].flatten(1, 2)
    after = features(scale_field(image, factor)).unflatten(1, (-1, scales))[:, :, moved:].flatten(1, 2)
    return central_error(after, scale_field(before, factor))


def layers(image: Tensor, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """The errors of the first layer and of the first block of networks, for images shrunk by 1 to 3 steps."""
    builders = {f"ScaleUNet, max_order={order}": (scale_unet(max_order=order), SCALES) for order in (1, 2, 4)}
    builders["ConventionalUNet"] = conventional_unet(), 1
    rows = []
    for name, (build, scales) in builders.items():
        for part in ("first layer", "first block"):
            errors = []
            for seed in seeds:
                torch.manual_seed(seed)
                block = build().encoders[0]
                features = block[0] if part == "first layer" else block
                errors.append([layer_error(features, image, steps, scales) for steps in range(1, SCALES)])
            rows.append({"part": f"{part}, {name}", **_by_factor(FACTORS[:-1], errors)})
    return rows


@torch.no_grad()
def network_errors(net: nn.Module, image: Tensor) -> list[float]:
    """The errors at all factors, of the output as it is and after a Gaussian filter."""
    results: dict[bool, list[float]] = {False: [], True: []}
    output = net(image)
    for factor in FACTORS:
        small = net(scale_field(image, factor, MULTIPLE))
        for smooth in results:
            expected = scale_field(smoothed(output, SMOOTHING) if smooth else output, factor, MULTIPLE)
            got = smoothed(small, SMOOTHING * factor) if smooth else small
            results[smooth].append(central_error(got, expected))
    return results[False] + results[True]


def smoothed(field: Tensor, sigma: float) -> Tensor:
    """A field ``(B, C, D, H, W)`` after a Gaussian filter of so many voxels."""
    return torch.from_numpy(scipy.ndimage.gaussian_filter(field.numpy(), (0, 0, sigma, sigma, sigma)))


def _by_factor(columns: Sequence[float | str], errors: Sequence[Sequence[float]]) -> dict[str, float]:
    """Means over the seeds, by column."""
    return {str(column): float(mean) for column, mean in zip(columns, np.mean(errors, 0), strict=True)}


def errors(
    *,
    size: int = 64,
    seeds: Sequence[int] = (0, 1, 2),
    networks: Sequence[str] | None = None,
    threads: int | None = None,
    output: str | None = None,
) -> list[dict[str, Any]]:
    """Measure, print two tables, and return the rows of whole networks.

    Args:
        size: side of the image, a multiple of 8.
        seeds: of the weights; errors are means over them.
        networks: names of the networks; all if None.
        threads: of the CPU; as torch chooses if None.
        output: JSON file to write.

    Raises:
        ValueError: a network that is not known, or a size that is no multiple of 8.
    """
    names = list(networks or NETWORKS)
    if unknown := set(names) - set(NETWORKS):
        raise ValueError(f"networks {sorted(unknown)} are not known; choose from {list(NETWORKS)}.")
    if size % MULTIPLE:
        raise ValueError(f"size={size} is no multiple of {MULTIPLE}, which the published network needs.")
    if threads is not None:
        torch.set_num_threads(threads)
    image = smooth_image(size, SMOOTHNESS, 0).float()
    parts = layers(image, seeds)
    columns = [*FACTORS, *(f"{factor:g}, smoothed" for factor in FACTORS)]
    rows = []
    for name in tqdm(names, unit="network"):
        measured = []
        for seed in seeds:
            torch.manual_seed(seed)
            net = calibrated(NETWORKS[name](), image)
            measured.append(network_errors(net, image))
        parameters = sum(p.numel() for p in net.parameters())
        rows.append({"network": name, "parameters": parameters, **_by_factor(columns, measured)})
    print_table(parts)
    print_table(rows)
    record = {"size": size, "smoothness_voxels": SMOOTHNESS, "seeds": list(seeds), "layers": parts, "networks": rows}
    write_json(output, {**environment(torch.device("cpu")), **record})
    return rows


def dice(*, picture: str | None = None, **runs: str) -> list[dict[str, str]]:
    """Mean Dice at each size of the anatomy: its deviation over the runs of a network, such as its seeds, and its 95 %
    interval over the cases, of which each counts by its mean over the runs; at each size, of the runs that have it.

    Args:
        picture: PNG to draw, of means over the runs with their standard errors over the cases.
        runs: by the name of a network, a pattern of the tables of its runs, ``scale_dice.csv`` of an evaluation or
            ``poses_dice.csv`` of files.

    Raises:
        ValueError: no file matches a pattern, or none is given.
    """
    tables = {name: sorted(glob.glob(pattern)) for name, pattern in runs.items()}
    if not tables or not all(tables.values()):
        raise ValueError(f"No table for {[name for name in runs if not tables[name]]}: give --NAME PATTERN, quoted.")
    rows, intervals = [], []
    for name, files in tables.items():
        summaries = [summarize_scale_table(file) for file in files]
        factors = sorted({factor for summary in summaries for factor in summary}, key=float)
        values = {factor: [summary[factor] for summary in summaries if factor in summary] for factor in factors}
        cells = {factor: f"{np.mean(own):.3f} ± {np.std(own):.3f}" for factor, own in values.items()}
        rows.append({"network": name, "runs": str(len(files)), **cells})
        sizes = [(float(row["factor"]), row) for file in files for row in read_sizes(file)]
        by_size = {factor: case_means([row for size, row in sizes if f"{size:g}" == factor]) for factor in values}
        cells = {factor: f"{own.mean():.3f} ± {Z_95 * standard_error(own):.3f}" for factor, own in by_size.items()}
        intervals.append({"network": name, **cells})
    print("Deviations over runs:\n")
    print_table(rows)
    print("\n95 % intervals over cases:\n")
    print_table(intervals)
    if picture is not None:
        with tempfile.TemporaryDirectory() as folder:
            merged = {name: Path(folder, f"{name}.csv") for name in tables}
            for name, files in tables.items():
                header, *_ = Path(files[0]).read_text().splitlines()
                lines = [line for file in files for line in Path(file).read_text().splitlines()[1:]]
                merged[name].write_text("\n".join([header, *lines]) + "\n")
            plot_scale_curves(merged, picture)
    return rows


cli = command_line(errors, dice, help=__doc__)

if __name__ == "__main__":
    cli()
