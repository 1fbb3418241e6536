"""Motions that cannot be, from the same first frame, and the choice between them."""

import json
from pathlib import Path

import pytest
import torch

from pisa.section5.forced_choice import (
    IMPOSSIBLE,
    Choice,
    denoising_losses,
    motions,
    preferred,
)
from pisa.simulation.fast import FastSimulator
from pisa.simulation.scene import Prior
from pisa.types import collate
from tests.launch.conftest import compose, evaluate
from tests.tasks.toy import toy_model


@pytest.fixture(scope="module")
def clips():
    prior = Prior.of(span_px=(9.0, 20.0), size_m=None, num_dropping=(1, 1), num_pile=(0, 0))
    return motions(FastSimulator(prior, num_frames=12), 3, "train", "scene")


def heights(clip):
    """Metres of the dropping object above where it starts, per frame."""
    return clip.poses.position_m[:, -1, 2] - clip.poses.position_m[0, -1, 2]


def test_all_motions_start_from_the_same_frame(clips):
    assert list(clips) == ["true", "slower", "faster", "floating", "upward"]
    for clip in clips.values():
        assert torch.equal(clip.video[:, 0], clips["true"].video[:, 0])


def test_speeds_and_directions(clips):
    true = heights(clips["true"])
    assert true[4].item() == pytest.approx(-0.5 * 9.81 * (4 / 16) ** 2, abs=0.02)
    torch.testing.assert_close(heights(clips["slower"])[::2], true[:6], atol=0.02, rtol=0)
    torch.testing.assert_close(heights(clips["faster"])[:6], true[::2], atol=1e-6, rtol=0)
    torch.testing.assert_close(heights(clips["upward"]), -true)
    assert (heights(clips["floating"]) == 0).all()
    still = clips["floating"].video
    assert torch.equal(still, still[:, :1].expand_as(still))


def test_shares_are_counted_per_motion_and_ties_count_half():
    choices = [
        Choice("a", {"true": 1.0, "slower": 2.0, "faster": 0.5, "floating": 1.0, "upward": 3.0}),
        Choice("b", {"true": 1.0, "slower": 2.0, "faster": 2.0, "floating": 1.0, "upward": 0.0}),
    ]
    table = preferred(choices, 0)
    assert {label: table[label]["share"] for label in IMPOSSIBLE} == {
        "slower": 1.0,
        "faster": 0.5,
        "floating": 0.5,
        "upward": 0.5,
    }


def test_equal_clips_have_equal_losses_and_a_seed_repeats(clips):
    model = toy_model()
    batch = collate([clips["true"], clips["true"], clips["floating"]]).frames(slice(6))
    first = denoising_losses(model, batch, "x", 3, (0, "scene"))
    assert first[0] == first[1] != first[2]
    assert torch.equal(first, denoising_losses(model, batch, "x", 3, (0, "scene")))


def test_the_command_writes_shares_and_losses(tmp_path: Path, capsys):
    evaluate(
        compose(
            "experiment=forced_choice",
            f"data_dir={tmp_path}",
            f"output_dir={tmp_path / 'out'}",
            "source.num_scenes=2",
            "source.num_levels=1",
        )
    )
    result = json.loads((tmp_path / "out" / "forced_choice.json").read_text())
    assert set(result["preferred"]) == set(IMPOSSIBLE) and len(result["losses"]) == 2
    assert "than upward" in capsys.readouterr().out
