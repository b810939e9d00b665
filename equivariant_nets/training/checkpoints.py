"""Files of weights: written whole or not at all, of finite values, and read with an error that says what to do."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import monai.handlers
import torch
from ignite import distributed as idist
from ignite.engine import Engine
from ignite.handlers import Checkpoint, DiskSaver
from monai.engines import IterationEvents

from equivariant_nets.files import replace_file
from equivariant_nets.training.finite import check_output, not_finite

__all__ = ["UNREADABLE", "CheckpointSaver", "read_weights", "save"]

# What torch.load raises at files that are torn, empty, no archive, or of what it refuses to build.
UNREADABLE = (
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
)


def save(content: Any, path: str | Path) -> None:
    """``torch.save`` to a file that is there whole and on the disk, or as it was; see :func:`replace_file`.

    Raises:
        OSError: the file cannot be written.
    """
    buffer = io.BytesIO()  # torch tells of a full disk in words of its own, without the file
    torch.save(content, buffer)
    with replace_file(path) as unfinished:
        unfinished.write_bytes(buffer.getbuffer())


def read_weights(path: str | Path, device: torch.device | str = "cpu", option: str = "--ckpt_path") -> dict[str, Any]:
    """Read a state dict, or one under the key ``model``, and nothing that runs code.

    Args:
        path: the file.
        device: where it is read to.
        option: of the command line, which errors ask for other weights by.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or holds something else, or values that are not finite.
    """
    if Path(path).is_dir():
        raise FileNotFoundError(f"The weights {path} are a folder. Give {option} with a file in it, such as model.pt.")
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"The weights {path} do not exist. Give {option} with a file of weights"
            + (", or --ckpt_dir with the folder of a training." if option == "--ckpt_path" else ".")
        )
    advice = f"Give {option} with a file such as model.pt, which a training writes."
    try:
        is_whole = _has_its_sums(path)
        content = torch.load(path, map_location=device, weights_only=True)
    except UNREADABLE as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise ValueError(f"{path} is damaged, or no file of weights. {advice}") from error
    if not is_whole:
        raise ValueError(f"{path} is damaged, or no file of weights. {advice}")
    if not isinstance(content, dict) or "fingerprint" in content:
        what = "the state of a training" if isinstance(content, dict) else f"a {type(content).__name__}"
        raise ValueError(f"{path} holds {what}, and no weights alone. {advice}")
    if names := not_finite(content):
        raise ValueError(
            f"{path} holds values that are not finite, in {names}: the training that wrote it diverged. Train again "
            f"with a smaller --learning_rate, or give other weights by {option}."
        )
    return content


def _has_its_sums(path: str | Path) -> bool:
    """Whether the content of an archive of torch has the checksums in it, which torch does not compare."""
    if not zipfile.is_zipfile(path):  # what torch wrote long ago is none
        return True
    with zipfile.ZipFile(path) as archive:
        return archive.testzip() is None


class CheckpointSaver(monai.handlers.CheckpointSaver):
    """MONAI's ``CheckpointSaver`` that never leaves a part of a file, and nothing of a training that diverged.

    A file is replaced by a whole one that is on the disk, so whoever is killed leaves the former. An output of the
    network, or a weight, that is not finite ends the training with an error, and the former files stay.

    Args:
        others: as for ``monai.handlers.CheckpointSaver``.

    Raises:
        ValueError: in a validation, an output of the network is not finite; when it saves, a weight.
        OSError: when it saves, the file cannot be written.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for checkpoint in (self._final_checkpoint, self._key_metric_checkpoint, self._interval_checkpoint):
            if checkpoint is not None:
                saver: Any = checkpoint.save_handler
                checkpoint.save_handler = _WholeFiles(saver.dirname, getattr(saver, "filename", None))

    def attach(self, engine: Engine) -> None:
        """Register with a trainer or validator, as ignite's handlers do."""
        super().attach(engine)
        if self._key_metric_checkpoint is not None:  # the outputs decide which weights are the best
            engine.add_event_handler(IterationEvents.FORWARD_COMPLETED, check_output)


class _WholeFiles(DiskSaver):
    """Save into a folder, under a name of one's own where it is given."""

    def __init__(self, dirname: Path, filename: str | None) -> None:
        super().__init__(dirname, require_empty=False)
        self.filename = filename

    def __call__(self, checkpoint: Mapping, filename: str, metadata: Mapping | None = None) -> None:
        if idist.get_rank() != self.save_on_rank:
            return
        path = self.dirname / (self.filename or filename)
        check_weights(checkpoint, path)
        save(checkpoint, path)

    def remove(self, filename: str) -> None:
        if self.filename is None:  # what has a fixed name is replaced instead, so that it is there at any time
            super().remove(filename)


def check_weights(state: Mapping[str, Any], path: Path) -> None:
    """Refuse to write weights that are not finite.

    Raises:
        ValueError: the names of the weights, and what is left on the disk.
    """
    if names := not_finite(state):
        kept = "stays as it was" if path.is_file() else "is not written"
        raise ValueError(
            f"The training diverged: {names} hold values that are not finite. {path} {kept}. Train again with a "
            "smaller --learning_rate."
        )


def is_kept(checkpoint: Checkpoint, filename: str) -> bool:
    """Whether a file that a checkpoint saved can still be read."""
    saver: Any = checkpoint.save_handler
    try:
        read_weights(saver.dirname / (getattr(saver, "filename", None) or filename))
    except (OSError, ValueError):
        return False
    return True
