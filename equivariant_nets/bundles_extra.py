"""What the networks alone do not need. Modules that do import this first: it says what to install where that lacks."""

from __future__ import annotations

from importlib.util import find_spec

MODULES = (
    "monai", "PIL", "cyclopts", "filelock", "fire", "ignite", "jinja2", "matplotlib", "nibabel", "psutil", "scipy",
    "tensorboard", "tqdm",
)  # fmt: skip

if missing := [name for name in MODULES if find_spec(name) is None]:
    raise ModuleNotFoundError(
        f"The bundles need what is not installed: {', '.join(missing)}. Run: pip install -e '.[bundles]'. "
        "In an archive of a bundle, install the packages that its configs/metadata.json names.",
        name=missing[0],
    )
