"""Segment many images: shared between processes, without those that are finished, and past those that fail."""

from __future__ import annotations

import csv
import io
import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from ignite import distributed as idist
from ignite.engine import Events
from monai.data import Dataset, list_data_collate
from monai.engines import IterationEvents, SupervisedEvaluator
from monai.transforms import Compose, SaveImaged
from monai.utils import CommonKeys
from tqdm import tqdm

from equivariant_nets.cluster import Cluster
from equivariant_nets.data.checks import CHANNEL_FILES
from equivariant_nets.data.dicom.series import SERIES_FILES, DicomSeries
from equivariant_nets.data.images import images_folder
from equivariant_nets.data.notices import collected_warnings
from equivariant_nets.data.writing import SegmentationWriter
from equivariant_nets.errors import find_cause
from equivariant_nets.files import replace_file, write_json, write_text
from equivariant_nets.fingerprints import checksum, content_of, differences, digest, fingerprint
from equivariant_nets.inference.agreement import TurnedAgreement
from equivariant_nets.inference.dicom_seg import SaveDicomSegd
from equivariant_nets.inference.previews import PreviewSaver
from equivariant_nets.inference.primitives import bound_primitive_cache
from equivariant_nets.inference.results import is_readable
from equivariant_nets.ownership import FolderLock
from equivariant_nets.settings import is_on
from equivariant_nets.training.finite import check_output
from equivariant_nets.training.weights import weights_name

__all__ = ["CohortError", "CohortEvaluator", "SaveSegmentationd"]

SETTINGS_FILE = "segmented_with.json"
CASES_FILE = "cases.csv"
PREVIOUS = ".previous"  # a folder of results that were edited by hand, or whose case failed since
RECORDS = ".segmented"  # a folder with a file for each result: what it was made of, and with
SEGMENTED, FINISHED, FAILED, LEFT_OUT = "segmented", "finished before", "failed", "left out"
_MAX_LISTED = 10


class CohortError(RuntimeError):
    """Some cases were not segmented; all others were."""


class CaseRecord(NamedTuple):
    """What became of one case: a row of ``cases.csv``."""

    image: str  # the first of its files
    segmentation: str
    status: str
    seconds: float
    problem: str
    weights: str  # the file of the network's
    warnings: str  # of its files, which may cost accuracy
    agreement: str  # with turned copies, from 0 to 1, where it was asked for


class _Case(NamedTuple):
    files: list[Path]  # of a series of DICOM, its path stands for them
    outputs: list[Path]  # the segmentation first
    left_out: str = ""  # why it is no image


class SaveSegmentationd(SaveImaged):
    """MONAI's ``SaveImaged`` for many images: in folders as theirs, and each file at once or not at all.

    A file has a hidden name in its folder until it is complete. A NIfTI file places its voxels as that of its image
    does: see :class:`equivariant_nets.data.SegmentationWriter`, the default ``writer``.

    Args:
        keys: of label maps with metadata, which name the image.
        output_dir: the folder of the results.
        dataset_dir: what the images were found in; folders below it are repeated in ``output_dir``.
        others: as for ``monai.transforms.SaveImaged``.

    Raises:
        OSError: on call, a file cannot be written.
    """

    def __init__(self, keys: Any, output_dir: str | Path, dataset_dir: str | Path, **kwargs: Any) -> None:
        root = str(images_folder(dataset_dir))
        kwargs = {"writer": SegmentationWriter, **kwargs}
        super().__init__(keys, output_dir=str(output_dir), data_root_dir=root, separate_folder=False, **kwargs)
        self.dataset_dir = Path(root)
        layout: Any = self.saver.folder_layout
        layout.makedirs = False  # a folder appears with its first file

    def path_of(self, meta: Mapping[str, Any]) -> Path:
        """The file that a label map with such metadata is written to."""
        return Path(self.saver.folder_layout.filename(**self.saver.fname_formatter(meta, self.saver)))

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            path = self.path_of(d[key].meta)
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with replace_file(path) as unfinished:
                    self.saver(d[key], filename=str(unfinished).removesuffix(self.saver.output_ext))
            except RuntimeError as error:  # MONAI's, with the text of a traceback
                cause = str(error).strip().splitlines()[-1]
                raise OSError(f"{path} cannot be written ({cause}). Check its folder, and the space left.") from None
        return d


class _Loaded(NamedTuple):
    warnings: list[str]
    made_of: dict[str, str]
    batch: Any
    error: Exception | None


class CohortEvaluator(SupervisedEvaluator):
    """MONAI's evaluator for many images without labels: a case that fails is reported, and stops no other.

    A case is finished when its results are there and were made from the same input by the same computation: the content
    of its files, and the :func:`equivariant_nets.fingerprints.fingerprint` of preprocessing, network, inferer and
    postprocessing with the weights. Finished cases are left out, all others are segmented anew; the log says what
    differs. ``segmented_with.json`` in the output folder holds the fingerprint, the hidden folder ``.segmented`` what
    each result was made of. Times and places of files do not count. A result that was edited by hand stays while its
    case is finished; when the case is segmented anew, it goes to the hidden folder ``.previous``, as do results of a
    case that now fails. A result that cannot be read to its end is made again, and a case whose results are removed
    while the command runs fails. The cases are dealt out to the processes of ``torch.distributed``, each case
    to one; one command at a time owns the output folder. Images are loaded one by one.

    What an earlier run wrote is never taken for an image, also where ``output_dir`` lies inside ``dataset_dir``.
    ``cases.csv`` lists all cases with their status, why those failed that did, the file of the weights, and the
    warnings about the files of a case, also those of an earlier run. A series of DICOM that is no volume is listed as
    left out, with the reason, and is no failure.

    Args:
        dataset: items with an ``image``, a path, several, or a ``DicomSeries``, and its transform.
        output_dir: the folder that ``postprocessing`` and ``val_handlers`` write to.
        postprocessing: its ``SaveSegmentationd`` names the results.
        val_handlers: previews of a ``PreviewSaver`` among them are results too.
        overwrite: segment finished cases again. On a command line, ``true`` or ``false``.
        agreement: scores each segmentation, by a column of ``cases.csv``; None for no score.
        load_ahead: load a case while the one before it is segmented, in a thread. None does so where the network is on
            a GPU: on a CPU the two compute on the same cores.
        dask: address of a Dask scheduler, whose workers segment the cases; None segments them here. A worker computes
            on its GPU, where it has one.
        others: as for ``monai.engines.SupervisedEvaluator``.

    Raises:
        ValueError: ``overwrite`` is not legal; when it runs, two images have one name for their results, or no
            scheduler answers.
        FileExistsError: when it runs, a result is there that no ``segmented_with.json`` tells of.
        OSError: when it runs, ``output_dir`` cannot be written to.
        RuntimeError: when it runs, another process owns ``output_dir``, or a worker cannot take part.
        CohortError: when it has run, in the first process: cases failed.
    """

    def __init__(
        self,
        dataset: Dataset,
        output_dir: str | Path,
        postprocessing: Compose,
        val_handlers: Sequence[Any] = (),
        overwrite: bool | str = False,
        agreement: TurnedAgreement | None = None,
        load_ahead: bool | str | None = None,
        dask: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            val_data_loader=range(len(dataset)), postprocessing=postprocessing, val_handlers=val_handlers, **kwargs
        )
        self.dataset = dataset
        self.output_dir = Path(output_dir).expanduser().absolute()
        self.settings: dict[str, Any] = fingerprint(  # before anything is used: what is in use changes
            preprocessing=dataset.transform,
            network=self.network,
            inferer=self.inferer,
            postprocessing=postprocessing,
        )
        self.overwrite = is_on("overwrite", overwrite)
        self.agreement = agreement or TurnedAgreement(0)
        self.dask = dask
        self.parts = {**kwargs, "postprocessing": postprocessing, "val_handlers": val_handlers}  # for its workers
        self.score: dict[str, float] = {}  # of the case at hand
        steps = [*postprocessing.transforms, *val_handlers]
        kinds = (SaveSegmentationd, SaveDicomSegd, PreviewSaver)
        self.writers: list[Any] = [step for step in steps if isinstance(step, kinds)]
        self.cases: dict[int, _Case] = {}
        self.records: dict[int, CaseRecord] = {}
        if load_ahead is None:
            self.load_ahead = next(self.network.parameters(), torch.empty(0)).device.type != "cpu"
        else:
            self.load_ahead = is_on("load_ahead", load_ahead)
        self.next_of: dict[int, int] = {}
        self.loader = ThreadPoolExecutor(1, "load")
        self.ahead: dict[int, Future[_Loaded]] = {}  # the case that is being loaded, where there is one
        bound_primitive_cache()
        self.owner = FolderLock(self.output_dir)
        self.add_event_handler(IterationEvents.FORWARD_COMPLETED, check_output)
        self.add_event_handler(IterationEvents.FORWARD_COMPLETED, self._measure_agreement)
        self.add_event_handler(Events.STARTED, self._deal_out)  # behind the handler that loads the weights

    def run(self, global_epoch: int = 1) -> None:  # type: ignore[override]
        """Segment the cases, and write ``cases.csv``."""
        if int(os.environ.get("WORLD_SIZE", 1)) > 1 and idist.get_world_size() == 1:
            raise RuntimeError(
                "Several processes were started with the config of one: each would segment all cases. Add the bundle's "
                "multi_gpu_inference.json to --config_file, behind inference.json."
            )
        if self.dask and idist.get_world_size() > 1:
            raise ValueError("--dask has processes of its own: give the command without torchrun.")
        self.state.epoch_length = len(self.dataset)
        self.records = {}
        with self.owner if idist.get_rank() == 0 else nullcontext():  # the first process owns the folder for all
            super().run(global_epoch)
            self._report()

    def _deal_out(self, engine: SupervisedEvaluator) -> None:
        self.cases = self._find_cases()
        self.settings["weights"] = checksum(self.network)
        with self._cluster() if self.dask else nullcontext() as cluster:  # whose former tasks have ended
            # What is finished, the first process decides for all: the others may already be writing when one looks.
            left: Any = idist.all_gather(self._cases_left() if idist.get_rank() == 0 else None)
            own = left[0][idist.get_rank() :: idist.get_world_size()]
            if cluster is not None:
                from equivariant_nets.inference.workers import segment_on_workers

                segment_on_workers(self, cluster, own)
                own = []
        self.next_of = dict(pairwise(own)) if self.load_ahead else {}
        engine.state.epoch_length = len(own)
        engine.set_data(own)

    def _cluster(self) -> Cluster:
        images = {str(case.files[0].parent) for case in list(self.cases.values())[:1]}
        return Cluster(str(self.dask), self.output_dir, [os.getcwd(), *images])

    def _find_cases(self) -> dict[int, _Case]:
        cases = {}
        for index, item in enumerate(self.dataset.data):
            image = item["image"]
            files = [str(image)] if isinstance(image, str | DicomSeries) else image
            meta = {"filename_or_obj": files[0], **({CHANNEL_FILES: files} if files is image else {})}
            left_out = image.left_out if isinstance(image, DicomSeries) else ""
            if isinstance(image, DicomSeries):
                meta[SERIES_FILES] = list(image.files)
            paths = [] if left_out else [writer.path_of(meta) for writer in self.writers]
            cases[index] = _Case([Path(file) for file in files], [path.absolute() for path in paths if path], left_out)
        written = {path for case in cases.values() for path in case.outputs}
        written |= {self.output_dir / SETTINGS_FILE, self.output_dir / CASES_FILE}
        roots = [writer.dataset_dir for writer in self.writers if isinstance(writer, SaveSegmentationd)]
        own_folder = {self.output_dir} if any(root in self.output_dir.parents for root in roots) else set()
        cases = {
            index: case
            for index, case in cases.items()
            if written.isdisjoint(_files_of(self.dataset.data[index])) and own_folder.isdisjoint(case.files[0].parents)
        }
        owners: dict[Path, Path] = {}
        for case in cases.values():
            for path in case.outputs:
                if (other := owners.setdefault(path, case.files[0])) != case.files[0]:
                    raise ValueError(
                        f"The results of {other} and {case.files[0]} would both be written to {path}. Rename one of "
                        "them, or choose images with --pattern."
                    )
        return cases

    def _cases_left(self) -> list[int]:
        """The cases to segment, of all processes; the others are recorded as finished."""
        self._write_settings()
        for index, case in self.cases.items():
            if case.left_out:
                self._record(index, LEFT_OUT, problem=case.left_out)
                self.logger.info(f"{case.files[0]} is left out: {case.left_out}.")
        cases = tqdm(self.cases, "compare with what is finished", unit="case", leave=False, delay=2)
        finished = [] if self.overwrite else [index for index in cases if self._is_finished(index)]
        for index in finished:
            former = self._read_record(index)
            score = {} if self._changed(index) else former.get("agreement")  # which is not that of a correction by hand
            self._record(index, FINISHED, warnings=former.get("warnings", ()), score=score)
        if finished:
            text = f"{len(finished)} of {len(self.cases)} cases are finished; --overwrite true segments them again."
            self.logger.info(text)
        return [index for index in self.cases if index not in self.records]

    def _write_settings(self) -> None:
        """Replace the file of settings where these are others, and say what differs."""
        path = self.output_dir / SETTINGS_FILE
        try:
            former = dict(json.loads(path.read_text(encoding="utf-8")))
        except (FileNotFoundError, NotADirectoryError):
            former = None
        except (TypeError, ValueError):
            former = {}
        if former is None and not self.overwrite:
            found = next((file for case in self.cases.values() for file in case.outputs if os.path.exists(file)), None)
            if found is not None:
                raise FileExistsError(
                    f"{found} exists, and no {SETTINGS_FILE} in {self.output_dir} says how it came about. Give another "
                    "--output_dir, or replace it with --overwrite true."
                )
        if former == self.settings:
            return
        if former is not None:
            changes = differences(former, self.settings)
            self.logger.warning(f"All cases in {self.output_dir} are segmented anew. What differs: {changes}.")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, self.settings, indent=4)
        except OSError as error:
            text = f"{self.output_dir} cannot be written to: give another --output_dir. ({error})"
            raise OSError(text) from error

    def _record_file(self, index: int) -> Path:
        case = self.cases[index]
        name = os.path.relpath((case.outputs or case.files)[0], self.output_dir)
        return self.output_dir / RECORDS / f"{digest(name)}.json"

    def _made_of(self, index: int) -> dict[str, str]:
        """What the results of a case are made of: the content of its files, all else in its item, and the settings."""
        return {"input": digest(fingerprint(item=self.dataset.data[index])), "settings": digest(self.settings)}

    def _is_finished(self, index: int) -> bool:
        outputs = self.cases[index].outputs
        try:
            if not outputs or not all(path.is_file() for path in outputs):
                return False
            record = self._read_record(index)
            if any(record.get(name) != content for name, content in self._made_of(index).items()):
                return False
        except OSError:  # a name that is too long, an image that is gone: the case itself will tell
            return False
        changed = self._changed(index)
        damaged = [path for path in changed if not is_readable(path)]
        for path in damaged:
            self.logger.warning(f"{path} is damaged, and is made again.")
        # A score that lacks is made with its segmentation, but not in place of one that was corrected by hand.
        has_score = self.agreement.num_turns in (0, record.get("agreement", {}).get("num_turns"))
        return not damaged and (has_score or bool(changed))

    def _read_record(self, index: int) -> dict[str, Any]:
        try:
            return dict(json.loads(self._record_file(index).read_text(encoding="utf-8")))
        except (FileNotFoundError, TypeError, ValueError):
            return {}

    def _changed(self, index: int) -> list[Path]:
        """The results of a case that are no longer as they were written: edited by hand, or damaged."""
        written = self._read_record(index).get("results", {})
        outputs = [path for path in self.cases[index].outputs if path.name in written and path.is_file()]
        return [path for path in outputs if content_of(path) != written[path.name]]

    def _put_aside(self, paths: Iterable[Path], why: str) -> None:
        """Keep files whose place another result takes, or none; but not what is damaged."""
        for path in paths:
            if path.is_file() and not is_readable(path):
                path.unlink()
            elif path.is_file():
                kept = self.output_dir / PREVIOUS / os.path.relpath(path, self.output_dir)
                kept.parent.mkdir(parents=True, exist_ok=True)
                path.replace(kept)
                self.logger.warning(f"{path} {why}, and is kept as {kept}.")

    def _iteration(self, engine: Any, index: Any) -> Any:
        start = time.perf_counter()
        problem, self.score = "", {}
        warnings: list[str] = []
        self.keep_folder()
        try:
            warnings, made_of, engine.state.batch, error = self._take(index)
            record = self._record_file(index)
            self._put_aside(self._changed(index), "was edited by hand")
            record.unlink(missing_ok=True)
            if error is not None:
                raise error
            output: Any = super()._iteration(engine, engine.state.batch)
            record.parent.mkdir(parents=True, exist_ok=True)
            results = {path.name: content_of(path) for path in self.cases[index].outputs}
            write_json(record, {**made_of, "results": results, "warnings": warnings, "agreement": self.score})
        except Exception as error:  # of a reader, a transform, the network, the memory or the disk
            problem = " ".join(find_cause(error).text.split())
            self.logger.error(f"{self.cases[index].files[0]} failed. {problem}")
            with suppress(OSError):  # a name that is too long, a disk that is full: what lies there stays
                self._put_aside(self.cases[index].outputs, "is the result of an earlier run")
            engine.state.batch, output = None, []
        if problem and torch.cuda.is_available():
            torch.cuda.empty_cache()
        seconds = time.perf_counter() - start
        self._record(index, FAILED if problem else SEGMENTED, seconds, problem, warnings, {} if problem else self.score)
        return output

    def _take(self, index: int) -> _Loaded:
        """A case, loaded; from now on its successor is, where cases are loaded ahead."""
        loading = self.ahead.pop(index, None)
        loaded = self._load(index) if loading is None else loading.result()
        if (following := self.next_of.get(index)) is not None:
            self.ahead[following] = self.loader.submit(self._load, following)
        return loaded

    def _load(self, index: int) -> _Loaded:
        with collected_warnings() as warnings:
            try:
                made_of = self._made_of(index)  # before it is read: what is replaced meanwhile is another input
                return _Loaded(warnings, made_of, list_data_collate([self.dataset[index]]), None)
            except Exception as error:  # which is that of its case
                return _Loaded(warnings, {}, None, error)

    def keep_folder(self) -> None:
        """Own what is in the place of the output folder, where somebody removed that."""
        if idist.get_rank() == 0 and self.owner.is_lost:
            self.owner.renew()
            write_json(self.output_dir / SETTINGS_FILE, self.settings, indent=4)

    def record_failure(self, index: int, problem: str) -> None:
        """List a case as failed."""
        self.logger.error(f"{self.cases[index].files[0]} failed. {problem}")
        self._record(index, FAILED, problem=problem)

    def _measure_agreement(self, engine: Any) -> None:
        if not self.agreement.num_turns:
            return

        def predict(image: torch.Tensor) -> torch.Tensor:
            with torch.autocast("cuda", enabled=self.amp):
                return self.inferer(image, self.network)

        image, output = (engine.state.output[key] for key in (CommonKeys.IMAGE, CommonKeys.PRED))
        with self.mode(self.network):
            value = self.agreement(image, output, predict)
        self.score = {"num_turns": self.agreement.num_turns, "value": round(value, 4)}

    def _record(
        self,
        index: int,
        status: str,
        seconds: float = 0.0,
        problem: str = "",
        warnings: Sequence[str] = (),
        score: Mapping[str, float] | None = None,
    ) -> None:
        case = self.cases[index]
        segmentation = str(case.outputs[0]) if case.outputs and status != FAILED else ""
        weights = weights_name(getattr(self.state, "weights", None))
        agreement = str((score or {}).get("value", ""))
        self.records[index] = CaseRecord(
            str(case.files[0]), segmentation, status, round(seconds, 3), problem, weights, " ".join(warnings), agreement
        )

    def _report(self) -> None:
        shares: Any = idist.all_gather(self.records)
        if idist.get_rank() != 0:
            return
        found = {index: record for share in shares for index, record in share.items()}
        rows = [self._checked(index, found[index]) for index in sorted(found)]
        table, text = self.output_dir / CASES_FILE, io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([CaseRecord._fields, *rows])
        listing = f"See {table}."
        try:
            if not (self.output_dir / SETTINGS_FILE).is_file():  # removed with the folder
                write_json(self.output_dir / SETTINGS_FILE, self.settings, indent=4)
            write_text(table, text.getvalue())
        except OSError as error:
            if not any(row.status == FAILED for row in rows):
                raise
            listing = f"{error}"
        statuses = (SEGMENTED, FINISHED, FAILED, LEFT_OUT)
        counts = {status: sum(row.status == status for row in rows) for status in statuses}
        summary = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
        self.logger.info(f"{summary}. The results lie in {self.output_dir}, and {CASES_FILE} lists them.")
        if failed := [row for row in rows if row.status == FAILED]:
            listed = "".join(f"\n  {row.image}: {row.problem}" for row in failed[:_MAX_LISTED])
            rest = f"\n  ... and {len(failed) - _MAX_LISTED} more" if len(failed) > _MAX_LISTED else ""
            others = ", the others are segmented" if len(failed) < len(rows) else ""
            raise CohortError(f"{len(failed)} of {len(rows)} cases failed{others}. {listing}{listed}{rest}")

    def _checked(self, index: int, record: CaseRecord) -> CaseRecord:
        """A record of a case; failed, where its results were removed since."""
        missing = [path for path in self.cases[index].outputs if not path.is_file()] if record.status != FAILED else []
        if not missing:
            return record
        problem = f"{missing[0]} was removed while this command ran. Give the command again, which makes it anew."
        return record._replace(segmentation="", status=FAILED, problem=problem)


def _files_of(item: Mapping[str, Any]) -> list[Path]:
    image = item["image"]
    files = image.files if isinstance(image, DicomSeries) else [image] if isinstance(image, str) else image
    return [Path(file) for file in files]
