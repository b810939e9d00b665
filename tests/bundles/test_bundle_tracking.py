"""A training that MLflow keeps track of can be read back from its database."""

from mlflow import MlflowClient
from monai.utils import path_to_sqlite_uri

PHANTOM = "phantom_so3_segmentation"


def test_metrics_and_parameters_of_a_training_are_in_the_database(get_bundle, run_here):
    bundle = get_bundle(PHANTOM)
    run_here(
        bundle.root, "train.json", **{**bundle.tiny, "epochs": 2}, tracking="mlflow", experiment_name="phantoms",
        run_name="first",
    )  # fmt: skip
    client = MlflowClient(path_to_sqlite_uri(str(bundle.root / "eval" / "mlruns.db")))
    experiment = client.get_experiment_by_name("phantoms")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == "first"
    assert run.info.status == "FINISHED"
    assert run.data.params == {"max_epochs": "2", "epoch_length": "2"}
    history = {name: client.get_metric_history(run.info.run_id, name) for name in run.data.metrics}
    assert {"train_loss", "train_mean_dice", "val_mean_dice"} <= history.keys()
    assert [metric.step for metric in history["val_mean_dice"]] == [1, 2]
    assert [metric.step for metric in history["train_loss"]] == [1, 2, 3, 4]
