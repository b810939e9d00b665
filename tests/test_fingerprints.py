"""Laws of fingerprints: the same where the computation is, another where anything that decides is another."""

import functools
import json
import os
import pickle
import re
import shutil
import threading
from enum import Enum
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import CacheDataset
from monai.inferers import SlidingWindowInferer
from monai.transforms import Compose, RandFlipd, Spacingd
from monai.transforms.io.array import SUPPORTED_READERS

from equivariant_nets import ConventionalUNet, ScaleUNet, SteerableUNet
from equivariant_nets.data import LoadVolumed
from equivariant_nets.fingerprints import checksum, content_of, differences, digest, fingerprint


class Colour(Enum):
    RED = 1
    BLUE = 2


class Point(NamedTuple):
    x: float
    y: float


class Slots:
    __slots__ = ("value",)

    def __init__(self, value):
        self.value = value


class Options:
    def __init__(self, value):
        self._value = value


class MoreOptions(Options):
    pass


def scaler(factor, offset=0):
    return lambda x, power=1: factor * x**power + offset


PAIRS = {
    "number": (1, 2),
    "fraction": (0.1, 0.1 + 1e-16 * 2),
    "truth": (True, 1),
    "nothing": (None, 0),
    "text": ("a", "b"),
    "number or text": (1, "1"),
    "list": ([1, 2], [2, 1]),
    "empty": ([], {}),
    "length": ([0.0] * 40, [0.0] * 41),
    "nested": ({"a": [{"b": 1}]}, {"a": [{"b": 2}]}),
    "key": ({"a": 1}, {"b": 1}),
    "type": (torch.float32, torch.float16),
    "class": (int, float),
    "enumeration": (Colour.RED, Colour.BLUE),
    "named tuple": (Point(1, 2), Point(1, 3)),
    "slots": (Slots(1), Slots(2)),
    "private": (Options(1), Options(2)),
    "subclass": (Options(1), MoreOptions(1)),
    "pattern": (re.compile("a"), re.compile("b")),
    "bytes": (b"a", b"b"),
    "set": ({1, 2}, {1, 3}),
    "small array": (np.arange(3), np.arange(1, 4)),
    "large array": (np.arange(300), np.arange(1, 301)),
    "shape": (np.zeros((10, 20)), np.zeros((20, 10))),
    "tensor": (torch.zeros(3, 20), torch.ones(3, 20)),
    "function": (np.mean, np.median),
    "closure": (scaler(1), scaler(2)),
    "code": (lambda x: x + 1, lambda x: x + 2),
    "default": (lambda x, y=1: x, lambda x, y=2: x),
    "partial": (functools.partial(np.mean, axis=0), functools.partial(np.mean, axis=1)),
    "method": (Options(1).__init__, Options(2).__init__),
    "inferer": (SlidingWindowInferer(8, overlap=0.5), SlidingWindowInferer(8, overlap=0.25)),
    "transform": (Compose([Spacingd("image", 1.0)]), Compose([Spacingd("image", 2.0)])),
    "order": (Compose([RandFlipd("a"), RandFlipd("b")]), Compose([RandFlipd("b"), RandFlipd("a")])),
    "loss": (torch.nn.CrossEntropyLoss(torch.tensor([1.0, 2.0])), torch.nn.CrossEntropyLoss(torch.tensor([1.0, 3.0]))),
    "depth": (SteerableUNet(features="2x0e+1x1e", depth=1), SteerableUNet(features="2x0e+1x1e", depth=2)),
    "residual": (ConventionalUNet(features=2, depth=1), ConventionalUNet(features=2, depth=1, residual=True)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_what_differs_has_another_fingerprint_and_what_is_made_again_has_not(name):
    first, second = PAIRS[name]
    assert differences(fingerprint(item=first), fingerprint(item=second)) != ""
    for item in (first, second):
        before = fingerprint(item=item)
        assert differences(before, fingerprint(item=item)) == ""
        assert json.loads(json.dumps(before)) == before  # as it is kept
    assert digest(fingerprint(item=first)) != digest(fingerprint(item=second))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (1, 1.0), ((1, 2), [1.0, 2.0]), (np.float32(0.5), 0.5), (float("nan"), np.nan),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}), ({"output_dir": "a"}, {"output_dir": "b"}),
        (torch.device("cpu"), torch.device("cuda")), (np.random.RandomState(0), np.random.RandomState(1)),
        ({"num_workers": 0, "device": "cpu"}, {"num_workers": 4, "device": "cuda"}),
        ("/nowhere/a", "/nowhere/b"), (Path("/nowhere"), Path("here")), (threading.Lock(), threading.Lock()),
        (torch.Generator(), torch.Generator().manual_seed(5)),
    ],
)  # fmt: skip
def test_what_does_not_decide_does_not_count(first, second):
    assert differences(fingerprint(item=first), fingerprint(item=second)) == ""


@pytest.mark.parametrize("make", [SteerableUNet, ConventionalUNet, ScaleUNet])
def test_a_network_counts_by_its_structure_and_its_weights_by_their_checksum(make):
    torch.manual_seed(0)
    first, second = (make(depth=1) for _ in range(2))
    assert differences(fingerprint(net=first), fingerprint(net=second)) == ""
    assert checksum(first) != checksum(second)
    second.load_state_dict(first.state_dict())
    assert checksum(first) == checksum(second) == checksum(pickle.loads(pickle.dumps(first)))
    before = fingerprint(net=first)
    with torch.no_grad():
        first.eval()(torch.rand(1, first.in_channels, 9, 10, 11))
    assert differences(before, fingerprint(net=first.train())) == ""


def test_a_file_counts_by_its_content_wherever_and_whenever_it_was_written(tmp_path):
    paths = [tmp_path / name for name in ("a.nii.gz", "b/c.nii.gz", "d.nii.gz")]
    paths[1].parent.mkdir()
    nib.save(nib.Nifti1Image(np.arange(60.0).reshape(3, 4, 5), np.eye(4)), paths[0])
    shutil.copy(paths[0], paths[1])
    nib.save(nib.Nifti1Image(np.arange(1.0, 61.0).reshape(3, 4, 5), np.eye(4)), paths[2])
    shutil.copystat(paths[0], paths[2])
    os.utime(paths[1], (0, 0))
    items = [fingerprint(data=[{"image": str(path)}]) for path in paths]
    assert items[0] == items[1] == {"data[0].image": content_of(paths[0])}
    assert items[0] != items[2]
    with pytest.raises(OSError, match="absent"):
        content_of(tmp_path / "absent")


def test_what_a_data_set_has_cached_and_a_transform_has_drawn_does_not_count():
    def make():
        return CacheDataset([{"a": torch.zeros(1, 2, 2)}], Compose([RandFlipd("a", prob=0.5)]), progress=False)

    used = make()
    before = fingerprint(data=used)
    assert differences(before, fingerprint(data=make())) == ""
    used.transform.set_random_state(3)
    assert differences(before, fingerprint(data=used)) == ""


def test_what_differs_is_told_in_words_and_shortly():
    first, second = (Compose([Spacingd("image", (n, 1.0, 1.0))]) for n in (1.0, 2.0))
    told = differences(fingerprint(preprocessing=first), fingerprint(preprocessing=second))
    assert told == "preprocessing[0].spacing_transform.pixdim: [1, 1, 1] before, [2, 1, 1] now"
    other = differences(fingerprint(loss=torch.nn.L1Loss()), fingerprint(loss=torch.nn.CrossEntropyLoss()))
    assert other == "loss: torch.nn.modules.loss.L1Loss before, torch.nn.modules.loss.CrossEntropyLoss now"
    assert differences({}, {"seed": 1}) == "seed: absent before, 1 now"
    assert differences({}, dict.fromkeys("abcdefg", 0)).endswith("; and 2 more")


def test_an_object_that_is_met_twice_is_told_once():
    shared = Options([1])
    shared.self = shared
    told = fingerprint(first=shared, second=[shared])
    assert told["first.self"] == told["second[0]"] == "the same as first"


def test_a_reader_that_is_installed_later_decides_nothing(monkeypatch, tmp_path):
    file = tmp_path / "a.nii.gz"
    nib.save(nib.Nifti1Image(np.arange(8, dtype=np.float32).reshape(2, 2, 2), np.eye(4)), file)
    transform = LoadVolumed(keys="image")
    before = fingerprint(transform=transform)
    sent = pickle.loads(pickle.dumps(transform))  # as to a worker that loads
    monkeypatch.delitem(SUPPORTED_READERS, "nrrdreader")
    monkeypatch.delitem(SUPPORTED_READERS, "itkreader")
    assert fingerprint(transform=LoadVolumed(keys="image")) == before
    assert fingerprint(transform=LoadVolumed(keys="image", reader="PILReader")) != before
    assert torch.equal(sent({"image": str(file)})["image"], transform({"image": str(file)})["image"])
