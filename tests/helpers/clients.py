"""A client of a MONAI Label server, and the names of the bundles that it serves."""

import gzip
import json
import socket
import time
from pathlib import Path

import nibabel as nib
import requests

LABEL = Path(__file__).resolve().parents[2] / "label"
PHANTOM = "phantom_so3_segmentation"
HIPPOCAMPUS = "hippocampus_mri_so3_segmentation"
DEEPEDIT = "hippocampus_mri_so3_deepedit"
MODELS = (PHANTOM, HIPPOCAMPUS, DEEPEDIT)


def upright(phantoms):
    """Those of the phantoms that can train."""
    return [case for case in phantoms if "upright" in case]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Client:
    """Requests to the server, whose answers are those of ``requests``, or the images in them."""

    def __init__(self, address, studies, app):
        self.address, self.studies, self.app = address, studies, app

    def get(self, path, **headers):
        return requests.get(self.address + path, headers=headers, timeout=60)

    def post(self, path, **body):
        return requests.post(self.address + path, json=body, timeout=180)

    def infer(self, model, image, output="image", **params):
        return self.infer_with(model, f"image={image}&output={output}", {"params": json.dumps(params)})

    def infer_with(self, model, query, fields):
        files = {name: value if isinstance(value, tuple) else (None, value) for name, value in fields.items()}
        return requests.post(f"{self.address}/infer/{model}?{query}", files=files, timeout=60)

    def segment(self, model, image, **params):
        answer = self.infer(model, image, **params)
        assert answer.status_code == 200, answer.text
        return read(answer)

    def submit(self, image, label):
        with label.open("rb") as file:
            query = f"image={image}&tag=final"
            return requests.put(
                f"{self.address}/datastore/label?{query}", files={"label": (label.name, file)}, timeout=60
            )

    def withdraw(self, image):
        """Remove a label, and wait until the server has noticed: it watches the folder, and can miss an event."""
        requests.delete(f"{self.address}/datastore/label?id={image}&tag=final", timeout=60)
        event = self.studies / "labels" / "final" / "no_image.nii.gz"

        def is_gone():
            event.touch()
            event.unlink()
            return "final" not in self.get("/datastore/?output=all").json()["objects"][image]["labels"]

        wait_until(is_gone)

    def wait_for_images(self, *images, absent=()):
        """Wait until the server has seen images appear in its studies, or disappear."""
        wait_until(lambda: set(images) <= self.images() and not set(absent) & self.images())

    def images(self):
        return set(self.get("/datastore/?output=all").json()["objects"])

    def weights(self, model):
        return self.app / "model" / model / "models" / "model.pt"


def read(answer):
    """The image of an answer."""
    return nib.Nifti1Image.from_bytes(gzip.decompress(answer.content))


def wait_until(condition, seconds=60):
    """Wait for what the server does on its own."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)
