"""Laws of the preparation of fundus photographs, and of patches."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from photographs import photograph

from equivariant_nets.data import FieldOfViewd, LoadVolumed, NormalizeFundusd, PatchDataset, direction_shares
from equivariant_nets.data.retina import retina_datalist


def item(seed=0, size=(44, 40)):
    image, label, mask = photograph(np.random.RandomState(seed), size)
    return {
        "image": MetaTensor(torch.from_numpy(image).permute(2, 1, 0).float()),
        "label": MetaTensor((torch.from_numpy(label).T[None] > 0).float()),
        "mask": MetaTensor((torch.from_numpy(mask).T[None] > 0).float()),
    }


def stripes(degrees, size=64, period=12.0):
    """Vessels that run in a direction, counted from the first axis to the second."""
    first, second = np.mgrid[:size, :size].astype(float)
    across = -first * np.sin(np.deg2rad(degrees)) + second * np.cos(np.deg2rad(degrees))
    return torch.from_numpy((across % period < 3).astype(np.float32))[None]


def test_the_field_of_view_is_found():
    given = item()
    found = FieldOfViewd()({"image": given["image"]})["mask"]
    assert found.shape == given["mask"].shape
    assert set(found.unique().tolist()) == {0.0, 1.0}
    assert (found == given["mask"]).float().mean() > 0.97


def test_a_given_field_of_view_is_kept():
    given = item()
    given["mask"] = given["mask"] * 255
    result = FieldOfViewd()(given)
    assert torch.equal(result["mask"].as_tensor(), item()["mask"].as_tensor())


def test_a_dark_hole_in_the_field_of_view_is_filled():
    given = item()
    given["image"][:, 18:22, 18:22] = 0
    assert FieldOfViewd()({"image": given["image"]})["mask"][0, 20, 20] == 1


def test_a_black_photograph_has_no_field_of_view():
    with pytest.raises(ValueError, match="shows no lit region"):
        FieldOfViewd()({"image": torch.zeros(3, 9, 9)})


def test_the_field_of_view_of_real_photographs(real_retina):
    for name, least in (("drive", 0.99), ("chase_db1", 0.97), ("stare", 0.98)):
        for case in retina_datalist(real_retina, "test", name, ["mask"])[:3]:
            loaded = LoadVolumed(["image", "mask"], reader="PILReader")(case)
            given = loaded.pop("mask") > 0
            found = FieldOfViewd()(loaded)["mask"] > 0
            assert 2 * (given & found).sum() / (given.sum() + found.sum()) > least


def test_normalised_images_are_zero_outside_and_centred_inside():
    given = item(size=(120, 120))
    result = NormalizeFundusd(sigma=15, rim=3)(given)
    image, inside = result["image"], given["mask"] > 0
    assert image.shape == (1, 120, 120)
    assert image[~inside].abs().max() == 0
    rim = inside & (torch.nn.functional.avg_pool2d(inside.float().as_tensor(), 3, 1, 1) < 0.9)
    assert image[rim].abs().max() == 0
    inside = image != 0
    assert image[inside].mean().abs() < 0.1
    assert 0.8 < image[inside].std() < 1.2
    assert image[(given["label"] > 0) & inside].mean() < -1  # vessels are dark


def test_illumination_does_not_matter():
    given = item(size=(120, 120))
    brighter = {**given, "image": given["image"] * 0.5 + 7 * given["mask"]}
    transform = NormalizeFundusd(sigma=15)
    assert torch.allclose(transform(given)["image"], transform(brighter)["image"], atol=1e-2)


def test_normalisation_turns_with_the_photograph():
    given = item(size=(61, 61))
    transform = NormalizeFundusd(sigma=8)
    turned = {key: MetaTensor(value.as_tensor().rot90(1, (1, 2))) for key, value in given.items()}
    expected = transform(given)["image"].as_tensor().rot90(1, (1, 2))
    assert torch.allclose(transform(turned)["image"].as_tensor(), expected, atol=1e-4)


@pytest.mark.parametrize("degrees", [20, 70, 110, 160])
def test_directions_of_stripes(degrees):
    shares = direction_shares(stripes(degrees))
    assert shares.argmax() == degrees // 45
    assert shares.max() > 0.7
    assert shares.sum() == pytest.approx(1)


def test_a_quarter_turn_moves_a_direction_by_two():
    label = stripes(20)
    assert np.allclose(direction_shares(label.rot90(1, (1, 2))), np.roll(direction_shares(label), 2), atol=0.02)


def test_no_vessels_have_no_direction():
    assert direction_shares(torch.zeros(1, 16, 16)).tolist() == [0, 0, 0, 0]


@pytest.fixture
def images():
    return [item(seed) for seed in range(3)]


def patches(images, **options):
    dataset = PatchDataset(images, **{"patch_size": 12, "length": 9, **options})
    dataset.set_random_state(0)
    return [dataset[index] for index in range(len(dataset))]


def same(a, b):
    return all(torch.equal(x[key], y[key]) for x, y in zip(a, b, strict=True) for key in ("image", "label", "mask"))


def test_patches_are_lit_and_lie_alike_in_image_and_label(images):
    for number, patch in enumerate(patches(images)):
        assert {tuple(patch[key].shape[1:]) for key in ("image", "label", "mask")} == {(12, 12)}
        assert patch["mask"].mean() >= 0.6
        whole = images[number % 3]
        windows = whole["image"].as_tensor().unfold(1, 12, 1).unfold(2, 12, 1).permute(1, 2, 0, 3, 4)
        (place,) = (windows == patch["image"].as_tensor()).all(-1).all(-1).all(-1).nonzero().tolist()
        label = whole["label"][:, place[0] : place[0] + 12, place[1] : place[1] + 12]
        assert torch.equal(label.as_tensor(), patch["label"].as_tensor())


def test_patches_are_drawn_anew_but_a_pool_comes_back(images):
    assert not same(patches(images)[:3], patches(images)[3:6])
    pool = patches(images, count=3)
    assert same(pool[:3], pool[3:6])
    assert same(pool, patches(images, count=3))
    assert not same(pool, patches(images, count=3, seed=1))


def test_a_smaller_pool_is_part_of_a_larger_one(images):
    assert same(patches(images, count=3)[:3], patches(images, count=6)[:3])


def test_patches_of_wanted_directions_alone(images):
    found = patches(images, count=6, length=6, directions=[0, 1], patch_size=16)
    shares = [direction_shares(patch["label"]) for patch in found]
    assert all(s.argmax() in (0, 1) and s.max() > 0.45 for s in shares)


def test_a_pool_is_not_changed_by_the_transform_of_its_patches(images):
    def black(patch):
        return {key: value * 0 for key, value in patch.items()}

    dataset = PatchDataset(images, 12, 3, count=3)
    before = dataset[0]
    dataset.transform = black
    assert dataset[0]["image"].abs().max() == 0
    dataset.transform = None
    assert torch.equal(dataset[0]["image"], before["image"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch_size": 50}, "patch_size=50 exceeds a photograph"),
        ({"patch_size": 0}, "patch_size=0 must be 1 or more"),
        ({"count": 0}, "count=0 must be 1 or more"),
        ({"directions": [4]}, r"directions=\[4\] is not legal"),
        ({"directions": []}, r"directions=\[\] is not legal"),
    ],
)
def test_illegal_patches(images, options, message):
    with pytest.raises(ValueError, match=message):
        patches(images, **options)


def test_directions_that_no_patch_has(images):
    for image in images:
        image["label"] = image["label"] * 0
    with pytest.raises(ValueError, match="No patch of 12 pixels was found in 3 photographs"):
        patches(images, directions=[0])
