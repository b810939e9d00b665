"""Lists of images without labels, for inference."""

from __future__ import annotations

from pathlib import Path

__all__ = ["image_datalist", "images_folder"]


def image_datalist(dataset_dir: str | Path, pattern: str = "*.nii.gz") -> list[dict[str, str]]:
    """The images to segment, sorted by name: a file, or those in a folder that match a pattern.

    Args:
        dataset_dir: an image file, or a folder of image files.
        pattern: file names in the folder, such as ``*.nii.gz``; with folders, ``*/t1.nii.gz`` names files one folder
            below, and ``**/*.nii.gz`` all below. Hidden files and folders are left out.

    Returns:
        one ``{"image": absolute path}`` an image.

    Raises:
        FileNotFoundError: no such file or folder, or nothing in the folder matches.
    """
    source = Path(dataset_dir).expanduser().absolute()
    if source.is_file():
        return [{"image": str(source)}]
    if not source.is_dir():
        raise FileNotFoundError(f"{source} does not exist; give an image file or a folder of images as --dataset_dir.")
    images = sorted(
        path
        for path in source.glob(pattern)
        if not any(part.startswith(".") for part in path.relative_to(source).parts) and path.is_file()
    )
    if not images:
        raise FileNotFoundError(
            f"No file in {source} matches {pattern!r}; give the folder that holds the images as --dataset_dir, or "
            "another --pattern."
        )
    return [{"image": str(path)} for path in images]


def images_folder(dataset_dir: str | Path) -> Path:
    """The folder that the images of :func:`image_datalist` lie in or below: that of the file, where one is given."""
    source = Path(dataset_dir).expanduser().absolute()
    return source.parent if source.is_file() else source
