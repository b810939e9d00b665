"""Checks of all files of a data set, which list every problem instead of the first."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from monai.config import PathLike
from tqdm import tqdm

from equivariant_nets.data.checks import check_same_grid, describe_volume
from equivariant_nets.data.loading import LoadVolumed

__all__ = ["case_problems", "exit_with_problems", "file_problems"]


def file_problems(files: Mapping[str, PathLike], check: Callable[[str, Any], None]) -> Iterator[str]:
    """Load the files of one case, each on its own, and say all that is wrong, at most one text a file and grid.

    Args:
        files: by key.
        check: is called with the key and the loaded volume, and raises ValueError where something is wrong with it.
    """
    volumes: dict[str, Any] = {}
    for key, file in files.items():
        try:
            volumes |= LoadVolumed(key)({key: file})
            check(key, volumes[key])
        except (FileNotFoundError, ValueError) as error:
            yield str(error)
    named = [(describe_volume(volume, key), volume) for key, volume in volumes.items()]
    for name, volume in named[1:]:
        try:
            check_same_grid(named[0][1], volume, named[0][0], name)
        except ValueError as error:
            yield str(error)


def case_problems(cases: Collection[tuple[str, Mapping[str, PathLike], Callable[[str, Any], None]]]) -> list[str]:
    """All that is wrong with the files of a data set, with a progress bar: of each case its name, and the
    :func:`file_problems` of its files by its check."""
    return [
        f"{name}: {problem}"
        for name, files, check in tqdm(cases, desc="checking cases")
        for problem in file_problems(files, check)
    ]


def exit_with_problems(problems: Sequence[str], dataset_dir: PathLike, *advice: str) -> None:
    """End the command that checked a data set with all that is wrong, and status 1, if anything is."""
    if problems:
        raise SystemExit("\n".join([*problems, *advice, f"error: {len(problems)} problems in {dataset_dir}"]))
