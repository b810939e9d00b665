"""The Python examples of README.md and of the pages in docs run as they stand, as a reader tries them."""

import re
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]


def examples(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def run(code, names):
    exec(compile(code, "<example>", "exec"), names)


def test_the_network_of_the_readme_is_as_equivariant_as_it_says():
    for code in examples("README.md"):
        run(code, {})


@pytest.fixture(scope="module")
def page():
    """The names that the examples of docs/python.md leave behind."""
    names = {}
    for code in examples("docs/python.md"):
        run(code, names)
    return names


def test_the_network_gives_logits_of_the_size_that_the_example_says(page):
    said = re.search(r"logits = net\(image\)  # (\([\d, ]+\))", "".join(examples("docs/python.md"))).group(1)
    assert str(tuple(page["logits"].shape)) == said


def test_the_exported_network_computes_the_same_at_another_size(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (code,) = examples("docs/how_to/onnx.md")
    run(code, {})
    assert capsys.readouterr().out.endswith("tensor(True)\n")


def test_sides_trade_places_in_a_mirror(page):
    """What docs/sides.md builds: three channels, and the two sides of one structure swap when the image is mirrored."""
    names = dict(page)
    one, two = (of_image_and_mirrored(code, names) for code in examples("docs/sides.md"))
    upright, mirrored = one
    assert upright.shape[1] == 3
    torch.testing.assert_close(mirrored, upright[:, [0, 2, 1]], rtol=1e-4, atol=1e-4)
    upright, mirrored = two
    assert upright.shape[1] == 4
    which_side = [logits[:, 1] - logits[:, 2] for logits in (upright, mirrored)]
    assert which_side[0].abs().max() > 1e-3
    torch.testing.assert_close(which_side[1], -which_side[0], rtol=1e-4, atol=1e-4)


def of_image_and_mirrored(code, names):
    """The logits of an example's network, and those of the mirrored image, mirrored back."""
    logits = []
    for image in (names["image"], names["image"].flip(2)):
        own = names | {"image": image}
        run("torch.manual_seed(0)\n" + code, own)  # the same network
        logits.append(own["logits"])
    return logits[0], logits[1].flip(2)
