"""The report opens from disk without a network, shows every network and picture, and keeps earlier sections."""

import base64
import csv
import json
import re

import numpy as np
import pytest
from outline import Outline
from stores import CASES, finish, make_experiment, save_weights, write_pictured_bundle

from equivariant_nets.experiments.plan import PLOTS
from equivariant_nets.experiments.sections import write_experiments_report, write_section

NETWORKS = ("<b>steerable</b>", "conventional, ±20° & more")
COMMAND = "python -m equivariant_nets.experiments turns.json --dataset_dir <data>"


def dice(run, case, structure, plane, angle):
    loss = 0 if run.network == NETWORKS[0] else angle / 1000
    return round(0.8 + 0.01 * CASES.index(case) + 0.002 * run.seed - loss, 5)


def make_section(folder, unfinished=0, dice=dice, cases=CASES, versions=None, **options):
    experiment = make_experiment(folder, networks=NETWORKS, **options)
    write_pictured_bundle(folder)
    for run in experiment.runs[: len(experiment.runs) - unfinished]:
        own = {"versions": versions(run)} if versions else {}
        finish(run, folder, dice, cases=cases, **own)
        save_weights(run, folder)
    return write_section(experiment, folder, COMMAND)


def outline(folder):
    return Outline(write_experiments_report(folder).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def section(tmp_path_factory):
    """The folder of a section of finished runs, and the page."""
    folder = make_section(tmp_path_factory.mktemp("report"))
    return folder, outline(folder.parent)


def test_the_report_holds_all_pictures_and_asks_for_nothing_else(section):
    folder, page = section

    sources = [value for name, value in page.attributes if name in ("src", "srcset", "data", "action")]
    shown = [base64.b64decode(source.removeprefix("data:image/png;base64,")) for source in sources]
    assert sorted(shown) == sorted(path.read_bytes() for path in folder.glob("*.png"))
    assert len(shown) == 2 + 2 * len(NETWORKS)
    assert all(value.startswith("#") for name, value in page.attributes if name == "href")
    assert not {"link", "script", "iframe", "b"} & set(page.tags)
    assert {path.name for path in folder.iterdir() if path.suffix != ".png"} == {
        "scores.csv", "summary.csv", "section.json"
    }  # fmt: skip


def test_the_report_says_what_was_found_and_how(section):
    text = " ".join(section[1].text)

    assert "Turned by 45 degrees, Dice falls by: <b>steerable</b> 0.000 (0.000 to 0.000); conventional" in text
    assert "conventional, ±20° & more 0.045 (0.045 to 0.045). Upright it is: <b>steerable</b> 0.836" in text
    assert "4 of 4 runs are finished." in text
    assert "Not finished" not in text
    assert "What does a turn cost?" in text
    assert "fast 0.1.0" in text
    assert "Versions: python 3.11, torch 2.13. Device: CPU." in text
    assert "The runs differ" not in text
    assert COMMAND in text
    assert f"Cases: upright {len(CASES)}, turned {len(CASES)}." in text
    assert "Not all were turned" not in text


def test_its_tables_are_in_the_csv(section):
    folder, page = section
    cells = [cell for cell in page.text if re.fullmatch(r"[-.\d]+ \([-.\d]+ to [-.\d]+\)", cell)]
    shown = sorted([float(figure) for figure in re.findall(r"[-.\d]+", cell)] for cell in cells)
    with (folder / "summary.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["table"] for row in rows} == {"dice", "drop", "structure", "difference", "seeds"}
    kept = sorted([round(float(row[name]), 3) + 0.0 for name in ("mean", "low", "high")] for row in rows)
    assert len(shown) == len(kept)
    assert np.allclose(shown, kept, atol=0.0011)


def test_unfinished_runs_are_named(tmp_path):
    make_section(tmp_path, unfinished=2, values=(1, 2))
    text = " ".join(outline(tmp_path).text)
    assert "6 of 8 runs are finished." in text
    names = (f"{NETWORKS[1]}, width {value}, seed 1" for value in (1, 2))
    assert f"Not finished, and not in what follows: {'; '.join(names)}." in text


def test_too_few_cases_for_a_test_and_differing_versions_are_said(tmp_path):
    make_section(tmp_path, cases=CASES[:5], versions=lambda run: {"torch": f"2.{run.seed}"})
    text = " ".join(outline(tmp_path).text)
    assert "with fewer than 6 cases no test is possible" in text
    assert "torch 2.0 and 2.1" in text
    assert "differ in their versions of torch" in text


@pytest.mark.parametrize(
    ("plot", "finding"),
    [
        ("curve", "Upright Dice, width 1: <b>steerable</b> 0.836"),
        ("parameters", "with the fewest to the most parameters (in brackets): <b>steerable</b> 0.836 (1,000);"),
        ("structures", "Upright Dice: <b>steerable</b> 0.836"),
    ],
)
def test_every_kind_of_experiment_has_a_finding(tmp_path, plot, finding):
    make_section(tmp_path, values=(1, 4), plot=plot)
    assert finding in " ".join(outline(tmp_path).text)


@pytest.mark.parametrize("plot", PLOTS)
def test_a_smoke_run_says_everywhere_that_it_is_one_and_claims_nothing(tmp_path, plot):
    values = (1, 4) if plot != "rotation" else (None,)
    make_section(tmp_path / "full", plot=plot, values=values)
    full = tmp_path / "full" / "turns"
    folder = make_section(tmp_path, plot=plot, values=values, quick=True, title="Turns (smoke run)")
    page = outline(tmp_path)
    text = " ".join(page.text)

    assert page.text.count("Turns (smoke run)") == 2  # in the contents, and above the section
    claims = ("falls by", "Upright Dice", "Upright it is", "Comparison with the reference", "Holm", "p (", "reference")
    assert not [claim for claim in claims if claim in text]
    finding = "Smoke run: its numbers mean nothing. The networks were trained for a few steps, to see that all works; "
    assert text.count(finding) == 2
    notes = [note for note in page.text if "95 % confidence" in note or "over seeds" in note]
    assert len(notes) >= 3
    assert all(note.startswith("Smoke run: its numbers mean nothing.") for note in notes)
    pictures = [value for name, value in page.attributes if name == "alt" and "test case" in value]
    assert len(pictures) == 2 * len(NETWORKS)
    assert all(title.startswith("Smoke run: its numbers mean nothing.") for title in pictures)

    for table, other in ((folder / name, full / name) for name in ("scores.csv", "summary.csv")):
        rows, of_full = (list(csv.DictReader(path.open(newline="", encoding="utf-8"))) for path in (table, other))
        assert {row["smoke_run"] for row in rows} == {"True"}
        assert {row["smoke_run"] for row in of_full} == {"False"}
        assert {row.get("table") for row in of_full} - {row.get("table") for row in rows} <= {"difference"}
        assert not any(row.get("table") == "difference" for row in rows)
    for path in full.glob("*.png"):
        assert path.read_bytes() != (folder / path.name).read_bytes()


def test_sections_of_earlier_experiments_stay_and_one_that_is_written_again_is_replaced(tmp_path):
    make_section(tmp_path / "first")
    (tmp_path / "first" / "turns").rename(tmp_path / "turns")
    make_section(tmp_path, name="widths", title="Widths & more", values=(1, 2))
    page = outline(tmp_path)

    sections = ["turns", "widths"]
    assert [value for name, value in page.attributes if name == "id"] == sections
    assert [value for name, value in page.attributes if name == "href"] == [f"#{name}" for name in sections]
    assert page.text.count("Widths & more") == 2  # in the contents, and above the section
    before = (tmp_path / "report.html").read_bytes()
    assert write_experiments_report(tmp_path).read_bytes() == before


def test_no_section_or_a_damaged_one_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no section of an experiment"):
        write_experiments_report(tmp_path)
    section = tmp_path / "turns" / "section.json"
    section.parent.mkdir()
    for content in ("{", json.dumps({"title": "Turns"}), "[]"):
        section.write_text(content)
        with pytest.raises(ValueError, match=r"section\.json is no section of a report .*Delete it"):
            write_experiments_report(tmp_path)
