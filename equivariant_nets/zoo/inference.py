"""What inference takes of training: the inferer of the validation, and what its preprocessing does to the image."""

from __future__ import annotations

import re
from typing import Any

from monai.bundle import ConfigParser

__all__ = ["TAKEN", "listed", "taken_from_training"]

TAKEN = {"preprocessing", "inferer"}
_REFERENCES = re.compile(r"\$?(@[\w#:]+(?: \+ @[\w#:]+)*)")
_OF_THE_LABEL = ("label_key", "num_classes", "allow_missing_keys")  # no matter of inference
_PER_KEY = ("mode", "padding_mode")  # one value for each of the keys, where they are lists


def taken_from_training(train: ConfigParser) -> dict[str, Any]:
    """``preprocessing`` and ``inferer`` of inference, from the config of a training.

    Transforms lose the label: what acts on it alone goes, and of others its key with what is said of this key.

    Args:
        train: holds ``validate#preprocessing#transforms``, a list, a reference to one, or a sum of such references,
            and ``validate#inferer``.
    """
    transforms = listed(train, train["validate#preprocessing#transforms"])
    kept = [transform for transform in transforms if _keys(transform) != ["label"]]
    preprocessing = {**train["validate#preprocessing"], "transforms": [_of_the_image(transform) for transform in kept]}
    return {"preprocessing": preprocessing, "inferer": train["validate#inferer"]}


def listed(parser: ConfigParser, node: Any) -> list[Any]:
    """The items of a list, or of the lists that an expression such as ``$@train#first + @train#second`` adds.

    A component stands for a list of itself.

    Raises:
        ValueError: the node is none of these, or refers to what is not there.
    """
    if isinstance(node, list | dict):
        return node if isinstance(node, list) else [node]
    if not isinstance(node, str) or not _REFERENCES.fullmatch(node):
        raise ValueError(f"{node!r} is no list; legal is a list, '@id' of one, or '$@id + @id' of several")
    references = re.findall(r"@([\w#:]+)", node)
    if missing := [reference for reference in references if reference not in parser]:
        raise ValueError(f"{node!r} refers to @{missing[0]}, which is not there")
    return [item for reference in references for item in listed(parser, parser[reference])]


def _keys(transform: Any) -> list[str]:
    keys = transform.get("keys", []) if isinstance(transform, dict) else []
    return keys if isinstance(keys, list) else [keys]


def _of_the_image(transform: Any) -> Any:
    """A transform without the label."""
    if not isinstance(transform, dict):
        return transform
    image = {key: value for key, value in transform.items() if key not in _OF_THE_LABEL}
    if not isinstance(transform.get("keys"), list):
        return image
    places = [place for place, key in enumerate(transform["keys"]) if key != "label"]
    image["keys"] = [transform["keys"][place] for place in places]
    for option in _PER_KEY:
        if isinstance(transform.get(option), list):
            values = [transform[option][place] for place in places]
            image[option] = values if len(values) > 1 else values[0]
    return image
