"""A server of MONAI Label with the bundles, started once, and images for it."""

import os
import shutil
import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import psutil
import pytest
from clients import LABEL, MODELS, PHANTOM, Client, free_port

from equivariant_nets.data import hippocampus_datalist, write_phantoms


@pytest.fixture(scope="session")
def label_python(interpreter):
    """The interpreter of MONAI Label's environment: skipped without ``--label-python``."""
    return interpreter("--label-python", "MONAI Label")


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory):
    """Image and label of four upright phantoms; one more is the first in another orientation and spacing."""
    folder = tmp_path_factory.mktemp("phantoms")
    write_phantoms(folder, num_training=1, num_validation=1, num_test=4, size=(24, 26, 22))
    cases = {}
    for image in sorted((folder / "imagesTs").glob("phantom_upright*.nii.gz")):
        cases[image.name.removesuffix(".nii.gz")] = image, folder / "labelsTs" / image.name
    image, label = next(iter(cases.values()))
    turned = folder / "phantom_turned.nii.gz", folder / "phantom_turned_label.nii.gz"
    for source, target in zip((image, label), turned, strict=True):
        nib.save(nib.load(source).as_reoriented(np.array([[2, -1], [0, 1], [1, -1]])), target)
    return {**cases, "phantom_turned": turned}


def start(label_python, folder, models, *options):
    """A process of ``serve.py`` and a client of its server, once it runs."""
    port = free_port()
    command = [label_python, LABEL / "serve.py", "--models", ",".join(models), "--studies", folder / "studies"]
    command += ["--app", folder / "app", "--port", str(port), *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MONAI_LABEL_AUTO_UPDATE_SCORING": "false"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines = []
    while not any("Ctrl+C stops" in line for line in lines):
        line = process.stdout.readline()
        assert line, "".join(lines)  # it ended, and said why
        lines.append(line)
    client = Client(f"http://127.0.0.1:{port}", folder / "studies", folder / "app")
    client.said = "".join(lines)
    return process, client


@pytest.fixture
def serve(label_python):
    """Start a server on a folder that holds ``studies``; it ends with the test."""
    processes = []

    def serve(folder, models, *options):
        process, client = start(label_python, folder, models, *options)
        processes.append(process)
        return client

    yield serve
    for process in processes:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="session")
def server(label_python, phantoms, tmp_path_factory):
    """The server, on the phantoms; the tests of real data add theirs."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "studies").mkdir()
    for image, _ in phantoms.values():
        shutil.copy(image, folder / "studies")
    process, client = start(label_python, folder, MODELS, "--uncertainty", PHANTOM)
    yield client
    process.terminate()
    assert process.wait(30) == 0


@pytest.fixture(scope="session")
def team_server(label_python, phantoms, tmp_path_factory):
    """A server for a team, with a token and small uploads. It ends with ``serve.py``, which is killed."""
    folder = tmp_path_factory.mktemp("team")
    (folder / "studies").mkdir()
    shutil.copy(next(iter(phantoms.values()))[0], folder / "studies")
    options = ["--host", "0.0.0.0", "--hosts", "label.example.org", "--token_file", folder / "token"]
    options += ["--max_upload_mb", "1", "--end_with_parent", "--uncertainty", "none"]
    process, client = start(label_python, folder, [PHANTOM], *options)
    client.token = (folder / "token").read_text().strip()
    yield client
    family = psutil.Process(process.pid).children(recursive=True)
    assert family
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(family, timeout=40)
    assert not alive


@pytest.fixture
def labelled(server, phantoms):
    """Submit the labels of phantoms, and withdraw them afterwards."""
    submitted = []

    def submit(*cases):
        for case in cases:
            answer = server.submit(case, phantoms[case][1])
            assert answer.status_code == 200, answer.text
            submitted.append(case)

    yield submit
    for case in submitted:
        server.withdraw(case)


@pytest.fixture(scope="session")
def hippocampi(server, real_hippocampus):
    """Image and label of two volumes of the test section, which the server has among its studies."""
    cases = {}
    for item in hippocampus_datalist(real_hippocampus, "test")[:2]:
        image, label = Path(item["image"]), Path(item["label"])
        shutil.copy(image, server.studies)
        cases[image.name.removesuffix(".nii.gz")] = image, label
    server.wait_for_images(*cases)
    return cases
