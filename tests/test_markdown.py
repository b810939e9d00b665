"""The Python examples of README.md and docs/sides.md run as they stand, one after another as a reader tries them."""

import re
from pathlib import Path

import onnxruntime
import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]


def examples(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def run(code, names):
    exec(compile(code, "<example>", "exec"), names)


@pytest.fixture(scope="module")
def readme(tmp_path_factory):
    """The names that the examples of README.md leave behind, and the folder that they ran in."""
    folder, names = tmp_path_factory.mktemp("readme"), {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for code in examples("README.md"):
            run(code, names)
    return names, folder


def test_the_network_gives_logits_of_the_size_that_the_example_says(readme):
    names, _ = readme
    said = re.search(r"logits = net\(image\)  # (\([\d, ]+\))", "".join(examples("README.md"))).group(1)
    assert str(tuple(names["logits"].shape)) == said


def test_the_exported_network_computes_the_same_at_another_size(readme):
    names, folder = readme
    image = torch.randn(1, 1, 20, 17, 22)
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    (logits,) = session.run(None, {session.get_inputs()[0].name: image.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(logits), names["plain"](image), rtol=1e-4, atol=1e-4)


def test_sides_trade_places_in_a_mirror(readme):
    """What docs/sides.md builds: three channels, and the two sides of one structure swap when the image is mirrored."""
    names = dict(readme[0])
    (code,) = examples("docs/sides.md")
    run(code, names)
    upright = names["logits"]
    names["image"] = names["image"].flip(2)
    run("torch.manual_seed(0)\n" + code.split("\n\n", 1)[1].split("\n", 1)[1], names)  # the same network
    mirrored = names["logits"].flip(2)
    assert upright.shape[1] == 3
    torch.testing.assert_close(mirrored, upright[:, [0, 2, 1]], rtol=1e-4, atol=1e-4)
