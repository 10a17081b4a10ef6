"""Which folders a caller may point us at: whoever names a path must not thereby read any file of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote, urlsplit

from django.conf import settings

from apps.kernel.errors import InvalidInput

P = TypeVar("P", str, Path, str | Path)


def path_below(pointer: str, path: P, *, setting: str) -> P:
    """``path`` itself (a path or a ``file://`` URI), when it lies in or below a folder, or is a file, of ``setting``.

    Symbolic links are followed first, so that one inside a root leads nowhere else. Raises InvalidInput
    ``outside_roots``, the same whether or not anything is there: the answer tells nothing about other folders.
    Something that is no path of this machine (another scheme, a relative path, NUL) is left to its reader to refuse.
    """
    text = str(path)
    parts = urlsplit(text) if text.startswith("file:") else None
    place = Path(unquote(parts.path)) if parts is not None else Path(text)
    if "\0" in str(place) or not place.is_absolute():
        return path
    roots: tuple[Path, ...] = getattr(settings, setting)
    try:
        real = place.resolve()
        is_inside = any(real.is_relative_to(root.resolve()) for root in roots)
    except (OSError, RuntimeError):  # a loop of links, a name that is too long
        is_inside = False
    if not is_inside:
        named = ", ".join(str(root) for root in roots) or "none is configured"
        raise InvalidInput.at(
            pointer,
            "outside_roots",
            f"{place} lies outside the folders that may be read ({named}). Put it there, "
            f"or have an operator add its folder to {setting}.",
        )
    return path
