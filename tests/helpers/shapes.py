"""What jaxtyping's hook applies to the functions of the package: a check of shapes, and of nothing else.

Other types are for mypy to check: tests give wrong ones on purpose, to see the error. So are lists of arrays, of which
beartype would draw an item to check, with the random numbers by which trainings are held equal.
"""

import types
import typing

from beartype import beartype
from jaxtyping import AbstractArray


def check_shapes(function):
    function.__annotations__ = {name: hint for name, hint in function.__annotations__.items() if _has_shape(hint)}
    return beartype(function) if function.__annotations__ else function


def _has_shape(hint):
    parts = typing.get_args(hint)
    if typing.get_origin(hint) in (typing.Union, types.UnionType, tuple) and ... not in parts:
        return any(map(_has_shape, parts))
    return isinstance(hint, type) and issubclass(hint, AbstractArray)
