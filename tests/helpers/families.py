"""A small network of every family, for laws that all of them keep."""

import torch

from equivariant_nets import ConventionalUNet, RegularUNet, ScaleUNet, SteerableUNet

SMALL = {"depth": 1, "kernel_size": 3}
FAMILIES = {
    "SO3": lambda: SteerableUNet(features="2x0e+1x1e", dropout=0.1, **SMALL),
    "SO3, other options": lambda: SteerableUNet(
        features="1x1e+2x0e", normalization="batch", downsampling="max", gates="convolution", residual=True, **SMALL
    ),
    "O3": lambda: SteerableUNet(features="1x0e+1x0o+1x1o", group="O3", normalization="none", **SMALL),
    "D8": lambda: RegularUNet(2, group="D8", features=1, **SMALL),
    "O, separable": lambda: RegularUNet(3, group="O", features=1, separable=True, downsampling="max", **SMALL),
    "scale": lambda: ScaleUNet(in_channels=1, features=1, scale_size=2, **SMALL),
    "conventional": lambda: ConventionalUNet(features=2, normalization="batch", **SMALL),
}


def build(family, seed=0):
    torch.manual_seed(seed)
    return FAMILIES[family]().eval()


def image(net, dtype=torch.float32, batch=1):
    size = (6, 7, 5)[: net.spatial_dims]
    noise = torch.randn(batch, net.in_channels, *size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return noise.to(dtype)
