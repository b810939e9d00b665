"""Measure a model at poses: write the files, let it segment them, score the masks. Nothing is measured twice."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import torch
from tqdm import tqdm

from equivariant_nets.data.datalist import case_name, indented
from equivariant_nets.data.geometry import is_sheared, place_of
from equivariant_nets.evaluation.on_files.cases import Case, Classes, match_names
from equivariant_nets.evaluation.on_files.models import Model, ModelError
from equivariant_nets.evaluation.on_files.poses import UPRIGHT, Pose
from equivariant_nets.evaluation.on_files.scores import Row, class_scores, read_prediction
from equivariant_nets.evaluation.on_files.turning import Placement, Turning
from equivariant_nets.files import replace_file, write_json, write_text
from equivariant_nets.fingerprints import digest
from equivariant_nets.ownership import FolderLock

__all__ = ["Measurement", "Settings", "load_mask", "measure"]

TABLE = "poses_dice.csv"
RECORD = "measured.json"  # in the folder of a pose: the rows of its cases, and what they were made of
WORK = ".work"


class Measurement(NamedTuple):
    """What was measured, and what was not."""

    rows: list[Row]
    problems: dict[str, str]  # by pose
    repeated: int  # poses of cases that were measured before


@dataclass(frozen=True, eq=False)
class Settings:
    """All that decides about the scores of a model, but the cases."""

    model: Model
    classes: Classes
    turning: Turning

    def placement(self, case: Case, pose: Pose, size: Sequence[int], affine: np.ndarray) -> Placement:
        """Where the voxels of a case in a pose come from."""
        return Placement.of(pose, case.name, size, affine, self.turning.of(pose).canvas)

    def write(self, case: Case, pose: Pose, path: Path) -> None:
        """Write the image of a case in a pose as NIfTI, in float32, with all else that the header of the case says.

        Both forms of the header say where it is, in mm: which of them a tool reads shall not decide. Where axes are
        sheared, which a qform cannot say, the sform alone does.
        """
        volumes = case.load()
        placement = self.placement(case, pose, volumes.image.shape[1:], volumes.affine)
        turned = placement.image(volumes.image, self.turning.of(pose))
        header = volumes.header.copy()
        header.set_data_dtype(np.float32)
        header.set_xyzt_units("mm")
        voxels = turned[0] if len(turned) == 1 else np.moveaxis(turned, 0, -1)
        posed = nib.Nifti1Image(voxels, placement.affine, header)
        posed.set_sform(placement.affine, code="scanner")
        posed.set_qform(placement.affine, code="unknown" if is_sheared(placement.affine) else "scanner")
        nib.save(posed, path)


def measure(
    settings: Settings, cases: Sequence[Case], poses: Sequence[Pose], output_dir: str | Path, jobs: int = 1
) -> Measurement:
    """Score a model on files at poses; the rest of them goes on where one fails.

    Args:
        settings: the model, what is scored, and how voxels are turned.
        cases: images and label maps.
        poses: upright first.
        output_dir: receives ``poses_dice.csv`` and a folder of each pose with the masks. What lies there with the same
            settings, of files with the same content, is not measured again.
        jobs: poses at a time.

    Raises:
        ValueError: ``jobs`` is below 1, or the files of a case do not fit each other.
        RuntimeError: another process owns the folder.
        OSError: the folder cannot be written to.
    """
    if jobs < 1:
        raise ValueError(f"--jobs {jobs} is not legal: give 1 or more.")
    folder = Path(output_dir).expanduser().absolute()
    for case in cases:  # before a model runs for hours
        case.load()
    with FolderLock(folder):
        shutil.rmtree(folder / WORK, ignore_errors=True)  # of a run that was killed
        measured = _Run(settings, cases, poses, folder, jobs)()
        shutil.rmtree(folder / WORK, ignore_errors=True)
        return measured


class _Run:
    """One run over all poses."""

    def __init__(
        self, settings: Settings, cases: Sequence[Case], poses: Sequence[Pose], folder: Path, jobs: int
    ) -> None:
        self.settings, self.cases, self.poses, self.folder, self.jobs = settings, cases, poses, folder, jobs
        self.rows: dict[tuple[str, str], list[Row]] = {}
        self.problems: dict[str, str] = {}
        self.repeated = 0
        self.model_settings = settings.model.settings()
        self.content = {case: [*case.content(), _place(case)] for case in cases}
        threads = max(1, (os.cpu_count() or 1) // jobs)
        own = {} if torch.cuda.is_available() or jobs == 1 else {"OMP_NUM_THREADS": str(threads)}
        self.environment: Mapping[str, str] = {**own, **os.environ}

    def __call__(self) -> Measurement:
        upright, *others = self.poses  # its masks are those that the others are compared with
        with tqdm(total=len(self.poses), desc="poses", unit="pose") as bar, ThreadPoolExecutor(self.jobs) as pool:
            self._finish(upright, self._attempt(upright), bar)
            futures = {pool.submit(self._attempt, pose): pose for pose in others}
            try:
                for future in as_completed(futures):
                    self._finish(futures[future], future.result(), bar)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return Measurement(self._ordered(), self.problems, self.repeated)

    def _finish(self, pose: Pose, problem: str, bar: tqdm) -> None:
        if problem:
            self.problems[pose.name] = problem
            bar.write(f"{pose.name} failed. {problem.splitlines()[0]}")
        text = io.StringIO()
        columns = [name.removesuffix("_name") for name in Row._fields]
        csv.writer(text, lineterminator="\n").writerows([columns, *self._ordered()])
        write_text(self.folder / TABLE, text.getvalue())
        bar.update()

    def _ordered(self) -> list[Row]:
        keys = ((pose.name, case.name) for pose in self.poses for case in self.cases)
        return [row for key in keys for row in self.rows.get(key, [])]

    def _attempt(self, pose: Pose) -> str:
        """Measure a pose, and say what went wrong."""
        own = self.folder / pose.folder
        record = _read(own / RECORD)
        left = [case for case in self.cases if not self._is_known(case, pose, own, record.get(case.name, {}))]
        for case in self.cases:
            if case not in left:
                self.rows[pose.name, case.name] = [Row(*row) for row in record[case.name]["rows"]]
        self.repeated += len(self.cases) - len(left)
        if not left:
            return ""
        own.mkdir(exist_ok=True)
        (self.folder / WORK).mkdir(exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f"{pose.folder}.", dir=self.folder / WORK))
        try:
            return "\n".join(self._segment(pose, left, work, own, record))
        except OSError as error:
            return str(error)
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def _is_known(self, case: Case, pose: Pose, own: Path, known: dict[str, Any]) -> bool:
        if known.get("made_of") != self._made_of(case, pose) or not (own / _mask_name(case)).is_file():
            return False
        is_compared = all(np.isfinite(Row(*row).rmse) for row in known["rows"])
        return is_compared or (UPRIGHT.name, case.name) not in self.rows

    def _made_of(self, case: Case, pose: Pose) -> str:
        turning = asdict(self.settings.turning.of(pose))
        turn = [pose.name, pose.kind, pose.rotation(case.name).round(9).tolist(), pose.size]
        return digest([self.model_settings, self.settings.classes.text, turning, turn, case.name, self.content[case]])

    def _segment(self, pose: Pose, cases: list[Case], work: Path, own: Path, record: dict[str, Any]) -> Iterator[str]:
        given, written = work / "images", work / "masks"
        given.mkdir()
        written.mkdir()
        for case in cases:
            self.settings.write(case, pose, given / f"{case_name(case.image)}.nii.gz")
        failure = ""
        try:
            self.settings.model.segment(given, written, self.environment)
        except ModelError as error:  # it may have left some masks all the same
            yield (failure := str(error))
        files = [path for path in written.rglob("*.nii*") if path.is_file() and not path.name.startswith(".")]
        masks, missing = match_names([case.name for case in cases], files)
        if missing and not failure:
            names = ", ".join(sorted(path.name for path in files)[:5]) or "nothing"
            yield (
                f"The command ended well, and left no mask of its own for {len(missing)} of {len(cases)} images; it "
                f"wrote {names}. A mask is a NIfTI file called as its image, or with more behind the name, such as "
                f"case_seg.nii.gz.{indented(list(missing.values()))}"
            )
        for case in cases:
            if case.name in masks:
                try:
                    rows = self._score(case, pose, masks[case.name], own)
                except ValueError as error:
                    yield str(error)
                    continue
                record[case.name] = {"made_of": self._made_of(case, pose), "rows": rows}
                self.rows[pose.name, case.name] = rows
        write_json(own / RECORD, record)

    def _score(self, case: Case, pose: Pose, mask: Path, own: Path) -> list[Row]:
        classes = self.settings.classes
        volumes = case.load()
        place = self.settings.placement(case, pose, volumes.label.shape, volumes.affine)
        prediction = read_prediction(mask, place.size, place.affine)
        upright = classes.true_codes(volumes.label)
        turned = place.label(upright)
        codes = classes.predicted_codes(prediction)
        if pose is UPRIGHT:
            carried: np.ndarray | None = codes
        elif (UPRIGHT.name, case.name) in self.rows:
            carried = place.label(classes.predicted_codes(load_mask(self.folder, case, UPRIGHT)))
        else:
            carried = None
        with replace_file(own / _mask_name(case)) as unfinished:
            nib.save(nib.Nifti1Image(prediction.astype(np.int32), place.affine), unfinished)
        scores = class_scores(classes, codes, turned, (place.back().label(turned), upright), carried)
        angle = pose.angle_degrees(case.name)
        return [Row(case.name, pose.name, pose.group, angle, *score) for score in scores]


def load_mask(folder: Path, case: Case, pose: Pose) -> np.ndarray:
    """The mask (X, Y, Z) of a case in a pose that was measured into a folder."""
    return np.asarray(nib.load(folder / pose.folder / _mask_name(case)).dataobj)  # type: ignore[attr-defined]


def _place(case: Case) -> str:
    """Where the voxels of a case are, by the form of its header that is used."""
    return str(place_of(nib.load(case.image)).affine_mm.round(6).tolist())  # type: ignore[attr-defined]


def _mask_name(case: Case) -> str:
    return f"{case.name}.nii.gz"


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError):
        return {}
