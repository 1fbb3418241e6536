"""The page in a headless browser, from a recording to scores; and what it says of bad input."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pisa.data.clip_io import read_clip
from tests.annotate import drawn
from tests.processes import run_script

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
ROOT = Path(__file__).parents[2]
NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((path for name in NAMES if (path := shutil.which(name))), None)
pytestmark = [
    pytest.mark.slow,  # starts the stack twice and a browser: a minute or two
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
    pytest.mark.timeout(900),
]
PATIENCE_MS = 90_000  # for jobs on a busy machine
SQUARE_SHOWN = """() => {
  const image = document.querySelector(".stage img"), box = image.getBoundingClientRect();
  const square = Math.abs(box.width - box.height) < 1 && image.naturalWidth == image.naturalHeight;
  return image.src.includes("/clip/") && image.complete && square;
}"""

TAKES_CLICKS = "e => getComputedStyle(e.closest('.q-notification')).pointerEvents"


@pytest.fixture(scope="module")
def server(imported: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Address of a running ``annotate.py`` and its folder, which also holds broken files."""
    folder = tmp_path_factory.mktemp("page") / "mine"
    shutil.copytree(imported, folder)
    shutil.rmtree(folder / ".annotate")  # the page reads the recording itself
    (folder / "text.mp4").write_text("this is text")
    (folder / "zero.mov").touch()
    command = [sys.executable, "annotate.py", f"path={folder}", "perception=embedded"]
    command += ["show=false", "port=0", "device=cpu"]
    own = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}  # NiceGUI looks
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=own)
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.search(r"http://127\.0\.0\.1:\d+", line)
    assert found, f"annotate.py said {line!r}"
    yield found[0], folder
    process.terminate()
    process.wait(30)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        yield started
        started.close()


def open_page(browser: Any, address: str) -> Any:
    page = browser.new_page(viewport={"width": 1280, "height": 720})
    page.set_default_timeout(PATIENCE_MS)
    page.hosts, page.errors = set(), []
    page.on("request", lambda request: page.hosts.add(request.url.split("/")[2]))
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.goto(address)
    status(page, f"of {drawn.NUM_FRAMES}")  # it has been read
    return page


def status(page: Any, text: str) -> None:
    """Wait until the line under the picture holds the text."""
    page.locator(".status", has_text=text).wait_for()


def at_recording(page: Any, x: float, y: float) -> tuple[float, float]:
    """Where a place of the recording is in the window, while the recording is on show."""
    box = page.locator(".stage img").bounding_box()
    scale = box["width"] / drawn.SIZE[1]
    return box["x"] + x * scale, box["y"] + y * scale


def at_clip(page: Any, folder: Path, name: str, x: float, y: float) -> tuple[float, float]:
    """The same while the frames of a clip are on show."""
    project = json.loads((folder / ".annotate" / "project.json").read_text())
    crop = next(c["crop"] for c in project["clips"].values() if c["name"] == name)
    box = page.locator(".stage img").bounding_box()
    scale = box["width"] / crop["side"]
    return box["x"] + (x - crop["left"]) * scale, box["y"] + (y - crop["top"]) * scale


def drop(page: Any, folder: Path, which: int) -> str:
    """Mark, crop, point, propagate, check and save one drop, mostly by keyboard."""
    name = f"drops_{which + 1:02d}"
    page.keyboard.press("1")
    page.keyboard.press("Home")
    page.locator(".timeline").click(position={"x": 5, "y": 30})
    for _ in range(which + 1):
        page.keyboard.press("n")
        page.wait_for_timeout(300)
    page.keyboard.press("m")
    status(page, f"{name}: frame 0 of")
    page.keyboard.press("2")
    page.locator(".panel", has_text="Drag the square").wait_for()
    drag_corner(page, folder, name)
    page.keyboard.press("3")
    page.locator(".panel", has_text="First frame").wait_for()
    page.wait_for_function(SQUARE_SHOWN)
    page.mouse.click(*at_clip(page, folder, name, drawn.X[which], drawn.height_px(0)))
    page.locator(".panel", has_text="object 1: 1 on").wait_for()
    page.locator(".panel input").first.fill("a red disk")
    page.keyboard.press("Enter")
    page.keyboard.press("t")
    page.get_by_text("propagated; step through").wait_for()
    page.keyboard.press("4")
    page.locator(".check").nth(4).wait_for()
    page.keyboard.press("s")
    message = page.get_by_text(f"saved as {name}")
    message.wait_for()
    assert message.evaluate(TAKES_CLICKS) == "none"  # it may lie over the next clip's first frame
    return name


def drag_corner(page: Any, folder: Path, name: str) -> None:
    """Make the crop 20 px smaller by its lower right corner, and see that the file says so."""
    path = folder / ".annotate" / "project.json"

    def crop() -> dict[str, int]:
        clips = json.loads(path.read_text())["clips"].values()
        return next(c["crop"] for c in clips if c["name"] == name)

    before = crop()
    corner = (before["left"] + before["side"], before["top"] + before["side"])
    page.mouse.move(*at_recording(page, *corner))
    page.mouse.down()
    page.mouse.move(*at_recording(page, corner[0] - 8, corner[1] - 8))
    page.mouse.move(*at_recording(page, corner[0] - 10, corner[1] - 10))
    page.mouse.up()
    page.locator(".panel", has_text=f"{before['side'] - 10} x").wait_for()
    after = crop()
    assert after["side"] == pytest.approx(before["side"] - 10, abs=2)
    assert (after["left"], after["top"]) == (before["left"], before["top"])


def test_from_recording_to_scores(server, browser, footage, tmp_path: Path) -> None:
    address, folder = server
    page = open_page(browser, address)
    names = [drop(page, folder, which) for which in (0, 1)]
    assert names == ["drops_01", "drops_02"]
    for name, which in zip(names, (0, 1), strict=True):
        clip = read_clip(folder / name)
        crop = json.loads((folder / name / "clip_info.json").read_text())["annotate"]
        assert abs(crop["start"] - drawn.RELEASES[which]) <= 4
        left, top, side = (crop["crop"][key] for key in ("left", "top", "side"))
        truth = footage.disk[crop["start"] : crop["stop"], top : top + side, left : left + side]
        found = clip.masks[0].numpy()
        assert (truth & found).sum() / (truth | found).sum() > 0.75
    assert page.hosts == {address.removeprefix("http://")}  # nothing goes elsewhere
    assert page.errors == []
    evaluate(folder, tmp_path / "scores")


def evaluate(folder: Path, output: Path) -> None:
    """The folder is a benchmark as it is."""
    settings = ("evaluation.num_steps=2", "evaluation.device=cpu")
    done = run_script("eval.py", f"benchmark={folder}", f"output_dir={output}", *settings, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    metrics = json.loads((output / "metrics.json").read_text())
    assert metrics["status"] == "complete"
    for model in ("truth", "frozen", "base"):
        assert metrics["summary"][model]["real"]["l2"]["n"] == 2
    truth, frozen = (metrics["summary"][m]["real"]["l2"]["mean"] for m in ("truth", "frozen"))
    assert truth < 0.03 < frozen  # the tracker follows what was annotated; a still picture doesn't


def test_broken_files_are_explained_in_the_page(server, browser) -> None:
    page = open_page(browser, server[0])
    page.get_by_text("text.mp4", exact=True).click()
    page.get_by_text("text.mp4: cannot read video").first.wait_for()
    page.get_by_text("zero.mov", exact=True).click()
    page.get_by_text("is empty (0 bytes)").first.wait_for()
    page.get_by_text("drops.mp4", exact=True).click()
    status(page, "frame")
    for path in ("/frame/..%2Foutside.mp4/0.jpg", "/frame/%2Fetc%2Fpasswd/0.jpg"):
        assert page.request.get(server[0] + path).status in (400, 404)
    elsewhere = page.request.get(server[0], headers={"Host": "example.com"})
    assert elsewhere.status == 400  # another name for this machine is refused


def test_two_tabs_see_each_other_and_undo(server, browser) -> None:
    first, second = (open_page(browser, server[0]) for _ in range(2))
    first.locator(".timeline").click(position={"x": 300, "y": 30})
    first.keyboard.press("m")
    first.locator(".side .entry.chosen", has_text="drops_0").first.wait_for()
    name = first.locator(".side .entry.chosen .ellipsis").last.inner_text()
    second.get_by_text("changed in another tab").first.wait_for()
    second.locator(".side .entry", has_text=name).click()
    second.keyboard.press("3")
    second.wait_for_function(SQUARE_SHOWN)
    second.locator(".panel input").first.fill("a cup")
    first.keyboard.press("2")
    first.keyboard.press("ArrowRight")  # moves the crop while the other tab is typing
    second.keyboard.press("Enter")
    second.get_by_text("caption: a cup falls.").wait_for()
    project = json.loads((server[1] / ".annotate" / "project.json").read_text())
    clip = next(c for c in project["clips"].values() if c["name"] == name)
    assert clip["description"] == "a cup"
    labels = [change["label"] for change in project["history"]]
    assert labels[-2:] == [f"crop of {name}", f"description of {name}"]
    first.get_by_text(f"changed in another tab: description of {name}").wait_for()
    first.keyboard.press("z")
    first.get_by_text(f"undone: description of {name}").wait_for()


def test_all_of_it_fits_a_small_window(server, browser) -> None:
    page = open_page(browser, server[0])
    size = page.evaluate("[document.documentElement.scrollWidth, document.body.scrollHeight]")
    assert size[0] <= 1280 and size[1] <= 720
    page.keyboard.press("?")
    page.get_by_text("mark a clip that starts at this frame").wait_for()
    assert page.locator(".help").bounding_box()["height"] <= 720
