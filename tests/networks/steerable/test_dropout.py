"""Laws of dropout: whole irreps, the right share, and none in evaluation."""

import pytest
import torch
from e3nn import o3

from equivariant_nets.networks.steerable import Dropout

IRREPS = o3.Irreps("40x0e+40x1e+40x2e")


def dropped(p=0.4, batch=3, seed=0):
    torch.manual_seed(seed)
    return Dropout(IRREPS, p)(torch.ones(batch, IRREPS.dim, 2, 3, 4, dtype=torch.float64))


def test_an_irrep_is_dropped_whole():
    y = dropped()
    for (mul, ir), channels in zip(IRREPS, IRREPS.slices(), strict=True):
        irreps = y[:, channels].unflatten(1, (mul, ir.dim)).flatten(2)
        assert torch.equal(irreps, irreps[..., :1].expand_as(irreps))


def test_what_is_kept_is_divided_by_its_probability():
    values = dropped(p=0.2).unique()
    assert torch.allclose(values, torch.tensor([0, 1.25], dtype=torch.float64))


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_the_share_dropped_is_p(p):
    irreps = torch.cat([dropped(p, 20)[:, s].unflatten(1, (40, -1))[:, :, 0] for s in IRREPS.slices()])
    assert float((irreps == 0).double().mean()) == pytest.approx(p, abs=0.04)


def test_samples_and_irreps_are_drawn_independently():
    pattern = dropped()[:, :40, 0, 0, 0] != 0
    assert not torch.equal(pattern[0], pattern[1])
    assert pattern.any(1).all()
    assert not pattern.all(1).any()


def test_off_in_evaluation_and_at_zero():
    x = torch.randn(1, IRREPS.dim, 2, 2, 2)
    assert torch.equal(Dropout(IRREPS, 0.9).eval()(x), x)
    assert torch.equal(Dropout(IRREPS, 0.0)(x), x)


def test_same_seed_same_drops():
    assert torch.equal(dropped(seed=1), dropped(seed=1))


@pytest.mark.parametrize("p", [-0.1, 1.0, 2.0])
def test_p_must_be_a_probability(p):
    with pytest.raises(ValueError, match="is not a probability; give 0 <= dropout < 1"):
        Dropout(IRREPS, p)
