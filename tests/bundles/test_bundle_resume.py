"""Laws of trainings that are killed and resumed: they end as those that were not."""

import pytest
import torch
from bundle_files import NAMES, kill_when_it_writes
from fresh import python
from monai.engines import SupervisedTrainer

from equivariant_nets.errors import find_cause

KILLED = "hippocampus_mri_so3_segmentation"
RETINA = "retina_vessels_fundus"


@pytest.fixture
def train(get_bundle, run_here, monkeypatch, tmp_path):
    """Train a bundle into a folder of its own, and return it; interrupt it before a step, where one is given."""
    iterate, bundles = SupervisedTrainer._iteration, {}

    def run(name, folder, stop_before=None, **overrides):
        def iterate_or_stop(self, engine, batchdata):
            if engine.state.iteration == stop_before:
                raise KeyboardInterrupt
            return iterate(self, engine, batchdata)

        monkeypatch.setattr(SupervisedTrainer, "_iteration", iterate_or_stop)
        bundle = bundles[name] = bundles.get(name) or get_bundle(name)
        folders = {key: str(tmp_path / folder) for key in ("output_dir", "ckpt_dir")}
        run_here(bundle.root, "train.json", **{**bundle.tiny, **folders, **overrides})
        return bundle

    return run


def result(folder):
    """The best checkpoint, and the network and all else at the end."""
    return [torch.load(folder / name, weights_only=True) for name in ("model.pt", "training_state.pt")]


def differences(first, second, where=""):
    """Where two nested states differ, to the last bit."""
    if isinstance(first, dict) and isinstance(second, dict):
        keys = {**first, **second}
        return [text for key in keys for text in differences(first.get(key), second.get(key), f"{where}/{key}")]
    if isinstance(first, list | tuple) and isinstance(second, list | tuple) and len(first) == len(second):
        pairs = enumerate(zip(first, second, strict=True))
        return [text for index, pair in pairs for text in differences(*pair, f"{where}/{index}")]
    if isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor):
        return [] if torch.equal(first, second) else [where]
    return [] if first == second else [where]


@pytest.mark.parametrize("name", [name for name in NAMES if name != KILLED])
def test_an_interrupted_training_of_any_bundle_ends_as_one_that_was_not(name, train, tmp_path):
    options = {"augmentation": "full", "epochs": 2, "val_interval": 1}
    if not name.startswith(RETINA):
        options["epoch_length"] = 2  # which ends within a pass over the data
    train(name, "whole", **options)
    with pytest.raises(KeyboardInterrupt):
        train(name, "parts", stop_before=4, **options)
    assert torch.load(tmp_path / "parts" / "training_state.pt", weights_only=True)["epoch"] == 1
    train(name, "parts", resume=True, **options)
    assert differences(result(tmp_path / "whole"), result(tmp_path / "parts")) == []


def test_a_killed_training_ends_as_one_that_was_not(run_command, train, tmp_path):
    options = {"augmentation": "full", "epochs": 6, "epoch_length": 3, "network_def#dropout": 0.2, "seed": 3}
    bundle = train(KILLED, "whole", **options)
    parts = tmp_path / "parts"
    options = {**bundle.tiny, **options, "output_dir": parts, "ckpt_dir": parts}
    command = [python(), "-m", "monai.bundle", "run", "--bundle_root", str(bundle.root)]
    command += ["--config_file", str([str(bundle.root / "configs" / "train.json")])]
    command += [text for key, value in options.items() for text in (f"--{key}", str(value))]
    kill_when_it_writes(parts / "training_state.pt", command, tmp_path)
    assert torch.load(parts / "training_state.pt", weights_only=True)["epoch"] < 6
    resumed = run_command(bundle.root, ["train.json"], cwd=tmp_path, **options, resume=True)
    assert resumed.returncode == 0, resumed.stderr
    assert differences(result(tmp_path / "whole"), result(parts)) == []


CLICKS = "hippocampus_mri_so3_deepedit"


def test_a_training_starts_from_the_weights_of_another_bundle_and_is_resumed_with_these_alone(train, tmp_path):
    train(KILLED, "first", epochs=1, epoch_length=2)
    start = tmp_path / "first" / "model.pt"
    options = {"epochs": 2, "epoch_length": 1, "initial_weights": str(start)}
    # A step so small that no weight moves, but for what the first convolution learns of clicks, which is 0.
    train(CLICKS, "still", **options, learning_rate=1e-30)
    before, after = (torch.load(tmp_path / folder / "model.pt", weights_only=True) for folder in ("first", "still"))
    first = next(iter(before))
    assert all(torch.equal(before[key], after[key]) for key in before if key != first)
    assert after[first].numel() == 4 * before[first].numel()
    moved = after[first].abs() > 1e-20
    torch.testing.assert_close(after[first][moved], 2 * before[first])

    options |= {"learning_rate": 0.01}
    train(CLICKS, "whole", **options)
    with pytest.raises(KeyboardInterrupt):
        train(CLICKS, "parts", stop_before=2, **options)
    torch.save({key: value + 1 for key, value in before.items()}, tmp_path / "other.pt")
    with pytest.raises(Exception, match=r".") as caught:
        train(CLICKS, "parts", resume=True, **{**options, "initial_weights": str(tmp_path / "other.pt")})
    assert "initial_weights" in find_cause(caught.value).text
    train(CLICKS, "parts", resume=True, **options)
    assert differences(result(tmp_path / "whole"), result(tmp_path / "parts")) == []
