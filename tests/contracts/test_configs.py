"""Every YAML composes, and every model, reward and prior instantiates at tiny size."""

import re
from pathlib import Path

import hydra
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from pisa.errors import PisaError
from pisa.launch import runs
from pisa.launch.compose import compose_eval, compose_simulate, compose_train
from pisa.simulation.ambiguous import AmbiguousPrior
from pisa.simulation.fast import FastSimulator
from pisa.simulation.kubric.simulator import KubricSimulator
from pisa.simulation.ood import OodPrior
from pisa.types import collate
from tests.launch.conftest import stage_folder
from tests.tasks.toy import falling_clip

CONFIGS = Path(__file__).parents[2] / "configs"
ANALYSES = ("drop_time", "forced_choice", "lift3d", "ood")  # experiments of eval.py


def names(group: str) -> list[str]:
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


def compose(*overrides: str, name: str = "train"):
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return hydra.compose(name, list(overrides))


@pytest.mark.parametrize("experiment", [n for n in names("experiment") if n not in ANALYSES])
def test_every_experiment_composes_and_names_its_stages(experiment):
    cfg = compose(f"experiment={experiment}", "run_dir=x")
    assert all(stage in cfg for stage in cfg.stages)
    assert cfg.name == experiment
    OmegaConf.to_container(cfg, resolve=True)


@pytest.mark.parametrize("experiment", [n for n in names("experiment") if n.startswith("psft")])
def test_every_psft_experiment_composes_at_paper_scale(experiment):
    cfg = compose(f"experiment={experiment}", "scale=paper", "run_dir=x")
    OmegaConf.to_container(cfg, resolve=True)
    assert (cfg.psft.batch_size, cfg.psft.max_steps, cfg.psft.task.lr) == (128, 5000, 1e-4)
    assert cfg.simulation.datasets.psft.num_clips == 5000 and cfg.model.denoiser is not None


@pytest.mark.parametrize("experiment", names("experiment"))
def test_every_experiment_opens_with_what_it_repeats(experiment):
    """House style, rule 17: table, command, hours, expected and measured number."""
    text = (CONFIGS / "experiment" / f"{experiment}.yaml").read_text().splitlines()
    opening = [line for line in text if line.startswith("# ")]
    keys = ("Table:", "Command:", "Hours:", "Expected:", "Measured:")
    found = [line.split()[1] for line in opening if line.split()[1] in keys]
    assert found == list(keys) and text[0] == "# @package _global_"
    assert f"experiment={experiment}" in "".join(opening)
    measured = " ".join(opening).partition("Measured:")[2]
    dated = re.search(r"\(20\d\d-\d\d-\d\d", measured)
    assert dated or "not measured" in measured or "see experiment=" in measured


@pytest.mark.parametrize("trainer", names("trainer"))
def test_every_trainer_composes_and_places_clips_itself(trainer):
    cfg = compose("experiment=psft", f"trainer={trainer}")
    assert cfg.trainer.use_distributed_sampler is False
    assert cfg.trainer.gradient_clip_val == 1.0


@pytest.mark.parametrize("entry", ["train", "eval", "simulate"])
def test_every_entry_point_composes(entry):
    assert compose(name=entry).data_dir == "data"


@pytest.mark.parametrize("source", names("source"))
def test_every_source_composes_and_names_its_row(source):
    cfg = compose(f"source={source}", "protocol=strict", name="eval")
    run = compose_eval(cfg)
    assert run.name == run.row == cfg.source.row and run.evaluation.protocol == "strict"
    assert run.folder.parent == Path("runs/eval") and callable(run.source.build())


@pytest.mark.parametrize("experiment", ANALYSES)
def test_every_analysis_composes_with_its_data_set(experiment):
    cfg = compose(f"experiment={experiment}", name="eval")
    assert cfg.source.data_set in cfg.simulation.datasets
    assert callable(compose_eval(cfg).source.build())


def test_data_sets_of_their_own_scenario_are_named_after_it():
    sets = compose_simulate(compose(name="simulate")).sets
    assert isinstance(sets.spec("ood").simulator.prior, OodPrior)
    train, test = sets.spec("ambiguous_train"), sets.spec("drop_time_test")
    assert isinstance(train.simulator.prior, AmbiguousPrior)
    assert train.simulator.num_frames == 16 and test.simulator.prior.num_slopes == 50
    changed = "simulation.datasets.ambiguous_train.prior.depth_m=[2,20]"
    wider = compose_simulate(compose(changed, name="simulate")).sets
    assert wider.folder_name("ambiguous_train") != sets.folder_name("ambiguous_train")
    assert wider.folder_name("psft") == sets.folder_name("psft")


def test_annotate_composes():
    assert compose(name="annotate").perception.tracker._target_.endswith("from_pretrained")


@pytest.mark.parametrize("prior", names("prior"))
def test_every_prior_instantiates(prior):
    cfg = compose(f"prior={prior}", name="simulate")
    assert instantiate(cfg.prior).num_dropping[0] >= 1


@pytest.mark.parametrize("reward", names("reward"))
def test_every_reward_composes_with_the_main_job(reward):
    cfg = compose("experiment=oro_flow", f"reward={reward}")
    assert "_target_" in cfg.oro.reward


@pytest.mark.parametrize("reward", names("reward"))
def test_every_reward_is_finite_one_number_per_clip_and_differentiable(reward):
    built = instantiate(compose("experiment=oro_flow", f"reward={reward}").oro.reward)
    clips = collate([falling_clip(i, frames=4, size=64) for i in range(2)])
    generated = torch.lerp(clips.video, clips.video[:, :, :1], 0.5).requires_grad_()
    value = built(generated, clips)
    assert value.shape == (2,) and value.isfinite().all()
    (gradient,) = torch.autograd.grad(value.sum(), generated)
    assert gradient.isfinite().all() and gradient.abs().max() > 0


@pytest.mark.parametrize("experiment", ["oro_flow", "oro_seg", "oro_depth", "oro_mix"])
def test_a_mix_is_weighted_from_the_command_line_of_any_experiment(experiment):
    mix = compose(f"experiment={experiment}", "reward=mix", "reward.weights={flow:2,seg:0.25}")
    reward = instantiate(mix.oro.reward)
    assert reward.weights == {"flow": 2.0, "seg": 0.25}
    assert reward.rewards["flow"].region == "moving"  # of the tiny scale
    other = compose(f"experiment={experiment}", "reward=mix", "reward.weights={flow:1,seg:0.25}")
    assert len({stage_folder(cfg, "oro") for cfg in (mix, other)}) == 2
    assert len({stage_folder(cfg, "psft") for cfg in (mix, other)}) == 1  # shared


@pytest.mark.parametrize(
    ("experiment", "lr", "teacher"),
    [
        ("oro_seg", 1e-6, "tracker: pisa.perception.sam2.SAM2Tracker"),
        ("oro_flow", 1e-5, "flow_estimator: pisa.perception.raft.RAFT"),
        ("oro_depth", 1e-6, "depth_estimator: pisa.perception.depth_anything.DepthAnything"),
    ],
)
def test_every_row_of_the_paper_has_its_rate_sampler_and_teacher(experiment, lr, teacher):
    """Section 4.3 and Appendix C."""
    cfg = compose(f"experiment={experiment}", "scale=paper", "run_dir=x")
    OmegaConf.to_container(cfg, resolve=True)
    task, role = cfg.oro.task, teacher.split(": ")
    assert (task.lr, task.num_steps, task.guidance) == (lr, 10, 4.0)
    assert task.gradient_window._target_.endswith("FullGradient") and not task.replay
    assert cfg.oro.batch_size == 2 and cfg.oro.reward.get("region", "all") == "all"
    assert cfg.oro.reward[role[0]]._target_.startswith(role[1])


def test_sam_2_sees_1024_px_for_masks_and_256_px_in_oro():
    cfg = compose("experiment=oro_seg", "scale=paper", "run_dir=x")
    assert cfg.perception.tracker.image_size == 1024 and cfg.oro.reward.tracker.image_size == 256
    assert compose(name="annotate").perception.tracker.image_size == 1024
    scored = compose_eval(compose("scale=paper", "evaluation.prompt=points", name="eval"))
    assert scored.tracker.settings["image_size"] == 1024
    assert scored.evaluation.prompt == "points"
    given = compose("experiment=oro_seg", "scale=paper", "perception.tracker.path=x", "run_dir=x")
    assert given.oro.reward.tracker.path == "x"


@pytest.mark.parametrize("loggers", [*names("logger"), "[csv,wandb]", "[]"])
def test_every_choice_of_loggers_composes(loggers):
    names = compose_train(compose("experiment=psft", f"logger={loggers}")).stages[0].loggers
    found = [part.name for part in names]
    assert found == [f"logger.{n}" for n in loggers.strip("[]").split(",") if n]


def test_a_run_may_have_no_callbacks():
    assert compose_train(compose("experiment=psft", "callbacks=[]")).stages[0].callbacks == ()


@pytest.mark.parametrize(
    ("reward", "teacher", "target"),
    [
        ("flow", "flow_estimator", "raft.RAFT"),
        ("depth", "depth_estimator", "depth_anything.DepthAnything"),
        ("segmentation", "tracker", "sam2.SAM2Tracker"),
    ],
)
def test_a_reward_takes_a_teacher_of_its_own(reward, teacher, target):
    """As docs/guide/train.md has it."""
    own = f"reward.{teacher}={{_target_: pisa.perception.{target}.from_pretrained}}"
    run = compose_train(compose("experiment=oro_flow", f"reward={reward}", own))
    assert target in str(run.stages[1].reward.settings[teacher]["_target_"])
    assert "embedded" in run.stages[1].tracker.settings["_target_"]


def test_new_weights_in_the_package_start_new_runs(monkeypatch):
    tiny, diffusers = (compose("experiment=psft", f"model={m}") for m in ("tiny", "ltx"))
    shipped = runs.shipped_weights()
    assert "tiny_base.safetensors" in shipped
    before = [stage_folder(cfg, "psft") for cfg in (tiny, diffusers)]
    monkeypatch.setattr(
        runs, "shipped_weights", lambda: shipped | {"tiny_base.safetensors": "other"}
    )
    after = [stage_folder(cfg, "psft") for cfg in (tiny, diffusers)]
    assert before[0] != after[0]
    assert before[1] == after[1]


def test_another_teacher_starts_new_runs_of_those_who_learn_from_it(monkeypatch):
    flow, seg = (compose(f"experiment={name}") for name in ("oro_flow", "oro_seg"))
    judged = compose("experiment=oro_seg", "perception.tracker.path=embedded_judge.safetensors")
    before = [stage_folder(cfg, "oro") for cfg in (flow, seg)]
    psft = {stage_folder(cfg, "psft") for cfg in (flow, seg, judged)}
    assert stage_folder(judged, "oro") == before[1]  # who scores changes no weights
    shipped = runs.shipped_weights()
    other = shipped | {"embedded_flow.safetensors": "other"}
    monkeypatch.setattr(runs, "shipped_weights", lambda: other)
    after = [stage_folder(cfg, "oro") for cfg in (flow, seg)]
    assert before[0] != after[0] and before[1] == after[1]
    assert psft == {stage_folder(flow, "psft")}


def test_the_paper_scale_states_the_length_and_intervals_of_both_stages():
    run = compose_train(compose("experiment=oro_flow", "scale=paper"))
    psft, oro = run.stages
    intervals = [
        (s.settings.max_steps, s.settings.batch_size, s.trainer.settings["val_check_interval"],
         next(c for c in s.callbacks if c.name == "callbacks.checkpoint").settings["every_n_steps"])
        for s in (psft, oro)
    ]  # fmt: skip
    assert intervals == [(5000, 128, 500, 500), (500, 2, 50, 25)]
    assert psft.task.settings["lr"] == 1e-4 and oro.task.settings["lr"] == 1e-5
    assert oro.settings.data["num_train_clips"] == oro.settings.max_steps * 2  # one pass
    assert (psft.settings.train, oro.settings.train) == ("psft", "oro")  # clips of their own


@pytest.mark.parametrize("name", ["train", "eval"])
def test_the_paper_scale_renders_with_kubric_and_says_so_where_it_is_absent(name, tmp_path):
    experiment = ["experiment=oro_flow"] if name == "train" else []
    absent = f"simulation.backend.python={tmp_path / 'bin' / 'python'}"
    cfg = compose(*experiment, "scale=paper", absent, f"data_dir={tmp_path}", name=name)
    sets = compose_train(cfg).stages[0].sets if name == "train" else compose_eval(cfg).sets
    simulator = sets.spec("sim_seen").simulator
    assert isinstance(simulator, KubricSimulator)
    assert (simulator.resolution, simulator.num_frames, simulator.fps_hz) == (256, 32, 16)
    for data_set in ("psft", "oro", "sim_seen", "sim_unseen"):
        with pytest.raises(PisaError, match=r"kubric-env.*pisa fetch psft.*simulation=fast"):
            sets.make(data_set)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    "overrides", [["scale=paper", "simulation=fast"], ["scale=paper", "debug=smoke"], []]
)
def test_the_fast_renderer_is_a_choice_at_paper_scale(overrides):
    sets = compose_train(compose("experiment=oro_flow", *overrides)).stages[0].sets
    assert isinstance(sets.spec("oro").simulator, FastSimulator)
    paper = compose("experiment=oro_flow", "scale=paper", "simulation=fast")
    both = compose_train(paper).stages[0].sets
    assert (both.spec("psft").num_clips, both.spec("oro").num_clips) == (5000, 1000)
