"""`python -m pisa doctor`: what is installed here, and which experiments can run."""

from __future__ import annotations

import sys

from pisa.doctor.command import main

COMMANDS = {"doctor": main}

if __name__ == "__main__":
    name, arguments = (sys.argv[1] if len(sys.argv) > 1 else ""), sys.argv[2:]
    if name not in COMMANDS:
        print(f"usage: python -m pisa {{{','.join(COMMANDS)}}} [-h]", file=sys.stderr)
        sys.exit(2)
    sys.exit(COMMANDS[name](arguments))
