"""Laws of the check of skull-stripping: it goes by litres alone, whatever the background, grid and orientation."""

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import NormalizeIntensity, Orientation, Spacing

from equivariant_nets.data import CheckSkullStrippedd, LoadVolumed, brain_structures_datalist, write_brain_phantoms
from equivariant_nets.data.brain_structures.skull import foreground_litres

SIZE = (32, 36, 28)
SPACING_MM = 5.5  # at which the brains are 1.4 to 1.6 L


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    """A brain, and the whole head that it was stripped from."""
    folder = tmp_path_factory.mktemp("heads")
    write_brain_phantoms(folder, "mindboggle", 3, SIZE, spacing_mm=SPACING_MM)
    brain = brain_structures_datalist(folder)[0]["image"]
    head = brain.replace("t1weighted_brain", "t1weighted")
    return {name: LoadVolumed("image")({"image": file})["image"] for name, file in (("brain", brain), ("head", head))}


def passes(image):
    try:
        return CheckSkullStrippedd()({"image": image})["image"] is image
    except ValueError:
        return False


def changed(image, array):
    return MetaTensor(torch.as_tensor(array), meta=image.meta)


def test_a_brain_passes_and_a_whole_head_does_not(volumes):
    assert passes(volumes["brain"])
    assert not passes(volumes["head"])
    litres, background = foreground_litres(volumes["brain"])
    assert background == 0
    assert litres == pytest.approx(int((volumes["brain"] > 0).sum()) * SPACING_MM**3 / 1e6, rel=1e-3)
    assert 1.2 < litres < 1.7


def test_the_message_names_the_file_the_litres_and_the_way_out(volumes):
    with pytest.raises(
        ValueError, match=r"t1weighted\.nii\.gz: [45]\.\d L .* up to 2\.3 L.*whole head.*SynthStrip.*--check_"
    ):
        CheckSkullStrippedd()({"image": volumes["head"]})
    image = volumes["head"]
    assert CheckSkullStrippedd(enabled=False)({"image": image})["image"] is image
    assert CheckSkullStrippedd(max_litres=10)({"image": image})["image"] is image


@pytest.mark.parametrize("axcodes", ["RAS", "LPS", "PIR", "SAL"])
def test_the_orientation_does_not_matter(volumes, axcodes):
    turn = Orientation(axcodes=axcodes, labels=None)
    litres = foreground_litres(volumes["brain"])
    assert foreground_litres(turn(volumes["brain"])) == pytest.approx(litres, rel=1e-9)
    assert not passes(turn(volumes["head"]))


@pytest.mark.parametrize("spacing_mm", [(2.0, 2.0, 2.0), (4.0, 2.0, 8.0)])
@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_the_spacing_does_not_matter(volumes, spacing_mm, mode):
    resample = Spacing(spacing_mm, mode=mode, padding_mode="zeros")
    expected = foreground_litres(volumes["brain"])[0]
    assert foreground_litres(resample(volumes["brain"]))[0] == pytest.approx(expected, rel=0.2)
    assert passes(resample(volumes["brain"]))
    assert not passes(resample(volumes["head"]))


@pytest.mark.parametrize("shear", [0.0, 0.3])
def test_litres_go_by_the_determinant_of_the_affine(volumes, shear):
    affine = volumes["brain"].affine.clone()
    affine[:3, :3] = affine[:3, :3] @ torch.tensor([[2.0, shear, 0], [0, 1, 0], [0, 0, 1]], dtype=affine.dtype)
    stretched = MetaTensor(volumes["brain"].as_tensor(), affine=affine)
    assert foreground_litres(stretched)[0] == pytest.approx(2 * foreground_litres(volumes["brain"])[0])


@pytest.mark.parametrize("background", [-1024.0, 0.0, 7.5, 40000.0])
def test_any_constant_is_a_background(volumes, background):
    image = volumes["brain"].as_tensor()
    moved = changed(volumes["brain"], image + background)
    assert foreground_litres(moved) == pytest.approx((foreground_litres(volumes["brain"])[0], background))
    assert not passes(changed(volumes["head"], volumes["head"].as_tensor() + background))


def test_normalized_images_are_told_apart(volumes):
    normalize = NormalizeIntensity()
    assert passes(normalize(volumes["brain"]))
    assert not passes(normalize(volumes["head"]))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
def test_data_types_do_not_matter_and_arrays_have_voxels_of_1_mm(dtype):
    ball = np.indices((40, 40, 40)) - 19.5
    inside = (ball**2).sum(0) < 15**2
    array = np.where(inside, 10, 200).astype(dtype)[None]  # darker than the background
    for image in (array, torch.as_tensor(array)):
        assert foreground_litres(image) == (pytest.approx(inside.sum() / 1e6), 200.0)
        with pytest.raises(ValueError, match=r"image \(no file name known\): 0\.0 L"):
            CheckSkullStrippedd(max_litres=0.01)({"image": image})


def test_a_tight_crop_that_the_brain_touches_passes(volumes):
    brain = volumes["brain"].as_tensor()[0]
    where = torch.nonzero(brain)
    low, high = where.min(0).values + 1, where.max(0).values
    cropped = brain[tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))][None]
    assert (cropped[:, 0] > 0).any()
    assert foreground_litres(changed(volumes["brain"], cropped))[1] == 0
    assert passes(changed(volumes["brain"], cropped))


def test_one_very_bright_voxel_hides_no_head(volumes):
    head = volumes["head"].as_tensor().clone()
    head[0, 16, 16, 16] = 1000 * head.max()
    assert not passes(changed(volumes["head"], head))


def test_noise_in_the_air_counts_but_padding_does_not_hide_it(volumes):
    padded = torch.nn.functional.pad(volumes["head"].as_tensor(), (10,) * 6)
    litres, background = foreground_litres(changed(volumes["head"], padded))
    assert background == 0
    assert litres > 4


def test_rounding_around_a_brain_is_no_head(volumes):
    noise = torch.rand(volumes["brain"].shape, generator=torch.Generator().manual_seed(0)) * 1e-3
    assert passes(changed(volumes["brain"], volumes["brain"].as_tensor() + noise))


def test_a_background_of_noise_far_below_the_brain_is_one_in_a_large_canvas(volumes):
    brain = torch.nn.functional.pad(volumes["brain"].as_tensor(), (10,) * 6)
    noise = torch.rand(brain.shape, generator=torch.Generator().manual_seed(0)) * 0.008 * brain[brain > 0].median()
    assert passes(changed(volumes["brain"], torch.where(brain > 0, brain, noise)))


def test_a_small_volume_is_no_error(volumes):
    assert passes(changed(volumes["head"], volumes["head"].as_tensor()[:, :12, :12, :12]))
    assert passes(torch.zeros(1, 4, 4, 4))


def test_every_channel_is_measured(volumes):
    both = torch.cat([volumes["brain"].as_tensor(), volumes["head"].as_tensor()])
    assert not passes(changed(volumes["brain"], both))


@pytest.mark.parametrize("max_litres", [0, -1.0, float("nan")])
def test_an_illegal_limit_is_refused(max_litres):
    with pytest.raises(ValueError, match="is not legal; give a positive volume"):
        CheckSkullStrippedd(max_litres=max_litres)


def test_whole_heads_in_the_place_of_brains_are_found(tmp_path):
    folder = write_brain_phantoms(tmp_path, "miccai", 3, SIZE, spacing_mm=SPACING_MM, whole_head=True)
    for item in brain_structures_datalist(folder):
        assert nib.load(item["image"]).header.get_zooms() == (SPACING_MM,) * 3
        assert not passes(LoadVolumed("image")(item)["image"])
