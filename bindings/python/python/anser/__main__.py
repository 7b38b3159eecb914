"""The command anser: `python -m anser`, and the program of that name that an installation puts on the path."""

import os
import sys

from ._anser import run_command

# Mesa's layer for device selection asks the desktop, and complains where there is none; these variables say that there is one, or what the
# user wants of the layer.
DESKTOP = ("XDG_RUNTIME_DIR", "NODEVICE_SELECT", "MESA_VK_DEVICE_SELECT")


def main() -> int:
    """Runs the command with the process's arguments and returns its exit code."""
    if not any(os.environ.get(name) for name in DESKTOP):
        os.environ["NODEVICE_SELECT"] = "1"
    return run_command(["anser", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
