"""Laws of what acts on whole fields: normalization, dropout, projection."""

import pytest
import torch
from fields import noise, turn_fields

from equivariant_nets import materialize
from equivariant_nets.networks.regular import FieldDropout, FieldNorm, GroupPool, find_group

GROUP = find_group("D8", 2)


@pytest.mark.parametrize("normalization", ["instance", "batch"])
def test_statistics_are_those_of_the_field(normalization):
    x = 3 + 2 * noise(4, 2 * GROUP.order, 5, 6)
    y = FieldNorm(2, normalization).double()(x).view(4, 2, -1)
    axes = 2 if normalization == "instance" else (0, 2)
    assert y.mean(axes).abs().max() < 1e-12
    assert torch.allclose(y.var(axes, correction=0), torch.ones(()).double(), atol=1e-5)


@pytest.mark.parametrize("normalization", ["instance", "batch"])
def test_norms_commute_with_the_group(normalization):
    norm, x = FieldNorm(2, normalization).double(), noise(2, 2 * GROUP.order, 5, 5)
    for element in GROUP.lattice_subgroup:
        assert torch.allclose(norm(turn_fields(x, GROUP, element)), turn_fields(norm(x), GROUP, element), atol=1e-12)


def test_channels_of_a_field_are_not_normalised_one_by_one():
    x = torch.cat([torch.zeros(1, 1, 4, 4), torch.ones(1, 3, 4, 4)], 1)
    assert FieldNorm(1, "instance")(x)[0, 0].mean() < -1


def test_dropout_drops_whole_fields():
    torch.manual_seed(0)
    dropout = FieldDropout(50, 0.4)
    y = dropout(torch.ones(4, 50 * 8, 3, 3)).view(4, 50, -1)
    assert torch.equal(y.amin(2), y.amax(2))
    assert set(y.unique().tolist()) == {0.0, float(torch.tensor(1 / 0.6))}
    assert 0.25 < (y == 0).float().mean() < 0.55
    x = torch.ones(1, 400, 2, 2)
    assert torch.equal(dropout.eval()(x), x)
    assert isinstance(materialize(dropout), torch.nn.Identity)


@pytest.mark.parametrize("projection", ["mean", "max"])
def test_projection_is_invariant(projection):
    pool, x = GroupPool(2, projection), noise(1, 2 * GROUP.order, 5, 5)
    assert pool(x).shape == (1, 2, 5, 5)
    permuted = x.view(1, 2, GROUP.order, 5, 5)[:, :, torch.from_numpy(GROUP.relative[5])].flatten(1, 2)
    assert torch.allclose(pool(permuted), pool(x), atol=1e-14)


def test_illegal_options():
    with pytest.raises(ValueError, match="projection='sum' is not known"):
        GroupPool(1, "sum")
    with pytest.raises(ValueError, match="dropout=1 is not a probability"):
        FieldDropout(1, 1)
    with pytest.raises(ValueError, match="needs no FieldNorm"):
        FieldNorm(1, "none")
