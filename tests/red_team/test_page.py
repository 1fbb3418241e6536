"""The red-team page: tables, pictures and the command, on a small clip."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pisa.data.clip_io import write_clip
from pisa.errors import PisaError
from pisa.types import Clip
from tests.red_team.__main__ import (
    TABLES,
    attack_sheet,
    fill_page,
    main,
    marks,
    measure,
    monotony,
)
from tests.red_team.attacks import ATTACKS, EXTRA_ATTACKS, LOST_TRACKER
from tests.red_team.measures import VIDEO_ATTACKS


def _clip(num_objects: int = 2, name: str = "000000") -> Clip:
    """A square that falls beside one at rest."""
    masks = torch.zeros(2, 12, 24, 32, dtype=torch.bool)
    masks[0, :, 18:22, 24:28] = True
    for t in range(12):
        y = min(4 + t * t // 3, 17)
        masks[1, t, y : y + 5, 8:14] = True
    return Clip(name=name, video=torch.zeros(3, 12, 24, 32), masks=masks[-num_objects:], fps_hz=16)


def test_clips_that_an_attack_does_not_apply_to_are_left_out() -> None:
    clips = [_clip(2), _clip(1)]
    assert len(measure(ATTACKS["vanish"], clips, "strict")) == 2
    assert len(measure(ATTACKS["swap"], clips, "strict")) == 1


def test_monotony_counts_clips_and_steps() -> None:
    losses = np.zeros((3, 5, 3))
    losses[0, :, 0] = [0, 0.1, 0.3, 0.25, 0.4]  # a step back
    losses[1, 1:] = -0.1  # better than untouched
    ranked = np.linspace(0, 1, 5)[None, :, None].repeat(3, axis=2)
    text = monotony({"x": {"strict": losses}, "y": {"strict": ranked}})
    assert text == (
        "1 of 2 attacks worsen every clip under `strict`, and a higher strength never costs less. "
        "Others: x (of 3 clips 1 are better than untouched, 2 no worse, 2 better at a higher "
        "strength, by .100/.100/.100)."
    )


def test_sheet_shows_the_attacked_mask_in_orange() -> None:
    attacks = {"freeze": ATTACKS["freeze"], "truncate": EXTRA_ATTACKS["truncate"]}
    orange = (attack_sheet(attacks, _clip())[..., :3] - np.array([216, 119, 0])).astype(int)
    assert (abs(orange).max(axis=-1) < 60).sum() > 100


def test_command_writes_page_and_pictures(tmp_path: Path) -> None:
    for i in range(2):
        write_clip(tmp_path / "data" / f"00000{i}", _clip(name=f"00000{i}"))
    page = tmp_path / "page.md"
    blocks = ["\nold\n".join(marks(table)) for table in TABLES]
    page.write_text("\n".join(["before", *blocks, "after\n"]))
    images = tmp_path / "img"
    images.mkdir()
    assert main([str(tmp_path / "data"), "--page", str(page), "--images", str(images)]) == 0
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text
    response, measures = text.split("attacks worsen every clip")
    for name in ATTACKS | EXTRA_ATTACKS | LOST_TRACKER:
        assert response.count(f"\n| {name} | ") == measures.count(f"\n| {name} | ") == 1
    for name in ("untouched", *VIDEO_ATTACKS):
        assert measures.count(f"\n| {name} | ") == 1
    for picture in images.glob("*.png"):
        assert Image.open(picture).width > 100
    assert len(list(images.glob("*.png"))) == 2


def test_a_page_without_marks_is_refused() -> None:
    with pytest.raises(PisaError, match="marks"):
        fill_page("no marks", "measures", "text")
