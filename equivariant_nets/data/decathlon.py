"""Download of a task of the Medical Segmentation Decathlon."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from monai.apps import DecathlonDataset, download_url, extractall

__all__ = ["download_task"]


def download_task(task: str, dataset_dir: str | Path, read: Callable[[Path], object]) -> Path:
    """Download a task through MONAI, unless the folder holds a complete copy.

    Args:
        task: name of the task, such as ``Task04_Hippocampus``.
        dataset_dir: the folder that shall hold ``imagesTr``, ``labelsTr`` and ``dataset.json``.
        read: is called with the folder, and raises FileNotFoundError or ValueError when the copy is not complete.

    Returns:
        the absolute path of the folder.

    Raises:
        monai.apps.utils.HashCheckError: the archive's checksum is not the expected one.
        urllib.error.URLError: the server cannot be reached.
    """
    folder = Path(dataset_dir).expanduser().absolute()
    try:
        read(folder)
    except (FileNotFoundError, ValueError):
        folder.mkdir(parents=True, exist_ok=True)
    else:
        return folder
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        archive = Path(temporary, f"{task}.tar")
        download_url(DecathlonDataset.resource[task], archive, hash_val=DecathlonDataset.md5[task], hash_type="md5")
        extractall(archive, temporary, file_type="tar")
        archive.unlink()
        # The archive holds ._* files, which are no images: the file attributes of the machine it was made on.
        hidden = shutil.ignore_patterns("._*")
        # Moved, for a second copy of a task of 7 GB may not fit; a move within one folder is a renaming.
        shutil.copytree(Path(temporary, task), folder, copy_function=os.replace, dirs_exist_ok=True, ignore=hidden)
    return folder
