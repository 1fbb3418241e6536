"""The scorer: truth is perfect, the frozen clip isn't, rows are the same under every protocol."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from pisa.bench.collect import Collection
from pisa.bench.references import BestOf, ModelSource, Sampling, frozen_video, true_video
from pisa.bench.row import ScoreRow, check_rates, comparable, truth_sha256
from pisa.bench.score import Failure, Scored, Scorer
from pisa.errors import PisaError
from pisa.metrics import PROTOCOLS
from pisa.perception.mask_cache import CachedTracker
from pisa.rewards.base import Reward
from pisa.types import Camera, ObjectPoints, collate
from tests.tasks.toy import BrightTracker, falling_batch, falling_clip, toy_model

SCORER = Scorer(BrightTracker())


def rows_of(batch, videos, scorer=SCORER, **options) -> list[ScoreRow]:
    results = scorer.score(batch, videos, model="m", split="sim_seen", **options)
    return [result.row for result in results]


def test_truth_scores_perfectly_and_frozen_does_not():
    batch = falling_batch(2)
    truth, frozen = rows_of(batch, true_video(batch, 0)), rows_of(batch, frozen_video(batch, 0))
    for good, bad in zip(truth, frozen, strict=True):
        assert good.iou == 1 and good.l2 == 0 and good.chamfer == 0
        assert good.coverage == 1 and good.area_ratio == 1 and good.first_frame_difference == 0
        assert bad.iou < 0.6 and bad.l2 > 0.05 and bad.chamfer > 0.05


def test_columns_are_the_same_under_every_protocol():
    batch = falling_batch(1)
    columns = {
        name: list(rows_of(batch, batch.video, Scorer(BrightTracker(), name))[0].as_dict())
        for name in PROTOCOLS
    }
    assert columns["official"] == columns["paper"] == columns["strict"]
    assert {"l2", "miss_rate", "spurious_rate", "coverage", "time_error"} <= set(columns["strict"])


def test_measures_beyond_position_are_columns_of_the_row():
    batch = falling_batch(1)
    (row,) = rows_of(batch, batch.video)
    found = row.as_dict()
    assert found["colour_change"] == found["background_change"] == 0.0
    assert found["area_kept"] == found["piece_share"] == 1.0
    assert found["path_length"] == pytest.approx(10 / math.hypot(16, 16))
    assert "g_m_s2" not in found and "galileo" not in found  # no camera; one object
    shifted = batch.video.clone()
    shifted[:, 2, 1:] = 1.0
    (blue,) = rows_of(batch, shifted)
    assert blue.colour_change == pytest.approx(1 / 3)
    assert blue.background_change == pytest.approx(1 / 3)
    assert blue.brightness_change == pytest.approx(
        0.114, rel=1e-4
    )  # blue's share of the grey level
    assert blue.high_frequency_change == 0.0


def test_diversity_is_the_difference_to_a_second_video_from_other_noise():
    batch = falling_batch(2)

    def brighter(batch, seed):
        return (batch.video + 0.5 * seed).clamp(-1, 1)

    def diversity(asked):
        names = {"model": "m", "split": "sim_seen", "diversity": asked}
        return [r.row.diversity for r in SCORER.score_source(brighter, [batch], **names)]

    dark = float((batch.video == -1).float().mean())  # becomes -0.5: 64 of 255 levels
    assert diversity(True) == [pytest.approx(dark * 64 / 255, abs=1 / 255)] * 2
    assert diversity(False) == [None, None]


def test_the_reward_of_a_video_is_a_column_where_it_is_asked_for():
    class Likeness(Reward):
        def forward(self, generated, batch):
            return -(generated - batch.video).abs().mean(dim=(1, 2, 3, 4))

    batch = falling_batch(2)

    def shorter(batch, seed):
        return batch.video[:, :, :-1] - 0.25

    names = {"model": "m", "split": "sim_seen"}
    given = [
        r.row.reward for r in SCORER.score_source(shorter, [batch], reward=Likeness(), **names)
    ]
    assert given == [pytest.approx(-0.25)] * 2
    assert [r.row.reward for r in SCORER.score_source(shorter, [batch], **names)] == [None] * 2


def test_gravity_is_a_column_where_the_scale_is_known():
    clip = falling_clip()
    masks = torch.zeros(1, 6, 64, 64, dtype=torch.bool)
    for t in range(6):
        masks[0, t, 4 + t * t : 12 + t * t, 8:16] = True  # 2 px per frame squared
    video = torch.where(masks, 1.0, -1.0).expand(3, -1, -1, -1)
    camera = Camera((0.0, -1.0, 0.5), 64, 64)
    clip = replace(clip, video=video, masks=masks, camera=camera, drop_depth_m=2.0)
    (row,) = rows_of(collate([clip]), clip.video[None])
    assert row.g_m_s2 == pytest.approx(2 * 16**2 / (camera.focal_px / 2.0))


def test_two_objects_that_fall_in_the_true_clip_have_a_galileo_ratio():
    batch = falling_batch(1, frames=6)
    both = torch.cat([batch.masks, batch.masks], dim=1)
    (row,) = rows_of(replace(batch, masks=both), batch.video)
    assert row.galileo == pytest.approx(1.0)
    resting = torch.cat([batch.masks[:, :, :1].expand_as(batch.masks), batch.masks], dim=1)
    (alone,) = rows_of(replace(batch, masks=resting), batch.video)
    assert alone.galileo is None


def test_the_protocol_decides_the_numbers():
    batch = falling_batch(1)
    videos = frozen_video(batch, 0)
    l2 = [rows_of(batch, videos, Scorer(BrightTracker(), name))[0].l2 for name in PROTOCOLS]
    assert len(set(l2)) == 3 - (l2[1] == l2[2])  # paper and strict agree on rigid motion
    with pytest.raises(PisaError, match="no protocol 'lenient'"):
        Scorer(BrightTracker(), "lenient")


def test_time_error_is_absent_without_a_height():
    batch = falling_batch(2)
    heights = torch.tensor([0.5, math.nan])
    rows = rows_of(replace(batch, drop_height_m=heights), batch.video)
    assert ["time_error" in row.as_dict() for row in rows] == [True, False]


def test_a_video_of_another_length_and_rate_is_aligned():
    batch = falling_batch(1)
    (half,) = rows_of(batch, batch.video[:, :, ::2], fps_hz=8.0)
    assert (half.num_frames_gt, half.num_frames_compared, half.coverage) == (6, 3, 1.0)
    assert half.l2 == 0 and not half.partial


def test_a_short_video_is_partial_unless_strict_counts_what_it_lacks():
    batch = falling_batch(1)
    (short,) = rows_of(batch, batch.video[:, :, :2])
    assert short.l2 == 0 and short.coverage == pytest.approx(2 / 6) and short.partial
    (strict,) = rows_of(batch, batch.video[:, :, :2], Scorer(BrightTracker(), "strict"))
    assert strict.partial is None and strict.l2 > 0.5


def test_only_the_dropping_object_is_tracked():
    batch = falling_batch(1)
    masks = torch.cat([torch.ones_like(batch.masks), batch.masks], dim=1)
    prompts = []

    class Spy(BrightTracker):
        def segment(self, video, first_masks, tracked=slice(None)):
            prompts.append(first_masks[:, tracked])
            return super().segment(video, first_masks, tracked)

    rows_of(replace(batch, masks=masks), batch.video, Scorer(Spy()))
    assert torch.equal(prompts[0], batch.first_masks)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_video_that_is_not_finite_is_a_failure_and_the_others_are_scored(value):
    batch = falling_batch(2)
    videos = batch.video.clone()
    videos[0, 0, 3, 5, 5] = value
    failure, scored = SCORER.score(batch, videos, model="m", split="s", seed=3)
    assert isinstance(failure, Failure) and isinstance(scored, Scored)
    assert failure.as_dict() == {
        "model": "m", "split": "s", "clip": "clip_0", "seed": 3,
        "reason": "the video holds NaN or infinity",
    }  # fmt: skip
    assert scored.row.iou == 1


def test_a_clip_is_the_same_in_any_batch_and_differs_between_seeds():
    source = ModelSource(toy_model(), Sampling(num_steps=3, guidance=2.0))
    pair, single = falling_batch(2), falling_batch(1, start=1)
    torch.testing.assert_close(source(pair, 0)[1:], source(single, 0))
    assert not torch.allclose(source(single, 0), source(single, 1))
    assert not source(single, 0).requires_grad


def test_model_source_composes_the_caption():
    model, seen = toy_model(), []
    encode = model.encode_captions
    model.encode_captions = lambda captions: seen.append(list(captions)) or encode(captions)
    batch = falling_batch(2)
    one = Sampling(num_steps=1, guidance=1.0)
    ModelSource(model, replace(one, caption_suffix=" aesthetic score: 6.5."))(batch, 0)
    ModelSource(model, replace(one, caption="drop"))(batch, 0)
    assert seen == [["a red square falls aesthetic score: 6.5."] * 2, ["drop"] * 2]


def test_a_source_is_scored_batch_after_batch():
    batches = [falling_batch(2), falling_batch(1, start=2)]
    results = list(
        SCORER.score_source(true_video, batches, model="truth", split="sim_seen", seed=3)
    )
    assert [r.row.clip for r in results] == ["clip_0", "clip_1", "clip_2"]
    assert results[0].row.model == "truth" and results[0].row.seed == 3
    assert results[0].video.dtype == torch.uint8 and results[0].video.shape == (3, 6, 16, 16)
    assert torch.equal(results[2].mask, batches[1].masks[0, -1])


def test_a_collection_keeps_rows_failures_and_the_first_clips():
    batch = falling_batch(3)
    videos = batch.video.clone()
    videos[2] = math.nan
    collection = Collection(shown_clips=1)
    for result in SCORER.score(batch, videos, model="m", split="s"):
        collection.add(result, scene="hall")
    for result in SCORER.score(batch, batch.video[:, :, :2], model="short", split="s"):
        collection.add(result)
    assert [row.clip for row in collection.rows][:2] == ["clip_0", "clip_1"]
    assert collection.rows[0].as_dict()["scene"] == "hall"
    assert [f.clip for f in collection.failures] == ["clip_2", "clip_0", "clip_1", "clip_2"]
    assert "only 33% of the true clip's time" in collection.failures[1].reason
    (shown,) = collection.videos
    assert shown["clip"] == "clip_0" and set(shown["models"]) == {"m", "short"}
    assert shown["models"]["m"]["frames"].shape == (6, 16, 16, 3)
    (note,) = collection.notes()
    assert note.startswith("3 video(s) cover less time than their clips (coverage): clip_0 33%")


def document(frames=6, tracker="t", protocol="official", **edit):
    batch = falling_batch(2)
    batch = replace(batch, video=batch.video[:, :, :frames], masks=batch.masks[:, :, :frames])
    rows = [{**row.as_dict(), **edit} for row in rows_of(batch, batch.video)]
    return {"protocol": protocol, "per_clip": rows, "provenance": {"tracker": tracker}}


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({}, None),
        ({"protocol": "strict"}, "different protocols: official and strict"),
        ({"tracker": "u"}, "different trackers"),
        ({"tracker": None}, None),  # written before trackers were recorded
        ({"frames": 4}, "different frames: 6 and 4 of clip clip_0"),
        ({"truth_sha256": "0"}, "not the same data set"),
        ({"split": "real"}, None),  # nothing is shared
    ],
)
def test_runs_are_compared_only_on_the_same_terms(other, why):
    found = comparable(document(), document(**other))
    assert found is None if why is None else why in found


def test_the_truth_is_identified_by_frames_rate_and_pixels():
    masks = np.zeros((4, 8, 8), dtype=bool)
    names = {truth_sha256(masks, 16), truth_sha256(masks[:2], 16), truth_sha256(masks, 8),
             truth_sha256(~masks, 16)}  # fmt: skip
    assert len(names) == 4


@pytest.mark.parametrize("rate", [0.0, -1.0, math.inf, math.nan, 1e9, 1e-9])
def test_implausible_rates_are_refused(rate):
    with pytest.raises(PisaError, match="rate"):
        check_rates(16.0, rate)
    with pytest.raises(PisaError, match="rate"):
        rows_of(falling_batch(1), falling_batch(1).video, fps_hz=rate)
    check_rates(240.0, 7.0)


class PointsOrMasks(BrightTracker):
    """Takes points too, and remembers the prompts; an object is all that is bright."""

    def __init__(self) -> None:
        super().__init__()
        self.prompts: list[object] = []

    def segment(self, video, first_masks, tracked=slice(None)):
        self.prompts.append("mask")
        return super().segment(video, first_masks, tracked)

    def segment_points(self, video, objects):
        self.prompts.append(objects[0])
        masks = torch.ones(1, 1, *video.shape[-2:], dtype=torch.bool)
        return super().segment(video[None], masks)[0]


@pytest.mark.parametrize("cached", [False, True])
def test_the_prompt_is_the_true_first_mask_or_the_annotated_points(cached, tmp_path):
    given = ObjectPoints(((3.0, 4.0),), ((0.0, 0.0),))
    batch = replace(falling_batch(2), points=(given, None))
    for prompt, expected in (("mask", ["mask"]), ("points", [given, "mask"])):
        inner = PointsOrMasks()
        tracker = CachedTracker(inner, tmp_path / prompt, "x") if cached else inner
        rows = rows_of(batch, batch.video, Scorer(tracker, prompt=prompt))
        assert inner.prompts == (["mask"] * 2 if cached and prompt == "mask" else expected)
        inner.prompts.clear()
        assert all(row.iou == 1 for row in rows)
        again = rows_of(batch, batch.video, Scorer(tracker, prompt=prompt))
        assert [row.l2 for row in again] == [row.l2 for row in rows]
        if cached:
            assert tracker.misses == 2 and tracker.hits == 2


def test_points_for_a_tracker_without_them_are_one_sentence(tmp_path):
    for tracker in (BrightTracker(), CachedTracker(BrightTracker(), tmp_path, "x")):
        with pytest.raises(PisaError, match=r"BrightTracker does not: perception=pretrained"):
            Scorer(tracker, prompt="points")
    with pytest.raises(PisaError, match="prompt must be one of mask, points"):
        Scorer(BrightTracker(), prompt="box")


def test_the_best_of_several_is_chosen_clip_by_clip_and_seeds_do_not_overlap():
    batch = falling_batch()
    asked: list[int] = []

    def source(batch, seed):
        asked.append(seed)
        return batch.video * 0 + torch.tensor([seed, -seed]).view(-1, 1, 1, 1, 1)[: len(batch)]

    class Brightness(Reward):
        name = "brightness"

        def forward(self, generated, batch):
            reward = generated.mean(dim=(1, 2, 3, 4))
            return torch.where(reward == 5.0, float("nan"), reward)

    best = BestOf(source, Brightness(), 3)(batch.clips(slice(0, 2)), 1)
    assert asked == [3, 4, 5]
    assert best.mean(dim=(1, 2, 3, 4)).tolist() == [4.0, -3.0]
