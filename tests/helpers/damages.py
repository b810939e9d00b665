"""What may be done to a copy of a bundle, as functions of the copy, and how findings are read."""

import re

IMAGE, PRED = "network_data_format#inputs#image", "network_data_format#outputs#pred"


def remove(file):
    return lambda bundle: (bundle.root / file).unlink()


def write(file, text):
    return lambda bundle: (bundle.root / file).write_text(text, encoding="utf-8")


def edit(file, **values):
    return lambda bundle: bundle.edit(file, **values)


def meta(**values):
    return edit("configs/metadata.json", **values)


def replace(file, old, new):
    return lambda bundle: bundle.replace(file, old, new)


def says(findings, pattern):
    return any(re.search(pattern, finding) for finding in findings)
