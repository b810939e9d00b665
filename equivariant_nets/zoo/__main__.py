"""Make a bundle for data of one's own, build the configs of bundles, check them, pack them as the Model Zoo distributes
them, and list them.

python -m equivariant_nets.zoo new liver_ct_so3_segmentation --dataset_dir data/liver
python -m equivariant_nets.zoo build bundles/hippocampus_mri_so3_segmentation
python -m equivariant_nets.zoo check bundles/hippocampus_mri_so3_segmentation
python -m equivariant_nets.zoo pack bundles/hippocampus_mri_so3_segmentation --output_dir dist
python -m equivariant_nets.zoo table bundles
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from tqdm import tqdm

from equivariant_nets.authoring import new_bundle, twin_bundle
from equivariant_nets.cli import command_line
from equivariant_nets.files import write_text
from equivariant_nets.zoo.build import build_bundle
from equivariant_nets.zoo.bundle import WEIGHTS, Bundle
from equivariant_nets.zoo.check import check_bundle
from equivariant_nets.zoo.files import missing_weights
from equivariant_nets.zoo.pack import pack_bundle
from equivariant_nets.zoo.sources import is_sources
from equivariant_nets.zoo.style import check_formatters
from equivariant_nets.zoo.table import bundle_table


def new(
    name: str,
    *,
    dataset_dir: str | None = None,
    bundles_dir: str = "bundles",
    symmetry: str | None = None,
    memory_gb: float | None = None,
    spacing_mm: str | None = None,
    classes: str | None = None,
    images: str | None = None,
    labels: str | None = None,
    patient: str | None = None,
    like: str | None = None,
) -> str:
    """Make a bundle for a data set of one's own: read every file, choose voxels, network, patches and steps, and say
    why.

    Args:
        name: of the bundle, words joined by _, such as liver_ct_so3_segmentation.
        dataset_dir: folder of the data: with dataset.json (Decathlon, nnU-Net), with imagesTr and labelsTr or images
            and labels, or with a folder for each case that holds a file for each contrast and a label.
        bundles_dir: receives the bundle.
        symmetry: of the network: so3, o3, octahedral, scale or none; of pictures e2, scale or none. By default so3, or
            e2.
        memory_gb: that a step of training may take; by default 4, or half of the GPU's.
        spacing_mm: of the voxels that the network sees, as 1,1,1; by default near those of the files.
        classes: those to learn, as NAME=VALUE,NAME=VALUE+VALUE; by default every value of the labels is one.
        images: folder in dataset_dir that holds the images, where its name does not say so.
        labels: folder in dataset_dir that holds the labels.
        patient: a regular expression that finds the patient in the name of a case, so that all cases of a patient are
            in one section.
        like: a bundle that this command made: make one that differs in its network alone, and an experiment that
            compares the two.
    """
    if (dataset_dir is None) == (like is None):
        sys.exit("error: give --dataset_dir, the folder of the data, or --like, a bundle to make the twin of.")
    try:
        if like is not None:
            others = {"memory_gb": memory_gb, "spacing_mm": spacing_mm, "classes": classes, "images": images}
            if foreign := [option for option, value in (others | {"patient": patient}).items() if value is not None]:
                raise ValueError(f"--{foreign[0]} does not go with --like, which takes it from there: leave it out.")
            if symmetry is None:
                raise ValueError("--like needs the symmetry of the other network, such as --symmetry none.")
            return twin_bundle(name, like, symmetry, bundles_dir)
        spacing = None if spacing_mm is None else _spacing(spacing_mm)
        return new_bundle(
            name, str(dataset_dir), bundles_dir, symmetry, memory_gb, spacing, classes, images, labels, patient
        )
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}" if "\n" not in str(error) else str(error))


def build(*bundles: str) -> str:
    """Write the configs of bundles anew, from their bundle.json and the sources that it extends.

    Args:
        bundles: their folders; the folder of the sources among them is left out.
    """
    problems, written = [], 0
    bundles = _bundles(bundles)
    for bundle in bundles:
        try:
            files = build_bundle(bundle)
        except ValueError as error:
            problems.append(str(error))
            continue
        written += len(files)
        for file in files:
            print(Path(bundle) / "configs" / file)
    if problems:
        sys.exit("\n".join([*problems, f"error: {len(problems)} of {len(bundles)} bundles were not built"]))
    return f"{len(bundles)} bundles, {written} files written"


def check(*bundles: str, schema: str | None = None, quick: bool = False) -> str:
    """List all that is wrong with bundles; ends with 1 where there is anything.

    Bundles that ship without weights, as their cards say, are named too, which is no fault.

    Args:
        bundles: their folders; the folder of the sources among them is left out. Their configs are code, and are run,
            unless quick.
        schema: a file of JSON schema that their metadata must satisfy, such as the one that its key schema names.
        quick: run nothing of them: leave out what builds the networks, and what imports foreign modules.
    """
    bundles = _bundles(bundles)
    try:
        found = [
            finding for bundle in tqdm(bundles, desc="checking") for finding in check_bundle(bundle, schema, quick)
        ]
    except ValueError as error:
        sys.exit(f"error: {error}")
    for path in bundles:
        if (Path(path) / "configs").is_dir() and (note := missing_weights(Bundle(Path(path)))):
            print(note)
    if found:
        print("\n".join(found))
        sys.exit(f"error: {len(found)} findings in {len(bundles)} bundles")
    return f"{len(bundles)} bundles, no findings"


def pack(
    *bundles: str, output_dir: str, without_weights: bool = False, quick: bool = False, zoo_style: bool = False
) -> None:
    """Check bundles, and write an archive with this package inside for each that has no finding.

    Args:
        bundles: their folders.
        output_dir: receives NAME_vVERSION.zip; the same files give the same bytes, where zoo_style is not given.
        without_weights: pack bundles without weights too.
        quick: leave out the part of the check that builds the networks.
        zoo_style: format this package as the Model Zoo does, by its black and isort.
    """
    bundles = _bundles(bundles)
    if zoo_style:
        try:
            print(f"Formatted by {check_formatters()}")
        except ModuleNotFoundError as error:
            sys.exit(f"error: {error}")
    problems = []
    for bundle in tqdm(bundles, desc="packing"):
        try:
            archive = pack_bundle(bundle, output_dir, without_weights, quick, zoo_style)
        except (OSError, ValueError) as error:
            problems.append(str(error))
            continue
        content = archive.read_bytes()
        tqdm.write(f"{archive}: {len(content) / 10**6:.1f} MB, sha256 {hashlib.sha256(content).hexdigest()}")
        if not Path(bundle, WEIGHTS).is_file():
            tqdm.write(f"{archive}: has no {WEIGHTS}; whoever unpacks it trains first, or downloads them")
    if problems:
        sys.exit("\n".join([*problems, f"error: {len(problems)} of {len(bundles)} bundles were not packed"]))


def table(bundles_dir: str = "bundles") -> str:
    """Write README.md, a table of all bundles in a folder, into that folder.

    Args:
        bundles_dir: the folder.
    """
    try:
        text = bundle_table(bundles_dir)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    path = Path(bundles_dir) / "README.md"
    write_text(path, text)
    return f"{path} lists {text.count('](')} bundles"


def _spacing(text: str) -> list[float]:
    """Three sizes of voxels."""
    try:
        sizes = [float(part) for part in text.split(",")]
    except ValueError:
        sizes = []
    if len(sizes) != 3 or not all(0.01 <= size <= 100 for size in sizes):
        raise ValueError(f"--spacing_mm {text!r} is not legal; give three sizes in mm, such as 1,1,1.")
    return sizes


def _bundles(folders: tuple[str, ...]) -> tuple[str, ...]:
    """The folders of bundles among those of a command line."""
    bundles = tuple(folder for folder in folders if not is_sources(folder))
    if not bundles:
        sys.exit("No bundle was given. Name one or more folders, such as bundles/hippocampus_mri_so3_segmentation.")
    return bundles


cli = command_line(new, build, check, pack, table, help=__doc__)

if __name__ == "__main__":
    cli()
