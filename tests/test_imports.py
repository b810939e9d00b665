"""What importing the package costs and offers."""

import importlib
import importlib.metadata
import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import equivariant_nets
from equivariant_nets import experiments
from equivariant_nets.bundles_extra import MODULES

ABSENT = ["monai", "matplotlib", "nibabel", "ignite", "fire", "tensorboard", "psutil", "PIL", "filelock", "tqdm"]
ABSENT += ["scipy", "jaxtyping", "beartype", "pydicom", "highdicom"]
ROOT = Path(__file__).resolve().parents[1]
HEAVY = ["monai", "matplotlib", "ignite", "nibabel", "tensorboard", "fire"]


def in_a_fresh_interpreter(code):
    code = f"import atexit, gc; atexit.register(gc.freeze)\n{code}"  # it ends at once, without a last collection
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_the_networks_import_nothing_heavy():
    result = in_a_fresh_interpreter(f"import sys, equivariant_nets; print([m for m in {HEAVY} if m in sys.modules])")
    assert result.stdout.strip() == "[]", result.stderr


ALONE = """
import importlib, pkgutil, sys
for name in {absent}:
    sys.modules[name] = None
import torch
from equivariant_nets import ConventionalUNet, RegularUNet, ScaleUNet, SteerableUNet, materialize, networks
for module in pkgutil.walk_packages(networks.__path__, "equivariant_nets.networks."):
    importlib.import_module(module.name)
small = dict(features=1, depth=1)
nets = [SteerableUNet(features="1x0e+1x1e", depth=1), RegularUNet(3, group="V4", **small), ScaleUNet(3, 1, **small)]
for net in [*nets, ConventionalUNet(**small), materialize(nets[0]).train().requires_grad_()]:
    before = [weight.clone() for weight in net.parameters()]
    net(torch.rand(1, 1, 6, 7, 8)).square().mean().backward()
    torch.optim.SGD(net.parameters(), 0.1).step()
    assert not all(map(torch.equal, net.parameters(), before)), net
print("done")
"""


def test_the_networks_train_with_torch_and_e3nn_alone():
    result = in_a_fresh_interpreter(ALONE.format(absent=ABSENT))
    assert result.stdout.strip() == "done", result.stderr


def test_the_steerable_family_imports_by_itself():
    result = in_a_fresh_interpreter("from equivariant_nets.networks.steerable.family import SteerableFamily")
    assert result.returncode == 0, result.stderr


def test_the_regular_family_imports_without_e3nn():
    result = in_a_fresh_interpreter("import sys; sys.modules['e3nn'] = None; import equivariant_nets.networks.regular")
    assert result.returncode == 0, result.stderr


def test_the_networks_need_no_extra():
    blocked = f"import sys; sys.modules.update(dict.fromkeys({set(MODULES) - {'scipy'}}))"  # e3nn needs scipy
    result = in_a_fresh_interpreter(f"{blocked}; from equivariant_nets import *; SteerableUNet(depth=1)")
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("quick", [False, True])
def test_experiments_are_read_and_refused_without_an_extra(quick, tmp_path):
    code = f"""
import json, sys
sys.modules.update(dict.fromkeys({[*MODULES, "pandas", "torch", "e3nn"]}))
from pathlib import Path
from equivariant_nets.experiments import Experiment, Run, plan, read_experiment
for path in sorted(Path({str(ROOT / "experiments")!r}).glob("*.json")):
    experiment = read_experiment(path, {str(tmp_path)!r}, quick={quick})
    assert isinstance(experiment, Experiment) and all(isinstance(run, Run) for run in experiment.runs)
    wrong = Path({str(tmp_path)!r}) / path.name
    content = json.loads(path.read_text())
    wrong.write_text(json.dumps(content | {{"overrides": {{"epoch": 1}}}}))
    try:
        read_experiment(wrong, wrong.parent, {str(ROOT / "bundles")!r})
    except ValueError as error:
        print(len(experiment.runs), "overrides 'epoch', which" in str(error))
"""
    result = in_a_fresh_interpreter(code)
    read = [line.split() for line in result.stdout.splitlines()]
    assert len(read) == len(list((ROOT / "experiments").glob("*.json"))), result.stderr
    assert all(int(runs) > 0 and refused == "True" for runs, refused in read)


# Those that are imported first, whatever of the package is asked for.
PACKAGES = [m.name for m in pkgutil.iter_modules(equivariant_nets.__path__, "equivariant_nets.")]
# Reading an experiment needs no extra, the other modules of its package do.
PACKAGES += [m.name for m in pkgutil.iter_modules(experiments.__path__, "equivariant_nets.experiments.")]


def test_without_the_extra_a_module_names_the_command_that_installs_it():
    code = f"""
import importlib, sys
sys.modules["monai"] = None
for name in {PACKAGES}:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        print(name, error)
"""
    lines = in_a_fresh_interpreter(code).stdout.splitlines()
    advice = "The bundles need what is not installed: monai. Run: pip install -e '.[bundles]'. "
    advice += "In an archive of a bundle, install the packages that its configs/metadata.json names."
    assert all(line.endswith(f" {advice}") for line in lines)
    assert {line.split()[0].removeprefix("equivariant_nets.") for line in lines} >= {
        "cli", "commands", "data", "errors", "evaluation", "experiments.execution", "experiments.figures",
        "experiments.identity", "experiments.pictures", "fingerprints", "inference", "interaction", "pictures",
        "training", "transforms", "zoo",
    }  # fmt: skip


def pins(file):
    """Versions by package."""
    return dict(line.split("==") for line in (ROOT / file).read_text(encoding="utf-8").split())


def names(requirements):
    return {re.match(r"[\w-]+", text)[0] for text in requirements if not text.startswith("equivariant-nets")}


def test_each_requirement_is_pinned_and_nothing_else():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {extra: names(texts) for extra, texts in project["optional-dependencies"].items()}
    bundles = names(project["dependencies"]) | extras["bundles"]
    assert pins("requirements.txt").keys() == bundles | extras["test"]
    assert pins("requirements-label.txt").keys() == bundles | {"fastapi", "monailabel", "pydicom", "starlette"}
    assert pins("requirements-nnunet.txt").keys() == bundles | {"nnunetv2", "torchvision"}
    included = ("dask", "dev", "dicom", "export", "nvflare", "tracking", "zoo")
    developing = set().union(*(extras[name] for name in included))
    assert pins("requirements-dev.txt").keys() == developing - {"pre-commit"}
    assert pins("requirements-docs.txt").keys() == extras["docs"]
    # MONAI Label needs an older numpy.
    first, second = ({**pins(file), "numpy": None} for file in ("requirements.txt", "requirements-label.txt"))
    assert {name: first[name] for name in bundles}.items() <= second.items()
    assert {name: pins("requirements.txt")[name] for name in bundles}.items() <= pins("requirements-nnunet.txt").items()
    providers = importlib.metadata.packages_distributions()
    assert {name.lower() for module in MODULES for name in providers[module]} >= extras["bundles"]
    assert len(MODULES) == len(extras["bundles"])


@pytest.mark.parametrize(
    "name",
    [
        "equivariant_nets",
        "equivariant_nets.experiments",
        "equivariant_nets.networks.regular",
        "equivariant_nets.networks.steerable",
    ],
)
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


DRAWINGS = """
import sys, importlib, pkgutil, matplotlib
matplotlib.use("svg")
import equivariant_nets
for module in pkgutil.walk_packages(equivariant_nets.__path__, "equivariant_nets."):
    importlib.import_module(module.name)

import numpy as np
from pathlib import Path
from equivariant_nets.interaction.evaluation import plot_click_curves
from equivariant_nets.evaluation.plots import plot_rotation_curves, plot_scale_curves, plot_vessel_curves
from equivariant_nets.pictures import photograph_with_labels, three_planes
folder = Path(sys.argv[1])
table = folder / "table.csv"
table.write_text(
    "case,plane,angle_degrees,factor,clicks,class,dice,interpolation_dice,dataset,reader\\n"
    "a,axial,0,1.0,0,x,0.5,1,drive,network\\n"
)
for plot in (plot_rotation_curves, plot_scale_curves, plot_vessel_curves, plot_click_curves):
    plot({"net": table}, folder / f"{plot.__name__}.png")
three_planes(np.eye(8)[None].repeat(8, 0), [("a", np.ones((8, 8, 8)))], folder / "planes.png")
photograph_with_labels(np.ones((3, 8, 8)), np.eye(8), folder / "photograph.png")

sys.path.insert(0, sys.argv[2])
from stores import finish, make_experiment, save_weights, write_pictured_bundle
from equivariant_nets.experiments.figures import plot_experiment
from equivariant_nets.experiments.pictures import draw_cases
from equivariant_nets.experiments.plan import PLOTS
from equivariant_nets.experiments.results import read_settings
write_pictured_bundle(folder)
for plot in PLOTS:
    experiment = make_experiment(folder, values=(1, 2), seeds=(0,), name=plot, plot=plot)
    for run in experiment.runs if plot == PLOTS[0] else ():
        finish(run, folder, lambda *pose: 0.5, cases=["case_00"])
        save_weights(run, folder)
    settings, _ = read_settings(experiment, folder)
    plot_experiment(experiment, settings, folder)
draw_cases(settings[:1], folder, folder)
print(matplotlib.get_backend())
"""


def test_the_backend_of_matplotlib_is_left_alone(tmp_path):
    """By importing every module, and by drawing one of each picture."""
    stores = Path(__file__).parent / "helpers"
    command = [sys.executable, "-W", "ignore", "-c", DRAWINGS, str(tmp_path), str(stores)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.stdout.strip() == "svg", result.stderr
    assert len(list(tmp_path.glob("*.png"))) == 6 + 5 + 2


def test_no_module_imports_pyplot():
    """It keeps each figure alive until it is closed, and chooses a backend for all."""
    sources = Path(equivariant_nets.__file__).parent.rglob("*.py")
    assert [path.name for path in sources if "matplotlib.pyplot" in path.read_text(encoding="utf-8")] == []
