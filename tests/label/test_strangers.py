"""Laws of a MONAI Label server against strangers: what they send is refused, and changes no file."""

import hashlib
import io
import json
import tarfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import requests
from clients import PHANTOM, upright

EVIL = "http://evil.example"
CALL = "$__import__('os').system('touch {}')"


def files(folder):
    """Digests of all files below a folder; logs and locks come and go."""
    found = [path for path in Path(folder).rglob("*") if path.is_file() and path.suffix not in (".log", ".lock")]
    return {path: hashlib.md5(path.read_bytes()).hexdigest() for path in found if path.name != ".lock"}


@pytest.fixture
def unchanged(server):
    """The files of studies and app, and of the folder of both, are as before."""
    before = files(server.studies.parent)
    yield
    assert files(server.studies.parent) == before


FOREIGN = {
    "origin": {"Origin": EVIL},
    "origin of another port": {"Origin": "http://127.0.0.1:1"},
    "no origin": {"Origin": "null"},
    "cross-site": {"Sec-Fetch-Site": "cross-site"},
    "other port of this computer": {"Sec-Fetch-Site": "same-site"},
    "rebinding": {"Host": "evil.example"},
    "rebinding with its origin": {"Host": "evil.example", "Origin": EVIL},
    "host like its own": {"Host": "127.0.0.1.evil.example"},
    "no host": {"Host": ""},
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_page_of_another_origin_or_host_is_refused_whatever_it_asks(kind, server, unchanged):
    for method, path in (
        ("GET", "/info/"),
        ("OPTIONS", f"/train/{PHANTOM}"),
        ("POST", f"/train/{PHANTOM}"),
        ("PUT", "/session/"),
    ):
        answer = requests.request(method, server.address + path, headers=FOREIGN[kind], timeout=60)
        assert answer.status_code == 403, (method, path)
        assert "access-control-allow-origin" not in answer.headers


def test_its_own_origin_and_names_are_served(server):
    port = server.address.rsplit(":")[-1]
    for host in ("127.0.0.1", "localhost", "LOCALHOST"):
        headers = {"Host": f"{host}:{port}", "Origin": f"http://{host}:{port}", "Sec-Fetch-Site": "same-origin"}
        assert server.get("/info/", **headers).status_code == 200
    assert server.get("/logs/").text.count("\n") > 1
    assert "<script" not in server.get("/logs/").text


TRAINING = {
    "learning_rate": CALL, "augmentation": CALL, "max_epochs": CALL, "val_split": CALL, "device": CALL, "run_id": CALL,
    "tracking": CALL, "tracking_uri": CALL, "tracking_experiment_name": CALL, "tracking_run_name": CALL, "gpus": CALL,
    "model_filename": CALL, "train#trainer#max_epochs": CALL, "bundle_path": "/tmp", "model": "x",
    "force_multi_gpu": True,
}  # fmt: skip


@pytest.mark.parametrize("run_sync", ["true", "false"])
def test_training_evaluates_nothing_of_a_request(run_sync, server, phantoms, labelled, tmp_path):
    labelled(*upright(phantoms))
    before, marker = files(server.studies.parent), tmp_path / "marker"
    attacks = [(name, value.format(marker) if isinstance(value, str) else value) for name, value in TRAINING.items()]
    attacks += [(name, {"_target_": "os.system", "command": f"touch {marker}"}) for name in TRAINING]
    attacks += [("max_epochs", -3), ("learning_rate", 0), ("learning_rate", float("inf")), ("augmentation", "wild")]
    attacks += [("tracking", f"{server.studies}/notes.json"), ("model_filename", "training_state.pt"), ("val_split", 1)]
    for name, value in attacks:
        body = json.dumps({"max_epochs": 1, "val_split": 0.25, name: value})
        answer = requests.post(
            f"{server.address}/train/{PHANTOM}?run_sync={run_sync}", body, timeout=60,
            headers={"content-type": "application/json"},
        )  # fmt: skip
        assert answer.status_code == 400, (name, value, answer.text)
        assert name.split("#")[0] in answer.json()["detail"]
    assert server.get("/train/?check_if_running=true").status_code == 404
    assert not marker.exists()
    assert files(server.studies.parent) == before


OPTIONS = {
    "device": CALL, "model_filename": "/etc/hostname", "label_tag": "../../outside", "result_extension": "/../../x",
    "image": "/etc/hostname", "image_path": ["/etc/hostname"], "session": {"image": "/etc/hostname"},
    "result_dtype": CALL, "skip_writer": True, "_target_": "os.system", "background": CALL,
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIONS)
def test_inference_takes_no_paths_and_evaluates_nothing(name, server, unchanged):
    params = json.dumps({name: OPTIONS[name]})
    answer = server.infer_with(PHANTOM, "image=phantom_turned", {"params": params})
    assert answer.status_code == 400, answer.text
    assert name in answer.json()["detail"]


def test_scoring_and_sampling_take_no_other_options(server):
    for path in (f"/scoring/{PHANTOM}?run_sync=true", "/activelearning/first"):
        answer = server.post(path, bundle_path=CALL)
        assert (answer.status_code, "'bundle_path' is no option" in answer.text) == (400, True)


@pytest.mark.parametrize("name", ["../x", "{}/abs", "a/../../x", "..", "~/x", ".hidden", "a\\b", "a\nb", "x" * 300])
def test_names_stay_inside_the_studies(name, server, phantoms, unchanged, tmp_path):
    name = name.format(tmp_path)
    case, (image, label) = next(iter(phantoms.items()))
    attacks = [
        ("PUT", "/datastore/image", {"image": name}, {"file": image}),
        ("PUT", "/datastore/", {"image": name}, {"file": image}),
        ("PUT", "/datastore/label", {"image": case, "tag": name}, {"label": label}),
        ("PUT", "/datastore/label", {"image": name}, {"label": label}),
        ("DELETE", "/datastore/label", {"id": case, "tag": name}, {}),
        ("GET", "/datastore/image", {"image": name}, {}),
        ("GET", "/datastore/label", {"label": case, "tag": name}, {}),
        ("POST", f"/infer/{PHANTOM}", {"image": name}, {}),
        ("POST", f"/infer/{PHANTOM}", {"session_id": name}, {}),
    ]
    for method, path, query, upload in attacks:
        upload = {field: (file.name, file.read_bytes()) for field, file in upload.items()}
        answer = requests.request(method, server.address + path, params=query, files=upload or None, timeout=60)
        assert answer.status_code == 400, (method, path, answer.text)
        assert "is no legal name" in answer.json()["detail"]
    assert not list(tmp_path.iterdir())


def test_files_outside_the_studies_are_not_segmented(server, phantoms):
    for image in ("main.py", "model", "server"):  # which exist where the server runs
        assert server.infer(PHANTOM, image).status_code == 404
        answer = requests.post(f"{server.address}/infer/{PHANTOM}?session_id=none&image={image}", timeout=60)
        assert answer.status_code == 404


def detached(path):
    """A volume whose voxels are those of any other file."""
    header = f"NRRD0004\ntype: uint8\ndimension: 3\nsizes: 2 2 2\nencoding: raw\ndata file: {path}\n\n"
    return header.encode()


def test_images_are_never_replaced_or_removed_and_hold_a_volume(server, phantoms, unchanged):
    case, (image, _) = next(iter(phantoms.items()))
    other = phantoms["phantom_turned"][0].read_bytes()
    for end in (".nii.gz", ".nii", ".nrrd", ".py", ".json", ".html"):
        for content in (other, b"gone", detached("/etc/hostname")):
            for name in (case, f"new_of_{content[:4].hex()}"):
                if content == other and end == ".nii.gz" and name != case:
                    continue  # which is legal
                answer = upload(server, name, f"a{end}", content)
                assert answer.status_code == 400, (end, content[:9], name, answer.text)
    assert upload(server, case, image.name, image.read_bytes()).status_code == 200  # again, as it is
    for path in ("image", ""):
        assert requests.delete(f"{server.address}/datastore/{path}?id={case}", timeout=60).status_code in (404, 405)


def upload(server, name, file, content):
    return requests.put(f"{server.address}/datastore/image?image={name}", files={"file": (file, content)}, timeout=60)


def test_what_is_no_label_map_of_the_image_is_refused(server, phantoms, unchanged, tmp_path):
    case, (image, label) = next(iter(phantoms.items()))
    volume = nib.load(label)
    array = np.asarray(volume.dataobj)
    bad = {
        "no volume": b"not a nifti",
        "half of one": label.read_bytes()[: label.stat().st_size // 2],
        "the image": image.read_bytes(),
        "too large": nib.Nifti1Image(np.zeros((300, 300, 300), np.uint8), volume.affine).to_bytes(),
        "another shape": nib.Nifti1Image(array[1:], volume.affine).to_bytes(),
        "another place": nib.Nifti1Image(array, np.diag([2.0, 2, 2, 1])).to_bytes(),
        "negative": nib.Nifti1Image(-array.astype(np.int16), volume.affine).to_bytes(),
    }
    for kind, content in bad.items():
        path = tmp_path / ("label.nii.gz" if content[:2] in (b"\x1f\x8b", b"no") else "label.nii")
        path.write_bytes(content)
        answer = server.submit(case, path)
        assert answer.status_code == 400, (kind, answer.text)
    (tmp_path / "label.nrrd").write_bytes(detached(label))
    assert server.submit(case, tmp_path / "label.nrrd").status_code == 400
    label_as_script = tmp_path / "label.sh"
    label_as_script.write_bytes(label.read_bytes())
    assert server.submit(case, label_as_script).status_code == 400


def test_a_label_that_is_replaced_or_removed_is_kept(server, phantoms, labelled, tmp_path):
    case, (_, label) = list(phantoms.items())[1]
    labelled(case)
    empty = nib.Nifti1Image(np.zeros(nib.load(label).shape, np.uint8), nib.load(label).affine)
    nib.save(empty, tmp_path / "empty.nii.gz")
    assert server.submit(case, tmp_path / "empty.nii.gz").status_code == 200
    kept = server.studies / "labels_replaced" / "final"
    assert label.read_bytes() in [path.read_bytes() for path in kept.glob(f"*_{case}.nii.gz")]
    server.withdraw(case)
    assert (tmp_path / "empty.nii.gz").read_bytes() in [path.read_bytes() for path in kept.glob(f"*_{case}.nii.gz")]


def archive(name, link=None):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = (tarfile.SYMTYPE, link) if link else (tarfile.REGTYPE, "")
        tar.addfile(member)
    return content.getvalue()


def test_sessions_hold_files_and_no_archives(server, phantoms, unchanged):
    for content in (archive("../../../outside"), archive("l.nii.gz", "/etc/hostname")):
        path = f"{server.address}/session/?uncompress=true"
        answer = requests.put(path, files={"files": ("a.tar", content)}, timeout=60)
        assert answer.status_code == 400, answer.text
        assert "Archives are not unpacked" in answer.json()["detail"]
    for session in ("..", ".", "%2e%2e", "none"):
        for method in ("GET", "DELETE"):
            url = requests.Request(method, server.address).prepare()
            url.url = f"{server.address}/session/{session}"
            assert requests.Session().send(url, timeout=60).status_code in (400, 404)


def test_weights_other_servers_and_reload_are_not_offered(server, unchanged):
    weights = {"file": ("model.pt", b"other weights")}
    assert requests.put(f"{server.address}/model/{PHANTOM}", files=weights, timeout=60).status_code == 404
    for method, path in (
        ("DELETE", f"/model/{PHANTOM}"),
        ("GET", f"/model/{PHANTOM}"),
        ("POST", "/reload"),
        ("GET", "/proxy/dicom/x"),
        ("POST", f"/batch/infer/{PHANTOM}"),
        ("POST", f"/infer/wsi/{PHANTOM}?image=x"),
        ("POST", "/train/"),
    ):
        answer = requests.request(method, server.address + path, timeout=60)
        assert answer.status_code in (404, 405), (method, path, answer.status_code)


def test_a_team_needs_the_token(team_server):
    assert team_server.token in team_server.said
    for headers in ({}, {"Authorization": "Bearer no"}, {"Authorization": f"Basic {team_server.token}"}):
        for method, path in (
            ("GET", "/info/"),
            ("POST", f"/train/{PHANTOM}"),
            ("GET", "/logs/"),
            ("GET", "/openapi.json"),
        ):
            answer = requests.request(method, team_server.address + path, headers=headers, timeout=60)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    answer = requests.post(f"{team_server.address}/auth/token", {"username": "a", "password": "é"}, timeout=60)
    assert answer.status_code == 401
    bearer = {"Authorization": f"Bearer {team_server.token}"}
    assert team_server.get("/info/", **bearer).status_code == 200
    assert team_server.get("/info/", **bearer, Host="label.example.org").status_code == 200
    assert team_server.get("/info/", **bearer, Host="evil.example").status_code == 403
    assert team_server.get("/info/", **bearer, Origin=EVIL).status_code == 403
    assert (team_server.app.parent / "token").stat().st_mode & 0o077 == 0


def test_uploads_end_at_the_limit_with_and_without_their_length(team_server):
    bearer = {"Authorization": f"Bearer {team_server.token}"}
    before = files(team_server.app.parent)
    boundary = {"content-type": "multipart/form-data; boundary=b"}
    start = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.nii"\r\n\r\n'
    parts = [start, *[bytes(1 << 16)] * 20]  # 1.25 MB
    for body in (b"".join(parts), iter(parts)):
        answer = requests.put(
            f"{team_server.address}/datastore/image?image=big", body, headers={**bearer, **boundary}, timeout=60
        )
        assert answer.status_code == 413
        assert "legal are 1 MB" in answer.json()["detail"]
    assert files(team_server.app.parent) == before
