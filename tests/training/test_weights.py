"""Laws of the weights that evaluation and inference use: those that were meant, or an error, and said in the log."""

import io
import logging
import os
import pickle

import pytest
import torch
from ignite.engine import Engine

from equivariant_nets import SteerableUNet
from equivariant_nets.errors import find_cause
from equivariant_nets.training.weights import InitialWeights, WeightsPath, load_weights, weights_name


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """In the current folder a bundle with weights; a training; one without a validation; one whose state is gone; two
    that began anew in the folder of an earlier one: before their first epoch, and their first validation."""
    monkeypatch.chdir(tmp_path)
    states = {
        "trained/training_state.pt": {"handlers": [{"_saved": [(0.5, "model.pt")]}, {"counter": 0}]},
        "begun/training_state.pt": {"handlers": [{"_saved": []}, {"counter": 0}]},
        "anew/training_state_previous.pt": {"handlers": [{"_saved": [(0.5, "model.pt")]}]},
        "again/training_state.pt": {"handlers": [{"_saved": []}]},
        "again/training_state_previous.pt": {"handlers": [{"_saved": [(0.5, "model.pt")]}]},
    }
    models = [f"{folder}/model.pt" for folder in ("bundle/models", "trained", "kept", "torn", "anew", "again")]
    for file, content in {**states, **{model: torch.nn.Linear(2, 1).state_dict() for model in models}}.items():
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(content, path)
    (tmp_path / "torn" / "training_state.pt").write_bytes(b"torn")
    return tmp_path


@pytest.mark.parametrize(
    ("output_dir", "ckpt_dir", "found"),
    [
        ("trained", None, "trained/model.pt"),
        ("kept", None, "kept/model.pt"),
        ("torn", None, "torn/model.pt"),
        ("new", None, "bundle/models/model.pt"),
        ("new", "trained", "trained/model.pt"),
        ("trained", "kept", "kept/model.pt"),
        ("trained", "bundle/models", "bundle/models/model.pt"),
    ],
)
def test_weights_are_those_given_then_those_trained_then_those_shipped(folders, output_dir, ckpt_dir, found):
    assert os.fspath(WeightsPath("bundle", output_dir, ckpt_dir)) == found


@pytest.mark.parametrize(
    ("bundle", "output_dir", "ckpt_dir", "problem"),
    [
        ("bundle", "trained", "new", "ckpt_dir new holds no model.pt. Give the folder of a training, or --ckpt_path"),
        ("bundle", "new", "new", "ckpt_dir new holds no model.pt"),
        ("bundle", "begun", None, "training in begun has not reached its first validation, .* --resume True, or"),
        ("bundle", "trained", "begun", "training in begun has not reached its first validation"),
        ("bundle", "anew", None, "training in anew has not reached its first validation"),
        ("bundle", "new", "again", "training in again has not reached its first validation"),
        ("bare", "new", None, "new holds no training, and the bundle has no bare/models/model.pt. Train it"),
    ],
)
def test_other_weights_never_stand_in_for_those_that_are_missing(folders, bundle, output_dir, ckpt_dir, problem):
    path = WeightsPath(bundle, output_dir, ckpt_dir)  # a workflow can be built without weights
    with pytest.raises(FileNotFoundError, match=problem):
        os.fspath(path)


def test_what_was_found_stays_whatever_is_written_later(folders):
    path = WeightsPath("bundle", "new")
    before = os.fspath(path)
    (folders / "new").mkdir()
    (folders / "trained" / "model.pt").rename(folders / "new" / "model.pt")
    assert os.fspath(path) == before


def test_tables_tell_weights_of_one_path_apart(folders):
    before = weights_name("kept/model.pt")
    assert before.startswith("kept/model.pt sha256:")
    torch.save(torch.nn.Linear(2, 1).state_dict(), "kept/model.pt")
    assert weights_name("kept/model.pt") != before
    assert weights_name(None) == "in memory"


class Code:
    """Runs code where it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("marker",)


WHOLE = {"weight": torch.rand(1, 2), "bias": torch.rand(1)}


def cut(size):
    """A file of weights with what lies in its middle, its end or nearly all of it missing."""
    buffer = io.BytesIO()
    torch.save(WHOLE, buffer)
    return buffer.getvalue()[:size]


def flipped():
    data = bytearray(cut(None))
    data[data.index(WHOLE["weight"].numpy().tobytes())] ^= 255
    return bytes(data)


DAMAGED = "is damaged, or no file of weights. Give --ckpt_path"
NOT_FINITE = r"holds values that are not finite, in .*bias: the training that wrote it diverged. Train again"
OTHER = "holds the weights of another network. Give the options that it was trained with"
BAD_WEIGHTS = {
    "text": (b"no weights", DAMAGED),
    "empty": (b"", DAMAGED),
    "zeros": (bytes(4096), DAMAGED),
    "one byte": (cut(1), DAMAGED),
    "its start": (cut(100), DAMAGED),
    "half": (cut(700), DAMAGED),
    "without its end": (cut(-1), DAMAGED),
    "a bit": (flipped(), DAMAGED),
    "pickle": (pickle.dumps(WHOLE, protocol=2), DAMAGED),
    "pickle that runs code": (pickle.dumps(Code(), protocol=2), DAMAGED),
    "code": (Code(), DAMAGED),
    "network": (torch.nn.Linear(2, 1), DAMAGED),
    "state of a training": ({"fingerprint": {}, "network": {}}, "holds the state of a training, and no weights alone"),
    "list": ([1, 2], "holds a list, and no weights alone"),
    "tensor": (torch.zeros(2), "holds a Tensor, and no weights alone"),
    "NaN": ({**WHOLE, "bias": torch.tensor([torch.nan])}, NOT_FINITE),
    "infinity": ({"model": {**WHOLE, "bias": torch.tensor([-torch.inf])}}, NOT_FINITE),
    "other shape": ({**WHOLE, "bias": torch.zeros(2)}, OTHER),
    "other names": ({"kernel": torch.zeros(2)}, OTHER),
    "no tensors": ({"weight": 1, "bias": "x"}, OTHER),
    "a list for a state": ({"model": [1, 2]}, OTHER),
    "nothing": ({}, OTHER),
}


@pytest.mark.faults
@pytest.mark.parametrize(("content", "problem"), BAD_WEIGHTS.values(), ids=BAD_WEIGHTS)
def test_a_file_that_holds_something_else_is_named_and_nothing_advises_to_trust_it(
    tmp_path, content, problem, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "other.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises((ValueError, RuntimeError), match=problem) as caught:
        load_weights(torch.nn.Linear(2, 1), path, tmp_path)
    words = find_cause(caught.value)
    assert words.is_told  # so that it ends with this, and without a traceback
    assert words.text.startswith(str(path))
    assert "weights_only" not in words.text
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize(
    ("path", "origin"),
    [
        (WeightsPath("bundle", "new"), "bundle/models/model.pt (the bundle's own)"),
        ("../bundle/models/model.pt", "../bundle/models/model.pt (the bundle's own)"),
        (WeightsPath("bundle", "trained"), "trained/model.pt (trained in trained)"),
        ("kept/model.pt", "kept/model.pt (not the bundle's own)"),
    ],
    ids=["shipped", "shipped, from elsewhere", "trained", "other"],
)
def test_one_line_of_the_log_says_which_weights_are_used(folders, path, origin, caplog, monkeypatch):
    if str(path).startswith(".."):
        (folders / "elsewhere").mkdir()
        monkeypatch.chdir(folders / "elsewhere")
    root = "../bundle" if str(path).startswith("..") else "bundle"
    network = torch.nn.Linear(2, 1)
    with caplog.at_level(logging.INFO):
        assert load_weights(network, path, root) == os.fspath(path)
    assert caplog.messages == [f"Weights: {origin}"]
    saved = torch.load(path, weights_only=True)
    assert all(torch.equal(value, saved[key]) for key, value in network.state_dict().items())


def test_a_file_that_is_missing_or_of_another_network_is_an_error(folders):
    with pytest.raises(FileNotFoundError, match=r"weights none\.pt do not exist. Give --ckpt_path"):
        load_weights(torch.nn.Linear(2, 1), "none.pt", "bundle")
    with pytest.raises(RuntimeError, match="size mismatch"):
        load_weights(torch.nn.Linear(3, 1), "kept/model.pt", "bundle")


def test_weights_under_the_key_model_load_too(folders):
    network = torch.nn.Linear(2, 1)
    torch.save({"model": {key: torch.ones_like(value) for key, value in network.state_dict().items()}}, "keyed.pt")
    load_weights(network, "keyed.pt", "bundle")
    assert all((value == 1).all() for value in network.state_dict().values())


def started(network, path):
    """An engine that started with the initial weights of a file."""
    engine = Engine(lambda engine, batch: None)
    InitialWeights(path, network, "bundle", path.parent / "output").attach(engine)
    engine.run([0])
    return engine


def test_a_network_starts_with_the_outputs_of_one_that_sees_fewer_channels(tmp_path):
    torch.manual_seed(0)
    options = {"irreps_out": "3x0e", "features": "2x0e+1x1e", "depth": 1}
    narrow, wide = (SteerableUNet(irreps_in=irreps, **options).eval() for irreps in ("1x0e", "4x0e"))
    torch.save(narrow.state_dict(), tmp_path / "narrow.pt")
    started(wide, tmp_path / "narrow.pt")
    image = torch.rand(1, 4, 10, 9, 8)
    torch.testing.assert_close(wide(image), narrow(image[:, :1]), rtol=1e-5, atol=1e-6)
    started(narrow, tmp_path / "narrow.pt")
    with pytest.raises(RuntimeError, match=r"holds the weights of another network\. .* by --initial_weights"):
        started(SteerableUNet(irreps_in="4x0e", **{**options, "features": "4x0e"}), tmp_path / "narrow.pt")


def test_initial_weights_are_read_once_and_never_by_a_training_that_writes_over_them(tmp_path):
    network = torch.nn.Linear(2, 1)
    torch.save(network.state_dict(), tmp_path / "model.pt")
    engine = started(network, tmp_path / "model.pt")
    torch.nn.init.ones_(network.weight)
    engine.run([0])  # as in the next round of a federated training
    assert (network.weight == 1).all()
    own = InitialWeights(tmp_path / "model.pt", network, "bundle", tmp_path)
    with pytest.raises(
        ValueError, match=r"model\.pt is the file that this training writes its own weights to.* a copy"
    ):
        own(engine)


@pytest.mark.parametrize(
    "other", [{"features": "4x0e"}, {"kernel_size": 3}, {"irreps_in": "2x0e", "features": "2x0e"}, {"depth": 2}]
)
def test_weights_of_networks_that_differ_in_more_than_their_input_are_refused(tmp_path, other):
    options = {"irreps_out": "3x0e", "features": "2x0e+1x1e", "depth": 1}
    torch.save(SteerableUNet(**{**options, **other}).state_dict(), tmp_path / "other.pt")
    with pytest.raises(RuntimeError, match=r"holds the weights of another network"):
        started(SteerableUNet(irreps_in="4x0e", **options), tmp_path / "other.pt")


@pytest.mark.parametrize("content", [{"weight": 1, "bias": "x"}, {"model": [1, 2]}, {"fingerprint": {}}, [1]])
def test_initial_weights_that_are_none_are_named_with_their_option(tmp_path, content):
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises((ValueError, RuntimeError), match=r"other\.pt holds .* --initial_weights"):
        started(SteerableUNet(irreps_out="2x0e", features="2x0e+1x1e", depth=1), tmp_path / "other.pt")
    with pytest.raises(FileNotFoundError, match=r"none\.pt do not exist. Give --initial_weights with a file"):
        started(torch.nn.Linear(2, 1), tmp_path / "none.pt")
    (tmp_path / "folder").mkdir()
    with pytest.raises(FileNotFoundError, match=r"folder are a folder\. Give --initial_weights with a file in it"):
        started(torch.nn.Linear(2, 1), tmp_path / "folder")
