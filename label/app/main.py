"""The MONAI Label app of the bundles: segmentation, clicks, fine-tuning, and the choice of images by uncertainty.

MONAI Label's own app for bundles, ``monaibundle``, cannot serve them: with MONAI 1.6 it fails on every NIfTI file that
a bundle resamples. It also measures uncertainty on label maps, and offers no strategy that uses it.
"""

import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import requests
from guard import Settings
from monai.transforms import AsDiscreted, Invertd, SaveImaged
from monailabel import __version__
from monailabel.config import settings
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.exception import ImageNotFoundException, MONAILabelError, MONAILabelException
from monailabel.interfaces.tasks.infer_v2 import InferTask
from monailabel.interfaces.tasks.scoring import ScoringMethod
from monailabel.interfaces.tasks.strategy import Strategy
from monailabel.interfaces.tasks.train import TrainTask
from monailabel.tasks.activelearning.epistemic import Epistemic
from monailabel.tasks.activelearning.first import First
from monailabel.tasks.activelearning.random import Random
from monailabel.tasks.infer.bundle import BundleInferTask
from monailabel.tasks.scoring.epistemic_v2 import EpistemicScoring
from monailabel.tasks.train.bundle import BundleTrainTask
from studies import Studies, volume_voxels

from equivariant_nets.data.writing import keep_place
from equivariant_nets.training.resume import FILE_NAME, PREVIOUS_FILE_NAME

logger = logging.getLogger(__name__)


class EquivariantBundles(MONAILabelApp):
    """Bundles in the folder ``model`` of the app.

    Its configuration names them in ``models``, separated by commas. A bundle of clicks, with ``deepedit`` in its name,
    is two models: with clicks, and without under the name that ends with ``_seg``. ``epistemic_model`` names the bundle
    whose uncertainty chooses images, ``epistemic_dropout`` its dropout, and ``epistemic_simulation_size`` the number of
    passes.
    """

    def __init__(self, app_dir: str, studies: str, conf: Mapping[str, str]) -> None:
        self.models = {name: os.path.join(app_dir, "model", name) for name in conf["models"].split(",")}
        super().__init__(
            app_dir,
            studies,
            conf,
            name="equivariant_nets",
            description="Segmentation networks that are equivariant by construction",
            version=__version__,
        )

    def init_datastore(self) -> Datastore:
        if self.studies.startswith(("http://", "https://")):
            return super().init_datastore()
        return Studies(
            self.studies,
            extensions=settings.MONAI_LABEL_DATASTORE_FILE_EXT,
            auto_reload=settings.MONAI_LABEL_DATASTORE_AUTO_RELOAD,
            read_only=settings.MONAI_LABEL_DATASTORE_READ_ONLY,
        )

    def init_infers(self) -> dict[str, InferTask]:
        infers = {}
        for name, path in self.models.items():
            kind = "deepedit" if "deepedit" in name else "segmentation"
            infers[name] = Segmentation(path, self.conf, type=kind, load_strict=True)
            if kind == "deepedit":
                infers[f"{name}_seg"] = Segmentation(path, self.conf, type="segmentation", load_strict=True)
        return infers

    def init_trainers(self) -> dict[str, TrainTask]:
        return {name: FineTuning(path, self.conf, load_strict=True) for name, path in self.models.items()}

    def init_strategies(self) -> dict[str, Strategy]:
        strategies = {"first": First(), "random": Random()}
        return {"epistemic": Epistemic(), **strategies} if self.conf.get("epistemic_model") else strategies

    def init_scoring_methods(self) -> dict[str, ScoringMethod]:
        name = self.conf.get("epistemic_model")
        if not name:
            return {}
        # Probabilities at the network's voxels, for the entropy of their mean over passes with dropout.
        task = Segmentation(
            self.models[name],
            self.conf,
            type="segmentation",
            train_mode=True,
            skip_writer=True,
            dropout=float(self.conf["epistemic_dropout"]),
            post_filter=[SaveImaged, Invertd, AsDiscreted],
            add_post_restore=False,
            load_strict=True,
        )
        return {name: EpistemicScoring(task, simulation_size=int(self.conf.get("epistemic_simulation_size", 5)))}

    def check_image(self, image: str) -> None:
        """Refuse what is no image of the studies, such as another file of this computer."""
        if not self.datastore().get_image_uri(image):
            raise ImageNotFoundException(
                f"There is no image {image!r} in {self.studies}; GET /datastore/?output=all lists those that there are."
            )

    def check_inference(self, model: str, options: Mapping[str, Any]) -> None:
        """Refuse a model, or weights of it, that there are not."""
        _check_task(model, self._infers, options)

    def check_training(self, model: str, options: Mapping[str, Any]) -> None:
        """Refuse a model, or weights of it, that there are not."""
        _check_task(model, self._trainers, options)

    def infer(self, request: Mapping[str, Any], datastore: Any = None) -> Any:
        _check_name("model", request.get("model"), self._infers)
        if str(request.get("image")).endswith(".nrrd"):
            volume_voxels(request["image"])  # it must not name another file
        return super().infer(request, datastore)

    def train(self, request: Mapping[str, Any]) -> Any:
        _check_name("model", request.get("model"), self._trainers)
        return super().train(request)

    def scoring(self, request: Mapping[str, Any], datastore: Any = None) -> Any:
        _check_name("scoring method", request.get("method"), self._scoring_methods)
        return super().scoring(request, datastore)

    def next_sample(self, request: Mapping[str, Any]) -> Any:
        _check_name("strategy", request.get("strategy"), self._strategies)
        return super().next_sample(request)

    def _local_request(self, url: str, params: Mapping[str, Any] | None, action: str) -> Any:
        # After a training, its process asks the server to score the images anew; MONAI Label's would bear no token.
        server = Settings()
        headers = {"Authorization": f"Bearer {server.token}"} if server.token else {}
        answer = requests.post(server.address + url, json=params or {}, headers=headers, timeout=60)
        if answer.status_code != 200:
            logger.error("%s was not started: %s", action, answer.text)
        return answer.json() if answer.status_code == 200 else None


class Segmentation(BundleInferTask):
    """Inference of a bundle."""

    def config(self) -> dict[str, Any]:
        return {**super().config(), "model_filename": _weights(self.bundle_path)}

    def run_pre_transforms(self, data: dict[str, Any], transforms: Sequence[Any]) -> dict[str, Any]:
        # MONAI's Spacingd takes every key that begins with "image_" for metadata, which this one is not.
        path = data.pop("image_path", None)
        return {**super().run_pre_transforms(data, transforms), "image_path": path}

    def writer(self, data: dict[str, Any], extension: Any = None, dtype: Any = None) -> tuple[Any, Any]:
        file, answer = super().writer(data, extension, dtype)
        if str(file).endswith((".nii", ".nii.gz")):
            keep_place(file, data["image_path"])
        return file, answer


class FineTuning(BundleTrainTask):
    """Training of a bundle on the labels of the studies, with its learning rate and augmentation as options.

    Where trackers write, and which part of a config runs, no client chooses.
    """

    OPTIONS = ("learning_rate", "augmentation")

    def config(self) -> dict[str, Any]:
        bundle = {name: self.bundle_config[name] for name in self.OPTIONS}
        options = {**super().config(), "model_filename": _weights(self.bundle_path), **bundle}
        return {name: value for name, value in options.items() if name not in ("tracking_uri", "run_id")}

    def _partition_datalist(self, datalist: list, request: Mapping[str, Any], shuffle: bool = False) -> tuple:
        training, validation = super()._partition_datalist(datalist, request, shuffle)
        if not training or validation == []:
            raise ValueError(
                f"{len(datalist)} labels are too few to train with val_split={request.get('val_split', 0.2)}: one case "
                "at least is for training and one for validation. Submit more labels, or give another val_split."
            )
        return training, validation

    def _load_checkpoint(self, model_pytorch: str, pretrained: bool, train_handlers: list) -> None:
        # MONAI Label would load the weights of its first training for good, and fail where none are wanted.
        train_handlers[:] = [handler for handler in train_handlers if handler["_target_"] != "CheckpointLoader"]
        if pretrained:
            super()._load_checkpoint(model_pytorch, pretrained, train_handlers)

    def __call__(self, request: Mapping[str, Any], datastore: Any) -> Any:
        self.request = request
        # A training adds to its config, such as MONAI the handlers of a tracker: none starts with that of another.
        self.bundle_config = self._load_bundle_config(self.bundle_path, self.bundle_config_path)
        path = list(sys.path)
        try:
            return super().__call__(request, datastore)
        finally:
            sys.path[:] = path

    def _update_overrides(self, overrides: dict[str, Any]) -> None:
        overrides.update({name: self.request[name] for name in self.OPTIONS if name in self.request})
        overrides["device"] = f"$torch.device({overrides['device']!r})"
        overrides["epochs"] = overrides["train#trainer#max_epochs"]  # where the schedule of the learning rate ends
        overrides["ckpt_dir"] = os.path.join(self.bundle_path, "models")  # whose weights the server serves
        overrides["epoch_length"] = "$None"  # a pass over the labels, however few; monai.bundle.run ignores a None


def _check_name(what: str, name: Any, legal: Mapping[str, Any]) -> None:
    if name not in legal:
        names = ", ".join(legal) or "none"
        raise MONAILabelException(MONAILabelError.INVALID_INPUT, f"There is no {what} {name!r}; legal are: {names}.")


def _check_task(model: str, tasks: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    _check_name("model", model, tasks)
    if "model_filename" in options:
        _check_name("model_filename", options["model_filename"], dict.fromkeys(tasks[model].config()["model_filename"]))


def _weights(bundle: str) -> list[str]:
    """The files of weights of a bundle, first that which it is served with; states of a training are none."""
    files = {path.name for path in Path(bundle, "models").glob("*.pt")} - {FILE_NAME, PREVIOUS_FILE_NAME}
    return sorted(files, key=lambda name: (name != "model.pt", name))
