"""The shipped bundles export with MONAI's own commands, to files that need torch or ONNX Runtime alone."""

import json
import subprocess
import sys
import textwrap

import numpy as np
import onnxruntime
import pytest
import torch
from bundle_files import BUNDLES, NAMES, config, load_shipped
from fresh import run_module
from readme import COMMANDS, ROOT, run


def export(command, name, path, cwd, **options):
    """Run an export command of MONAI on a bundle, in another folder."""
    configs = BUNDLES / name / "configs"
    arguments = [command, "network_def", "--filepath", str(path), "--config_file", str(configs / "inference.json")]
    arguments += ["--meta_file", str(configs / "metadata.json")]
    arguments += ["--ckpt_file", str(BUNDLES / name / "models" / "model.pt")]
    arguments += [text for key, value in options.items() for text in (f"--{key}", str(value))]
    result = run_module("monai.bundle", *arguments, cwd=cwd)
    assert result.returncode == 0, result.stderr[-2000:]


@pytest.fixture(scope="module")
def torchscript_errors(tmp_path_factory):
    """By bundle, how far its network in TorchScript is from itself at two sizes, where there is nothing but torch."""
    folder = tmp_path_factory.mktemp("torchscript")
    for name in NAMES:
        _, network = load_shipped(name)
        image = config(name, "metadata.json")["network_data_format"]["inputs"]["image"]
        channels, spatial_dims = image["num_channels"], len(image["spatial_shape"])
        pairs = []
        for size in ((24, 24, 24), (19, 26, 21)):
            image = torch.randn(1, channels, *size[:spatial_dims])
            with torch.no_grad():
                pairs.append((image, network(image)))
        torch.save(pairs, folder / f"{name}.pt")
        export("ckpt_export", name, folder / f"{name}.ts", folder)
    code = """
        import json
        import sys
        from pathlib import Path
        sys.modules["equivariant_nets"] = sys.modules["e3nn"] = sys.modules["monai"] = None
        import torch
        errors = {}
        for path in Path().glob("*.ts"):
            net = torch.jit.load(path)
            pairs = torch.load(path.with_suffix(".pt"))
            errors[path.stem] = max(float((net(x) - y).norm() / y.norm()) for x, y in pairs)
        print(json.dumps(errors))
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.parametrize("name", NAMES)
def test_ckpt_export_gives_torchscript_that_needs_torch_alone(name, torchscript_errors):
    assert torchscript_errors[name] < 1e-4


STEERABLE = "hippocampus_mri_so3_segmentation"


@pytest.fixture(scope="module")
def exported(request, tmp_path_factory):
    """A steerable network of the hippocampus, and its session in ONNX Runtime, by the command of the how-to page.

    Where real data is given, the shipped network. Else one that is less deep: the exporter takes a second for each of
    its layers.
    """
    folder = tmp_path_factory.mktemp("onnx")
    for name in ("bundles", "equivariant_nets"):
        (folder / name).symlink_to(ROOT / name)
    (command,) = [command for command in COMMANDS if "onnx_export" in command]
    if request.config.getoption("--real-data"):
        _, network = load_shipped(STEERABLE)
    else:
        small = {"network_def#depth": 1, "features": "2x0e+1x1e"}
        network = config(STEERABLE, **small).get_parsed_content("network_def").eval()
        torch.save(network.state_dict(), folder / "small.pt")
        command = command.replace("$BUNDLE/models/model.pt", "small.pt")
        command += "".join(f" --{key} {value}" for key, value in small.items())
    result = run(command, folder)
    assert result.returncode == 0, result.stderr[-2000:]
    return network, onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])


def test_onnx_export_has_dynamic_sizes(exported):
    network, session = exported
    for size in ((24, 24, 24), (19, 26, 21)):
        image = torch.randn(1, 1, *size)
        with torch.no_grad():
            expected = network(image)
        output = torch.from_numpy(session.run(None, {"image": image.numpy()})[0])
        assert (output - expected).norm() < 1e-4 * expected.norm()


def test_onnx_runtime_labels_real_volumes_as_the_bundle_does(exported, real_hippocampus):
    network, session = exported
    parser = config(STEERABLE, dataset_dir=str(real_hippocampus))
    preprocessing = parser.get_parsed_content("validate#preprocessing")
    inferer = parser.get_parsed_content("validate#inferer")

    def in_onnx_runtime(image):
        return torch.from_numpy(session.run(None, {"image": image.numpy()})[0])

    for item in parser.get_parsed_content("evaluation_data")[:3]:
        image = preprocessing(item)["image"][None].as_tensor()
        with torch.no_grad():
            labels = [inferer(image, net).argmax(1).numpy() for net in (network, in_onnx_runtime)]
        assert len(np.unique(labels[0])) == 3
        assert (labels[0] == labels[1]).mean() >= 0.9999
