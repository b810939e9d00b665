"""Is this the same computation as before? Objects, walked down to plain values; and in words, what differs."""

from __future__ import annotations

from equivariant_nets import bundles_extra  # noqa: F401

# isort: split

import copyreg
import enum
import functools
import hashlib
import json
import os
import re
import types
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine
from torch import nn
from torch.utils.data import Dataset

__all__ = ["Fingerprint", "checksum", "content_of", "differences", "digest", "fingerprint", "is_place"]

Fingerprint = dict[str, Any]

# Where something lies or runs does not decide what comes out.
_PLACES = re.compile(r"(^|_)(dir|path|device|num_workers)$")
_PLACE_TYPES = (torch.device, Engine)
# What a random number generator draws is decided by its seed; its state moves on while it is used.
_GENERATORS = (np.random.RandomState, np.random.Generator, torch.Generator)
# Endings of the files of one image: headers, voxels, and the place that SPM writes beside Analyze.
_PARTS = (
    (".img.gz", ".hdr.gz", ".mat"), (".img", ".hdr", ".mat"), (".mhd", ".raw", ".zraw"), (".nhdr", ".raw", ".raw.gz"),
)  # fmt: skip
_SMALL = 32  # numbers of an array that are told one by one
_MAX_TOLD = 5
_NOT_TOLD = object()


def fingerprint(**objects: Any) -> Fingerprint:
    """What decides about the results of some objects, as plain values by where they stand.

    An object counts by its type and by the state that it would be pickled with, to any depth; a parameter of a network
    by its shape, for its values are drawn or loaded (see :func:`checksum`); an array by its content; a function by its
    name or, where it has none to be found by, by its code; a file that is named by its absolute path by its content.
    Folders, other paths, devices, numbers of workers, engines and states of random number generators do not count, and
    neither do the caches of a data set, its private attributes.

    Args:
        objects: by the names that differences are told with.

    Returns:
        numbers, texts, True, False or None by names such as ``preprocessing[3].spacing_transform.pixdim``; to be
        written as JSON.

    Raises:
        OSError: a file cannot be read.

    Example:
        >>> import torch
        >>> from equivariant_nets.fingerprints import fingerprint
        >>> fingerprint(order={"batch_size": 2, "num_workers": 4}, loss=torch.nn.L1Loss())
        {'order.batch_size': 2, 'loss': 'torch.nn.modules.loss.L1Loss', 'loss.reduction': 'mean'}
    """
    walk = _Walk()
    return {where: value for name, item in objects.items() for where, value in walk(name, item)}


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What differs between two fingerprints, in words; empty if nothing does.

    Example:
        >>> from equivariant_nets.fingerprints import differences
        >>> differences({"inferer.overlap": 0.5}, {"inferer.overlap": 0.25, "seed": 1})
        'inferer.overlap: 0.5 before, 0.25 now; seed: absent before, 1 now'
    """
    told = set()
    texts = []
    for where in sorted({**before, **now}):
        if any(where[: end.start()] in told for end in re.finditer(r"[.\[]", where)):  # within what is of another type
            continue
        former, present = (values.get(where, _NOT_TOLD) for values in (before, now))
        if repr(former) != repr(present):
            told.add(where)
            texts.append(f"{where}: {_told(former)} before, {_told(present)} now")
    rest = len(texts) - _MAX_TOLD
    return "; ".join(texts[:_MAX_TOLD]) + (f"; and {rest} more" if rest > 0 else "")


def digest(content: Any) -> str:
    """A short name of a fingerprint, or other JSON: 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def checksum(network: nn.Module) -> str:
    """SHA-256 of the weights and all else in the state dict of a network, wherever it lies."""
    result = hashlib.sha256()
    for name, value in network.state_dict().items():
        result.update(name.encode())
        result.update(_bytes(value))
    return f"sha256:{result.hexdigest()}"


def content_of(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's content; of an image in several files, such as ``.img`` and ``.hdr``, of all of them.

    Raises:
        OSError: it cannot be read.
    """
    digests = []
    for part in [Path(path), *_other_parts(Path(path))]:
        with part.open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    return f"sha256:{digests[0] if len(digests) == 1 else hashlib.sha256(' '.join(digests).encode()).hexdigest()}"


def _other_parts(path: Path) -> list[Path]:
    """The files that an image consists of beside the one that is named: of its name, with other endings of a group."""
    for group in _PARTS:
        own = next((ending for ending in group if path.name.lower().endswith(ending)), None)
        if own is not None:
            stem, is_upper = path.name[: -len(own)], path.name.endswith(own.upper())
            names = [stem + (ending.upper() if is_upper else ending) for ending in group if ending != own]
            return [part for name in names if (part := path.with_name(name)).is_file()]
    return []


def is_place(name: Any) -> bool:
    """Whether a value of such a name says where something lies or runs, and so decides nothing about what comes out."""
    return isinstance(name, str) and _PLACES.search(name) is not None


class _Walk:
    """From an object to the plain values that it is made of; an object that is met again is told once."""

    def __init__(self) -> None:
        self.met: dict[int, tuple[Any, str]] = {}  # with the object, so that no other gets its id

    def __call__(self, where: str, item: Any) -> Iterator[tuple[str, Any]]:
        if isinstance(item, _PLACE_TYPES + _GENERATORS):
            return
        if isinstance(item, os.PathLike) or (isinstance(item, str) and os.path.isabs(item)):
            if os.path.isfile(item):
                yield where, content_of(item)
        elif (value := _json_value(item)) is not _NOT_TOLD:
            yield where, value
        elif isinstance(item, list | tuple | Set | Mapping):
            yield from self._container(where, item)
        elif id(item) in self.met:
            yield where, f"the same as {self.met[id(item)][1]}"
        else:
            self.met[id(item)] = item, where
            yield from self._object(where, item)

    def _container(self, where: str, item: Any) -> Iterator[tuple[str, Any]]:
        if isinstance(item, tuple) and hasattr(item, "_asdict"):
            item = item._asdict()
        if isinstance(item, Mapping):
            children = [(f".{key}", item[key]) for key in sorted(item, key=str) if not is_place(key)]
        else:
            ordered = sorted(item, key=repr) if isinstance(item, Set) else item
            children = [(f"[{index}]", child) for index, child in enumerate(ordered)]
        if not children:
            yield where, "{}" if isinstance(item, Mapping) else "[]"
        elif all(_is_number(child) for _, child in children) and len(children) <= _SMALL and isinstance(item, Sequence):
            yield where, str([_json_value(child) for _, child in children])
        else:
            for name, child in children:
                yield from self(where + name, child)

    def _object(self, where: str, item: Any) -> Iterator[tuple[str, Any]]:
        if isinstance(item, types.FunctionType | types.MethodType | functools.partial):
            yield from self._function(where, item)
            return
        yield where, _name_of(type(item))
        if isinstance(item, torch.optim.Optimizer):
            groups = [{**group, "params": len(group["params"])} for group in item.param_groups]
            state: Any = {"groups": groups, "before_each_step": list(item._optimizer_step_pre_hooks.values())}
        else:
            state = _state(item)
        if isinstance(item, nn.Module):
            state = _state_of_module(item, state)
        elif isinstance(item, Dataset):
            state = {key: value for key, value in state.items() if not key.startswith("_")}
        if not isinstance(state, Mapping):
            yield from self(f"{where}.state", state)
        elif hasattr(item, "transforms") and isinstance(state.get("transforms"), list | tuple):
            # MONAI's Compose stands for its transforms: preprocessing[3].
            yield from self(where, list(state["transforms"])) if state["transforms"] else ()
            yield from self._attributes(where, {key: state[key] for key in state if key != "transforms"})
        else:
            yield from self._attributes(where, state)

    def _attributes(self, where: str, state: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
        for key in sorted(state, key=str):
            if not is_place(key):
                yield from self(f"{where}.{key}", state[key])

    def _function(self, where: str, item: Any) -> Iterator[tuple[str, Any]]:
        if isinstance(item, functools.partial):
            yield from self(where, item.func)
            yield from self(f"{where}.arguments", {**dict(enumerate(item.args)), **item.keywords})
        elif isinstance(item, types.MethodType) and isinstance(item.__self__, Engine):
            yield where, _name_of(type(item.__self__))
        elif isinstance(item, types.MethodType):
            yield f"{where}.method", item.__func__.__qualname__
            yield from self(where, item.__self__)
        elif "<" not in item.__qualname__:
            yield where, _name_of(item)
        else:
            yield where, f"code {hashlib.sha256(_code(item.__code__)).hexdigest()}"
            cells = zip(item.__code__.co_freevars, item.__closure__ or (), strict=True)
            yield from self._attributes(where, {name: cell.cell_contents for name, cell in cells})
            yield from self._attributes(f"{where}.defaults", dict(enumerate(item.__defaults__ or ())))


def _json_value(item: Any) -> Any:
    """What is no more than a value, as JSON has it."""
    if item is None or (isinstance(item, bool | str) and not isinstance(item, enum.Enum)):
        return item
    if _is_number(item):
        if item != item:  # which, read back, would be another value
            return "nan"
        return int(item) if float(item).is_integer() else float(item)
    if isinstance(item, enum.Enum):
        return item.value if isinstance(item.value, str) else f"{_name_of(type(item))}.{item.name}"
    if isinstance(item, type | types.BuiltinFunctionType | np.ufunc | types.ModuleType):
        return _name_of(item)
    if isinstance(item, torch.dtype | np.dtype | slice | complex | range):
        return str(item)
    if isinstance(item, bytes | bytearray):
        return f"sha256:{hashlib.sha256(item).hexdigest()}"
    if isinstance(item, nn.Parameter):
        return f"{item.dtype} {list(item.shape)}"
    if isinstance(item, torch.Tensor | np.ndarray):
        if np.prod(item.shape) <= _SMALL:
            return str(_of_numbers(item.tolist()))
        return f"{item.dtype} {list(item.shape)} sha256:{hashlib.sha256(_bytes(item)).hexdigest()}"
    if type(item).__module__.startswith("e3nn"):
        return str(item)
    return _NOT_TOLD


def _of_numbers(item: Any) -> Any:
    return [_of_numbers(child) for child in item] if isinstance(item, list) else _json_value(item)


def _is_number(item: Any) -> bool:
    return isinstance(item, int | float | np.integer | np.floating | np.bool_) and not isinstance(item, enum.Enum)


def _told(value: Any) -> str:
    if value is _NOT_TOLD:
        return "absent"
    return re.sub(r"(sha256:\w{8})\w+", r"\1", str(value))


def _state(item: Any) -> Any:
    """What an object would be pickled with."""
    reduce = copyreg.dispatch_table.get(type(item))
    try:
        reduced: Any = reduce(item) if reduce else item.__reduce_ex__(2)
    except TypeError:  # a lock: nothing that decides
        return {}
    if isinstance(reduced, str):
        return reduced
    make, arguments, state = (*reduced, None)[:3]
    if getattr(make, "__name__", "") != "__newobj__":  # which makes an object without calling its class
        return {"made_of": arguments, **(state if isinstance(state, dict) else {})}
    if isinstance(state, tuple) and len(state) == 2 and isinstance(state[1], dict):  # with slots
        return {**(state[0] or {}), **state[1]}
    return {} if state is None else state


def _state_of_module(module: nn.Module, state: Mapping[str, Any]) -> dict[str, Any]:
    """Its options, parameters, buffers and parts, without what every module has."""
    machinery = vars(nn.Module()).keys()
    own = {key: value for key, value in state.items() if key not in machinery}
    return {**own, **module._parameters, **module._buffers, **module._modules}


def _name_of(item: Any) -> str:
    return f"{getattr(item, '__module__', None) or ''}.{getattr(item, '__qualname__', item.__name__)}".lstrip(".")


def _code(code: types.CodeType) -> bytes:
    constants = [_code(c) if isinstance(c, types.CodeType) else repr(c).encode() for c in code.co_consts]
    return b"\0".join([code.co_code, *constants, *(name.encode() for name in code.co_names)])


def _bytes(item: Any) -> Any:
    tensor = torch.as_tensor(np.ascontiguousarray(item) if isinstance(item, np.ndarray) else item).detach()
    return tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
