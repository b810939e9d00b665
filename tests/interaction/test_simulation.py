"""Laws of the simulated user: it clicks where the segmentation is wrong, on the label that is true there."""

import numpy as np
import pytest
import torch

from equivariant_nets.interaction import AddSimulatedClicksd, click_in, next_click
from equivariant_nets.rotations import lattice_symmetries

NAMES = {"head": 1, "tail": 2, "background": 0}
VALUES = dict(zip(NAMES.values(), NAMES, strict=True))


def maps(seed, size=(7, 9, 8)):
    random = np.random.RandomState(seed)
    return random.randint(0, 3, size), random.randint(0, 3, size)


def lines():
    """A label map of two straight parts, of which the second is longer."""
    label = np.zeros((9, 11, 10), dtype=int)
    label[1:4, 2:5, 1:4] = 1
    label[5:8, 3:10, 5:8] = 2
    return label


@pytest.mark.parametrize("seed", range(5))
def test_a_click_is_on_a_wrong_voxel_and_names_its_true_label(seed):
    pred, label = maps(seed)
    name, voxel = next_click(pred, label, NAMES)
    assert pred[voxel] != label[voxel]
    assert name == VALUES[label[voxel]]
    assert next_click(torch.tensor(pred), torch.tensor(label, dtype=torch.float32), NAMES) == (name, voxel)
    assert all(isinstance(index, int) for index in voxel)


def test_the_middle_of_the_largest_wrong_component_is_clicked():
    label = lines()
    assert next_click(np.zeros_like(label), label, NAMES) == ("tail", (6, 6, 6))
    assert next_click(np.where(label == 2, 2, 0), label, NAMES) == ("head", (2, 3, 2))
    assert next_click(label, np.zeros_like(label), NAMES) == ("background", (6, 6, 6))
    assert next_click(label, label, NAMES) is None


def test_the_border_of_the_volume_ends_a_component():
    label = np.ones((5, 5, 9), dtype=int)
    assert next_click(np.zeros_like(label), label, NAMES) == ("head", (2, 2, 4))


def test_the_click_moves_with_the_maps():
    label = lines()
    wrong = np.argwhere(label == 2).mean(0)
    for matrix in lattice_symmetries():
        axes = np.abs(matrix).argmax(1)
        flipped = [axis for axis in range(3) if matrix[axis, axes[axis]] < 0]
        turned = np.flip(label.transpose(axes), flipped)
        expected = matrix @ (wrong - (np.array(label.shape) - 1) / 2) + (np.array(turned.shape) - 1) / 2
        assert next_click(np.zeros_like(turned), turned, NAMES) == ("tail", tuple(expected.round().astype(int)))


def test_whoever_obeys_the_clicks_gets_every_voxel_right():
    pred, label = maps(0, (4, 5, 4))
    for _ in range(label.size):
        click = next_click(pred, label, NAMES)
        if click is None:
            break
        pred[click[1]] = NAMES[click[0]]
    assert (pred == label).all()


@pytest.mark.parametrize("seed", range(5))
def test_random_clicks_lie_within_their_region_and_mostly_deep(seed):
    region = maps(seed)[0] == 1
    assert all(region[click_in(region, at_random=True)] for _ in range(10))
    ball = np.linalg.norm(np.indices((15, 15, 15)) - 7, axis=0) < 7
    radii = [np.linalg.norm(np.array(click_in(ball, at_random=True)) - 7) for _ in range(50)]
    assert np.mean(radii) < 0.7 * np.linalg.norm(np.argwhere(ball) - 7, axis=1).mean()
    assert click_in(ball) == (7, 7, 7)


@pytest.mark.parametrize(
    ("pred", "label", "message"),
    [
        (np.zeros((3, 3, 3)), np.zeros((3, 3, 4)), r"\(3, 3, 3\) and \(3, 3, 4\); legal are two maps"),
        (np.zeros((1, 3, 3, 3)), np.zeros((1, 3, 3, 3)), "without a channel axis"),
        (np.zeros((3, 3, 3)), np.full((3, 3, 3), 7), r"label map holds \[7\]"),
        (np.full((3, 3, 3), 0.5), np.zeros((3, 3, 3)), r"segmentation holds \[0.5\]"),
    ],
)
def test_maps_that_do_not_fit_are_refused(pred, label, message):
    with pytest.raises(ValueError, match=message):
        next_click(pred, label, NAMES)


def logits_of(label):
    """Scores of the classes 0, 1 and 2 of a label map ``(D, H, W)``."""
    return torch.nn.functional.one_hot(torch.as_tensor(label).long(), 3).movedim(-1, 0).float()


def without_clicks(size):
    """An image of a channel, and the channels of three names."""
    return torch.cat([torch.ones(1, *size), torch.zeros(3, *size)])


def simulated(pred, label, probability=1.0):
    item = {
        "image": without_clicks(label.shape), "pred": logits_of(pred), "label": torch.tensor(label)[None],
        "probability": torch.tensor(probability),
    }  # fmt: skip
    return AddSimulatedClicksd("image", NAMES)(item)["image"]


def test_training_clicks_once_on_each_label_that_is_wrong():
    label = lines()
    image = simulated(np.zeros_like(label), label)
    assert (image[0] == 1).all()
    assert not image[3].any()
    for channel, value in ((1, 1), (2, 2)):
        peak = np.unravel_index(int(image[channel].argmax()), label.shape)
        assert image[channel].max() == 1
        assert label[peak] == value
    assert not simulated(label, label)[1:].any()
    assert simulated(label, np.zeros_like(label))[3].max() == 1


def test_no_click_lies_in_filling_where_it_would_change_nothing():
    """What is wrong there, more than elsewhere, does not keep the user from correcting the rest."""
    label = np.zeros((12, 9, 9), dtype=int)
    pred = label.copy()
    pred[6:] = 1
    pred[2, 4, 4] = 1
    image = without_clicks(label.shape)
    image[0, 6:] = 0
    assert next_click(pred, label, NAMES)[1][0] >= 6
    assert next_click(pred, label, NAMES, image[0] != 0) == ("background", (2, 4, 4))
    item = {"pred": logits_of(pred), "label": torch.tensor(label)[None], "probability": torch.tensor(1.0)}
    clicked = AddSimulatedClicksd("image", NAMES, within_content=True)({**item, "image": image})["image"]
    assert np.unravel_index(int(clicked[3].argmax()), label.shape) == (2, 4, 4)
    assert not clicked[1:, 6:].any()
    assert next_click(label + (pred == 1) * (image[0].numpy() == 0), label, NAMES, image[0] != 0) is None


def test_training_clicks_with_the_given_probability_and_the_seed_of_torch():
    label = lines()
    runs = []
    for _ in range(2):
        torch.manual_seed(3)
        runs.append([simulated(np.zeros_like(label), label, 0.25) for _ in range(40)])
    assert all(torch.equal(first, second) for first, second in zip(*runs, strict=True))
    assert 3 <= sum(bool(image[1:].any()) for image in runs[0]) <= 18
    assert not simulated(np.zeros_like(label), label, 0.0)[1:].any()


def test_clicks_of_a_round_stay_in_the_next():
    label = lines()
    item = {"image": without_clicks(label.shape), "label": torch.tensor(label)[None], "probability": 1.0}
    add = AddSimulatedClicksd("image", NAMES)
    first = add({**item, "pred": logits_of(np.zeros_like(label))})
    second = add({**first, "pred": logits_of(np.ones_like(label))})
    assert (second["image"] >= first["image"]).all()
    assert second["image"][3].any()
    assert not first["image"][3].any()


@pytest.mark.parametrize("sigma", [0.0, -1.0, float("nan")])
def test_a_click_has_a_width(sigma):
    with pytest.raises(ValueError, match="is not legal: give the width of a click in voxels"):
        AddSimulatedClicksd("image", {"spleen": 1, "background": 0}, sigma=sigma)
