"""A folder of studies to which clients may add, but from which they take nothing away."""

import filecmp
import math
import os
import shutil
from itertools import count
from pathlib import Path
from typing import Any

import nibabel as nib
import nrrd
from monailabel.datastore.local import LocalDatastore
from monailabel.interfaces.exception import ImageNotFoundException
from names import check_name

from equivariant_nets.data.checks import check_label, check_same_grid
from equivariant_nets.data.loading import LoadVolumed

__all__ = ["Studies", "volume_voxels"]

EXTENSIONS = (".nii.gz", ".nii", ".nrrd")
REPLACED = "labels_replaced"


class Studies(LocalDatastore):
    """Images and their labels in a folder.

    An image is never replaced. A label that is replaced or removed is kept in ``labels_replaced``, since it may be what
    somebody drew by hand.
    """

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        """Add the file of an image.

        Raises:
            ValueError: it is no volume, its name is not legal, or there is another image of its name.
        """
        volume_voxels(image_filename)
        check_name(image_id)
        folder = Path(self._datastore.image_path())
        files = [path for path in (folder / f"{image_id}{end}" for end in EXTENSIONS) if os.path.lexists(path)]
        if any(filecmp.cmp(path, image_filename, shallow=False) for path in files):
            return image_id  # sent again
        if files or image_id in self.list_images():
            raise ValueError(
                f"There is an image {image_id!r} already, and images are never replaced. Give it another name, or "
                "remove the file from the folder of studies by hand."
            )
        return str(super().add_image(image_id, image_filename, image_info))

    def save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]) -> str:
        """Store the label of an image.

        Raises:
            ImageNotFoundException: there is no such image.
            ValueError: it is no label map on the grid of the image, or the tag is not legal.
        """
        check_name(label_tag)
        image = self.get_image_uri(image_id)
        if not image:
            raise ImageNotFoundException(f"There is no image {image_id!r} in {self._datastore_path}.")
        self._check_label(image, label_filename)
        self._keep(image_id, label_tag, label_filename)
        return str(super().save_label(image_id, label_filename, label_tag, label_info))

    def remove_label(self, label_id: str, label_tag: str) -> None:
        """Remove a label; the file is kept beside the labels."""
        self._keep(label_id, label_tag)
        super().remove_label(label_id, label_tag)

    def _check_label(self, image_file: str, label_file: str) -> None:
        if volume_voxels(label_file) > volume_voxels(image_file):
            raise ValueError("The label has more voxels than the image. Submit a label map on the grid of the image.")
        volumes = LoadVolumed(("image", "label"))({"image": image_file, "label": label_file})
        check_label(volumes["label"], "label")
        check_same_grid(volumes["image"], volumes["label"], "image", "label")

    def _keep(self, label_id: str, tag: str, other: str | None = None) -> None:
        """Copy a label, unless another file is the same."""
        label = Path(self.get_label_uri(label_id, tag) or "-")
        if not label.is_file() or (other and filecmp.cmp(label, other, shallow=False)):
            return
        folder = Path(self._datastore_path, REPLACED, tag)
        folder.mkdir(parents=True, exist_ok=True)
        files = (folder / f"{number}_{label.name}" for number in count(1))
        shutil.copy2(label, next(file for file in files if not file.exists()))


def volume_voxels(file: str) -> int:
    """How many voxels a file says that it holds, by its header alone: what it really holds may be endless.

    Raises:
        ValueError: it is no file of a volume, or it says that its voxels are in another file.
    """
    try:
        if file.endswith(".nrrd"):
            header = nrrd.read_header(file)
            if {"data file", "datafile"} & header.keys():
                raise ValueError("its voxels are in another file")
            shape = header["sizes"]
        elif file.endswith(EXTENSIONS):
            shape = nib.load(file).shape
        else:
            raise ValueError(f"legal are files that end with {', '.join(EXTENSIONS)}")
    except Exception as error:  # readers fail with errors of any type
        raise ValueError(
            f"The file cannot be read as a volume ({type(error).__name__}: {error}). Export it again, as .nii.gz."
        ) from None
    return math.prod(int(n) for n in shape)
