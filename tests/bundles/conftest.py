"""Bundles copied to a folder of their own, data to run them on, and two ways to run them."""

import json
import os
import traceback
from pathlib import Path
from types import SimpleNamespace

import monai.bundle
import nibabel as nib
import numpy as np
import pytest
import torch
from bundle_files import copy_bundle
from fresh import run_module
from monai.bundle import ConfigParser
from monai.utils import set_determinism
from photographs import write_chase, write_drive

from equivariant_nets.data import (
    brain_structures_datalist,
    tumor_image_datalist,
    write_brain_phantoms,
    write_tumor_phantoms,
)

TINY = {
    "phantom_so3_segmentation": {
        "features": "2x0e+1x1e", "phantom_size": [20, 20, 20], "num_training": 2, "num_validation": 1, "num_test": 2,
    },
    "hippocampus_mri_so3_segmentation": {"features": "2x0e+1x1e"},
    "hippocampus_mri_o3_segmentation": {"features": "2x0e+1x1o"},
    "hippocampus_mri_conventional_segmentation": {"features": 3},
    "hippocampus_mri_so3_deepedit": {"features": "2x0e+1x1e", "epoch_length": 2, "max_interactions": 1},
}  # fmt: skip
# Those of brain tumours, each with data in a layout of its own.
SMALL_TUMORS = {
    "patch_size": [16, 16, 16], "roi_size": [16, 16, 16], "spacing_mm": [1, 1, 1], "epoch_length": None,
}  # fmt: skip
TINY_TUMOR = {
    "brain_tumor_mri_so3_segmentation": {**SMALL_TUMORS, "features": "2x0e+1x1e"},
    "brain_tumor_mri_conventional_segmentation": {**SMALL_TUMORS, "features": 2},
    "brain_tumor_mri_scale_segmentation": {**SMALL_TUMORS, "features": 1, "seed": 2},  # which finds tumour at random
}
LAYOUTS = dict(zip(TINY_TUMOR, ("msd", "brats2021", "brats2023"), strict=True))
# Those of brain structures, in the two layouts of their data.
SMALL_BRAINS = {
    "patch_size": [16, 16, 16], "roi_size": [24, 24, 24], "spacing_mm": [1, 1, 1], "epoch_length": 2,
}  # fmt: skip
TINY_BRAIN = {
    "brain_structures_mri_so3_segmentation": {
        **SMALL_BRAINS,
        "features": "2x0e+1x1e",
        "patch_size": [18, 18, 18],
        "batch_size": 1,
        "patches_per_case": 1,
    },
    "brain_structures_mri_conventional_segmentation": {**SMALL_BRAINS, "features": 2},
    "brain_structures_mri_octahedral_segmentation": {**SMALL_BRAINS, "features": 2},
    "brain_structures_mri_sides_segmentation": {
        **SMALL_BRAINS,
        "features": "2x0e+1x1e",
        "patch_size": [18, 18, 18],
        "batch_size": 1,
        "patches_per_case": 1,
    },
}
BRAIN_LAYOUTS = dict(zip(TINY_BRAIN, ("miccai", "mindboggle", "miccai", "mindboggle"), strict=True))
# Those of photographs; their data is in the layouts of DRIVE and CHASE_DB1.
SMALL_PHOTOGRAPHS = {
    "datasets": ["drive"], "test_datasets": ["drive"], "field_of_view_pixels": 40, "patch_size": 24,
    "patches_per_epoch": 8, "sweep_cases": 2,
}  # fmt: skip
TINY_RETINA = {
    "retina_vessels_fundus_e2_segmentation": {**SMALL_PHOTOGRAPHS, "features": [1, 1, 1, 1], "group": "C4"},
    "retina_vessels_fundus_conventional_segmentation": {**SMALL_PHOTOGRAPHS, "features": [2, 2, 2, 2]},
}


def write_cases(folder, count=10, size=(16, 18, 14)):
    """A folder in the layout of the Medical Segmentation Decathlon: noise, and a blob for each of two classes."""
    random, entries = np.random.RandomState(0), []
    points = np.stack(np.meshgrid(*[np.arange(n) - n / 2 for n in size], indexing="ij"))
    for index in range(count):
        label = np.zeros(size, dtype=np.uint8)
        for value, side in ((1, 3.0), (2, -3.0)):
            centre = random.uniform(-1.5, 1.5, (3, 1, 1, 1)) + np.array([0, side, 0]).reshape(3, 1, 1, 1)
            label[((points - centre) ** 2).sum(0) < random.uniform(6, 14)] = value
        image = (100 * label + random.normal(200, 30, size)).astype(np.float32)
        entry = {"image": f"imagesTr/case_{index}.nii.gz", "label": f"labelsTr/case_{index}.nii.gz"}
        for key, array in (("image", image), ("label", label)):
            (folder / entry[key]).parent.mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(array, np.eye(4)), folder / entry[key])
        entries.append(entry)
    (folder / "dataset.json").write_text(json.dumps({"training": entries}))
    return folder


@pytest.fixture
def cases(tmp_path):
    """A data set for the hippocampus bundles that a test may damage."""
    return write_cases(tmp_path / "cases")


@pytest.fixture(scope="session")
def shared_cases(tmp_path_factory):
    """A data set for the hippocampus bundles that no test changes."""
    return write_cases(tmp_path_factory.mktemp("hippocampus"))


@pytest.fixture(scope="session")
def shared_photographs(tmp_path_factory):
    """A folder of small photographs in the layouts of DRIVE and CHASE_DB1."""
    folder = tmp_path_factory.mktemp("photographs")
    write_drive(folder / "drive")
    write_chase(folder / "chase_db1")
    return folder


@pytest.fixture(scope="session")
def shared_tumors(tmp_path_factory):
    """The same synthetic brain tumours in each layout, by its name."""
    folder = tmp_path_factory.mktemp("tumors")
    return {
        layout: write_tumor_phantoms(folder / layout, layout, num_cases=8, size=(20, 18, 16))
        for layout in LAYOUTS.values()
    }


@pytest.fixture(scope="session")
def shared_brains(tmp_path_factory):
    """The same synthetic brains in each layout, by its name."""
    folder = tmp_path_factory.mktemp("brains")
    return {
        layout: write_brain_phantoms(folder / layout, layout, num_cases=4, size=(26, 28, 24))
        for layout in ("miccai", "mindboggle")
    }


@pytest.fixture
def get_bundle(tmp_path, shared_cases, shared_photographs, shared_tumors, shared_brains):
    """Copy a bundle by its name; get its root, and the overrides that make it small."""

    def get(name):
        tiny = {**TINY, **TINY_TUMOR, **TINY_BRAIN, **TINY_RETINA}[name]
        if name in TINY_RETINA:
            data = shared_photographs
        elif name in TINY_TUMOR:
            data = shared_tumors[LAYOUTS[name]]
        elif name in TINY_BRAIN:
            data = shared_brains[BRAIN_LAYOUTS[name]]
        else:
            data = tmp_path / "phantoms" if "phantom_size" in tiny else shared_cases
        return SimpleNamespace(root=copy_bundle(name, tmp_path), tiny={**tiny, "epochs": 1, "dataset_dir": str(data)})

    return get


def command_line(bundle_root, configs, **overrides):
    """The arguments of ``python -m monai.bundle run``."""
    files = [os.path.join(bundle_root, "configs", name) for name in configs]
    arguments = ["monai.bundle", "run", "--bundle_root", str(bundle_root), "--config_file", str(files)]
    return arguments + [text for key, value in overrides.items() for text in (f"--{key}", str(value))]


@pytest.fixture(scope="session")
def run_command():
    """Run configs of a bundle as a user does: ``python -m monai.bundle run`` in a folder, on one thread."""

    def run(bundle_root, configs, cwd, launcher=(), kill_after_s=None, **overrides):
        arguments = command_line(bundle_root, configs, **overrides)
        return run_module(*launcher, *arguments, cwd=cwd, kill_after_s=kill_after_s)

    return run


@pytest.fixture(scope="session")
def get_network():
    """Build the network of a bundle, with fixed random weights."""

    def get(bundle_root, features, **overrides):
        parser = ConfigParser()
        parser.read_config(str(bundle_root / "configs" / "inference.json"))
        parser.update({"features": features, **overrides})
        torch.manual_seed(0)
        return parser.get_parsed_content("network_def")

    return get


@pytest.fixture
def run_here():
    """Run configs of a bundle in this process, and leave its seeds and settings as they were."""

    def run(bundle_root, *configs, **overrides):
        files = [str(Path(bundle_root) / "configs" / name) for name in configs]
        monai.bundle.run(config_file=files, bundle_root=str(bundle_root), logging_file=False, **overrides)

    settings, threads = (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark), torch.get_num_threads()
    torch.set_num_threads(1)
    yield run
    torch.set_num_threads(threads)
    set_determinism(None)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = settings


@pytest.fixture
def error_of(get_bundle, get_network, run_here, tmp_path):
    """What a failing run says: the messages of its error and of those that caused it."""

    def error(name, *configs, **overrides):
        bundle = get_bundle(name)
        options = bundle.tiny if "train.json" in configs else {"features": bundle.tiny["features"]}
        if "ckpt_path" not in overrides:
            overrides["ckpt_path"] = str(tmp_path / "random.pt")
            torch.save(get_network(bundle.root, options["features"]).state_dict(), overrides["ckpt_path"])
        with pytest.raises(Exception) as caught:  # noqa: PT011
            run_here(bundle.root, *configs, **{**options, **overrides})
        written = {path.name for path in bundle.root.rglob("*") if path.suffix in (".pt", ".gz", ".png", ".csv")}
        assert written <= {"cases.csv"}  # which says what failed
        chain, links = caught.value, []
        while chain is not None:
            links.append("".join(traceback.format_exception_only(chain)))
            chain = chain.__cause__ or chain.__context__
        return "\n".join(links)

    return error


@pytest.fixture(scope="session", params=[*TINY, *TINY_TUMOR, *TINY_BRAIN])
def pipeline(request, tmp_path_factory, shared_cases, shared_tumors, shared_brains, run_command):
    """Training, evaluation and inference of a bundle, each started from another folder with other paths.

    Training and evaluation lie elsewhere and give a relative and an absolute root; inference runs in the bundle.
    """
    name = request.param
    folder = tmp_path_factory.mktemp(name)
    root = copy_bundle(name, folder)
    tiny = {**TINY, **TINY_TUMOR, **TINY_BRAIN}[name]
    tiny = {**tiny, "epochs": 1, "learning_rate": 1e-6}  # so that all classes are still predicted
    if name in TINY_TUMOR:
        data = shared_tumors[LAYOUTS[name]]
    elif name in TINY_BRAIN:
        data = shared_brains[BRAIN_LAYOUTS[name]]
    else:
        data = folder / "phantoms" if "phantom_size" in tiny else shared_cases
    (folder / "elsewhere").mkdir()
    relative = os.path.join("..", name)
    train = run_command(relative, ["train.json"], cwd=folder / "elsewhere", **tiny, dataset_dir=data)
    sweep = {"sweep_angles": [0, 90], "sweep_random_poses": 1, "sweep_cases": 1, "sweep_scales": [1.0, 0.8]}
    evaluate = run_command(
        root, ["train.json", "evaluate.json"], cwd=folder / "elsewhere", **tiny, **sweep,
        dataset_dir=os.path.relpath(data, folder / "elsewhere"), output_dir="results",
        ckpt_dir=os.path.join(relative, "eval"),
    )  # fmt: skip
    options = {"features": tiny["features"]}
    if name in TINY_TUMOR:
        item = tumor_image_datalist(data)[0]
        first, *others = [item["image"]] if isinstance(item["image"], str) else item["image"]
        sources = {item["case"]: Path(first)}
        options |= {"dataset_dir": Path(first).parent if others else first}
    elif name in TINY_BRAIN:
        image = Path(brain_structures_datalist(data, "test")[0]["image"])
        sources = {image.name.removesuffix(".nii.gz"): image}
        options |= {"dataset_dir": image, "spacing_mm": tiny["spacing_mm"]}
    else:
        images = data / ("imagesTs" if (data / "imagesTs").is_dir() else "imagesTr")
        sources = {path.name.removesuffix(".nii.gz"): path for path in sorted(images.glob("*0.nii.gz"))}
        options |= {"dataset_dir": images, "pattern": "*0.nii.gz"}
    inference = run_command(".", ["inference.json"], cwd=root, **options)
    parser = ConfigParser()
    parser.read_config(str(root / "configs" / "train.json"))
    return SimpleNamespace(
        name=name, folder=folder, root=root, tiny=tiny, sources=sources, train=train, evaluate=evaluate,
        inference=inference, classes=parser.get_parsed_content("class_names"),
        num_test=1 if name in TINY_TUMOR else 2,
    )  # fmt: skip


@pytest.fixture(scope="session")
def small_trainings(tmp_path_factory, shared_photographs):
    """By bundle, overrides for one short epoch: three cases to train, three to validate; of photographs, four."""
    folder = tmp_path_factory.mktemp("small_trainings")
    data = {
        **{
            layout: write_tumor_phantoms(folder / layout, layout, num_cases=13, size=(20, 18, 16))
            for layout in LAYOUTS.values()
        },
        **{
            layout: write_brain_phantoms(folder / layout, layout, num_cases=17, size=(26, 28, 24))
            for layout in ("miccai", "mindboggle")
        },
        "cases": write_cases(folder / "cases", count=30),
    }
    trainings = {}
    for name, tiny in {**TINY, **TINY_TUMOR, **TINY_BRAIN, **TINY_RETINA}.items():
        source = data[{**LAYOUTS, **BRAIN_LAYOUTS}.get(name, "cases")]
        trainings[name] = {**tiny, "dataset_dir": str(source), "train_cases": 3, "epochs": 1, "num_workers": 0}
    trainings["phantom_so3_segmentation"] |= {
        "dataset_dir": str(folder / "phantoms"), "num_training": 3, "num_validation": 3,
    }  # fmt: skip
    for name in TINY_RETINA:
        trainings[name] |= {"dataset_dir": str(shared_photographs)}
        del trainings[name]["train_cases"]
    return trainings
