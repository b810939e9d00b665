"""What segments a folder of images: a bundle, any command, or the file of a network."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from monai.data import MetaTensor
from monai.transforms import (
    AsDiscreted,
    Compose,
    DivisiblePadd,
    Identityd,
    Invertd,
    NormalizeIntensityd,
    Orientationd,
    SaveImaged,
    ScaleIntensityd,
    Spacingd,
)

from equivariant_nets.data.loading import LoadVolumed
from equivariant_nets.fingerprints import content_of

__all__ = ["BundleModel", "CommandModel", "FileModel", "Model", "ModelError"]

NORMALIZATIONS: dict[str, Any] = {
    "zscore": NormalizeIntensityd("image"),
    "zscore_nonzero": NormalizeIntensityd("image", nonzero=True),
    "range": ScaleIntensityd("image"),
    "none": Identityd("image"),
}
AXES = ("LR", "PA", "IS")
_LAST_LINES = 15


class ModelError(RuntimeError):
    """A model did not segment a folder; the message ends with the last that it said."""


class Model(ABC):
    """Something that segments all images of a folder."""

    @abstractmethod
    def segment(self, input_dir: Path, output_dir: Path, environment: Mapping[str, str]) -> None:
        """Write a mask of each NIfTI file of a folder into another one, which exists and is empty.

        Raises:
            ModelError: it did not.
        """

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """What decides about the masks, as JSON: of files their content."""


class CommandModel(Model):
    """Any command that segments a folder. No shell reads it.

    Args:
        command: with ``{input}`` and ``{output}`` where the folders stand, and quotes as for a shell, such as
            ``nnUNetv2_predict -i {input} -o {output} -d 4 -c 3d_fullres``.

    Raises:
        ValueError: a folder is missing in it, or its quotes do not close.
        FileNotFoundError: there is no such program.
    """

    def __init__(self, command: str) -> None:
        self.words = _words("--command", command)
        for name in ("{input}", "{output}"):
            if not any(name in word for word in self.words):
                raise ValueError(
                    f"--command {command!r} holds no {name}. Write {{input}} and {{output}} where the folders of "
                    "images and of masks stand, such as 'tool -i {input} -o {output}'."
                )
        if shutil.which(self.words[0]) is None:
            raise FileNotFoundError(f"--command {command!r}: there is no program {self.words[0]!r}. Give its path.")

    def segment(self, input_dir: Path, output_dir: Path, environment: Mapping[str, str]) -> None:
        folders = {"{input}": str(input_dir), "{output}": str(output_dir)}
        words = self.words
        for name, folder in folders.items():
            words = [word.replace(name, folder) for word in words]
        _run(words, environment)

    def settings(self) -> dict[str, Any]:
        program = shutil.which(self.words[0]) or self.words[0]
        return {"command": self.words, "files": _contents([program, *self.words[1:]])}


class BundleModel(Model):
    """The inference of a MONAI bundle, by its own ``inference.json``.

    Args:
        bundle: its folder.
        options: more options of ``python -m monai.bundle run``, with quotes as for a shell, such as
            ``--ckpt_path model.pt --roi_size "[96, 96, 96]"``.

    Raises:
        FileNotFoundError: the folder has no ``configs/inference.json``.
        ValueError: the quotes of the options do not close.
    """

    def __init__(self, bundle: str | Path, options: str = "") -> None:
        self.root = Path(bundle).expanduser().absolute()
        self.config = self.root / "configs" / "inference.json"
        if not self.config.is_file():
            raise FileNotFoundError(f"--bundle {bundle} has no configs/inference.json: give the folder of a bundle.")
        self.options = _words("--bundle_options", options)

    def segment(self, input_dir: Path, output_dir: Path, environment: Mapping[str, str]) -> None:
        own = ["--bundle_root", str(self.root), "--config_file", str(self.config)]
        folders = ["--dataset_dir", str(input_dir), "--output_dir", str(output_dir)]
        _run([sys.executable, "-m", "monai.bundle", "run", *own, *folders, *self.options], environment)

    def settings(self) -> dict[str, Any]:
        words = [word.rpartition("=")[2] for word in self.options]
        weights = [str(folder / "model.pt") for folder in (self.root / "models", *map(Path, words))]  # as of --ckpt_dir
        return {
            "options": self.options,
            "files": _contents([str(self.config), *weights, *words]),
            "versions": {name: version(name) for name in ("equivariant_nets", "monai", "torch")},
        }


class FileModel(Model):
    """A network from a file, behind a minimum of preprocessing, on the whole volume at once.

    The volume is brought into an orientation and, if told so, a spacing; its intensities are normalized; it is padded
    to sizes that the network takes. The output goes back the same way. Of an output of several channels the highest one
    is the class; one channel is class 1 where it is above 0.

    Args:
        file: TorchScript, or ONNX where the name ends with ``.onnx``; from ``(1, C, D, H, W)`` to ``(1, K, D, H, W)``.
        normalization: ``zscore`` (mean 0 and deviation 1 over all voxels), ``zscore_nonzero`` (over those that are not
            0), ``range`` (from 0 to 1) or ``none``.
        orientation: axis codes such as ``RAS``, or ``as_is``.
        spacing_mm: edge of the cubic voxels that the network takes; 0 keeps those of the file.
        divisible_by: sizes are padded to multiples of this.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: an option is not legal, or the file cannot be read.
        ModuleNotFoundError: ONNX needs ``onnxruntime``, which is not installed.
    """

    def __init__(
        self,
        file: str | Path,
        normalization: str = "zscore",
        orientation: str = "RAS",
        spacing_mm: float = 0.0,
        divisible_by: int = 1,
    ) -> None:
        self.file = Path(file).expanduser()
        if not self.file.is_file():
            raise FileNotFoundError(f"--model {file} is no file: give one of TorchScript, or of ONNX.")
        if normalization not in NORMALIZATIONS:
            legal = ", ".join(NORMALIZATIONS)
            raise ValueError(f"--normalization {normalization!r} is not legal: choose one of {legal}.")
        if spacing_mm < 0 or divisible_by < 1:
            raise ValueError(
                f"--spacing_mm {spacing_mm} and --divisible_by {divisible_by}: a spacing is 0 (as it is) or above, and "
                "a divisor 1 or more."
            )
        if orientation != "as_is" and not _are_axes(orientation):
            raise ValueError(f"--orientation {orientation!r} is not legal: give axis codes such as RAS, or as_is.")
        self.options = {
            "normalization": normalization,
            "orientation": orientation,
            "spacing_mm": spacing_mm,
            "divisible_by": divisible_by,
        }
        oriented = [] if orientation == "as_is" else [Orientationd("image", axcodes=orientation, labels=None)]
        spaced = [Spacingd("image", pixdim=(spacing_mm,) * 3)] if spacing_mm else []
        steps = [LoadVolumed("image"), *oriented, *spaced, NORMALIZATIONS[normalization]]
        self.preprocessing = Compose([*steps, DivisiblePadd("image", k=divisible_by)])
        self.network = _onnx(self.file) if self.file.suffix == ".onnx" else _torchscript(self.file)

    def segment(self, input_dir: Path, output_dir: Path, environment: Mapping[str, str]) -> None:
        invert = Invertd("pred", self.preprocessing, orig_keys="image", nearest_interp=False)
        decide = AsDiscreted("pred", argmax=True)
        save = SaveImaged("pred", output_dir=output_dir, output_postfix="", separate_folder=False, print_log=False)
        for path in sorted(input_dir.iterdir()):
            try:
                item: Any = self.preprocessing({"image": str(path)})
                output = self.network(item["image"].as_tensor()[None])[0].float().cpu()
                if len(output) == 1:
                    output = torch.cat([torch.zeros_like(output), output])  # the background beside it
                save(decide(invert({**item, "pred": MetaTensor(output)})))
            except Exception as error:  # of any type, from inside the network
                text = "\n".join(str(error).splitlines()[-_LAST_LINES:])
                raise ModelError(f"{self.file} failed on {path.name}. {type(error).__name__}: {text}") from error

    def settings(self) -> dict[str, Any]:
        return {**self.options, "files": [content_of(self.file)]}


def _words(option: str, text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ValueError(f"{option} {text!r} cannot be read ({error}): close its quotes.") from None


def _are_axes(codes: str) -> bool:
    """Whether codes such as ``RAS`` name each of the three axes once."""
    return sorted(next((axis for axis in AXES if code in axis), "") for code in codes) == sorted(AXES)


def _torchscript(file: Path) -> Callable[[torch.Tensor], torch.Tensor]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        network = torch.jit.load(str(file), map_location=device).eval()
    except RuntimeError as error:
        cause = str(error).strip().splitlines()[0]
        raise ValueError(
            f"--model {file} cannot be read as TorchScript ({cause}). Export the network, as by python -m monai.bundle "
            "ckpt_export; ONNX files end with .onnx. Weights alone are no network."
        ) from None

    def call(image: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return network(image.to(device))

    return call


def _onnx(file: Path) -> Callable[[torch.Tensor], torch.Tensor]:
    try:
        import onnxruntime
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "ONNX files need onnxruntime, which is not installed: pip install onnxruntime"
        ) from None
    try:
        session = onnxruntime.InferenceSession(str(file), providers=onnxruntime.get_available_providers())
    except Exception as error:  # of a type of its own for each fault
        raise ValueError(f"--model {file} cannot be read as ONNX ({str(error).splitlines()[0]}).") from None
    (name, *_) = (one.name for one in session.get_inputs())
    return lambda image: torch.as_tensor(session.run(None, {name: image.numpy()})[0])


def _run(words: Sequence[str], environment: Mapping[str, str]) -> None:
    try:
        done = subprocess.run(
            words, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            encoding="utf-8", errors="replace",
        )  # fmt: skip
    except OSError as error:
        raise ModelError(f"{shlex.join(words)} did not start: {error}") from None
    if done.returncode:
        end = "\n".join(done.stdout.strip().splitlines()[-_LAST_LINES:])
        said = f"its last lines:\n{end}" if end else "it printed nothing."
        raise ModelError(f"{shlex.join(words)} ended with exit status {done.returncode}; {said}")


def _contents(words: Sequence[str]) -> list[str]:
    """The content of each file that is named among the words of a command."""
    return [content_of(word) for word in words if os.path.isfile(word)]
