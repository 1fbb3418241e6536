"""Methods against the PSFT model of their seed: made-up runs whose answer is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pisa.__main__ import main
from pisa.errors import PisaError
from pisa.reports.arena import Method, compare, hacked, markdown, write_arena
from pisa.reports.html import Page, write_report
from pisa.reports.leaderboard import merge, read_runs
from pisa.reports.metrics_json import build_metrics, write_metrics
from tests.reports.saved_results import PROVENANCE

CLIPS = 8
NEVER = {"brightness_change": 0.01, "path_length": 0.25, "reward": -0.5}  # of PSFT; true paths: 0.3


def row(model: str, clip: int, **values: float) -> dict[str, Any]:
    return {"model": model, "split": "sim_seen", "clip": f"{clip}", "seed": 0, **values}


def run(
    folder: Path,
    method: str,
    seed: int,
    gain: float,
    *,
    clips: int = CLIPS,
    start: float = 0.3,
    rng: np.random.Generator | None = None,
    **measures: float,
) -> Path:
    """L2 of PSFT is ``start`` plus a tenth a seed; the method's is lower by ``gain``."""
    rows = []
    for i in range(clips):
        psft = start + 0.1 * seed + 0.01 * i
        noise = 0.0 if rng is None else float(rng.normal(0, 0.05))
        rows += [
            row("truth", i, l2=0.0, brightness_change=0.0, path_length=0.3),
            row("psft", i, l2=psft, **NEVER),
            row(method, i, l2=psft - gain + noise, **(NEVER | measures)),
        ]
    rows.sort(key=lambda row: ("truth", "psft", method).index(row["model"]))
    origin = PROVENANCE | {"seed": seed, "experiment_sha256": method}
    origin |= {"passes": {"psft": 9600, method: 28800}}
    document = build_metrics(rows, [], protocol="strict", provenance=origin)
    write_metrics(folder / "metrics.json", document)
    frames = np.full((4, 16, 16, 3), 90, dtype=np.uint8)
    shown = {model: {"frames": frames, "mask": None} for model in ("truth", "psft", method)}
    videos = [{"clip": "0", "split": "sim_seen", "models": shown}]
    write_report(folder / "report.html", document, Page(title=method, videos=videos))
    return folder


def runs(root: Path, method: str, *gains: float, **more: Any) -> list[Path]:
    """Three seeds, not in their order."""
    made = [run(root / f"{method}-{s}", method, s, g, **more) for s, g in enumerate(gains)]
    return made[1:] + made[:1]


def compared(*folders: Path) -> dict[str, Method]:
    read = read_runs(folders)
    return {method.name: method for method in compare(read, merge(read))}


def test_each_seed_is_compared_with_its_own_psft_model(tmp_path):
    folders = (
        runs(tmp_path, "good", 0.10, 0.12, 0.14) + runs(tmp_path, "bad", -0.1, -0.1, -0.1)[::-1]
    )
    found = compared(*folders)
    own, both = (cells["sim_seen"]["l2"] for cells in (found["good"].own, found["good"].corrected))
    assert own["mean"] == pytest.approx(-0.12) and both["mean"] == pytest.approx(-0.12)
    assert own["ci95"] == pytest.approx(
        [-0.14, -0.10]
    )  # PSFT's own spread of 0.1 a seed is not in it
    assert both["ci95"][0] <= -0.135 and -0.105 <= both["ci95"][1] < 0
    assert found["bad"].own["sim_seen"]["l2"]["mean"] == pytest.approx(0.1)
    assert found["good"].seeds == (0, 1, 2) and found["good"].passes == 28800
    text = markdown(list(found.values()))
    assert "| good | 0, 1, 2 | 28,800 | **-0.120** [-0.140, -0.100] (" in text
    assert "| bad | Sim (seen) | L2 +0.100 (" in text


def test_what_a_method_broke_is_named(tmp_path):
    grey = runs(tmp_path, "grey", 0.1, 0.1, 0.1, brightness_change=0.06, path_length=0.29)
    still = runs(tmp_path, "still", 0.1, 0.1, 0.1, path_length=0.1)
    far = runs(tmp_path, "far", 0.1, 0.1, 0.1, path_length=0.5, brightness_change=0.005)
    found = compared(*grey, *still, *far)
    assert {name: method.broke["sim_seen"] for name, method in found.items()} == {
        "grey": ["brightness_change"],  # its path is nearer to the true one's
        "still": ["path_length"],
        "far": ["path_length"],  # less change of brightness is no harm
    }
    text = markdown(list(found.values()))
    assert "| grey | Sim (seen) | Brightness change +0.050 (+0.050, +0.050) |" in text


def test_a_reward_that_rises_while_a_metric_falls_is_flagged(tmp_path):
    learned = runs(tmp_path, "learned", 0.1, 0.1, 0.1, reward=-0.2)
    hack = runs(tmp_path, "hack", -0.1, -0.1, -0.1, reward=-0.2)
    lost = runs(tmp_path, "lost", -0.1, -0.1, -0.1, reward=-0.8)
    found = compared(*learned, *hack, *lost)
    flagged = {name: hacked(method, "sim_seen") for name, method in found.items()}
    assert flagged == {"learned": False, "hack": True, "lost": False}
    text = markdown(list(found.values()))
    assert "| hack | Sim (seen) | reward hacking: the reward rose; L2 +0.100 (" in text
    assert "| lost | Sim (seen) | L2 +0.100 (+0.100, +0.100); Reward -0.300 (" in text


def test_the_more_methods_the_wider_the_corrected_interval(tmp_path):
    rng = np.random.default_rng(0)
    names = [f"m{i}" for i in range(6)]
    folders = {n: runs(tmp_path, n, 0.0, 0.0, 0.0, rng=rng) for n in names}
    few = compared(*folders["m0"])["m0"]
    many = compared(*(folder for own in folders.values() for folder in own))["m0"]

    def width(cells: Any) -> float:
        low, high = cells["sim_seen"]["l2"]["ci95"]
        return high - low

    assert width(many.own) == pytest.approx(width(few.own))
    assert width(many.corrected) > 1.1 * width(few.corrected)
    assert "nothing measurable" in markdown([many])


def test_the_page_has_the_table_the_frontier_and_the_clips(tmp_path, capsys):
    folders = runs(tmp_path, "good", 0.1, 0.12, 0.14) + runs(tmp_path, "bad", -0.1, -0.1, -0.1)
    out = tmp_path / "arena"
    assert main(["arena", *map(str, folders), "--out", str(out)]) == 0
    assert (out / "arena.md").read_text() in capsys.readouterr().out
    page = (out / "report.html").read_text()
    assert "Arena: 2 methods against PSFT" in page and "<b>-0.120</b> [-0.140, -0.100]" in page
    assert "forward passes of the denoiser" in page and page.count('<article class="clip"') == 1
    assert '"models": ["truth", "psft", "good", "bad"]' in page
    assert "**-0.120**" not in page


def test_scorings_of_weights_are_joined_with_psft_by_their_seed(tmp_path):
    """As eval.py with another tracker leaves them: one model a folder."""
    folders = []
    for seed in range(2):
        for name, lower in (("psft", 0.0), ("nft", 0.05 + 0.02 * seed)):
            rows = [row(name, i, l2=0.3 + 0.2 * seed + 0.01 * i - lower) for i in range(4)]
            origin = PROVENANCE | {"seed": seed, "experiment_sha256": name}
            document = build_metrics(rows, [], protocol="strict", provenance=origin)
            write_metrics(tmp_path / f"{name}{seed}" / "metrics.json", document)
            folders.append(tmp_path / f"{name}{seed}")
    found = compared(*folders)["nft"]
    assert found.own["sim_seen"]["l2"]["mean"] == pytest.approx(-0.06)
    assert found.passes is None
    _, text = write_arena(folders, tmp_path / "out")
    assert "| PSFT + DiffusionNFT | 0, 1 | - |" in text


def test_runs_that_make_no_arena_are_one_sentence(tmp_path, capsys):
    good = runs(tmp_path, "good", 0.1, 0.1, 0.1)
    alone = run(tmp_path / "alone", "alone", 1, 0.1)
    with pytest.raises(PisaError, match="alone has no run of alone with another seed"):
        compared(*good, alone)
    two = runs(tmp_path, "two", 0.1, 0.1)
    with pytest.raises(PisaError, match=r"two and psft are not scored .* sim_seen with seed 2"):
        compared(*good, *two)
    fewer = runs(tmp_path, "fewer", 0.1, 0.1, 0.1, clips=CLIPS - 1)
    with pytest.raises(PisaError, match=r"fewer and psft .* lacks clip 7 of sim_seen"):
        compared(*good, *fewer)
    other = runs(tmp_path, "other", 0.1, 0.1, 0.1, start=0.4)
    with pytest.raises(PisaError, match="start from different PSFT models"):
        compared(*good, *other)
    for seed in range(2):
        rows = [row("base", i, l2=0.1 * (seed + i)) for i in range(3)]
        origin = PROVENANCE | {"seed": seed, "experiment_sha256": "base"}
        document = build_metrics(rows, [], protocol="strict", provenance=origin)
        write_metrics(tmp_path / f"base{seed}" / "metrics.json", document)
    with pytest.raises(PisaError, match="no run has the row psft"):
        compared(tmp_path / "base0", tmp_path / "base1")
    assert main(["arena", str(alone), "--out", str(tmp_path / "x")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
