"""Law of bundles that ``zoo new`` makes: MONAI Label serves them as those of the collection."""

import shutil

import nibabel as nib
import numpy as np
import own_data
import torch
from monai.bundle import ConfigParser

from equivariant_nets.authoring import new_bundle

NAME = "own_task_so3"


def test_a_bundle_of_ones_own_is_served(serve, tmp_path):
    """With its classes by name, and as its own inference segments, in the space of the image."""
    data = own_data.decathlon(tmp_path / "data", number=3)
    new_bundle(NAME, data, tmp_path / "bundles", memory_gb=1)
    bundle = tmp_path / "bundles" / NAME
    shutil.copytree(data / "imagesTr", tmp_path / "studies")
    parser = ConfigParser()
    parser.read_config(bundle / "configs" / "inference.json")
    paths = {"bundle_root": bundle, "dataset_dir": tmp_path / "studies", "output_dir": tmp_path / "out"}
    parser.update({key: str(path) for key, path in paths.items()} | {"device": "$torch.device('cpu')"})
    torch.manual_seed(0)
    (bundle / "models").mkdir()
    torch.save(parser.get_parsed_content("network_def").state_dict(), bundle / "models" / "model.pt")
    parser.get_parsed_content("evaluator").run()
    client = serve(tmp_path, [NAME], "--bundles", tmp_path / "bundles", "--uncertainty", "none")
    assert client.get("/info/").json()["models"][NAME]["labels"] == {"inner": 1, "outer": 2}
    result = client.segment(NAME, "case_001")
    own = nib.load(next((tmp_path / "out").rglob("case_001_seg.nii.gz")))
    assert np.allclose(result.affine, own.affine, atol=1e-5)
    assert np.mean(np.asarray(result.dataobj) == np.asarray(own.dataobj)) > 0.999  # threads differ, and ties with them
    assert np.asarray(own.dataobj).any()
