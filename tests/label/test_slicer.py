"""Law of the client of 3D Slicer: it does all that an annotator asks of it, with a token and without."""

import json
import subprocess
from pathlib import Path

import pytest
from clients import PHANTOM

SCRIPT = Path(__file__).resolve().parents[1] / "helpers" / "slicer.py"


@pytest.mark.parametrize("kind", ["server", "team_server"])
def test_the_client_of_3d_slicer_does_all_that_it_could(kind, request, label_python, phantoms, tmp_path):
    server = request.getfixturevalue(kind)
    case, (image, label) = next(iter(phantoms.items()))
    extension = label_python.parents[1] / "monailabel" / "plugins" / "slicer" / "MONAILabel"
    arguments = [extension, server.address, getattr(server, "token", ""), PHANTOM, case, image, label, tmp_path]
    result = subprocess.run(
        [label_python, SCRIPT, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stderr
    done = json.loads(result.stdout.splitlines()[-1])
    assert done["next_sample"] in done["datastore"]
    assert "new image (1)" in done["datastore"]
    assert done["infer"] == done["infer_session"] == {"stem": 1, "caudal nucleus": 2, "rostral nucleus": 3}
    assert done["session"]
    assert done["download"]
    assert done["train_start"] in ("SUBMITTED", "RUNNING")
    assert (done["upload"], done["train_stop"]) == ("new image (1)", "STOPPED")
    assert (server.studies / "labels" / "final" / "new image (1).nii.gz").read_bytes() == label.read_bytes()
    if kind == "server":
        server.withdraw("new image (1)")
        (server.studies / "new image (1).nii.gz").unlink()
        server.wait_for_images(absent=["new image (1)"])
