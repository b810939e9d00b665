"""Laws of the split by patient, and of the file that keeps it."""

import itertools
import json

import pytest

from equivariant_nets.data.brain_tumor.layouts import Case
from equivariant_nets.data.brain_tumor.split import fold_cases, split_cases, split_patients
from equivariant_nets.data.datalist import SECTIONS, nested_subset


def cases(count, visits=1):
    """Cases without files, ``visits`` of each patient."""
    return [
        Case(f"BraTS-GLI-{k:05d}-{visit:03d}", f"BraTS-GLI-{k:05d}", "image", "label")
        for k in range(count)
        for visit in range(visits)
    ]


def names(sections):
    return {section: [case.name for case in part] for section, part in sections.items()}


def test_the_484_cases_of_the_decathlon_are_shared_out_340_95_49():
    sections = split_patients(f"BRATS_{k:03d}" for k in range(1, 485))
    assert [len(sections[section]) for section in SECTIONS] == [340, 95, 49]
    assert sections["test"] != sorted(f"BRATS_{k:03d}" for k in range(1, 485))[-49:]


@pytest.mark.parametrize("count", [*range(12), 50, 369, 1251])
def test_every_patient_is_in_one_section_and_none_of_three_is_empty(count):
    patients = [f"p{k}" for k in range(count)]
    sections = split_patients(patients)
    assert sorted(itertools.chain(*sections.values())) == sorted(patients)
    assert sections == split_patients(reversed(patients))
    if count >= 3:
        assert all(sections.values())
    for section, share in zip(SECTIONS, (340, 95, 49), strict=True):
        assert abs(len(sections[section]) - count * share / 484) < 1.5


def test_the_visits_of_a_patient_stay_together():
    sections = split_cases(cases(40, visits=3))
    patients = [{case.patient for case in part} for part in sections.values()]
    assert sum(len(part) for part in sections.values()) == 120
    assert len(set.union(*patients)) == sum(map(len, patients)) == 40


def test_smaller_training_sets_are_part_of_larger_ones():
    training = split_cases(cases(60))["training"]
    subsets = [nested_subset(training, 2**power) for power in range(6)]
    for small, large in itertools.pairwise(subsets):
        assert large[: len(small)] == small


def test_the_file_is_written_once_and_then_decides(tmp_path):
    path = tmp_path / "new" / "split.json"
    written = split_cases(cases(10), path)
    content = json.loads(path.read_text())
    assert content == {"seed": 0, **names(written)}
    assert [file.name for file in path.parent.iterdir()] == ["split.json"]
    assert split_cases(cases(10), path) == written
    content["training"], content["test"] = content["test"], content["training"]
    path.write_text(json.dumps(content))
    assert names(split_cases(cases(10), path)) == {section: sorted(content[section]) for section in SECTIONS}


def test_cases_that_the_folder_lacks_are_listed(tmp_path):
    split_cases(cases(5), tmp_path / "split.json")
    with pytest.raises(FileNotFoundError, match=r"names 1 cases that the folder lacks: BraTS-GLI-00004-000\. Complete"):
        split_cases(cases(4), tmp_path / "split.json")


def test_cases_that_the_file_lacks_are_listed(tmp_path):
    split_cases(cases(5), tmp_path / "split.json")
    with pytest.raises(ValueError, match=r"does not name 1 cases of the folder: BraTS-GLI-00005-000\. Delete the file"):
        split_cases(cases(6), tmp_path / "split.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "is no split"),
        ('{"training": [], "validation": []}', "is no split"),
        ('{"training": [], "validation": [], "test": [1]}', "is no split"),
        (
            '{"training": ["BraTS-GLI-00000-000"], "validation": ["BraTS-GLI-00000-001"], "test": []}',
            "1 patients into two sections: BraTS-GLI-00000",
        ),
        (
            '{"training": ["BraTS-GLI-00000-000", "BraTS-GLI-00000-000", "BraTS-GLI-00000-001"], "validation": [], '
            '"test": []}',
            "cases twice: BraTS-GLI-00000-000",
        ),
    ],
)
def test_damaged_files_are_named(tmp_path, content, message):
    path = tmp_path / "split.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=rf"{path} .*{message}.*Delete the file to split anew, or give another"):
        split_cases(cases(1, visits=2), path)


@pytest.mark.parametrize(("count", "num_folds"), [(8, 4), (8, 8), (3, 3), (11, 4), (4, 2)])
def test_over_the_folds_every_patient_is_a_test_case_once_and_never_learned_from_there(count, num_folds):
    folds = [names(fold_cases(cases(count, visits=2)[::-1], fold, num_folds)) for fold in range(num_folds)]
    everything = sorted(case.name for case in cases(count, visits=2))
    assert sorted(itertools.chain(*(fold["test"] for fold in folds))) == everything
    for fold in folds:
        assert sorted(itertools.chain(*fold.values())) == everything
        assert all(part == sorted(part) and part for part in fold.values())
        patients = {section: {name[:-4] for name in part} for section, part in fold.items()}
        assert len(patients["validation"]) == 1
        assert sum(map(len, patients.values())) == count


def test_the_folds_of_eight_patients_are_pairs_of_neighbours():
    tests = [names(fold_cases(cases(8), fold, 4))["test"] for fold in range(4)]
    assert tests == [[f"BraTS-GLI-{k:05d}-000" for k in pair] for pair in ((0, 1), (2, 3), (4, 5), (6, 7))]


@pytest.mark.parametrize(
    ("count", "fold", "num_folds", "message"),
    [
        (8, 4, 4, r"fold is 4; legal are 0 to 3"),
        (8, -1, 4, r"fold is -1; legal are 0 to 3"),
        (8, 0, 1, r"num_folds is 1 for 8 patients; legal are 2 to"),
        (8, 0, 9, r"num_folds is 9 for 8 patients"),
        (3, 0, 2, r"num_folds is 2 for 3 patients; .* leaves two patients or more"),
    ],
)
def test_folds_that_cannot_be_are_refused(count, fold, num_folds, message):
    with pytest.raises(ValueError, match=message):
        fold_cases(cases(count), fold, num_folds)
