"""The real data of MICCAI 2012: the published split and numbers, brains and structures of the size of adults'."""

import csv

import torch
from monai.transforms import Compose

from equivariant_nets.data import (
    LABEL_TABLES,
    STRUCTURES,
    CheckSkullStrippedd,
    CheckVolumed,
    LoadVolumed,
    StructuresFromLabelsd,
    brain_structures_datalist,
)

SECTIONS = ("training", "validation", "test")


def test_the_real_data_is_split_7_3_10(real_brain_structures):
    split = {
        section: [item["case"] for item in brain_structures_datalist(real_brain_structures, section)]
        for section in SECTIONS
    }
    assert [len(split[section]) for section in SECTIONS] == [7, 3, 10]
    files = [path.name.removesuffix(".nii.gz") for path in (real_brain_structures / "images").iterdir()]
    assert sorted(name for own in split.values() for name in own) == sorted(files)


def test_the_codes_are_those_of_the_published_table(real_brain_structures):
    expected = {
        "cerebellum": {"Cerebellum Exterior", "Cerebellum White Matter"},
        "hippocampus": {"Hippocampus"},
        "lateral ventricles": {"Lateral Ventricle"},
        "caudate": {"Caudate"},
        "putamen": {"Putamen"},
        "pallidum": {"Pallidum"},
    }
    with (real_brain_structures / "labels.csv").open() as file:
        table = {int(row["Label Number"]): row["Label Name"] for row in csv.DictReader(file)}
    codes = LABEL_TABLES["neuromorphometrics"]
    assert [table[code] for code in codes["brain stem"]] == ["Brain Stem"]
    for structure, parts in expected.items():
        found = [table[code] for code in codes[structure]]
        assert sorted(found) == sorted(f"{side} {part}" for side in ("Left", "Right") for part in parts)
        assert [name.split()[0] for name in found] == ["Right", "Left"] * len(parts)


def test_real_cases_pass_every_check_with_volumes_of_adults(real_brain_structures):
    load = Compose(
        [
            LoadVolumed(("image", "label")),
            CheckVolumed("image", "label"),
            CheckSkullStrippedd(),
            StructuresFromLabelsd(),
        ]
    )
    legal_ml = {  # of the two sides of healthy adults; ventricles grow with age
        "cerebellum": (90, 190),
        "hippocampus": (5, 10),
        "lateral ventricles": (4, 80),
        "caudate": (4.5, 10),
        "putamen": (6, 13),
        "pallidum": (2, 5),
        "brain stem": (13, 27),
    }
    for section in SECTIONS:
        label = load(brain_structures_datalist(real_brain_structures, section)[0])["label"]
        assert label.max() == len(STRUCTURES)
        for index, structure in enumerate(STRUCTURES, start=1):
            low, high = legal_ml[structure]
            assert low < int(torch.count_nonzero(label == index)) / 1000 < high
