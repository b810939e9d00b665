"""Trainings that were stopped, and go on as if they had not been."""

from __future__ import annotations

import random
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite import distributed as idist
from ignite.engine import Events
from ignite.handlers import Checkpoint
from monai.engines import SupervisedTrainer, Workflow
from monai.handlers import CheckpointSaver, EarlyStopHandler, ValidationHandler
from monai.transforms import Randomizable, Transform
from monai.utils import CommonKeys, get_seed
from torch import nn
from torch.utils.data import Dataset

from equivariant_nets.fingerprints import Fingerprint, differences, fingerprint
from equivariant_nets.ownership import FolderLock
from equivariant_nets.settings import is_on
from equivariant_nets.training.checkpoints import UNREADABLE, check_weights, is_kept, save

__all__ = ["TrainingState"]

FILE_NAME = "training_state.pt"
PREVIOUS_FILE_NAME = "training_state_previous.pt"
KEYS = (
    "fingerprint", "network", "optimizer", "lr_scheduler", "scaler", "epoch", "stopped", "engines", "handlers",
    "random",
)  # fmt: skip


class _LostError(Exception):
    """The best weights of a finished training are gone."""


class TrainingState:
    """Write the state of a training after each epoch, and resume it: on a CPU, with the result of one that never ended.

    The file ``training_state.pt`` holds the network, the optimizer and its schedule, the epoch, the best metric, what
    decides about the best checkpoint and about early stopping, and all random states: of Python, NumPy and torch, and
    of the transforms of the training data, for each process of a distributed training. It is replaced at once or not
    at all, and stays when the training has ended, so that resuming a finished training does nothing. A training that
    starts anew renames the file of an earlier one to ``training_state_previous.pt``, and keeps a copy of its best
    checkpoint under a name that ends alike.

    So that an epoch depends on nothing that is not in the file, each begins a new pass over the training data, also
    where ``epoch_length`` ended the last one early. Workers that outlive an epoch (``persistent_workers``) keep random
    states of their own, and a GPU adds in an order of its own: such a training goes on, but not bit by bit.

    The file also holds the :func:`equivariant_nets.fingerprints.fingerprint` of all that decides what is learned:
    network, loss, optimizer with what acts before its steps, schedule, data with its transforms and order, inferer,
    epochs and their length, seed, number of processes, validation and early stopping. What is resumed must have the
    same; the error says what differs.

    One process at a time owns the folder, or the processes of one distributed training. A training that diverged ends
    with an error, and is not saved. Where the file of the best weights is missing or damaged, a resumed training writes
    it again if they are those of the last epoch; if not, the next validation does; where none follows, it is an error.

    Put it behind the handlers that validate and set the learning rate, and on each process.

    Args:
        save_dir: the folder of the file, which all processes see.
        resume: go on from the file; where there is none, start from the beginning. On a command line, ``true`` or
            ``false``.
        lr_scheduler: of the trainer's optimizer.
        validator: the engine that finds the best metric.
        val_handlers: its handlers, of which ``CheckpointSaver`` and ``EarlyStopHandler`` have a state.

    Raises:
        ValueError: ``resume`` is not legal; when the training resumes, the file is damaged, or belongs to a training
            with another fingerprint, or the best weights of a training that has ended are lost; when an epoch ends,
            a weight or the loss is not finite.
        RuntimeError: when the training starts, another process owns the folder.
    """

    def __init__(
        self,
        save_dir: str | Path,
        resume: bool | str,
        lr_scheduler: torch.optim.lr_scheduler.LRScheduler,
        validator: Workflow,
        val_handlers: Sequence[Any],
    ) -> None:
        self.path = Path(save_dir) / FILE_NAME
        self.resume = is_on("resume", resume)
        self.lr_scheduler = lr_scheduler
        self.validator = validator
        self.val_handlers = val_handlers
        self.fingerprint: Fingerprint = {}  # of the training that runs
        self.owner = FolderLock(save_dir)
        self._owns = False

    def attach(self, engine: SupervisedTrainer) -> None:
        """Register with a trainer, as ignite's handlers do, and let early stopping stop it."""
        for handler in self.val_handlers:
            if isinstance(handler, EarlyStopHandler):
                handler.set_trainer(engine)
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.EPOCH_STARTED, self.start_pass)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.save)
        engine.add_event_handler(Events.COMPLETED, self.complete)

    def start(self, engine: SupervisedTrainer) -> None:
        """Put the trainer where the file says; without ``resume``, put the file of an earlier training aside."""
        if idist.get_rank() == 0 and not self._owns:  # until it is completed, or this process or this object ends
            self.owner.acquire()
            self._owns = True
        if engine.state.epoch > 0:  # a later run of the same trainer
            return
        # Of the first process, for the others have other handlers; before anything is used, and so changes.
        found: Any = idist.all_gather(self._fingerprint(engine) if idist.get_rank() == 0 else None)
        self.fingerprint = found[0]
        if self.resume and self.path.is_file():
            self._load(engine)
        elif self.resume:
            engine.logger.info(f"There is no {self.path} to resume: the training starts from the beginning.")
        elif self.path.is_file() and idist.get_rank() == 0:
            kept = [self.path.replace(self.path.with_name(PREVIOUS_FILE_NAME))]
            for path in self._checkpoints():  # which others, such as a server, may be reading
                kept.append(path.with_stem(f"{path.stem}_previous"))
                shutil.copyfile(path, kept[-1])
            engine.logger.info(f"A new training starts. What an earlier one left is now {', '.join(map(str, kept))}.")

    def complete(self, engine: SupervisedTrainer) -> None:
        """Give the folder up to other processes."""
        if self._owns:
            self.owner.release()
            self._owns = False

    def start_pass(self, engine: SupervisedTrainer) -> None:
        """Begin a pass over the training data."""
        engine.set_data(engine.data_loader)

    def save(self, engine: SupervisedTrainer) -> None:
        """Replace the file by the present state."""
        check_weights(_unwrapped(engine.network).state_dict(), self.path)
        _check_loss(engine)
        random_of_processes = idist.all_gather(_random_state(engine))
        if idist.get_rank() != 0:
            return
        state = {
            "fingerprint": {**self.fingerprint, "epochs": engine.state.max_epochs},
            "network": _unwrapped(engine.network).state_dict(),
            "optimizer": engine.optimizer.state_dict(),
            "lr_scheduler": self.lr_scheduler.state_dict(),
            "scaler": engine.scaler.state_dict() if engine.scaler else None,
            "epoch": engine.state.epoch,
            "stopped": bool(engine.should_terminate),
            "engines": [_best_metric(workflow) for workflow in (engine, self.validator)],
            "handlers": [dict(item.state_dict()) for item in self._items_with_state()],
            "random": random_of_processes,
        }
        save(state, self.path)

    def _load(self, engine: SupervisedTrainer) -> None:
        state = self._read()
        if changes := differences(state["fingerprint"], self.fingerprint):
            raise ValueError(
                f"{self.path} was written by another training: {changes}. Resume with the data and settings of before, "
                "or delete the file to start again."
            )
        try:
            _unwrapped(engine.network).load_state_dict(state["network"])
            engine.optimizer.load_state_dict(state["optimizer"])
            self.lr_scheduler.load_state_dict(state["lr_scheduler"])
            if engine.scaler and state["scaler"]:
                engine.scaler.load_state_dict(state["scaler"])
            for workflow, best in zip((engine, self.validator), state["engines"], strict=True):
                workflow.state.best_metric, workflow.state.best_metric_epoch = best
            for item, values in zip(self._items_with_state(), state["handlers"], strict=True):
                if not isinstance(item, Checkpoint) or self._has_best(engine, item, values["_saved"], state):
                    item.load_state_dict(values)
            _set_random_state(engine, state["random"][idist.get_rank()])
        except _LostError as error:
            raise ValueError(str(error)) from None
        except (LookupError, RuntimeError, ValueError) as error:
            raise ValueError(
                f"{self.path} belongs to a training of another network or with other handlers or transforms. Give the "
                f"same bundle and overrides as when it was written, or delete it to start again. ({error})"
            ) from error
        engine.state.epoch = state["epoch"]
        engine.state.iteration = state["epoch"] * engine.state.epoch_length
        if state["stopped"]:
            engine.terminate()
        engine.logger.info(f"Resumed after {state['epoch']} of {engine.state.max_epochs} epochs, from {self.path}.")

    def _has_best(
        self, engine: SupervisedTrainer, checkpoint: Checkpoint, saved: Sequence[tuple[float, str]], state: dict
    ) -> bool:
        """Whether the best weights are there, or could be written again from the state."""
        lost = [name for _, name in saved if not is_kept(checkpoint, name)]
        if not lost:
            return True
        saver: Any = checkpoint.save_handler
        path = saver.dirname / (getattr(saver, "filename", None) or lost[0])
        (_, best), epoch = state["engines"][1], state["epoch"]
        if best == epoch and [_unwrapped(item) for item in checkpoint.to_save.values()] == [_unwrapped(engine.network)]:
            if idist.get_rank() == 0:
                save(state["network"], path)
            engine.logger.warning(f"{path} was missing or damaged, and is written again from {self.path}.")
            return True
        what = f"{path}, the best weights, of epoch {best}, is missing or damaged"
        if state["stopped"] or epoch >= (engine.state.max_epochs or 0):
            raise _LostError(
                f"{what}, and this training has ended: {self.path} holds those of epoch {epoch} alone. Put a copy of "
                f"{path.name} back, or delete {self.path} to train again."
            )
        engine.logger.warning(f"{what}. The next validation writes it anew, whether its metric is better or not.")
        return False

    def _read(self) -> dict[str, Any]:
        problem: Exception | None = None
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
        except UNREADABLE as error:
            state, problem = None, error
        if not isinstance(state, dict) or set(state) != set(KEYS):
            raise ValueError(
                f"{self.path} is damaged, or not the state of a training. Delete it to start again from the beginning."
            ) from problem
        return state

    def _fingerprint(self, engine: SupervisedTrainer) -> Fingerprint:
        """What decides about the result of a training."""
        validator: Any = self.validator
        loader: Any = engine.data_loader
        start = getattr(engine.state, "initial_weights", None)
        return fingerprint(
            **({} if start is None else {"initial_weights": start}),
            seed=get_seed(),
            processes=idist.get_world_size(),
            epochs=engine.state.max_epochs,
            epoch_length=engine.state.epoch_length,
            network=_unwrapped(engine.network),
            loss=engine.loss_function,
            optimizer=engine.optimizer,
            lr_scheduler=self.lr_scheduler,
            data=loader.dataset,
            order=loader.batch_sampler,
            inferer=engine.inferer,
            iteration=engine._process_function,
            validation={
                "intervals": [handler.interval for handler in _handlers(engine, ValidationHandler)],
                "data": validator.data_loader.dataset,
                "inferer": validator.inferer,
                "early_stopping": [item for item in self.val_handlers if isinstance(item, EarlyStopHandler)],
            },
        )

    def _checkpoints(self) -> list[Path]:
        """The files of the best weights that are there."""
        savers: list[Any] = [item.save_handler for item in self._items_with_state() if isinstance(item, Checkpoint)]
        paths = [Path(saver.dirname, saver.filename) for saver in savers if saver.filename]
        return [path for path in paths if path.is_file()]

    def _items_with_state(self) -> list[Any]:
        """What the validator's handlers keep between epochs: ignite's checkpoint and early stopping within MONAI's."""
        savers = [handler for handler in self.val_handlers if isinstance(handler, CheckpointSaver)]
        stoppers = [handler for handler in self.val_handlers if isinstance(handler, EarlyStopHandler)]
        items = [saver._key_metric_checkpoint for saver in savers] + [stopper._handler for stopper in stoppers]
        return [item for item in items if item is not None]


def _unwrapped(network: nn.Module) -> nn.Module:
    """The network inside what MONAI puts around it for several processes, and for ``torch.compile``."""
    network = getattr(network, "_orig_mod", network)
    return network.module if isinstance(network, nn.parallel.DistributedDataParallel) else network


def _dataset(engine: SupervisedTrainer) -> Any:
    loader: Any = engine.data_loader
    return loader.dataset


def _handlers(engine: Any, kind: type) -> list[Any]:
    """The handlers of one kind that an engine calls, also at every n-th event alone, where ignite wraps them."""
    called = [handler for handlers in engine._event_handlers.values() for handler, *_ in handlers]
    unwrapped = [handler._parent() if hasattr(handler, "_parent") else handler for handler in called]
    return [handler for handler in unwrapped if isinstance(handler, kind)]


def _best_metric(workflow: Workflow) -> tuple[float, int]:
    return float(workflow.state.best_metric), int(workflow.state.best_metric_epoch)


def _check_loss(engine: SupervisedTrainer) -> None:
    """Refuse what follows a loss that is not finite; with a scaler of gradients, which leaves such steps out, go on."""
    output: Any = engine.state.output
    losses = [item.get(CommonKeys.LOSS) for item in (output if isinstance(output, list) else [output])]
    if engine.scaler is None and not all(torch.as_tensor(loss).isfinite().all() for loss in losses if loss is not None):
        raise ValueError(
            f"The training diverged: the loss is no longer finite in epoch {engine.state.epoch}. Train again with a "
            "smaller --learning_rate."
        )


def _random_states(dataset: Any) -> list[np.random.RandomState]:
    """Those that a data set and its transforms draw from, each once, in a fixed order."""
    found: dict[int, np.random.RandomState] = {}
    seen: set[int] = set()
    waiting = [dataset]
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, Randomizable):
            found[id(node.R)] = node.R
        if isinstance(node, dict):
            waiting += node.values()
        elif isinstance(node, list | tuple):
            waiting += node
        elif isinstance(node, Dataset | Transform | Randomizable):
            waiting += vars(node).values()
    return list(found.values())


def _numpy_state(state: Any) -> tuple[Any, ...]:
    """A state of NumPy without arrays and unsigned numbers, as torch reads it safely and sends it."""
    name, key, *rest = state
    return name, torch.from_numpy(key.astype(np.int64)), *rest


def _random_state(engine: SupervisedTrainer) -> dict[str, Any]:
    device = engine.state.device
    return {
        "python": random.getstate(),
        "numpy": _numpy_state(np.random.get_state()),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "transforms": [_numpy_state(state.get_state()) for state in _random_states(_dataset(engine))],
    }


def _set_random_state(engine: SupervisedTrainer, state: Mapping[str, Any]) -> None:
    def as_numpy(values: tuple[Any, ...]) -> tuple[Any, ...]:
        name, key, *rest = values
        return name, key.numpy().astype(np.uint32), *rest

    for item, values in zip(_random_states(_dataset(engine)), state["transforms"], strict=True):
        item.set_state(as_numpy(values))
    random.setstate(state["python"])
    np.random.set_state(as_numpy(state["numpy"]))
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and engine.state.device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], engine.state.device)
