"""The names of shapes in signatures are checked in the tests, wherever they stand, and nowhere else."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from e3nn import o3
from jaxtyping import TypeCheckError

import equivariant_nets
from equivariant_nets import rotations
from equivariant_nets.equivariance import central_error, transform_field
from equivariant_nets.networks.regular import DepthwiseConvolution, find_group
from equivariant_nets.networks.steerable import Dropout, InstanceNorm, NormMaxPool

IRREPS = o3.Irreps("2x0e+1x1e")
volume = torch.zeros(1, 5, 4, 4, 4)
flat = torch.zeros(5)


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (Dropout(IRREPS, 0.5).eval(), [flat]),
        (Dropout(IRREPS, 0.5).eval(), [volume.long()]),
        (InstanceNorm(IRREPS), [flat]),
        (NormMaxPool(IRREPS), [flat]),
        (DepthwiseConvolution(5, find_group("trivial", 3)), [flat]),
        (transform_field, [flat, rotations.plane_rotation("axial", 90)]),
        (central_error, [volume, volume[:, :1]]),
    ],
)
def test_a_wrong_shape_raises(function, arguments):
    with pytest.raises(TypeCheckError):
        function(*arguments)


def test_a_wrong_shape_of_a_result_raises(monkeypatch):
    monkeypatch.setattr(rotations.np, "eye", lambda n: torch.eye(n + 1).numpy())
    with pytest.raises(TypeCheckError):
        rotations.plane_rotation("axial", 45)


def test_the_option_names_every_module_that_names_shapes(request):
    *checked, _ = request.config.getoption("--jaxtyping-packages").split(",")
    root = Path(equivariant_nets.__file__).parents[1]
    sources = {path: path.read_text(encoding="utf-8") for path in (root / "equivariant_nets").rglob("*.py")}
    names = [
        ".".join(path.relative_to(root).with_suffix("").parts)
        for path, text in sources.items()
        if "equivariant_nets.types import" in text
    ]
    assert len(names) > 10
    assert [name for name in names if not any(f"{name}.".startswith(f"{module}.") for module in checked)] == []
    assert [module for module in checked if not any(f"{name}.".startswith(f"{module}.") for name in names)] == []


def test_outside_of_the_tests_nothing_is_checked():
    code = """
import sys, torch
import equivariant_nets.networks.constructors
from e3nn import o3
from equivariant_nets.networks.steerable import Dropout
print("beartype" in sys.modules, hasattr(Dropout.forward, "__wrapped__"))
print(*Dropout(o3.Irreps("2x0e"), 0.5).eval()(torch.ones(2)).tolist())
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.stdout.split() == ["False", "False", "1.0", "1.0"], result.stderr
