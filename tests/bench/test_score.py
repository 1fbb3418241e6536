"""Scores of generated clips: truth is perfect, the frozen clip isn't, seeds belong to clips."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from pisa.bench.score import (
    METRICS,
    ModelSource,
    evaluate_model,
    frozen_video,
    score_videos,
    summarise,
    true_video,
)
from tests.tasks.toy import BrightTracker, falling_batch, toy_model

TRACKER = BrightTracker()


def test_truth_scores_perfectly_and_frozen_does_not():
    batch = falling_batch(2)
    truth = score_videos(true_video(batch, 0), batch, TRACKER)
    frozen = score_videos(frozen_video(batch, 0), batch, TRACKER)
    assert [set(row) for row in truth] == [set(METRICS)] * 2
    for good, bad in zip(truth, frozen, strict=True):
        assert good["iou"] == 1 and good["l2"] == 0 and good["chamfer"] == 0
        assert bad["iou"] < 0.6 and bad["l2"] > 0.05 and bad["chamfer"] > 0.05


def test_time_error_is_nan_without_a_height():
    batch = falling_batch(2)
    heights = torch.tensor([0.5, math.nan])
    rows = score_videos(batch.video, replace(batch, drop_height_m=heights), TRACKER)
    assert [math.isnan(row["time_error"]) for row in rows] == [False, True]


def test_only_the_dropping_object_is_tracked():
    batch = falling_batch(1)
    masks = torch.cat([torch.ones_like(batch.masks), batch.masks], dim=1)
    prompts = []

    class Spy(BrightTracker):
        def segment(self, video, first_masks, tracked=slice(None)):
            prompts.append(first_masks[:, tracked])
            return super().segment(video, first_masks, tracked)

    score_videos(batch.video, replace(batch, masks=masks), Spy())
    assert torch.equal(prompts[0], batch.first_masks)


def test_a_clip_is_the_same_in_any_batch_and_differs_between_seeds():
    source = ModelSource(toy_model(), num_steps=3, guidance=2.0)
    pair, single = falling_batch(2), falling_batch(1, start=1)
    torch.testing.assert_close(source(pair, 0)[1:], source(single, 0))
    assert not torch.allclose(source(single, 0), source(single, 1))
    assert not source(single, 0).requires_grad


def test_model_source_composes_the_caption():
    model, seen = toy_model(), []
    encode = model.encode_captions
    model.encode_captions = lambda captions: seen.append(list(captions)) or encode(captions)
    batch = falling_batch(2)
    ModelSource(model, 1, 1.0, caption_suffix=" aesthetic score: 6.5.")(batch, 0)
    ModelSource(model, 1, 1.0, caption="drop")(batch, 0)
    assert seen == [["a red square falls aesthetic score: 6.5."] * 2, ["drop"] * 2]


def test_evaluate_model_yields_rows_videos_and_masks():
    batches = [falling_batch(2), falling_batch(1, start=2)]
    results = list(
        evaluate_model(true_video, batches, TRACKER, model="truth", split="sim_seen", seed=3)
    )
    assert [r.row["clip"] for r in results] == ["clip_0", "clip_1", "clip_2"]
    assert list(results[0].row) == ["model", "split", "clip", "seed", *METRICS, "num_objects"]
    assert results[0].row["model"] == "truth" and results[0].row["seed"] == 3
    assert results[0].video.dtype == torch.uint8 and results[0].video.shape == (3, 6, 16, 16)
    assert torch.equal(results[2].mask, batches[1].masks[0, -1])


def test_summarise_counts_what_it_averages():
    rows = [{"l2": 1.0}, {"l2": math.nan}, {"l2": 2.0}]
    assert summarise(rows, "l2") == (1.5, 2)
    mean, count = summarise(rows, "iou")
    assert math.isnan(mean) and count == 0
