"""Laws of scoring a network on turned and on resized volumes."""

import csv
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.transforms import Activationsd, AsDiscreted, Compose, Resize
from torch import nn

from equivariant_nets.evaluation.poses import RotationSweep, ScaleSweep, turn_arrays
from equivariant_nets.rotations import plane_rotation

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


one_hot = AsDiscreted(["pred", "label"], argmax=[True, False], to_onehot=3)


def table(kind, folder, network=None, seeds=(0, 1), **options):
    settings = {
        "network": network or Oracle(),
        "data": [{"image": f"i/{seed}.nii.gz", "label": f"l/case.{seed}.nii.gz", "seed": seed} for seed in seeds],
        "preprocessing": load, "postprocessing": one_hot, "inferer": lambda x, net: net(x), "device": "cpu",
        "class_names": ["one", "two"], "include_background": False, "output_dir": folder,
    }  # fmt: skip
    with kind(**{**settings, **options}).run().open(newline="") as file:
        return list(csv.DictReader(file))


def sweep(folder, network=None, **options):
    return table(RotationSweep, folder, network, **{"angles_degrees": (0, 90, 45), "random_poses": 2, **options})


def scales(folder, network=None, **options):
    return table(ScaleSweep, folder, network, **{"factors": (1.0, 0.7), **options})


every_sweep = pytest.mark.parametrize("measure", [sweep, scales])


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


def test_the_table_of_sizes_has_a_row_for_each_case_factor_and_class(tmp_path):
    rows = scales(tmp_path / "new", factors=(1.0, 0.75, 1.5))
    assert list(rows[0]) == ["case", "factor", "class", "dice", "interpolation_dice", "weights"]
    expected = itertools.product(("case.0", "case.1"), ("1.0", "0.75", "1.5"), ("one", "two"))
    assert [(row["case"], row["factor"], row["class"]) for row in rows] == list(expected)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["scale_dice.csv", "scale_dice.png"]


@pytest.mark.parametrize(("weights", "name"), [(None, "in memory"), (Path("run") / "model.pt", "run/model.pt")])
def test_the_table_names_the_weights_of_the_network(tmp_path, weights, name):
    assert {row["weights"] for row in scales(tmp_path, factors=(1.0,), weights=weights)} == {name}


def test_the_factor_one_changes_nothing(tmp_path):
    network = Shown()
    rows = scales(tmp_path, network, factors=(1.0,), seeds=(0,))
    assert torch.equal(network.volumes[0][0], load({"seed": 0})["image"])
    assert {(row["dice"], row["interpolation_dice"]) for row in rows} == {("1.0", "1.0")}


@pytest.mark.parametrize("factor", [0.5, 0.7, 0.9, 1.3, 2])
def test_canvas_and_anatomy_shrink_alike(tmp_path, factor):
    network, labels = Shown(), []

    def post(item):
        labels.append(item["label"])
        return one_hot(item)

    scales(tmp_path, network, factors=[factor], seeds=(0,), postprocessing=post)
    sizes = [round(n * factor) for n in (20, 22, 18)]
    assert list(network.volumes[0].shape[2:]) == sizes
    own, scaled = blobs(0), next(label for label in labels if list(label.shape[1:]) == sizes)
    for value in (1, 2):
        volume, own_volume = (int((label == value).sum()) for label in (scaled, own))
        assert volume == pytest.approx(own_volume * factor**3, rel=0.3)
        place, expected = ((label == value).nonzero().float().mean(0)[1:] for label in (scaled, own))
        centre = (torch.tensor([20.0, 22, 18]) - 1) / 2
        assert torch.allclose(place - (torch.tensor(sizes) - 1) / 2, factor * (expected - centre), atol=0.3)


def test_images_are_blurred_before_they_shrink_and_keep_their_channels(tmp_path):
    network = Shown()
    network.forward = lambda x: network.volumes.append(x) or Oracle()(x[:, :1])
    image = torch.rand(4, 20, 22, 18, generator=torch.Generator().manual_seed(0))
    scales(tmp_path, network, factors=[0.5], seeds=(0,), preprocessing=lambda item: {"image": image, "label": blobs()})
    expected = Resize((10, 11, 9), mode="trilinear", anti_aliasing=True)(image)
    assert torch.equal(network.volumes[0][0], expected)
    assert network.volumes[0].std() < Resize((10, 11, 9), mode="trilinear")(image).std()


def test_an_oracle_reaches_the_floor_at_every_size(tmp_path):
    rows = scales(tmp_path, factors=(0.6, 0.8, 1.3))
    dice, floor = (np.array([float(row[column]) for row in rows]) for column in ("dice", "interpolation_dice"))
    assert 0.8 < floor.min() < floor.mean() < 0.99
    assert (dice > floor - 0.04).all()


def test_a_volume_too_small_for_the_network_is_the_networks_error(tmp_path):
    def small(x, net):
        raise ValueError(f"Input of {min(x.shape[2:])} voxels")

    with pytest.raises(ValueError, match="Input of 1 voxels"):
        scales(tmp_path, factors=[0.01], inferer=small)


def overlapping(item):
    """Two regions, one in the other: both classes, and the second class."""
    label = item["label"]
    return {"pred": item["pred"], "label": torch.cat([label > 0, label == 2]).float()}


regions = Compose([Activationsd("pred", sigmoid=True), AsDiscreted("pred", threshold=0.5), overlapping])


class RegionOracle(nn.Module):
    def forward(self, x):
        return torch.cat([x.abs() - 0.5, -x - 0.5], 1)


@every_sweep
def test_overlapping_regions_are_scored_by_their_postprocessing(tmp_path, measure):
    options = {"postprocessing": regions, "include_background": True, "class_names": ["whole", "second"]}
    rows = measure(tmp_path, RegionOracle(), **options)
    whole, second = ([row for row in rows if row["class"] == name] for name in ("whole", "second"))
    assert len(whole) == len(second) == len(rows) / 2
    assert whole[0]["dice"] == whole[0]["interpolation_dice"] == "1.0"
    assert min(float(row["dice"]) for row in rows) > 0.8
    exclusive = measure(tmp_path)
    assert [row["interpolation_dice"] for row in second] == [
        row["interpolation_dice"] for row in exclusive if row["class"] == "two"
    ]


@every_sweep
@pytest.mark.parametrize(
    "options",
    [
        {"class_names": ["one"]},
        {"include_background": True},
        {"postprocessing": lambda item: {**one_hot(item), "pred": item["pred"][:2]}},
    ],
    ids=["names", "background", "pred"],
)
def test_channels_without_a_name_are_an_error(tmp_path, measure, options):
    with pytest.raises(ValueError, match=r"postprocessing makes . channels of pred and 3 of label"):
        measure(tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"factors": ()}, "factors is empty"),
        ({"factors": (1.0, 0)}, r"holds \[0\]"),
        ({"factors": (1.0, -0.5)}, r"holds \[-0.5\]"),
        ({"factors": (2.5, 1.0)}, r"holds \[2.5\]"),
        ({"factors": (float("nan"),)}, r"holds \[nan\]"),
        ({"data": []}, "data is empty"),
        ({"num_cases": 0}, "num_cases=0"),
    ],
)
def test_a_sweep_of_no_size_is_an_error_before_it_starts(tmp_path, options, message):
    network = Shown()
    with pytest.raises(ValueError, match=message):
        scales(tmp_path / "out", network, **options)
    assert not network.volumes
    assert not (tmp_path / "out").exists()


def test_a_picture_does_not_leave_its_plane():
    picture = torch.zeros(1, 8, 10)
    for plane in ("coronal", "sagittal"):
        with pytest.raises(ValueError, match=r"Pictures turn in their plane alone: give planes=\['axial'\]"):
            turn_arrays(picture, picture, plane_rotation(plane, 90))
    assert turn_arrays(picture, picture, plane_rotation("axial", 90))[0].shape == (1, 10, 8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seeds": ()}, "data is empty"),
        ({"num_cases": 0}, "num_cases=0"),
        ({"num_cases": -1}, "num_cases=-1"),
        ({"random_poses": 0, "angles_degrees": ()}, "no pose"),
        ({"random_poses": 0, "planes": ()}, "no pose"),
        ({"planes": ("oblique",)}, "oblique"),
        ({"angles_degrees": (0, "a")}, r"holds \['a'\]: give angles as numbers of degrees"),
        ({"angles_degrees": np.array([0, 45]), "planes": ("oblique",)}, "oblique"),  # whole numbers of numpy are legal
        ({"angles_degrees": (float("nan"),)}, "give angles as numbers of degrees"),
    ],
)
def test_a_sweep_of_nothing_is_an_error_before_it_starts(tmp_path, options, message):
    network = Shown()
    with pytest.raises(ValueError, match=message):
        sweep(tmp_path / "out", network, **options)
    assert not network.volumes
    assert not Path(tmp_path / "out").exists()
