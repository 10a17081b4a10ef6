"""Compiled Python beside an artifact is never run: its digest leaves it out (serving/artifact.py).

Python believes a `.pyc` whose header names the source's time and size, so whoever can write into the folder could
change what a verified model does without changing its digest. Only what the digest covers is compiled, anew each time.
"""

from __future__ import annotations

from importlib.machinery import SourceFileLoader, SourcelessFileLoader
from pathlib import Path
from types import CodeType
from typing import Any


def distrust_bytecode(folder: Path) -> None:
    """From now on modules below `folder` are loaded from their source alone. For the life of the process."""
    inside = tuple(f"{place}/" for place in {folder.absolute(), folder.resolve()})
    of_source, of_bytecode = SourceFileLoader.path_stats, SourcelessFileLoader.get_code

    def path_stats(self: SourceFileLoader, path: str) -> Any:
        # Without them Python neither reads nor writes a compiled file; both ways of importing come through here.
        if str(path).startswith(inside):
            raise OSError(f"compiled files beside {path} are not trusted")
        return of_source(self, path)

    def get_code(self: SourcelessFileLoader, fullname: str) -> CodeType | None:
        if str(self.path).startswith(inside):
            raise ImportError(f"{self.path} has no source, and the artifact's digest does not cover it", name=fullname)
        return of_bytecode(self, fullname)

    SourceFileLoader.path_stats = path_stats  # type: ignore[method-assign]
    SourcelessFileLoader.get_code = get_code  # type: ignore[method-assign]
