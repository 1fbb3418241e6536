"""Train a video model until things fall: PSFT, then ORO, then a PisaBench report.

  python train.py experiment=oro_flow             the demo: about 14 minutes on two CPU cores
  torchrun --nproc-per-node=2 train.py experiment=psft scale=paper            on two large GPUs

The commonest settings:
  experiment=NAME        psft, oro_flow, oro_seg, oro_depth, ... (listed below)
  scale=tiny|paper       a small model on a CPU (the default), or Open-Sora v1.2 on GPUs
  seed=0                 another seed is another run
  psft.max_steps=600     optimiser steps of stage 1; oro.max_steps those of stage 2
  output_dir=runs        results go to OUTPUT_DIR/NAME-DIGEST; the same command resumes there
"""

from omegaconf import DictConfig

from pisa.launch.entry import entry_point


def main(cfg: DictConfig) -> None:
    from pisa.launch.compose import compose_train  # slow to import
    from pisa.launch.estimate import announce
    from pisa.launch.train import train

    run = compose_train(cfg)
    announce(run)
    train(run)


if __name__ == "__main__":
    entry_point(main, "train", __doc__)
