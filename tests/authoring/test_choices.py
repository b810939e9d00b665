"""Laws of what is chosen: it follows from the data and the memory, and what is chosen can be built and holds."""

import numpy as np
import pytest

from equivariant_nets.authoring.cases import Found
from equivariant_nets.authoring.choices import choose
from equivariant_nets.authoring.classes import TaskClass, choose_classes, class_problems, left_right_pairs
from equivariant_nets.authoring.networks import SYMMETRIES, build_network
from equivariant_nets.authoring.split import split_by_patient
from equivariant_nets.authoring.survey import CaseFacts
from equivariant_nets.inference.memory import SAFETY
from equivariant_nets.networks.materialize import materialize
from equivariant_nets.training.memory import estimate_training_bytes

VOLUMES = [symmetry for symmetry in SYMMETRIES if symmetry != "e2"]


def cases(size=(160, 180, 150), spacing=(1.0, 1.0, 1.0), number=10, labels=(1, 2), channels=1, names="case_{:03d}"):
    def fact(k):
        own = spacing[k % len(spacing)] if spacing and isinstance(spacing[0], tuple) else spacing
        intensities = ((0.0, 1.0, 2.0),) * channels
        return CaseFacts(
            names.format(k), size, size, own, "RAS", channels, intensities, 0.0, dict.fromkeys(labels, 100)
        )

    return [fact(k) for k in range(number)]


def chosen(facts=None, symmetry="so3", memory_gb=4.0, **options):
    return choose(facts or cases(), ["one", "two"], 8, symmetry, memory_gb, **options)


@pytest.mark.parametrize("symmetry", VOLUMES)
def test_a_step_of_training_fits_the_memory(symmetry):
    choices = chosen(symmetry=symmetry, memory_gb=1.5, spacing_mm=[1, 1, 1])
    batch = choices.train["batch_size"] * choices.train["patches_per_case"]
    shape = (batch, 1, *choices.train["patch_size"])
    assert SAFETY * estimate_training_bytes(build_network(choices.network, None), shape) <= 1.5e9
    assert choices.train["patch_size"][0] % 2 ** choices.network.definition["depth"] == 0


def test_more_memory_makes_no_patch_smaller_and_too_little_is_refused():
    sides = [chosen(symmetry="none", memory_gb=memory).train["patch_size"][0] for memory in (0.5, 2, 30)]
    assert sides == sorted(sides)
    assert sides[0] < sides[-1]
    with pytest.raises(ValueError, match=r"--memory_gb 0.001 is too little.*takes about"):
        chosen(symmetry="none", memory_gb=0.001)


def test_thick_slices_reach_the_network_and_nothing_turns_them():
    """1 x 1 x 5 mm in all cases: voxels stay so, and the kernels know; along different axes, voxels become alike."""
    choices = chosen(cases((200, 200, 30), (1.0, 1.0, 5.0)))
    assert choices.shared["spacing_mm"][2] / choices.shared["spacing_mm"][0] == pytest.approx(5, rel=0.1)
    assert choices.network.definition["spacing"] == "@spacing_mm"
    assert choices.train["augmentation"] == "none"
    net = materialize(build_network(choices.network, choices.shared["spacing_mm"]))
    assert any(len({*kernel.shape[-3:]}) > 1 for kernel in net.state_dict().values() if kernel.ndim == 5)
    mixed = chosen(cases((100, 100, 100), ((1.0, 1.0, 5.0), (5.0, 1.0, 1.0))))
    assert len({*mixed.shared["spacing_mm"]}) == 1
    assert "spacing" not in mixed.network.definition
    with pytest.raises(ValueError, match="--symmetry octahedral takes axes to each other"):
        chosen(cases((200, 200, 30), (1.0, 1.0, 5.0)), symmetry="octahedral")


@pytest.mark.parametrize("symmetry", VOLUMES)
def test_small_volumes_are_learned_whole_and_large_ones_in_patches(symmetry):
    small, large = chosen(cases((36, 50, 34)), symmetry), chosen(symmetry=symmetry)
    assert small.whole
    assert not large.whole
    assert small.network.definition["normalization"] == "content"
    assert large.network.definition["normalization"] == "batch"


def test_patches_of_huge_volumes_see_a_part_that_is_worth_it():
    huge = chosen(cases((500, 500, 400), (0.5, 0.5, 0.5)))
    assert huge.shared["spacing_mm"][0] > 0.5
    assert chosen(cases((500, 500, 400), (0.5,) * 3), spacing_mm=[0.5] * 3).shared["spacing_mm"] == [0.5] * 3


def test_what_does_not_fit_in_memory_is_not_kept_there():
    few, many = chosen(cases(number=10)), chosen(cases((300, 300, 300), number=200, channels=4))
    assert "train#dataset#cache_num" not in few.train
    assert 4 * 5 * np.prod([300.0 / many.shared["spacing_mm"][0]] * 3) * many.train["train#dataset#cache_num"] < 5e9


@pytest.mark.parametrize(("symmetry", "size"), [("e2", (60, 60, 60)), ("so3", (60, 60)), ("round", (60, 60, 60))])
def test_a_symmetry_that_does_not_fit_is_refused(symmetry, size):
    facts = cases(size, (1.0,) * 3 if len(size) == 3 else ())
    with pytest.raises(ValueError, match=rf"--symmetry {symmetry} is not legal for \w+; choose one of "):
        chosen(facts, symmetry)


def test_classes_are_values_or_what_is_asked_for():
    found = Found("", [], classes={1: "inner", 2: "outer"})
    assert choose_classes(found, cases(), None) == [TaskClass("inner", (1,)), TaskClass("outer", (2,))]
    assert choose_classes(found, cases(), "all=2+1") == [TaskClass("all", (1, 2))]
    assert [one.name for one in choose_classes(Found("", []), cases(labels=(7,)), None)] == ["structure"]
    assert [*class_problems(choose_classes(found, cases(labels=(1,)), None), cases(labels=(1,)))] == [
        "the class 'outer' (label 2) is in no case. Correct dataset.json or --classes, or add cases that have it"
    ]
    with pytest.raises(ValueError, match=r"50 values; legal are at most 40 classes.*--classes NAME=1,OTHER=2\+3"):
        choose_classes(Found("", []), cases(labels=tuple(range(1, 51))), None)
    for text in ("a", "a=0", "a=x", "=1", "a=1,a=2", "a=1,b=1", "a=1+", ""):
        with pytest.raises(ValueError, match="--classes"):
            choose_classes(found, cases(), text)


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        (["Left Putamen", "Right Putamen"], [("Left Putamen", "Right Putamen")]),
        (["kidney_r", "kidney_l", "spleen"], [("kidney_l", "kidney_r")]),
        (["bright spot", "left over"], []),  # letters inside of words are no sides
        (["left lung", "left kidney"], []),
    ],
)
def test_sides_are_pointed_out(names, pairs):
    assert left_right_pairs(names) == pairs


def test_patients_are_not_torn_apart_and_training_has_every_class():
    facts = cases(number=24, names="p{:03d}")
    renamed = [CaseFacts(**{**vars(case), "name": f"p{k // 3:02d}_visit{k % 3}"}) for k, case in enumerate(facts)]
    sections = split_by_patient(renamed, [], r"(p\d+)_")
    patients = [{name.partition("_")[0] for name in part} for part in sections.values()]
    assert sum(map(len, patients)) == len(set.union(*patients)) == 8
    assert sum(map(len, sections.values())) == 24
    rare = [CaseFacts(**{**vars(case), "labels": {1: 5, **({9: 5} if k == 4 else {})}}) for k, case in enumerate(facts)]
    assert "p004" in split_by_patient(facts, [])["test"]
    assert "p004" in split_by_patient(rare, [TaskClass("rare", (9,))])["training"]
    assert {name: len(part) for name, part in split_by_patient(facts[:3], []).items()} == dict.fromkeys(sections, 1)
    bids = [CaseFacts(**{**vars(case), "name": f"sub-{k // 2:02d}_ses-{k % 2}"}) for k, case in enumerate(facts)]
    subjects = [{name[:6] for name in part} for part in split_by_patient(bids, []).values()]
    assert sum(map(len, subjects)) == len(set.union(*subjects)) == 12
    with pytest.raises(ValueError, match=r"There are 2 patients .* legal are 3 or more"):
        split_by_patient(facts[:2], [])
    with pytest.raises(ValueError, match="is not in the name of the case 'p000'"):
        split_by_patient(facts, [], "q")
    with pytest.raises(ValueError, match="is no regular expression"):
        split_by_patient(facts, [], "(")
    with pytest.raises(ValueError, match="they lack none: too few cases"):
        split_by_patient(facts, [TaskClass("none", (9,))])
