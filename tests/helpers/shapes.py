"""What jaxtyping's hook applies to the functions of the package: a check of shapes, and of nothing else.

Other types are for mypy to check: tests give wrong ones on purpose, to see the error.
"""

import typing

from beartype import beartype
from jaxtyping import AbstractArray


def check_shapes(function):
    function.__annotations__ = {name: hint for name, hint in function.__annotations__.items() if _has_shape(hint)}
    return beartype(function) if function.__annotations__ else function


def _has_shape(hint):
    return (isinstance(hint, type) and issubclass(hint, AbstractArray)) or any(map(_has_shape, typing.get_args(hint)))
