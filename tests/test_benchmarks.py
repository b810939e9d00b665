"""The benchmarks run, write what they print, and count what they claim to count."""

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch

from equivariant_nets import ConventionalUNet, SteerableUNet

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    """Load a benchmark as its command line would."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield lambda name: runpy.run_path(str(BENCHMARKS / f"{name}.py"))
    sys.modules.pop("common", None)


def test_equivariance_tells_the_networks_apart(benchmark, tmp_path, capsys):
    output = tmp_path / "new" / "equivariance.json"
    script = benchmark("equivariance")
    script["NETWORKS"].clear()
    script["NETWORKS"]["SteerableUNet"] = lambda: SteerableUNet(features="1x0e+1x1e", depth=1)
    script["NETWORKS"]["ConventionalUNet"] = lambda: ConventionalUNet(features=2, depth=1)
    script["main"](sizes=[(9, 8, 7)], free_size=9, angles=[45], output=str(output))
    record = json.loads(output.read_text())
    steerable, conventional = record["networks"]
    assert steerable["grid rotations, float32"] < 1e-5
    assert steerable["grid rotations, float64"] < 1e-10
    assert conventional["grid rotations, float64"] > 0.1
    assert "SteerableUNet" in capsys.readouterr().out


def test_speed_reports_every_quantity_as_a_ratio(benchmark, tmp_path):
    output = tmp_path / "speed.json"
    benchmark("speed")["main"](sizes=9, features="1x0e+1x1e", repeats=1, device="cpu", output=str(output))
    rows = {row["quantity"]: row for row in json.loads(output.read_text())["rows"]}
    assert {"training step", "forward in training", "inference", "saved activations"} <= rows.keys()
    for row in rows.values():
        assert row["conventional"] == 0 or row["ratio"] == pytest.approx(row["steerable"] / row["conventional"])


def test_saved_activations_grow_with_the_image_and_kernels_do_not(benchmark):
    measure = benchmark("speed")["measure"]
    small, large = (measure(size, "1x0e+1x1e", 1, torch.device("cpu"), 0) for size in (9, 18))
    for name in small:
        assert large[name]["assembled kernels"] == small[name]["assembled kernels"]
        assert 6 < large[name]["saved activations"] / small[name]["saved activations"] < 10
