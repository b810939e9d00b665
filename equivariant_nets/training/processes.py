"""Several processes of one training."""

from __future__ import annotations

from collections.abc import Sized

from ignite import distributed as idist

__all__ = ["check_validation_cases"]


def check_validation_cases(cases: Sized) -> None:
    """Check, before a training over several processes starts, that each has a validation case.

    Without one a process would skip the validation, and the others would wait for its metrics without end.

    Raises:
        ValueError: there are more processes than validation cases.
    """
    processes = idist.get_world_size()
    if processes > len(cases):
        raise ValueError(
            f"{processes} processes are too many for {len(cases)} validation cases: each needs one of its own. Start "
            f"at most {len(cases)} (torchrun --nproc_per_node, --nnodes), or add cases to the validation section."
        )
