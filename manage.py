#!/usr/bin/env python
"""Django's command line for the control plane.

Without the variables of a server it works on the product that runs on this machine (`make up`).
"""

import os
import sys
from importlib.util import find_spec

from django.core.management import execute_from_command_line

from controlplane.env import EnvironmentFault


def main() -> int:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings")
    if find_spec("embedded"):  # an image for servers does not carry the launcher
        from embedded.borrow import borrow_environment
        from embedded.errors import LaunchError

        try:
            borrow_environment(os.environ)
        except LaunchError as error:
            sys.stderr.write(f"{error}\n")
            return 1
    try:
        execute_from_command_line(sys.argv)
    except EnvironmentFault as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
