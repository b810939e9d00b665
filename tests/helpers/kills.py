"""Kill a command at random moments and give it again until it ends: what is there then, and on the way."""

import csv
import io
import json
import time
from collections import Counter
from pathlib import Path

import nibabel as nib
import pytest
import torch
from PIL import Image

# kills; lost: ends unlike the undisturbed command; mixed: a result of neither network; torn: a part of a file
COUNTS = Counter()


def survive(run, kills, random, is_mixed=lambda: False, folder=None):
    """Kill a command so often, and see that it ends as one that nobody disturbed.

    Args:
        run: gives the command, anew where told so, to be killed after so many seconds or None; returns its exit status.
        kills: how many.
        random: draws the moments.
        is_mixed: looks after each kill whether results of two networks lie side by side.
        folder: whose files are compared, and must be whole after each kill.
    """
    start = time.perf_counter()
    assert run(anew=True, kill_after_s=None) == 0
    expected, seconds = content(folder), time.perf_counter() - start
    before = COUNTS.copy()
    while COUNTS["kills"] - before["kills"] < kills:
        chain, status, is_new = 0, None, True
        while status != 0:
            is_enough = chain == 5 or COUNTS["kills"] - before["kills"] == kills
            moment = None if is_enough else random.uniform(0.1, 1.0) * seconds
            start = time.perf_counter()
            status = run(anew=is_new, kill_after_s=moment)
            if is_new and status == 0:  # the machine was busier when the time was taken
                seconds = min(seconds, time.perf_counter() - start)
            is_new = False
            if status not in (0, -9):
                break
            if status == -9:
                chain += 1
                COUNTS["kills"] += 1
                COUNTS["torn"] += len(torn(folder))
                COUNTS["mixed"] += bool(is_mixed())
        COUNTS["lost"] += content(folder) != expected
    assert [COUNTS[name] - before[name] for name in ("lost", "mixed", "torn")] == [0, 0, 0]


def visible(folder):
    """The files under their final names."""
    paths = (path for path in Path(folder).rglob("*") if path.is_file())
    return [path for path in sorted(paths) if not path.name.startswith(".") and "events." not in path.name]


def content(folder):
    """What is compared of each file: all but times, places and random states."""
    return {str(path.relative_to(folder)): _content(path) for path in visible(folder)}


def _content(path):
    if path.suffix == ".pt":
        state = torch.load(path, weights_only=True)
        return {name: value.tolist() for name, value in state.get("network", state).items()}
    if path.suffix == ".csv":
        rows = csv.DictReader(io.StringIO(path.read_text()))
        return [{key: row[key] for key in row if key not in ("seconds", "status", "weights")} for row in rows]
    return None if path.suffix in (".json", ".txt") else path.read_bytes()


def torn(folder):
    """The files under final names that cannot be read to their end."""
    return [path for path in visible(folder) if not _is_whole(path)]


def _is_whole(path):
    try:
        if path.name.endswith(".nii.gz"):
            nib.load(path).get_fdata()
        elif path.suffix == ".png":
            Image.open(path).load()
        elif path.suffix == ".pt":
            torch.load(path, weights_only=True)
        elif path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".csv":
            return path.read_text().endswith("\n")
    except Exception:
        return False
    return True


def assert_killed_writer_goes_on(write, folder, whole, monkeypatch):
    """A writer of synthetic data that is killed after two volumes ends as one that was not; with others it is refused.

    Args:
        write: writes into a folder, with changes to its options.
        folder: empty.
        whole: where it has written before.
    """
    replace, files = Path.replace, []

    def stop(self, target):
        files.append(target)
        if len(files) == 4:  # of the parameters, and of two volumes
            raise KeyboardInterrupt
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        write(folder)
    monkeypatch.undo()
    assert len(list(folder.rglob("[!.]*.nii.gz"))) == 2
    with pytest.raises(ValueError, match=r"did not write with .*'seed': 1"):
        write(folder, seed=1)
    write(folder)
    written, expected = (
        {path.relative_to(place): path.read_bytes() for path in place.rglob("[!.]*.*")} for place in (folder, whole)
    )
    assert written == expected
