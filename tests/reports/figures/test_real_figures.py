"""Figures 3, 10 and 12 (a) of clips as the release ships them, by their commands."""

from __future__ import annotations

import json
from itertools import combinations

import numpy as np
import pytest

from pisa.__main__ import main
from pisa.data.clip_io import read_clip
from pisa.reports.figures import words
from pisa.reports.figures.annotations import mask_pictures
from tests.launch.conftest import write_real

CAPTIONS = ("A white bottle falls.", "A brown bottle falls on the table.", "A cup is dropped.")


@pytest.fixture
def real(tmp_path):
    for which, caption in enumerate(CAPTIONS):
        folder = tmp_path / "real" / f"{which:04d}"
        write_real(folder, which)
        info = json.loads((folder / "clip_info.json").read_text())
        info |= {"caption": caption, "scene": "kitchen" if which else "office"}
        (folder / "clip_info.json").write_text(json.dumps(info))
    return tmp_path / "real"


def test_every_command_writes_its_figure(real, tmp_path, capsys):
    for name in ("figure3", "figure10", "figure12a"):
        assert main([name, str(real), "--out", str(tmp_path / name)]) == 0
        assert (tmp_path / f"{name}.pdf").stat().st_size > 4000
        assert (tmp_path / f"{name}.png").stat().st_size > 4000
    said = capsys.readouterr().out
    assert "bottle 2" in said and "scene kitchen: 2 (66.7%)" in said  # Figure 3 (b)


def test_masks_have_a_colour_each_and_the_dropping_object_the_first(real):
    clip = read_clip(real / "0001")
    picture = mask_pictures(clip, np.array([0]))[0]
    drop = clip.masks[clip.dropping_index, 0].numpy()
    other = clip.masks[1 - clip.dropping_index, 0].numpy()
    assert {tuple(colour) for colour in picture[drop]} == {(230, 159, 0)}  # orange
    assert {tuple(colour) for colour in picture[other & ~drop]} == {(0, 114, 178)}
    assert not picture[~(drop | other)].any()


def test_words_count_once_per_caption_and_do_not_overlap():
    counts = words.count_words([*CAPTIONS, "bottle bottle"])
    assert counts["bottle"] == 3 and counts["cup"] == 1
    assert not {"a", "the", "falls", "dropped", "on", "is"} & set(counts)
    many = {f"word{i:02d}": 40 - i for i in range(40)}
    placed = words.layout(many, 234, 151)
    assert placed["word00"][:2] == (0.0, 0.0) and len(placed) > 15
    sizes = [size for _, _, size in placed.values()]
    assert sizes == sorted(sizes, reverse=True)
    for (a, (x, y, s)), (b, (u, v, t)) in combinations(placed.items(), 2):
        across = words._WIDTH_PT * (s * len(a) + t * len(b)) / 2
        assert abs(x - u) >= across - 1e-6 or abs(y - v) >= words._HEIGHT_PT * (s + t) / 2 - 1e-6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["figure10", "{real}", "--clips", "9999"], "has no clip 9999"),
        (["figure10", "{real}", "--num", "0"], "at least 1"),
        (["figure12a", "{real}/0000"], "holds no clips"),
    ],
)
def test_mistakes_are_one_line(real, arguments, message, capsys):
    assert main([argument.format(real=real) for argument in arguments]) == 2
    assert message in capsys.readouterr().err
