"""Laws of instance and batch normalization."""

import pytest
import torch
from e3nn import o3

from equivariant_nets import assert_equivariant
from equivariant_nets.networks.steerable import BatchNorm, InstanceNorm
from equivariant_nets.rotations import lattice_symmetries

IRREPS = o3.Irreps("1x1e+2x0e+1x2e+1x0o+1x0e")
SCALARS = [
    i for (_, ir), s in zip(IRREPS, IRREPS.slices(), strict=True) if str(ir) == "0e" for i in range(s.start, s.stop)
]
OTHERS = [i for i in range(IRREPS.dim) if i not in SCALARS]
NORMS = [InstanceNorm, BatchNorm]


def features(batch=2, size=(4, 5, 6), seed=0):
    """Each sample and channel has a mean and a scale of its own."""
    generator = torch.Generator().manual_seed(seed)
    scale, mean = torch.rand(2, batch, IRREPS.dim, 1, 1, 1, generator=generator, dtype=torch.float64) * 3 + 0.5
    return mean + scale * torch.randn(batch, IRREPS.dim, *size, generator=generator, dtype=torch.float64)


def make(norm, random=False):
    net = norm(IRREPS).double()
    if random:
        generator = torch.Generator().manual_seed(5)
        for parameter in net.parameters():
            parameter.data.normal_(generator=generator)
    net.irreps_in = net.irreps_out = IRREPS
    return net


def rms_of_irreps(x, axes):
    return [
        component.square().mean(axes).sqrt()
        for (mul, ir), s in zip(IRREPS, IRREPS.slices(), strict=True)
        for component in x[:, s].unflatten(1, (mul, ir.dim)).unbind(1)
    ]


def test_instance_norm_gives_every_irrep_of_every_sample_unit_rms():
    for rms in rms_of_irreps(make(InstanceNorm)(features()), (1, 2, 3, 4)):
        assert torch.allclose(rms, torch.ones_like(rms), atol=1e-4)


def test_batch_norm_gives_every_irrep_of_the_batch_unit_rms():
    for rms in rms_of_irreps(make(BatchNorm)(features()).detach(), (0, 1, 2, 3, 4)):
        assert float(rms) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("norm", NORMS)
def test_scalars_alone_are_centred(norm):
    mean = make(norm)(features(batch=1)).mean((0, 2, 3, 4)).abs()
    assert (mean[SCALARS] < 1e-10).all()
    assert (mean[OTHERS] > 0.1).all()


@pytest.mark.parametrize("norm", NORMS)
def test_other_irreps_keep_their_direction(norm):
    x = features()
    y = make(norm, random=True)(x)
    ratio = (y / x)[:, :3]
    assert torch.allclose(ratio, ratio[:, :1, :1, :1, :1].expand_as(ratio))


@pytest.mark.parametrize("norm", NORMS)
def test_weight_scales_an_irrep_and_bias_moves_a_scalar(norm):
    net, x = make(norm), features()
    plain = net(x)
    net.weight.data.copy_(torch.arange(1, 7))  # irreps in order: 1e, 0e, 0e, 2e, 0o, 0e
    net.bias.data.copy_(torch.tensor([10.0, 20.0, 30.0]))
    weight = torch.tensor([1.0, 1, 1, 2, 3, 4, 4, 4, 4, 4, 5, 6])
    bias = torch.tensor([0.0, 0, 0, 10, 20, 0, 0, 0, 0, 0, 0, 30])
    expected = plain * weight.view(-1, 1, 1, 1) + bias.view(-1, 1, 1, 1)
    assert torch.allclose(net(x), expected, atol=1e-10)


def test_instance_norm_of_a_sample_does_not_depend_on_its_batch():
    net, x = make(InstanceNorm, random=True), features(batch=3)
    assert torch.allclose(net(x), torch.cat([net(sample[None]) for sample in x]), atol=1e-13)


def test_instance_norm_ignores_the_scale_of_its_input():
    net, x = make(InstanceNorm, random=True), features()
    assert torch.allclose(net(x), net(100 * x), atol=1e-3)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("training", [True, False])
def test_equivariant_under_all_lattice_symmetries(norm, training):
    net = make(norm, random=True)
    net(features(seed=3))  # gives batch norm running statistics
    assert_equivariant(net.train(training), features(), lattice_symmetries(), tolerance=1e-12)


def test_running_statistics_approach_those_of_the_data_and_serve_in_evaluation():
    net, x = make(BatchNorm, random=True), features()
    for _ in range(400):
        expected = net(x)
    assert torch.allclose(net.eval()(x), expected, atol=1e-8)


def test_one_batch_has_the_share_of_its_momentum():
    net, x = BatchNorm(IRREPS, momentum=0.25).double(), features()
    net(x)
    mean = torch.zeros(IRREPS.dim, dtype=torch.float64)
    mean[SCALARS] = 0.25 * x.mean((0, 2, 3, 4))[SCALARS]
    assert torch.allclose(net.running_mean, mean)
    assert float(net.running_square[0]) == pytest.approx(0.75 + 0.25 * float(x[:, :3].square().mean()))


def test_batch_norm_in_evaluation_is_per_sample_and_changes_nothing():
    net, x = make(BatchNorm, random=True), features(batch=3)
    net(x)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    together = net.eval()(x)
    assert torch.allclose(together, torch.cat([net(sample[None]) for sample in x]), atol=1e-13)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


@pytest.mark.parametrize(("norm", "extra"), [(InstanceNorm, set()), (BatchNorm, {"running_mean", "running_square"})])
def test_state_dict_holds_parameters_and_running_statistics(norm, extra):
    assert set(norm(IRREPS).state_dict()) == {"weight", "bias"} | extra


def test_state_dict_carries_the_running_statistics_over():
    trained, fresh, x = make(BatchNorm), make(BatchNorm), features()
    trained(x)
    fresh.load_state_dict(trained.state_dict())
    assert torch.equal(fresh.eval()(x), trained.eval()(x))


@pytest.mark.parametrize("norm", NORMS)
def test_constant_and_zero_inputs_stay_finite(norm):
    for value in (0.0, 3.0):
        x = torch.full((1, IRREPS.dim, 3, 3, 3), value, requires_grad=True)
        y = norm(IRREPS)(x)
        y.sum().backward()
        assert y.isfinite().all()
        assert x.grad.isfinite().all()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("cast", [False, True])
def test_statistics_are_float32_in_half_precision(norm, dtype, cast):
    """Squares of float16 would overflow: the output is that of float32, rounded."""
    x = (300 * features()).to(dtype)
    net = norm(IRREPS)
    expected = net(x.float())
    with torch.autocast("cpu", dtype, enabled=not cast):
        y = (net.to(dtype) if cast else net)(x)
    assert y.dtype == dtype
    assert torch.equal(y, expected.to(dtype))


@pytest.mark.parametrize("norm", NORMS)
def test_gradcheck(norm):
    net = make(norm, random=True)
    assert torch.autograd.gradcheck(net, features(size=(2, 2, 1)).requires_grad_(), fast_mode=True)


@pytest.mark.parametrize("norm", NORMS)
def test_no_scalars(norm):
    x = torch.ones(1, 3, 2, 2, 2)
    assert torch.allclose(norm(o3.Irreps("1x1e"))(x), x, atol=1e-4)
