"""The 361 real clips of PisaBench, in the layout of the release (paper section 3)."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from pisa.data.dataset import ClipDataset
from pisa.data.loaders import eval_loader
from pisa.data.manifest import is_complete
from pisa.types import Clip, PisaError

SOURCE = "PisaBench's real.zip of the paper's release (github.com/vision-x-nyu/pisa-experiments)"


def require_real_clips(folder: Path) -> Path:
    """The folder itself if it holds clips; else a ``PisaError`` that says what to fetch."""
    if not is_complete(folder):
        raise PisaError(
            f"{folder}: holds no real clips; fetch {SOURCE}, 361 clips, unpack it so that "
            f"{folder / '0000' / 'clip_info.json'} exists, then make the masks with: "
            f"python annotate.py path={folder}"
        )
    return folder


class RealDataModule(LightningDataModule):
    """One test loader over ``root/name``, one clip per batch (clips differ in length).

    Frames are rescaled to ``size`` (height, width) as the release does, and resampled from 120 to
    ``fps_hz`` frames per second by the release's alignment (frame ``floor(i * 120 / fps_hz)``);
    None keeps 120. At most ``num_frames`` frames are kept; a shorter clip stays shorter. The
    release has points, not masks: ``annotate.py`` turns the one into the other.
    """

    splits = ("real",)

    def __init__(
        self,
        root: Path | str,
        name: str = "real",
        num_frames: int | None = None,
        fps_hz: float | None = 16.0,
        size: tuple[int, int] | None = None,
        num_workers: int = 0,
        cache: bool = False,
        num_eval_clips: int | None = None,
    ) -> None:
        super().__init__()
        self.folder = Path(root) / name
        self.num_frames, self.fps_hz = num_frames, fps_hz
        self.size = None if size is None else (size[0], size[1])
        self.num_workers, self.cache = num_workers, cache
        self.num_eval_clips = num_eval_clips
        self.test_set: ClipDataset | None = None

    def prepare_data(self) -> None:
        require_real_clips(self.folder)

    def setup(self, stage: str | None = None) -> None:
        self.test_set = self.test_set or ClipDataset(
            self.folder,
            num_frames=self.num_frames,
            fps_hz=self.fps_hz,
            size=self.size,
            cache=self.cache,
            num_clips=self.num_eval_clips,
            allow_short=True,
        )

    def val_dataloader(self) -> list[DataLoader[Clip]]:
        assert self.test_set is not None, "call setup first"
        return [eval_loader(self.test_set, 1, self.num_workers, self.trainer)]

    def test_dataloader(self) -> list[DataLoader[Clip]]:
        return self.val_dataloader()
