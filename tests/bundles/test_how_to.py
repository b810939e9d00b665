"""The pages that go by symptom: what they tell a user to type runs from top to bottom, and prints what they say."""

import shutil

import pytest
from readme import ROOT, blocks, commands, run


@pytest.fixture
def follow(tmp_path, shared_cases, monkeypatch, capsys):
    """Run the blocks of a page in a folder with its data; return what its Python blocks print, and what it says."""
    for name in ("bundles", "equivariant_nets"):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copytree(shared_cases, tmp_path / "data" / "hippocampus")
    monkeypatch.chdir(tmp_path)

    def page(file):
        names, said = {}, ""
        capsys.readouterr()
        for kind, code in blocks(f"docs/how_to/{file}", "python|sh|text"):
            if kind == "python":
                exec(compile(code, file, "exec"), names)
            elif kind == "text":
                said = code
            elif "FILE" not in code:
                lines = list(commands(code))
                result = run("\n".join(lines), tmp_path, variables=lines)
                assert result.returncode == 0, result.stderr[-3000:]
        return capsys.readouterr().out, said

    return page


def test_a_file_in_another_orientation_gets_the_same_mask(follow):
    printed, said = follow("orientation.md")
    assert printed == said
    assert printed.count("same voxels") == 4


def test_a_margin_changes_next_to_nothing_and_a_crop_does(follow):
    printed, said = follow("window.md")
    names, dice = zip(*(line.split() for line in printed.splitlines()), strict=True)
    assert list(names) == [line.split()[0] for line in said.splitlines()]
    margin, slight, more = map(float, dice)
    assert margin > 0.98 > slight > more
