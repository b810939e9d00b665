"""Laws of the pooled scores: those of counting pixels one by one, at every threshold."""

import pytest
import torch
from ignite.engine import Engine
from monai.metrics import compute_roc_auc

from equivariant_nets.evaluation.metrics import PooledDice, PooledScores


def pixels(seed=0, shape=(1, 20, 30)):
    generator = torch.Generator().manual_seed(seed)
    label = (torch.rand(shape, generator=generator) < 0.3).float()
    noise = torch.rand(shape, generator=generator)
    probability = ((0.3 * label + 0.7 * noise) * 100).round() / 100
    return probability, label, (torch.rand(shape, generator=generator) < 0.8).float()


def counted(probability, label, mask, threshold):
    inside = mask > 0
    found, true = probability[inside] >= threshold - 1e-6, label[inside] > 0
    return {
        "dice": 2 * (found & true).sum() / (found.sum() + true.sum()),
        "sensitivity": (found & true).sum() / true.sum(),
        "specificity": (~found & ~true).sum() / (~true).sum(),
    }


@pytest.mark.parametrize("threshold", [0, 0.2, 0.5, 0.61, 1])
def test_scores_are_those_of_counting(threshold):
    scores = PooledScores()
    scores.update(*pixels())
    result = scores.at(threshold)
    expected = counted(*pixels(), threshold)
    assert {key: result[key] for key in expected} == pytest.approx(
        {k: float(v) for k, v in expected.items()}, nan_ok=True
    )


def test_auc_is_that_of_monai():
    probability, label, mask = pixels()
    scores = PooledScores()
    scores.update(probability, label, mask)
    inside = mask > 0
    assert scores.at(0.5)["auc"] == pytest.approx(compute_roc_auc(probability[inside], label[inside]), abs=1e-6)


def test_best_threshold_is_the_best():
    scores = PooledScores()
    scores.update(*pixels())
    best = scores.at(scores.best_threshold())["dice"]
    assert best == pytest.approx(max(scores.at(t / 1000)["dice"] for t in range(1001)))


def test_images_are_pooled():
    together, apart = PooledScores(), PooledScores()
    parts = [pixels(seed) for seed in range(3)]
    for part in parts:
        apart.update(*part)
    together.update(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))
    assert torch.equal(together.histograms, apart.histograms)


def test_without_a_mask_all_pixels_count():
    scores = PooledScores()
    scores.update(*pixels()[:2])
    assert scores.histograms.sum() == 600


def test_perfect_and_inverted_predictions():
    _, label, mask = pixels()
    for probability, dice, auc in ((label, 1, 1), (1 - label, 0, 0)):
        scores = PooledScores()
        scores.update(probability, label, mask)
        assert scores.at(0.5)["dice"] == dice
        assert scores.at(0.5)["auc"] == auc


def test_illegal_input():
    probability, label, mask = pixels()
    scores = PooledScores()
    with pytest.raises(ValueError, match=r"Shapes differ: \[\(1, 20, 30\), \(1, 20, 29\)"):
        scores.update(probability, label[..., 1:], mask)
    for bad in (probability + 1, probability * float("nan")):
        with pytest.raises(ValueError, match=r"outside \[0, 1\] or NaN"):
            scores.update(bad, label, mask)
    assert not scores.histograms.any()
    with pytest.raises(ValueError, match="threshold=2 is not in"):
        scores.at(2)


def test_the_metric_of_an_engine_pools_an_epoch_and_starts_anew():
    batches = [[pixels(seed) for seed in seeds] for seeds in ((0, 1), (2, 3))]
    engine = Engine(lambda engine, batch: ([p[0] for p in batch], [p[1] for p in batch]))
    PooledDice(lambda output: output).attach(engine, "dice")
    scores = PooledScores()
    for part in (part for batch in batches for part in batch):
        scores.update(*part[:2])
    for _ in range(2):
        assert engine.run(batches).metrics["dice"] == pytest.approx(scores.at(scores.best_threshold())["dice"])
