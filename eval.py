"""Score a checkpoint, a folder of videos or mask pairs with PisaBench: metrics.json, report.html.

  python eval.py ckpt=runs/psft-XXXXXXXX/weights.safetensors          a model that was trained here
  python eval.py source=videos source.path=DIR benchmark=sim_seen     videos of any other model

The commonest settings:
  ckpt=FILE                 weights to score; without it, the base model
  source=NAME               model (the default), videos, mask_pairs, ... (listed below)
  benchmark=NAME|DIR        sim_seen, sim_unseen, real, or a folder of your own clips
  protocol=official         official, paper or strict
  output_dir=DIR            where results go; default: runs/eval/NAME-DIGEST
"""

from omegaconf import DictConfig

from pisa.launch.entry import entry_point


def main(cfg: DictConfig) -> None:
    from pisa.launch.compose import compose_eval  # slow to import
    from pisa.launch.evaluate import evaluate

    evaluate(compose_eval(cfg))


if __name__ == "__main__":
    entry_point(main, "eval", __doc__)
