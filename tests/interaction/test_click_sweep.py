"""Laws of Dice against clicks: it starts where a rotation sweep ends, and grows with a network that obeys."""

import csv

import matplotlib.image
import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import AsDiscreted
from torch import nn

from equivariant_nets.data import LoadVolumed
from equivariant_nets.evaluation.on_files.sweep import FileRotationSweep
from equivariant_nets.interaction import ClickSweep, summarize_click_table

NAMES = {"one": 1, "two": 2, "background": 0}
COUNTS = [0, 1, 3, 6]


class Obedient(nn.Module):
    """Scores background everywhere but at the clicks, where it believes what it is told."""

    def forward(self, x):
        one, two, background = (x[:, [channel]] for channel in (1, 2, 3))
        return torch.cat([background + 0.1, one, two], 1)


class Deaf(nn.Module):
    """Reads the class off the intensity, but for what it cannot see, and ignores clicks."""

    def forward(self, x):
        return -((x[:, :1] - torch.tensor([0.0, 1.0, 5.0]).reshape(1, 3, 1, 1, 1)) ** 2)


def write_case(folder, number):
    """A label map that is its own image."""
    label = np.zeros((12, 14, 10), np.float32)
    label[2:6, 3:11, 3 : 7 + number] = 1
    label[7:10, 4:10, 2:8] = 2
    path = str(folder / f"{number}.nii.gz")
    nib.save(nib.Nifti1Image(label, np.eye(4)), path)
    return {"image": path, "label": path}


def load(item):
    volumes = LoadVolumed(["image", "label"])(item)
    image = volumes["image"].as_tensor()
    return {"image": torch.cat([image, torch.zeros(3, *image.shape[1:])]), "label": volumes["label"]}


def rows(kind, network, folder, **options):
    settings = {
        "network": network, "data": [write_case(folder, number) for number in (0, 1)],
        "preprocessing": load, "postprocessing": AsDiscreted(["pred", "label"], argmax=[True, False], to_onehot=3),
        "inferer": lambda x, net: net(x), "device": "cpu", "class_names": ["one", "two"], "include_background": False,
        "output_dir": folder, "angles_degrees": [0], "planes": ["axial"], "random_poses": 1,
    }  # fmt: skip
    clicks = {"label_names": NAMES, "click_counts": COUNTS} if kind is ClickSweep else {}
    with kind(**settings, **clicks, **options).run().open(newline="") as file:
        return list(csv.DictReader(file))


def test_clicks_help_a_network_that_obeys_in_every_pose(tmp_path):
    table = rows(ClickSweep, Obedient(), tmp_path)
    assert list(table[0]) == [
        "case", "plane", "angle_degrees", "clicks", "class", "dice", "interpolation_dice", "weights",
    ]  # fmt: skip
    assert len(table) == 2 * 2 * len(COUNTS) * 2
    summary = summarize_click_table(tmp_path / "click_dice.csv")
    assert list(summary) == ["0 degrees", "random rotations"]
    for curve in summary.values():
        assert list(curve) == COUNTS
        assert curve[0] == 0
        assert curve[0] < curve[1] < curve[3]
        assert curve[6] > 0.5
    assert matplotlib.image.imread(tmp_path / "click_dice.png").ndim == 3


def test_without_clicks_the_scores_are_those_of_the_rotation_sweep(tmp_path):
    clicked = [row for row in rows(ClickSweep, Deaf(), tmp_path) if row.pop("clicks") == "0"]
    assert clicked == rows(FileRotationSweep, Deaf(), tmp_path)


def test_a_network_that_is_deaf_to_clicks_gains_nothing(tmp_path):
    dice = {}
    for row in rows(ClickSweep, Deaf(), tmp_path):
        dice.setdefault((row["case"], row["plane"], row["class"]), set()).add(row["dice"])
    assert len(dice) == 2 * 2 * 2
    assert all(len(values) == 1 for values in dice.values())


def test_clicking_ends_where_all_is_right(tmp_path):
    class Perfect(nn.Module):
        calls = 0

        def forward(self, x):
            self.calls += 1
            return -((x[:, :1] - torch.tensor([0.0, 1.0, 2.0]).reshape(1, 3, 1, 1, 1)) ** 2)

    network = Perfect()
    table = rows(ClickSweep, network, tmp_path, num_cases=1)
    upright = [row for row in table if row["plane"] == "axial"]
    assert {row["dice"] for row in upright} == {"1.0"}
    assert {row["clicks"] for row in upright} == {str(count) for count in COUNTS}
    assert network.calls < 2 * (2 + COUNTS[-1])


@pytest.mark.parametrize("counts", [[], [-1, 2], [0, 1.5]])
def test_bad_numbers_of_clicks_are_refused(counts, tmp_path):
    with pytest.raises(ValueError, match="whole numbers from 0"):
        ClickSweep(
            network=Deaf(), data=[{"label": "a"}], preprocessing=load, postprocessing=load, inferer=load, device="cpu",
            class_names=["one"], include_background=False, output_dir=tmp_path, label_names=NAMES, click_counts=counts,
        )  # fmt: skip
