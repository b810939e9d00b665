"""Laws of ``label/serve.py``: what cannot be served is refused before a server starts, with what is legal."""

import shutil
import socket
import subprocess
import sys

import pytest
from clients import LABEL, PHANTOM, free_port

BUNDLES = LABEL.parent / "bundles"


def serve(*arguments):
    command = [sys.executable, LABEL / "serve.py", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def untrained(tmp_path):
    """A folder of one bundle without weights."""
    shutil.copytree(BUNDLES / PHANTOM / "configs", tmp_path / "bundles" / PHANTOM / "configs")
    return tmp_path / "bundles"


def test_an_unknown_bundle_is_refused_with_those_that_there_are(tmp_path):
    result = serve("--models", f"{PHANTOM},liver_ct_segmentation", "--studies", tmp_path, "--app", tmp_path / "app")
    assert result.returncode == 1
    assert "There is no bundle liver_ct_segmentation for volumes" in result.stderr
    assert PHANTOM in result.stderr
    assert "retina" not in result.stderr  # which are photographs


def test_a_bundle_without_weights_is_refused_with_the_command_that_trains_it(untrained, tmp_path):
    result = serve("--models", PHANTOM, "--bundles", untrained, "--studies", tmp_path, "--app", tmp_path / "app")
    assert result.returncode == 1
    assert f"{PHANTOM} has no weights" in result.stderr
    assert f"monai.bundle run --bundle_root {untrained / PHANTOM}" in result.stderr


def test_a_missing_folder_of_studies_is_refused(tmp_path):
    result = serve("--models", PHANTOM, "--studies", tmp_path / "nowhere", "--app", tmp_path / "app")
    assert result.returncode == 1
    assert f"The folder of studies {tmp_path / 'nowhere'} does not exist" in result.stderr


def test_a_port_in_use_is_refused(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = serve("--models", PHANTOM, "--studies", tmp_path, "--port", port, "--app", tmp_path / "app")
    assert result.returncode == 1
    assert f"Port {port} of 127.0.0.1 cannot be used" in result.stderr
    assert not (tmp_path / "app").exists()


def test_uncertainty_of_a_model_that_is_not_served_is_refused(tmp_path):
    result = serve(
        "--models", PHANTOM, "--studies", tmp_path, "--uncertainty", "liver", "--port", free_port(), "--app", tmp_path
    )  # fmt: skip
    assert result.returncode == 1
    assert f"--uncertainty liver is none of the models: {PHANTOM}" in result.stderr


def test_an_interpreter_without_monai_label_is_refused(tmp_path):
    result = serve("--models", PHANTOM, "--studies", tmp_path, "--port", free_port(), "--app", tmp_path / "app")
    assert result.returncode == 1
    assert "MONAI Label is not installed" in result.stderr
