"""What a training needs that MONAI lacks: to be resumed, weights, gradients, precision, several processes."""

from equivariant_nets import bundles_extra  # noqa: F401
