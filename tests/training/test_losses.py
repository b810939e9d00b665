"""Laws of the loss for soft labels: least at these, and MONAI's own loss where they are 0 or 1."""

import pytest
import torch
from monai.data.utils import pad_list_data_collate
from monai.losses import DiceCELoss

from equivariant_nets.training.losses import SoftDiceCELoss

OPTIONS = [{}, {"include_background": False}, {"batch": True}, {"include_background": False, "lambda_ce": 0.0}]


def soft_labels(seed, sharpness=2.0):
    """Of 4 classes, in two volumes."""
    logits = torch.randn(2, 4, 5, 6, 7, generator=torch.Generator().manual_seed(seed))
    return (sharpness * logits).softmax(1)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_nothing_has_a_lower_loss_than_the_soft_labels(options):
    loss, target = SoftDiceCELoss(softmax=True, **options), soft_labels(0)
    logits = target.log()
    least = loss(logits, target)
    for seed in range(20):
        step = torch.randn(logits.shape, generator=torch.Generator().manual_seed(seed))
        for size in (0.01, 0.1, 1.0):
            assert loss(logits + size * step, target) > least
    for sharper in (0.9, 1.1, 2.0, 20.0):  # to the mean of all classes, and to the likeliest one
        assert loss(sharper * logits, target) > least


def test_the_dice_of_whole_numbers_would_rather_have_the_likeliest_class():
    loss, target = DiceCELoss(softmax=True, lambda_ce=0.0), soft_labels(0)
    assert loss(20 * target.log(), target) < loss(target.log(), target) - 0.05


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_of_labels_that_are_0_or_1_it_is_the_loss_of_monai(options):
    target = torch.nn.functional.one_hot(soft_labels(1).argmax(1), 4).movedim(-1, 1).float()
    logits = soft_labels(2).log().requires_grad_()
    values = [loss(softmax=True, **options)(logits, target) for loss in (SoftDiceCELoss, DiceCELoss)]
    gradients = [torch.autograd.grad(value, logits, retain_graph=True)[0] for value in values]
    torch.testing.assert_close(*values)
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("options", OPTIONS[:3], ids=str)  # in the last one the background counts nothing
def test_what_pads_the_smaller_volume_of_a_batch_is_background(options):
    volumes = [soft_labels(0)[0], soft_labels(1)[1, :, 1:, :, :4]]
    padded = pad_list_data_collate([{"label": volume} for volume in volumes])["label"]
    assert (padded.sum(1) == 0).sum() == 5 * 6 * 7 - 4 * 6 * 4
    background = padded.clone()
    background[:, 0][padded.sum(1) == 0] = 1.0
    torch.testing.assert_close(background.sum(1), torch.ones(2, 5, 6, 7))
    logits, loss = soft_labels(2).log(), SoftDiceCELoss(softmax=True, **options)
    torch.testing.assert_close(loss(logits, padded), loss(logits, background))
    without = DiceCELoss.forward(loss, logits, padded)
    assert without != pytest.approx(loss(logits, padded).item(), rel=0.01)


def test_labels_of_another_number_of_classes_are_refused():
    with pytest.raises((ValueError, AssertionError), match="shape"):
        SoftDiceCELoss(softmax=True)(soft_labels(0), soft_labels(0)[:, :3])
