"""How many raw bytes joblib wrote for an array, from its wrapper's state (joblib.numpy_pickle.NumpyArrayWrapper)."""

from __future__ import annotations

import re
from typing import Any

WRAPPERS = frozenset({"joblib.numpy_pickle.NumpyArrayWrapper"})
_DTYPE = re.compile(r"[<>|=]?([?bBiufcmMSUVO])(\d*)", re.ASCII)
_DEPTH = 4
_CHARACTER_BYTES = 4  # of a "U" dtype, which is UCS-4


def raw_array_bytes(state: Any, made: type, imported: type) -> int | None:
    """Bytes of array data that follow the wrapper; -1 for an array of objects (a pickle follows); None: cannot tell.

    ``state`` is the symbolic dict given to BUILD; ``made`` and ``imported`` are the classes of symbolic values.
    """
    if not isinstance(state, dict):
        return None
    shape, dtype = state.get("shape"), state.get("dtype")
    if not isinstance(shape, tuple) or not all(isinstance(one, int) and 0 <= one < 2**50 for one in shape):
        return None
    size = _item_bytes(dtype, made, imported, depth=0)
    if size is None or size < 0:
        return size
    for one in shape:
        size *= one
    return size


def _item_bytes(dtype: Any, made: type, imported: type, *, depth: int) -> int | None:
    """Bytes of one item; -1 when it holds objects."""
    what, args = getattr(dtype, "what", None), getattr(dtype, "args", None)
    if not isinstance(dtype, made) or not isinstance(what, imported) or depth > _DEPTH:
        return None
    if getattr(what, "name", "") != "numpy.dtype" or not isinstance(args, tuple) or not args:
        return None
    match = _DTYPE.fullmatch(args[0]) if isinstance(args[0], str) else None
    if match is None:
        return None
    kind, digits = match.groups()
    if kind == "O":
        return -1
    if kind == "?":
        return 1
    if not digits or len(digits) > 9:
        return None
    if kind == "V":
        worst = _worst_part(getattr(dtype, "state", None), made, imported, depth)
        if worst is None or worst < 0:
            return worst
    return int(digits) * (_CHARACTER_BYTES if kind == "U" else 1)


def _worst_part(state: Any, made: type, imported: type, depth: int) -> int | None:
    """Over the parts of a structured dtype: None when one cannot be told, -1 when one holds objects, else 0.

    ``state`` is numpy's (version, order, (base, shape) or None, names, {name: (dtype, offset)}, size, …).
    """
    if not isinstance(state, tuple) or len(state) < 5:
        return None
    base, names, fields = state[2], state[3], state[4]
    parts = []
    if isinstance(base, tuple) and base:
        parts.append(base[0])
    if isinstance(names, tuple):
        if not isinstance(fields, dict) or set(fields) != set(names):
            return None
        parts += [field[0] if isinstance(field, tuple) and field else None for field in fields.values()]
    sizes = [_item_bytes(part, made, imported, depth=depth + 1) for part in parts]
    if None in sizes:
        return None
    return -1 if -1 in sizes else 0
