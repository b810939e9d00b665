"""One option puts the network of a bundle into a pyramid of sizes, with the weights that the bundle ships."""

from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser

from equivariant_nets import ScalePyramid

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
OPTION = {"_target_": "equivariant_nets.ScalePyramid", "network": "$@network_def.to(@device)"}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("hippocampus_mri_so3_segmentation", {}),
        ("brain_tumor_mri_so3_segmentation", {"activation": "sigmoid"}),
        ("retina_vessels_fundus_e2_segmentation", {"activation": "sigmoid"}),
    ],
)
def test_the_weights_of_a_bundle_in_a_pyramid(name, options):
    parser = ConfigParser()
    parser.read_config(str(BUNDLES / name / "configs" / "inference.json"))
    parser.update({"device": "cpu", "network": {**OPTION, **options}})
    net = parser.get_parsed_content("network").eval()
    assert isinstance(net, ScalePyramid)
    net.load_state_dict(torch.load(BUNDLES / name / "models" / "model.pt", weights_only=True), strict=True)
    x = torch.rand(1, net.network.in_channels, *(17, 18, 20)[: net.network.spatial_dims])
    with torch.no_grad():
        assert net(x).shape[2:] == net.network(x).shape[2:]
        assert net(x).isfinite().all()
