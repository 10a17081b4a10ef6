"""Which colour a variant wears where it has no role: the same on every page, and not its neighbour's. Pure."""

from __future__ import annotations

import re
import zlib

OTHER_COLOURS = 6
_KEY = re.compile(r"v(\d+)-(\d+)-(\d+)")


def tone_of(key: str) -> str:
    """``other-1`` to ``other-6`` by the variant's key; patches and minor versions in a row get different ones.

    >>> [tone_of(key) for key in ("v1-0-0", "v1-0-1", "v1-1-0", "v2-0-0")]
    ['other-4', 'other-2', 'other-5', 'other-1']
    """
    found = _KEY.fullmatch(key)
    if found is None:
        return f"other-{zlib.crc32(key.encode()) % OTHER_COLOURS + 1}"
    major, minor, patch = (int(part) for part in found.groups())
    return f"other-{(3 * major + minor + 4 * patch) % OTHER_COLOURS + 1}"
