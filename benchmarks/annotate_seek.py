"""How soon a frame of a long recording is on the screen of annotate.py.

``python benchmarks/annotate_seek.py`` makes a 30 s recording of 1920x1080 px at 120 fps with a key
frame every 250 frames (the worst that phones and encoders do), reads it once as the page does, and
measures frames at random places: from the index to JPEG bytes, and, with ``--browser``, in headless
Chromium from the key press to the decoded picture. Aim: 200 ms at the 95th percentile.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
import numpy as np

from pisa.annotate.tracking import ClipTracker
from pisa.annotate.workspace import Workspace

AIM_MS = 200.0
SIZE = (1080, 1920)


def write_recording(path: Path, seconds: int) -> None:
    """A textured wall and a square that falls again and again."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(60, 190, (SIZE[0] // 8, SIZE[1] // 8, 3), dtype=np.uint8)
    wall = coarse.repeat(8, axis=0).repeat(8, axis=1)
    with av.open(str(path), "w") as container:
        options = {"preset": "ultrafast", "g": "250", "crf": "23"}
        stream = container.add_stream("libx264", rate=120, options=options)
        stream.height, stream.width = SIZE
        stream.pix_fmt = "yuv420p"
        for k in range(120 * seconds):
            picture = wall.copy()
            top = min(850, int(0.12 * max(0, k % 240 - 60) ** 2))
            picture[top : top + 150, 900:1050] = (220, 60, 40)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def seek_ms(path: Path, count: int) -> tuple[float, list[float]]:
    """Seconds of the import (the page finds it done), and the time of ``count`` random frames."""
    began = time.perf_counter()
    recording = Workspace(path.parent, no_tracker).open(path.name)
    import_s = time.perf_counter() - began
    times = []
    for frame in np.random.default_rng(1).integers(0, recording.num_frames, count):
        began = time.perf_counter()
        recording.preview(int(frame))
        times.append(1000 * (time.perf_counter() - began))
    return import_s, times


def no_tracker() -> ClipTracker:
    raise NotImplementedError("nothing is tracked here")


def browser_ms(folder: Path, count: int) -> list[float]:
    """Key press to decoded picture: steps of ten frames, and clicks on the time line."""
    from playwright.sync_api import sync_playwright

    command = [sys.executable, "annotate.py", f"path={folder}", "perception=embedded"]
    command += ["show=false", "port=0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        address = re.search(r"http://\S+", server.stdout.readline())
        assert address, "annotate.py did not start"
        with sync_playwright() as playwright:
            path = shutil.which("chromium") or shutil.which("google-chrome")
            browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1280, "height": 720})
            page.goto(address[0])
            page.locator(".status", has_text="frame").wait_for(timeout=300_000)
            page.wait_for_function("document.querySelector('.stage img').src.includes('/frame/')")
            page.evaluate(_MEASURE)
            places = np.random.default_rng(2).uniform(10, 640, count // 2)
            for place in places:
                page.locator(".timeline").click(position={"x": float(place), "y": 40})
                page.wait_for_timeout(300)
                page.keyboard.press(">")
                page.wait_for_timeout(300)
            found = page.evaluate("window.taken")
            browser.close()
    finally:
        server.terminate()
    return [float(value) for value in found]


_MEASURE = """
window.taken = [];
let pressed = null;
for (const kind of ["mousedown", "keydown"])
  document.addEventListener(kind, () => { pressed = performance.now(); }, true);
document.querySelector(".stage img").addEventListener("load", async (e) => {
  const began = pressed;
  pressed = null;
  await e.target.decode();
  if (began !== null) window.taken.push(performance.now() - began);
});
"""


def row(name: str, times: list[float]) -> dict[str, object]:
    median, p95 = np.percentile(times, [50, 95])
    return {"what": name, "n": len(times), "median_ms": round(float(median), 2)} | {
        "p95_ms": round(float(p95), 2),
        "aim_met": bool(p95 <= AIM_MS),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--browser", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "long.mp4"
        write_recording(path, options.seconds)
        import_s, times = seek_ms(path, options.count)
        packs = folder.glob(".annotate/recordings/*/frames.bin")
        size_mb = sum(pack.stat().st_size for pack in packs) / 1e6
        print(json.dumps({"import_s": round(import_s, 1), "pictures_mb": round(size_mb)}))
        print(json.dumps(row("index to JPEG bytes", times)))
        if options.browser:
            shown = browser_ms(folder, min(options.count, 60))
            print(json.dumps(row("key or click to decoded picture", shown)))


if __name__ == "__main__":
    main()
