"""What torch.compile makes of a network is one graph, which computes and learns the same."""

import json
import subprocess
from pathlib import Path

import families
import pytest
from fresh import python

COMPILED = ["SO3", "SO3, other options", "O3", "D8", "scale"]
# In a process of its own: the checks of shapes break graphs, even where they are switched off.
COMPILE = f"""
import copy, json, warnings
warnings.filterwarnings("ignore")
import torch
from families import build, image
errors = {{}}
for family in {COMPILED}:
    net = build(family).double().train()
    compiled = torch.compile(copy.deepcopy(net), backend="aot_eager", fullgraph=True)
    x, outputs = image(net, torch.float64, batch=2), []  # slices of one sample are contiguous
    for module in (net, compiled):
        torch.manual_seed(0)  # of dropout
        outputs.append(module(x))
        outputs[-1].square().sum().backward()
    pairs = [outputs, *([p.grad, q.grad] for p, q in zip(net.parameters(), compiled.parameters(), strict=True))]
    errors[family] = max(float((a - b).abs().max() / a.abs().max()) for a, b in pairs if a.abs().max() > 1e-9)
print(json.dumps(errors))
"""


@pytest.fixture(scope="module")
def errors():
    """By family, how far a compiled network's output and gradients are from those of the network, relatively."""
    command = [python(), "-c", COMPILE]
    result = subprocess.run(command, cwd=Path(families.__file__).parent, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.parametrize("family", COMPILED)
def test_a_network_compiles_to_one_graph_that_gives_and_learns_the_same(family, errors):
    assert errors[family] < 1e-8
