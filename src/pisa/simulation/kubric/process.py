"""The renderer process seen from outside: started on first use, restarted after a crash or hang."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import pisa
from pisa.errors import PisaError
from pisa.simulation.kubric.hdris import NO_ENVIRONMENT
from pisa.simulation.pool import Transient

START_TIMEOUT_S = 300.0
CLIPS_PER_PROCESS = 100  # Blender keeps a little memory of every scene


class RendererDied(Transient):
    """The process ended or took too long; the next call starts a new one."""


class Renderer:
    """One renderer process. ``python`` is the interpreter of `make kubric-env`."""

    def __init__(self, python: Path, timeout_s: float) -> None:
        self._python, self._timeout_s = python, timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._buffer = b""
        self._log: Any = None
        self._clips = 0
        self.versions: dict[str, str] = {}

    def render(self, description: dict[str, Any]) -> dict[str, NDArray]:
        """The arrays of `pisa.simulation.kubric.render.render`.

        Raises ``PisaError`` for a scene that cannot be rendered, ``RendererDied`` for a process
        that did not survive it.
        """
        if self._process is None or self._clips >= CLIPS_PER_PROCESS:
            self.start()
        with tempfile.TemporaryDirectory(prefix="pisa-render-") as folder:
            output = str(Path(folder) / "arrays.npz")
            self._send({"description": description, "output": output})
            answer = self._receive(self._timeout_s)
            self._clips += 1
            if "error" in answer:
                raise PisaError(f"Kubric cannot render this scene: {answer['error']}")
            with np.load(output, allow_pickle=False) as arrays:
                return {key: arrays[key] for key in arrays.files}

    def start(self) -> None:
        """Start the process afresh and learn its versions."""
        self.stop()
        if not self._python.is_file():
            raise PisaError(
                f"the renderer's environment is not there ({self._python}): {NO_ENVIRONMENT}"
            )
        environment = dict(os.environ, PYTHONPATH=str(Path(pisa.__file__).parents[1]))
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (closed in stop)
        self._process = subprocess.Popen(
            [str(self._python), "-m", "pisa.simulation.kubric.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment,
        )
        self._buffer, self._clips = b"", 0
        self.versions = self._receive(START_TIMEOUT_S)["versions"]

    @property
    def pid(self) -> int:
        """Process id of the renderer."""
        assert self._process is not None, "call start first"
        return self._process.pid

    def stop(self) -> None:
        """End the process, whatever it is doing."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout, self._log):
                if stream is not None:
                    stream.close()
            self._process = None

    def _send(self, request: dict[str, Any]) -> None:
        assert self._process is not None and self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            self._died("ended")

    def _receive(self, timeout_s: float) -> dict[str, Any]:
        """The next line; the process is killed when none comes in time."""
        assert self._process is not None and self._process.stdout is not None
        stream = self._process.stdout.fileno()
        with selectors.DefaultSelector() as selector:
            selector.register(stream, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                if not selector.select(timeout_s):
                    self._died(f"gave no answer in {timeout_s:.0f} s")
                block = os.read(stream, 1 << 16)
                if not block:
                    self._died("ended")
                self._buffer += block
        line, _, self._buffer = self._buffer.partition(b"\n")
        return json.loads(line)

    def _died(self, how: str) -> None:
        last = self._last_words()
        self.stop()
        raise RendererDied(f"the renderer {how}{': ' + last if last else ''}")

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").split("\n")
        return next((line.strip()[:200] for line in reversed(lines) if line.strip()), "")
