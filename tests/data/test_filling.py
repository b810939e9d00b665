"""Laws of intensities: what a canvas adds to a volume, and the unit of its values, change nothing inside."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import NormalizeIntensity
from scipy.ndimage import affine_transform, gaussian_filter
from scipy.spatial.transform import Rotation

from equivariant_nets.data import (
    LoadVolumed,
    NormalizeContentd,
    ZeroBackgroundd,
    brain_structures_datalist,
    filling_mask,
    hippocampus_datalist,
)

SIZE = (22, 26, 20)


def tissue(seed=0, size=SIZE):
    """Smooth anatomy between 20 and 200 with noise, and dark voxels of value 0 inside and at the border."""
    random = np.random.RandomState(seed)
    volume = gaussian_filter(random.randn(*size), 2.0)
    volume = 110 + 90 * volume / np.abs(volume).max() + random.randn(*size)
    volume[8:12, 8:12, 8:12] = volume[:2, :3, :3] = 0
    return volume


def normalized(volume):
    return np.asarray(NormalizeContentd("image")({"image": torch.from_numpy(volume)[None]})["image"][0])


def turned(volume, order, filling):
    """As any resampling tool turns it: on a canvas that holds it all. Returns the canvas, and where it is filled."""
    matrix = Rotation.from_euler("zyx", [40, 25, 10], degrees=True).as_matrix()
    shape = np.ceil(np.abs(matrix.T) @ volume.shape).astype(int)
    offset = (np.array(volume.shape) - 1) / 2 - matrix @ ((shape - 1) / 2)
    options = {"matrix": matrix, "offset": offset, "output_shape": tuple(shape)}
    inside = affine_transform(np.ones(volume.shape), order=0, **options) > 0
    return affine_transform(volume, order=order, cval=filling, **options), ~inside


VALUES = {
    "as scanned": lambda v: v,
    "another unit": lambda v: 3.7 * v + 1000,
    "mean 0": lambda v: (v - v.mean()) / v.std(),
    "large": lambda v: 1e4 * v,
    "negative": lambda v: v - 5000,
}


@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize("filling", ["lowest", "highest", 0.0, -1024.0, 77.0])
def test_margins_their_value_and_the_unit_leave_the_content_as_it_was(values, filling):
    volume = VALUES[values](tissue())
    filling = {"lowest": volume.min(), "highest": volume.max()}.get(filling, filling)
    margins = [(7, 3), (4, 11), (9, 1)]
    inside = tuple(slice(before, -after) for before, after in margins)
    result = normalized(np.pad(volume, margins, constant_values=filling))
    outside = np.ones(result.shape, dtype=bool)
    outside[inside] = False
    # Voxels that touch a margin of their own value cannot be told from it.
    content = np.abs(volume - filling) > 0.02 * (volume.max() - volume.min())
    np.testing.assert_allclose(result[inside][content], normalized(tissue())[content], atol=0.02)
    assert (result[outside] == 0).all()


def test_nothing_is_lost_where_nothing_was_filled():
    for seed in range(5):
        for volume in (tissue(seed), tissue(seed).round(), tissue(seed).clip(40, 180)):
            assert not filling_mask(volume).any()


def test_dark_voxels_inside_are_content():
    volume = np.pad(tissue(), 5)
    mask = filling_mask(volume)
    assert not mask[5:-5, 5:-5, 5:-5][8:12, 8:12, 8:12].any()
    assert mask.sum() >= mask.size - tissue().size


@pytest.mark.parametrize("order", [0, 1, 3])
@pytest.mark.parametrize("filling", [0.0, 300.0, -1024.0])
def test_corners_of_a_turned_file_are_found(order, filling):
    canvas, filled = turned(tissue(), order, filling)
    found = filling_mask(canvas)
    assert (found & ~filled).mean() < 0.003
    assert (filled & ~found).mean() < 0.003


@pytest.mark.parametrize("order", [1, 3])
def test_a_turn_leaves_the_content_as_it_was(order):
    canvas, _ = turned(tissue(), order, 0.0)
    expected, filled = turned(normalized(tissue()), order, 0.0)
    inside = ~filled & (np.abs(expected) < 1.5)
    assert np.abs(normalized(canvas) - expected)[inside].mean() < 0.1


def test_a_file_whose_splines_ring_is_still_filled():
    ball = np.pad(tissue(), 8)
    rung, _ = turned(ball, 3, 0.0)
    rung += 0.2 * np.random.RandomState(0).randn(*rung.shape) * (np.abs(rung) < 1)
    assert filling_mask(rung)[0].all()
    assert filling_mask(rung).mean() == pytest.approx(filling_mask(turned(ball, 1, 0.0)[0]).mean(), abs=0.05)


def test_outliers_are_cut():
    volume = tissue()
    volume[11, 13, 10] = 1e6
    result = normalized(volume)
    assert result.max() == 5
    volume[11, 13, 10] = 200
    np.testing.assert_allclose(
        np.delete(result, result.argmax()), np.delete(normalized(volume), result.argmax()), atol=0.01
    )


def test_each_channel_for_itself_with_its_metadata():
    image = MetaTensor(torch.from_numpy(np.stack([tissue(0), 5 * np.pad(tissue(1)[2:-2, 2:-2, 2:-2], 2)])))
    image.affine[0, 3] = 12
    result = NormalizeContentd("image")({"image": image})["image"]
    assert isinstance(result, MetaTensor)
    assert result.affine[0, 3] == 12
    assert result.dtype == torch.float32
    np.testing.assert_array_equal(result[0], normalized(tissue(0)))
    assert (result[1][0] == 0).all()


@pytest.mark.parametrize("size", [(1, 1, 1), (2, 2, 2), (3, 1, 5)])
def test_tiny_volumes_are_finite(size):
    volume = np.random.RandomState(0).randn(*size)
    assert np.isfinite(normalized(volume)).all()


def test_constant_volumes_are_finite():
    assert np.isfinite(normalized(np.full((4, 4, 4), 3.0))).all()


def test_real_crops_have_no_filling(real_hippocampus):
    for case in hippocampus_datalist(real_hippocampus, "validation"):
        assert not filling_mask(LoadVolumed("image")(case)["image"][0].numpy()).any()


def stripped(size=(30, 34, 28)):
    """A brain of values from 20 to 200 in a background of 0, and where it is."""
    indices = np.indices(size) - (np.array(size).reshape(3, 1, 1, 1) - 1) / 2
    brain = np.linalg.norm(indices / np.array([12, 14, 11]).reshape(3, 1, 1, 1), axis=0) < 1
    return np.where(brain, np.clip(tissue(size=size), 20, None), 0), brain


def standardised(volume):
    """What a bundle of skull-stripped brains makes of a file, and where it finds the brain."""
    found = ZeroBackgroundd("image")({"image": torch.from_numpy(np.array(volume, dtype=np.float64))[None]})["image"]
    brain = np.asarray(found[0] > 0)
    return np.asarray(NormalizeIntensity(nonzero=True)(found)[0]), brain


BACKGROUNDS = {
    "as stripped": lambda v, brain: v,
    "another unit": lambda v, brain: 3.7 * v + 1000,
    "dark": lambda v, brain: np.where(brain, v, -1024),
    "bright": lambda v, brain: np.where(brain, v, 255),
    "standardised within the mask": lambda v, brain: np.where(brain, (v - v[brain].mean()) / v[brain].std(), 0),
    "noise of a thousandth": lambda v, brain: np.where(brain, v, 0.1 * np.random.RandomState(0).rand(*v.shape)),
}


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_a_stripped_brain_is_the_same_whatever_its_background_is(background):
    volume, brain = stripped()
    result, found = standardised(BACKGROUNDS[background](volume, brain))
    expected = np.asarray(NormalizeIntensity(nonzero=True)(torch.from_numpy(volume)[None])[0])
    assert (found != brain).sum() < 0.002 * brain.sum()
    np.testing.assert_allclose(result[found & brain], expected[found & brain], atol=0.02)
    assert (result[~found] == 0).all()


@pytest.mark.parametrize("background", [-1024.0, -300.0, 0.0, 5.0])
def test_no_background_leaves_a_step_that_resampling_smears(background):
    volume, brain = stripped()
    file = torch.from_numpy(np.where(brain, volume, background))[None]
    zeroed = ZeroBackgroundd("image")({"image": file})["image"]
    resampled, expected = (
        torch.nn.functional.avg_pool3d(v.double(), 2) for v in (zeroed, torch.from_numpy(volume)[None])
    )
    results = [np.asarray(NormalizeIntensity(nonzero=True)(v)) for v in (resampled, expected)]
    np.testing.assert_allclose(*results, atol=0.6)


@pytest.mark.parametrize("written", [lambda v: v, lambda v: v.clip(0), lambda v: v.clip(0).round().astype(np.int16)])
def test_a_stripped_brain_that_splines_turned_is_found_as_before(written):
    """They ring about the background, on both sides of it, as windowed sinc does."""
    volume, brain = stripped()
    canvas, _ = turned(volume, 3, 0.0)
    result, found = standardised(written(canvas))
    expected, _ = standardised(turned(volume, 1, 0.0)[0])
    place = turned(brain.astype(float), 1, 0.0)[0]
    assert (canvas < -1).any()
    assert found[place > 0.9].mean() > 0.99
    assert (found & (place == 0)).sum() < 0.2 * brain.sum()
    assert np.abs(result - expected)[place == 1].mean() < 0.25


def test_a_volume_without_background_begins_at_0():
    volume = tissue()
    result = ZeroBackgroundd("image")({"image": torch.from_numpy(volume)[None]})["image"][0].numpy()
    np.testing.assert_allclose(result, volume - volume.min(), rtol=1e-5)


def test_real_brains_keep_their_values(real_brain_structures):
    for case in brain_structures_datalist(real_brain_structures, "validation"):
        volume = LoadVolumed("image")(case)["image"]
        result = ZeroBackgroundd("image")({"image": volume})["image"]
        assert torch.equal(result[result > 1], volume[result > 1].float())
        assert ((result > 0) != (volume > 0)).sum() < 0.002 * (volume > 0).sum()
