"""Clicks from a file or the command line."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from equivariant_nets.interaction.guidance import check_label_names

__all__ = ["read_clicks", "with_clicks"]

LAYOUT = '{"case.nii.gz": {"spleen": [[10, 20, 5]], "background": []}}'


def read_clicks(clicks: str | Path | Mapping[str, Any] | None) -> dict[str, Any]:
    """Clicks by the file name of an image, with or without its folder, and then by the name of a label.

    Args:
        clicks: a JSON file, or its content: under each label a list of voxel indices of the image's file. That is what
            a client of MONAI Label sends, for each image. None stands for no clicks.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no JSON, or holds no dictionary.
    """
    content: Any = {} if clicks is None else clicks
    where = "clicks"
    if isinstance(content, str | Path):
        path = Path(content).expanduser().absolute()
        if not path.is_file():
            raise FileNotFoundError(f"The file of clicks {path} does not exist. Give a JSON file such as {LAYOUT}.")
        try:
            content, where = json.loads(path.read_text(encoding="utf-8")), str(path)
        except ValueError as error:
            raise ValueError(f"{path} is not valid JSON ({error}). Clicks look like {LAYOUT}.") from None
    if not isinstance(content, Mapping):
        raise ValueError(f"{where} is a {type(content).__name__}, not a dictionary by file name, such as {LAYOUT}.")
    return dict(content)


def with_clicks(
    data: Sequence[Mapping[str, Any]], clicks: Mapping[str, Any], label_names: Mapping[str, int]
) -> list[dict[str, Any]]:
    """A data list with the clicks of each image, as :class:`equivariant_nets.interaction.AddClickGuidanced` takes them.

    Args:
        data: items with an ``image`` file.
        clicks: as :func:`read_clicks` returns them. Images without clicks are segmented automatically.
        label_names: the value of each name that may be clicked.

    Returns:
        the items, each with a list of clicks under every label that has some.

    Raises:
        ValueError: clicks are given for an image or a label that there is not.

    Example:
        >>> from equivariant_nets.interaction import with_clicks
        >>> with_clicks([{"image": "/d/a.nii.gz"}], {"a.nii.gz": {"spleen": [[1, 2, 3]]}}, {"spleen": 1})
        [{'image': '/d/a.nii.gz', 'spleen': [[1, 2, 3]]}]
    """
    names = check_label_names(label_names)
    items = [dict(item) for item in data]
    by_name = {key: item for item in items for key in (str(item["image"]), Path(str(item["image"])).name)}
    for image, of_labels in clicks.items():
        if image not in by_name:
            images = [Path(str(item["image"])).name for item in items]
            raise ValueError(
                f"There are clicks for {image!r}, which is not among the {len(items)} images to segment: "
                f"{', '.join(images[:3])}{', ...' if len(images) > 3 else ''}. Give the name of a file with its ending."
            )
        if not isinstance(of_labels, Mapping) or not all(isinstance(points, list) for points in of_labels.values()):
            raise ValueError(f"The clicks for {image!r} are {of_labels!r}; legal is a list for each label: {LAYOUT}.")
        if unknown := sorted(set(of_labels) - set(names)):
            raise ValueError(
                f"The clicks for {image!r} are on {', '.join(map(repr, unknown))}; the labels that can be clicked are "
                f"{', '.join(map(repr, names))}."
            )
        by_name[image].update({name: points for name, points in of_labels.items() if points})
    return items
