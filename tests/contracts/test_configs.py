"""Every YAML composes, and every model, reward and prior instantiates at tiny size."""

from pathlib import Path

import hydra
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from pisa.launch.datasets import DataSets
from pisa.simulation.ambiguous import AmbiguousPrior
from pisa.simulation.ood import OodPrior

CONFIGS = Path(__file__).parents[2] / "configs"
ANALYSES = ("drop_time", "lift3d", "ood")  # experiments of eval.py


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
    clips = cfg.psft.get("data", {}).get("num_train_clips") or 5000
    assert cfg.simulation.datasets.psft.num_clips >= clips
    assert (cfg.model.denoiser is None) == (experiment == "psft_random_init")


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
    assert cfg.name == cfg.source.row and cfg.evaluation.protocol == "strict"
    assert callable(instantiate(cfg.source))


@pytest.mark.parametrize("experiment", ANALYSES)
def test_every_analysis_composes_with_its_data_set(experiment):
    cfg = compose(f"experiment={experiment}", name="eval")
    assert cfg.source.data_set in cfg.simulation.datasets
    assert callable(instantiate(cfg.source))
    OmegaConf.to_container(cfg, resolve=True)


def test_data_sets_of_their_own_scenario_are_named_after_it():
    sets = DataSets(compose(name="simulate"))
    assert isinstance(sets.spec("ood").simulator.prior, OodPrior)
    train, test = sets.spec("ambiguous_train"), sets.spec("drop_time_test")
    assert isinstance(train.simulator.prior, AmbiguousPrior)
    assert train.simulator.num_frames == 16 and test.simulator.prior.num_slopes == 50
    wider = DataSets(
        compose("simulation.datasets.ambiguous_train.prior.depth_m=[2,20]", name="simulate")
    )
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
    cfg = compose("experiment=oro_flow", f"reward@oro.reward={reward}")
    assert "_target_" in cfg.oro.reward


@pytest.mark.parametrize("logger", names("logger"))
def test_every_logger_composes(logger):
    assert compose("experiment=psft", f"logger={logger}").logger
