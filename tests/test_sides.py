"""What a pseudoscalar output can say that scalars cannot, and what it cannot say either."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from equivariant_nets import SteerableUNet
from equivariant_nets.equivariance import transform_field

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
MIRROR = np.diag([-1.0, 1.0, 1.0])  # right and left of an upright patient


@pytest.fixture
def sides(monkeypatch):
    """The benchmark, on one thread, because others may be busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield runpy.run_path(str(BENCHMARKS / "sides.py"))
    sys.modules.pop("common", None)
    torch.set_num_threads(threads)


def output(irreps_out, image, group="O3", features="2x0e+2x0o+1x1e+1x1o+1x2e"):
    torch.manual_seed(0)
    net = SteerableUNet(group=group, irreps_out=irreps_out, features=features, depth=1).double().eval()
    with torch.no_grad():
        return net(image.double())


def test_scalars_say_the_same_of_both_sides_of_a_symmetric_patient(sides):
    """So under O(3) they can never tell its left from its right."""
    image, labels = sides["patient"](np.random.RandomState(0))
    y = output("2x0e", image)
    assert torch.allclose(transform_field(y, MIRROR), y, atol=1e-10)
    assert (labels == 1).any()
    assert torch.equal(transform_field(labels, MIRROR) == 1, labels == 2)


def test_a_pseudoscalar_says_the_opposite_of_the_other_side(sides):
    image, labels = sides["patient"](np.random.RandomState(0))
    y = output("1x0o", image)
    assert torch.allclose(transform_field(y, MIRROR), -y, atol=1e-10)
    assert y[labels == 1].abs().min() > 1e-6


def test_a_mirrored_patient_has_its_sides_exchanged(sides):
    """The network names the sides that the image shows: it cannot know that a file is mirrored."""
    image, _ = sides["patient"](np.random.RandomState(0))
    turned = transform_field(image, np.diag([1.0, -1.0, 1.0]))
    assert torch.allclose(output("1x0o", turned), -transform_field(output("1x0o", image), np.diag([1.0, -1.0, 1.0])))


def test_without_a_reference_there_is_no_side(sides):
    """Nothing says which way is forward: the pair lies in a mirror plane, where a pseudoscalar is zero."""
    image, labels = sides["patient"](np.random.RandomState(0), nose=False, offset=0.0)
    assert torch.allclose(transform_field(image, np.diag([1.0, -1.0, 1.0])), image)
    y = output("1x0o", image)
    middle = labels.shape[3] // 2
    assert y[:, :, :, middle].abs().max() < 1e-10
    assert y.abs().max() > 1e-6


def test_training_finds_the_sides(sides):
    images, labels = sides["batch"](np.random.RandomState(1000), 8)
    found = {
        name: np.mean(sides["dice"](sides["train"](sides["NETWORKS"][name], 40, 0), images, labels))
        for name in ("O(3), 0e and 0o outputs", "O(3), 0e outputs")
    }
    assert found["O(3), 0e and 0o outputs"] > 0.7
    assert found["O(3), 0e outputs"] < 0.6


def test_the_benchmark_prints_a_row_for_each_network(sides, capsys, tmp_path):
    rows = sides["main"](steps=1, seeds=1, patients=2, output=str(tmp_path / "sides.json"))
    assert len(rows) == 2 * len(sides["NETWORKS"])
    assert "| O(3), 0e and 0o outputs | with a nose |" in capsys.readouterr().out
    assert (tmp_path / "sides.json").exists()
