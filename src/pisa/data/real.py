"""The 361 real clips of PisaBench, in the layout of the release (paper section 3)."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from pisa.data.loaders import ClipDataset, eval_loader
from pisa.data.manifest import is_complete, list_clips
from pisa.data.released import fetch_clips
from pisa.errors import PisaError
from pisa.ranges import Count, FrameCount, PixelSize, Positive, WholeNumber
from pisa.types import Clip


def require_real_clips(folder: Path, revision: str | None = None) -> Path:
    """The folder itself, with the released clips in it: fetched from the hub where it has none.

    Raises ``PisaError``: what to fetch and where to put it, or that no clip has masks yet.
    """
    if not is_complete(folder):
        fetch_clips("real", folder, revision)
    masks = (clip / name for clip in list_clips(folder) for name in ("mask.npz", "mask.npy"))
    if not any(path.is_file() for path in masks):
        raise PisaError(
            f"{folder}: its clips have points and no masks; make them with: "
            f"python annotate.py path={folder}"
        )
    return folder


class RealDataModule(LightningDataModule):
    """One test loader over ``root/name``, one clip per batch (clips differ in length).

    Frames are rescaled to ``size`` (height, width) as the release does, and resampled from 120 to
    ``fps_hz`` frames per second by the release's alignment (frame ``floor(i * 120 / fps_hz)``);
    None keeps 120. At most ``num_frames`` frames are kept; a shorter clip stays shorter. The
    release has points, not masks: ``annotate.py`` turns the one into the other. Clips that are
    absent are fetched from the Hugging Face hub, at ``revision`` (a commit; None: the newest).
    """

    splits = ("real",)

    def __init__(
        self,
        root: Path | str,
        name: str = "real",
        num_frames: FrameCount | None = None,
        fps_hz: Positive | None = 16.0,
        size: PixelSize | None = None,
        num_workers: WholeNumber = 0,
        cache: bool = False,
        num_eval_clips: Count | None = None,
        revision: str | None = None,
    ) -> None:
        super().__init__()
        self.folder = Path(root) / name
        self.num_frames, self.fps_hz = num_frames, fps_hz
        self.size = None if size is None else (size[0], size[1])
        self.num_workers, self.cache = num_workers, cache
        self.num_eval_clips = num_eval_clips
        self.revision = revision
        self.test_set: ClipDataset | None = None

    def prepare_data(self) -> None:
        require_real_clips(self.folder, self.revision)

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

    @property
    def test_sets(self) -> list[ClipDataset]:
        return [] if self.test_set is None else [self.test_set]

    def val_dataloader(self) -> list[DataLoader[Clip]]:
        assert self.test_set is not None, "call setup first"
        return [eval_loader(self.test_set, 1, self.num_workers, self.trainer)]

    def test_dataloader(self) -> list[DataLoader[Clip]]:
        return self.val_dataloader()
