"""Where the tests find the bundles, and copies of a small one that a test may damage."""

import json
import shutil
from pathlib import Path

import pytest
from bundle_files import BUNDLES

SMALL = "phantom_so3_segmentation"


class Copy:
    """A copy of a bundle, and ways to change its files.

    Args:
        root: its folder.
    """

    def __init__(self, root):
        self.root = root

    def edit(self, file, **values):
        """Set values of a JSON file by ids such as ``a#b#0``; those that are ``...`` are removed."""
        path = self.root / file
        content = json.loads(path.read_text(encoding="utf-8"))
        for where, value in values.items():
            node, (*parents, last) = content, where.split("#")
            for key in parents:
                node = node[int(key) if isinstance(node, list) else key]
            last = int(last) if isinstance(node, list) else last
            if value is ...:
                del node[last]
            else:
                node[last] = value
        path.write_text(json.dumps(content, indent=4, ensure_ascii=False) + "\n", encoding="utf-8")

    def metadata(self, **values):
        self.edit("configs/metadata.json", **values)

    def replace(self, file, old, new):
        """Replace a text in a file, which holds it."""
        text = (self.root / file).read_text(encoding="utf-8")
        assert old in text
        (self.root / file).write_text(text.replace(old, new), encoding="utf-8")

    def take_weights_out(self):
        """Make it a bundle that ships no weights, and says so."""
        (self.root / "models" / "model.pt").unlink()
        self.edit("configs/metadata.json", eval_metrics=...)
        self.replace("docs/README.md", "## Data\n", "No weights are shipped: train first.\n\n## Data\n")


@pytest.fixture
def copy_of(tmp_path):
    """Copy a bundle by its name, into a folder of that or another name."""

    def copy(name=SMALL, called=None):
        return Copy(Path(shutil.copytree(BUNDLES / name, tmp_path / (called or name))))

    return copy
