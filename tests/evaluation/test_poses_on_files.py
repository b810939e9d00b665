"""Laws of measuring a model at poses on files, and of the files."""

import csv
import os
import re
import shlex
import sys
from pathlib import Path
from unittest.mock import Mock

import nibabel as nib
import numpy as np
import pytest
import torch
from bundle_files import BUNDLES, kill_when_it_writes
from fresh import python, run_module
from monai.transforms import AsDiscreted, Compose, Orientationd
from scipy.interpolate import RegularGridInterpolator
from scipy.spatial.transform import Rotation

from equivariant_nets.data import LoadVolumed, hippocampus_datalist, write_phantoms
from equivariant_nets.data.datalist import case_name
from equivariant_nets.evaluation.on_files import summary
from equivariant_nets.evaluation.on_files.cases import Case, Classes, find_cases, match_names
from equivariant_nets.evaluation.on_files.command import poses
from equivariant_nets.evaluation.on_files.measure import Settings, measure
from equivariant_nets.evaluation.on_files.models import BundleModel, FileModel, Model
from equivariant_nets.evaluation.on_files.poses import UPRIGHT, named_poses
from equivariant_nets.evaluation.on_files.scores import Row
from equivariant_nets.evaluation.on_files.sweep import FileRotationSweep, turn_files
from equivariant_nets.evaluation.on_files.turning import Placement, Turning
from equivariant_nets.evaluation.tables import read_table
from equivariant_nets.ownership import FolderLock
from equivariant_nets.rotations import plane_rotation

AFFINES = {
    "isotropic": np.diag([1.0, 1, 1, 1]),
    "other order": np.array([[0.0, 0, -1, 9], [-1, 0, 0, 4], [0, 1, 0, -7], [0, 0, 0, 1]]),
    "long voxels": np.array([[-1.0, 0, 0, 5], [0, 1, 0, 0], [0, 0, 2, 1], [0, 0, 0, 1]]),
    "oblique": nib.affines.from_matvec(Rotation.from_euler("xyz", [8, -5, 12], degrees=True).as_matrix(), [3, 2, 1]),
}
SIZE = (15, 18, 13)
LEVELS = np.array([10.0, 110, -90])  # the background lies between the classes


def anatomy(seed=0):
    """An image (X, Y, Z) of two classes and what lies around them, and its label map."""
    points = np.stack(np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in SIZE], indexing="ij"))
    label = np.zeros(SIZE, np.uint8)
    label[((points - np.array([1, 3 + seed, 1]).reshape(3, 1, 1, 1)) ** 2).sum(0) < 12] = 1
    label[(np.abs(points - np.array([0, -4, -1]).reshape(3, 1, 1, 1)) < 3.3).all(0)] = 2
    return LEVELS[label], label


@pytest.fixture
def folders(tmp_path):
    """Folders of two cases, ``a`` and ``a_1``."""
    write_cases(tmp_path)
    return tmp_path


def write_cases(folder, affine=AFFINES["isotropic"]):
    for seed, name in enumerate(("a", "a_1")):
        for kind, volume in zip(("images", "labels"), anatomy(seed), strict=True):
            (folder / kind).mkdir(exist_ok=True)
            nib.save(nib.Nifti1Image(volume.astype(np.float32), affine), folder / kind / f"{name}.nii.gz")
    return find_cases(folder / "images", folder / "labels")


class Threshold(Model):
    """Tells the classes by their intensity, and remembers what it was given."""

    def __init__(self):
        self.given = []

    def segment(self, input_dir, output_dir, environment):
        for path in sorted(input_dir.iterdir()):
            file = nib.load(path)
            self.given.append((path.name, file.get_fdata(), file.affine))
            nib.save(nib.Nifti1Image(self.classes(file.get_fdata()), file.affine), output_dir / path.name)

    def classes(self, volume):
        return np.where(volume > 60, 1, np.where(volume < -40, 2, 0)).astype(np.uint8)

    def settings(self):
        return {}


class Upper(Threshold):
    """Finds what was upright where it was upright: in each half of the file one class."""

    def classes(self, volume):
        half = np.arange(volume.shape[1]) > volume.shape[1] / 2
        return np.where(super().classes(volume) > 0, np.where(half, 1, 2)[:, None], 0).astype(np.uint8)


def scores(folder, model, chosen, turning=Turning(), jobs=1):  # noqa: B008
    cases = find_cases(folder / "images", folder / "labels")
    settings = Settings(model, Classes.parse("1,2"), turning)
    return measure(settings, cases, chosen, folder / "out", jobs).rows


def written(folder, name, pose, turning=Turning()):  # noqa: B008
    """The file of a case in a pose."""
    case = next(case for case in find_cases(folder / "images", folder / "labels") if case.name == name)
    Settings(Threshold(), Classes.parse("1,2"), turning).write(case, pose, folder / "written.nii.gz")
    file = nib.load(folder / "written.nii.gz")
    file.get_fdata()  # which is kept, where the file is not
    return file


def centre(file):
    return nib.affines.apply_affine(file.affine, (np.array(file.shape) - 1) / 2)


@pytest.mark.parametrize(
    "pose", named_poses("coronal:30,random:1,size:1.3,random:1@1.2")[1:], ids=lambda pose: pose.group
)
@pytest.mark.parametrize("affine", ["isotropic", "other order", "long voxels"])
def test_a_turned_file_holds_the_body_turned_in_the_world_under_the_same_header(affine, pose, tmp_path):
    write_cases(tmp_path, AFFINES[affine])
    source, turned = nib.load(tmp_path / "images" / "a.nii.gz"), written(tmp_path, "a", pose)
    assert np.array_equal(turned.affine, source.affine)
    voxels = np.stack(np.meshgrid(*map(np.arange, turned.shape), indexing="ij"), -1)
    points = nib.affines.apply_affine(turned.affine, voxels) - centre(turned)
    points = points @ pose.rotation("a") / pose.size + centre(source)  # the inverse rotation, of rows
    origin = nib.affines.apply_affine(np.linalg.inv(source.affine), points)
    axes = [np.arange(n) for n in source.shape]
    expected = RegularGridInterpolator(axes, source.get_fdata(), bounds_error=False, fill_value=10.0)(origin)
    outermost = (np.minimum(origin, np.array(source.shape) - 1 - origin)).min(-1)
    clear = np.abs(outermost) > 1e-6  # a voxel on the border itself is a matter of rounding
    assert np.allclose(turned.get_fdata()[clear], expected[clear], atol=1e-3)
    assert sum(turned.shape) > sum(source.shape)


@pytest.mark.parametrize("canvas", ["whole", "same"])
@pytest.mark.parametrize("size", [1.0, 0.7])
def test_each_voxel_of_a_turned_label_map_has_the_label_whose_indicator_is_highest(size, canvas):
    label = np.zeros(SIZE, np.int16)
    label[2:9, 5:15, 3:8], label[4:6, 7:12, 4:12], label[9:12, 2:6, :3] = 4, 1011, 7  # the last at the border
    label[-1, -1, 0] = label[3, 2, 11] = 9  # of single voxels, far apart
    (pose,) = named_poses(f"random:1@{size}" if size != 1 else "random:1")[1:]
    placement = Placement.of(pose, "a", SIZE, AFFINES["long voxels"], canvas)
    voxels = np.stack(np.meshgrid(*map(np.arange, placement.size), indexing="ij"), -1)
    origin = (voxels - (np.array(placement.size) - 1) / 2) @ placement.to_source.T + (np.array(SIZE) - 1) / 2
    axes, values = [np.arange(n) for n in SIZE], np.array([0, 4, 7, 9, 1011])
    indicators = [
        RegularGridInterpolator(axes, label == value, bounds_error=False, fill_value=float(value == 0))
        for value in values
    ]
    scores = np.stack([indicator(origin) for indicator in indicators])
    clear = np.diff(np.sort(scores, 0)[-2:], axis=0)[0] > 1e-6  # no tie
    assert np.array_equal(placement.label(label)[clear], values[scores.argmax(0)][clear])
    assert clear.mean() > 0.98


@pytest.mark.parametrize("canvas", ["whole", "same"])
@pytest.mark.parametrize("affine", AFFINES)
def test_a_smaller_body_has_its_volume_and_place_under_the_same_header(affine, canvas, tmp_path):
    write_cases(tmp_path, AFFINES[affine])
    (pose,) = named_poses("size:0.7")[1:]
    source = nib.load(tmp_path / "images" / "a.nii.gz")
    small = written(tmp_path, "a", pose, Turning(fill=10, canvas=canvas))
    assert np.array_equal(small.affine, source.affine)
    assert small.shape == (SIZE if canvas == "same" else (11, 13, 10))
    for sign in (1, -1):  # of each class, which lie on both sides of the background
        bodies = [sign * (file.get_fdata() - 10).clip(*sorted((0, sign * 1e3))) for file in (source, small)]
        mass = [body.sum() for body in bodies]
        assert mass[1] / mass[0] == pytest.approx(0.7**3, rel=0.05)
        inside = [np.stack(np.nonzero(body >= 0), -1) for body in bodies]
        places = [
            np.average(voxels, axis=0, weights=body.ravel()) - (np.array(body.shape) - 1) / 2
            for voxels, body in zip(inside, bodies, strict=True)
        ]
        assert np.allclose(places[1], 0.7 * places[0], atol=0.2)  # voxels, of the same affine


def test_a_turn_at_a_size_is_both(folders):
    turn, both, small = named_poses("axial:90,axial:90@0.7,size:0.7")[1:]
    assert [pose.group for pose in (turn, both, small)] == ["plane", "plane at size 0.7", "size 0.7"]
    one = written(folders, "a", small).get_fdata()
    assert np.allclose(written(folders, "a", both).get_fdata(), np.rot90(one, 1, (0, 1)), atol=1e-3)
    assert [pose.name for pose in named_poses("size:1+0.5,axial:45@1,size:0.5")] == ["upright", "size 0.5", "axial 45"]


def test_what_is_shrunk_is_filtered_before(folders):
    """Stripes of one voxel become grey, not wide stripes."""
    stripes = np.where(np.arange(SIZE[0]) % 2, 100.0, 0.0)[:, None, None] * np.ones(SIZE)
    nib.save(nib.Nifti1Image(stripes, np.eye(4)), folders / "images" / "a.nii.gz")
    (pose,) = named_poses("size:0.4")[1:]
    small = written(folders, "a", pose, Turning(fill="border")).get_fdata()
    assert np.abs(small[1:-1] - 50).max() < 12


def test_what_is_not_filled_is_turned_into_its_lowest_value(folders):
    noise = np.random.default_rng(0).normal(100, 20, SIZE)
    nib.save(nib.Nifti1Image(noise, np.eye(4)), folders / "images" / "a.nii.gz")
    (pose,) = named_poses("axial:45")[1:]
    assert set(np.unique(written(folders, "a", pose).get_fdata()[0, 0])) == {np.float32(noise.min())}


@pytest.mark.parametrize("affine", [name for name in AFFINES if name != "long voxels"])
def test_turns_of_the_lattice_lose_nothing(affine, tmp_path):
    write_cases(tmp_path, AFFINES[affine])
    source = anatomy()[0]
    seen = set()
    for pose in named_poses("lattice"):
        turned = written(tmp_path, "a", pose).get_fdata()
        assert np.array_equal(np.sort(turned, None), np.sort(source, None))
        seen.add(turned.tobytes() + bytes(turned.shape))
    assert len(seen) == 24


@pytest.mark.parametrize("affine", AFFINES)
def test_an_order_of_the_voxels_is_the_same_body_in_the_world(affine, tmp_path):
    write_cases(tmp_path, AFFINES[affine])
    source = nib.as_closest_canonical(nib.load(tmp_path / "images" / "a.nii.gz"))
    orders = set()
    for pose in named_poses("orders")[1:]:
        file = written(tmp_path, "a", pose)
        orders.add(nib.aff2axcodes(file.affine))
        again = nib.as_closest_canonical(file)
        assert np.array_equal(again.get_fdata(), source.get_fdata())
        assert np.allclose(again.affine, source.affine, atol=1e-5)
        assert np.allclose(file.get_qform(), file.get_sform(), atol=1e-5)
    assert len(orders) == 23


@pytest.mark.parametrize("affine", AFFINES)
def test_a_mirror_exchanges_left_and_right_of_the_body_alone(affine, tmp_path):
    write_cases(tmp_path, AFFINES[affine])
    source = nib.load(tmp_path / "images" / "a.nii.gz")
    (pose,) = named_poses("mirrored")[1:]
    file = written(tmp_path, "a", pose)
    assert np.allclose(file.affine, source.affine, atol=1e-5)
    own, mirrored = (nib.as_closest_canonical(image).get_fdata() for image in (source, file))
    assert np.array_equal(mirrored, own[::-1])
    assert not np.array_equal(mirrored, own)
    assert pose.angle_degrees("a") == 0


def test_a_turned_header_turns_the_body_alone(folders):
    (pose,) = named_poses("header:30")[1:]
    source, file = nib.load(folders / "images" / "a.nii.gz"), written(folders, "a", pose)
    assert np.array_equal(file.get_fdata(), source.get_fdata())
    assert np.allclose(file.affine[:3, :3], pose.matrix @ source.affine[:3, :3])
    assert np.allclose(centre(file), centre(source))


def test_classes_of_which_the_label_maps_hold_nothing_are_named(folders, tool, capsys):
    run(folders, command=tool(), poses="upright", classes="1,7")
    assert "No label map holds anything of 7" in capsys.readouterr().err
    assert {row["class"]: row["dice"] for row in table(folders)} == {"1": "1.0", "7": "nan"}


def test_a_report_is_written_where_no_case_that_was_measured_holds_a_class(folders):
    nib.save(nib.Nifti1Image(np.zeros(SIZE, np.uint8), np.eye(4)), folders / "labels" / "a_1.nii.gz")
    with pytest.raises(SystemExit, match="no mask of its own for 1 of 2 images"):
        run(folders, command="sh -c 'cp {input}/a_1.nii.gz {output}'", poses="axial:90")
    assert {row["dice"] for row in table(folders)} == {"nan"}
    assert "No case holds a class that is scored" in (folders / "out" / "report.html").read_text()


def test_a_file_that_is_taken_to_lie_elsewhere_is_measured_again(folders, tool, monkeypatch):
    run(folders, command=tool(), poses="upright")
    monkeypatch.setattr(
        "equivariant_nets.evaluation.on_files.measure.place_of", lambda _: Mock(affine_mm=np.eye(4) * 2)
    )
    run(folders, command=tool(), poses="upright")
    run(folders, command=tool(), poses="upright")
    assert len(tool.calls()) == 2


def test_the_background_can_be_scored_too(folders, tool, capsys):
    run(folders, command=tool(), poses="upright", classes="around:0,1")
    assert "No label map" not in capsys.readouterr().err
    assert {row["dice"] for row in table(folders)} == {"1.0"}


def test_a_kind_of_turn_without_dice_is_no_point_of_the_plot(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(summary, "save_figure", lambda figure, path: figures.append(figure) or path)
    rows = [
        Row("a", pose, kind, angle, "one", dice, dice, 0.0)
        for pose, kind, angle, dice in (("axial 90", "plane", 90.0, 0.5), ("random 1", "random", 30.0, np.nan))
    ]
    summary.draw_angles(rows, tmp_path / "angles.png")
    points = [line.get_xydata().tolist() for line in figures[0].axes[0].lines]
    assert points == [[[90.0, 0.5]], [], [[90.0, 0.5]]]


@pytest.mark.parametrize("wrong", ["sheared", "quaternion", "no codes"])
def test_what_is_written_says_its_place_in_every_form_it_has(wrong, tmp_path):
    write_cases(tmp_path)
    affine = np.eye(4)
    for kind in ("images", "labels"):
        file = nib.load(tmp_path / kind / "a.nii.gz")
        affine[0, 1] = 0.3 if wrong == "sheared" else 0
        image = nib.Nifti1Image(file.get_fdata(), affine)
        image.set_sform(affine, code="scanner")
        image.set_qform(np.eye(4), code="unknown" if wrong == "sheared" else "scanner")
        if wrong == "quaternion":
            image.header["quatern_b"] = image.header["quatern_c"] = 0.9
        if wrong == "no codes":
            image.header["sform_code"] = image.header["qform_code"] = 0
        nib.save(image, tmp_path / kind / "a.nii.gz")
    for pose in named_poses("axial:45,header:30"):
        file = written(tmp_path, "a", pose)
        forms = [form for form, code in (file.get_sform(coded=True), file.get_qform(coded=True)) if code]
        assert len(forms) == (1 if wrong == "sheared" else 2)
        assert all(np.allclose(form, file.affine, atol=1e-5) for form in forms)


@pytest.mark.parametrize("unit", ["mm", "micron"])
def test_a_file_whose_forms_disagree_is_turned_by_the_one_that_has_its_voxel_sizes(unit, tmp_path):
    """The sform leads into a template's space; a tool may read either form of what is written."""
    write_cases(tmp_path)
    mm = {"mm": 1.0, "micron": 1000.0}[unit]
    own, template = (np.diag([*np.multiply(sizes, mm), 1.0]) for sizes in ((1, 1, 1), (1.5, 1, 1)))
    for kind in ("images", "labels"):
        file = nib.load(tmp_path / kind / "a.nii.gz")
        image = nib.Nifti1Image(file.get_fdata(), own)
        image.set_qform(own, code="scanner")
        image.set_sform(template, code="mni")
        image.header["pixdim"][1:4] = mm
        image.header.set_xyzt_units(unit)
        nib.save(image, tmp_path / kind / "a.nii.gz")
    item = {kind: str(tmp_path / f"{kind}s" / "a.nii.gz") for kind in ("image", "label")}
    upright, turn, header = named_poses("axial:45,header:30")
    turned, _ = turn_files(item, turn.rotation("a"), Turning(), tmp_path)
    for pose in (upright, turn, header):
        file = written(tmp_path, "a", pose)
        assert file.header.get_xyzt_units()[0] == "mm"
        assert np.allclose(file.get_sform(), file.get_qform(), atol=1e-5)
        assert np.allclose(nib.affines.voxel_sizes(file.affine), 1, atol=1e-5)
        if pose is turn:
            assert np.allclose(file.get_fdata(), nib.load(turned["image"]).get_fdata()[..., 0], atol=1e-4)


def test_fill_and_canvas_are_as_told(folders):
    (pose,) = named_poses("axial:45")[1:]
    corner = {
        fill: written(folders, "a", pose, Turning(fill=fill)).get_fdata()[0, 0]
        for fill in ("background", "lowest", "border", -7)
    }
    assert [set(np.unique(values)) for values in corner.values()] == [{10.0}, {-90.0}, {10.0}, {-7.0}]
    whole = written(folders, "a", pose, Turning(interpolation="cubic"))
    same = written(folders, "a", pose, Turning(canvas="same"))
    assert same.shape == SIZE
    assert whole.shape == (24, 24, 13)
    assert not np.allclose(whole.get_fdata(), written(folders, "a", pose).get_fdata())
    cone = named_poses("cone")[3]
    told = written(folders, "a", cone, Turning("linear", canvas="same")).get_fdata()
    assert np.array_equal(
        told, written(folders, "a", cone, Turning("cubic")).get_fdata()
    )  # the protocol says so itself


def test_the_cone_is_the_published_one():
    cone = [pose for pose in named_poses("cone") if pose.kind == "cone"]
    axes = np.stack([pose.matrix[:, 2] for pose in cone])
    assert len(np.unique(axes.round(6), axis=0)) == 13
    assert axes[:, 2].min() >= 0.5
    assert np.allclose(axes.mean(0)[:2], 0)
    assert np.allclose(cone[0].matrix, np.eye(3))


def test_random_turns_are_those_of_the_seed_and_the_case():
    one, same, other = (named_poses("random:2", seed) for seed in (3, 3, 4))
    drawn = [pose.rotation(case) for pose in one[1:] for case in ("a", "b")]
    assert np.array_equal(drawn, [pose.rotation(case) for pose in same[1:] for case in ("a", "b")])
    assert len(np.unique([*drawn, other[1].rotation("a")], axis=0)) == 5


def test_a_threshold_reaches_the_floor_and_a_model_of_places_is_caught(folders):
    chosen = named_poses("lattice,planes:45,random:2,orders,header:30,mirrored,size:1.25+0.8,axial:45@1.25")
    rows = scores(folders, Threshold(), chosen, Turning(fill=10), jobs=2)
    assert [(row.pose, row.case) for row in rows[::2]] == [
        (pose.name, case) for pose in chosen for case in ("a", "a_1")
    ]
    exact = [row for row in rows if row.kind in ("upright", "lattice", "order", "header", "mirrored")]
    assert {(row.dice, row.floor, row.rmse) for row in exact} == {(1.0, 1.0, 0.0)}
    resized = [row for row in rows if "size" in row.kind]
    assert {row.kind for row in resized} == {"size 1.25", "size 0.8", "plane at size 1.25"}
    assert min(row.dice for row in resized) > 0.85
    turned = [row for row in rows if row.kind in ("plane", "random")]
    assert min(row.floor for row in turned) < 1
    assert min(row.dice - row.floor for row in turned) > -0.05
    assert max(row.rmse for row in turned) < 0.09
    caught = scores(folders, Upper(), named_poses("axial:180"))
    assert min(row.dice for row in caught[:4]) > 0.9
    assert max(row.dice for row in caught[4:]) < 0.1
    assert min(row.rmse for row in caught[4:]) > 0.1


TOOL = """
import sys
from pathlib import Path
import nibabel as nib
import numpy as np
given, masks = map(Path, sys.argv[1:3])
with Path(__file__).with_name("log.txt").open("a") as file:
    file.write(" ".join(sorted(path.name for path in given.iterdir())) + "\\n")
for path in given.iterdir():
    file = nib.load(path)
    volume = file.get_fdata()
    label = np.where(volume > 60, 1, np.where(volume < -40, 2, 0)).astype(np.uint8)
    if eval(sys.argv[3]):
        sys.exit("line one\\nthe last words")
    nib.save(nib.Nifti1Image(label, file.affine), masks / path.name.replace(".nii", "_seg.nii"))
"""


@pytest.fixture
def tool(tmp_path):
    """A command, with spaces and quotes in its path, that fails where the label map says so; and its log."""
    script, log = tmp_path / "my 'tool'.py", tmp_path / "log.txt"
    script.write_text(TOOL)

    def command(fails="False"):
        words = [sys.executable, script, "{input}", "{output}", fails]
        return shlex.join(map(str, words)).replace("'{input}'", "{input}").replace("'{output}'", "{output}")

    command.calls = lambda: log.read_text().splitlines()
    return command


def run(folder, **options):
    poses(
        str(folder / "images"), str(folder / "labels"), str(folder / "out"), **{"classes": "one:1,both:1+2", **options}
    )


def table(folder):
    with (folder / "out" / "poses_dice.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_command_is_measured_once_and_what_changed_again(folders, tool, capsys):
    chosen = "axial:90,random:1"
    run(folders, command=tool(), poses=chosen)
    rows, calls = table(folders), tool.calls()
    assert calls == ["a.nii.gz a_1.nii.gz"] * 3
    assert {row["class"] for row in rows} == {"one", "both"}
    assert {(row["dice"], row["floor"]) for row in rows if row["kind"] != "random"} == {("1.0", "1.0")}
    assert "random 1" in capsys.readouterr().out
    page = (folders / "out" / "report.html").read_text()
    assert "python -m equivariant_nets.evaluation poses --images=" in page
    assert page.count("data:image/png") == 3
    run(folders, command=tool(), poses=chosen)
    assert (table(folders), tool.calls()) == (rows, calls)
    assert "6 of 6 cases in poses were measured before." in capsys.readouterr().out
    run(folders, command=tool(), poses="axial:90", fill="-3")
    assert tool.calls()[3:] == ["a.nii.gz a_1.nii.gz"] * 2
    nib.save(nib.Nifti1Image(anatomy(1)[1], np.eye(4)), folders / "labels" / "a.nii.gz")
    run(folders, command=tool(), poses="axial:90", fill="-3")
    assert tool.calls()[5:] == ["a.nii.gz"] * 2


def test_a_pose_that_fails_stops_no_other(folders, tool):
    chosen = {"poses": "axial:90,coronal:90", "num_cases": 1}
    with pytest.raises(SystemExit) as caught:
        run(folders, command=tool("file.shape == (18, 15, 13)"), **chosen)
    assert re.search(r"1 of 3 poses failed:\n\naxial 90: .*status 1; its last lines:\nline one\nthe last words$",
                     str(caught.value), re.DOTALL)  # fmt: skip
    assert [row["pose"] for row in table(folders)[::2]] == ["upright", "coronal 90"]
    assert "the last words" in (folders / "out" / "report.html").read_text()


def test_a_second_run_into_one_folder_is_refused_with_the_owner(folders, tool):
    options = {"images": folders / "images", "labels": folders / "labels", "output_dir": folders / "out"}
    words = [f"--{name}={value}" for name, value in {**options, "command": tool(), "poses": "upright"}.items()]
    with FolderLock(folders / "out"):
        result = run_module("equivariant_nets.evaluation", "poses", *words, cwd=folders)
    assert result.returncode != 0
    assert f"out is in use by process {os.getpid()} on" in result.stderr
    assert not (folders / "out" / "upright").exists()


def test_a_run_that_is_killed_goes_on(folders, tool):
    chosen = {"poses": "planes:90", "num_cases": 1, "classes": "one:1,both:1+2"}
    words = [python(), "-m", "equivariant_nets.evaluation", "poses", "--command", tool()]
    for name, value in {
        "images": folders / "images",
        "labels": folders / "labels",
        "output_dir": folders / "out",
    }.items():
        words += [f"--{name}", str(value)]
    words += [str(word) for name, value in chosen.items() for word in (f"--{name}", value)]
    kill_when_it_writes(folders / "out" / "upright" / "measured.json", words, folders)
    assert len(tool.calls()) < 4
    run(folders, command=tool(), **chosen)
    assert 4 <= len(tool.calls()) <= 5
    assert [(row["pose"], row["dice"]) for row in table(folders)[::2]] == [
        (name, "1.0") for name in ("upright", "sagittal 90", "coronal 90", "axial 90")
    ]
    assert not (folders / "out" / ".work").exists()


BAD = {
    "no images": ({"images": "nothing"}, "--images nothing is no folder"),
    "no files": ({"images": "."}, "holds no .nii or .nii.gz file"),
    "several models": ({"bundle": "b"}, "given were: --bundle, --command"),
    "no model": ({"command": None}, "given were: none"),
    "no input": ({"command": "ls {output}"}, "holds no {input}"),
    "open quotes": ({"command": "ls '{input} {output}"}, "close its quotes"),
    "open quotes of a bundle": (
        {"command": None, "bundle": BUNDLES / "phantom_so3_segmentation", "bundle_options": '--roi_size "[32'},
        "--bundle_options '--roi_size \"[32' cannot be read (No closing quotation): close its quotes.",
    ),
    "a tool without words": ({"command": "false {input} {output}"}, "ended with exit status 1; it printed nothing."),
    "no such values": (
        {"classes": "7,new:8=9"},
        "No label map holds any of the values 7, 9 that --classes asks for; they hold 0, 1, 2.",
    ),
    "no program": ({"command": "no-such-tool {input} {output}"}, "no program 'no-such-tool'"),
    "no bundle": ({"command": None, "bundle": "b"}, "has no configs/inference.json"),
    "no network": ({"command": None, "model": "m.pt"}, "--model m.pt is no file"),
    "foreign option": ({"normalization": "none"}, "--normalization does not go with --command"),
    "pose": ({"poses": "axial"}, "'axial', which is no pose"),
    "no size": ({"poses": "size"}, "'size', which is no pose"),
    "size of nothing": ({"poses": "size:0"}, "the size '0'. Legal are numbers from 0.1 to 10"),
    "size in words": ({"poses": "size:0.7+small"}, "the size '0.7+small'"),
    "turn at no size": ({"poses": "axial:45@"}, "the size ''"),
    "turn at two sizes": ({"poses": "axial:45@0.7+0.8"}, "'axial:45@0.7+0.8': behind a turn stands one size"),
    "header at a size": ({"poses": "header:30@0.7"}, "header:30 takes no size"),
    "classes": ({"classes": "1-2"}, "'1-2', which is no class"),
    "fill": ({"fill": "black"}, "fill 'black' is not legal"),
    "canvas": ({"canvas": "small"}, "canvas 'small' is not legal"),
    "jobs": ({"jobs": 0}, "--jobs 0 is not legal"),
    "cases": ({"num_cases": 0}, "leaves no case"),
    "nothing written": ({"command": "true {input} {output}"}, "no mask of its own for 2 of 2 images; it wrote nothing"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_options_are_told(name, folders, monkeypatch):
    monkeypatch.chdir(folders)
    options, message = BAD[name]
    given = {"images": "images", "labels": "labels", "output_dir": "out", "command": "ls {input} {output}", **options}
    with pytest.raises(SystemExit, match=re.escape(message)):
        poses(**given)


def test_files_that_do_not_fit_are_told(folders):
    label = folders / "labels" / "a.nii.gz"
    for volume, affine, message in (
        (anatomy()[1][1:], np.eye(4), "the spatial shape is (14, 18, 13)"),
        (anatomy()[1], np.diag([2, 1, 1, 1]), "the affine differs"),
        (anatomy()[0] / 3, np.eye(4), "are not legal; legal are whole numbers"),
    ):
        nib.save(nib.Nifti1Image(volume, affine), label)
        with pytest.raises(SystemExit, match=re.escape(message)):
            run(folders, command="ls {input} {output}")
    nib.save(nib.Nifti1Image(anatomy()[1], np.eye(4)), label)
    image = folders / "images" / "a.nii.gz"
    for value, message in ((np.nan, "1 of 3510 voxels are NaN or infinite"), (10, "must not be constant")):
        volume = np.full(SIZE, 10.0)
        volume[3, 3, 3] = value
        nib.save(nib.Nifti1Image(volume, np.eye(4)), image)
        with pytest.raises(SystemExit, match=re.escape(f"image {image}") + f": .*{message}"):
            run(folders, command="ls {input} {output}")
    label.unlink()
    with pytest.raises(SystemExit, match=r"^1 of 2 images .* have no label map .*\n  a: there is none"):
        run(folders, command="ls {input} {output}")


class Wrong(Threshold):
    """Writes masks with a fault."""

    def __init__(self, fault):
        super().__init__()
        self.fault = fault

    def segment(self, input_dir, output_dir, environment):
        super().segment(input_dir, output_dir, environment)
        file = nib.load(output_dir / "a.nii.gz")
        nib.save(self.fault(file.get_fdata(), file.affine), output_dir / "a.nii.gz")


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda mask, affine: nib.Nifti1Image(mask[1:], affine), r"has the shape \(14, 18, 13\), and its image"),
        (lambda mask, affine: nib.Nifti1Image(mask, affine + np.eye(4)), "The affine of a.nii.gz differs"),
        (lambda mask, affine: nib.Nifti1Image(mask / 3, affine), "other than whole numbers"),
    ],
)
def test_masks_that_do_not_fit_are_told_and_the_other_cases_scored(fault, message, folders):
    cases = find_cases(folders / "images", folders / "labels")
    measured = measure(Settings(Wrong(fault), Classes.parse("1"), Turning()), cases, [UPRIGHT], folders / "out")
    assert re.search(message, measured.problems["upright"])
    assert [row.case for row in measured.rows] == ["a_1"]


def test_a_mask_in_another_order_of_voxels_is_the_same_mask(folders):
    def reordered(mask, affine):
        return nib.Nifti1Image(mask[..., None], affine).as_reoriented(np.array([[1, -1], [2, 1], [0, 1]]))

    assert {row.dice for row in scores(folders, Wrong(reordered), [UPRIGHT])} == {1.0}


def test_names_are_matched_with_what_tools_put_behind_them():
    files = [
        Path(name) for name in ("case_1_seg.nii.gz", "case.nii", "case_2_a.nii.gz", "case_2_b.nii.gz", "case10.nii")
    ]
    found, problems = match_names(["case", "case_1", "case_2", "case1"], files)
    assert {name: path.name for name, path in found.items()} == {"case": "case.nii", "case_1": "case_1_seg.nii.gz"}
    assert problems == {"case_2": "case_2: there are case_2_a.nii.gz, case_2_b.nii.gz", "case1": "case1: there is none"}


def test_foreign_values_are_mapped(folders):
    mapped = Classes.parse("left:1=35,2=47+48,1+2=35+47")
    label = np.array([35, 47, 48, 2])
    assert mapped.names == ("left", "2", "1+2")
    assert mapped.channels(mapped.true_codes(label)).tolist() == [[1, 0, 0, 0], [0, 1, 1, 0], [1, 1, 0, 0]]
    assert mapped.channels(mapped.predicted_codes(label))[:, 3].tolist() == [0, 1, 1]
    assert Classes.parse(mapped.text) == mapped
    assert Classes.in_labels(find_cases(folders / "images", folders / "labels")).names == ("1", "2")


class Levels(torch.nn.Module):
    """Scores of the classes by their intensity."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([-(x - 10.0).abs(), -(x - 110.0).abs(), -(x + 90.0).abs()], 1)


def test_the_file_of_a_network_sees_what_its_options_say(folders):
    file = folders / "network.pt"
    torch.jit.script(Levels()).save(str(file))
    model = FileModel(file, "none", spacing_mm=1.0, divisible_by=16)
    chosen = [UPRIGHT, *named_poses("lattice,orders,header:30")[5::9]]
    rows = scores(folders, model, chosen)
    assert len(rows) == 4 * len(chosen)
    assert min(row.dice for row in rows) == 1
    assert model.preprocessing({"image": str(folders / "images" / "a.nii.gz")})["image"].shape == (1, 16, 32, 16)
    normalized = FileModel(file).preprocessing({"image": str(folders / "images" / "a.nii.gz")})["image"]
    assert abs(normalized.mean()) < 1e-5


def test_an_onnx_file_of_one_channel_is_a_class_where_it_is_above_zero(folders):
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    shape = [1, 1, "D", "H", "W"]
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in "xy"]
    limit = onnx.numpy_helper.from_array(np.float32(60), "limit")
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Sub", ["x", "limit"], ["y"])], "g", *[[v] for v in values], [limit]
    )
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, ir_version=8, opset_imports=opset), folders / "network.onnx")
    run(folders, model=str(folders / "network.onnx"), normalization="none", classes="1", poses="axial:90")
    assert {row["dice"] for row in table(folders)} == {"1.0"}


def test_the_bundle_finds_the_same_in_the_world_however_the_voxels_are_stored(tmp_path):
    data = write_phantoms(tmp_path / "data", num_training=1, num_validation=1, num_test=1, size=(32, 36, 30))
    cases = find_cases(data / "imagesTr", data / "labelsTr", num_cases=1)
    order = named_poses("orders")[7]
    settings = Settings(BundleModel(BUNDLES / "phantom_so3_segmentation"), Classes.parse("1,2,3"), Turning())
    rows = measure(settings, cases, [UPRIGHT, order], tmp_path / "out").rows
    assert min(row.dice for row in rows) > 0.5
    assert {row.rmse for row in rows} == {0.0}


def test_a_pyramid_keeps_what_its_network_loses_when_a_real_anatomy_shrinks(real_hippocampus, tmp_path):
    cases = [
        Case(case_name(item["image"]), Path(item["image"]), Path(item["label"]))
        for item in hippocampus_datalist(real_hippocampus, "test")[:1]
    ]
    pyramid = """--network '{"_target_": "equivariant_nets.ScalePyramid", "network": "$@network_def.to(@device)"}'"""
    losses = []
    for name, options in (("alone", ""), ("pyramid", pyramid)):
        model = BundleModel(BUNDLES / "hippocampus_mri_conventional_segmentation", options)
        settings = Settings(model, Classes.parse("1,2"), Turning())
        rows = measure(settings, cases, named_poses("size:0.6"), tmp_path / name).rows
        upright, small = (np.mean([row.dice for row in rows if row.kind == kind]) for kind in ("upright", "size 0.6"))
        assert upright > 0.7
        losses.append(upright - small)
    assert losses[0] > 2 * losses[1]


@pytest.mark.parametrize("option", ["--ckpt_dir {}", "--ckpt_dir={}", "--ckpt_path={}/model.pt"])
def test_other_weights_by_an_option_are_another_model(option, tmp_path):
    settings = []
    for weights in (b"first", b"second"):
        (tmp_path / "model.pt").write_bytes(weights)
        model = BundleModel(BUNDLES / "phantom_so3_segmentation", option.format(tmp_path))
        settings.append(model.settings())
    assert settings[0] != settings[1]


def test_a_label_map_that_is_rounded_and_placed_a_little_off_turns_as_its_image(folders):
    label = nib.load(folders / "labels" / "a.nii.gz")
    item = {"image": folders / "images" / "a.nii.gz", "label": folders / "labels" / "a.nii.gz"}
    off = label.affine + np.diag([0.003, -0.003, 0.003, 0])
    noisy = label.get_fdata() + np.random.RandomState(0).uniform(-4e-4, 4e-4, label.shape)
    nib.save(nib.Nifti1Image(noisy.astype(np.float32), off), folders / "off.nii.gz")
    for angle in np.linspace(3, 87, 15):
        turned = []
        for number, file in enumerate((item["label"], folders / "off.nii.gz")):
            (folder := folders / f"{angle:.0f}_{number}").mkdir()
            turned.append(turn_files({**item, "label": file}, plane_rotation("coronal", angle), Turning(), folder))
        images, labels = ([nib.load(pair[0][key]) for pair in turned] for key in ("image", "label"))
        assert (*labels[1].shape, 1) == images[1].shape
        assert np.array_equal(labels[1].affine, images[1].affine)
        assert np.array_equal(*(label.get_fdata() for label in labels))


def test_a_case_that_is_refused_once_turned_is_named_and_takes_none_before_it_along(folders):
    keys = ("image", "label")
    load = Compose([LoadVolumed(keys), Orientationd(keys, "RAS", labels=None)])

    def refuse(item):
        if str(item["label"]).endswith("label.nii") and item["case"] == "a_1":
            raise ValueError("No such body.")
        return load(item)

    data = [
        {key: str(folders / f"{key}s" / f"{name}.nii.gz") for key in keys} | {"case": name} for name in ("a", "a_1")
    ]
    sweep = FileRotationSweep(
        network=Levels(), data=data, preprocessing=refuse, inferer=lambda x, net: net(x), device="cpu",
        postprocessing=AsDiscreted(("pred", "label"), argmax=(True, False), to_onehot=3), class_names=["one", "two"],
        include_background=False, output_dir=folders, angles_degrees=[0, 45], planes=["axial"], random_poses=0,
    )  # fmt: skip
    with pytest.raises(
        ValueError, match=r"Case a_1, turned \(axial, 0\): ValueError: No such body\. .*--rotation_sweep#fill 0"
    ):
        sweep.run()
    assert {row["case"] for row in read_table(folders / "rotation_dice.csv")} == {"a"}


def test_a_sweep_over_files_reads_turned_files_by_the_preprocessing(folders):
    shapes, keys = [], ("image", "label")

    def segment(image, network):
        shapes.append(tuple(image.shape[1:]))
        return network(image[:, :1])

    def sweep(images, **options):
        FileRotationSweep(
            network=Levels(), data=[{"image": images, "label": str(folders / "labels" / "a.nii.gz"), "case": "own"}],
            preprocessing=Compose([LoadVolumed(keys), Orientationd(keys, "RAS", labels=None)]),
            postprocessing=AsDiscreted(("pred", "label"), argmax=(True, False), to_onehot=3), inferer=segment,
            device="cpu", class_names=["one", "two"], include_background=False, output_dir=folders,
            angles_degrees=[0, 90, 45], planes=["axial"], random_poses=1, **options,
        ).run()  # fmt: skip
        return read_table(folders / "rotation_dice.csv")

    file = str(folders / "images" / "a.nii.gz")
    rows = sweep(file)
    assert shapes[:3] == [(1, 15, 18, 13), (1, 18, 15, 13), (1, 24, 24, 13)]
    assert {(row["dice"], row["interpolation_dice"]) for row in rows[:4]} == {("1.0", "1.0")}
    dice, floor = (np.array([float(row[column]) for row in rows[4:]]) for column in ("dice", "interpolation_dice"))
    assert floor.min() < 1
    assert (dice > floor - 0.05).all()
    assert {row["case"] for row in rows} == {"own"}
    filled = sweep([file, file], fill="lowest")  # by the lowest value, which the network takes for the second class
    assert shapes[4:7] == [(2, 15, 18, 13), (2, 18, 15, 13), (2, 24, 24, 13)]
    assert max(float(row["dice"]) for row in filled[4:] if row["class"] == "two") < 0.2
