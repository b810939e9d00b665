"""What importing the package costs and offers."""

import importlib
import pkgutil
import subprocess
import sys

import pytest

import equivariant_nets

HEAVY = ["monai", "matplotlib", "ignite", "nibabel", "tensorboard", "fire"]


def in_a_fresh_interpreter(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_the_networks_import_nothing_heavy():
    result = in_a_fresh_interpreter(f"import sys, equivariant_nets; print([m for m in {HEAVY} if m in sys.modules])")
    assert result.stdout.strip() == "[]", result.stderr


def test_the_steerable_family_imports_by_itself():
    result = in_a_fresh_interpreter("from equivariant_nets.steerable.family import SteerableFamily")
    assert result.returncode == 0, result.stderr


def test_the_networks_are_built_without_scipy():
    code = "import sys; sys.modules['scipy'] = None; from equivariant_nets import SteerableUNet; SteerableUNet(depth=1)"
    result = in_a_fresh_interpreter(code)
    assert result.returncode == 0, result.stderr


def test_the_regular_family_imports_without_e3nn():
    result = in_a_fresh_interpreter("import sys; sys.modules['e3nn'] = None; import equivariant_nets.regular")
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("name", ["equivariant_nets", "equivariant_nets.regular", "equivariant_nets.steerable"])
def test_public_names_exist_and_are_sorted(name):
    module = importlib.import_module(name)
    assert sorted(module.__all__) == module.__all__
    assert all(hasattr(module, public) for public in module.__all__)


@pytest.mark.parametrize(
    "name",
    [m.name for m in pkgutil.walk_packages(equivariant_nets.__path__, "equivariant_nets.") if "__main__" not in m.name],
)
def test_every_module_imports_and_lists_what_it_has(name):
    module = importlib.import_module(name)
    assert all(hasattr(module, public) for public in getattr(module, "__all__", []))


def test_the_random_state_and_default_type_are_left_alone():
    code = "import torch; s = torch.get_rng_state(); import equivariant_nets; "
    code += "print(torch.equal(s, torch.get_rng_state()), torch.get_default_dtype(), torch.is_grad_enabled())"
    assert in_a_fresh_interpreter(code).stdout.split() == ["True", "torch.float32", "True"]
