"""Contrasts drawn for the regions of a brain: what they change and leave; a pose or a unit is no matter."""

import numpy as np
import pytest
import torch
from monai.transforms import Compose, CopyItemsd, Orientationd, ResampleToMatchd, Spacingd

from equivariant_nets.data import (
    LoadVolumed,
    RandRegionContrastd,
    ZeroBackgroundd,
    brain_structures_datalist,
    write_brain_phantoms,
)

SEEDS = range(6)
LOAD = Compose(
    [
        CopyItemsd("label", names="regions"),
        LoadVolumed(("image", "regions")),
        ZeroBackgroundd("image"),
        Orientationd("image", axcodes="RAS", labels=None),
        Spacingd("image", pixdim=(2.0, 2.0, 2.0)),
        ResampleToMatchd("regions", key_dst="image", mode="nearest"),
    ]
)


@pytest.fixture(scope="module", params=["phantom", "real"])
def brain(request, tmp_path_factory):
    if request.param == "real":
        folder = request.getfixturevalue("real_brain_structures")
    else:
        folder = tmp_path_factory.mktemp("brains")
        write_brain_phantoms(folder, size=(32, 40, 32), num_cases=4, spacing_mm=2.0)
    return LOAD(brain_structures_datalist(folder, "training")[0])


def changed(item, seed, **options):
    transform = RandRegionContrastd(prob=1.0, **options)
    transform.set_random_state(seed)
    return transform(item)["image"]


def means(image, regions):
    content = regions > 0
    return np.array([float(image[regions == code].mean()) for code in torch.unique(regions[content])])


def test_background_stays_and_content_stays_content(brain):
    for seed in SEEDS:
        image = changed(brain, seed)
        assert torch.equal(image > 0, brain["image"] > 0)
        assert image.max() == pytest.approx(float(brain["image"].max()))
        assert torch.equal(image.affine, brain["image"].affine)


def test_the_item_that_was_given_is_left_as_it_was(brain):
    before = brain["image"].clone()
    assert not torch.equal(changed(brain, 0), before)
    assert torch.equal(brain["image"], before)
    assert RandRegionContrastd(prob=0.0)(brain)["image"] is brain["image"]


def test_the_order_of_the_regions_is_kept_by_some_and_turned_round_by_others(brain):
    before = means(brain["image"], brain["regions"])
    orders = [np.corrcoef(before, means(changed(brain, seed), brain["regions"]))[0, 1] for seed in range(20)]
    assert min(orders) < -0.3
    assert max(orders) > 0.7


def test_regions_of_one_intensity_are_parted_by_steps_alone():
    regions = torch.arange(1, 9).repeat_interleave(8).reshape(1, 4, 4, 4)
    item = {"image": torch.full((1, 4, 4, 4), 3.0), "regions": regions}
    item["image"][0, 0, 0] += 1e-3 * torch.arange(4)  # so that there is a range
    assert len(np.unique(means(changed(item, 0, smoothing=0.0), regions).round(4))) == 8
    spread = [np.ptp(means(changed(item, 0, smoothing=0.0, step=step), regions)) for step in (0.0, 0.1)]
    assert spread[0] < spread[1]


def test_a_turned_brain_has_the_turned_contrast(brain):
    for turn in ((1, 2), (2, 3), (1, 3)):
        turned = {key: torch.rot90(brain[key].as_tensor(), 1, turn) for key in ("image", "regions")}
        for seed in SEEDS:
            expected = torch.rot90(changed(brain, seed).as_tensor(), 1, turn)
            torch.testing.assert_close(changed(turned, seed), expected, rtol=1e-4, atol=1e-4 * float(expected.max()))


def test_the_unit_of_intensity_is_no_matter(brain):
    scaled = {**brain, "image": brain["image"] * 512}
    for seed in SEEDS:
        torch.testing.assert_close(changed(scaled, seed), changed(brain, seed) * 512, rtol=1e-4, atol=1e-2)


def test_borders_are_smoothed_within_the_content_alone():
    halves = torch.ones(1, 12, 4, 4)
    halves[:, 6:] = 2
    item = {"image": halves, "regions": halves}
    plain, smoothed = (changed(item, 0, smoothing=width)[0, :, 2, 2].round(decimals=2) for width in (0.0, 0.6))
    assert [len(part.unique()) for part in plain.split((4, 4, 4))] == [1, 2, 1]
    assert [len(part.unique()) for part in smoothed.split((4, 4, 4))] == [1, 4, 1]
    bare = {"image": torch.zeros(1, 9, 9, 9), "regions": torch.zeros(1, 9, 9, 9)}
    bare["image"][:, 3:6, 3:6, 3:6] = torch.linspace(1, 2, 27).reshape(3, 3, 3)
    wide = {key: torch.nn.functional.pad(value, (4,) * 6) for key, value in bare.items()}
    torch.testing.assert_close(changed(wide, 0)[:, 4:-4, 4:-4, 4:-4], changed(bare, 0))


def test_an_empty_image_passes_unchanged():
    item = {"image": torch.zeros(1, 4, 4, 4), "regions": torch.zeros(1, 4, 4, 4)}
    assert torch.equal(changed(item, 0), item["image"])


@pytest.mark.parametrize("options", [{"knots": 1}, {"step": -0.1}, {"smoothing": -1.0}])
def test_options_that_are_not_legal_are_refused(options):
    with pytest.raises(ValueError, match="are not legal; legal are two knots or more"):
        RandRegionContrastd(**options)


def test_regions_on_another_grid_are_refused_with_the_remedy():
    item = {"image": torch.ones(1, 4, 4, 4), "regions": torch.ones(1, 5, 4, 4)}
    with pytest.raises(ValueError, match=r"\(1, 4, 4, 4\) and 'regions' \(1, 5, 4, 4\); legal.*ResampleToMatchd"):
        changed(item, 0)
