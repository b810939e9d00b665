"""Laws of the ignite handlers."""

import csv
import logging

import matplotlib.image
import nibabel as nib
import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.engines import IterationEvents, SupervisedEvaluator
from monai.fl.client.monai_algo import disable_ckpt_loaders
from monai.handlers import MeanDice
from PIL import Image

from equivariant_nets.evaluation.metrics import MetricsWithoutBest
from equivariant_nets.evaluation.tables import ClassMetricsSaver
from equivariant_nets.inference.previews import PreviewSaver
from equivariant_nets.pictures import volume_with_labels
from equivariant_nets.training.gradients import GradientClipper
from equivariant_nets.training.weights import CheckpointLoader, WeightsLoader


def write_image(path, size=(10, 12, 14), affine=None, seed=0):
    array = np.random.RandomState(seed).rand(*size).astype(np.float32)
    nib.save(nib.Nifti1Image(array, np.eye(4) if affine is None else affine), path)
    return array


def prediction(path):
    image = nib.load(path)
    label = torch.zeros(1, *image.shape)
    label[:, 3:7, 4:8, 5:9] = 1
    return MetaTensor(label, affine=image.affine, meta={"filename_or_obj": str(path)})


def inference_engine(segment):
    """An engine whose output is one segmentation an iteration, as that of MONAI's inference engines."""

    def iterate(engine, batch):
        engine.state.output = [segment(batch)]
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return engine.state.output

    engine = Engine(iterate)
    engine.register_events(*IterationEvents)
    return engine


def run_previews(folder, *paths, **options):
    """Preview fixed segmentations of some files."""
    key = options.get("pred_key", "pred")
    engine = inference_engine(lambda path: {key: prediction(path)})
    PreviewSaver(folder / "out", **options).attach(engine)
    engine.run(list(paths))
    return sorted(path.name for path in (folder / "out").iterdir())


@pytest.mark.parametrize("name", ["case_1.nii.gz", "case_1.nii", "sub-1.ses-2.nii.gz"])
def test_a_preview_is_named_after_its_input(tmp_path, name):
    write_image(tmp_path / name)
    assert run_previews(tmp_path, tmp_path / name) == [f"{name.split('.nii')[0]}_preview.png"]


def test_every_case_has_its_own_preview(tmp_path):
    paths = [tmp_path / f"{name}.nii.gz" for name in ("b", "a")]
    for path in paths:
        write_image(path)
    assert run_previews(tmp_path, *paths, pred_key="mask") == ["a_preview.png", "b_preview.png"]


def pixels(folder, name="case_preview.png"):
    return matplotlib.image.imread(folder / "out" / name)


def test_a_preview_shows_the_input_file(tmp_path):
    pictures = []
    for seed in (0, 1):
        write_image(tmp_path / "case.nii.gz", seed=seed)
        run_previews(tmp_path, tmp_path / "case.nii.gz")
        pictures.append(pixels(tmp_path))
    assert not np.array_equal(*pictures)


def reoriented(image, axcodes):
    start, end = (nib.orientations.axcodes2ornt(codes) for codes in ("RAS", axcodes))
    return image.as_reoriented(nib.orientations.ornt_transform(start, end))


@pytest.mark.parametrize("axcodes", ["LPS", "PIR"])
def test_a_preview_shows_a_volume_alike_in_every_orientation_of_the_file(tmp_path, axcodes):
    path = tmp_path / "case.nii.gz"
    write_image(path, affine=np.diag([1.0, 2.0, 3.0, 1.0]))
    label = nib.Nifti1Image(prediction(path)[0].numpy(), nib.load(path).affine)
    run_previews(tmp_path, path)
    upright = pixels(tmp_path)

    nib.save(reoriented(nib.load(path), axcodes), path)
    turned = reoriented(label, axcodes)
    output = MetaTensor(turned.get_fdata()[None], affine=turned.affine, meta={"filename_or_obj": str(path)})
    engine = inference_engine(lambda _: {"pred": output})
    PreviewSaver(tmp_path / "out").attach(engine)
    engine.run([0])
    assert np.array_equal(pixels(tmp_path), upright)


def test_a_preview_names_planes_sides_classes_and_what_they_measure(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr("equivariant_nets.pictures.save_figure", lambda figure, path: figures.append(figure))
    label = np.zeros((6, 7, 8), int)
    volume_with_labels(label, label, tmp_path / "none.png", title="case")
    label[1:3, 2:4, 3:5] = 2
    options = {"spacing_mm": (1, 2, 3), "class_names": ["anterior", "posterior"], "title": "Пациент $1_2$ \U000f0000"}
    volume_with_labels(label, label, tmp_path / "some.png", **options)
    none, some = figures
    assert [text.get_text() for text in none.texts] == ["case", "Nothing was found: no voxel is labelled."]
    assert some.get_suptitle() == r"Пациент $1_2$ \U000f0000"  # a character that no font has
    assert [text.get_text() for text in some.legends[0].texts] == [
        "anterior: nothing found",
        "posterior: 8 voxels, 0.048 mL",
    ]
    assert [panel.get_title() for panel in some.axes] == ["sagittal", "coronal", "axial", "", "", ""]
    sides = [[text.get_text() for text in panel.texts] for panel in some.axes]
    assert sides == [["P", "A"], ["L", "R"], ["L", "R"]] * 2


def test_a_preview_shows_the_first_of_several_channels_or_files(tmp_path):
    channels = [write_image(tmp_path / f"case_{name}.nii.gz", seed=seed) for seed, name in enumerate(("a", "b"))]
    nib.save(nib.Nifti1Image(np.stack(channels, axis=-1), np.eye(4)), tmp_path / "case.nii.gz")
    nib.save(nib.Nifti1Image(np.stack(channels[::-1], axis=-1), np.eye(4)), tmp_path / "other.nii.gz")

    def named(meta, saver):
        return {"subject": "case", "idx": None}

    pictures = []
    for name in ("case", "case_a", "case_b", "other"):
        output = prediction(tmp_path / "case_a.nii.gz")
        output.meta["filename_or_obj"] = str(tmp_path / f"{name}.nii.gz")
        engine = inference_engine(lambda output: {"pred": output})
        PreviewSaver(tmp_path / "out", output_name_formatter=named).attach(engine)
        engine.run([output])
        pictures.append(pixels(tmp_path))
    assert np.array_equal(pictures[0], pictures[1])
    assert np.array_equal(pictures[2], pictures[3])
    assert not np.array_equal(pictures[0], pictures[2])
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["case_preview.png"]


def step(max_norm, gradient, accumulated=1):
    """One step of plain gradient descent from 0 at a rate of 1: minus the gradient that the step saw."""
    parameters = [torch.nn.Parameter(torch.zeros_like(part)) for part in gradient]
    optimizer = torch.optim.SGD(parameters, lr=1.0)
    GradientClipper(optimizer, max_norm).attach(Engine(lambda *_: None))
    for _ in range(accumulated):
        sum((parameter * part).sum() for parameter, part in zip(parameters, gradient, strict=True)).backward()
    optimizer.step()
    return [-parameter.detach() for parameter in parameters]


def test_a_gradient_is_scaled_to_the_largest_norm():
    gradient = [torch.tensor([3.0, 0.0]), torch.tensor([[4.0]])]  # of norm 5
    for max_norm, expected in ((None, 5.0), (6.0, 5.0), (1.0, 1.0), (0.1, 0.1)):
        seen = step(max_norm, gradient)
        for part, whole in zip(seen, gradient, strict=True):
            assert torch.allclose(part, whole * expected / 5, rtol=1e-4)
    assert torch.cat([part.flatten() for part in step(1.0, gradient, accumulated=3)]).norm() <= 1.0


@pytest.mark.parametrize("max_norm", [0, -1.0, float("nan")])
def test_a_norm_that_is_not_positive_is_an_error(max_norm):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))])
    with pytest.raises(ValueError, match="max_norm="):
        GradientClipper(optimizer, max_norm)


@pytest.mark.parametrize("loader", [WeightsLoader, CheckpointLoader])
def test_missing_weights_come_with_advice(loader, tmp_path):
    network, path = torch.nn.Linear(2, 1), tmp_path / "model.pt"
    before, after = Engine(lambda *_: None), Engine(lambda *_: None)
    for engine in (before, after):
        loader(str(path), network, tmp_path / "bundle").attach(engine)
    with pytest.raises(FileNotFoundError, match=f"{path} do not exist. Give --ckpt_path with a file"):
        before.run([0])
    torch.save({key: torch.ones_like(value) for key, value in network.state_dict().items()}, path)
    after.run([0])
    assert all((value == 1).all() for value in network.state_dict().values())
    assert after.state.weights == str(path)


def test_the_federated_client_of_monai_leaves_the_loader_of_an_evaluation_out():
    parser = ConfigParser(
        {"validate": {"handlers": [{"_target_": "equivariant_nets.training.weights.CheckpointLoader"}]}}
    )
    disable_ckpt_loaders(parser)
    assert parser["validate#handlers#0#_disabled_"]


def test_metrics_without_a_best_are_computed_and_compared_with_nothing(caplog):
    def iterate(engine, batch):
        return {"pred": torch.ones(1, 1, 4, 4), "label": torch.full((1, 1, 4, 4), float(batch))}

    dice = MeanDice(output_transform=lambda output: (output["pred"], output["label"]))
    engine = SupervisedEvaluator(
        device="cpu", val_data_loader=[0.0, 1.0], network=torch.nn.Identity(), iteration_update=iterate,
        decollate=False, val_handlers=[MetricsWithoutBest({"dice": dice})],
    )  # fmt: skip
    with caplog.at_level(logging.INFO):
        engine.run()
    assert engine.state.metrics.keys() == engine.state.metric_details.keys() == {"dice"}
    assert engine.state.key_metric_name is None
    assert "best" not in caplog.text


def save_tables(folder, dice, class_names, weights=None, **options):
    """Save the tables of an evaluation with the given Dice of each case and class."""
    engine = Engine(lambda *_: None)

    def publish(engine):
        engine.state.metrics = {"dice": float(dice.mean())}
        engine.state.metric_details = {"dice": dice}
        if weights is not None:
            engine.state.weights = weights

    engine.add_event_handler(Events.EPOCH_COMPLETED, publish)
    batches = [[{"filename_or_obj": f"case_{index}.nii.gz"}] for index in range(len(dice))]
    options = {"metric_details": "*", "summary_ops": ("mean", "max"), "batch_transform": lambda batch: batch} | options
    ClassMetricsSaver(str(folder), class_names, **options).attach(engine)
    engine.run(batches)


def rows(path):
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_tables_name_the_classes(tmp_path):
    names = ["stem", "nucleus, caudal", *(f"part {i}" for i in range(2, 12))]
    dice = torch.arange(24.0).reshape(2, 12) / 24
    save_tables(tmp_path, dice, names)
    header, *cases = rows(tmp_path / "dice_raw.csv")
    assert header == ["filename", *names, "mean", "weights"]
    assert [case[0] for case in cases] == ["case_0.nii.gz", "case_1.nii.gz"]
    assert np.allclose(np.array([case[1:-2] for case in cases], float), dice, atol=1e-4)
    summary = rows(tmp_path / "dice_summary.csv")
    assert [row[0] for row in summary] == ["class", *names, "mean"]
    assert np.allclose([float(row[1]) for row in summary[1:-1]], dice.mean(0), atol=1e-4)
    assert rows(tmp_path / "metrics.csv") == [["dice", str(float(dice.mean()))], ["weights", "in memory"]]


def test_tables_name_the_weights_that_were_loaded(tmp_path):
    for _ in range(2):  # a table is written anew
        save_tables(tmp_path, torch.rand(2, 2), ["a", "b"], weights="run/model.pt")
    for name in ("dice_raw.csv", "dice_summary.csv"):
        header, *table = rows(tmp_path / name)
        assert header.count("weights") == 1
        assert {row[header.index("weights")] for row in table} == {"run/model.pt"}
    assert [row for row in rows(tmp_path / "metrics.csv") if row[0] == "weights"] == [["weights", "run/model.pt"]]


def test_tables_may_be_left_out(tmp_path):
    save_tables(tmp_path, torch.rand(2, 2), ["a", "b"], metric_details=None)
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]


def test_a_photograph_is_shown_beside_its_vessels(tmp_path):
    colours = np.random.RandomState(0).randint(0, 255, (20, 30, 3)).astype(np.uint8)
    Image.fromarray(colours).save(tmp_path / "eye.tif")
    pictures = []
    for value in (0, 1):
        label = MetaTensor(torch.full((1, 30, 20), float(value)), meta={"filename_or_obj": str(tmp_path / "eye.tif")})
        engine = inference_engine(lambda output: {"pred": output})
        PreviewSaver(tmp_path / "out").attach(engine)
        engine.run([label])
        pictures.append(pixels(tmp_path, "eye_preview.png"))
    half = pictures[0].shape[1] // 2
    assert np.array_equal(pictures[0][:, :half], pictures[1][:, :half])
    assert not np.array_equal(pictures[0][:, half:], pictures[1][:, half:])


def test_every_class_is_drawn_in_the_colour_of_its_legend(tmp_path, monkeypatch):
    """Also where there are more classes than a palette of ten has colours."""
    drawn = {}
    monkeypatch.setattr("equivariant_nets.pictures.save_figure", lambda figure, path: drawn.update(figure=figure))
    label = np.zeros((9, 30, 30), int)
    label[4, 4 : 4 + 13, 5:20] = np.arange(1, 14)[:, None]
    volume_with_labels(np.zeros(label.shape), label, tmp_path / "a.png")
    (legend,) = drawn["figure"].legends
    image = drawn["figure"].axes[3].images[1]  # the sagittal plane, below the image alone
    colours = image.cmap(image.norm(image.get_array()))
    for value, patch in enumerate(legend.get_patches(), start=1):
        shown = colours[(label[4] == value).T]
        assert np.allclose(shown, patch.get_facecolor()), value
    assert len({patch.get_facecolor() for patch in legend.get_patches()}) == 13
