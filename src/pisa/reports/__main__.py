"""`python -m pisa.reports COMMAND ...`: pages and tables made from finished runs.

A command is a module with ``add_parser(commands)``, which sets ``run``; it stands in ``COMMANDS``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from pisa.reports import dashboard, leaderboard, sweep
from pisa.reports.figures import (
    ablation,
    ambiguous,
    drop_times,
    lifting,
    qualitative,
    strobe,
    tables,
)
from pisa.types import PisaError

COMMANDS = (
    leaderboard,
    tables,
    strobe,
    qualitative,
    ablation,
    ambiguous,
    lifting,
    drop_times,
    dashboard,
    sweep,
)
EXIT_USER_ERROR = 2


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m pisa.reports", description="Reports of runs.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_parser(commands)
    given = parser.parse_args(arguments)
    try:
        given.run(given)
    except PisaError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return EXIT_USER_ERROR
    return 0


if __name__ == "__main__":
    sys.exit(main())
