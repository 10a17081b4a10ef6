"""Trains, registers and serves the demo: `python -m demo.prepare`, safe to run again.

Registration goes through the control plane's services, so this only runs its management command.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    """The exit code of `manage.py prepare_demo`."""
    return subprocess.run([sys.executable, str(ROOT / "manage.py"), "prepare_demo"], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
