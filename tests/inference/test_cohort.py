"""Laws of segmenting many images: each once, past those that fail, and as if the run had never been stopped."""

import csv
import logging
import os
import re
import shutil
from pathlib import Path
from threading import Condition
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch
from fresh import run_module
from monai.data import Dataset, MetaTensor
from monai.inferers import SlidingWindowInferer
from monai.transforms import AsDiscreted, Compose, Spacingd

import equivariant_nets.inference.cohort as cohort
from equivariant_nets.data import CheckVolumed, LoadVolumed, image_datalist
from equivariant_nets.inference.agreement import TurnedAgreement
from equivariant_nets.inference.cohort import CohortError, CohortEvaluator, SaveSegmentationd
from equivariant_nets.inference.previews import PreviewSaver
from equivariant_nets.pictures import volume_with_labels


class Threshold(torch.nn.Module):
    """A network of one weight. Its memory does not suffice for volumes with a side of 9."""

    def __init__(self, threshold):
        super().__init__()
        self.threshold = torch.nn.Parameter(torch.tensor(threshold))

    def forward(self, x):
        if 9 in x.shape:
            raise torch.OutOfMemoryError("out of memory")
        return (x > self.threshold).float()


def write_images(folder, *names, size=(6, 7, 8)):
    for seed, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        array = np.random.RandomState(seed).rand(*size).astype(np.float32)
        nib.save(nib.Nifti1Image(array, np.eye(4)), folder / name)
    return folder


def evaluator(
    dataset_dir, output_dir, pattern="**/*.nii.gz", threshold=0.5, level=0.5, pixdim=1.0, previews=False, **options
):
    preprocessing = Compose([LoadVolumed("image"), CheckVolumed("image"), Spacingd("image", pixdim)])
    save = SaveSegmentationd("pred", output_dir, dataset_dir, output_postfix="seg", print_log=False)
    return CohortEvaluator(
        device=torch.device("cpu"), dataset=Dataset(image_datalist(dataset_dir, pattern), preprocessing),
        network=Threshold(threshold), postprocessing=Compose([AsDiscreted("pred", threshold=level), save]),
        val_handlers=[PreviewSaver(output_dir, dataset_dir=dataset_dir)] if previews else [], output_dir=output_dir,
        **options,
    )  # fmt: skip


def segment(dataset_dir, output_dir, **options):
    """Segment what is not finished; get the status of every image by its path in the folder."""
    evaluator(dataset_dir, output_dir, **options).run()
    return statuses(dataset_dir, output_dir)


def table(output_dir):
    with (output_dir / "cases.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def statuses(dataset_dir, output_dir):
    return {os.path.relpath(row["image"], dataset_dir): row["status"] for row in table(output_dir)}


def files(folder, pattern="*.nii.gz"):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob(pattern))


def test_results_lie_as_their_images_do(tmp_path):
    names = ["a/t1.nii.gz", "b/c/t1.nii.gz", "t1.nii.gz"]
    write_images(tmp_path / "in", *names)
    assert segment(tmp_path / "in", tmp_path / "out", previews=True) == dict.fromkeys(names, "segmented")
    assert files(tmp_path / "out") == [name.replace("t1", "t1_seg") for name in names]
    assert files(tmp_path / "out", "*.png") == [name.replace("t1.nii.gz", "t1_preview.png") for name in names]
    for name in names:
        image = nib.load(tmp_path / "in" / name).get_fdata()
        found = nib.load(tmp_path / "out" / name.replace("t1", "t1_seg")).get_fdata()
        assert np.array_equal(found, image > 0.5)


def test_a_pattern_finds_images_in_folders_and_nothing_hidden(tmp_path):
    write_images(tmp_path, "a.nii.gz", "b/c/a.nii.gz", "b/.a.nii.gz", ".b/a.nii.gz")
    (tmp_path / "folder.nii.gz").mkdir()
    found = {
        pattern: [os.path.relpath(item["image"], tmp_path) for item in image_datalist(tmp_path, pattern)]
        for pattern in ("*.nii.gz", "b/*/*.nii.gz", "**/*.nii.gz")
    }
    assert list(found.values()) == [["a.nii.gz"], ["b/c/a.nii.gz"], ["a.nii.gz", "b/c/a.nii.gz"]]
    with pytest.raises(FileNotFoundError, match=r"matches '\*\*/\*\.jpg' .*another --pattern"):
        image_datalist(tmp_path, "**/*.jpg")


def test_a_case_that_fails_stops_no_other_and_is_told(tmp_path):
    folder = write_images(tmp_path / "in", *(f"{name}.nii.gz" for name in "abcde"))
    write_images(folder, "big.nii.gz", size=(9, 8, 7))
    write_images(folder, "channels.nii.gz", size=(6, 7, 8, 2))
    (folder / "b.nii.gz").write_bytes((folder / "b.nii.gz").read_bytes()[:100])
    nib.save(nib.Nifti1Image(np.full((6, 7, 8), np.nan), np.eye(4)), folder / "d.nii.gz")
    with pytest.raises(CohortError, match=r"4 of 7 cases failed(.|\n)*b\.nii\.gz.*truncated") as caught:
        segment(folder, tmp_path / "out")
    reasons = {"b": "truncated", "big": "OutOfMemoryError", "channels": "channels is 2; legal is 1", "d": "are NaN"}
    rows = {row["image"].removeprefix(f"{folder}/").removesuffix(".nii.gz"): row for row in table(tmp_path / "out")}
    assert sorted(rows) == ["a", "b", "big", "c", "channels", "d", "e"]
    for name, row in rows.items():
        assert row["status"] == ("failed" if name in reasons else "segmented")
        assert reasons.get(name, "") in row["problem"]
        assert row["problem"] in str(caught.value)
        assert bool(row["segmentation"]) == (name not in reasons)
    assert files(tmp_path / "out") == ["a_seg.nii.gz", "c_seg.nii.gz", "e_seg.nii.gz"]

    write_images(folder, "b.nii.gz", "big.nii.gz", "channels.nii.gz", "d.nii.gz")
    again = segment(folder, tmp_path / "out")
    assert again == {f"{name}.nii.gz": "segmented" if name in reasons else "finished before" for name in rows}


@pytest.mark.parametrize("output", ["in", "in/out"])
def test_a_run_never_segments_what_an_earlier_one_wrote(tmp_path, output):
    names = ["a.nii.gz", "b/a.nii.gz"]
    folder, output = write_images(tmp_path / "in", *names), tmp_path / output
    for expected in ("segmented", "finished before"):
        assert segment(folder, output, pattern="**/*.*", previews=True) == dict.fromkeys(names, expected)
    assert len(files(output, "*_seg.nii.gz")) == 2


def test_what_decides_the_result_decides_what_is_finished(tmp_path):
    folder, output = write_images(tmp_path / "in", "a.nii.gz", "b.nii.gz"), tmp_path / "out"

    def redone(**options):
        return [name[0] for name, status in segment(folder, output, **options).items() if status == "segmented"]

    assert redone() == ["a", "b"]
    assert redone() == []
    assert redone(threshold=0.6) == ["a", "b"]
    assert np.array_equal(
        nib.load(output / "a_seg.nii.gz").get_fdata(), nib.load(folder / "a.nii.gz").get_fdata() > 0.6
    )
    assert redone(threshold=0.6, level=0.4) == ["a", "b"]
    assert redone(threshold=0.6, level=0.4) == []
    assert redone() == ["a", "b"]
    assert redone(overwrite="true") == ["a", "b"]
    (output / "b_seg.nii.gz").unlink()
    assert redone() == ["b"]
    write_images(folder, "a.nii.gz", size=(6, 7, 5))
    assert redone() == ["a"]
    assert redone(previews=True) == ["a", "b"]
    assert redone(previews=True) == []


def test_an_image_counts_by_its_content_and_neither_by_its_time_nor_by_its_place(tmp_path):
    folder, output = write_images(tmp_path / "in", "a.nii.gz", "b.nii.gz"), tmp_path / "out"
    segment(folder, output)
    other = write_images(tmp_path / "other", "c.nii.gz", "a.nii.gz") / "a.nii.gz"
    os.utime(other, (0, 0))
    shutil.copy2(other, folder / "a.nii.gz")  # another patient, under a time stamp long ago
    os.utime(folder / "b.nii.gz")  # the same patient, copied today
    assert segment(folder, output) == {"a.nii.gz": "segmented", "b.nii.gz": "finished before"}
    found = nib.load(output / "a_seg.nii.gz").get_fdata()
    assert np.array_equal(found, nib.load(other).get_fdata() > 0.5)
    folder.rename(tmp_path / "moved")
    output.rename(tmp_path / "moved_out")
    again = segment(tmp_path / "moved", tmp_path / "moved_out")
    assert again == dict.fromkeys(["a.nii.gz", "b.nii.gz"], "finished before")


def test_a_correction_by_hand_stays(tmp_path):
    folder, output = write_images(tmp_path / "in", "a.nii.gz"), tmp_path / "out"
    segment(folder, output)
    corrected = nib.Nifti1Image(np.ones((6, 7, 8), np.uint8), np.eye(4))
    nib.save(corrected, output / "a_seg.nii.gz")
    before = (output / "a_seg.nii.gz").read_bytes()
    assert segment(folder, output) == {"a.nii.gz": "finished before"}
    assert (output / "a_seg.nii.gz").read_bytes() == before
    for level in (0.6, 0.7):  # other settings: the correction is kept, and later results of the network are not
        assert segment(folder, output, level=level) == {"a.nii.gz": "segmented"}
        assert (output / ".previous" / "a_seg.nii.gz").read_bytes() == before
        assert not nib.load(output / "a_seg.nii.gz").get_fdata().all()


def test_a_case_that_fails_now_loses_no_result_and_shows_none_of_before(tmp_path):
    folder, output = write_images(tmp_path / "in", "a.nii.gz", "b.nii.gz"), tmp_path / "out"
    segment(folder, output)
    before = {name: (output / f"{name}_seg.nii.gz").read_bytes() for name in "ab"}
    with pytest.raises(CohortError, match=r"^2 of 2 cases failed\. See"):
        segment(folder, output, inferer=SlidingWindowInferer((4, 4)))  # a mistyped option
    assert files(output) == [f".previous/{name}_seg.nii.gz" for name in "ab"]
    assert {name: (output / ".previous" / f"{name}_seg.nii.gz").read_bytes() for name in "ab"} == before
    assert segment(folder, output) == {"a.nii.gz": "segmented", "b.nii.gz": "segmented"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"threshold": 0.6}, r"weights: sha256:\w{8} before, sha256:\w{8} now"),
        ({"level": 0.6}, r"postprocessing\[0\]\.threshold\S*: \[?0\.5\]? before, \[?0\.6\]? now"),
        ({"inferer": SlidingWindowInferer(4)}, r"inferer: \S*SimpleInferer before, \S*SlidingWindowInferer now"),
        ({"pixdim": 2.0}, r"preprocessing\[2\]\.\S*pixdim: \[1\] before, \[2\] now"),
    ],
)  # fmt: skip
def test_the_log_says_what_differs(tmp_path, caplog, changes, words):
    folder, output = write_images(tmp_path / "in", "a.nii.gz"), tmp_path / "out"
    segment(folder, output)
    with caplog.at_level(logging.WARNING):
        assert segment(folder, output, **changes) == {"a.nii.gz": "segmented"}
    assert re.search(rf"are segmented anew\. What differs: (.*; )?{words}", caplog.text)


class Killed(BaseException):
    pass


def test_a_run_that_is_stopped_within_a_file_leaves_no_half_of_it(tmp_path, monkeypatch):
    folder, output = write_images(tmp_path / "in", *(f"{name}.nii.gz" for name in "abc")), tmp_path / "out"
    write = nib.save

    def write_a_half(image, path):
        write(image, path)
        if "b_seg" in str(path):
            with open(path, "r+b") as file:
                file.truncate(50)
            raise Killed

    monkeypatch.setattr(nib, "save", write_a_half)
    with pytest.raises(Killed):
        segment(folder, output, overwrite=True)
    monkeypatch.undo()
    assert [name for name in files(output) if not name.startswith(".")] == ["a_seg.nii.gz"]
    status = segment(folder, output)
    assert status == {"a.nii.gz": "finished before", "b.nii.gz": "segmented", "c.nii.gz": "segmented"}
    assert files(output) == [f"{name}_seg.nii.gz" for name in "abc"]


def test_one_image_is_loaded_ahead_while_another_is_segmented(tmp_path, monkeypatch):
    folder, events, loaded = write_images(tmp_path / "in", *(f"{name}.nii.gz" for name in "abcd")), [], Condition()
    load, save, forward = LoadVolumed.__call__, SaveSegmentationd.__call__, Threshold.forward

    def loading(*args):
        with loaded:
            events.append("load")
            loaded.notify()
        return load(*args)

    def segmenting(*args):
        due = min(4, events.count("save") + 2)
        with loaded:
            assert loaded.wait_for(lambda: events.count("load") == due, timeout=60), (
                f"{events}, while this one computes"
            )
        return forward(*args)

    monkeypatch.setattr(LoadVolumed, "__call__", loading)
    monkeypatch.setattr(Threshold, "forward", segmenting)
    monkeypatch.setattr(SaveSegmentationd, "__call__", lambda *args: [events.append("save"), save(*args)][1])
    assert set(segment(folder, tmp_path / "out", load_ahead=True).values()) == {"segmented"}
    assert events == ["load", "load", "save", "load", "save", "load", "save", "save"]


def test_on_a_cpu_images_are_loaded_one_by_one_and_on_a_gpu_ahead(tmp_path, monkeypatch):
    folder, events = write_images(tmp_path / "in", "a.nii.gz", "b.nii.gz"), []
    load, save = LoadVolumed.__call__, SaveSegmentationd.__call__
    monkeypatch.setattr(LoadVolumed, "__call__", lambda *args: [events.append("load"), load(*args)][1])
    monkeypatch.setattr(SaveSegmentationd, "__call__", lambda *args: [events.append("save"), save(*args)][1])
    segment(folder, tmp_path / "out")
    assert events == ["load", "save", "load", "save"]
    monkeypatch.setattr(Threshold, "parameters", lambda self: iter([torch.empty(1, device="meta")]))
    assert evaluator(folder, tmp_path / "gpu").load_ahead


def test_what_is_loaded_ahead_stays_with_its_case(tmp_path):
    folder = write_images(tmp_path / "in", *(f"{name}.nii.gz" for name in "abcde"))
    nib.save(nib.Nifti1Image(np.random.rand(9, 7, 8).astype(np.float32), np.eye(4)), folder / "b.nii.gz")  # no memory
    thick = nib.Nifti1Image(np.random.rand(6, 7, 8).astype(np.float32), np.diag([1, 1, 5, 1]))
    nib.save(thick, folder / "c.nii.gz")
    (folder / "d.nii.gz").write_bytes((folder / "d.nii.gz").read_bytes()[:100])
    with pytest.raises(CohortError, match="2 of 5 cases failed"):
        segment(folder, tmp_path / "out", load_ahead="true")
    rows = {Path(row["image"]).name[0]: row for row in table(tmp_path / "out")}
    assert [name for name, row in rows.items() if row["warnings"]] == ["c"]
    assert "out of memory" in rows["b"]["problem"]
    assert "d.nii.gz" in rows["d"]["problem"]
    for name in "ae":
        found = nib.load(tmp_path / "out" / f"{name}_seg.nii.gz").get_fdata()
        assert np.array_equal(found, nib.load(folder / f"{name}.nii.gz").get_fdata() > 0.5)


@pytest.mark.parametrize("processes", [1, 2, 3, 5])
def test_processes_share_the_cases(tmp_path, monkeypatch, processes):
    folder, output = write_images(tmp_path / "in", *(f"{name}.nii.gz" for name in "abcd")), tmp_path / "out"
    segment(folder, output)
    (output / "a_seg.nii.gz").unlink()
    (output / "c_seg.nii.gz").unlink()
    (output / "d_seg.nii.gz").unlink()
    dealt, segmented = [], []
    for rank in range(processes):

        def gather(value):
            if isinstance(value, list):
                dealt.append(value)
            return [dealt[0]] if value is None or isinstance(value, list) else [value]

        world = SimpleNamespace(get_rank=lambda r=rank: r, get_world_size=lambda: processes, all_gather=gather)
        monkeypatch.setattr(cohort, "idist", world)
        engine = evaluator(folder, output)
        engine.run()
        segmented += [index for index, record in engine.records.items() if record.status == "segmented"]
    assert sorted(segmented) == [0, 2, 3]
    assert len(files(output)) == 4


def cut(size):
    return lambda path: path.write_bytes(path.read_bytes()[:size])


DAMAGES = {
    "an empty mask": ("a_seg.nii.gz", cut(0)),
    "a mask without its end": ("a_seg.nii.gz", cut(-9)),
    "half a mask": ("a_seg.nii.gz", cut(60)),
    "a mask of zeros": ("a_seg.nii.gz", lambda path: path.write_bytes(bytes(path.stat().st_size))),
    "a mask of text": ("a_seg.nii.gz", lambda path: path.write_text("no volume")),
    "an empty preview": ("a_preview.png", cut(0)),
    "half a preview": ("a_preview.png", cut(1000)),
    "a preview that is gone": ("a_preview.png", os.unlink),
    "a mask that is gone": ("a_seg.nii.gz", os.unlink),
    "an empty record": (".segmented/*.json", cut(0)),
    "half a record": (".segmented/*.json", cut(40)),
    "a record of another kind": (".segmented/*.json", lambda path: path.write_text("[1]")),
    "a record that is gone": (".segmented/*.json", os.unlink),
    "empty settings": ("segmented_with.json", cut(0)),
    "half of the settings": ("segmented_with.json", cut(40)),
    "settings of another kind": ("segmented_with.json", lambda path: path.write_text("[1]")),
    "a table that is cut": ("cases.csv", cut(90)),
    "a table that is gone": ("cases.csv", os.unlink),
}


@pytest.mark.faults
@pytest.mark.parametrize(("name", "damage"), DAMAGES.values(), ids=DAMAGES)
def test_what_is_damaged_or_gone_is_noticed_and_made_again(name, damage, tmp_path):
    folder, output = write_images(tmp_path / "in", "a.nii.gz"), tmp_path / "out"
    segment(folder, output, previews=True)
    before = {path: path.read_bytes() for path in output.rglob("*") if path.is_file() and path.suffix != ".csv"}
    row = table(output)[0]
    (path,) = output.glob(name)
    damage(path)
    segment(folder, output, previews=True)
    assert {path: path.read_bytes() for path in output.rglob("*") if path.is_file() and path.suffix != ".csv"} == before
    assert {**table(output)[0], "status": "", "seconds": ""} == {**row, "status": "", "seconds": ""}
    assert segment(folder, output, previews=True) == {"a.nii.gz": "finished before"}


class After(torch.nn.Module):
    """Does something once, when so many volumes were segmented: after them, before the next."""

    def __init__(self, count, action):
        super().__init__()
        self.count, self.action = count, action

    def forward(self, x):
        self.count -= 1
        if self.count == 0:
            self.action()
        return (x > 0.5).float()


def segment_while(action, folder, output, count=2):
    """Segment by a network that does something while it computes the second volume."""
    engine = evaluator(folder, output)
    engine.network = After(count, action)
    engine.run()


REMOVALS = {
    "the folder": lambda output: shutil.rmtree(output),
    "a mask": lambda output: (output / "a_seg.nii.gz").unlink(),
    "the settings and a mask": lambda output: [
        (output / name).unlink() for name in ("a_seg.nii.gz", "segmented_with.json")
    ],
    "the folder, moved away": lambda output: output.rename(output.with_name("moved")),
}


@pytest.mark.faults
@pytest.mark.parametrize("remove", REMOVALS.values(), ids=REMOVALS)
def test_what_is_removed_while_a_run_works_is_told_and_made_again(remove, tmp_path):
    folder, output = write_images(tmp_path / "in", *(f"{name}.nii.gz" for name in "abc")), tmp_path / "out"
    with pytest.raises(
        CohortError, match=r"1 of 3 cases failed(.|\n)*a_seg\.nii\.gz was removed while this command ran"
    ):
        segment_while(lambda: remove(output), folder, output)
    assert statuses(folder, output) == {"a.nii.gz": "failed", "b.nii.gz": "segmented", "c.nii.gz": "segmented"}
    status = segment(folder, output)
    assert status["a.nii.gz"] == "segmented"
    assert files(output) == [f"{name}_seg.nii.gz" for name in "abc"]


@pytest.mark.faults
def test_images_that_go_while_a_run_works_fail_alone(tmp_path):
    folder, output = write_images(tmp_path / "in", *(f"{name}.nii.gz" for name in "abcd")), tmp_path / "out"

    def spoil():
        (folder / "c.nii.gz").unlink()
        cut(200)(folder / "d.nii.gz")

    with pytest.raises(CohortError, match="2 of 4 cases failed, the others are segmented"):
        segment_while(spoil, folder, output)
    assert files(output) == ["a_seg.nii.gz", "b_seg.nii.gz"]


@pytest.mark.faults
@pytest.mark.parametrize("length", [255, 254, 251])
def test_a_name_that_is_too_long_for_its_results_fails_alone(length, tmp_path):
    name = "x" * (length - len(".nii.gz")) + ".nii.gz"
    folder, output = write_images(tmp_path / "in", name, "a.nii.gz"), tmp_path / "out"
    for status in ("segmented", "finished before"):
        with pytest.raises(CohortError, match=r"1 of 2 cases failed(.|\n)*name too long"):
            segment(folder, output)
        assert statuses(folder, output) == {name: "failed", "a.nii.gz": status}


@pytest.mark.faults
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_an_output_that_is_not_finite_is_no_segmentation(value, tmp_path):
    folder, output = write_images(tmp_path / "in", "a.nii.gz", "b.nii.gz"), tmp_path / "out"
    engine = evaluator(folder, output)
    engine.network.forward = lambda x: x * value
    with pytest.raises(CohortError, match=r"^2 of 2 cases failed\. See(.|\n)*336 of 336 values that are not finite"):
        engine.run()
    assert files(output) == []


def test_a_score_stands_in_the_table_and_is_made_where_it_lacks(tmp_path):
    folder, output = write_images(tmp_path / "in", "a.nii.gz", "b.nii.gz"), tmp_path / "out"
    segment(folder, output)
    assert [row["agreement"] for row in table(output)] == ["", ""]
    asked = {"agreement": TurnedAgreement(1, exclusive=False)}
    assert set(segment(folder, output, **asked).values()) == {"segmented"}
    scores = [row["agreement"] for row in table(output)]
    assert all(0 <= float(score) <= 1 for score in scores)
    for options in (asked, {}):
        assert set(segment(folder, output, **options).values()) == {"finished before"}
        assert [row["agreement"] for row in table(output)] == scores
    assert set(segment(folder, output, agreement=TurnedAgreement(2, exclusive=False)).values()) == {"segmented"}


def test_a_correction_by_hand_is_neither_scored_nor_replaced_for_a_score(tmp_path):
    folder, output = write_images(tmp_path / "in", "a.nii.gz", "b.nii.gz"), tmp_path / "out"
    segment(folder, output, agreement=TurnedAgreement(1, exclusive=False))
    nib.save(nib.Nifti1Image(np.ones((6, 7, 8), np.uint8), np.eye(4)), output / "a_seg.nii.gz")
    before = (output / "a_seg.nii.gz").read_bytes()
    for num_turns, status in ((1, "finished before"), (2, "segmented")):
        found = segment(folder, output, agreement=TurnedAgreement(num_turns, exclusive=False))
        assert found == {"a.nii.gz": "finished before", "b.nii.gz": status}
        assert (output / "a_seg.nii.gz").read_bytes() == before
        assert [bool(row["agreement"]) for row in table(output)] == [False, True]


@pytest.mark.parametrize("ending", ["nii.gz", "png"])
def test_results_are_written_from_where_numpy_cannot_look(ending, monkeypatch, tmp_path):
    """As from a GPU, whose tensors refuse to become arrays, though not to be copied to the CPU."""
    image = MetaTensor(torch.rand(1, 6, 7, 8), meta={"filename_or_obj": "a.nii.gz", "affine": torch.eye(4)})

    to_array = torch.Tensor.__array__

    def refuse(tensor, *options, **named):
        if tensor.ndim > 2:  # affines stay on the CPU
            raise TypeError("can't convert device type tensor to numpy. Use Tensor.cpu() first.")
        return to_array(tensor, *options, **named)

    with monkeypatch.context() as patched:
        patched.setattr(torch.Tensor, "__array__", refuse)
        if ending == "png":
            volume_with_labels(image[0], (image[0] > 0.5).float(), tmp_path / "a_seg.png")
        else:
            save = SaveSegmentationd("pred", tmp_path, tmp_path, output_postfix="seg", print_log=False)
            save({"pred": (image > 0.5).float()})
    assert files(tmp_path, f"*.{ending}") == [f"a_seg.{ending}"]
    if ending != "png":
        assert np.array_equal(nib.load(tmp_path / "a_seg.nii.gz").get_fdata(), (image[0] > 0.5).numpy())


@pytest.mark.faults
@pytest.mark.parametrize("name", ["a_seg.nii.gz", ".json", "segmented_with.json", "cases.csv", ".owner.json"])
def test_a_full_disk_is_told_with_the_file_and_a_rerun_makes_what_lacks(name, tmp_path, monkeypatch):
    folder, output = write_images(tmp_path / "in", "a.nii.gz", "b.nii.gz"), tmp_path / "out"
    sync = os.fsync

    def fail(descriptor):
        if os.readlink(f"/proc/self/fd/{descriptor}").endswith(name):
            raise OSError(28, "No space left on device")
        sync(descriptor)

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(
        (CohortError, OSError), match=r"cannot be written: No space left on device\. Nothing of it is left"
    ):
        segment(folder, output)
    monkeypatch.undo()
    assert not [path for path in output.rglob(".*.*") if path.is_file() and path.name != ".owner.lock"]
    assert set(segment(folder, output, overwrite=name == ".json").values()) <= {"segmented", "finished before"}
    assert files(output) == ["a_seg.nii.gz", "b_seg.nii.gz"]


@pytest.mark.faults
def test_a_disk_too_full_for_the_table_still_tells_what_failed(tmp_path, monkeypatch):
    folder, output = write_images(tmp_path / "in", "a.nii.gz"), tmp_path / "out"
    (folder / "a.nii.gz").write_bytes(b"no image")
    write = cohort.write_text

    def fail(path, text):
        if path.name == "cases.csv":
            raise OSError("cases.csv cannot be written: No space left on device.")
        write(path, text)

    monkeypatch.setattr(cohort, "write_text", fail)
    with pytest.raises(CohortError, match=r"1 of 1 cases failed\. cases\.csv cannot be written(.|\n)*a\.nii\.gz: "):
        segment(folder, output)


@pytest.mark.faults
def test_a_link_in_place_of_a_result_is_replaced_and_its_target_stays(tmp_path):
    folder, output = write_images(tmp_path / "in", "a.nii.gz"), tmp_path / "out"
    segment(folder, output)
    for name in ("a_seg.nii.gz", ".a_seg.nii.gz"):
        target = tmp_path / "target"
        target.write_bytes(b"of somebody else")
        (output / name).unlink(missing_ok=True)
        (output / name).symlink_to(target)
        assert segment(folder, output, overwrite=True) == {"a.nii.gz": "segmented"}
        assert target.read_bytes() == b"of somebody else"
        assert not (output / "a_seg.nii.gz").is_symlink()


@pytest.mark.faults
def test_a_second_network_is_refused_while_the_first_segments_and_may_follow(tmp_path):
    folder, output = write_images(tmp_path / "in", *(f"{name}.nii.gz" for name in "abc")), tmp_path / "out"
    helpers, results = str(Path(__file__).parents[1] / "helpers"), []
    path = os.pathsep.join([helpers, *filter(None, [os.environ.get("PYTHONPATH")])])

    def start():
        results.append(run_module("segment_otherwise", folder, output, cwd=tmp_path, PYTHONPATH=path))

    segment_while(start, folder, output)
    assert results[0].returncode == 1
    assert f"out is in use by process {os.getpid()} on " in results[0].stderr
    for name in "abc":  # of one network, all of them
        image = nib.load(folder / f"{name}.nii.gz").get_fdata()
        assert np.array_equal(nib.load(output / f"{name}_seg.nii.gz").get_fdata(), image > 0.5)
    start()
    assert results[1].returncode == 0, results[1].stderr
    for name in "abc":
        image = nib.load(folder / f"{name}.nii.gz").get_fdata()
        assert np.array_equal(nib.load(output / f"{name}_seg.nii.gz").get_fdata(), image > 0.9)


def test_results_of_unknown_origin_are_kept(tmp_path):
    folder = write_images(tmp_path / "in", "a.nii.gz", "a_seg.nii.gz")
    before = (folder / "a_seg.nii.gz").read_bytes()
    with pytest.raises(FileExistsError, match=r"a_seg\.nii\.gz exists, and no segmented_with\.json"):
        segment(folder, folder)
    assert (folder / "a_seg.nii.gz").read_bytes() == before
    assert files(folder, "[!.]*") == ["a.nii.gz", "a_seg.nii.gz"]


def test_two_images_of_one_name_are_named(tmp_path):
    folder = write_images(tmp_path / "in", "a.nii.gz", "a.nii")
    with pytest.raises(ValueError, match=r"a\.nii and .*a\.nii\.gz would both be written to .*a_seg\.nii\.gz"):
        segment(folder, tmp_path / "out", pattern="*")


def test_an_output_folder_that_cannot_be_written_is_named_before_anything_is_segmented(tmp_path):
    folder = write_images(tmp_path / "in", "a.nii.gz")
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"file/out cannot be written to: give another --output_dir"):
        segment(folder, tmp_path / "file" / "out")


def test_a_disk_that_is_full_is_told_of_each_case(tmp_path, monkeypatch):
    folder = write_images(tmp_path / "in", "a.nii.gz", "b.nii.gz")

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(nib, "save", fail)
    with pytest.raises(CohortError, match=r"a_seg\.nii\.gz cannot be written \(OSError.*No space left"):
        segment(folder, tmp_path / "out")
    assert [row["status"] for row in table(tmp_path / "out")] == ["failed", "failed"]


def test_an_overwrite_that_is_neither_true_nor_false_is_an_error(tmp_path):
    folder = write_images(tmp_path / "in", "a.nii.gz")
    with pytest.raises(ValueError, match="overwrite='yes' is not legal: give true or false"):
        evaluator(folder, tmp_path, overwrite="yes")


def test_processes_without_their_config_are_an_error(tmp_path, monkeypatch):
    folder = write_images(tmp_path / "in", "a.nii.gz")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RuntimeError, match=r"Add the bundle's multi_gpu_inference\.json"):
        segment(folder, tmp_path / "out")


def test_warnings_stand_in_the_table_also_when_the_case_is_finished(tmp_path):
    folder = write_images(tmp_path / "in", "a.nii.gz", "thick.nii.gz")
    image = nib.load(folder / "thick.nii.gz")
    nib.save(nib.Nifti1Image(image.get_fdata(), np.diag([1, 1, 5, 1])), folder / "thick.nii.gz")
    for status in ("segmented", "finished before", "segmented"):  # warned of once in a process, and told each time
        assert set(segment(folder, tmp_path / "out", overwrite=status == "segmented").values()) == {status}
        plain, thick = table(tmp_path / "out")
        assert plain["warnings"] == ""
        assert "thick.nii.gz: the voxel spacing is 1 x 1 x 5 mm" in thick["warnings"]


@pytest.mark.parametrize("ending", [".img", ".hdr"])
def test_a_pair_is_segmented_anew_when_either_of_its_files_changes(ending, tmp_path):
    (tmp_path / "in").mkdir()
    values = np.random.RandomState(0).randint(0, 9, (6, 7, 8)).astype(np.int16)
    nib.save(nib.Nifti1Pair(values, np.eye(4)), tmp_path / "in" / "a.img")
    options = {"pattern": f"*{ending}", "dataset_dir": tmp_path / "in", "output_dir": tmp_path / "out"}
    if ending == ".hdr":  # the header is named by a user
        options["dataset_dir"] = tmp_path / "in" / "a.hdr"
    name = os.path.relpath(tmp_path / "in" / f"a{ending}", options["dataset_dir"])
    assert segment(**options) == {name: "segmented"}
    assert segment(**options) == {name: "finished before"}
    for part, change in (("a.hdr", np.diag([2.0, 1, 1, 1])), ("a.img", None)):
        before = (tmp_path / "in" / part).read_bytes()
        if change is None:
            (tmp_path / "in" / part).write_bytes(bytes(len(before) - 2) + b"\1\0")
        else:
            header = nib.load(tmp_path / "in" / "a.img").header
            header.set_sform(change, 1)
            (tmp_path / "in" / part).write_bytes(header.binaryblock + before[348:])
        assert segment(**options) == {name: "segmented"}
        assert segment(**options) == {name: "finished before"}
