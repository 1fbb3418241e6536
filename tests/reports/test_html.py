from __future__ import annotations

import base64
import html
import json
import re
from html.parser import HTMLParser

import pytest

from pisa.ops.video import read_video
from pisa.reports.comparison import with_details
from pisa.reports.html import Page, write_report
from pisa.reports.metrics_json import build_metrics

HOSTILE = "</script><img src=x onerror=alert(1)> \"quoted\" & 'single'"
VOID = {"meta", "input", "img", "br", "link"}


class TagCollector(HTMLParser):
    """Collects tags and checks that they close in order (SVG's self-closing tags included)."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page(tmp_path_factory, moving_square):
    provenance = {"commit": None, "config_sha256": "00", "data_sha256": None, "seed": 0}
    provenance["versions"] = {"torch": "2"}
    rows = [
        {"model": model, "split": "sim_seen", "clip": clip, "seed": 0, "l2": l2, "iou": 0.5}
        for clip, levels in (("good", (0.2, 0.01)), ("bad", (0.3, 0.09)), (HOSTILE, (0.1, 0.05)))
        for model, l2 in zip(("base", "psft"), levels, strict=True)
    ]
    failures = [{"model": "psft", "split": "sim_seen", "clip": HOSTILE, "reason": HOSTILE}]
    metrics = build_metrics(rows, failures, protocol="official", provenance=provenance)
    videos = [
        {
            "clip": clip,
            "split": "sim_seen",
            "models": {
                "psft": moving_square(start_x=8, fall_px=3),
                "truth": moving_square(start_x=8, fall_px=3.5),
                "base": {"frames": moving_square(start_x=8, fall_px=0)["frames"], "mask": None},
            },
        }
        for clip in ("good", "bad", HOSTILE, "unscored")
    ]
    curves = {HOSTILE: [(i, 1 / (i + 1)) for i in range(1000)], "val/iou": [(0, 0.1), (9, 0.3)]}
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(
        path,
        with_details(metrics),
        Page(title=HOSTILE, videos=videos, curves=curves, config_text=HOSTILE),
    )
    return path.read_text(encoding="utf-8")


def test_nothing_is_loaded_from_outside(page):
    assert not re.search(r"(https?:)?//[a-z]", re.sub(r"base64,[A-Za-z0-9+/=]+", "", page))
    for tag, attributes in TagCollector(page).tags:
        assert tag not in {"link", "img", "iframe", "object"}
        assert attributes.get("src", "data:").startswith("data:video/mp4;base64,") or tag != "video"
        assert "src" not in attributes or tag == "video"
        assert attributes.get("href", "#").startswith("#")
    assert "default-src 'none'" in page


def test_tags_close_in_order(page):
    assert TagCollector(page).open == []


def test_hostile_names_are_shown_and_do_not_run(page):
    assert "<img" not in page
    assert html.escape(HOSTILE, quote=False).split('"')[0] in page
    tags = [tag for tag, _ in TagCollector(page).tags]
    assert tags.count("script") == 2
    assert not any(
        key.startswith("on") for _, attributes in TagCollector(page).tags for key in attributes
    )


def test_worst_clips_come_first_and_unscored_before_them(page):
    order = [int(a["data-index"]) for tag, a in TagCollector(page).tags if tag == "article"]
    assert order == [3, 1, 2, 0]  # unscored, 0.09, 0.05, 0.01


def test_the_strip_is_a_playable_video_of_all_models(page, tmp_path):
    encoded = re.findall(r'data:video/mp4;base64,([A-Za-z0-9+/=]+)"', page)
    assert len(encoded) == 4
    path = tmp_path / "strip.mp4"
    path.write_bytes(base64.b64decode(encoded[0]))
    frames, fps_hz = read_video(path)
    assert frames.shape == (8, 128, 3 * 128, 3)
    assert fps_hz == pytest.approx(16)
    truth, base, psft = (frames[6, :, k * 128 : (k + 1) * 128] for k in range(3))
    red = [int((tile[..., 0].astype(int) - tile[..., 1] > 90).nonzero()[0].mean())
           for tile in (truth, base, psft)]  # fmt: skip
    assert red[0] > red[2] > red[1]  # truth fell furthest, base did not fall


def test_the_data_for_the_script_is_json(page):
    text = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    data = json.loads(text.group(1))
    panel = data["panels"][0]
    assert panel["models"] == ["truth", "base", "psft"]
    assert panel["overlay"]["truth"]["path"][0] == pytest.approx([11 / 32, 3 / 32], abs=1e-4)
    assert panel["overlay"]["base"]["mask"] is None
    assert panel["scores"]["psft"] == {"l2": 0.01, "iou": 0.5}


def test_controls_have_names(page):
    tags = TagCollector(page).tags
    assert all("aria-label" in a for tag, a in tags if tag == "video")
    assert all("aria-label" in a for tag, a in tags if a.get("type") == "range")
    assert "prefers-reduced-motion" in page


def test_differences_failures_and_curves_are_there(page):
    assert "PSFT minus Base" in page
    assert "better on 3 of 3" in page
    assert "equal on 3" in page  # IoU
    assert "1 failure " in page
    assert page.count("<svg") == 2
    assert "each point is the mean of 4 logged values" in page


def test_a_difference_that_prints_as_zero_is_neither_better_nor_worse(tmp_path, provenance_part):
    rows = [
        {"model": model, "split": "real", "clip": f"{i}", "seed": 0, "l2": value}
        for model, value in (("base", 0.1), ("psft", 0.1001))
        for i in range(4)
    ]
    metrics = build_metrics(rows, [], protocol="official", provenance=provenance_part)
    page = write_report(tmp_path / "r.html", with_details(metrics), Page(title="t")).read_text(
        encoding="utf-8"
    )
    assert 'class="verdict negligible"' in page and 'class="verdict worse"' not in page


def test_clips_whose_truth_the_tracker_lost_are_marked_and_last(
    tmp_path, moving_square, provenance_part
):
    rows = [
        {"model": model, "split": "real", "clip": clip, "seed": 0, "l2": l2}
        for clip, values in (("lost", (0.076, 0.9)), ("kept", (0.001, 0.1)))
        for model, l2 in zip(("truth", "psft"), values, strict=True)
    ]
    metrics = build_metrics(rows, [], protocol="official", provenance=provenance_part)
    models = {m: moving_square(start_x=8, fall_px=3) for m in ("truth", "psft")}
    videos = [{"clip": clip, "split": "real", "models": models} for clip in ("lost", "kept")]
    page = write_report(tmp_path / "r.html", metrics, Page(title="t", videos=videos)).read_text()
    order = [int(a["data-index"]) for tag, a in TagCollector(page).tags if tag == "article"]
    assert order == [1, 0]  # "lost" has the larger L2 and would lead otherwise
    assert page.count("tracker lost it: L2 of the true clip is 0.076") == 1


def test_a_page_without_clips_is_complete(tmp_path, rows, provenance_part):
    metrics = build_metrics(rows, [], protocol="official", provenance=provenance_part)
    path = write_report(tmp_path / "deep" / "report.html", metrics, Page(title="Numbers only"))
    text = path.read_text(encoding="utf-8")
    assert TagCollector(text).open == []
    assert "<script" not in text
    assert "None: every sample was scored" in text
