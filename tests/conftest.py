"""The options of the tests: where real data lies, what must be installed, and how often commands are killed."""

import gc
from importlib.util import find_spec
from pathlib import Path

import jaxtyping
import pytest
import torch
from kills import COUNTS


def pytest_addoption(parser):
    parser.addoption(
        "--real-data",
        metavar="DIR",
        help="folder of brain_structures/, brain_tumor/, hippocampus/ and retina/; without it their tests are skipped",
    )
    parser.addoption(
        "--label-python",
        metavar="FILE",
        help="interpreter of the environment of MONAI Label, .venv-label/bin/python; without it its tests are skipped",
    )
    parser.addoption(
        "--nnunet",
        metavar="FILE",
        help="interpreter of the environment of nnU-Net, .venv-nnunet/bin/python; without it its tests are skipped",
    )
    parser.addoption(
        "--dicom", action="store_true", help="fail, and do not skip, the tests of DICOM where a package is missing"
    )
    parser.addoption(
        "--faults",
        metavar="N",
        type=int,
        default=0,
        help="kill commands about N times in the tests marked `faults`; without it a few times",
    )


def pytest_configure(config):
    if hasattr(config, "workerinput"):  # one of several processes, which share the cores
        torch.set_num_threads(1)


def pytest_collection_finish():
    gc.freeze()  # what was imported stays: no collection looks through it
    gc.set_threshold(200_000, 20, 50)  # torch's graphs are large: a collection every 700 objects costs 3 % of the time


def pytest_terminal_summary(terminalreporter):
    if COUNTS:
        told = ", ".join(f"{COUNTS[name]} {name}" for name in ("kills", "lost", "mixed", "torn"))
        terminalreporter.write_line(f"commands that were killed and given again: {told}")


@pytest.fixture
def kills_of(request):
    """How many kills a command gets: its share of those that are asked for."""
    asked = request.config.getoption("--faults")

    def of(share, least=1):
        return max(least, round(share * asked))

    return of


@pytest.fixture(scope="session")
def interpreter(request):
    """The interpreter of another environment, by the option that names it: skipped where it is not given."""

    def of(option, what):
        path = request.config.getoption(option)
        if path is None:
            pytest.skip(f"an environment with {what} was not given: pytest {option}=ENVIRONMENT/bin/python")
        path = Path(path).absolute()
        if not path.is_file():
            raise FileNotFoundError(
                f"{option} {path} does not exist; `make .venv-{option[2:].split('-')[0]}/.installed` makes it"
            )
        return path

    return of


@pytest.fixture(scope="session")
def real_data(request) -> Path:
    """The folder of real data sets: skipped without ``--real-data``, an error where the folder is missing."""
    folder = request.config.getoption("--real-data")
    if folder is None:
        pytest.skip("real data was not given: pytest --real-data=DIR")
    folder = Path(folder).resolve()
    if not folder.is_dir():
        raise FileNotFoundError(f"--real-data {folder} is not a folder")
    return folder


@pytest.fixture(scope="session")
def real_brain_structures(real_data) -> Path:
    """The folder of MICCAI 2012 (images, labels): an error where real data was given without it."""
    folder = real_data / "brain_structures"
    if not (folder / "images").is_dir() or not (folder / "labels.csv").is_file():
        raise FileNotFoundError(f"{folder} must hold images, labels and labels.csv of MICCAI 2012")
    return folder


@pytest.fixture(scope="session")
def real_brain_tumor(real_data) -> Path:
    """A folder of BraTS cases: an error where real data was given without it."""
    folder = real_data / "brain_tumor"
    if not any(folder.rglob("*seg.nii*")):
        raise FileNotFoundError(f"{folder} must hold labelled cases of BraTS")
    return folder


@pytest.fixture(scope="session")
def real_hippocampus(real_data) -> Path:
    """The folder of MSD Task04 (imagesTr, labelsTr): an error where real data was given without it."""
    folder = real_data / "hippocampus"
    if not (folder / "imagesTr").is_dir() or not (folder / "labelsTr").is_dir():
        raise FileNotFoundError(f"{folder} must hold imagesTr and labelsTr of MSD Task04")
    return folder


@pytest.fixture(scope="session")
def real_retina(real_data) -> Path:
    """The folder of DRIVE, CHASE_DB1 and STARE: an error where real data was given without them."""
    folder = real_data / "retina"
    if missing := [name for name in ("drive", "chase_db1", "stare") if not (folder / name).is_dir()]:
        raise FileNotFoundError(f"{folder} must hold {', '.join(missing)}")
    return folder


@pytest.fixture(scope="session")
def dicom(request) -> None:
    """Pydicom and highdicom: skipped without them, an error where ``--dicom`` asks for them."""
    missing = [name for name in ("pydicom", "highdicom") if find_spec(name) is None]
    if missing and request.config.getoption("--dicom"):
        raise ModuleNotFoundError(f"--dicom needs {', '.join(missing)}: pip install -e '.[dicom]'")
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed: pip install -e '.[dicom]'")


@pytest.fixture
def unchecked_shapes():
    """For tests of compilers, which cannot look into the checks of shapes."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(autouse=True)
def _fixed_seed():
    torch.manual_seed(0)
