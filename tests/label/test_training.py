"""Laws of annotation: labels are kept, fine-tuning gives new weights that are used at once, and uncertainty chooses."""

import os
import time

import nibabel as nib
import numpy as np
import pytest
from clients import DEEPEDIT, PHANTOM, upright, wait_until


@pytest.fixture(scope="module", autouse=True)
def weights_of_others(server):
    """Leave the weights as they were: the server is that of all tests."""
    before = {path: path.read_bytes() for path in map(server.weights, (PHANTOM, DEEPEDIT))}
    yield
    for path, content in before.items():
        path.write_bytes(content)


def test_a_submitted_label_is_kept_as_it_is(server, phantoms, labelled):
    case, (_, label) = next(iter(phantoms.items()))
    labelled(case)
    assert (server.studies / "labels" / "final" / f"{case}.nii.gz").read_bytes() == label.read_bytes()
    assert server.get("/datastore/").json()["completed"] == 1
    assert server.post("/activelearning/first").json()["id"] != case


def test_a_label_for_an_unknown_image_is_refused(server, phantoms):
    _, label = next(iter(phantoms.values()))
    answer = server.submit("nobody", label)
    assert answer.status_code == 404
    assert "nobody" in answer.json()["detail"]


def test_first_and_random_choose_among_images_without_label(server, phantoms, labelled):
    cases = upright(phantoms)
    labelled(cases[0])
    images = server.images()
    assert server.post("/activelearning/first").json()["id"] == min(images - {cases[0]})
    assert {server.post("/activelearning/random").json()["id"] for _ in range(4)} <= images - {cases[0]}


def test_the_most_uncertain_image_comes_first(server, phantoms):
    def scores(seconds):
        os.utime(server.weights(PHANTOM), (seconds, seconds))  # images are scored once for each weights
        answer = server.post(f"/scoring/{PHANTOM}?run_sync=true", simulation_size=2)
        assert answer.status_code == 200, answer.text
        objects = server.get("/datastore/?output=all").json()["objects"]
        return {name: item["image"]["info"]["epistemic_entropy"] for name, item in objects.items()}

    now = int(time.time())
    first, second = scores(now), scores(now + 1)
    assert set(phantoms) <= first.keys() == second.keys()
    assert all(0 < score < np.log(4) for score in second.values())
    assert all(first[name] != second[name] for name in first)  # dropout differs from pass to pass
    served = [server.post("/activelearning/epistemic").json()["id"] for _ in second]
    assert served == sorted(second, key=second.get, reverse=True)


def test_fine_tuning_gives_weights_that_are_used_at_once(server, phantoms, labelled):
    labelled(*upright(phantoms))
    before = server.weights(PHANTOM).read_bytes(), server.segment(PHANTOM, "phantom_turned").get_fdata()
    config = server.get("/info/").json()["trainers"][PHANTOM]["config"]
    options = {name: value[0] if isinstance(value, list) else value for name, value in config.items()}  # as 3D Slicer
    task = server.post(f"/train/{PHANTOM}", **{**options, "max_epochs": 2, "val_split": 0.25, "learning_rate": 0.1})
    task = task.json()
    assert task["status"] in ("SUBMITTED", "RUNNING")
    wait_until(lambda: server.get("/train/").json()["status"] not in ("SUBMITTED", "RUNNING"), seconds=180)
    task = server.get("/train/").json()
    assert task["status"] == "DONE", "\n".join(task["details"])
    assert server.weights(PHANTOM).read_bytes() != before[0]
    assert not np.array_equal(server.segment(PHANTOM, "phantom_turned").get_fdata(), before[1])


def test_a_training_that_fails_or_is_tracked_leaves_nothing_to_the_next(server, phantoms, labelled, tmp_path):
    def train(**options):
        answer = server.post(f"/train/{PHANTOM}?run_sync=true", max_epochs=1, val_split=0.25, device="cpu", **options)
        return answer.status_code, answer.text

    cases = upright(phantoms)
    labelled(*cases)
    label = nib.load(phantoms[cases[0]][1])
    nib.save(nib.Nifti1Image(np.full(label.shape, 9, np.uint8), label.affine), tmp_path / "of_no_class.nii.gz")
    server.submit(cases[0], tmp_path / "of_no_class.nii.gz")
    status, text = train()
    assert status == 500
    assert "the label values 9 are not legal" in text
    labelled(cases[0])
    for options in ({"tracking": "mlflow"}, {}, {"tracking": "mlflow"}):
        status, text = train(**options)
        assert status == 200, text


def test_fine_tuning_of_clicks_starts_from_the_weights_or_anew(server, hippocampi, phantoms):
    for case, (_, label) in hippocampi.items():
        assert server.submit(case, label).status_code == 200
    for options in ({}, {"pretrained": False}):
        before = server.weights(DEEPEDIT).read_bytes()
        answer = server.post(f"/train/{DEEPEDIT}?run_sync=true", max_epochs=1, val_split=0.5, device="cpu", **options)
        assert answer.status_code == 200, answer.text
        assert server.weights(DEEPEDIT).read_bytes() != before
    for case in hippocampi:
        server.withdraw(case)


BAD_TASKS = {
    "unknown model": ("/train/liver?run_sync=true", {}, 400, "There is no model 'liver'; legal are: phantom_so3"),
    "too few labels": (f"/train/{PHANTOM}?run_sync=true", {}, 400, "1 labels are too few to train with val_split=0.2"),
    "unknown scoring": ("/scoring/liver?run_sync=true", {}, 400, f"no scoring method 'liver'; legal are: {PHANTOM}."),
    "unknown strategy": ("/activelearning/best", {}, 400, "There is no strategy 'best'; legal are: epistemic, first"),
}


@pytest.mark.parametrize("kind", BAD_TASKS)
def test_a_task_that_cannot_be_done_says_why_and_the_server_lives_on(kind, server, phantoms, labelled):
    path, body, status, message = BAD_TASKS[kind]
    labelled(upright(phantoms)[0])
    answer = server.post(path, **body)
    assert answer.status_code == status, answer.text
    assert message in answer.json()["detail"]
    assert server.get("/info/").status_code == 200
