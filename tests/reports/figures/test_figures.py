"""Every figure from saved results: what is drawn equals the input, and what the files hold."""

from __future__ import annotations

import json
import re
import zlib

import numpy as np
import pytest
from PIL import Image

from pisa.__main__ import main
from pisa.ops.drop_ray import DropRay
from pisa.reports.figures import (
    ambiguous,
    drop_times,
    lifting,
    qualitative,
    strobe,
    style,
    table2,
)
from pisa.reports.figures.style import Origin
from pisa.section5.drop_time import DropTimes
from tests.reports import saved_results as saved
from tests.reports.saved_results import provenance_in_png


def run(*arguments, capsys=None) -> int:
    return main([str(a) for a in arguments])


def pdf_text(path) -> str:
    """All streams of a PDF, inflated where they can be."""
    content = path.read_bytes()
    parts = [content.decode("latin-1")]
    for stream in re.findall(rb"stream\r?\n(.*?)endstream", content, re.DOTALL):
        try:
            parts.append(zlib.decompress(stream).decode("latin-1"))
        except zlib.error:
            continue
    return "\n".join(parts)


def check_files(stem, *, pictures: bool = False) -> None:
    """Text is text, plots are lines (no image), and the origin is in both files."""
    pdf = pdf_text(stem.with_suffix(".pdf"))
    assert "/FontFile2" in pdf and " Tf" in pdf
    assert ("/Subtype /Image" in pdf) == pictures
    line = provenance_in_png(stem.with_suffix(".png"))
    assert "drawn by commit" in line and line.startswith(("results: commit", "data "))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Every saved result once."""
    folder = tmp_path_factory.mktemp("saved")
    saved.write_drop_time(folder)
    saved.write_lift3d(folder)
    saved.write_ood(folder)
    saved.write_data_set(folder / "falls-1234")
    saved.write_ambiguous_set(folder / "ambiguous-1234")
    saved.write_run(folder / "psft")
    return folder


def test_figure_8_draws_the_samples_and_eq_4(results, tmp_path, capsys):
    document = json.loads((results / "drop_time.json").read_text())
    fits = drop_times.choose(document["models"]["psft"]["images"], 3)
    assert [fit["slope"] for fit in fits] == pytest.approx([0.05, 0.11, 0.17])
    with style.paper_style():
        figure = drop_times.draw(fits, saved.FPS_HZ, saved.NUM_FRAMES)
    for column, fit in enumerate(fits):
        density, cdf = figure.axes[column], figure.axes[3 + column]
        heights = np.array([bar.get_height() for bar in density.patches[: saved.NUM_FRAMES + 1]])
        counts = np.bincount(fit["frames"], minlength=saved.NUM_FRAMES + 1)
        assert heights / saved.FPS_HZ == pytest.approx(counts / counts.sum())
        truth = DropTimes(DropRay(fit["slope"], fit["camera_height_m"]), saved.RANGE_M)
        time_s, drawn = density.lines[0].get_data()
        assert drawn == pytest.approx(truth.pdf(np.asarray(time_s)))
        assert cdf.lines[2].get_ydata() == pytest.approx(np.cumsum(counts / counts.sum())[:-1])
        assert f"p = {fit['p_ks']:.3f}" in density.get_title()
    assert run("figure8", results, "--out", tmp_path / "f8") == 0
    check_files(tmp_path / "f8")
    assert "f8.pdf" in capsys.readouterr().out


def test_figure_8_draws_fewer_images_where_there_are_fewer(results, tmp_path):
    document = json.loads((results / "drop_time.json").read_text())
    images = document["models"]["psft"]["images"]
    document["models"]["psft"]["images"] = images[:2]
    (tmp_path / "drop_time.json").write_text(json.dumps(document))
    assert run("figure8", tmp_path, "--out", tmp_path / "f8") == 0
    check_files(tmp_path / "f8")


def test_figure_8_counts_the_images_that_pass(results):
    document = json.loads((results / "drop_time.json").read_text())
    summary = document["models"]["psft"]["summary"]
    notes = drop_times._notes("psft", summary)
    assert notes.startswith(f"PSFT: {summary['passed']['p_ks']} of 5 images")
    assert "(published): 0 of 50" in notes


def test_figure_7_draws_ray_falls_and_the_lifted_curve(results, tmp_path):
    document = json.loads((results / "lift3d.json").read_text())
    clips = lifting.choose(document["models"]["psft"]["clips"], 3)
    distances = [clip["rms_m"] for clip in clips]
    assert distances == sorted(distances)
    with style.paper_style():
        figure = lifting.draw(clips, saved.RANGE_M)
    for clip, axes in zip(clips, figure.axes[::2], strict=True):
        *falls, ray, lifted = [line.get_data_3d() for line in axes.lines]
        depth_m, time_s, height_m = (np.asarray(v) for v in lifted)
        assert set(depth_m) == {clip["implied_depth_m"]}
        assert list(time_s) == clip["time_s"] and list(height_m) == clip["height_m"]
        assert ray[2] == pytest.approx(0.5 + clip["slope"] * np.array(saved.RANGE_M))
        for fall in falls:  # every grey fall starts on the ray and ends on the floor
            assert fall[2][0] == pytest.approx(0.5 + clip["slope"] * fall[0][0])
            assert fall[2][-1] == pytest.approx(0.0, abs=1e-9)
    assert (
        run("figure7", results / "lift3d.json", "--model", "truth", "--out", tmp_path / "f7") == 0
    )
    check_files(tmp_path / "f7")


def test_figure_6_orders_a_family_by_depth(results, tmp_path):
    members = ambiguous.family(results / "ambiguous-1234", None)
    assert [m.depth_m for m in members] == [3.0, 9.0, 12.0]
    with style.paper_style():
        figure = ambiguous.draw(members)
    drawn = [axes.images[0].get_array() for axes in figure.axes if axes.images]
    first = drawn[:: len(drawn) // 3]
    assert all(np.abs(np.asarray(f, int) - np.asarray(first[0], int)).mean() < 3 for f in first)
    assert run("figure6", results / "ambiguous-1234", "--out", tmp_path / "f6") == 0
    check_files(tmp_path / "f6", pictures=True)


def test_figure_1_shows_the_longest_falls(results, tmp_path):
    clips = strobe.choose(results / "falls-1234", 2, None)
    assert [clip.name for clip in clips] == ["000003", "000002"]
    image = strobe.picture(clips[0]).astype(int)
    red = (image[..., 0] - image[..., 2] > 60).any(axis=1)
    assert red[4:16].all() and red[48:60].all()  # the first and the last position
    assert strobe.choose(results / "falls-1234", 2, ["000001"])[0].name == "000001"
    assert run("figure1", results / "falls-1234", "--out", tmp_path / "f1") == 0
    check_files(tmp_path / "f1", pictures=True)


def test_figure_4_has_a_row_per_model(results, tmp_path):
    assert run("figure4", results / "psft", "--num", 2, "--out", tmp_path / "f4") == 0
    check_files(tmp_path / "f4", pictures=True)
    clips = [
        {"split": "real", "clip": "c", "models": {n: saved.square_video(s) for n, s in speeds}}
        for speeds in [(("truth", 4), ("frozen", 0), ("base", 1))]
    ]
    with style.paper_style():
        figure = qualitative.draw(clips, saved.FPS_HZ)
    labels = [axes.get_ylabel() for axes in figure.axes if axes.get_ylabel()]
    assert labels == ["Ground truth", "Base"]
    shown = [np.asarray(axes.images[0].get_array()) for axes in figure.axes]
    assert np.array_equal(shown[0], clips[0]["models"]["truth"]["frames"][0])
    assert np.array_equal(shown[qualitative.TIMES], clips[0]["models"]["truth"]["frames"][-1])
    assert np.array_equal(shown[-1], clips[0]["models"]["base"]["frames"][-1])


def test_default_clips_are_at_quantiles_of_l2():
    clips = [{"split": "real", "clip": f"{i}"} for i in range(9)]
    l2 = {("real", f"{i}"): 0.1 * (8 - i) for i in range(9)}
    assert [c["clip"] for c in qualitative.spread(clips, 1, l2)] == ["4"]
    assert [c["clip"] for c in qualitative.spread(clips, 3, l2)] == ["6", "4", "2"]
    assert len(qualitative.spread(clips, 20, l2)) == 9
    rows = [
        {"model": m, "split": "real", "clip": "0", "seed": s, "l2": v}
        for m, s, v in (("psft", 0, 0.1), ("psft", 1, 0.3), ("base", 0, 0.9))
    ]
    assert qualitative.l2_of({"per_clip": rows}, "psft") == {("real", "0"): pytest.approx(0.2)}


def test_the_hero_falls_beside_the_truth(results, tmp_path):
    out = tmp_path / "deep" / "hero.webp"
    assert run("hero", results / "psft", "--num", 2, "--out", out) == 0
    with Image.open(out) as picture:
        assert picture.n_frames == saved.NUM_FRAMES
        assert picture.size == (3 * 264 + 8, 28 + 2 * 292 + 28)
        reds = []
        for frame in (0, saved.NUM_FRAMES - 1):
            picture.seek(frame)
            pixels = np.asarray(picture.convert("RGB"))[28:284].astype(int)
            red = (pixels[..., 0] - pixels[..., 2] > 100).nonzero()
            reds.append([red[0][red[1] // 264 == column].max() for column in range(3)])
    assert reds[1][0] > reds[0][0] + 100  # the truth falls
    assert reds[1][1] < reds[0][1] + 30  # base hangs in the air
    assert out.stat().st_size < 3_000_000


def test_the_heat_map_shows_cells_and_counts(results):
    document = json.loads((results / "ood.json").read_text())
    with style.paper_style():
        figure = table2.draw_grid({"psft": document["models"]["psft"]["grid"]})
    texts = [text.get_text() for text in figure.axes[0].texts]
    means = np.array(document["models"]["psft"]["grid"]["mean"]["l2"], dtype=float)
    assert texts[::2] == [f"{value:.2f}" for value in means.ravel() if np.isfinite(value)]
    assert len(texts) // 2 < means.size and set(texts[1::2]) == {"1"}


def test_many_origins_are_counted_not_listed():
    origin = Origin(("a" * 40,), tuple(f"{i}" * 64 for i in range(5)), ())
    line = origin.line()
    assert line.startswith("results: commit aaaaaaaa; config 5 different (")
    assert "data not recorded; drawn by commit" in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("figure8", "nowhere"), "eval.py experiment=drop_time"),
        (("figure8", "{}/lift3d.json"), "holds the analysis 'lift3d', not 'drop_time'"),
        (("figure7", "{}/psft/metrics.json"), "is not a saved analysis"),
        (("figure7", "{}", "--model", "sora"), "no model 'sora'; it has"),
        (("figure7", "{}", "--num", "9"), "needs 9 clips with an impact"),
        (("figure8", "{}", "--num", "6"), "1 to 5 images"),
        (("figure6", "{}/falls-1234"), "is no clip of the 'ambiguous' kind"),
        (("figure6", "{}/ambiguous-1234", "--family", "3"), "no family 3; there are 0 to 0"),
        (("figure1", "nowhere"), "no such data set"),
        (("figure1", "{}/psft"), "is not a finished data set"),
        (("figure1", "{}/falls-1234", "--clips", "9"), "has no clip 9"),
        (("figure4", "{}/psft", "--clips", "real/9"), "no clip real/9; shown are"),
        (("hero", "{}/psft", "--split", "real"), "shows no clips of 'real'; its sets: sim_seen"),
        (("figure5", "{}/nothing"), "no such run folder"),
        (("table1", "{}/nothing"), "cannot read"),
        (("table2", "{}/drop_time.json"), "holds the analysis 'drop_time', not 'ood'"),
    ],
)
def test_wrong_input_is_one_clear_line(results, tmp_path, capsys, arguments, message):
    given = [a.format(results) for a in arguments]
    assert run(*given, "--out", tmp_path / "x") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert message in error.replace("in this result", "").replace("sora' ", "sora'")
    assert not list(tmp_path.iterdir())
