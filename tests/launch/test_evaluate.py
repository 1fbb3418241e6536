"""``source=model``: a clip for which the model yields NaN is a failure, never a score."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from pisa.data.clip_io import write_clip
from pisa.data.manifest import Manifest, write_manifest
from pisa.errors import IncompleteError, PisaError
from pisa.io.weights import save
from pisa.launch import evaluate as scoring
from pisa.launch.compose import compose_eval
from pisa.launch.runs import build_model
from pisa.models.generate import generate
from pisa.models.tiny_denoiser import Prediction
from pisa.ops.video import from_frames
from pisa.perception.embedded_segmentation import EmbeddedTracker
from pisa.tasks.weights import save_denoiser
from pisa.types import Clip
from tests.launch.conftest import CLIPS, compose, evaluate, falling, write_real

FRAMES = 16  # what the tiny model makes


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    sets = compose_eval(compose(f"data_dir={root}")).sets
    for split in ("sim_seen", "sim_unseen", "psft"):
        for which, name in enumerate(CLIPS):
            frames, masks = falling(which, FRAMES)
            clip = Clip(
                name=name,
                video=from_frames(frames),
                masks=torch.from_numpy(masks.swapaxes(0, 1).copy()),
                fps_hz=16.0,
                drop_height_m=1.0 if which else None,  # the first clip's is not known
            )
            write_clip(root / sets.folder_name(split) / "clips" / name, clip)
        write_manifest(root / sets.folder_name(split), Manifest(CLIPS))
    for which, name in enumerate(CLIPS):
        write_real(root / "real" / name, which)
    return root


def settings(data: Path, out: Path, *overrides: str) -> Any:
    return compose(
        f"data_dir={data}", f"output_dir={out}", "evaluation.num_steps=1",
        "evaluation.splits=[sim_seen]", *overrides,
    )  # fmt: skip


def read(out: Path) -> dict[str, Any]:
    return json.loads((out / "metrics.json").read_text())


class BreaksForOneClip(nn.Module):
    """The denoiser, but with weights of ``value`` in the place of its own for one row."""

    def __init__(self, denoiser: nn.Module, value: float, row: int) -> None:
        super().__init__()
        self.denoiser, self.row = denoiser, row
        self.weight = nn.Parameter(torch.full((), value))

    def forward(self, x: torch.Tensor, *rest: torch.Tensor) -> Prediction:
        predicted = self.denoiser(x, *rest)
        scale = torch.ones(len(x), 1, 1, 1, 1)
        scale[self.row % len(x)] = self.weight
        return predicted._replace(clean=predicted.clean * scale)


@pytest.fixture
def base_breaks(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """The base model fails on the second clip, with the value of the parameter."""

    def build(base: Any, weights: Path | None) -> Any:
        model = build_model(base, weights)
        model.denoiser = BreaksForOneClip(model.denoiser, request.param, row=1)
        return model

    monkeypatch.setattr(scoring, "build_model", build)
    return CLIPS[1]


@pytest.mark.parametrize("base_breaks", [float("nan")], indirect=True)
def test_a_nan_clip_is_named_and_left_out(base_breaks, data, tmp_path, capsys) -> None:
    with pytest.raises(IncompleteError, match=f"1 failure, in {base_breaks}") as caught:
        evaluate(settings(data, tmp_path / "out"))
    assert caught.value.exit_code == 3
    metrics = read(tmp_path / "out")
    assert metrics["status"] == "incomplete"
    (failure,) = metrics["failures"]
    assert (failure["model"], failure["clip"]) == ("base", base_breaks)
    assert "NaN" in failure["reason"]
    cells = metrics["summary"]["base"]["sim_seen"]
    assert [cells[m]["n"] for m in ("l2", "chamfer", "iou", "time_error")] == [2, 2, 2, 1]
    assert metrics["summary"]["truth"]["sim_seen"]["iou"]["n"] == 3
    printed = capsys.readouterr()
    assert f"failed: base/sim_seen/{base_breaks} seed 0" in printed.err
    assert "incomplete: 1 failure" in printed.out and "n = 2" in printed.out


@pytest.mark.parametrize("base_breaks", [float("inf"), float("nan")], indirect=True)
def test_allow_missing_marks_the_table_partial(base_breaks, data, tmp_path, capsys) -> None:
    evaluate(settings(data, tmp_path / "out", "allow_missing=true"))
    metrics = read(tmp_path / "out")
    assert metrics["status"] == "partial"
    assert [failure["clip"] for failure in metrics["failures"]] == [base_breaks]
    assert "partial: 1 failure" in capsys.readouterr().out
    assert "partial" in (tmp_path / "out" / "report.html").read_text().lower()


def test_weights_that_overflow_score_nothing_and_that_is_never_accepted(data, tmp_path) -> None:
    cfg = settings(data, tmp_path / "out", "allow_missing=true", "evaluation.num_clips=2")
    denoiser = build_model(compose_eval(cfg).model, None).denoiser
    with torch.no_grad():
        for parameter in denoiser.parameters():
            parameter.fill_(1e30)  # finite, so that loading accepts it; the videos are not
    cfg.ckpt = str(save_denoiser(tmp_path / "broken.safetensors", denoiser.state_dict(), {}))
    with pytest.raises(IncompleteError, match="over what is left: nothing"):
        evaluate(cfg)
    metrics = read(tmp_path / "out")
    assert set(metrics["summary"]) == {"truth", "frozen", "base"}
    assert metrics["summary"]["base"]["sim_seen"]["iou"]["n"] == 2
    assert {(f["model"], f["clip"]) for f in metrics["failures"]} == {
        ("checkpoint", clip) for clip in CLIPS[:2]
    }


def test_a_sound_model_has_no_failures(data, tmp_path) -> None:
    evaluate(settings(data, tmp_path / "out"))
    metrics = read(tmp_path / "out")
    assert metrics["status"] == "complete" and metrics["failures"] == []
    cells = metrics["summary"]["base"]["sim_seen"]
    assert cells["iou"]["n"] == 3 and cells["time_error"]["n"] == 2  # one height is not known


def test_real_clips_are_generated_at_full_length_and_cut_to_each_clip(data, tmp_path, monkeypatch):
    """Clips of 48 frames at 120 Hz are 7 at 16 Hz; the model makes its 16."""
    made = []

    def spy(model: Any, *args: Any, **options: Any) -> torch.Tensor:
        made.append((options["num_frames"], args[1]))
        return generate(model, *args, **options)

    monkeypatch.setattr("pisa.bench.references.generate", spy)
    suffix = 'evaluation.caption_suffix=" score: 6.5."'
    cfg = settings(data, tmp_path / "out", "benchmark=real", "evaluation.decode_chunk=1", suffix)
    evaluate(cfg)
    metrics = read(tmp_path / "out")
    assert set(metrics["summary"]["base"]) == {"real"}
    assert metrics["summary"]["base"]["real"]["iou"]["n"] == 3
    assert metrics["summary"]["truth"]["real"]["iou"]["mean"] > 0.9
    assert made == [(16, ["a video of an object dropping score: 6.5."])] * 3


def test_splits_may_mix_and_unknown_ones_are_named(data, tmp_path) -> None:
    mixed = ("evaluation.splits=[real,sim_unseen]", "evaluation.num_clips=1")
    evaluate(settings(data, tmp_path / "out", *mixed))
    assert set(read(tmp_path / "out")["summary"]["base"]) == {"real", "sim_unseen"}
    named = ("evaluation.splits=[psft,sim_seen]", "evaluation.num_clips=2")
    evaluate(settings(data, tmp_path / "named", *named))
    scored = read(tmp_path / "named")["summary"]["base"]
    assert scored["psft"]["iou"]["n"] == scored["sim_seen"]["iou"]["n"] == 2
    with pytest.raises(PisaError, match="no test set named 'unreal'; valid: sim_seen, sim_unseen"):
        evaluate(settings(data, tmp_path / "other", "benchmark=unreal"))


def test_scorings_of_weights_record_their_passes_and_their_judge(data, tmp_path) -> None:
    model = build_model(compose_eval(settings(data, tmp_path)).model, None)
    judge = save(tmp_path / "judge.safetensors", EmbeddedTracker().state_dict(), {})
    origins = []
    for seed, chosen in enumerate(((), (f"perception.tracker.path={judge}",), ())):
        path = tmp_path / f"{seed}.safetensors"
        save_denoiser(path, model.denoiser.state_dict(), {"denoiser_passes": f"{96 + seed}"})
        own = (f"ckpt={path}", f"seed={seed}", "name=nft", "evaluation.num_clips=1")
        own += ("+reward@evaluation.reward=flow",)
        evaluate(settings(data, tmp_path / f"{seed}", *own, *chosen))
        origins.append(read(tmp_path / f"{seed}")["provenance"])
    assert [origin["passes"] for origin in origins] == [{"nft": 96 + seed} for seed in range(3)]
    first, other, again = (origin["tracker"] for origin in origins)
    assert first == again != other
    first, other, again = (origin["experiment_sha256"] for origin in origins)
    assert first == again != other  # weights of one method, as its seeds left them
    for row in read(tmp_path / "0")["per_clip"]:  # the weights are the base model's own
        assert row.get("stage_change") == (0 if row["model"] == "nft" else None)
        assert row["reward"] == 0 if row["model"] == "truth" else row["reward"] < 0


def test_a_device_that_is_not_there_is_one_sentence(data, tmp_path) -> None:
    with pytest.raises(PisaError, match="no device 'cuda:99'"):
        evaluate(settings(data, tmp_path / "out", "evaluation.device=cuda:99"))


def test_eval_takes_the_scale_of_training_and_records_no_training(data, tmp_path) -> None:
    options = (
        "scale=paper", "model=opensora_tiny", "perception=embedded", "prior=tiny",
        "simulation.backend.resolution=64", "simulation.backend.num_frames=32",
        "data.expect_size=[64,64]", "data.num_workers=0", "real.num_workers=0", "real.size=[64,64]",
        "benchmark=real", "evaluation.num_steps=1", "evaluation.num_clips=1",
        f"data_dir={data}", f"output_dir={tmp_path}",
    )  # fmt: skip
    cfg = compose(*options)
    assert cfg.evaluation.guidance == 7.0 and cfg.evaluation.bfloat16
    evaluate(cfg)
    recorded = OmegaConf.load(tmp_path / "config.yaml")
    assert "model" in recorded and not {"trainer", "psft", "oro", "callbacks"} & set(recorded)
    of_both = [option for option in options if not option.startswith(("benchmark", "output_dir"))]
    train = compose(*of_both, name="train")
    for key in ("model", "prior", "simulation", "perception", "data", "evaluation", "real"):
        assert OmegaConf.to_yaml(cfg[key]) == OmegaConf.to_yaml(train[key]), key


def test_the_best_of_one_is_the_model_and_of_three_another_video(data, tmp_path) -> None:
    chosen = ("source=best_of", "reward@source.reward=segmentation")
    rows = {}
    for name, overrides in {
        "model": (),
        "one": (*chosen, "source.count=1"),
        "three": (*chosen, "source.count=3"),
    }.items():
        evaluate(settings(data, tmp_path / name, "evaluation.eta=1.0", *overrides))
        scored = read(tmp_path / name)["per_clip"]
        own = [r for r in scored if r["model"] not in ("truth", "frozen")]
        assert {r["model"] for r in own} == {"base" if name == "model" else "best_of"}
        rows[name] = {r["clip"]: (r["l2"], r["iou"]) for r in own}
    assert rows["one"] == rows["model"]
    assert rows["three"] != rows["model"] and rows["three"].keys() == rows["model"].keys()
