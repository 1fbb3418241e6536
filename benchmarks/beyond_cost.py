"""CPU seconds of scoring, and the share of the measures beyond position.

    python benchmarks/beyond_cost.py DATA_SET [CLIPS]

The true clips are tracked by the embedded tracker and scored under the protocol strict.
"""

import sys
import time
from pathlib import Path

import torch

from pisa.bench.score import Scorer
from pisa.data.clip_io import read_clip
from pisa.data.manifest import list_clips
from pisa.perception.embedded_segmentation import EmbeddedTracker
from pisa.types import collate


class Timed(Scorer):
    """Adds up the CPU time of the measures."""

    seconds = 0.0

    def _beyond(self, *arguments, **options):  # type: ignore[no-untyped-def]
        started = time.process_time()
        found = super()._beyond(*arguments, **options)
        self.seconds += time.process_time() - started
        return found


def main() -> None:
    torch.set_num_threads(1)
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 10
    clips = [read_clip(path) for path in list_clips(Path(sys.argv[1]))[:count]]
    scorer = Timed(EmbeddedTracker.from_pretrained(), "strict")
    batch = collate(clips[:1])
    scorer.score(batch, batch.video, model="truth", split="s")  # imports and caches
    scorer.seconds, started = 0.0, time.process_time()
    for clip in clips:
        batch = collate([clip])
        scorer.score(batch, batch.video, model="truth", split="s")
    whole = time.process_time() - started
    share = scorer.seconds / whole
    print(f"{len(clips)} clips: {1000 * whole / len(clips):.0f} ms a clip, ", end="")
    print(f"of which {1000 * scorer.seconds / len(clips):.0f} ms ({share:.0%}) beyond position")


if __name__ == "__main__":
    main()
