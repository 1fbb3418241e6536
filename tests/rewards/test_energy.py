"""The energy score is best where samples are distributed as the truth."""

import pytest
import torch

from pisa.rewards.energy import EnergyReward, energy_scores
from pisa.types import collate
from tests.rewards.test_newton import RedTracker, clip, falling


def best_spread(half_spread_counts: bool) -> tuple[float, float]:
    """Mean and spread of Gaussian samples that descend on the score of truths from N(2, 1)."""
    generator = torch.Generator().manual_seed(0)
    mean, log_spread = torch.zeros((), requires_grad=True), torch.full((), -1.0).requires_grad_()
    optimizer = torch.optim.Adam([mean, log_spread], lr=0.03)
    for _ in range(300):
        drawn = torch.randn(2, 128, generator=generator)
        samples, truths = mean + log_spread.exp() * drawn[0], 2.0 + drawn[1]
        way, true_way = (torch.stack([v, torch.zeros(128)], 1)[:, None] for v in (samples, truths))
        same = torch.ones(128, 128) > 0 if half_spread_counts else torch.eye(128) > 0
        score = energy_scores(way, true_way, torch.ones(128, 1) > 0, same).mean()
        optimizer.zero_grad()
        score.backward()
        optimizer.step()
    return mean.item(), log_spread.exp().item()


def test_samples_take_the_mean_and_the_spread_of_the_truth():
    mean, spread = best_spread(True)
    assert mean == pytest.approx(2.0, abs=0.15)
    assert spread == pytest.approx(1.0, abs=0.15)


def test_a_distance_from_one_truth_each_makes_samples_collapse():
    assert best_spread(False)[1] < 0.3


def test_scores_by_hand_with_a_hidden_truth_and_two_distributions():
    way = torch.tensor([[[0.0, 0.0], [0.0, 0.0]], [[3.0, 4.0], [3.0, 4.0]], [[9.0, 0.0]] * 2])
    true_way = torch.zeros(3, 2, 2)
    true_way[2, 1] = 100.0  # not seen there
    seen = torch.tensor([[True, True], [True, True], [True, False]])
    same = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1]]) > 0
    scores = energy_scores(way, true_way, seen, same)
    torch.testing.assert_close(scores, torch.tensor([0.0 - 2.5, 5.0 - 2.5, 9.0]))


def test_clips_of_one_first_frame_are_one_distribution():
    late = [2.0] * 4 + falling()[:-4]
    truth = collate([clip(falling()), clip(falling())])
    shown = collate([clip(falling()), clip(late)])
    reward = EnergyReward(RedTracker())
    spread_out = reward(shown.video, truth)
    alone = reward(shown.video[1:], truth.clips(slice(1, None)))
    assert spread_out[0] > -1.0  # right, and rewarded for not being all there is
    assert alone[0] < spread_out[1] < 0
