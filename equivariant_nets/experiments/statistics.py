"""Statistics over cases: the cases are the sample, never structures, poses or seeds, which are averaged before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from equivariant_nets.evaluation.tables import group_means, standard_error
from equivariant_nets.experiments.results import Pose, Score, Setting

__all__ = [
    "MIN_CASES",
    "Comparison",
    "Interval",
    "adjust_holm",
    "bootstrap_interval",
    "case_means",
    "compare",
    "differences",
    "mean_and_error",
    "reference_of",
    "seed_means",
    "signed_rank_p",
]

MIN_CASES = 6  # with fewer the smallest two-sided p-value of the signed-rank test is above 0.05
_RESAMPLES = 9_999
_ROUNDING = 9  # decimals: finer differences are rounding errors, and must not make ranks


class Interval(NamedTuple):
    """A mean over cases, and the ends of its 95 % confidence interval, NaN where there are too few cases."""

    mean: float
    low: float
    high: float
    cases: int


class Comparison(NamedTuple):
    """A setting against another in one pose: the difference of their Dice, paired by case."""

    setting: Setting
    reference: Setting
    pose: Pose
    difference: Interval
    p: float
    p_holm: float


def case_means(scores: Iterable[Score], column: str = "dice") -> dict[str, float]:
    """The mean of each case over structures and poses, averaged over seeds, by its name, sorted.

    A structure that a case lacks does not count, and a case without any has no mean.
    """
    of_seeds = group_means(((score.case, score.seed), getattr(score, column)) for score in sorted(scores))
    return dict(sorted(group_means((case, mean) for (case, _), mean in of_seeds.items()).items()))


def seed_means(scores: Iterable[Score]) -> dict[int, float]:
    """The mean over cases of :func:`case_means`, for each seed alone."""
    seeds: dict[int, list[Score]] = {}
    for score in scores:
        seeds.setdefault(score.seed, []).append(score)
    means = {seed: list(case_means(own).values()) for seed, own in sorted(seeds.items())}
    return {seed: float(np.mean(values)) for seed, values in means.items() if values}


def mean_and_error(means: Mapping[str, float]) -> tuple[float, float]:
    """Mean over cases and its standard error; NaN without cases, and no error of one."""
    values = np.array(list(means.values()))
    return (float(values.mean()), standard_error(values)) if len(values) else (float("nan"), float("nan"))


def bootstrap_interval(means: Mapping[str, float]) -> Interval:
    """Mean over cases with its bootstrap interval: bias-corrected and accelerated (BCa), cases drawn anew.

    Of differences of paired cases it is the paired interval. Equal values have an interval of width 0.
    """
    values = np.array([means[case] for case in sorted(means)])
    if len(values) < 2:
        return Interval(float(values.mean()) if len(values) else float("nan"), float("nan"), float("nan"), len(values))
    mean = float(values.mean())
    if np.ptp(values) < 10**-_ROUNDING:
        return Interval(mean, mean, mean, len(values))
    random = np.random.default_rng(0)
    ends = stats.bootstrap(
        (values,), np.mean, n_resamples=_RESAMPLES, method="BCa", random_state=random
    ).confidence_interval
    return Interval(mean, float(ends.low), float(ends.high), len(values))


def differences(first: Mapping[str, float], second: Mapping[str, float]) -> dict[str, float]:
    """First minus second, of the cases that both have."""
    return {case: first[case] - second[case] for case in first if case in second}


def signed_rank_p(paired: Mapping[str, float]) -> float:
    """Two-sided p-value of Wilcoxon's signed-rank test of differences; NaN of fewer than ``MIN_CASES`` cases."""
    values = np.round(list(paired.values()), _ROUNDING)
    if len(values) < MIN_CASES:
        return float("nan")
    return float(stats.wilcoxon(values).pvalue) if values.any() else 1.0


def adjust_holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction for several tests. NaN, where there was no test, stays and does not count."""
    adjusted, highest = list(p_values), 0.0
    tested = sorted((i for i, p in enumerate(p_values) if not np.isnan(p)), key=lambda i: p_values[i])
    for rank, index in enumerate(tested):
        highest = max(highest, min(1.0, (len(tested) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def reference_of(setting: Setting, settings: Sequence[Setting]) -> Setting | None:
    """What a setting is compared with: the first network, at the same value if it has it, else at its last.

    One network alone is compared with itself at its first value. A reference has no reference.
    """
    first = [s for s in settings if s.network == settings[0].network]
    if len(first) == len(settings):
        return None if setting is first[0] else first[0]
    if setting.network == settings[0].network:
        return None
    return next((s for s in first if s.value == setting.value), first[-1])


def compare(settings: Sequence[Setting], poses: Sequence[Pose]) -> list[Comparison]:
    """Each setting against its reference in each pose, with p-values corrected over all of them (Holm)."""
    found = []
    for setting in settings:
        if (reference := reference_of(setting, settings)) is None:
            continue
        for pose in poses:
            paired = differences(*(case_means(s.within(pose)) for s in (setting, reference)))
            if paired:
                found.append(Comparison(setting, reference, pose, bootstrap_interval(paired), signed_rank_p(paired), 1))
    adjusted = adjust_holm([comparison.p for comparison in found])
    return [c._replace(p_holm=p) for c, p in zip(found, adjusted, strict=True)]
