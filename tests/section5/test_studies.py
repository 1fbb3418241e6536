"""The analyses of section 5 from the command's configuration to their files, on a few clips."""

import json
from pathlib import Path

import numpy as np
import pytest
from omegaconf import DictConfig

from pisa.errors import PisaError
from pisa.launch.compose import compose_eval
from pisa.section5.impact import read_drop
from pisa.section5.study import study_clips
from tests.launch.conftest import compose, evaluate


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("studies")


def config(data_dir: Path, out: Path, experiment: str, *overrides: str) -> DictConfig:
    return compose(
        f"experiment={experiment}",
        f"data_dir={data_dir}",
        f"output_dir={out}",
        "evaluation.num_steps=1",
        "simulation.num_workers=1",
        *overrides,
    )


FEW = "simulation.datasets.drop_time_test.num_clips=3"


def test_drop_time(data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    few = ["source.num_samples=20", "source.truth_samples=20", "source.num_images=1"]
    few.append("source.even_drops=24")
    evaluate(config(data_dir, tmp_path, "drop_time", FEW, *few))
    result = json.loads((tmp_path / "drop_time.json").read_text())
    assert set(result["models"]) == {"base", "codec", "truth"}
    for model in result["models"].values():
        (image,) = model["images"]
        assert len(image["frames"]) == 20 and sum(image["shares"]) == pytest.approx(1)
        assert sum(image["statuses"].values()) == 20
        assert model["summary"]["images"] == 1
    truth = result["models"]["truth"]
    assert truth["summary"]["statuses"]["impact"] >= 19
    with np.load(tmp_path / "drop_tracks.npz", allow_pickle=False) as tracks:
        assert set(tracks) == {"base", "codec", "truth", "even"}
        assert (tracks["codec"] == tracks["truth"]).all()  # the tiny model works on pixels
        assert tracks["truth"].shape == (1, 20, 16, 64)
        read = [read_drop(track).category(16) for track in tracks["truth"][0]]
        assert read == truth["images"][0]["frames"]
        even = [read_drop(track).category(16) for track in tracks["even"][0]]
    assert len(even) == 24 and even == sorted(even)  # the deeper, the higher and the later
    shares = truth["images"][0]["read_shares"]
    assert shares == pytest.approx(np.bincount(even, minlength=17) / 24)
    assert truth["summary"]["passed"]["p_read"] == 1
    first_s, last_s = truth["images"][0]["bounds_s"]
    frames = truth["images"][0]["frames"]
    inside = [16 * first_s - 1 <= frame <= 16 * last_s + 2 for frame in frames]
    assert sum(inside) >= 18 and len(set(frames)) > 1
    assert result["provenance"]["data_sha256"].startswith("drop_time_test:")
    assert "images pass" in capsys.readouterr().out


def test_fewer_images_are_evenly_spaced(data_dir: Path, tmp_path: Path):
    """The sets are ordered: the first images of a set are those of the least slope."""
    five = "simulation.datasets.drop_time_test.num_clips=5"
    run = compose_eval(config(data_dir, tmp_path, "drop_time", five))
    folder = run.sets.make("drop_time_test")
    chosen = [study.clip.name for study in study_clips(folder, "ambiguous", None, 2)]
    assert chosen == ["000000", "000002"]
    assert len(study_clips(folder, "ambiguous", None, 9)) == 5


def test_lift3d(data_dir: Path, tmp_path: Path):
    few = ("source.num_samples=2", "source.num_images=2")
    evaluate(config(data_dir, tmp_path, "lift3d", FEW, *few))
    result = json.loads((tmp_path / "lift3d.json").read_text())
    truth, base = result["models"]["truth"], result["models"]["base"]
    assert len(truth["clips"]) == 2 and len(base["clips"]) == 4
    for clip in truth["clips"]:
        assert clip["status"] == "impact"
        assert clip["implied_depth_m"] == pytest.approx(clip["depth_m"], rel=0.35)
    assert result["depth_range_m"] == [2.0, 18.0]


def test_ood(data_dir: Path, tmp_path: Path):
    evaluate(config(data_dir, tmp_path, "ood", "simulation.datasets.ood.num_clips=6"))
    result = json.loads((tmp_path / "ood.json").read_text())
    assert set(result["models"]) == {"truth", "frozen", "base"}
    for model in result["models"].values():
        assert sum(map(sum, model["grid"]["n"])) == 6
        assert sum(cells["l2"]["n"] for cells in model["table"].values()) == 6
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert set(metrics["summary"]["truth"]) <= {"id", "ood"}
    assert (tmp_path / "report.html").is_file()


def test_mistakes_are_one_sentence(data_dir: Path, tmp_path: Path):
    for count in ("source.num_samples", "source.truth_samples", "source.even_drops"):
        with pytest.raises(PisaError, match=f"at least 20 samples .* raise {count}"):
            evaluate(config(data_dir, tmp_path, "drop_time", FEW, f"{count}=5"))
    with pytest.raises(PisaError, match="no data set named 'odd'"):
        evaluate(config(data_dir, tmp_path, "ood", "source.data_set=odd"))
    wrong_kind = "source.data_set=drop_time_test"
    with pytest.raises(PisaError, match="'ood' kind"):
        evaluate(config(data_dir, tmp_path, "ood", "+scenario=[ambiguous]", FEW, wrong_kind))
    larger = ("simulation.backend.resolution=128", FEW, "source.num_images=1")
    with pytest.raises(PisaError, match="64x64 pixels, not 16 of 128x128"):
        evaluate(config(data_dir, tmp_path, "lift3d", *larger))
