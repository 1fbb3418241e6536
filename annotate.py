"""Turn your own recordings into benchmark clips: cut, crop and track them in a local page.

  python annotate.py path=DIR                        opens the page for the recordings in DIR
  python annotate.py path=DIR perception=embedded    with the small tracker, without downloads

The commonest settings:
  path=DIR                  recordings; or clips that have points and lack masks
  perception=pretrained     SAM 2.1 (the default), or embedded
  port=8120                 of the page, on 127.0.0.1; 0: a free one
  show=true                 open the page in a browser
  clip_size=512             longest side of a clip's frames in pixels; null: the crop's own
"""

from omegaconf import DictConfig

from pisa.launch.entry import entry_point


def main(cfg: DictConfig) -> None:
    from pisa.launch.annotate import annotate
    from pisa.launch.compose import compose_annotate  # slow to import

    annotate(compose_annotate(cfg))


if __name__ == "__main__":
    entry_point(main, "annotate", __doc__)
