"""Segmentations in the format of their images, where these are series of DICOM."""

from __future__ import annotations

import json
import logging
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.config import KeysCollection
from monai.data import FolderLayout
from monai.transforms import MapTransform
from monai.utils import convert_to_numpy

from equivariant_nets.data.dicom.codes import is_known
from equivariant_nets.data.dicom.segmentation import Algorithm, write_segmentation
from equivariant_nets.data.dicom.series import SERIES_FILES
from equivariant_nets.data.images import images_folder
from equivariant_nets.data.notices import note_once
from equivariant_nets.files import replace_file
from equivariant_nets.settings import is_on

__all__ = ["SaveDicomSegd"]

_logger = logging.getLogger(__name__)


class SaveDicomSegd(MapTransform):
    """Save label maps of series of DICOM as DICOM SEG, BINARY, in the space of the series; of other images, nothing.

    Each file appears at once or not at all, in a folder as that of its series in ``dataset_dir``.

    Args:
        keys: of label maps (1, columns, rows, slices), whole numbers, in the space of their image.
        output_dir: the folder of the results.
        dataset_dir: what the images were found in; folders below it are repeated in ``output_dir``.
        segment_names: of the classes from 1. Their codes are those of :data:`equivariant_nets.data.dicom.codes
            .CONCEPTS`; others are some anatomical structure, which is logged.
        bundle_root: of the bundle, whose ``configs/metadata.json`` names the algorithm and its version.
        enabled: False saves nothing. On a command line, ``true`` or ``false``.

    Raises:
        ValueError: ``enabled`` is not legal; on call, a label map is not on the grid of its series.
        OSError: on call, there is no metadata, or a file cannot be written.
    """

    def __init__(
        self,
        keys: KeysCollection,
        output_dir: str | Path,
        dataset_dir: str | Path,
        segment_names: Sequence[str],
        bundle_root: str | Path,
        enabled: bool | str = True,
    ) -> None:
        super().__init__(keys)
        root = str(images_folder(dataset_dir))
        self.layout = FolderLayout(str(output_dir), "seg", ".dcm", parent=False, data_root_dir=root)
        self.segment_names = list(segment_names)
        self.enabled = is_on("dicom_seg", enabled)
        self.metadata_path = Path(bundle_root) / "configs" / "metadata.json"

    def path_of(self, meta: Mapping[str, Any]) -> Path | None:
        """The file that a label map with such metadata is written to; None where none is."""
        if not self.enabled or SERIES_FILES not in meta:
            return None
        return Path(self.layout.filename(meta["filename_or_obj"]))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            meta = d[key].meta
            path = self.path_of(meta)
            if path is None:
                continue
            if unknown := [name for name in self.segment_names if not is_known(name)]:
                note_once(_logger, f"No code is known for {', '.join(unknown)}: coded as an anatomical structure.")
            metadata = json.loads(self.metadata_path.read_text(encoding="utf-8"))
            algorithm = Algorithm(metadata["name"], metadata["version"])
            path.parent.mkdir(parents=True, exist_ok=True)
            with replace_file(path) as unfinished:
                write_segmentation(
                    unfinished, convert_to_numpy(d[key])[0], meta[SERIES_FILES], self.segment_names, algorithm
                )
        return d
