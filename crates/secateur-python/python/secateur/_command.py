"""The `secateur` command, as the package installs it."""

import signal
import sys

from secateur._secateur import main as run


def main() -> None:
    """Runs the command with the arguments of this process."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(run(["secateur", *sys.argv[1:]]))
