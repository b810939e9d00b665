"""Laws of scoring a network on turned volumes."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from equivariant_nets.evaluation import RotationSweep

INTENSITIES = torch.tensor([0.0, 1.0, -1.0])  # the background lies between the classes
PLANES = ("axial", "coronal", "sagittal")


def blobs(seed=0, size=(20, 22, 18)):
    """A label map of two ellipsoids off the centre."""
    random = np.random.RandomState(seed)
    points = np.stack(np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in size], indexing="ij"))
    label = np.zeros(size)
    for value, side in ((1, -4.5), (2, 4.5)):
        centre, radii = random.uniform(-2, 2, (3, 1, 1, 1)), random.uniform(2.5, 4, (3, 1, 1, 1))
        centre[0] += side
        label[(((points - centre) / radii) ** 2).sum(0) <= 1] = value
    return torch.tensor(label)[None]


class Oracle(nn.Module):
    """A network that reads the class off the intensity."""

    def forward(self, x):
        return -((x - INTENSITIES.reshape(1, 3, 1, 1, 1)) ** 2)


class Blind(nn.Module):
    def forward(self, x):
        return torch.eye(3)[0].reshape(1, 3, 1, 1, 1).expand(-1, -1, *x.shape[2:])


def load(item):
    label = blobs(item["seed"])
    return {"image": INTENSITIES[label.long()], "label": label, "other": "is not turned"}


def sweep(folder, network=None, seeds=(0, 1), **options):
    data = [{"image": f"i/{seed}.nii.gz", "label": f"l/case.{seed}.nii.gz", "seed": seed} for seed in seeds]
    settings = {"angles_degrees": (0, 90, 45), "random_poses": 2, **options}
    run = RotationSweep(
        network or Oracle(), data, settings.pop("preprocessing", load), settings.pop("inferer", lambda x, net: net(x)),
        "cpu", ["one", "two"], folder, **settings,
    )  # fmt: skip
    with run.run().open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_table_has_a_row_for_each_case_pose_and_class(tmp_path):
    rows = sweep(tmp_path / "new")
    poses = [(plane, angle) for plane in PLANES for angle in ("0", "90", "45")]
    for case in ("case.0", "case.1"):
        for name in ("one", "two"):
            mine = [row for row in rows if (row["case"], row["class"]) == (case, name)]
            assert [(row["plane"], row["angle_degrees"]) for row in mine[:9]] == poses
            assert [row["plane"] for row in mine[9:]] == ["random"] * 2
            assert all(0 <= float(row["angle_degrees"]) <= 180 for row in mine[9:])
    assert len(rows) == 2 * 2 * (9 + 2)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["rotation_dice.csv", "rotation_dice.png"]


def test_lattice_rotations_cost_an_oracle_nothing(tmp_path):
    rows = sweep(tmp_path, angles_degrees=(0, 90, -90, 180, 270, 360), random_poses=0)
    assert {(row["dice"], row["interpolation_dice"]) for row in rows} == {("1.0", "1.0")}


def test_an_oracle_reaches_the_floor_at_every_pose(tmp_path):
    rows = sweep(tmp_path, angles_degrees=(10, 45, 100), random_poses=2)
    dice, floor = (np.array([float(row[column]) for row in rows]) for column in ("dice", "interpolation_dice"))
    assert floor.min() > 0.9
    assert floor.mean() < 0.99
    assert dice.mean() > floor.mean()
    assert (dice > floor - 0.04).all()  # a few voxels of the surface


class Shown(nn.Module):
    """Remembers the volumes it is shown."""

    def __init__(self):
        super().__init__()
        self.volumes = []

    def forward(self, x):
        self.volumes.append(x.clone())
        return Oracle()(x)


def test_every_pose_shows_as_many_voxels_and_the_lattice_turns_the_box_itself(tmp_path):
    shapes = []

    def record(x, net):
        shapes.append(tuple(x.shape[2:]))
        return net(x)

    sweep(tmp_path, seeds=(0,), inferer=record, angles_degrees=(0, 90, 45), random_poses=5)
    upright, *turned = shapes
    assert upright == (20, 22, 18)
    assert turned[:6:2] == [(22, 20, 18), (18, 22, 20), (20, 18, 22)]
    assert all(np.prod(shape) == pytest.approx(np.prod(upright), rel=0.15) for shape in turned)


def test_the_same_seed_shows_every_network_the_same_poses(tmp_path):
    first, second, other = Shown(), Shown(), Shown()
    tables = [
        sweep(tmp_path / name, network, seed=seed)
        for name, network, seed in (("a", first, 3), ("b", second, 3), ("c", other, 4))
    ]
    assert tables[0] == tables[1]
    assert all(torch.equal(a, b) for a, b in zip(first.volumes, second.volumes, strict=True))
    angles = [[row["angle_degrees"] for row in table if row["plane"] == "random"] for table in tables]
    assert angles[0] != angles[2]
    assert len(set(angles[0])) == 2 * 2  # every case has poses of its own


def test_poses_of_a_case_do_not_depend_on_the_number_of_cases(tmp_path):
    few, many = sweep(tmp_path, seeds=(0, 1, 2), num_cases=2), sweep(tmp_path, seeds=(0, 1, 2))
    assert few == many[: len(few)]
    assert {row["case"] for row in few} == {"case.0", "case.1"}


def test_a_network_that_finds_nothing_scores_nothing(tmp_path):
    rows = sweep(tmp_path, Blind(), seeds=(0,))
    assert {row["dice"] for row in rows} == {"0.0"}
    assert max(float(row["interpolation_dice"]) for row in rows) == 1


def test_a_class_that_a_case_lacks_has_no_dice(tmp_path):
    def only_one(item):
        label = blobs(item["seed"]).clamp(max=1)
        return {"image": INTENSITIES[label.long()], "label": label}

    rows = sweep(tmp_path, preprocessing=only_one, seeds=(0,))
    assert {row["dice"] for row in rows if row["class"] == "two"} == {"nan"}
    assert "nan" not in {row["dice"] for row in rows if row["class"] == "one"}
    assert (tmp_path / "rotation_dice.png").is_file()


def test_the_network_is_measured_in_eval_mode_through_the_inferer_and_left_as_it_was(tmp_path):
    network, modes = Oracle().train(), []

    def inferer(x, net):
        modes.append((net.training, torch.is_grad_enabled(), x.dim()))
        return net(x)

    sweep(tmp_path, network, inferer=inferer)
    assert set(modes) == {(False, False, 5)}
    assert network.training


def test_the_upright_pose_is_measured_once(tmp_path):
    network = Shown()
    sweep(tmp_path, network, seeds=(0,), angles_degrees=(0, 360, 90), random_poses=1)
    assert len(network.volumes) == 1 + 3 + 1


@pytest.mark.parametrize("plane", [(0, 2), [0, 2]])
def test_planes_may_be_pairs_of_axes(tmp_path, plane):
    rows = sweep(tmp_path, seeds=(0,), planes=[plane], random_poses=0)
    coronal = sweep(tmp_path, seeds=(0,), planes=["coronal"], random_poses=0)
    assert [row["dice"] for row in rows] == [row["dice"] for row in coronal]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seeds": ()}, "data is empty"),
        ({"num_cases": 0}, "num_cases=0"),
        ({"num_cases": -1}, "num_cases=-1"),
        ({"random_poses": 0, "angles_degrees": ()}, "no pose"),
        ({"random_poses": 0, "planes": ()}, "no pose"),
        ({"planes": ("oblique",)}, "oblique"),
    ],
)
def test_a_sweep_of_nothing_is_an_error_before_it_starts(tmp_path, options, message):
    network = Shown()
    with pytest.raises(ValueError, match=message):
        sweep(tmp_path / "out", network, **options)
    assert not network.volumes
    assert not Path(tmp_path / "out").exists()
