"""Laws of resuming: the parts of a training make the whole."""

import logging
import pathlib
import subprocess

import fresh
import pytest
import torch
from ignite.engine import Events
from monai.data import CacheDataset, DataLoader
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import EarlyStopHandler, LrScheduleHandler, ValidationHandler
from monai.transforms import Compose, RandAffined, RandGaussianNoised
from monai.utils import set_determinism
from torch import distributed, nn
from torch.utils.data import DistributedSampler

from equivariant_nets.training.checkpoints import CheckpointSaver
from equivariant_nets.training.gradients import GradientClipper
from equivariant_nets.training.resume import TrainingState, _unwrapped

EPOCHS = 4
SCORES = (0.2, 0.5, 0.4, 0.3)  # of the epochs: the best checkpoint is that of the second


class Interrupted(Exception):
    """Ends a training at any event."""


class Training:
    """A small training of five cases, made anew as by a new process, with all that has a state."""

    def __init__(
        self, folder, resume=False, seed=0, epoch_length=None, num_workers=0, channels=2, patience=9, writes=True,
        stop=None, loss=None, max_norm=None, interval=1, std=0.5, learning_rate=0.05, value=4.0, batch_size=1,
        scores=SCORES,
    ):  # fmt: skip
        self.scores = scores
        self.several = distributed.is_initialized()
        rank = distributed.get_rank() if self.several else 0
        set_determinism(seed + rank)
        data = [{"image": torch.full((1, 6, 6), float(case)), "label": torch.ones(1, 6, 6)} for case in range(5)]
        data[4]["image"][:] = value
        transform = Compose(
            [RandAffined("image", prob=0.7, rotate_range=1.0), RandGaussianNoised("image", prob=0.7, std=std)]
        )
        dataset = CacheDataset(data, transform, progress=False)
        order = {"sampler": DistributedSampler(dataset)} if self.several else {"shuffle": True}
        loader = DataLoader(dataset, num_workers=num_workers, batch_size=batch_size, **order)
        self.network = nn.Sequential(
            nn.Conv2d(1, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.Dropout(0.3), nn.Conv2d(channels, 1, 1)
        )
        if self.several:
            self.network = nn.parallel.DistributedDataParallel(self.network)
        optimizer = torch.optim.Adam(self.network.parameters(), lr=learning_rate)
        GradientClipper(optimizer, max_norm).attach(None)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=EPOCHS)
        early_stop = EarlyStopHandler(patience, lambda engine: engine.state.metrics["score"])
        saver = CheckpointSaver(
            str(folder), {"model": self.network}, save_key_metric=True, key_metric_name="score",
            key_metric_filename="model.pt",
        )  # fmt: skip
        self.validator = SupervisedEvaluator(torch.device("cpu"), DataLoader(data[:1]), self.network)
        self.validator.add_event_handler(Events.EPOCH_COMPLETED, self.score)
        for handler in (saver, early_stop) if rank == 0 else (early_stop,):
            handler.attach(self.validator)
        state = TrainingState(folder, resume, schedule, self.validator, [saver, early_stop])
        handlers = [LrScheduleHandler(schedule, print_lr=False), ValidationHandler(interval, self.validator)]
        self.trainer = SupervisedTrainer(
            torch.device("cpu"), EPOCHS, loader, self.network, optimizer, loss or nn.MSELoss(),
            epoch_length=epoch_length, train_handlers=[*handlers, state] if writes else handlers,
        )  # fmt: skip
        if not writes:
            early_stop.set_trainer(self.trainer)
        self.seen = []
        self.trainer.add_event_handler(
            Events.ITERATION_COMPLETED, lambda engine: self.seen.append(engine.state.batch[0]["image"].clone())
        )
        if stop is not None:
            self.trainer.add_event_handler(stop, self.interrupt)

    def score(self, engine):
        state = engine.state
        state.metrics["score"] = self.scores[state.epoch - 1]
        if state.metrics["score"] > state.best_metric:
            state.best_metric, state.best_metric_epoch = state.metrics["score"], state.epoch

    def interrupt(self, engine):
        raise Interrupted

    def run(self):
        self.trainer.run()
        return self


def read(path):
    return torch.load(path, weights_only=True)


def same(first, second):
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return torch.equal(first, second) if isinstance(first, torch.Tensor) else first == second


def same_results(first, second):
    return all(same(read(first / name), read(second / name)) for name in ("model.pt", "training_state.pt"))


def interrupted(folder, stop, **options):
    with pytest.raises(Interrupted):
        Training(folder, stop=stop, **options).run()


@pytest.mark.parametrize(
    "options",
    [{}, {"epoch_length": 3}, {"epoch_length": 7}, {"epoch_length": 3, "num_workers": 2}],
    ids=["a pass", "shorter", "longer", "workers"],
)
@pytest.mark.parametrize("step", [2, 8, 11])
def test_the_parts_of_a_training_make_the_whole(options, step, tmp_path):
    whole = Training(tmp_path / "whole", **options).run()
    interrupted(tmp_path / "parts", Events.ITERATION_STARTED(once=step), **options)
    rest = Training(tmp_path / "parts", resume=True, **options).run()
    assert same_results(tmp_path / "whole", tmp_path / "parts")
    assert same(whole.seen[-len(rest.seen) :], rest.seen)
    assert (rest.trainer.state.epoch, rest.trainer.state.iteration) == (EPOCHS, whole.trainer.state.iteration)
    assert (rest.validator.state.best_metric, rest.validator.state.best_metric_epoch) == (max(SCORES), 2)


def test_a_training_may_be_stopped_at_every_epoch(tmp_path):
    Training(tmp_path / "whole").run()
    interrupted(tmp_path / "parts", Events.EPOCH_STARTED(once=2))
    for epoch in (3, 4):
        interrupted(tmp_path / "parts", Events.EPOCH_STARTED(once=epoch), resume=True)
    Training(tmp_path / "parts", resume=True).run()
    assert same_results(tmp_path / "whole", tmp_path / "parts")


def train_whole_and_in_parts(rank, folder, port):
    """What each of two processes does."""
    distributed.init_process_group("gloo", store=distributed.TCPStore("127.0.0.1", port), rank=rank, world_size=2)
    whole, parts = (pathlib.Path(folder) / name for name in ("whole", "parts"))
    Training(whole).run()
    interrupted(parts, Events.ITERATION_STARTED(once=8))
    Training(parts, resume=True).run()
    distributed.destroy_process_group()


def test_the_parts_of_a_training_of_two_processes_make_the_whole(tmp_path):
    store = distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    code = "import sys; sys.path[:0] = sys.argv[4:]; from test_resume import train_whole_and_in_parts as train; "
    code += "train(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))"
    folders = [pathlib.Path(path).parent for path in (__file__, fresh.__file__)]
    arguments = [(rank, tmp_path, store.port, *folders) for rank in range(2)]
    processes = [subprocess.Popen([fresh.python(), "-c", code, *map(str, those)]) for those in arguments]
    assert [process.wait() for process in processes] == [0, 0]
    assert same_results(tmp_path / "whole", tmp_path / "parts")
    first, second = read(tmp_path / "parts" / "training_state.pt")["random"]
    assert not same(first, second)
    with pytest.raises(ValueError, match="processes: 2 before, 1 now"):
        Training(tmp_path / "parts", resume=True).run()


def test_training_is_the_same_whether_its_state_is_written_or_not(tmp_path):
    first, second = (Training(tmp_path / str(writes), writes=writes).run() for writes in (True, False))
    assert same(first.network.state_dict(), second.network.state_dict())
    assert same(first.seen, second.seen)


@pytest.mark.parametrize("damage", ["lost", "torn"])
def test_a_checkpoint_that_a_kill_left_torn_is_written_again(damage, tmp_path):
    Training(tmp_path / "whole").run()
    interrupted(tmp_path / "parts", Events.ITERATION_STARTED(once=8))  # within the second epoch, the best
    checkpoint = tmp_path / "parts" / "model.pt"
    data = checkpoint.read_bytes()
    checkpoint.unlink()
    if damage == "torn":
        checkpoint.write_bytes(data[: len(data) // 2])
    Training(tmp_path / "parts", resume=True).run()
    assert same_results(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.faults
@pytest.mark.parametrize("damage", ["lost", "torn"])
def test_the_best_weights_of_a_finished_training_are_written_again_or_said_to_be_lost(damage, tmp_path):
    def spoil(path):
        path.write_bytes(path.read_bytes()[:500]) if damage == "torn" else path.unlink()

    for folder, scores in (("last", (0.1, 0.2, 0.3, 0.4)), ("second", SCORES)):
        Training(tmp_path / folder, scores=scores).run()
    expected = read(tmp_path / "last" / "model.pt")
    for folder in ("last", "second"):
        spoil(tmp_path / folder / "model.pt")
    Training(tmp_path / "last", resume=True).run()
    assert same(read(tmp_path / "last" / "model.pt"), expected)
    with pytest.raises(ValueError, match=r"second/model\.pt, the best weights, of epoch 2, is .* ended: .* Put a copy"):
        Training(tmp_path / "second", resume=True).run()


class Diverges(nn.MSELoss):
    """A loss whose gradients, or itself, are not finite from a step of the second epoch on."""

    def __init__(self, is_seen):
        super().__init__()
        self.is_seen = is_seen
        self.steps = 0

    def forward(self, prediction, label):
        self.steps += 1
        loss = super().forward(prediction, label)
        if self.steps < 8:
            return loss
        if self.is_seen:
            return loss + torch.inf  # whose gradient is finite
        return loss + torch.sqrt(prediction.sum() * 0)  # finite, with a slope that is not


@pytest.mark.faults
@pytest.mark.parametrize("is_seen", [True, False], ids=["loss", "weights"])
@pytest.mark.parametrize("interval", [1, 4], ids=["validated", "before the validation"])
def test_a_training_that_diverges_ends_with_an_error_and_saves_nothing(is_seen, interval, tmp_path):
    interrupted(tmp_path, Events.EPOCH_STARTED(once=2), interval=interval)
    if interval == 4:
        (tmp_path / "model.pt").write_bytes(b"of an earlier training")
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.pt")}
    training = Training(tmp_path, interval=interval, loss=Diverges(is_seen), resume="false")
    with pytest.raises(ValueError, match=r"diverged|not finite") as caught:
        training.run()
    assert "smaller --learning_rate" in str(caught.value) or "--ckpt_path" in str(caught.value)
    after = {path.name: path.read_bytes() for path in tmp_path.glob("*.pt")}
    assert read(tmp_path / "training_state.pt")["epoch"] == 1
    assert all(value.isfinite().all() for value in read(tmp_path / "training_state.pt")["network"].values())
    assert after["training_state_previous.pt"] == before["training_state.pt"]
    if interval == 4:
        assert after["model.pt"] == before["model.pt"]
    else:
        assert all(value.isfinite().all() for value in read(tmp_path / "model.pt").values())


@pytest.mark.faults
def test_who_is_killed_while_the_best_weights_are_written_leaves_the_former(tmp_path, monkeypatch):
    """At each moment: the file under its name is whole."""
    seen, replace = [], pathlib.Path.replace

    def look(self, target):
        seen.append((tmp_path / "model.pt").exists() and read(tmp_path / "model.pt") is not None)
        return replace(self, target)

    monkeypatch.setattr(pathlib.Path, "replace", look)
    unlink = pathlib.Path.unlink

    def never(self, missing_ok=False):
        assert self.name != "model.pt"
        unlink(self, missing_ok)

    monkeypatch.setattr(pathlib.Path, "unlink", never)
    Training(tmp_path).run()
    assert sum(seen) >= len(seen) - 2  # but before the first


def test_a_training_that_was_stopped_early_stays_so(tmp_path):
    whole = Training(tmp_path / "whole", patience=1).run()
    assert whole.trainer.state.epoch == 3
    interrupted(tmp_path / "parts", Events.ITERATION_STARTED(once=12), patience=1)
    for steps in (5, 0):
        assert len(Training(tmp_path / "parts", resume=True, patience=1).run().seen) == steps
        assert same_results(tmp_path / "whole", tmp_path / "parts")


def test_resuming_a_finished_training_does_nothing(tmp_path):
    whole = Training(tmp_path).run()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    again = Training(tmp_path, resume=True).run()
    assert again.seen == []
    assert same(again.network.state_dict(), whole.network.state_dict())
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_trainer_that_runs_again_for_more_epochs_keeps_its_state(tmp_path):
    training = Training(tmp_path)
    training.trainer.state.max_epochs = 2
    training.run()
    training.trainer.state.max_epochs = EPOCHS
    training.run()
    Training(tmp_path / "whole").run()
    assert same(training.network.state_dict(), read(tmp_path / "whole" / "training_state.pt")["network"])
    assert sorted(path.name for path in tmp_path.glob("[!.]*") if path.is_file()) == ["model.pt", "training_state.pt"]


def test_without_a_file_a_training_starts_from_the_beginning_and_says_so(tmp_path, caplog):
    Training(tmp_path / "whole").run()
    with caplog.at_level(logging.INFO):
        assert len(Training(tmp_path / "parts", resume=True).run().seen) == 5 * EPOCHS
    assert "starts from the beginning" in caplog.text
    assert same_results(tmp_path / "whole", tmp_path / "parts")


def test_a_new_training_keeps_what_an_earlier_one_left(tmp_path):
    Training(tmp_path).run()
    earlier = {name: (tmp_path / f"{name}.pt").read_bytes() for name in ("training_state", "model")}
    interrupted(tmp_path, Events.ITERATION_STARTED(once=2))
    assert not (tmp_path / "training_state.pt").exists()
    assert {name: (tmp_path / f"{name}_previous.pt").read_bytes() for name in earlier} == earlier


def test_a_file_that_could_not_be_written_to_the_end_leaves_the_last_one(tmp_path, monkeypatch):
    def fail(file):
        raise OSError("No space left on device")

    interrupted(tmp_path, Events.EPOCH_STARTED(once=2))
    before = (tmp_path / "training_state.pt").read_bytes()
    training = Training(tmp_path, resume=True)
    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="No space"):
        training.run()
    assert (tmp_path / "training_state.pt").read_bytes() == before


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:1000]), "damaged"),
        (lambda path: path.write_bytes(b""), "damaged"),
        (lambda path: path.write_text("no zip file"), "damaged"),
        (lambda path: torch.save({"weight": torch.zeros(2)}, path), "not the state of a training"),
        (lambda path: torch.save({**read(path), "random": []}, path), "another network or with other handlers"),
    ],
    ids=["torn", "empty", "text", "weights", "incomplete"],
)
def test_a_file_that_is_no_state_of_a_training_is_refused(damage, message, tmp_path):
    interrupted(tmp_path, Events.EPOCH_STARTED(once=2))
    damage(tmp_path / "training_state.pt")
    with pytest.raises(ValueError, match=message) as caught:
        Training(tmp_path, resume=True).run()
    assert str(tmp_path / "training_state.pt") in str(caught.value)
    assert "elete it to start again" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 3}, r"network\.0\.bias: torch\.float32 \[2\] before, torch\.float32 \[3\] now"),
        ({"seed": 1}, "seed: 0 before, 1 now"),
        ({"epoch_length": 4}, "epoch_length: 5 before, 4 now"),
        ({"patience": 2}, r"patience: 9 before, 2 now"),
        ({"loss": nn.L1Loss()}, r"loss: torch\.nn\.modules\.loss\.MSELoss before, .*L1Loss now"),
        ({"max_norm": 0.5}, r"optimizer\.before_each_step\[0\]\.max_norm: None before, 0\.5 now"),
        ({"interval": 2}, r"validation\.intervals: \[1\] before, \[2\] now"),
        ({"std": 0.25}, r"data\.transform\[1\]\S*std: 0\.5 before, 0\.25 now"),
        ({"learning_rate": 0.1}, r"lr: 0\.05 before, 0\.1 now"),
        ({"value": 7.0}, r"data\.data\[4\]\.image: \S+ \[1, 6, 6\] sha256:\w{8} before"),
        ({"batch_size": 2}, r"order\.batch_size: 1 before, 2 now"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_another_network_or_other_settings_are_refused(options, message, tmp_path):
    interrupted(tmp_path, Events.EPOCH_STARTED(once=2))
    before = (tmp_path / "training_state.pt").read_bytes()
    with pytest.raises(ValueError, match=message) as caught:
        Training(tmp_path, resume=True, **options).run()
    assert str(tmp_path / "training_state.pt") in str(caught.value)
    assert (tmp_path / "training_state.pt").read_bytes() == before


@pytest.mark.parametrize("resume", [False, "false"])
def test_a_training_that_is_not_to_resume_starts_anew(resume, tmp_path):
    first = Training(tmp_path).run()
    assert len(Training(tmp_path, resume=resume).run().seen) == len(first.seen) > 0


def test_a_resume_that_is_neither_true_nor_false_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="resume='yes' is not legal: give true or false"):
        Training(tmp_path, resume="yes")


def test_the_state_of_a_compiled_network_is_that_of_the_network():
    network = torch.nn.Linear(2, 1)
    assert _unwrapped(torch.compile(network)) is network
    assert _unwrapped(network) is network
