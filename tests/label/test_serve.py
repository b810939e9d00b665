"""Laws of ``label/serve.py``: what cannot be served is refused before a server starts, with what is legal."""

import errno
import shutil
import socket
import subprocess
import sys

import psutil
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


def test_it_ends_with_the_process_that_started_it(tmp_path):
    """``make``, which may be killed: here a shell, which ends at once."""
    code = "import os, subprocess, sys; from serve import wait_for_end; parent = os.getppid();"
    code += "child = subprocess.Popen(['sleep', '100']); print('runs', flush=True); wait_for_end(child, parent);"
    code += "print('ends', child.poll(), flush=True); child.kill()"
    shell = subprocess.Popen(
        ["sh", "-c", '"$@" & wait', "sh", sys.executable, "-c", code], cwd=LABEL, stdout=subprocess.PIPE, text=True
    )
    assert shell.stdout.readline() == "runs\n"
    shell.kill()
    assert shell.stdout.readline() == "ends None\n"
    shell.wait()


def test_make_that_is_killed_leaves_no_server(label_python, tmp_path):
    environment, port = label_python.parents[1], free_port()
    shutil.copy(LABEL.parent / "Makefile", tmp_path)
    shutil.copytree(LABEL, tmp_path / "label", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(BUNDLES / PHANTOM, tmp_path / "bundles" / PHANTOM)
    command = ["make", "-o", environment / ".installed", "label", f"LABEL_VENV={environment}", f"MODELS={PHANTOM}"]
    with subprocess.Popen([*command, f"PORT={port}"], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as make:
        while "Ctrl+C stops" not in (line := make.stdout.readline()):
            assert line, "it ended"
        family = psutil.Process(make.pid).children(recursive=True)
        make.kill()
        assert len(family) >= 2  # serve.py, and the server
        assert not psutil.wait_procs(family, timeout=40)[1]
    with socket.socket() as client:  # not by binding: closed connections hold a port for a minute
        assert client.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED


def test_a_token_is_kept_in_its_file_and_needed_beyond_this_computer(tmp_path):
    code = "from pathlib import Path; from serve import read_token; import sys; file = Path(sys.argv[1]);"
    code += "hosts = ('127.0.0.1', 'localhost', '0.0.0.0', '10.0.0.1');"
    code += "print(*[read_token(given, host) or '-' for given in (None, file) for host in hosts])"
    runs = [
        subprocess.run(
            [sys.executable, "-c", code, tmp_path / "token"], capture_output=True, text=True, cwd=LABEL, check=True
        ).stdout.split()
        for _ in range(2)
    ]
    for *_, kept in runs:
        assert kept == (tmp_path / "token").read_text().strip()
    for first, second, far, farther, *of_file in runs:
        assert first == second == "-"
        assert len({far, farther, *runs[0][2:4], *runs[1][2:4]}) == 4
        assert len(far) == 32
        assert len(set(of_file)) == 1


def test_a_token_that_could_be_guessed_is_refused(tmp_path):
    (tmp_path / "token").write_text("secret\n")
    result = serve(
        "--models", PHANTOM, "--studies", tmp_path, "--port", free_port(), "--app", tmp_path / "app",
        "--token_file", tmp_path / "token",
    )  # fmt: skip
    assert result.returncode == 1
    assert "holds no token: legal are 16 characters or more" in result.stderr


def test_an_interpreter_without_monai_label_is_refused(tmp_path):
    result = serve("--models", PHANTOM, "--studies", tmp_path, "--port", free_port(), "--app", tmp_path / "app")
    assert result.returncode == 1
    assert "MONAI Label is not installed" in result.stderr
