"""The renderer process: one JSON request a line on stdin, one JSON answer a line on the channel.

``python -m pisa.simulation.kubric.worker``; a request is ``{"description": ..., "output": FILE}``
(an ``.npz`` to write), an answer ``{"ok": true}`` or ``{"error": text}``. The first line is the
versions. Blender and its libraries print on stdout, so the answers go to a copy of it and stdout
itself joins stderr.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import traceback

PR_SET_PDEATHSIG = 1


def main() -> None:
    _die_with_parent()
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    from pisa.simulation.kubric import fixes

    fixes.install()
    import numpy as np

    from pisa.simulation.kubric import render

    print(json.dumps({"versions": render.versions()}), file=channel)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            arrays = render.render(request["description"])
            np.savez(request["output"], **arrays)  # type: ignore[arg-type]
            answer: dict[str, object] = {"ok": True}
        except render.SceneError as error:
            answer = {"error": str(error)}
        except Exception as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=channel)
    sys.stderr.flush()
    os._exit(0)  # Blender can hang in its exit handlers


def _die_with_parent() -> None:
    """Linux: a killed simulation must not leave a renderer behind."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    main()
