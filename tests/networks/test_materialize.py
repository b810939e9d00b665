"""Materialized networks: the same outputs without e3nn, at any size, through every exporter."""

import pickle
import subprocess
import sys
import textwrap
from functools import cache

import onnxruntime
import pytest
import torch
from e3nn import o3
from fresh import python
from torch import nn

from equivariant_nets import ConventionalUNet, SteerableUNet, assert_equivariant, materialize
from equivariant_nets.networks.materialize import PlainMaxPool
from equivariant_nets.rotations import lattice_symmetries

OPTIONS = {
    "default": {},
    "batch": {"normalization": "batch"},
    "none": {"normalization": "none"},
    "content": {"normalization": "content", "dropout": 0.2},
    "max": {"downsampling": "max", "features": "1x1e+2x0e+1x2e"},
    "gates by convolution": {"gates": "convolution", "activation": "silu"},
    "no scalars": {"features": "1x1e+1x2e", "irreps_out": "1x1e"},
    "O3": {"group": "O3", "features": "2x0e+1x0o+1x1e+1x1o", "irreps_out": "1x0o", "activation": "gelu"},
    "spacing": {"spacing": (1, 1, 3)},
    "residual": {"residual": True},
    "deep supervision": {"deep_supervision": 1, "dropout": 0.2},
    "smooth_finite": {"radial_basis": "smooth_finite", "downsampling": "average", "upsampling": "spline"},
}
CONVENTIONAL = {
    "conventional": {},
    "conventional max": {"downsampling": "max", "normalization": "batch", "dropout": 0.2},
    "conventional content": {"normalization": "content", "dropout": 0.2},
    "conventional residual": {"residual": True, "deep_supervision": 1, "spacing": (3, 1, 1)},
}
SIZES = [(8, 9, 10), (12, 11, 13)]


def noise(size, seed=0, batch=1):
    return torch.randn(batch, 1, *size, generator=torch.Generator().manual_seed(seed))


def trained(name, depth=2):
    """A network whose every parameter and running statistic differs from its initial value."""
    torch.manual_seed(0)
    common = {"depth": depth, "kernel_size": 3}
    if name in CONVENTIONAL:
        net = ConventionalUNet(**{**common, "features": 3, **CONVENTIONAL[name]})
    else:
        net = SteerableUNet(**{**common, "irreps_out": "2x0e", "features": "2x0e+1x1e+1x2e", **OPTIONS[name]})
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        net(noise((8, 9, 10), batch=2))
    return net.eval()


def relative(a, b):
    return float((a - b).norm() / b.norm())


def prediction(net, x):
    with torch.no_grad():
        return net(x)


@pytest.mark.parametrize("name", [*OPTIONS, *CONVENTIONAL])
def test_outputs_are_equal_at_every_size(name):
    net = trained(name)
    plain = materialize(net)
    for size in SIZES:
        x = noise(size, seed=1, batch=2)
        assert relative(prediction(plain, x), prediction(net, x)) < 1e-5


@pytest.mark.parametrize("name", [*OPTIONS, *CONVENTIONAL])
def test_nothing_of_the_equivariant_layers_is_left(name):
    plain = materialize(trained(name))
    modules = {type(module).__module__ for module in plain.modules()}
    own = {f"equivariant_nets.networks.{name}" for name in ("content", "materialize", "resampling", "unet")}
    assert all(module.startswith("torch.nn") or module in own for module in modules)


@pytest.mark.parametrize("name", ["default", "max"])
def test_the_network_itself_is_left_alone(name):
    net = trained(name).train()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    plain = materialize(net)
    for value in plain.state_dict().values():
        value.zero_()
    assert net.training
    assert all(p.requires_grad for p in net.parameters())
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_it_cannot_be_trained_by_accident():
    plain = materialize(trained("default"))
    assert not plain.training
    assert not any(p.requires_grad for p in plain.parameters())


@pytest.mark.parametrize("name", ["default", "batch", "O3", "conventional"])
def test_mixed_precision_around_it_rounds_no_weight(name):
    net = trained(name)
    with torch.autocast("cpu", torch.bfloat16):
        plain = materialize(net)
    assert {tensor.dtype for tensor in plain.state_dict().values() if tensor.is_floating_point()} == {torch.float32}
    assert relative(prediction(plain, noise((8, 9, 10))), prediction(net, noise((8, 9, 10)))) < 1e-4


def test_it_is_as_equivariant_as_the_network():
    plain = materialize(trained("O3").double())
    plain.irreps_out = o3.Irreps("1x0o")
    assert_equivariant(plain, noise((8, 7, 6)).double(), lattice_symmetries(), tolerance=1e-10)


@pytest.mark.parametrize("name", ["default", "max", "spacing", "conventional"])
def test_illegal_inputs_are_refused_as_before(name):
    plain = materialize(trained(name))
    with pytest.raises(ValueError, match=r"\(1, 2, 8, 8, 8\): this network takes \(B, C, D, H, W\) with C=1"):
        plain(torch.zeros(1, 2, 8, 8, 8))
    with pytest.raises(ValueError, match="cannot be halved 2 times"):
        plain(torch.zeros(1, 1, 2, 2, 2))


def test_a_pickled_network_loads_without_e3nn(tmp_path):
    net = trained("default")
    torch.save(materialize(net), tmp_path / "plain.pt")
    torch.save((noise(SIZES[0]), prediction(net, noise(SIZES[0]))), tmp_path / "pair.pt")
    code = f"""
        import sys
        sys.modules["e3nn"] = None
        import torch
        plain = torch.load({str(tmp_path / "plain.pt")!r}, weights_only=False)
        x, y = torch.load({str(tmp_path / "pair.pt")!r})
        print(float((plain(x) - y).norm() / y.norm()), "monai" in sys.modules)
    """
    result = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    error, monai = result.stdout.split() or [result.stderr, ""]
    assert float(error) < 1e-5
    assert monai == "False"


@pytest.mark.parametrize("name", [*OPTIONS, "conventional max"])
def test_torchscript_runs_with_torch_alone_at_other_sizes(name, tmp_path):
    net = trained(name)
    torch.jit.save(torch.jit.script(net), tmp_path / "net.ts")
    torch.save([(noise(size), prediction(net, noise(size))) for size in SIZES], tmp_path / "pairs.pt")
    code = f"""
        import sys
        sys.modules["equivariant_nets"] = sys.modules["e3nn"] = None
        import torch
        net = torch.jit.load({str(tmp_path / "net.ts")!r})
        print(max(float((net(x) - y).norm() / y.norm()) for x, y in torch.load({str(tmp_path / "pairs.pt")!r})))
    """
    result = subprocess.run([python(), "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert float(result.stdout or "nan") < 1e-5, result.stderr


DYNAMIC = {"x": dict.fromkeys((2, 3, 4), torch.export.Dim.DYNAMIC)}


def unchanged(net):
    return net


@cache
def exported(name, prepare, depth):
    """A network, and its program with sizes as symbols."""
    net = trained(name, depth)
    return net, torch.export.export(prepare(net), (noise(SIZES[0]),), dynamic_shapes=DYNAMIC)


@pytest.mark.parametrize(
    ("name", "prepare", "depth"),
    [
        ("default", materialize, 1),
        ("max", materialize, 2),
        ("spacing", materialize, 1),  # whose first halving leaves one axis
        ("conventional max", materialize, 1),
        ("batch", unchanged, 1),
    ],
)
def test_torch_export_with_sizes_as_symbols(name, prepare, depth):
    net, program = exported(name, prepare, depth)
    module = program.module()
    for size in SIZES:
        assert relative(prediction(module, noise(size, seed=1)), prediction(net, noise(size, seed=1))) < 1e-5


def test_onnx_runtime_gives_the_same_at_every_size_without_materializing(tmp_path):
    net, program = exported("batch", unchanged, 1)
    torch.onnx.export(program, f=tmp_path / "net.onnx", input_names=["x"], verbose=False)
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    for size in SIZES:
        x = noise(size, seed=1)
        output = torch.from_numpy(session.run(None, {"x": x.numpy()})[0])
        assert relative(output, prediction(net, x)) < 1e-4


def test_copies_and_pickles_of_it():
    plain = materialize(trained("default"))
    x = noise(SIZES[0])
    assert torch.equal(pickle.loads(pickle.dumps(plain))(x), plain(x))


def test_any_other_module_is_copied():
    net = nn.Sequential(nn.Conv3d(1, 1, 3), trained("default"))
    x = noise((12, 11, 13))
    assert relative(prediction(materialize(net), x), prediction(net, x)) < 1e-5


@pytest.mark.parametrize("size", [(6, 6, 6), (7, 5, 9), (6, 7, 8), (2, 3, 1)], ids=str)
def test_plain_max_pool_has_the_windows_of_max_pool3d(size):
    x = torch.randn(2, 3, *size)
    windows = [2 + n % 2 for n in size], [2] * 3, [n % 2 for n in size]
    assert torch.equal(PlainMaxPool([(3, 0)], [True] * 3)(x), torch.nn.functional.max_pool3d(x, *windows))


def test_what_is_no_network():
    with pytest.raises(TypeError, match=r"materialize takes a network, an nn\.Module; got str"):
        materialize("model.pt")
