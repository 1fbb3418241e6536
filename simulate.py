"""Simulate data sets of falling objects; train.py and eval.py also do so when a set is missing.

  python simulate.py dataset=psft                    the training set, 64x64, on a CPU
  python simulate.py simulation=kubric dataset=psft num_clips=5000     the paper's, 256x256

The commonest settings:
  dataset=NAME             one data set; datasets=[psft,sim_seen] several; neither: all
  num_clips=N              another number than the data set's own
  simulation=fast|kubric   PyBullet's renderer (the default), or Kubric and Blender
  shard=I/N                this job's share of the clips, for several machines
  data_dir=data            sets go to DATA_DIR/NAME-DIGEST; the same command resumes there
"""

from omegaconf import DictConfig

from pisa.launch.entry import entry_point


def main(cfg: DictConfig) -> None:
    from pisa.launch.compose import compose_simulate  # slow to import
    from pisa.launch.simulate import simulate

    simulate(compose_simulate(cfg))


if __name__ == "__main__":
    entry_point(main, "simulate", __doc__)
