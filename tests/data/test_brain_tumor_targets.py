"""What a bundle of brain tumours may be trained on, and how its results are named."""

import re
from pathlib import Path

import pytest
from monai.data import MetaTensor

from equivariant_nets.data import LoadVolumed, tumor_image_datalist, write_tumor_phantoms
from equivariant_nets.data.brain_tumor import REGIONS, name_by_case, target_channels, target_regions


@pytest.mark.parametrize(
    ("targets", "channels", "regions"),
    [("classes", 4, ["ET", "TC", "WT"]), ("regions", 3, ["ET", "TC", "WT"]), ("whole", 1, ["WT"])],
)
def test_targets_decide_channels_and_regions(targets, channels, regions):
    assert target_channels(targets) == channels
    assert target_regions(targets) == regions
    assert set(regions) <= set(REGIONS)


@pytest.mark.parametrize("targets", ["tumour", "WT", "", None])
@pytest.mark.parametrize("function", [target_channels, target_regions])
def test_other_targets_say_what_is_legal(function, targets):
    with pytest.raises(ValueError, match=re.escape(f"targets={targets!r} is not one of classes, regions, whole.")):
        function(targets)


@pytest.mark.parametrize("layout", ["msd", "brats2020", "brats2021", "brats2023"])
def test_files_are_named_by_the_case_of_the_list(tmp_path, layout):
    write_tumor_phantoms(tmp_path / layout, layout, num_cases=2, size=(16, 16, 16))
    items = tumor_image_datalist(tmp_path / layout)
    assert len({item["case"] for item in items}) == 2
    for item in items:
        assert Path(name_by_case(LoadVolumed("image")(item)["image"].meta)["subject"]).name == f"{item['case']}.nii.gz"


@pytest.mark.parametrize(
    ("meta", "subject"),
    [
        ({"filename_or_obj": "some/scan_t2.nii.gz"}, "some/scan_t2"),  # one file of four channels is called as it is
        ({"filename_or_obj": "some/sub.1-t2f.nii", "channel_files": ["some/sub.1-t2f.nii"]}, "sub.1"),
    ],
)
def test_names_of_any_spelling(meta, subject):
    assert name_by_case(MetaTensor([0.0], meta=meta).meta)["subject"] == f"{subject}.nii.gz"
