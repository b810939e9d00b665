"""Laws of the statistics: cases are the sample, whatever else was averaged, and known answers come out."""

import dataclasses

import numpy as np
import pytest
from scipy import stats
from stores import CASES, finish, make_experiment

from equivariant_nets.experiments.results import Score, read_settings
from equivariant_nets.experiments.statistics import (
    MIN_CASES,
    adjust_holm,
    bootstrap_interval,
    case_means,
    compare,
    differences,
    reference_of,
    seed_means,
    signed_rank_p,
)
from equivariant_nets.experiments.tables import UPRIGHT_POSE, measured_poses, summarize, write_summary

NAN = float("nan")


def named(values):
    return {f"case_{index:03d}": float(value) for index, value in enumerate(values)}


def test_a_case_is_the_mean_over_structures_and_poses_and_then_over_seeds():
    rows = [(0, "a", "x", 0.8), (0, "a", "y", 0.6), (1, "a", "x", 0.2), (1, "a", "y", NAN), (0, "b", "x", 0.5)]
    scores = [Score(seed, case, structure, "axial", 0.0, dice, 1.0) for seed, case, structure, dice in rows]
    scores.append(Score(0, "c", "x", "axial", 0.0, NAN, 1.0))

    assert case_means(scores) == pytest.approx({"a": (0.7 + 0.2) / 2, "b": 0.5})
    assert case_means(scores[::-1]) == case_means(scores)
    assert case_means(scores, "interpolation_dice") == {"a": 1, "b": 1, "c": 1}
    assert seed_means(scores) == pytest.approx({0: (0.7 + 0.5) / 2, 1: 0.2})


def test_more_structures_poses_or_seeds_do_not_narrow_the_interval():
    few = [Score(0, case, "x", "axial", 0.0, value, 1.0) for case, value in named(np.linspace(0.5, 0.9, 12)).items()]
    many = [s._replace(seed=seed, structure=x) for s in few for seed in range(3) for x in "xyz"]
    assert bootstrap_interval(case_means(many)) == pytest.approx(bootstrap_interval(case_means(few)))


def test_the_interval_holds_the_true_mean_about_as_often_as_it_says():
    random = np.random.RandomState(0)
    found = [bootstrap_interval(named(0.8 + 0.05 * random.randn(30))) for _ in range(60)]
    assert 53 <= sum(low <= 0.8 <= high for _, low, high, _ in found) <= 60
    assert all(low < mean < high for mean, low, high, _ in found)
    normal = [2 * 1.96 * 0.05 / 30**0.5] * 60
    assert np.mean([high - low for _, low, high, _ in found]) == pytest.approx(np.mean(normal), rel=0.1)


def test_equal_values_have_an_interval_of_no_width_and_one_case_has_none():
    assert bootstrap_interval(named([0.25] * 5)) == (0.25, 0.25, 0.25, 5)
    assert np.isnan(bootstrap_interval(named([0.25])).low)
    assert np.isnan(bootstrap_interval({}).mean)


def test_differences_are_paired_by_case():
    assert differences({"b": 0.5, "a": 0.5, "c": 1.0}, {"a": 0.25, "b": 0.5}) == {"b": 0.0, "a": 0.25}
    random = np.random.RandomState(0)
    difficulty = random.rand(20)
    first, second = named(difficulty + 0.01 + 0.001 * random.randn(20)), named(difficulty)
    paired = bootstrap_interval(differences(first, second))
    assert paired.high - paired.low < 0.002 < bootstrap_interval(first).high - bootstrap_interval(first).low


@pytest.mark.parametrize(
    ("values", "p"),
    [
        (range(1, 7), 2 / 2**6),  # one of 64 signs is as extreme, on either side
        ([-1, 2, 3, 4, 5, 6, 7], 4 / 2**7),
        (range(-10, 0), 2 / 2**10),
        ([0.0] * 8, 1.0),
        (range(1, MIN_CASES), NAN),
    ],
)
def test_signed_rank_p_values_are_those_counted_by_hand(values, p):
    assert signed_rank_p(named(np.array(values) / 100)) == pytest.approx(p, nan_ok=True)


def test_rounding_errors_make_no_ranks():
    noise = 1e-15 * np.random.RandomState(0).randn(8)
    assert signed_rank_p(named(noise)) == 1.0
    ties = np.array([0.1, 0.1, -0.1, 0.2, 0.2, 0.3, 0.3, 0.3])
    assert signed_rank_p(named(ties + noise)) == signed_rank_p(named(ties)) == stats.wilcoxon(ties).pvalue


@pytest.mark.parametrize(
    ("p", "adjusted"),
    [
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),
        ([0.5, 0.9], [1.0, 1.0]),
        ([0.02, NAN, 0.01], [0.02, NAN, 0.02]),
        ([0.01, 0.01], [0.02, 0.02]),
        ([], []),
    ],
)
def test_holm_is_as_by_hand(p, adjusted):
    assert adjust_holm(p) == pytest.approx(adjusted, nan_ok=True)


def settings_of(tmp_path, dice, **options):
    experiment = make_experiment(tmp_path, **options)
    for run in experiment.runs:
        finish(run, tmp_path, dice)
    return read_settings(experiment, tmp_path)[0]


def turned(run, case, structure, plane, angle):
    """Dice that the first network keeps, and the second loses by the angle."""
    own = 0.8 + 0.01 * CASES.index(case) - 0.02 * (structure == "anterior") + 0.001 * run.seed
    return round(own if run.network == "steerable" else own - angle / 1000, 5)


def test_a_network_that_is_constant_under_rotation_loses_exactly_nothing(tmp_path):
    drops = [row for row in summarize(settings_of(tmp_path, turned)) if row.table == "drop"]

    steerable = {row.pose: row[6:9] for row in drops if row.network == "steerable"}
    assert steerable == {pose: pytest.approx((0, 0, 0), abs=1e-12) for pose in steerable}
    assert list(steerable) == ["45 degrees", "90 degrees", "random rotations"]
    other = {row.pose: row.mean for row in drops if row.network != "steerable"}
    assert other == pytest.approx({"45 degrees": 0.045, "90 degrees": 0.09, "random rotations": 0.1205})


def test_tables_have_every_setting_pose_and_structure(tmp_path):
    settings = settings_of(tmp_path, turned)
    rows = summarize(settings)

    poses = [pose.name for pose in measured_poses(settings)]
    assert poses == ["upright", "45 degrees", "90 degrees", "random rotations"]
    for table, structures in (("dice", [""]), ("structure", ["anterior", "posterior"]), ("seeds", [""])):
        asked = {(s.network, pose, name) for s in settings for pose in poses for name in structures}
        assert {(row.network, row.pose, row.structure) for row in rows if row.table == table} == asked
    upright = next(row for row in rows if row[:2] == ("dice", "conventional"))
    assert upright.mean == pytest.approx(0.8 + 0.035 - 0.01 + 0.0005)
    assert (upright.cases, upright.seeds) == (len(CASES), 2)
    spread = next(row for row in rows if row[:2] == ("seeds", "conventional"))
    assert spread[6:9] == pytest.approx((upright.mean, upright.mean - 0.0005, upright.mean + 0.0005))
    text = write_summary(rows, tmp_path / "summary.csv").read_text().splitlines()
    assert len(text) == 1 + len(rows)
    assert text[0].startswith("table,network,value,reference,structure,pose,mean,low,high")


def test_comparisons_are_of_case_means_and_corrected_together(tmp_path):
    settings = settings_of(tmp_path, turned, networks=("steerable", "conventional", "same"))
    poses = measured_poses(settings)
    found = compare(settings, poses)

    assert [(c.setting.network, c.reference.network) for c in found] == [
        (name, "steerable") for name in ("conventional", "same") for _ in poses
    ]
    upright, at_45, at_90, at_random = found[:4]
    assert (upright.p, upright.difference.mean) == (1.0, pytest.approx(0))
    for comparison, loss in ((at_45, 0.045), (at_90, 0.09), (at_random, 0.1205)):
        assert comparison.difference.mean == pytest.approx(-loss)
        assert comparison.p == 2 / 2 ** len(CASES)
    assert [c.p_holm for c in found] == adjust_holm([c.p for c in found])


def test_too_few_cases_have_no_test(tmp_path):
    experiment = make_experiment(tmp_path)
    for run in experiment.runs:
        finish(run, tmp_path, turned, cases=CASES[: MIN_CASES - 1])
    found = compare(read_settings(experiment, tmp_path)[0], [UPRIGHT_POSE])
    assert [c.difference.cases for c in found] == [MIN_CASES - 1]
    assert np.isnan([(c.p, c.p_holm) for c in found]).all()


def test_the_reference_is_the_first_network_at_the_same_value(tmp_path):
    def references(**options):
        settings = settings_of(tmp_path / str(len(options["networks"])), turned, seeds=(0,), **options)
        found = [(setting, reference_of(setting, settings)) for setting in settings]
        return [(setting.label, reference and reference.label) for setting, reference in found]

    assert references(networks=("a", "b"), values=(1, 2)) == [
        ("a, 1", None), ("a, 2", None), ("b, 1", "a, 1"), ("b, 2", "a, 2")
    ]  # fmt: skip
    assert references(networks=("a",), values=(1, 2)) == [("a, 1", None), ("a, 2", "a, 1")]


def test_where_the_first_network_lacks_the_value_the_reference_is_its_last(tmp_path):
    settings = settings_of(tmp_path, turned, networks=("a", "b"), values=(1, 2), seeds=(0,))
    other = dataclasses.replace(settings[3], value=7)
    assert reference_of(other, [*settings[:3], other]) is settings[1]
