"""The pages that go by symptom: what they tell a user to type runs from top to bottom, and prints what they say."""

import pytest
from readme import ROOT, blocks, commands, run


@pytest.fixture
def follow(tmp_path, monkeypatch, capsys):
    """Run the blocks of a page in a folder with cases; return what its Python blocks print, and what it says."""
    for name in ("bundles", "equivariant_nets"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)

    def page(file, cases):
        (tmp_path / "data" / "hippocampus").symlink_to(cases)
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


def test_a_file_in_another_orientation_gets_the_same_mask(follow, shared_cases):
    printed, said = follow("orientation.md", shared_cases)
    assert printed == said
    assert printed.count("same voxels") == 4


def test_a_margin_changes_next_to_nothing_and_a_crop_does(follow, real_hippocampus):
    printed, said = ((line.split() for line in text.splitlines()) for text in follow("window.md", real_hippocampus))
    for (name, dice), (said_name, said_dice) in zip(printed, said, strict=True):
        assert name == said_name
        assert float(dice) == pytest.approx(float(said_dice), abs=0.01)
