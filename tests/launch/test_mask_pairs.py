"""``source=mask_pairs`` reproduces the release's numbers, and its exceptions become failures."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pisa.errors import IncompleteError, PisaError
from tests.launch.conftest import CLIPS, Bench, compose, evaluate, falling, write_mp4
from tests.processes import run_script

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "parity" / "data"
CASES = json.loads((DATA / "metrics.json").read_text())["cases"]
RELATIVE = {"l2": 1e-9, "chamfer": 1e-6, "iou": 1e-9}


def unpack(case: dict[str, Any], side: str, packed: Any) -> np.ndarray:
    shape = case[f"{side}_shape"]
    bits = np.unpackbits(packed[f"{case['id']}_{side}"])[: int(np.prod(shape))]
    return (bits.reshape(shape) * np.uint8(case["fg_value"])).astype(case["dtype"])


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reference cases as the release would list them: npz and npy, relative and absolute."""
    folder = tmp_path_factory.mktemp("pairs")
    lines = []
    with np.load(DATA / "metrics_masks.npz") as packed:
        for i, case in enumerate(CASES):
            own = folder / case["name"]
            own.mkdir()
            np.savez_compressed(own / "gt.npz", mask=unpack(case, "gt", packed))
            np.save(own / "pd.npy", unpack(case, "pd", packed))
            prefix = "" if i % 2 else f"{folder}/"
            line = {
                "gt_mask": f"{prefix}{case['name']}/gt.npz",
                "gt_fps": case["gt_fps"],
                "pd_mask": f"{case['name']}/pd.npy",
                "pd_fps": case["pd_fps"],
            }
            if case["annotation_points"] is not None:
                info = {"points": case["annotation_points"]}
                (own / "clip_info.json").write_text(json.dumps(info))
                line["gt_annotation"] = f"{case['name']}/clip_info.json"
            lines.append(json.dumps(line))
    (folder / "pairs.jsonl").write_text("\n".join(lines))
    return folder / "pairs.jsonl"


def test_the_reference_cases(manifest: Path, tmp_path: Path, capsys) -> None:
    with pytest.raises(IncompleteError) as caught:
        evaluate(
            compose(
                "source=mask_pairs", f"source.manifest={manifest}", "protocol=official",
                f"output_dir={tmp_path}",
            )
        )  # fmt: skip
    assert caught.value.exit_code == 3
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    rows = {row["clip"]: row for row in metrics["per_clip"]}
    failed = {failure["clip"] for failure in metrics["failures"]}
    raised = {case["name"] for case in CASES if case["exception"]}
    partial = {"fps_gt16_pd24_64", "gt_longer", "gt_zero_frames"}  # under half of the truth
    undefined = set()
    for case in CASES:
        if case["exception"]:
            continue
        row = rows[case["name"]]
        for ours, theirs in (("l2", "l2"), ("chamfer", "chamfer_distance"), ("iou", "iou")):
            expected = float(case["result"][theirs])
            if math.isnan(expected):
                assert row[ours] is None
                undefined.add(case["name"])
            else:
                assert row[ours] == pytest.approx(expected, rel=RELATIVE[ours], abs=1e-12)
    assert raised and undefined  # the file has both
    assert partial == {clip for clip, row in rows.items() if row.get("partial")}
    assert rows.keys() == {case["name"] for case in CASES} - raised
    assert failed == raised | undefined | partial
    summary = metrics["summary"]["mask_pairs"]["pairs"]["l2"]
    whole = [row for row in rows.values() if not row.get("partial")]
    finite = [row["l2"] for row in whole if row["l2"] is not None]
    assert summary["n"] == len(finite)
    assert summary["mean"] == pytest.approx(np.mean(finite))
    assert "n = " in capsys.readouterr().out


def test_good_pairs_are_complete(tmp_path: Path) -> None:
    """Two pairs of a named split, in protocol strict."""
    lines = []
    for which in (0, 1):
        np.save(tmp_path / f"{which}.npy", falling(which)[1][:, 1])
        mask = f"{which}.npy"
        lines.append({"gt_mask": mask, "gt_fps": 16, "pd_mask": mask, "pd_fps": 16})
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, lines)))
    evaluate(
        compose(
            "source=mask_pairs", f"source.manifest={tmp_path / 'p.jsonl'}", "protocol=strict",
            "benchmark=sim_unseen", "name=mine", f"output_dir={tmp_path / 'out'}",
        )
    )  # fmt: skip
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["status"] == "complete" and metrics["protocol"] == "strict"
    strict = {"miss_rate", "spurious_rate", "split_rate", "num_frames_uncovered"}
    assert all(row.items() >= dict.fromkeys(strict, 0).items() for row in metrics["per_clip"])
    cells = metrics["summary"]["mine"]["sim_unseen"]
    assert cells["l2"]["mean"] == 0 and cells["iou"]["mean"] == 1 and cells["iou"]["n"] == 2
    report = (tmp_path / "out" / "report.html").read_text()
    assert "data:video/mp4" in report and "Partial" not in report


def test_without_a_manifest(tmp_path: Path) -> None:
    with pytest.raises(PisaError, match=r"source\.manifest=PAIRS\.jsonl is needed"):
        evaluate(compose("source=mask_pairs", f"output_dir={tmp_path}"))


def test_exit_code_of_an_incomplete_run(bench: Bench, tmp_path: Path) -> None:
    videos = tmp_path / "v"
    videos.mkdir()
    for which, clip in enumerate(CLIPS):
        write_mp4(videos / f"{clip}.mp4", falling(which)[0], 16)
    (videos / f"{CLIPS[1]}.mp4").write_bytes(b"broken")
    done = run_script(
        "eval.py",
        "source=videos", "source.path=v", "benchmark=sim_seen", "source.references=[]",
        *bench.overrides(tmp_path / "out"), cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and CLIPS[1] in errors[0]
    assert "n = 2" in done.stdout
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["status"] == "incomplete"


def test_with_allow_missing_a_failure_is_printed_and_no_error(tmp_path: Path, capsys) -> None:
    np.save(tmp_path / "a.npy", falling(0)[1][:, 1])
    good = {"gt_mask": "a.npy", "gt_fps": 16, "pd_mask": "a.npy", "pd_fps": 16}
    lines = [good, good | {"pd_mask": "absent.npy"}]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, lines)))
    evaluate(
        compose(
            "source=mask_pairs", f"source.manifest={tmp_path / 'p.jsonl'}", "protocol=official",
            f"output_dir={tmp_path / 'out'}", "allow_missing=true",
        )
    )  # fmt: skip
    printed = capsys.readouterr()
    assert "partial: 1 failure" in printed.out
    assert "failed: mask_pairs/pairs/absent" in printed.err
