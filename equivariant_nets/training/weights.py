"""The weights that a bundle's evaluation and inference use: where they lie, and what logs and tables call them."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from ignite import distributed as idist
from ignite.engine import Engine, Events
from ignite.handlers import Checkpoint
from torch import Tensor, nn

from equivariant_nets.errors import shortened
from equivariant_nets.fingerprints import content_of
from equivariant_nets.networks.steerable import Convolution
from equivariant_nets.training.checkpoints import UNREADABLE, read_weights
from equivariant_nets.training.resume import FILE_NAME as TRAINING_STATE
from equivariant_nets.training.resume import PREVIOUS_FILE_NAME as PREVIOUS_TRAINING_STATE

__all__ = [
    "IN_MEMORY",
    "CheckpointLoader",
    "InitialWeights",
    "WeightsLoader",
    "WeightsPath",
    "load_weights",
    "weights_name",
]

FILE_NAME = "model.pt"
_FIRST_BLOCK = "encoders.0."  # whose convolutions, the shortcut's too, may see the image
IN_MEMORY = "in memory"  # stands in the tables of a network whose weights come from no file

_logger = logging.getLogger(__name__)


class WeightsPath(os.PathLike[str]):
    """The file of weights to evaluate and infer with, looked for when it is first opened.

    These are the weights in ``ckpt_dir``, where that is given. If not, they are those that a training left in
    ``output_dir``, and where there was none, those that the bundle ships, ``models/model.pt``. The weights of one
    training never stand in for those of another: a folder that was given and holds none is an error, and so is a
    training that ended before its first validation.

    Args:
        bundle_root: folder of the bundle.
        output_dir: folder of the results, which may be that of a training.
        ckpt_dir: folder of the weights, or None.

    Raises:
        FileNotFoundError: when it is opened, and there are no such weights.

    Example:
        >>> import os
        >>> from equivariant_nets.training.weights import WeightsPath
        >>> os.fspath(WeightsPath("bundle", output_dir="output", ckpt_dir="nowhere"))
        Traceback (most recent call last):
        FileNotFoundError: ckpt_dir nowhere holds no model.pt. Give the folder of a training, or --ckpt_path FILE.
    """

    def __init__(self, bundle_root: str | Path, output_dir: str | Path, ckpt_dir: str | Path | None = None) -> None:
        self.bundle_root = bundle_root
        self.output_dir = output_dir
        self.ckpt_dir = ckpt_dir

    def __fspath__(self) -> str:
        return self._path

    @cached_property
    def _path(self) -> str:
        folder = self.output_dir if self.ckpt_dir is None else self.ckpt_dir
        own = os.path.join(folder, FILE_NAME)
        if os.path.isfile(own) and _has_validated(folder):
            return own
        if os.path.isfile(own) or os.path.isfile(os.path.join(folder, TRAINING_STATE)):
            raise FileNotFoundError(
                f"The training in {folder} has not reached its first validation, and left no weights of its own. Go on "
                "with it by --resume True, or give --ckpt_path FILE."
            )
        if self.ckpt_dir is not None:
            raise FileNotFoundError(
                f"ckpt_dir {folder} holds no {FILE_NAME}. Give the folder of a training, or --ckpt_path FILE."
            )
        shipped = _shipped(self.bundle_root)
        if not os.path.isfile(shipped):
            raise FileNotFoundError(
                f"There are no weights: {folder} holds no training, and the bundle has no {shipped}. Train it as its "
                "docs/README.md says, and give --ckpt_dir with the folder of the training, or --ckpt_path FILE."
            )
        return shipped


def load_weights(
    network: nn.Module,
    path: str | os.PathLike[str],
    bundle_root: str | Path,
    device: torch.device | str = "cpu",
    option: str = "--ckpt_path",
    fit: Callable[[nn.Module, Mapping[str, Tensor]], Mapping[str, Tensor]] | None = None,
) -> str:
    """Load weights into a network, and log which.

    Args:
        network: receives them.
        path: a state dict, or one under the key ``model``.
        bundle_root: folder of the bundle, whose own weights the log tells from others.
        device: where the file is read to.
        option: of the command line, which errors ask for other weights by.
        fit: makes the weights of the network of those in the file.

    Returns:
        the path.

    Raises:
        FileNotFoundError: there is no such file.
        RuntimeError: the weights are those of another network.
        ValueError: the file is damaged, or holds something else, or values that are not finite.
    """
    path = os.fspath(path)
    content = read_weights(path, device, option)
    weights = content.get("model", content)
    if fit is not None and isinstance(weights, Mapping):
        content = {"model": fit(network, weights)}
    try:
        Checkpoint.load_objects({"model": network}, content)
    except (RuntimeError, TypeError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise RuntimeError(
            f"{path} holds the weights of another network. Give the options that it was trained with, or other weights "
            f"by {option}. ({shortened(str(error))})"
        ) from error
    if idist.get_rank() == 0:
        _logger.info(f"Weights: {path} ({_origin(path, bundle_root)})")
    return path


def weights_name(path: str | os.PathLike[str] | None) -> str:
    """What tables call the weights of a file: its path, and the start of its checksum while it is there.

    ``in memory`` without a file.
    """
    if path is None:
        return IN_MEMORY
    return f"{os.fspath(path)} {content_of(path)[:15]}" if os.path.isfile(path) else os.fspath(path)


def _has_validated(folder: str | Path) -> bool:
    """Whether the last training in a folder, if any, has chosen weights: what lies there else is of an earlier one."""
    path = os.path.join(folder, TRAINING_STATE)
    if not os.path.isfile(path):
        return not os.path.isfile(os.path.join(folder, PREVIOUS_TRAINING_STATE))
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return any(handler.get("_saved") for handler in state["handlers"])
    except UNREADABLE:
        return True  # damaged, or no state of a training: nothing is known against the weights beside it


def _shipped(bundle_root: str | Path) -> str:
    return os.path.join(bundle_root, "models", FILE_NAME)


def _origin(path: str, bundle_root: str | Path) -> str:
    if os.path.realpath(path) == os.path.realpath(_shipped(bundle_root)):
        return "the bundle's own"
    folder = os.path.dirname(path) or os.curdir
    if os.path.isfile(os.path.join(folder, TRAINING_STATE)):
        return f"trained in {folder}"
    return "not the bundle's own"


class WeightsLoader:
    """Load weights into a network when an engine starts, say in the log which, and in ``engine.state.weights``.

    Args:
        load_path: the file; a :class:`equivariant_nets.training.weights.WeightsPath` finds it then.
        network: receives them.
        bundle_root: folder of the bundle, whose own weights the log tells from others.
        device: where the file is read to.

    Raises:
        FileNotFoundError: when the engine starts, there is no such file.
        RuntimeError: when the engine starts, the weights are those of another network.
        ValueError: when the engine starts, the file is damaged, or holds something else, or values that are not finite.
    """

    def __init__(
        self,
        load_path: str | os.PathLike[str],
        network: torch.nn.Module,
        bundle_root: str | Path,
        device: torch.device | str = "cpu",
    ) -> None:
        self.load_path = load_path
        self.network = network
        self.bundle_root = bundle_root
        self.device = device

    def attach(self, engine: Engine) -> None:
        """Register with an engine, as ignite's handlers do."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        state: Any = engine.state
        state.weights = load_weights(self.network, self.load_path, self.bundle_root, self.device)


class CheckpointLoader(WeightsLoader):
    """:class:`WeightsLoader` by the name at which MONAI's federated client leaves a loader out.

    A site evaluates the weights that the server sends, which a loader would replace.
    """


class InitialWeights(WeightsLoader):
    """Start a training from weights: those of the network, or of one that sees only the first of its channels.

    The latter is for steerable networks that are equal but for the channels of their input, such as clicks. These then
    change nothing until the training learns what they mean: on images that are prepared alike, the network begins with
    the outputs of the other. Put it before :class:`equivariant_nets.training.resume.TrainingState`: a training that is
    resumed goes on from its own weights, if it started from these. A second run of the engine goes on from its first.

    Args:
        load_path: the file.
        network: receives them.
        bundle_root: folder of the bundle, whose own weights the log tells from others.
        save_dir: the folder that the training writes its weights to.
        device: where the file is read to.

    Raises:
        FileNotFoundError: when the engine starts, there is no such file.
        RuntimeError: when the engine starts, the weights are those of another network.
        ValueError: when the engine starts, the file is damaged, or holds something else, or values that are not finite,
            or the training would write over it.
    """

    def __init__(
        self,
        load_path: str | os.PathLike[str],
        network: nn.Module,
        bundle_root: str | Path,
        save_dir: str | Path,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(load_path, network, bundle_root, device)
        self.save_dir = save_dir
        self.has_started = False

    def __call__(self, engine: Engine) -> None:
        if self.has_started:
            return
        path = os.fspath(self.load_path)
        if os.path.realpath(path) == os.path.realpath(os.path.join(self.save_dir, FILE_NAME)):
            raise ValueError(
                f"--initial_weights {path} is the file that this training writes its own weights to, so that "
                "it could not be resumed. Give a copy of it, or another --ckpt_dir or --output_dir."
            )
        load_weights(self.network, path, self.bundle_root, self.device, "--initial_weights", _widened)
        state: Any = engine.state
        state.initial_weights = content_of(path)
        self.has_started = True


def _widened(network: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights whose first convolutions take the channels of an image that the network has and they have not."""
    network = network.module if isinstance(network, nn.parallel.DistributedDataParallel) else network
    irreps_in, result = getattr(network, "irreps_in", None), dict(weights)
    for name, module in network.named_modules():
        weight = weights.get(f"{name}.weight")
        if not isinstance(module, Convolution) or not isinstance(weight, Tensor):
            continue
        if name.startswith(_FIRST_BLOCK) and module.irreps_in == irreps_in and (fewer := module.fewer_channels(weight)):
            result[f"{name}.weight"] = module.widened(weight)
            _logger.info(f"Of the input, {irreps_in}, the weights know {fewer}; the others begin at 0.")
    return result
