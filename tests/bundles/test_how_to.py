"""The pages that go by symptom: what they tell a user to type runs from top to bottom, and prints what they say."""

import json

import own_data
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


@pytest.fixture
def printed(tmp_path):
    """What a command prints in a folder with the package and what bundles are built of."""
    (tmp_path / "equivariant_nets").symlink_to(ROOT / "equivariant_nets")
    (tmp_path / "bundles").mkdir()
    (tmp_path / "bundles" / "sources").symlink_to(ROOT / "bundles" / "sources")

    def by(command):
        result = run(command, tmp_path, variables=())
        return result.returncode, result.stdout + result.stderr

    return by


def only(page, kind, part=""):
    """The one block of a kind on a page that holds a text."""
    (code,) = [code for _, code in blocks(page, kind) if part in code]
    return code


def test_first_steps_show_what_inspect_prints(printed, real_hippocampus, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "hippocampus").symlink_to(real_hippocampus)
    (command,) = [line for line in commands(only("docs/first_steps.md", "sh", "inspect")) if "inspect" in line]
    code, output = printed(command)
    assert code == 0
    assert output.strip() == only("docs/first_steps.md", "text").strip()


def test_eight_cases_become_the_bundle_that_the_page_shows(printed, real_hippocampus, tmp_path):
    page = "docs/how_to/eight_cases.md"
    for folder in ("imagesTr", "labelsTr"):
        (tmp_path / "data" / "eight" / folder).mkdir(parents=True)
        for file in sorted((real_hippocampus / folder).glob("*.nii.gz"))[:8]:
            (tmp_path / "data" / "eight" / folder / file.name).symlink_to(file)
    code, output = printed(only(page, "bash"))
    assert code == 0
    assert only(page, "text") in output


def test_sides_are_refused_to_a_network_with_reflections(printed, tmp_path):
    page = "docs/how_to/left_and_right.md"
    manifest = own_data.decathlon(tmp_path / "data" / "mine", number=3) / "dataset.json"
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(content | {"labels": {"0": "background", "1": "left lobe", "2": "right lobe"}}))
    code, output = printed(only(page, "bash"))
    assert code == 1
    assert only(page, "text", "--symmetry").strip() in output


def test_a_network_that_learned_one_side_is_measured_as_the_page_shows(real_hippocampus, tmp_path):
    page = "docs/how_to/left_and_right.md"
    for name in ("bundles", "equivariant_nets"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "hippocampus").symlink_to(real_hippocampus)
    result = run(only(page, "sh", "--poses mirrored"), tmp_path, variables=())
    assert result.returncode == 0, result.stderr[-3000:]
    shown = only(page, "text", "mirrored").splitlines()[1:]
    printed = [line for line in result.stdout.splitlines() if line.startswith(("upright", "mirrored"))]
    for got, said in zip(printed, shown, strict=True):
        assert got.split()[0] == said.split()[0]
        assert float(got.split()[2]) == pytest.approx(float(said.split()[2]), abs=0.005)
