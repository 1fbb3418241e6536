"""The time that a training says at its start: of the stages that will run, on a CPU only."""

from pathlib import Path

from pisa.launch.compose import compose_train
from pisa.launch.estimate import estimate
from pisa.rewards.base import rewards_of
from tests.launch.conftest import compose

SMALL = ("psft.batch_size=2", "oro.batch_size=1", "evaluation.batch_size=2")


def line(data_dir: Path, *overrides: str) -> str | None:
    small = ("experiment=oro_flow", "debug=smoke", f"data_dir={data_dir}", f"output_dir={data_dir}")
    return estimate(compose_train(compose(*small, *overrides, name="train")))


def parts(text: str | None) -> dict[str, float]:
    assert text is not None
    head, _, rest = text.partition(" min in all: ")
    assert head.startswith("about ")
    return {name: float(value) for name, value in (part.split() for part in rest.split(", "))}


def test_every_part_of_the_run_is_counted_and_longer_training_takes_longer(tmp_path: Path):
    longer = ("psft.max_steps=4000", "simulation.datasets.psft.num_clips=5000")
    found = parts(line(tmp_path, *longer, *SMALL))
    assert list(found) == ["simulation", "psft", "oro", "scores"]
    assert found["psft"] > found["oro"] + 1 and found["simulation"] > 1  # oro: two steps


def test_a_stage_whose_weights_are_given_is_not_counted(tmp_path: Path):
    given = ("psft.checkpoint=weights.safetensors", "oro.max_steps=9", "evaluate=false", *SMALL)
    assert list(parts(line(tmp_path, *given))) == ["simulation", "oro"]


def test_the_rewards_of_a_whole_group_are_measured(tmp_path: Path, monkeypatch):
    """A group was counted as one clip: rejection sampling took four times the time announced."""
    rewarded: list[int] = []

    def recorded(reward, generated, batch):
        rewarded.append(len(batch))
        return rewards_of(reward, generated, batch)

    monkeypatch.setattr("pisa.launch.estimate.rewards_of", recorded)
    alone = ("psft.checkpoint=weights.safetensors", "evaluate=false", "oro.max_steps=9")
    line(tmp_path, "experiment=rejection", *alone, "oro.batch_size=2", "oro.task.group_size=3")
    assert set(rewarded) == {6}


def test_on_a_gpu_and_for_a_few_steps_nothing_is_measured(tmp_path: Path):
    assert line(tmp_path, "trainer.accelerator=gpu") is None
    assert line(tmp_path, "psft.max_steps=8", "oro.max_steps=8") is None
