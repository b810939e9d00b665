"""What a training needs that MONAI lacks: to be resumed, weights, gradients, precision, several processes."""
