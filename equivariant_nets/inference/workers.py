"""The cases of a cohort on the workers of a Dask cluster: each is a task, and each worker has the network once."""

from __future__ import annotations

import copy
import os
import pickle
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import cloudpickle
import torch
from ignite.handlers import ProgressBar
from monai.data import Dataset
from monai.engines import SupervisedEvaluator
from monai.utils import set_determinism
from tqdm import tqdm

from equivariant_nets.cluster import Cluster, TaskError
from equivariant_nets.inference.cohort import CaseRecord, CohortEvaluator
from equivariant_nets.training.weights import WeightsLoader

__all__ = ["segment_on_workers"]

_here = threading.local()  # of a worker: what its thread segments with


def segment_on_workers(evaluator: CohortEvaluator, cluster: Cluster, indices: Sequence[int]) -> None:
    """Segment cases of an evaluator that has its weights, and record them in it.

    Args:
        evaluator: owns the output folder.
        cluster: the workers.
        indices: of the cases.

    Raises:
        RuntimeError: the scheduler is gone.
    """
    tasks = {index: (evaluator.dataset.data[index], evaluator.cases[index]) for index in indices}
    outcomes = cluster.outcomes(_segment, tasks, shared=_packed(evaluator))
    for index, outcome in tqdm(outcomes, total=len(tasks), desc="segment", unit="case"):
        evaluator.keep_folder()
        if isinstance(outcome, TaskError):
            evaluator.record_failure(index, " ".join(str(outcome).split()))
        else:
            evaluator.records[index] = outcome


def _packed(evaluator: CohortEvaluator) -> bytes:
    """What a worker needs to segment as an evaluator does, wherever it runs."""
    handlers = [
        handler for handler in evaluator.parts["val_handlers"] if not isinstance(handler, ProgressBar | WeightsLoader)
    ]
    parts = {
        **evaluator.parts,
        "network": copy.deepcopy(evaluator.network).cpu(),
        "device": None,  # is the worker's own
        "amp": evaluator.amp or torch.device(evaluator.parts["device"]).type == "cpu",
        "val_handlers": handlers,
        "preprocessing": evaluator.dataset.transform,
        "agreement": evaluator.agreement,
        "output_dir": evaluator.output_dir,
    }
    weights = getattr(evaluator.state, "weights", None)
    return bytes(cloudpickle.dumps((os.getcwd(), parts, evaluator.settings, weights)))


def _segment(packed: bytes, item: Mapping[str, Any], case: Any) -> CaseRecord:
    """One case, on a worker."""
    if getattr(_here, "packed", None) != packed:
        _here.evaluator, _here.packed = _CaseEvaluator(packed), packed
    return _here.evaluator.segment(item, case)


class _CaseEvaluator(CohortEvaluator):
    """Segments one case after another, in a folder that another process owns."""

    def __init__(self, packed: bytes) -> None:
        folder, parts, settings, weights = pickle.loads(packed)
        os.chdir(folder)  # of the command, whose paths may be relative
        set_determinism(seed=0)
        device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
        parts |= {
            "network": parts["network"].to(device),
            "device": device,
            "amp": parts["amp"] and device.type == "cuda",
        }
        super().__init__(Dataset([], parts.pop("preprocessing")), **parts)
        self.settings = settings
        self.state.weights = weights

    def segment(self, item: Mapping[str, Any], case: Any) -> CaseRecord:
        self.dataset.data, self.cases = [item], {0: case}
        self.state.epoch_length = 1
        SupervisedEvaluator.run(self)
        return self.records.pop(0)

    def keep_folder(self) -> None:
        """The owner does."""

    def _deal_out(self, engine: SupervisedEvaluator) -> None:
        engine.set_data([0])
