"""nnU-Net's own commands, from raw data to a segmentation, with networks of this package: ``--nnunet``."""

import json
import pydoc

import nibabel as nib
import numpy as np
import pytest
import torch


@pytest.fixture(scope="module")
def trained(nnunet):
    """Train for two steps with the plans for a symmetry; the checkpoint and the network that it fits."""

    def train(symmetry, features, trainer):
        options = ["--symmetry", symmetry, "--features", features]
        said = nnunet("python", "-m", "equivariant_nets.nnunet", "plan", 4, *options)
        _, _, configuration, _, _, name = said.splitlines()[-2].split()  # nnUNetv2_train 4 3d_fullres 0 -p NAME
        plans = json.loads((nnunet.folder / "preprocessed" / "Dataset004_Cases" / f"{name}.json").read_text())
        options = ["-p", name, "-tr", trainer, "-device", "cpu"]
        nnunet("nnUNetv2_train", 4, configuration, 0, *options, nnUNet_n_proc_DA="0")
        results = nnunet.folder / "results" / "Dataset004_Cases" / f"{trainer}__{name}__{configuration}"
        checkpoint = torch.load(results / "fold_0" / "checkpoint_final.pth", weights_only=False, map_location="cpu")
        assert np.isfinite(checkpoint["logging"]["train_losses"]).all()
        architecture = plans["configurations"][configuration]["architecture"]
        classes = len(json.loads((results / "dataset.json").read_text())["labels"])
        network = pydoc.locate(architecture["network_class_name"])(1, classes, **architecture["arch_kwargs"])
        network.load_state_dict(checkpoint["network_weights"])
        return checkpoint, [configuration, *options]

    return train


@pytest.mark.parametrize(
    ("symmetry", "features", "trainer", "mirrored"),
    [
        ("so3", "2x0e+1x1e", "nnUNetTrainerFewSteps", (0, 1, 2)),
        ("so3", "2x0e+1x1e", "nnUNetTrainerEquivariantFewSteps", (0,)),
        ("e2", 1, "nnUNetTrainerEquivariantFewSteps", None),
    ],
)
def test_trains_and_segments(nnunet, trained, tmp_path, symmetry, features, trainer, mirrored):
    checkpoint, (configuration, *options) = trained(symmetry, features, trainer)
    assert checkpoint["inference_allowed_mirroring_axes"] == mirrored
    images = nnunet.folder / "raw" / "Dataset004_Cases" / "imagesTs"
    where = ["-i", images, "-o", tmp_path, "-d", 4, "-c", configuration, "-f", 0, "-npp", 1, "-nps", 1]
    nnunet("nnUNetv2_predict", *where, *options)
    segmentations = sorted(tmp_path.glob("*.nii.gz"))
    for image, segmentation in zip(sorted(images.glob("*.nii.gz")), segmentations, strict=True):
        before, after = nib.load(image), nib.load(segmentation)
        assert after.shape == before.shape
        np.testing.assert_allclose(after.affine, before.affine, atol=1e-5)
        assert set(np.unique(after.dataobj)) <= {0, 1, 2, 3}
