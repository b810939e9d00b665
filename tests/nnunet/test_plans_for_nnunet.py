"""Plans for nnU-Net: what they share with nnU-Net's own, what is chosen, and what is refused. nnU-Net is not needed."""

import json
import math
import pydoc
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from equivariant_nets.networks.steerable import SteerableFamily
from equivariant_nets.nnunet.__main__ import plan, trainer
from equivariant_nets.nnunet.memory import training_bytes
from equivariant_nets.nnunet.sizes import evened_spacing

FEW = {"features": "1x0e+1x1e", "gpu_memory_gb": 1.0}


def configuration(spacing, patch, batch, **others):
    strides = [[1] * len(patch)] + [[2] * len(patch)] * 4
    architecture = {"network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet"}
    architecture |= {"arch_kwargs": {"strides": strides}, "_kw_requires_import": ["conv_op"]}
    sizes = {"patch_size": patch, "batch_size": batch, "median_image_size_in_voxels": [1.5 * size for size in patch]}
    name = f"nnUNetPlans_{'2d' if len(patch) == 2 else '3d_fullres'}"
    return {"data_identifier": name, "spacing": spacing, **sizes, "architecture": architecture, **others}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A data set as nnU-Net leaves it, without the data."""
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path))
    folder = tmp_path / "Dataset004_Hippocampus"
    for data in ("nnUNetPlans_2d", "nnUNetPlans_3d_fullres"):
        (folder / data).mkdir(parents=True)
    configurations = {
        "2d": configuration([1.0, 1.0], [56, 40], 12),
        "3d_fullres": configuration([1.0, 1.0, 1.0], [40, 52, 36], 3, next_stage="3d_cascade_fullres"),
        "3d_cascade_fullres": {"inherits_from": "3d_fullres"},
    }
    write(folder, configurations)
    labels = {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}
    (folder / "dataset.json").write_text(json.dumps({"channel_names": {"0": "T1", "1": "T2"}, "labels": labels}))
    (tmp_path / "Dataset005_Prostate").mkdir()
    return folder


def write(folder, configurations, name="nnUNetPlans"):
    plans = {"dataset_name": folder.name, "plans_name": name, "configurations": configurations}
    (folder / f"{name}.json").write_text(json.dumps(plans))


def read(folder, name):
    return json.loads((folder / f"{name}.json").read_text())


@pytest.mark.parametrize(
    ("symmetry", "name"),
    [
        ("so3", "SteerableUNetPlans"), ("o3", "SteerableUNetO3Plans"), ("octahedral", "OctahedralUNetPlans"),
        ("e2", "E2UNetPlans"), ("scale", "ScaleUNetPlans"), ("conventional", "ConventionalUNetPlans"),
    ],
)  # fmt: skip
def test_nnunet_builds_the_network_of_a_symmetry_from_its_plans(folder, symmetry, name):
    said = plan("4", symmetry=symmetry)
    plans, before = read(folder, name), read(folder, "nnUNetPlans")
    ((key, own),) = plans.pop("configurations").items()
    assert (plans.pop("plans_name"), key) == (name, "2d" if symmetry == "e2" else "3d_fullres")
    assert f"nnUNetv2_train 4 {key} 0 -p {name}" in said
    theirs = before.pop("configurations")[key]
    assert {**plans, "plans_name": "nnUNetPlans"} == before
    kept = ("data_identifier", "spacing", "median_image_size_in_voxels")
    assert [own[one] for one in kept] == [theirs[one] for one in kept]
    assert "next_stage" not in own
    architecture = own["architecture"]
    network = pydoc.locate(architecture["network_class_name"])(
        input_channels=2, num_classes=2, deep_supervision=True, **architecture["arch_kwargs"]
    )
    assert network.depth == len(architecture["arch_kwargs"]["strides"]) - 1 == 3
    assert f"{sum(weight.numel() for weight in network.parameters()):,} parameters" in said
    assert own["batch_size"] == theirs["batch_size"]  # 8 GB are enough
    assert own["patch_size"] == [math.ceil(size / 8) * 8 for size in theirs["patch_size"]]


@pytest.mark.parametrize(
    ("spacing", "evened"),
    [
        ([1.0, 0.9, 1.1], None),
        ([1.5, 1.0, 1.0], [1.5, 1.0, 1.0]),
        ([3.0, 0.78, 0.8], [3.0, 0.7899, 0.7899]),
        ([5.0, 1.0, 1.0], [5.0, 1.0, 1.0]),
    ],
)
def test_outputs_have_the_sizes_of_nnunets_targets(folder, spacing, evened):
    assert evened_spacing(spacing) == evened
    write(folder, {"3d_fullres": configuration(spacing, [20, 50, 44], 2)})
    plan("Dataset004_Hippocampus", symmetry="so3", **FEW)
    own = read(folder, "SteerableUNetPlans")["configurations"]["3d_fullres"]
    arguments = own["architecture"]["arch_kwargs"]
    assert arguments["spacing"] == evened
    network = pydoc.locate(own["architecture"]["network_class_name"])(2, 2, deep_supervision=True, **arguments)
    with torch.no_grad():
        outputs = network(torch.zeros(1, 2, *own["patch_size"]))
    scales = (1 / np.cumprod(np.vstack(arguments["strides"]), axis=0))[:-1]  # as its trainer computes them
    assert [list(y.shape[2:]) for y in outputs] == [
        [round(size * factor) for size, factor in zip(own["patch_size"], scale, strict=True)] for scale in scales
    ]


def test_patch_and_batch_fit_into_the_memory(folder):
    write(folder, {"3d_fullres": configuration([1.0, 1.0, 1.0], [32, 64, 48], 3)})
    patches = []
    for gigabytes, batch in ((0.008, 2), (100.0, 3)):
        plan("4", symmetry="conventional", features=2, gpu_memory_gb=gigabytes, depth=2)
        own = read(folder, "ConventionalUNetPlans")["configurations"]["3d_fullres"]
        network = pydoc.locate(own["architecture"]["network_class_name"])(2, 2, **own["architecture"]["arch_kwargs"])
        assert own["batch_size"] == batch
        assert training_bytes(network, batch, own["patch_size"]) <= gigabytes * 1e9
        patches.append(own["patch_size"])
    smaller, largest = patches
    assert largest == [32, 64, 48]
    assert smaller != largest
    assert not any(size % 4 for size in smaller)
    above = [size + 4 for size in smaller]  # a little more, and 2 do not fit
    assert training_bytes(network, 2, above) > 0.008e9
    covered = [part / whole for part, whole in zip(smaller, largest, strict=True)]
    assert max(covered) - min(covered) < 0.15  # as much of each axis


def test_the_estimate_holds_what_autograd_keeps():
    """All that a step of the same network saves for its backward pass, in float16, and not five times as much."""
    network = pydoc.locate("equivariant_nets.nnunet.SteerableUNet")(1, 2, [[1] * 3, [2] * 3, [2] * 3], True)
    saved = {}
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.setdefault(t.data_ptr(), t), lambda t: t):
        network(torch.randn(2, 1, 24, 24, 24))
    own = {weight.data_ptr() for weight in network.parameters()}
    kept = sum(t.untyped_storage().nbytes() for pointer, t in saved.items() if pointer not in own) / 2
    assert kept < training_bytes(network, 2, (24, 24, 24)) < 5 * kept


def test_plans_of_its_own_are_replaced_and_options_arrive(folder):
    plan("4", symmetry="e2", name="Own_Plans")
    said = plan("4", symmetry="e2", name="Own_Plans", group="D4", features=2, depth=2)
    assert "2 halvings" in said
    arguments = read(folder, "Own_Plans")["configurations"]["2d"]["architecture"]["arch_kwargs"]
    assert (arguments["group"], arguments["features"], len(arguments["strides"])) == ("D4", 2, 3)
    assert arguments["kernel_size"] == 3  # what nobody chose is written too


CASES = {
    "no data set": ({"dataset": "7"}, "Data set 7 is not in .*, which holds Dataset004_Hippocampus, Dataset005_Pro"),
    "no plans": ({"dataset": "5"}, "nnUNetPlans.json does not exist; plans there are: none.* -d 5 first"),
    "other plans": ({"plans": "nnUNetResEncUNetLPlans"}, "plans there are: .*nnUNetPlans. Give --plans one of"),
    "2-D": ({"configuration": "2d"}, "is 2-D, and symmetry so3 is of 3-D images. Choose another symmetry, e2, scale"),
    "3-D": ({"symmetry": "e2", "configuration": "3d_fullres"}, "symmetry e2 is of 2-D images.*configuration, 2d"),
    "cascade": ({"configuration": "3d_cascade_fullres"}, r"not known; choose from \['2d', '3d_fullres'\]"),
    "foreign": ({"name": "Foreign"}, "Foreign.json holds other plans than those of this command. Give another --name"),
    "itself": ({"name": "nnUNetPlans"}, "--name nnUNetPlans is that of the plans to start from"),
    "name": ({"name": "a__b"}, "--name a__b is no name of plans: give letters, digits and single underscores"),
    "own": ({"plans": "Own"}, "are for a network of this package. Give --plans nnU-Net's own"),
    "memory": ({"plans": "Tiny", "gpu_memory_gb": 1e-4}, "x 16 voxels, the smallest, needs .* GB, and 0.0001 GB are"),
    "no memory": ({"gpu_memory_gb": 0.0}, "--gpu_memory_gb 0 is no memory"),
    "group": ({"group": "D4"}, "--group D4 does not go with --symmetry so3, but with octahedral and e2"),
    "no group": ({"symmetry": "octahedral", "group": "D4"}, "group='D4' is not known in 3-D; choose from trivial, V4"),
    "features": ({"features": 8}, "features=8 .*irreps"),
    "depth": ({"depth": 1}, "depth=1 is too small: nnU-Net's deep supervision needs 2 or more"),
}  # fmt: skip


@pytest.mark.parametrize(("options", "message"), CASES.values(), ids=CASES)
def test_what_is_refused(folder, options, message):
    write(folder, {"2d": configuration([1.0, 1.0], [56, 40], 12)}, "Foreign")
    own = configuration([1.0] * 3, [8] * 3, 2)
    own["architecture"]["network_class_name"] = f"equivariant_nets.nnunet.{SteerableFamily.__name__}"
    write(folder, {"3d_fullres": own}, "Own")
    write(folder, {"3d_fullres": configuration([1.0] * 3, [16] * 3, 2)}, "Tiny")
    before = {path: path.read_bytes() for path in folder.glob("*.json")}
    with pytest.raises(SystemExit, match=f"^error: .*{message}"):
        plan(**{"dataset": "4", "symmetry": "so3", **options})
    assert {path: path.read_bytes() for path in folder.glob("*.json")} == before


def test_what_is_refused_of_the_surroundings(folder, monkeypatch):
    (folder / "nnUNetPlans_2d").rmdir()
    with pytest.raises(SystemExit, match=r"nnUNetPlans_2d.* is not there. Run nnUNetv2_preprocess -d 4 -plans_name"):
        plan("4", symmetry="e2", features=1)
    (folder / "nnUNetPlans.json").write_text("{")
    with pytest.raises(SystemExit, match=r"nnUNetPlans.json cannot be read: .* Write it anew with nnU-Net"):
        plan("4", symmetry="so3")
    (folder.parent / "Dataset004_Heart").mkdir()
    with pytest.raises(SystemExit, match=r"Data set 4 is one of Dataset004_Heart, Dataset004_Hippocampus in .* Give"):
        plan("4", symmetry="so3")
    monkeypatch.setenv("nnUNet_preprocessed", str(folder / "none"))
    with pytest.raises(SystemExit, match="is not a folder"):
        plan("4", symmetry="so3")
    monkeypatch.delenv("nnUNet_preprocessed")
    with pytest.raises(SystemExit, match=r"nnUNet_preprocessed is not set.* export nnUNet_preprocessed=FOLDER"):
        plan("4", symmetry="so3")


def test_the_trainer_says_what_to_install(monkeypatch):
    (file,) = Path(trainer()).glob("*.py")
    monkeypatch.setitem(sys.modules, "nnunetv2", None)
    with pytest.raises(ModuleNotFoundError, match=r"nnunetv2\S* is not installed.*in one command.*pip install t"):
        runpy.run_path(str(file))
