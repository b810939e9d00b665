"""Laws of the split by patient, and of the file that keeps it."""

import itertools
import json

import pytest

from equivariant_nets.data.brain_tumor.layouts import Case
from equivariant_nets.data.brain_tumor.split import split_cases, split_patients
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
