"""Laws of the evaluation of vessels under rotation."""

import csv

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import SimpleInferer
from monai.transforms import CropForegroundd, Resized

from equivariant_nets import ConventionalUNet, RegularUNet
from equivariant_nets.data import NormalizeFundusd
from equivariant_nets.evaluation.vessels import VesselEvaluation, predict_vessels

STANDARDIZING = [
    CropForegroundd(["image", "mask"], source_key="mask"),
    Resized(["image", "mask"], 40, size_mode="longest", mode=["bicubic", "bilinear"]),
    NormalizeFundusd(sigma=10),
]


class Dark(torch.nn.Module):
    """Finds what is darker than its surroundings."""

    def forward(self, x):
        return -4 * x


def photograph(size=(48, 44), shift=0):
    """A dark cross in a disc; the second observer drew it one pixel further."""
    first, second = np.mgrid[: size[0], : size[1]].astype(float)
    first, second = first - (size[0] - 1) / 2, second - (size[1] - 1) / 2
    mask = np.hypot(first, second) < 20
    label = ((np.abs(first - 3) < 1.6) | (np.abs(second + 4 + shift) < 1.6)) & mask
    image = np.where(mask, 150.0, 0.0) - 60 * label

    def tensor(array):
        return MetaTensor(torch.from_numpy(np.asarray(array, np.float32))[None])

    colours = MetaTensor(torch.cat([tensor(image)] * 3))
    return {
        "image": colours,
        "label": tensor(label),
        "mask": tensor(mask),
        "second_label": tensor(np.roll(label, 1, 0)),
    }


def evaluation(tmp_path, network=None, **options):
    items = [{"case": str(shift), "dataset": "ab"[shift % 2], "shift": shift} for shift in range(4)]

    def loading(item):
        loaded = photograph(shift=item["shift"])
        return loaded if item["dataset"] == "a" else {k: v for k, v in loaded.items() if k != "second_label"}

    defaults = {
        "threshold_data": items[:1],
        "data": items,
        "output_dir": tmp_path / "new",
        "angles_degrees": [0, 30, 90],
    }
    return VesselEvaluation(network or Dark(), SimpleInferer(), loading, STANDARDIZING, **{**defaults, **options})


def test_predictions_come_back_to_the_photograph():
    item = photograph()
    for degrees in (0, 30, 45, 90, 180, 200):
        probability = predict_vessels(Dark(), SimpleInferer(), STANDARDIZING, item, degrees)
        assert probability.shape == (1, 48, 44)
        assert type(probability) is torch.Tensor
        assert probability.min() >= 0
        assert probability.max() <= 1
        assert probability[item["mask"] == 0].max() == 0
        found = probability > 0.6
        dice = 2 * (found & (item["label"] > 0)).sum() / (found.sum() + item["label"].sum())
        assert dice > 0.8, degrees


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_quarter_turns_are_exact_for_the_equivariant_network_alone(degrees):
    torch.manual_seed(0)
    item = photograph()
    differences = []
    for net in (RegularUNet(group="C8", features=1, depth=1), ConventionalUNet(2, 1, 1, 8, 1, 3)):
        upright, turned = (predict_vessels(net, SimpleInferer(), STANDARDIZING, item, d) for d in (0, degrees))
        differences.append((turned - upright).abs().max())
    assert differences[0] < 1e-4 < 1e-2 < differences[1]


def test_every_data_set_angle_and_case_is_scored(tmp_path):
    result = evaluation(tmp_path).run()
    assert set(result) == {(name, angle) for name in "ab" for angle in (0, 30, 90)}
    with (tmp_path / "new" / "vessel_scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["dataset"], row["reader"]) for row in rows] == [
        *[("a", "network")] * 3, ("a", "second observer"), *[("b", "network")] * 3
    ]  # fmt: skip
    for row in rows:
        if row["reader"] == "network":
            assert float(row["dice"]) == pytest.approx(
                result[row["dataset"], float(row["angle_degrees"])]["dice"], abs=1e-5
            )
            assert float(row["dice"]) > 0.7
    assert len({row["threshold"] for row in rows if row["reader"] == "network"}) == 1
    with (tmp_path / "new" / "vessel_cases.csv").open() as file:
        assert [row["case"] for row in csv.DictReader(file)] == [case for case in "0213" for _ in range(3)]
    assert {row["weights"] for row in rows} == {"in memory", ""}  # the second observer has none
    assert (tmp_path / "new" / "vessel_dice.png").stat().st_size > 1000


def test_second_observer_is_scored_against_the_first(tmp_path):
    evaluation(tmp_path, angles_degrees=[0]).run()
    with (tmp_path / "new" / "vessel_scores.csv").open() as file:
        human = next(row for row in csv.DictReader(file) if row["reader"] == "second observer")
    found = true = both = 0
    for shift in (0, 2):
        item = photograph(shift=shift)
        first, second = (item[key][item["mask"] > 0] > 0 for key in ("label", "second_label"))
        found, true, both = found + second.sum(), true + first.sum(), both + (first & second).sum()
    assert float(human["dice"]) == pytest.approx(float(2 * both / (found + true)), abs=1e-5)


def test_the_threshold_is_that_of_its_own_data(tmp_path):
    own = evaluation(tmp_path)
    threshold = own.best_threshold()
    assert 0 < threshold < 1
    assert own.run()
    other = evaluation(tmp_path, data=[{"case": "x", "dataset": "a", "shift": 3}])
    assert other.best_threshold() == threshold


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": []}, "one of them is empty"),
        ({"threshold_data": []}, "one of them is empty"),
        ({"angles_degrees": []}, "angles_degrees is empty"),
        ({"num_cases": 0}, "num_cases=0 leaves no photograph"),
    ],
)
def test_nothing_to_measure_is_an_error(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        evaluation(tmp_path, **options)
