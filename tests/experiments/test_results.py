"""What finished runs measured is read as it stands, in whatever order, and what is damaged is named."""

import csv
import dataclasses
import json

import pytest
from stores import CASES, finish, make_experiment, write_table

from equivariant_nets.experiments.execution import evaluation_dir, training_dir
from equivariant_nets.experiments.results import Pose, read_settings, unique_case_names, write_scores


def dice(run, case, structure, plane, angle):
    return round(0.5 + 0.01 * CASES.index(case) + 0.1 * run.seed + 0.05 * (structure == "anterior") - angle / 1000, 5)


def test_scores_are_the_rows_of_the_tables_and_the_csv_holds_them_all(tmp_path):
    experiment = make_experiment(tmp_path, values=(1, 2))
    for run in experiment.runs:
        finish(run, tmp_path, dice, parameters=10 * run.value)
    settings, unfinished = read_settings(experiment, tmp_path)

    assert unfinished == []
    assert [(s.network, s.value, s.parameters, s.seeds) for s in settings] == [
        (name, value, 10 * value, [0, 1]) for name in ("steerable", "conventional") for value in (1, 2)
    ]
    runs = {run.seed: run for run in experiment.runs}
    for setting in settings:
        assert len(setting.scores) == 2 * len(CASES) * 2 * (1 + 6)
        for s in setting.scores:
            assert s.dice == dice(runs[s.seed], s.case, s.structure, s.plane, s.angle_degrees)
    with write_scores(settings, tmp_path / "new" / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    columns = ["network", "value", "parameters", "seed", "case", "class", "plane", "angle_degrees", "dice"]
    assert list(rows[0]) == [*columns, "interpolation_dice", "smoke_run"]
    assert {row["smoke_run"] for row in rows} == {"False"}
    assert [float(row["dice"]) for row in rows] == [score.dice for s in settings for score in s.scores]
    assert {row["plane"] for row in rows} == {"upright", "axial", "coronal", "random"}


def test_the_order_of_rows_and_of_seeds_does_not_matter(tmp_path):
    found = []
    for order, seeds in ((list, (0, 1)), (lambda rows: rows[::-1], (1, 0))):
        out = tmp_path / str(seeds[0])
        experiment = make_experiment(tmp_path, seeds=seeds)
        for run in experiment.runs:
            finish(run, out, dice, order=order)
        found.append(read_settings(experiment, out)[0])
    assert found[0] == found[1]


def test_unfinished_runs_are_left_out_and_named(tmp_path):
    experiment = make_experiment(tmp_path)
    for run in experiment.runs[:3]:
        finish(run, tmp_path, dice)
    (evaluation_dir(experiment.runs[0], tmp_path) / "record.json").unlink()
    settings, unfinished = read_settings(experiment, tmp_path)

    assert [(run.network, run.seed) for run in unfinished] == [("steerable", 0), ("conventional", 1)]
    assert [(s.network, s.seeds) for s in settings] == [("steerable", [1]), ("conventional", [0])]
    with pytest.raises(ValueError, match=r"None of the 4 runs of turns is finished in .*nothing to show"):
        read_settings(experiment, tmp_path / "elsewhere")


def test_a_bundle_that_turns_nothing_has_upright_scores_alone(tmp_path):
    experiment = make_experiment(tmp_path, seeds=(0,))
    for run in experiment.runs:
        (finish(run, tmp_path, dice) / "rotation_dice.csv").unlink()
    assert {s.plane for setting in read_settings(experiment, tmp_path)[0] for s in setting.scores} == {"upright"}


ROTATION, UPRIGHT = "rotation_dice.csv", "mean_dice_raw.csv"
HEADER = "case,plane,angle_degrees,class,dice,interpolation_dice\n"


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        (ROTATION, "", "has no rows"),
        (ROTATION, HEADER, "has no rows"),
        (ROTATION, "case,plane\na,axial\n", "lacks the columns angle_degrees, class, dice, interpolation_dice"),
        (ROTATION, HEADER + "a,axial,0,x,0.5\n", "shorter or longer"),
        (ROTATION, HEADER + "a,axial,0,x,0.5,1,2\n", "shorter or longer"),
        (ROTATION, HEADER + "a,axial,0,x,high,1\n", "holds 'high' in the column dice"),
        (ROTATION, HEADER + "a,axial,0,x,0.5,1\n" * 2, "more than one row of a, x, axial, 0.0"),
        (ROTATION, "\udcff", "cannot be read"),
        (UPRIGHT, "", "has no rows"),
        (UPRIGHT, None, "cannot be read"),
        (UPRIGHT, "case,x\na,0.5\n", "lacks the columns filename"),
        (UPRIGHT, "filename,mean\na,0.5\n", "has no column of a class"),
        (UPRIGHT, "filename,x,mean\na,nan,nan\n", "holds no Dice but NaN"),
        ("record.json", "{", "cannot be read"),
        ("record.json", "[]", "cannot be read"),
        ("record.json", '{"finished": "today"}', "lacks bundle_version, device"),
    ],
)
def test_a_damaged_file_is_named_with_the_folder_to_delete(tmp_path, name, content, problem):
    experiment = make_experiment(tmp_path, seeds=(0,))
    folder = finish(experiment.runs[0], tmp_path, dice)
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(ValueError) as error:  # noqa: PT011
        read_settings(experiment, tmp_path)
    assert str(error.value).startswith(str(folder / name))
    assert problem in str(error.value)
    assert f"Delete the folder {folder} and run" in str(error.value)


def test_a_damaged_record_of_a_training_names_its_folder(tmp_path):
    experiment = make_experiment(tmp_path, seeds=(0,))
    finish(experiment.runs[0], tmp_path, dice)
    folder = training_dir(experiment.runs[0], tmp_path)
    (folder / "record.json").write_text(json.dumps({"seconds": 1}))
    with pytest.raises(ValueError, match=f"Delete the folder {folder} and"):
        read_settings(experiment, tmp_path)


def test_cases_whose_files_share_a_name_have_that_of_their_folder(tmp_path):
    assert unique_case_names(["/d/a.nii.gz", "/d/b.nii"]) == ["a", "b"]
    assert unique_case_names(["/x/t1.nii.gz", "/y/t1.nii.gz", "/y/a.nii.gz"]) == ["x/t1", "y/t1", "a"]
    experiment = make_experiment(tmp_path, seeds=(0,))
    folder = finish(experiment.runs[0], tmp_path, dice)
    write_table(folder / UPRIGHT, ["filename", "x", "mean"], [[f"/{n}/t1.nii.gz", 0.5, 0.5] for n in "ab"])
    scores = read_settings(experiment, tmp_path)[0][0].within(Pose("", "upright"))
    assert [score.case for score in scores] == ["a/t1", "b/t1"]


def test_a_value_of_any_kind_makes_settings_of_its_own(tmp_path):
    experiment = make_experiment(tmp_path, networks=("steerable",), values=("4x0e", [1, 2]), seeds=(0,))
    for run in experiment.runs:
        finish(run, tmp_path, dice)
    settings, _ = read_settings(experiment, tmp_path)
    assert [s.label for s in settings] == ["steerable, 4x0e", "steerable, [1, 2]"]
    assert [dataclasses.replace(s, value=None).label for s in settings] == ["steerable"] * 2
