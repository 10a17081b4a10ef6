"""`python -m serving --config FILE --instance ID`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from serving.settings import ConfigInvalidError, limit_math_threads, read_settings

EXIT_USAGE = 2


def main() -> int:
    """Parse the command line and serve. Returns the exit code: 0 drained, 2 bad configuration, 3 start failed."""
    parser = argparse.ArgumentParser(prog="serving", description="Serve one MLflow model version.")
    parser.add_argument("--config", required=True, type=Path, help="the JSON file of contracts section 4")
    parser.add_argument("--instance", required=True, help="name of this process in logs and telemetry")
    arguments = parser.parse_args()
    try:
        settings = read_settings(arguments.config, arguments.instance)
    except ConfigInvalidError as error:
        parser.exit(EXIT_USAGE, f"serving: {error}\n")
    limit_math_threads()
    from serving.supervisor import run  # imports numpy, so it must come after the line above

    return run(settings)


if __name__ == "__main__":
    exit_code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # A model may have left threads that never end, and a predict call that hangs must not keep the process.
    os._exit(exit_code)
