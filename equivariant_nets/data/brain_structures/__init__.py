"""Healthy brain structures in skull-stripped T1 MRI: MICCAI 2012, or Mindboggle101's OASIS-TRT-20, with one split."""

from __future__ import annotations

from pathlib import Path

from equivariant_nets.data.brain_structures.check import check_brain_structures
from equivariant_nets.data.brain_structures.contrast import BrainRegionsd, RandRegionContrastd
from equivariant_nets.data.brain_structures.labels import (
    LABEL_TABLES,
    STRUCTURES,
    StructuresFromLabelsd,
    target_structures,
)
from equivariant_nets.data.brain_structures.layouts import ADVICE, find_dataset
from equivariant_nets.data.brain_structures.phantoms import write_brain_phantoms
from equivariant_nets.data.brain_structures.skull import CheckSkullStrippedd
from equivariant_nets.data.datalist import missing_files, select_section

__all__ = [
    "LABEL_TABLES",
    "STRUCTURES",
    "BrainRegionsd",
    "CheckSkullStrippedd",
    "RandRegionContrastd",
    "StructuresFromLabelsd",
    "brain_structures_datalist",
    "check_brain_structures",
    "target_structures",
    "write_brain_phantoms",
]


def brain_structures_datalist(
    dataset_dir: str | Path, section: str = "training", train_cases: int | None = None
) -> list[dict[str, str]]:
    """The cases of one section of the brain structures of MICCAI 2012 or of Mindboggle101.

    Both have a fixed split of 7 cases for training, 3 for validation and 10 for testing, by their names: 1000 to 1019
    and 1036, or OASIS-TRT-20-1 to -20, in this order 1-7, 8-10 and 11-20. It is not moved by files that are missing or
    added: the further cases of the challenge, second scans of the same people among them, are left out. A set with none
    of these names, such as a folder of one's own in the layout of MICCAI 2012, is sorted by name: the first 35 % are
    for training, the next 15 % for validation, at least one each, and the rest for testing.

    The image is the skull-stripped one. Labels of Mindboggle101 are those of the folder
    ``OASIS-TRT-20_DKT31_CMA_labels_v2`` where it is there, which a person drew. Else they are
    ``labels.DKT31.manual+aseg``, of which only the cortex is manual: the seven structures in it are FreeSurfer's
    automatic segmentation, and a network that learns from it learns to repeat FreeSurfer. The two are not mixed.

    Args:
        dataset_dir: the folder that holds ``images`` and ``labels`` (MICCAI 2012), or ``OASIS-TRT-20_volumes``
            (Mindboggle101), or the latter itself.
        section: ``training``, ``validation`` or ``test``.
        train_cases: keep so many training cases, the first of a fixed shuffle; subsets are nested. None keeps all.

    Returns:
        dicts of ``image`` and ``label``, absolute paths; ``case``, the name; and ``convention``, ``neuromorphometrics``
        or ``freesurfer``, which ``StructuresFromLabelsd`` reads.

    Raises:
        FileNotFoundError: the folder does not exist or holds no case, or files are missing; the message lists them.
        ValueError: the section or ``train_cases`` is not legal.
    """
    dataset = find_dataset(dataset_dir)
    cases = [case for own in dataset.sections.values() for case in own]
    if missing := missing_files((str(file) for case in cases for file in (case.image, case.label)), dataset.folder):
        raise FileNotFoundError(
            f"{dataset.folder} is incomplete: {missing}\n{ADVICE}\n"
            f"List all problems with: python -m {__name__} --dataset_dir {dataset_dir}"
        )
    sections = {
        part: [
            {"image": str(case.image), "label": str(case.label), "case": case.name, "convention": dataset.convention}
            for case in own
        ]
        for part, own in dataset.sections.items()
    }
    return select_section(sections, section, train_cases)
