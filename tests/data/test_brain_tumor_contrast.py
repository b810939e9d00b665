"""Laws of fainter lesions: the lesion alone changes, towards the mean of the brain, each channel by its own factor."""

import pytest
import torch
from monai.data import MetaTensor

from equivariant_nets.data import RandLesionContrastd


@pytest.fixture
def case():
    """A standardised brain of two channels in a margin of zeros, with a ball of lesion."""
    torch.manual_seed(0)
    axes = torch.meshgrid(*[torch.linspace(-1, 1, 25)] * 3, indexing="ij")
    radius = sum(axis**2 for axis in axes).sqrt()
    image = torch.randn(2, 25, 25, 25) * (radius < 0.9)
    label = (radius < 0.4).long()[None] * 2
    image = image + torch.tensor([3.0, -2.0]).reshape(2, 1, 1, 1) * (label > 0)
    return {"image": MetaTensor(image), "label": MetaTensor(label)}


def faded(case, **options):
    return RandLesionContrastd("image", **{"prob": 1.0, **options}).set_random_state(0)(case)


def test_a_share_of_the_contrast_is_left_inside_and_everything_is_as_it_was_outside(case):
    before, after = (d["image"].as_tensor() for d in (case, faded(case, factors=(0.3, 0.3))))
    radius = torch.meshgrid(*[torch.linspace(-1, 1, 25)] * 3, indexing="ij")
    radius = sum(axis**2 for axis in radius).sqrt()
    deep, far = radius < 0.1, radius > 0.75  # further from the border of the lesion than the smoothing reaches
    torch.testing.assert_close(after[:, deep], before[:, deep] * 0.3, rtol=0.02, atol=0.02)
    torch.testing.assert_close(after[:, far], before[:, far])
    assert ((after == 0) == (before == 0)).all()


def test_each_channel_has_a_factor_of_its_own_and_the_label_stays(case):
    result = faded(case)
    ratios = (result["image"] / case["image"])[:, 12, 12, 12]
    assert abs(float(ratios[0] - ratios[1])) > 0.05
    assert (ratios > 0.19).all()
    assert (ratios < 1.01).all()
    assert result["label"] is case["label"]


def test_it_is_drawn(case):
    never, always = faded(case, prob=0.0), faded(case)
    assert (never["image"] == case["image"]).all()
    again, other = faded(case), RandLesionContrastd("image", prob=1.0).set_random_state(1)(case)
    assert (again["image"] == always["image"]).all()
    assert (other["image"] != always["image"]).any()


def test_a_patient_without_a_lesion_stays_as_it_is(case):
    case["label"] = torch.zeros_like(case["label"])
    assert (faded(case)["image"] == case["image"]).all()


@pytest.mark.parametrize("factors", [(0.5,), (0.8, 0.2), (-0.1, 1.0), (0.5, 1.5)])
def test_illegal_factors_are_refused(factors):
    with pytest.raises(ValueError, match=r"factors=.* is not legal: give the least and the greatest"):
        RandLesionContrastd("image", factors=factors)
