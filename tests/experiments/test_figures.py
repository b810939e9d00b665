"""Plots follow the scores and not their order, and pictures show the cases that the ranks name."""

import warnings

import matplotlib.image
import numpy as np
import pytest
from PIL import Image
from stores import CASES, finish, make_experiment, save_weights, write_pictured_bundle

from equivariant_nets.experiments import pictures as case_pictures
from equivariant_nets.experiments.figures import plot_experiment
from equivariant_nets.experiments.pictures import draw_cases, ranked_cases
from equivariant_nets.experiments.plan import PLOTS
from equivariant_nets.experiments.results import read_settings

NETWORKS = ("steerable", "conventional, ±20° $x$", "_third")


def dice(run, case, structure, plane, angle):
    width = run.value if isinstance(run.value, int) else 1
    loss = NETWORKS.index(run.network) * angle / 1000
    return round(0.7 + 0.01 * CASES.index(case) + 0.02 * (structure == "x") + 0.001 * width * run.seed - loss, 5)


def settings_of(folder, experiment, scores=dice, **options):
    for run in experiment.runs:
        finish(run, folder, scores, parameters=100 * (run.value if isinstance(run.value, int) else 1), **options)
    return read_settings(experiment, folder)[0]


def draw(folder, plot, scores=dice, values=(None,), **options):
    """The pictures of a plot by their names, drawn without a warning."""
    experiment = make_experiment(folder, networks=NETWORKS, values=values, plot=plot)
    settings = settings_of(folder, experiment, scores, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        paths = plot_experiment(experiment, settings, folder / "pictures")
    return {path.name: matplotlib.image.imread(path) for path in paths}


VALUES = {"rotation": (None,), "curve": (2, 8, 32), "structures": (None,), "parameters": (1, 3, 40)}
FILES = {
    "rotation": ["rotation_mean.png", "rotation.png"],
    "curve": ["curve.png"],
    "structures": ["structures.png"],
    "parameters": ["parameters.png"],
}


@pytest.mark.parametrize("plot", PLOTS)
def test_plots_follow_the_scores_and_not_their_order(tmp_path, plot):
    def lower(run, *pose):
        return dice(run, *pose) - 0.2 * (run.network == NETWORKS[1])

    drawn = draw(tmp_path / "a", plot, values=VALUES[plot])
    again = draw(tmp_path / "b", plot, values=VALUES[plot], order=lambda rows: rows[::-1])
    other = draw(tmp_path / "c", plot, lower, values=VALUES[plot])
    assert list(drawn) == FILES[plot]
    for name, pixels in drawn.items():
        assert np.array_equal(pixels, again[name])
        assert pixels.shape != other[name].shape or not np.array_equal(pixels, other[name])


def test_every_network_has_its_colour_and_every_structure_its_row(tmp_path):
    drawn = draw(tmp_path, "rotation")
    assert drawn["rotation.png"].shape[0] > 2 * drawn["rotation_mean.png"].shape[0]
    for pixels in drawn.values():
        found = {tuple(colour) for colour in np.unique((255 * pixels[..., :3]).astype(int).reshape(-1, 3), axis=0)}
        assert {(31, 119, 180), (255, 127, 14), (44, 160, 44)} <= found


def test_what_was_not_measured_has_no_panel(tmp_path):
    everything = draw(tmp_path / "a", "curve", values=(2, 8))["curve.png"]
    no_45 = draw(tmp_path / "b", "curve", values=(2, 8), poses=[("axial", 0), ("random", 30)])["curve.png"]
    upright = draw(tmp_path / "c", "curve", values=(2, 8), poses=[("axial", 0)])["curve.png"]
    assert everything.shape[1] > no_45.shape[1] > upright.shape[1]


def test_an_experiment_on_rotations_that_turned_nothing_has_no_plot(tmp_path):
    experiment = make_experiment(tmp_path)
    for run in experiment.runs:
        (finish(run, tmp_path, lambda *_: 0.5) / "rotation_dice.csv").unlink()
    assert plot_experiment(experiment, read_settings(experiment, tmp_path)[0], tmp_path) == []


def test_values_that_are_no_numbers_stand_side_by_side(tmp_path):
    assert "curve.png" in draw(tmp_path, "curve", values=("4x0e", "2x0e+1x1e"))


@pytest.mark.parametrize(
    ("dice", "median", "worst"),
    [
        ([0.5, 0.9, 0.7], ("c", 2), ("a", 3)),
        ([0.9, 0.5, 0.7, 0.6], ("d", 3), ("b", 4)),  # the lower of 0.6 and 0.7
        ([0.5, 0.5, 0.5, 0.5], ("b", 3), ("a", 4)),  # by name
        ([0.4], ("a", 1), ("a", 1)),
    ],
)
def test_the_median_and_the_worst_case_are_those_of_their_ranks(dice, median, worst):
    means = dict(zip("abcd", dice, strict=False))
    assert ranked_cases(means) == {"median": median, "worst": worst}
    assert ranked_cases(dict(reversed(means.items()))) == ranked_cases(means)


@pytest.fixture
def pictured(tmp_path):
    """An experiment whose networks can be drawn, and its settings."""
    return write_pictured(tmp_path)


def write_pictured(folder, axes=3):
    experiment = make_experiment(folder, networks=NETWORKS, values=(1, 4))
    write_pictured_bundle(folder, axes=axes)
    settings = settings_of(folder, experiment)
    for run in experiment.runs:
        save_weights(run, folder, axes)
    return settings, folder


def test_a_network_of_pictures_is_drawn_upright_and_turned(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(case_pictures, "show_plane", lambda _, image, label, *where: shown.append((image, label)))
    settings, folder = write_pictured(tmp_path, axes=2)
    assert len(draw_cases(settings, folder, folder / "pictures")) == 2 * len(NETWORKS)
    (image, manual), (_, predicted), (turned, _), (_, predicted_turned) = shown[:4]
    assert image.shape == manual.shape == (8, 10, 1)  # as Pillow reads it: columns, rows
    written = np.asarray(Image.open(folder / "images" / "case_03.tiff"))
    assert np.allclose(image[..., 0].T[::-1], written, atol=1e-6)  # the lowest row of pixels first
    assert np.array_equal(manual, predicted)
    assert turned.shape[:2] != image.shape[:2]
    assert {*np.unique(predicted_turned)} == {0, 1, 2}


def test_each_network_is_drawn_at_its_largest_value_and_first_seed(pictured):
    settings, folder = pictured
    drawn = draw_cases(settings[::-1], folder, folder / "pictures")

    n = len(CASES)
    assert [title for _, title in drawn] == [
        f"{name}, 4, seed 0: {kind}, mean Dice {mean}"
        for name in NETWORKS[::-1]
        for kind, mean in (
            (f"median test case case_03, rank 5 of {n}", "0.730"),
            (f"worst test case case_00, rank {n} of {n}", "0.700"),
        )
    ]
    assert len({path for path, _ in drawn}) == len(drawn)
    assert all(matplotlib.image.imread(path).ndim == 3 for path, _ in drawn)


def test_missing_weights_and_cases_are_named(pictured):
    settings, folder = pictured
    write_pictured_bundle(folder, CASES[1:])
    with pytest.raises(ValueError, match=f"test section of {folder} has no case case_00"):
        draw_cases(settings, folder, folder / "pictures")
    next(folder.glob("runs/*")).rename(folder / "gone")
    for weights in folder.glob("runs/*/model.pt"):
        weights.unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.pt are not there\. Delete "):
        draw_cases(settings, folder, folder / "pictures")
