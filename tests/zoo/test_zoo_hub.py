"""What docs/model_zoo.md says of Hugging Face, with a stand-in for its client."""

import re
import shlex
from types import SimpleNamespace

import monai.bundle
import monai.bundle.scripts
import pytest
from bundle_files import BUNDLES
from fire.parser import DefaultParseValue

PAGE = (BUNDLES.parent / "docs" / "model_zoo.md").read_text(encoding="utf-8").partition("## Hugging Face")[2]
SMALL = "phantom_so3_segmentation"


@pytest.fixture
def hub(monkeypatch):
    """What MONAI asks of the client: names of its functions, and their arguments."""
    asked = []

    def record(name):
        return lambda **arguments: asked.append((name, arguments))

    names = ("create_repo", "upload_folder", "create_tag")
    tags = [SimpleNamespace(name=name) for name in ("latest_version", "0.1.0")]
    client = SimpleNamespace(
        HfApi=lambda token: SimpleNamespace(**{name: record(name) for name in names}),
        list_repo_refs=lambda repo_id: SimpleNamespace(tags=tags, branches=[]),
        snapshot_download=record("snapshot_download"),
    )
    monkeypatch.setattr(monai.bundle.scripts, "huggingface_hub", client)
    return asked


def test_the_documented_call_uploads_the_folder_of_the_bundle_and_tags_it(hub, copy_of, tmp_path, monkeypatch):
    copy_of(called=f"unpacked/{SMALL}")
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(code, "<example>", "exec"), {})
    repo = f"OWNER/{SMALL}"
    assert hub == [
        ("create_repo", {"repo_id": repo, "private": True, "exist_ok": True}),
        ("upload_folder", {"repo_id": repo, "folder_path": f"unpacked/{SMALL}"}),
        ("create_tag", {"repo_id": repo, "tag": "0.1.0", "exist_ok": True}),
        ("create_tag", {"repo_id": repo, "tag": "latest_version", "exist_ok": True}),
    ]
    front, card = (tmp_path / "unpacked" / SMALL / "README.md").read_text(encoding="utf-8").split("---\n", 2)[1:]
    assert "license: apache-2.0" in front
    assert card == (BUNDLES / SMALL / "docs" / "README.md").read_text(encoding="utf-8")


def test_the_documented_command_asks_for_the_latest_version(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (line,) = re.findall(r"-m monai\.bundle download (.*)", PAGE.replace("\\\n", " "))
    options = shlex.split(line)
    monai.bundle.download(
        **{name.removeprefix("--"): DefaultParseValue(value) for name, value in zip(*[iter(options)] * 2, strict=True)}
    )
    ((name, arguments),) = hub
    assert (name, arguments["repo_id"], arguments["revision"]) == (
        "snapshot_download",
        f"OWNER/{SMALL}",
        "latest_version",
    )
