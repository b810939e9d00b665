"""Laws of the pictures and the report of an evaluation."""

import base64
import csv
import warnings

import matplotlib.image
import numpy as np
import pytest
import torch
from outline import Outline

from equivariant_nets.evaluation.__main__ import cli
from equivariant_nets.evaluation.plots import plot_rotation_curves, plot_scale_curves, plot_vessel_curves
from equivariant_nets.evaluation.tables import read_table, summarize_rotation_table, summarize_scale_table
from equivariant_nets.pictures import three_planes
from equivariant_nets.webpage import write_report

COLUMNS = ["case", "plane", "angle_degrees", "class", "dice", "interpolation_dice"]
SCALE_COLUMNS = ["case", "factor", "class", "dice", "interpolation_dice"]


def write_table(path, rows, columns=COLUMNS):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


@pytest.fixture
def table(tmp_path):
    """Two cases; case b has no class y."""
    rows = [
        ("a", "axial", 0, "x", 0.9, 1), ("a", "axial", 0, "y", 0.7, 1), ("b", "axial", 0, "x", 0.4, 1),
        ("b", "axial", 0, "y", "nan", "nan"), ("a", "sagittal", 0, "x", 0.9, 1), ("a", "sagittal", 0, "y", 0.7, 1),
        ("b", "sagittal", 0, "x", 0.4, 1), ("a", "axial", 45, "x", 0.5, 0.9), ("b", "axial", 45, "x", 0.3, 0.9),
        ("a", "sagittal", 45, "x", 0.1, 0.9), ("b", "sagittal", 45, "x", 0.1, 0.9),
        ("a", "random", 45.0, "x", 0.2, 0.8), ("a", "random", 171.3, "x", 0.4, 0.8), ("b", "random", 90, "x", 0.5, 0.8),
    ]  # fmt: skip
    return write_table(tmp_path / "rotation_dice.csv", rows)


@pytest.fixture
def scale_table(tmp_path):
    """Two cases; case b has no class y."""
    rows = [
        ("a", 1.0, "x", 0.9, 1), ("a", 1.0, "y", 0.7, 1), ("b", 1.0, "x", 0.4, 1), ("b", 1.0, "y", "nan", "nan"),
        ("a", 0.85, "x", 0.5, 0.9), ("b", 0.85, "x", 0.3, 0.9),
    ]  # fmt: skip
    return write_table(tmp_path / "scale_dice.csv", rows, SCALE_COLUMNS)


def test_a_summary_of_sizes_is_the_mean_over_cases_of_their_means(scale_table):
    assert summarize_scale_table(scale_table) == pytest.approx({"1": (0.8 + 0.4) / 2, "0.85": (0.5 + 0.3) / 2})


def test_sizes_of_files_are_read_as_those_of_arrays(scale_table, tmp_path):
    columns = ["case", "pose", "kind", "angle_degrees", "class", "dice", "floor", "rmse"]
    rows = [list(row.values()) for row in read_table(scale_table)]
    names = {"1.0": "upright", "0.85": "size 0.85"}
    files = [(case, names[factor], names[factor], 0, *scores, 0) for case, factor, *scores in rows]
    turned = ("axial 45", "axial 45 at size 0.85")
    others = [(case, name, "plane", 45, "x", 0, 0, 0) for case in "ab" for name in turned]
    table = write_table(tmp_path / "poses_dice.csv", [*files, *others], columns)
    assert summarize_scale_table(table) == summarize_scale_table(scale_table)
    both = [picture(plot_scale_curves({"a": path}, tmp_path / "scales.png")) for path in (table, scale_table)]
    assert np.array_equal(*both)
    with pytest.raises(ValueError, match=r"rotation\.csv is no table of sizes: give"):
        summarize_scale_table(write_table(tmp_path / "rotation.csv", [("a", "axial", 0, "x", 1, 1)]))


def test_curves_of_sizes_show_every_network_and_the_floor(scale_table, tmp_path):
    rows = [list(row.values()) for row in read_table(scale_table)]
    changed = [[*row[:4], 0.5] for row in rows]
    tables = [scale_table, write_table(tmp_path / "floor.csv", changed, SCALE_COLUMNS)]
    one, lower = (picture(plot_scale_curves({"a": table}, tmp_path / "new" / "scales.png")) for table in tables)
    two = picture(plot_scale_curves({"a": scale_table, "b": tables[1]}, tmp_path / "scales.png"))
    again = write_table(tmp_path / "again.csv", rows[::-1], SCALE_COLUMNS)
    assert np.array_equal(picture(plot_scale_curves({"a": again}, tmp_path / "again.png")), one)
    assert not np.array_equal(one, lower)
    assert not np.array_equal(one, two)


def test_a_summary_is_the_mean_over_cases_of_their_means(table):
    summary = summarize_rotation_table(table)
    assert summary == pytest.approx(
        {"0 degrees": (0.8 + 0.4) / 2, "45 degrees": (0.3 + 0.2) / 2, "random rotations": (0.3 + 0.5) / 2}
    )


def test_a_summary_leaves_out_cases_without_any_class(table, tmp_path):
    rows = [list(row.values()) for row in read_table(table)]
    empty = [("c", plane, 0, name, "nan", "nan") for plane in ("axial", "random") for name in "xy"]
    more = write_table(tmp_path / "more.csv", rows + empty)
    assert summarize_rotation_table(more) == pytest.approx(summarize_rotation_table(table))
    alone = write_table(tmp_path / "alone.csv", empty)
    assert np.isnan(summarize_rotation_table(alone)["random rotations"])


def test_angles_of_a_summary_are_chosen(table):
    assert list(summarize_rotation_table(table, angles_degrees=(45, 30))) == ["45 degrees", "random rotations"]


def picture(path):
    return matplotlib.image.imread(path)


def test_curves_follow_the_table_and_not_the_order_of_its_rows(table, tmp_path):
    curves = picture(plot_rotation_curves({"net": table}, tmp_path / "new" / "curves.png"))
    rows = [list(row.values()) for row in read_table(table)]
    in_planes = sorted(rows[::-1], key=lambda row: ["axial", "sagittal", "random"].index(row[1]))
    shuffled = write_table(tmp_path / "shuffled.csv", in_planes)
    assert np.array_equal(picture(plot_rotation_curves({"net": shuffled}, tmp_path / "same.png")), curves)
    rows[0][4] = "0.1"
    other = write_table(tmp_path / "other.csv", rows)
    changed = picture(plot_rotation_curves({"net": other}, tmp_path / "other.png"))
    assert changed.shape != curves.shape or not np.array_equal(changed, curves)


def test_curves_of_several_networks_share_one_picture_without_a_warning(table, tmp_path):
    only_random = [row for row in read_table(table) if row["plane"] == "random"]
    lone = write_table(tmp_path / "lone.csv", [list(row.values()) for row in only_random])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        both = picture(plot_rotation_curves({"first": table, "second": lone}, tmp_path / "both.png"))
        alone = picture(plot_rotation_curves({"second": lone}, tmp_path / "alone.png"))
    assert both.shape[1] > 2 * alone.shape[1]


def volume(*size):
    return np.random.RandomState(0).rand(*size)


def test_the_command_line_plots_tables_by_name_and_summarizes_one(table, scale_table, tmp_path, capsys):
    def run(*arguments):
        cli([*map(str, arguments)])
        return capsys.readouterr().out

    assert str(tmp_path / "curves.png") in run("curves", tmp_path / "curves.png", "--plain", table)
    assert matplotlib.image.imread(tmp_path / "curves.png").ndim == 3
    printed = run("summary", table)
    assert all(f"{key}:" in printed for key in summarize_rotation_table(table))
    assert str(tmp_path / "scales.png") in run("scales", tmp_path / "scales.png", "--plain", scale_table)
    assert matplotlib.image.imread(tmp_path / "scales.png").ndim == 3
    printed = run("scale_summary", scale_table)
    assert all(f"{key}:" in printed for key in summarize_scale_table(scale_table))
    with pytest.raises(SystemExit, match="Give one or more, each as --NAME FILE"):
        run("curves", tmp_path / "none.png")


def test_planes_pass_through_the_foreground_of_the_first_label(tmp_path):
    image, label = volume(8, 9, 10), np.zeros((8, 9, 10))
    label[2, 3, 4] = 1
    shown = picture(three_planes(image, [("a", label)], tmp_path / "shown.png"))
    outside = image.copy()
    outside[5:, 5:, 6:] = outside[5:, 5:, 6:][::-1]  # in none of the planes D=2, H=3, W=4
    assert np.array_equal(picture(three_planes(outside, [("a", label)], tmp_path / "outside.png")), shown)
    inside = image.copy()
    inside[2] = inside[2, ::-1]
    assert not np.array_equal(picture(three_planes(inside, [("a", label)], tmp_path / "inside.png")), shown)


def test_each_label_map_has_a_row_and_each_class_its_colour(tmp_path):
    image = np.zeros((8, 8, 8))
    one, two = (torch.full((8, 8, 8), value) for value in (1, 2))
    single, double = (
        picture(three_planes(image, maps, tmp_path / "planes.png")) for maps in ([("a", one)], [("a", one), ("b", two)])
    )
    assert double.shape[0] > 1.5 * single.shape[0]

    def colours(pixels):
        values, counts = np.unique(pixels[..., :3].reshape(-1, 3), axis=0, return_counts=True)
        return {tuple(v) for v, c in zip(values, counts, strict=True) if c > 5000 and np.ptp(v) > 0.1}

    assert len(colours(single)) == 1
    assert len(colours(double)) == 2


@pytest.mark.parametrize("image", [volume(6, 7, 8), torch.rand(6, 7, 8), volume(6, 7, 8).astype("int16")])
def test_a_segmentation_without_foreground_is_drawn_through_the_middle(image, tmp_path):
    path = three_planes(image, [("empty", np.zeros((6, 7, 8)))], tmp_path / "new" / "empty.png")
    assert picture(path).ndim == 3


def test_thick_slices_look_as_thick_as_they_are(tmp_path):
    def extent(size, spacing):
        """Columns and rows of the middle panel, of D against W, that a full label map colours."""
        maps = [("", np.ones(size))]
        pixels = picture(three_planes(np.zeros(size), maps, tmp_path / "extent.png", spacing_mm=spacing))
        coloured = np.ptp(pixels[..., :3], axis=-1) > 0.1
        third = coloured.shape[1] // 3
        middle = coloured[:, third : 2 * third]
        return middle.any(0).sum() / middle.any(1).sum()

    assert extent((20, 20, 20), (1, 1, 1)) == pytest.approx(1, abs=0.05)
    assert extent((20, 20, 5), (1, 1, 4)) == pytest.approx(1, abs=0.05)
    assert extent((10, 20, 20), (4, 1, 1)) == pytest.approx(2, abs=0.1)


@pytest.fixture
def report(table, tmp_path):
    picture = plot_rotation_curves({"net": table}, tmp_path / "curves & more.png")
    path = write_report(
        tmp_path / "new" / "report.html", "Dice <0.5> & more", ["a < b", "é"], [[["net"], ["<i>x</i>"]]], [picture]
    )
    return Outline(path.read_text(encoding="utf-8")), picture


def test_a_report_holds_its_pictures_and_asks_for_nothing_else(report):
    outline, picture = report
    sources = [value for name, value in outline.attributes if name in ("src", "href", "data", "action", "srcset")]
    assert len(sources) == 1
    assert base64.b64decode(sources[0].removeprefix("data:image/png;base64,")) == picture.read_bytes()
    assert not {"link", "script", "iframe"} & set(outline.tags)
    assert ("alt", "curves & more") in outline.attributes


def test_a_report_shows_text_as_it_was_given(report):
    outline, _ = report
    assert {"Dice <0.5> & more", "a < b", "é", "net", "<i>x</i>"} <= set(outline.text)
    assert "i" not in outline.tags
    assert [outline.tags.count(tag) for tag in ("table", "th", "td", "img", "h1")] == [1] * 5


def test_vessel_curves_show_every_network_and_the_second_observer(tmp_path):
    columns = ["dataset", "reader", "angle_degrees", "dice"]
    networks = [["drive", "network", 0, 0.8], ["drive", "network", 45, 0.79], ["stare", "network", 0, 0.7]]
    pictures = []
    for rows in (
        networks,
        [*networks, ["drive", "second observer", 0, 0.75]],
        [*networks[:1], ["stare", *networks[2][1:]]],
    ):
        path = tmp_path / "scores.csv"
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([columns, *rows])
        pictures.append(picture(plot_vessel_curves({"D8": path}, tmp_path / "curves.png")))
    assert not np.array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[0], pictures[2])
