"""Every numeric setting with a wrong value is one sentence before any work, by composing alone."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from omegaconf.errors import InterpolationResolutionError

from pisa.errors import PisaError
from pisa.io.provenance import config_sha256
from pisa.launch.compose import compose_eval, declare_eval, declare_train, resolved
from pisa.launch.runs import WEIGHTS, denoiser_file
from pisa.ranges import Count, FractionInterval, Positive, described, problem
from tests.launch.conftest import compose, evaluate

Place = tuple[str | int, ...]
WRONG = (math.nan, "abc", [1, 2, 3], {"a": 1})
# Settings that may be 0; all other numbers are refused, and a new setting needs a range of its own.
MAY_BE_ZERO = {
    "seed", "first_seed", "num_workers", "weight_decay", "caption_dropout", "object_weight",
    "warmup_steps", "max_nonfinite", "blur_px", "cache_clips", "guidance", "psft_weight", "eta",
    "shown_clips", "shown_pairs", "truth_samples", "even_drops", "seeds",
    "num_pile", "drop_height_m", "camera_distance_m", "restitution", "friction", "decay",
    "rolling_friction",
    "min_slope", "reference_weight", "motion_weight", "gradient_clip_val", "log_every_n_steps",
    "num_sanity_val_steps", "worst", "num_clips",
}  # fmt: skip
MAY_BE_MINUS_ONE = {"num_sanity_val_steps"}  # Lightning: all batches
LISTS = {"trainer.devices"}  # of device numbers


def numbers(settings: Any, place: Place = ()) -> Iterator[Place]:
    """The places of all numbers in plain settings."""
    if isinstance(settings, Mapping):
        for key, value in settings.items():
            yield from numbers(value, (*place, key))
    elif isinstance(settings, list):
        for i, value in enumerate(settings):
            yield from numbers(value, (*place, i))
    elif isinstance(settings, int | float) and not isinstance(settings, bool):
        yield place


def changed(settings: Any, place: Place, value: Any) -> Any:
    result = copy.deepcopy(settings)
    inner = result
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return result


def refused(declare, settings: Any, place: Place, value: Any) -> bool:
    """Whether the value is a user's mistake, in one line; any other exception is a failure."""
    try:
        declare(changed(settings, place, value))
    except PisaError as error:
        assert "\n" not in str(error), error
        return True
    return False


def wrongly_accepted(declare, settings: Any) -> list[str]:
    """Settings and values that should have been refused."""
    found = []
    for place in numbers(settings):
        name = ".".join(map(str, place))
        last = next(str(key) for key in reversed(place) if isinstance(key, str))
        values = [v for v in WRONG if not (isinstance(v, list) and name in LISTS)]
        values += [] if last in MAY_BE_ZERO else [0]
        values += [] if last in MAY_BE_MINUS_ONE else [-1]
        found += [f"{name}={v}" for v in values if not refused(declare, settings, place, v)]
    return found


@pytest.mark.parametrize("experiment", ["psft", "oro_flow"])
def test_no_wrong_number_of_a_training_passes(experiment):
    settings = resolved(compose(f"experiment={experiment}", name="train"))
    assert len(list(numbers(settings))) > 100
    assert wrongly_accepted(declare_train, settings) == []


SOURCES = ("source=model", "source=videos", "source=mask_pairs")


@pytest.mark.parametrize("chosen", [*SOURCES, "experiment=drop_time", "experiment=lift3d"])
def test_no_wrong_number_of_an_evaluation_passes(chosen):
    settings = resolved(compose(chosen, "generation=tiny_64"))
    if chosen != "source=model":  # the rest is the same
        own = {"source": settings["source"]}
        assert len(list(numbers(own))) > 0
        assert wrongly_accepted(lambda part: declare_eval(settings | part), own) == []
        return
    unused = ("psft", "oro", "callbacks", "validate_every", "checkpoint_every", "trainer", "budget")
    settings = {key: value for key, value in settings.items() if key not in unused}
    assert len(list(numbers(settings))) > 100
    assert wrongly_accepted(declare_eval, settings) == []


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("evaluation.num_clips=-1", "evaluation.num_clips must be a whole number of at least 1"),
        ("evaluation.num_clips=0", "evaluation.num_clips must be a whole number of at least 1"),
        ("evaluation.num_clips=1.5", "evaluation.num_clips must be a whole number"),
        ("evaluation.splits=[]", "evaluation.splits must be a list"),
        ("seed=-1", "seed must be a whole number of at least 0"),
        ("name=", "name must be a text"),
        ("name=nan", "name must be a text"),
        ("source=videos source.references=truth", "source.references must be a list"),
        ("source=videos source.size=64", "source.size must be a list of 2 items"),
        ("source=videos source.fps_hz=0", "source.fps_hz must be a number above 0"),
        ("source=mask_pairs source.num_workers=-2", "source.num_workers must be a whole number"),
    ],
)
def test_a_wrong_setting_of_eval_is_named_with_its_range(override, message):
    with pytest.raises(PisaError) as raised:
        compose_eval(compose(*override.split()))
    assert str(raised.value).startswith(message)


def test_other_scores_are_not_replaced(tmp_path):
    options = (f"output_dir={tmp_path}", "source=mask_pairs")
    first = compose_eval(compose(*options))
    record = {"provenance": {"config_sha256": config_sha256(first.config)}}
    (tmp_path / "metrics.json").write_text(json.dumps(record))
    assert compose_eval(compose(*options, "allow_missing=true")).folder == tmp_path
    with pytest.raises(PisaError, match="scores of another evaluation; choose another output_dir"):
        compose_eval(compose(*options, "protocol=strict"))
    assert compose_eval(compose(*options, "protocol=strict", "overwrite=true")).folder == tmp_path


def test_every_evaluation_has_a_folder_of_its_own():
    official, strict = (compose_eval(compose(f"protocol={p}")) for p in ("official", "strict"))
    assert official.folder != strict.folder and official.folder.name.startswith("checkpoint-")
    assert compose_eval(compose()).folder == official.folder


def test_a_run_folder_names_its_weights(tmp_path):
    (tmp_path / WEIGHTS).touch()
    assert compose_eval(compose(f"ckpt={tmp_path}")).ckpt == tmp_path / WEIGHTS
    assert denoiser_file("some.ckpt") == Path("some.ckpt")


def test_scoring_is_not_repeated_by_every_process(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(PisaError, match="without torchrun"):
        evaluate(compose("source=videos", "source.path=x"))


def test_a_range_is_said_in_words():
    assert problem(-1, Count) == "must be a whole number of at least 1, not -1"
    assert problem(math.nan, Positive) == "must be a number above 0, not nan"
    assert problem("x", Count | None) == "must be a whole number of at least 1 or null, not 'x'"
    interval = "[low, high], each a number of at least 0 and at most 1"
    assert problem([0.9, 0.7], FractionInterval) == f"must be {interval}, not [0.9, 0.7]"
    assert problem([0.7, 0.9], FractionInterval) is None and problem(True, Count) is not None
    assert described(Count | list[Count]) == (
        "a whole number of at least 1 or a list of items, each a whole number of at least 1"
    )


def test_more_processes_than_validation_clips_are_refused() -> None:
    overrides = ("experiment=psft", "debug=smoke", "trainer.devices=40")
    with pytest.raises(PisaError, match=r"trainer\.devices=40 makes 40 processes, but 'sim_seen'"):
        declare_train(resolved(compose(*overrides, name="train")))


def test_more_training_clips_than_there_are_is_an_error():
    with pytest.raises(PisaError, match=r"num_train_clips=3000, but .* has 2000 clips"):
        declare_train(
            resolved(compose("experiment=psft", "+psft.data.num_train_clips=3000", name="train"))
        )


def test_a_changed_prior_leaves_the_test_sets_alone():
    def folders(*overrides: str) -> dict[str, str]:
        run = declare_train(resolved(compose("experiment=psft", *overrides, name="train")))
        sets = run.stages[0].sets
        return {name: sets.folder_name(name) for name in sets.names}

    before, after = folders(), folders("prior.restitution=[0.7,0.9]")
    assert {n for n in before if before[n] != after[n]} == {"psft", "oro", "drift"}
    other = folders("test_prior.restitution=[0.7,0.9]")
    assert before["sim_seen"] != other["sim_seen"] and before["psft"] == other["psft"]
    own = folders("+simulation.datasets.psft.prior.restitution=[0.7,0.9]")
    assert {n for n in before if before[n] != own[n]} == {"psft"}


def test_validation_is_counted_in_optimiser_steps():
    options = ("experiment=psft", "validate_every=7", "+trainer.accumulate_grad_batches=2")
    (stage,) = declare_train(resolved(compose(*options, name="train"))).stages
    assert stage.trainer.settings["val_check_interval"] == 14


@pytest.mark.parametrize(
    ("scale", "region", "rate"), [("tiny", "moving", 1e-4), ("paper", "all", 1e-5)]
)
def test_the_scale_chooses_among_values_in_a_yaml(scale, region, rate):
    cfg = compose("experiment=oro_flow", f"scale={scale}", name="train")
    assert (cfg.oro.reward.region, cfg.oro.task.lr) == (region, rate)


def test_a_scale_without_a_value_is_named():
    cfg = compose("experiment=oro_flow", name="train")
    cfg.scale = "lab"
    with pytest.raises(InterpolationResolutionError, match="no value for scale 'lab' among paper"):
        resolved(cfg)
