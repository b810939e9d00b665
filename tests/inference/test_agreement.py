"""Laws of the agreement with turned copies: what is sure in every pose has 1, and what hangs on the pose has not."""

import numpy as np
import pytest
import torch

from equivariant_nets.inference.agreement import TurnedAgreement


def blob(size=(20, 22, 24)):
    axes = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in size), indexing="ij")
    return torch.exp(-sum((x - c) ** 2 for x, c in zip(axes, (0.1, -0.1, 0.05), strict=True)) / 0.2)[None, None]


def by_value(image):
    """Logits of background, a shell and a core, by the value of a voxel alone."""
    return torch.cat([0.3 - image, 0.2 - (image - 0.45).abs(), image - 0.65], 1)


def by_place(image):
    """The same, but the core is wherever the first axis says."""
    half = torch.linspace(-1, 1, image.shape[2]).view(1, 1, -1, 1, 1).expand_as(image)
    return torch.cat([0.3 - image, torch.zeros_like(image), torch.where(image > 0.3, half, -1.0)], 1)


@pytest.mark.parametrize("exclusive", [True, False])
def test_what_is_found_by_its_looks_agrees_and_what_is_found_by_its_place_does_not(exclusive):
    score = TurnedAgreement(3, exclusive)
    assert score(blob(), by_value(blob()), by_value) > 0.88
    assert score(blob(), by_place(blob()), by_place) < 0.8


def test_where_nothing_is_found_all_agree_and_what_only_a_copy_finds_is_no_agreement():
    def nothing(image):
        return torch.cat([torch.ones_like(image), torch.zeros_like(image)], 1)

    def something(image):
        return torch.cat([0.3 - image, image - 0.3], 1)

    assert TurnedAgreement(1)(blob(), nothing(blob()), nothing) == 1
    assert TurnedAgreement(1)(blob(), nothing(blob()), something) == 0


def test_a_score_is_the_same_every_time_and_draws_no_random_number_of_others():
    before = np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    scores = {TurnedAgreement(2)(blob(), by_place(blob()), by_place) for _ in range(2)}
    assert len(scores) == 1
    assert before == (np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())


@pytest.mark.parametrize("num_turns", [-1, 1.5, "three", True, None])
def test_what_is_no_number_of_copies_is_refused(num_turns):
    with pytest.raises(ValueError, match="no number of turned copies: give a whole number from 0, such as"):
        TurnedAgreement(num_turns)
