"""Laws of the classes of a brain tumour, of its regions, and of the loss on them."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.losses import DiceLoss

from equivariant_nets.data import LabelToRegionsd, RegionLoss, RegionsToLabeld, UnifyTumorLabelsd, label_to_regions
from equivariant_nets.data.brain_tumor import CLASS_NAMES, REGIONS

CLASSES = torch.tensor([0, 1, 2, 3])
NAMES = ("ET", "TC", "WT")


def volume(values, **meta):
    """One voxel a value, (1, N, 1, 1), with a file's name and a shifted affine."""
    affine = torch.eye(4, dtype=torch.float64)
    affine[0, 3] = 5
    values = torch.as_tensor(values).reshape(1, -1, 1, 1)
    return MetaTensor(values, affine=affine, meta={"filename_or_obj": "truth.nii.gz", **meta})


def unify(values, convention):
    return UnifyTumorLabelsd()({"label": volume(values), "convention": convention})["label"]


@pytest.mark.parametrize(
    ("values", "convention", "classes"),
    [
        ([0, 1, 2, 3], "msd", [0, 1, 2, 3]),
        ([0, 1, 2, 3, 4], "brats2016", [0, 2, 1, 2, 3]),
        ([0, 1, 2, 4], "brats2021", [0, 2, 1, 3]),
        ([0, 1, 2, 3], "brats2023", [0, 2, 1, 3]),
        ([0, 1, 2, 3, 4], "brats2024", [0, 2, 1, 3, 0]),  # a resection cavity is background
        ([0, 1, 2, 3, 4], "brats2024-ped", [0, 3, 2, 2, 1]),  # a cyst does not enhance
    ],
)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.float32, torch.float64])
def test_every_convention_gives_the_same_classes(values, convention, classes, dtype):
    result = unify(torch.tensor(values, dtype=dtype), convention)
    assert result.flatten().tolist() == classes
    assert result.dtype == dtype
    assert result.shape == (1, len(values), 1, 1)
    assert result.meta["filename_or_obj"] == "truth.nii.gz"
    assert result.affine[0, 3] == 5


def test_the_label_given_is_not_changed_and_arrays_are_legal():
    given = np.array([0, 1, 2, 4], np.uint8).reshape(1, 4, 1, 1)
    result = UnifyTumorLabelsd()({"label": given, "convention": "brats2021"})["label"]
    assert given.flatten().tolist() == [0, 1, 2, 4]
    assert isinstance(result, np.ndarray)
    assert result.flatten().tolist() == [0, 2, 1, 3]


def test_data_without_a_label_passes():
    item = {"image": volume([1])}
    assert UnifyTumorLabelsd()(item) == item


@pytest.mark.parametrize(
    ("values", "convention", "message"),
    [
        ([0.0, 4.0], "msd", "label values 4 are not legal; legal for a label of 'msd' are 0, 1, 2, 3"),
        ([3.0, 5.0, -1.0], "brats2021", "label values -1, 3, 5 are not .* for a label of 'brats2021' are 0, 1, 2, 4"),
        ([0.5], "brats2021", "label values 0.5 are not legal"),
        ([float("nan")], "msd", "label values nan are not legal"),
        ([0.0], "decathlon", r"convention='decathlon' is unknown\. Legal are msd \(.*; brats2021 \("),
    ],
)
def test_illegal_labels_are_refused_and_the_file_is_named(values, convention, message):
    with pytest.raises(ValueError, match=rf"truth\.nii\.gz.*{message}"):
        unify(values, convention)


def test_labels_of_several_channels_and_without_convention_are_refused():
    with pytest.raises(ValueError, match=r"shape is \(2, 1, 1, 1\); legal is \(1, D, H, W\)"):
        UnifyTumorLabelsd()({"label": torch.zeros(2, 1, 1, 1), "convention": "msd"})
    with pytest.raises(ValueError, match="convention=None is unknown"):
        UnifyTumorLabelsd()({"label": volume([0])})


def test_regions_are_nested_unions_of_the_classes():
    assert set(REGIONS["ET"]) < set(REGIONS["TC"]) < set(REGIONS["WT"]) < set(range(len(CLASS_NAMES)))
    channels = LabelToRegionsd("label", NAMES)({"label": volume([0, 1, 2, 3])})["label"]
    assert channels.flatten(1).tolist() == [[0, 0, 0, 1], [0, 0, 1, 1], [0, 1, 1, 1]]
    assert channels.dtype == torch.float32
    assert channels.meta["filename_or_obj"] == "truth.nii.gz"
    assert channels.affine[0, 3] == 5


@pytest.mark.parametrize("names", [NAMES, ("WT", "ET", "TC"), ("TC", "WT", "ET")])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_classes_come_back_from_the_regions_in_any_order_of_channels(names, dtype):
    label = volume(CLASSES.to(dtype))
    channels = LabelToRegionsd("label", names)({"label": label})
    back = RegionsToLabeld("label", names)(channels)["label"]
    assert torch.equal(back.as_tensor(), label.as_tensor().float())
    assert back.meta["filename_or_obj"] == "truth.nii.gz"


def test_an_inner_region_is_written_over_an_outer_one_also_where_channels_are_not_nested():
    channels = torch.tensor([[1.0, 0, 0, 0.4], [0, 1, 0, 0.4], [0, 1, 1, 0.4]]).reshape(3, 4, 1, 1)
    assert RegionsToLabeld("pred", NAMES)({"pred": channels})["pred"].flatten().tolist() == [3, 2, 1, 0]


@pytest.mark.parametrize("names", [(), ("ET", "ED"), ("ET", "ET"), "whole"])
def test_unknown_regions_are_refused(names):
    for make in (
        lambda: LabelToRegionsd("label", names),
        lambda: RegionsToLabeld("label", names),
        lambda: label_to_regions(CLASSES[None], names),
        lambda: RegionLoss(DiceLoss(), names),
    ):
        with pytest.raises(ValueError, match=r"regions=.* is not legal; give one or more of ET, TC, WT"):
            make()


def test_wrong_numbers_of_channels_are_refused():
    with pytest.raises(ValueError, match=r"number of channels is 2; legal is 3, one for each of ET, TC, WT"):
        RegionsToLabeld("pred", NAMES)({"pred": torch.zeros(2, 1, 1, 1)})
    with pytest.raises(ValueError, match=r"shape \(2, 1, 1\); legal is one channel on axis 0"):
        label_to_regions(torch.zeros(2, 1, 1))
    loss = RegionLoss(DiceLoss(sigmoid=True))
    with pytest.raises(ValueError, match=r"logits is of shape \(1, 4, 2, 2, 2\); legal are 3 channels"):
        loss(torch.zeros(1, 4, 2, 2, 2), torch.zeros(1, 1, 2, 2, 2))
    with pytest.raises(ValueError, match="legal is one channel on axis 1"):
        loss(torch.zeros(1, 3, 2, 2, 2), torch.zeros(1, 3, 2, 2, 2))


@pytest.mark.parametrize("names", [NAMES, ("WT",)])
def test_the_loss_on_classes_is_the_loss_on_hand_made_regions(names):
    random = torch.Generator().manual_seed(0)
    label = torch.randint(0, 4, (2, 1, 4, 5, 6), generator=random)
    logits = torch.randn(2, len(names), 4, 5, 6, generator=random, requires_grad=True)
    by_hand = {"ET": label == 3, "TC": label >= 2, "WT": label >= 1}
    targets = torch.cat([by_hand[name] for name in names], dim=1).float()
    dice = DiceLoss(sigmoid=True)
    for given in (label, label.float(), MetaTensor(label)):
        result = RegionLoss(dice, names)(logits, given)
        torch.testing.assert_close(torch.as_tensor(result), dice(logits, targets), rtol=0, atol=0)
    result.backward()
    assert logits.grad.abs().sum() > 0
