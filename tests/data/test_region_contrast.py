"""Contrasts drawn for the regions of a brain: what they change and leave; pose, side, unit and grid are no matter."""

import csv

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Orientation, Spacing, SpatialCrop

from equivariant_nets.data import (
    LABEL_TABLES,
    BrainRegionsd,
    LoadVolumed,
    RandRegionContrastd,
    ZeroBackgroundd,
    brain_structures_datalist,
    write_brain_phantoms,
)
from equivariant_nets.data.brain_structures.labels import regions_without_sides

SEEDS = range(6)
LOAD = Compose([LoadVolumed(("image", "label")), ZeroBackgroundd("image")])
NEUROMORPHOMETRICS = "neuromorphometrics"


@pytest.fixture(scope="module", params=["miccai", "mindboggle", "real"])
def loaded(request, tmp_path_factory):
    if request.param == "real":
        folder = request.getfixturevalue("real_brain_structures")
    else:
        folder = tmp_path_factory.mktemp("brains")
        write_brain_phantoms(folder, request.param, size=(32, 40, 32), num_cases=4)
    return LOAD(brain_structures_datalist(folder, "training")[0])


@pytest.fixture(scope="module")
def brain(loaded):
    return BrainRegionsd()(loaded)


def item(image, label):
    """A brain of arrays, with its regions."""
    both = {"image": MetaTensor(image[None]), "label": MetaTensor(label[None]), "convention": NEUROMORPHOMETRICS}
    return BrainRegionsd()(both)


def cubes(means, spread=0.1, edge=6):
    """A brain of cubes beside each other, each a region without sides, of the given mean intensities."""
    generator = torch.Generator().manual_seed(0)
    texture = spread * torch.randn(len(means), edge, edge, edge, generator=generator).clamp(-3, 3)
    image = (torch.tensor(means).view(-1, 1, 1, 1) + texture - texture.mean((1, 2, 3), keepdim=True)).flatten(0, 1)
    label = torch.tensor([4, 11, 35, 46, 69, 71, 72, 73])[: len(means)].repeat_interleave(edge)
    return item(image, label.view(-1, 1, 1).expand(image.shape).clone())


def changed(brain, seed, key="image", **options):
    return RandRegionContrastd(key, prob=1.0, **options).set_random_state(seed)(brain)[key]


def means(image, brain):
    regions = brain["regions"].as_tensor()
    return np.array([float(image.as_tensor()[regions == k].mean()) for k in range(1, int(regions.max()) + 1)])


def test_the_sides_are_those_of_the_published_table(real_brain_structures):
    with (real_brain_structures / "labels.csv").open() as file:
        codes = {row["Label Name"]: int(row["Label Number"]) for row in csv.DictReader(file)}
    pairs = {
        code: codes[name.replace("Right", "Left")]
        for name, code in codes.items()
        if name.startswith("Right") and name.replace("Right", "Left") in codes
    }
    expected = [pairs.get(code, code) for code in range(64)] + [pairs.get(code, code) for code in range(69, 208)]
    given = torch.tensor([*range(64), *range(69, 208)])  # 65 to 68 are parts that no label map here has
    assert regions_without_sides(given, NEUROMORPHOMETRICS).tolist() == expected


@pytest.mark.parametrize("convention", LABEL_TABLES)
def test_both_sides_of_a_structure_are_one_region(convention):
    for values in LABEL_TABLES[convention].values():
        assert regions_without_sides(torch.tensor(values[::2]), convention).tolist() == list(values[1::2] or values)
    far = torch.tensor([0, 5000, 11177])
    assert regions_without_sides(far, convention).tolist() == far.tolist()


def test_regions_are_those_of_the_label_map_within_the_brain(loaded, brain):
    image, label, regions = (brain[key].as_tensor() for key in ("image", "label", "regions"))
    codes = regions_without_sides(label.long(), loaded["convention"])
    assert torch.equal(regions > 0, image > 0)
    assert len(brain["region_means"]) == regions.max() + 1
    for k in range(1, int(regions.max()) + 1):
        (code,) = codes[regions == k].unique()
        assert torch.equal(regions == k, (codes == code) & (image > 0))
        assert float(brain["region_means"][k]) == pytest.approx(float(image[regions == k].double().mean()), rel=1e-5)


def test_values_that_are_whole_but_for_rounding_are_the_same_regions(loaded, brain):
    noisy = {**loaded, "label": loaded["label"] + 1e-4 * torch.randn(loaded["label"].shape)}
    assert torch.equal(BrainRegionsd()(noisy)["regions"], brain["regions"])


def test_an_item_without_a_label_passes():
    image = {"image": torch.ones(1, 2, 2, 2)}
    assert BrainRegionsd()(image) == image


def test_background_stays_and_content_stays_content(brain):
    for seed in SEEDS:
        image = changed(brain, seed)
        assert torch.equal(image > 0, brain["image"] > 0)
        assert torch.equal(image.affine, brain["image"].affine)
        assert image.dtype == torch.float32


def test_the_item_that_was_given_is_left_as_it_was(brain):
    before = brain["image"].clone()
    assert not torch.equal(changed(brain, 0), before)
    assert torch.equal(brain["image"], before)
    assert RandRegionContrastd(prob=0.0)(brain)["image"] is brain["image"]


def test_as_many_are_changed_as_is_asked():
    brain, transform = cubes([1.0, 2.0], edge=2), RandRegionContrastd(prob=0.3).set_random_state(0)
    share = np.mean([transform(brain)["image"] is not brain["image"] for _ in range(400)])
    assert 0.23 < share < 0.37


def test_the_order_of_the_regions_is_kept_by_some_and_turned_round_by_others(brain):
    before = brain["region_means"][1:].numpy()
    orders = [np.corrcoef(before, means(changed(brain, seed), brain))[0, 1] for seed in range(20)]
    assert min(orders) < -0.2
    assert max(orders) > 0.7


def test_the_curve_has_as_many_bends_as_knots_between_its_ends():
    brain = cubes(np.linspace(1, 2, 8).tolist())
    bent = {
        knots: [np.abs(np.diff(means(changed(brain, seed, knots=knots, step=0.0), brain), 2)).max() for seed in SEEDS]
        for knots in (2, 5)
    }
    assert np.median(bent[2]) < 1e-4 < min(bent[5])  # where the darkest is cut off, two knots bend too


def test_regions_of_one_intensity_are_parted_by_steps_alone():
    brain = cubes([1.0, 2.0, 2.0, 2.0])
    for seed in SEEDS:
        assert np.ptp(means(changed(brain, seed, step=0.0), brain)[1:]) < 1e-4
        assert np.ptp(means(changed(brain, seed, step=0.1), brain)[1:]) > 1e-3


def test_the_texture_within_a_region_has_a_random_gain_and_is_kept():
    brain = cubes([2.0, 3.0, 4.0])
    before = brain["image"][0] - brain["region_means"][brain["regions"][0].long()]
    gains = []
    for seed in range(12):
        image = changed(brain, seed)[0].as_tensor()
        after = torch.cat([part - part.mean() for part in image.split(6)])
        gains.append(float((after * before).sum() / (before * before).sum()))
        assert torch.allclose(after, gains[-1] * before.as_tensor(), atol=1e-4)
    assert min(gains) < -0.3
    assert max(gains) > 0.7


def test_a_turned_brain_has_the_turned_contrast(loaded, brain):
    for turn in ((1, 2), (2, 3), (1, 3)):
        turned = {key: MetaTensor(torch.rot90(loaded[key].as_tensor(), 1, turn)) for key in ("image", "label")}
        turned = BrainRegionsd()({**loaded, **turned})
        for seed in SEEDS[:2]:
            expected = torch.rot90(changed(brain, seed).as_tensor(), 1, turn)
            torch.testing.assert_close(
                changed(turned, seed).as_tensor(), expected, rtol=1e-4, atol=1e-4 * float(expected.max())
            )


def test_exchanged_sides_change_nothing():
    generator = torch.Generator().manual_seed(0)
    image = 1 + torch.rand(8, 8, 8, generator=generator)
    right, left = torch.tensor([[23, 47, 76, 44, 100, 206], [30, 48, 75, 45, 101, 207]])
    parts = torch.randint(6, (8, 8, 8), generator=generator)
    for seed in SEEDS:
        torch.testing.assert_close(changed(item(image, right[parts]), seed), changed(item(image, left[parts]), seed))


@pytest.mark.parametrize("factor", [512.0, 1e-6])
def test_the_unit_of_intensity_is_no_matter(loaded, brain, factor):
    scaled = BrainRegionsd()({**loaded, "image": loaded["image"] * factor})
    for seed in SEEDS:
        expected = changed(brain, seed) * factor
        torch.testing.assert_close(changed(scaled, seed), expected, rtol=1e-4, atol=1e-4 * float(expected.max()))


def test_it_is_the_same_before_and_after_the_image_is_oriented_resampled_and_cropped(brain):
    """So voxels that hold two regions, or background, hold the same shares of what is drawn for them."""
    space = Spacing((1.5, 1.5, 1.5), mode="bilinear", padding_mode="zeros")
    resample = Compose([Orientation("PIR", labels=None), space, SpatialCrop(roi_start=(1, 2, 3), roi_end=(90, 90, 90))])
    for seed in SEEDS[:3]:
        expected = resample(changed(brain, seed)).as_tensor()
        given = changed({**brain, "image": resample(brain["image"])}, seed).as_tensor()
        error = (given - expected).abs() / expected.max()
        assert (error > 1e-3).float().mean() < 0.02  # where it would be less than 0, and is cut
        assert error.mean() < 2e-4


def test_all_images_of_an_item_are_given_the_same(brain):
    both = {**brain, "other": brain["image"]}
    result = RandRegionContrastd(("image", "other"), prob=1.0).set_random_state(0)(both)
    assert torch.equal(result["image"], result["other"])


def test_an_empty_image_passes_unchanged():
    empty = item(torch.zeros(4, 4, 4), torch.ones(4, 4, 4))
    assert torch.equal(changed(empty, 0), empty["image"])


@pytest.mark.parametrize("options", [{"knots": 1}, {"step": -0.1}])
def test_options_that_are_not_legal_are_refused(options):
    with pytest.raises(ValueError, match="are not legal; legal are two knots or more"):
        RandRegionContrastd(**options)


def test_an_item_without_regions_is_refused_with_the_remedy_whether_it_is_changed_or_not():
    with pytest.raises(ValueError, match=r"holds image; legal is one with 'regions'.* Put BrainRegionsd before"):
        RandRegionContrastd(prob=0.0)({"image": torch.ones(1, 4, 4, 4)})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"convention": "aseg"}, "the item's 'convention' is 'aseg'; legal are neuromorphometrics and freesurfer"),
        ({"convention": None}, "the item's 'convention' is None; legal are"),
        (
            {"image": torch.ones(1, 5, 4, 4)},
            r"\(1, 4, 4, 4\), that of 'image' \(1, 5, 4, 4\).* Put BrainRegionsd",
        ),
        ({"label": torch.full((1, 4, 4, 4), -1.0)}, "label .*-1"),
        ({"label": torch.full((1, 4, 4, 4), 4.5)}, "label .*4.5"),
        ({"label": torch.ones(2, 4, 4, 4)}, "label .*2"),
    ],
)
def test_label_maps_that_are_not_legal_are_refused_with_the_remedy(changes, message):
    ones = torch.ones(1, 4, 4, 4)
    with pytest.raises(ValueError, match=message):
        BrainRegionsd()({"image": ones, "label": ones, "convention": NEUROMORPHOMETRICS, **changes})
