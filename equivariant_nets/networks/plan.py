"""What the features of each block of a U-Net carry: all that its family can produce there, and something reads."""

from __future__ import annotations

from typing import Generic, NamedTuple

from equivariant_nets.networks.family import Family, Rep

__all__ = ["PlannedBlock", "plan_blocks"]


class PlannedBlock(NamedTuple, Generic[Rep]):
    """A block of two layers: what its input, its middle and its output carry, and its level, the finest being 0."""

    rep_in: Rep
    middle: Rep
    rep_out: Rep
    level: int


def plan_blocks(family: Family[Rep], depth: int, deep_supervision: int) -> list[PlannedBlock[Rep]]:
    """The blocks of a U-Net in the order in which they run: the encoder's, finest first, and the decoder's.

    Args:
        family: says what a layer can produce and make use of.
        depth: number of halvings.
        deep_supervision: number of decoder levels below the finest that have a head of their own.

    Raises:
        ValueError: the depth is negative, there are no so many levels, or the family has no such features.
    """
    if depth < 0:
        raise ValueError(f"depth={depth} must be 0 or more: it is the number of halvings.")
    if not 0 <= deep_supervision <= max(depth - 1, 0):
        raise ValueError(
            f"deep_supervision={deep_supervision} is not a number of decoder levels below the finest: with "
            f"depth={depth}, give 0 to {max(depth - 1, 0)}."
        )
    last = 2 * depth  # a block and its mirror image, number and last - number, are of one level
    plan: list[PlannedBlock[Rep]] = []
    for number in range(last + 1):
        rep_in = _input(family, plan, number, depth)
        target = family.encoder_target(number) if number <= depth else family.decoder_target(last - number)
        middle = family.reachable(rep_in, target)
        plan.append(PlannedBlock(rep_in, middle, family.reachable(middle, target), min(number, last - number)))
    for number in reversed(range(last + 1)):
        readers = [plan[number + 1].middle] if number < last else []
        if number < depth:
            readers.append(plan[last - number].middle)
        rep_out = family.read(plan[number].rep_out, readers, by_head=number >= last - deep_supervision)
        middle = family.read(plan[number].middle, [rep_out], by_head=False)
        plan[number] = plan[number]._replace(middle=middle, rep_out=rep_out)
    return [block._replace(rep_in=_input(family, plan, number, depth)) for number, block in enumerate(plan)]


def _input(family: Family[Rep], plan: list[PlannedBlock[Rep]], number: int, depth: int) -> Rep:
    """What a block reads: of those before it in the plan, the last, and in the decoder the skip of its level too."""
    if number == 0:
        return family.input
    below = plan[number - 1].rep_out
    return below + plan[2 * depth - number].rep_out if number > depth else below
