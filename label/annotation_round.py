"""A round of annotation over REST, with simulated clicks, on volumes of the hippocampus that no model was trained on.

It starts a server of MONAI Label and drives it as 3D Slicer does. Each volume is segmented automatically, and corrected
by one click after another. The labels of the most uncertain volumes are submitted, the automatic model is fine-tuned on
them, and segments the others again. What clicks and fine-tuning were worth stands in transcript.md, with every request,
and in clicks.csv and fine_tuning.csv.
"""

from __future__ import annotations

import csv
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from annotator import Annotator, ServerError
from serve import BUNDLES, DROPOUT, OUTPUT, Server, UsageError, check_models, check_port, prepare_app

from equivariant_nets.cli import command_line
from equivariant_nets.data import hippocampus_datalist
from equivariant_nets.interaction import next_click

AUTOMATIC = "hippocampus_mri_so3_segmentation"
CLICKED = "hippocampus_mri_so3_deepedit"
LABELS = {"anterior hippocampus": 1, "posterior hippocampus": 2, "background": 0}
FOREGROUND = [name for name, value in LABELS.items() if value]

Rows = list[dict[str, object]]


def dice(pred: np.ndarray, label: np.ndarray) -> dict[str, float]:
    """Dice of each label of two label maps, and their mean."""
    scores = {}
    for name in FOREGROUND:
        predicted, true = pred == LABELS[name], label == LABELS[name]
        size = predicted.sum() + true.sum()
        scores[name] = float(2 * (predicted & true).sum() / size) if size else 1.0
    return {**scores, "mean": float(np.mean(list(scores.values())))}


def correct(annotator: Annotator, case: str, label: np.ndarray, counts: Sequence[int]) -> Rows:
    """Dice of one volume after each number of clicks. Where nothing is left to correct, clicking ends."""
    rows: Rows = []
    clicks: dict[str, list[tuple[int, int, int]]] = {name: [] for name in LABELS}
    pred = annotator.segment(CLICKED, case, clicks)
    for count in range(max(counts) + 1):
        if count in counts:
            rows.append({"case": case, "clicks": count, **dice(pred, label)})
        if count < max(counts) and (click := next_click(pred, label, LABELS)):
            name, voxel = click
            clicks[name].append(voxel)
            pred = annotator.segment(CLICKED, case, clicks)
    return rows


def correct_all(annotator: Annotator, labels: dict[str, Path], counts: Sequence[int]) -> Rows:
    """:func:`correct` for each volume, by the file of its label."""
    return [row for case, path in labels.items() for row in correct(annotator, case, read(path), counts)]


def read(path: Path) -> np.ndarray:
    """The label map of a file."""
    return np.asarray(nib.load(path).dataobj)


def fine_tune(
    annotator: Annotator, labels: dict[str, Path], submitted: int, epochs: int, learning_rate: float | None
) -> Rows:
    """Dice of the volumes without a submitted label, before and after fine-tuning on those with one."""
    annotator.score_uncertainty(AUTOMATIC)
    rest = dict(labels)
    for _ in range(submitted):
        case = annotator.next_sample("epistemic")
        annotator.submit(case, rest.pop(case))
    rows = [_automatic(annotator, "before", case, path) for case, path in rest.items()]
    options = {} if learning_rate is None else {"learning_rate": learning_rate}
    annotator.train(AUTOMATIC, {"max_epochs": epochs, "val_split": 0.25, **options})
    return rows + [_automatic(annotator, "after", case, path) for case, path in rest.items()]


def _automatic(annotator: Annotator, stage: str, case: str, path: Path) -> dict[str, object]:
    pred = annotator.segment(AUTOMATIC, case)
    return {"case": case, "fine-tuning": stage, **dice(pred, read(path))}


def write_table(rows: Rows, path: Path) -> None:
    """Write rows as CSV."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def mean_table(rows: Rows, by: str) -> list[str]:
    """Lines of a Markdown table: the mean Dice of each label over the cases, by the value of a column."""
    columns = [*FOREGROUND, "mean"]
    lines = [f"| {by} | cases | {' | '.join(columns)} |", "| --- " * (2 + len(columns)) + "|"]
    for value in dict.fromkeys(row[by] for row in rows):
        chosen = [row for row in rows if row[by] == value]
        means = [np.mean([float(str(row[column])) for row in chosen]) for column in columns]
        lines.append(f"| {value} | {len(chosen)} | {' | '.join(f'{mean:.3f}' for mean in means)} |")
    return lines


def case_table(rows: Rows, by: str) -> list[str]:
    """Lines of a Markdown table: the mean Dice over the labels of each case, by the value of a column."""
    values = list(dict.fromkeys(row[by] for row in rows))
    lines = [f"| case | {' | '.join(f'{by} {value}' for value in values)} |", "| --- " * (1 + len(values)) + "|"]
    for case in dict.fromkeys(row["case"] for row in rows):
        cells = [f"{row['mean']:.3f}" for row in rows if row["case"] == case]
        lines.append(f"| {case} | {' | '.join(cells)} |")
    return lines


def transcript(clicks: Rows, tuning: Rows, annotator: Annotator, settings: str) -> str:
    """What was measured and every request, as Markdown."""
    lines = ["# A round of annotation", "", settings, ""]
    for title, rows, by in (("Clicks", clicks, "clicks"), ("Fine-tuning", tuning, "fine-tuning")):
        if rows:
            lines += [f"## {title}", "", "Dice, mean over the cases:", "", *mean_table(rows, by), ""]
            lines += ["Mean over both labels, by case:", "", *case_table(rows, by), ""]
    lines += ["## Requests", "", "| request | answer | seconds |", "| --- | --- | --- |"]
    lines += [f"| `{request}` | {answer} | {seconds:.1f} |" for request, answer, seconds in annotator.rows]
    return "\n".join(lines) + "\n"


def annotate(
    *,
    dataset_dir: Path,
    output_dir: Path = OUTPUT / "annotation_round",
    cases: int = 12,
    clicks: Sequence[int] = (0, 1, 3, 5),
    submitted: int = 4,
    epochs: int = 10,
    learning_rate: float | None = None,
    weights: Path | None = None,
    dropout: float = DROPOUT,
    port: int = 8010,
) -> str:
    """A round of annotation over REST, with simulated clicks, on volumes of the hippocampus that no model has seen.

    Args:
        dataset_dir: MSD Task04, with dataset.json.
        output_dir: receives transcript.md, clicks.csv and fine_tuning.csv.
        cases: volumes of the test section.
        clicks: after how many to measure; 0: none.
        submitted: labels to fine-tune on.
        epochs: of the fine-tuning.
        learning_rate: of the fine-tuning. By default that of the training.
        weights: what the automatic model starts from. By default those that are shipped.
        dropout: of dropping a feature, for uncertainty.
        port: to listen on.
    """
    models = [AUTOMATIC, CLICKED] if max(clicks) > 0 else [AUTOMATIC]
    check_models(models, BUNDLES)
    check_port("127.0.0.1", port)
    data = choose_cases(dataset_dir, cases, submitted)
    if weights and not weights.is_file():
        raise UsageError(f"The weights {weights} do not exist. Give the model.pt of a training of {AUTOMATIC}.")
    output = output_dir.expanduser().absolute()
    labels = prepare(output, data, models, weights)
    server = Server(output / "app", models, str(output / "studies"), AUTOMATIC, dropout, port=port)
    try:
        server.wait()
        annotator = Annotator(server.address, output)
        annotator.models()
        clicked = correct_all(annotator, labels, clicks) if CLICKED in models else []
        tuned = fine_tune(annotator, labels, submitted, epochs, learning_rate)
    finally:
        server.stop()
    for name, rows in {"clicks.csv": clicked, "fine_tuning.csv": tuned}.items():
        if rows:
            write_table(rows, output / name)
    settings = settings_of(cases, submitted, epochs, learning_rate, weights)
    report = output / "transcript.md"
    report.write_text(transcript(clicked, tuned, annotator, settings), encoding="utf-8")
    return f"\nThe transcript is {report}"


def settings_of(cases: int, submitted: int, epochs: int, learning_rate: float | None, weights: Path | None) -> str:
    """What the transcript says of how it came about."""
    rate = f", with a learning rate of {learning_rate}" if learning_rate else ""
    start = f", which started from {weights.name}," if weights else ""
    return (
        f"The first {cases} test cases. Clicks lie in the middle of the largest wrong component. The "
        f"{submitted} most uncertain cases were labelled, and the automatic model{start} was fine-tuned on them "
        f"for {epochs} epochs{rate}."
    )


def choose_cases(dataset_dir: Path, count: int, submitted: int) -> list[dict[str, str]]:
    """The first cases of the test section."""
    data = hippocampus_datalist(dataset_dir, section="test")
    if not 4 <= submitted < count <= len(data):
        raise UsageError(
            f"--cases {count} and --submitted {submitted} are not legal: submit 4 labels or more, of fewer "
            f"cases than there are; the test section has {len(data)}."
        )
    return data[:count]


def prepare(
    output: Path, data: Sequence[dict[str, str]], models: Sequence[str], weights: Path | None
) -> dict[str, Path]:
    """Write the images and the app of a server anew, and return the file of the label of each image."""
    for name in ("studies", "app"):
        shutil.rmtree(output / name, ignore_errors=True)
    (output / "studies").mkdir(parents=True)
    labels = {}
    for item in data:
        shutil.copy(item["image"], output / "studies")
        labels[Path(item["image"]).name.removesuffix(".nii.gz")] = Path(item["label"])
    prepare_app(output / "app", models, BUNDLES)
    if weights:
        shutil.copy(weights, output / "app" / "model" / AUTOMATIC / "models" / "model.pt")
    os.environ["MONAI_LABEL_AUTO_UPDATE_SCORING"] = "false"  # it would score beside the requests, and slow them down
    return labels


cli = command_line(annotate)

if __name__ == "__main__":
    try:
        cli()
    except (UsageError, ServerError, FileNotFoundError, ValueError) as error:
        sys.exit(str(error))
