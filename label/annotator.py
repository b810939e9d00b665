"""A client of a MONAI Label server that writes down what it asked for, what was answered, and how long it took."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from monailabel.client.client import MONAILabelClient, MONAILabelClientException, MONAILabelError, MONAILabelUtils

__all__ = ["Annotator", "ServerError"]


class ServerError(Exception):
    """The server refused a request; the message says which, and why."""


class Annotator:
    """What an annotator does in 3D Slicer, with the client that its extension uses.

    Args:
        address: of the server, ``http://host:port``.
        folder: for the files that it answers with.

    Attributes:
        rows: requests, answers and seconds.

    Raises:
        ServerError: by every method, where the server answers with an error.
    """

    def __init__(self, address: str, folder: Path) -> None:
        self.address = address
        self.client = MONAILabelClient(address, str(folder))
        self.rows: list[tuple[str, str, float]] = []

    def models(self) -> dict[str, Any]:
        """The models by their names, with their labels."""
        info = self._record("GET /info/", self.client.info, lambda info: "models " + ", ".join(info["models"]))
        return info["models"]

    def segment(
        self, model: str, image: str, clicks: Mapping[str, Sequence[Sequence[int]]] | None = None
    ) -> np.ndarray:
        """The label map of an image, ``(D, H, W)``.

        Args:
            model: its name.
            image: the image's id.
            clicks: by label, voxel indices of the image's file.
        """
        params = {name: [list(point) for point in points] for name, points in (clicks or {}).items() if points}
        file, _ = self._record(
            f"POST /infer/{model}?image={image} {json.dumps(params)}",
            lambda: self.client.infer(model, image, dict(params)),
            lambda answer: f"label map; {answer[1]['latencies']['infer']} s of it in the network",
        )
        label = np.asarray(nib.load(file).dataobj)
        Path(file).unlink()
        return label

    def score_uncertainty(self, model: str) -> None:
        """Let a model score every image that has no label."""
        self._post(f"/scoring/{model}?run_sync=true", {}, lambda answer: f"{answer['executed']} images scored")

    def next_sample(self, strategy: str) -> str:
        """The id of the image that a strategy proposes."""
        sample = self._record(
            f"POST /activelearning/{strategy}",
            lambda: self.client.next_sample(strategy, {}),
            lambda answer: ", ".join(f"{key} {answer[key]}" for key in ("id", "epistemic_entropy") if key in answer),
        )
        return sample["id"]

    def submit(self, image: str, label: Path) -> None:
        """Store a file as the final label of an image."""
        self._record(
            f"PUT /datastore/label?image={image}&tag=final",
            lambda: self.client.save_label(image, str(label), "final", {}),
            lambda answer: f"label {answer['label']}",
        )

    def train(self, model: str, params: Mapping[str, Any]) -> None:
        """Fine-tune a model on all final labels, and wait for the end."""
        self._post(f"/train/{model}?run_sync=true", dict(params), lambda answer: "trained")

    def _post(self, path: str, body: dict[str, Any], describe: Callable[[Any], str]) -> Any:
        """A request that MONAI Label's client does not have."""

        def call() -> Any:
            status, response, _, _ = MONAILabelUtils.http_method("POST", self.address, path, dict(body))
            if status != 200:
                raise MONAILabelClientException(MONAILabelError.SERVER_ERROR, f"{status}: {response.decode()}")
            return json.loads(response)

        return self._record(f"POST {path} {json.dumps(body)}", call, describe)

    def _record(self, request: str, call: Callable[[], Any], describe: Callable[[Any], str]) -> Any:
        start = time.monotonic()
        try:
            answer = call()
        except MONAILabelClientException as error:
            raise ServerError(f"{request}: {error.msg}") from error
        seconds = time.monotonic() - start
        self.rows.append((request, describe(answer), seconds))
        print(f"{seconds:6.1f} s  {request}  ->  {self.rows[-1][1]}", flush=True)
        return answer
