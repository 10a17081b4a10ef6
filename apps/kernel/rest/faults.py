"""Which field is wrong: a JSON pointer (RFC 6901) into the body, ``?name`` for a query parameter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from apps.kernel.errors import FieldError


def faults_of(details: Any, *, in_query: bool = False) -> tuple[FieldError, ...]:
    """REST framework's nested details (``ValidationError.get_full_details()``) as a flat list.

    The pointer "" is the whole body. A "/" or "~" in a name is escaped, as the RFC has it.
    """
    return tuple(FieldError(_query(at) if in_query else at, code, text) for at, code, text in _flat(details, ""))


def _flat(details: Any, pointer: str) -> Iterator[tuple[str, str, str]]:
    if _is_leaf(details):
        yield pointer, str(details["code"]), str(details["message"])
    elif isinstance(details, dict):
        for name, inner in details.items():
            yield from _flat(inner, pointer if name == "non_field_errors" else f"{pointer}/{_escaped(str(name))}")
    else:
        for position, inner in enumerate(details):
            yield from _flat(inner, pointer if _is_leaf(inner) else f"{pointer}/{position}")


def _is_leaf(details: Any) -> bool:
    # an object of the body may itself have fields that are called message and code: theirs hold lists
    return isinstance(details, dict) and details.keys() == {"message", "code"} and isinstance(details["message"], str)


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _query(pointer: str) -> str:
    return "?" + pointer.removeprefix("/").split("/")[0]
