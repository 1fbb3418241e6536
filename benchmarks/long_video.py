"""Peak memory of tracking a phone's clip in windows and as a whole, and whether the masks agree.

  python benchmarks/long_video.py FOLDER            # 1440 frames of 1920x1080 px, written once
  python benchmarks/long_video.py FOLDER --tracker embedded --whole 1440
  python benchmarks/long_video.py FOLDER --sam2-px 1024 --frames 24 --whole 24

Each case is a process of its own; its peak is that of the process (imports included). SAM 2 is the
package's real network, small and with random weights: what it keeps per frame depends on the sizes
of frames and memory, not on the weights. The whole clip is tracked for ``--whole`` frames only.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np
import torch

from pisa.annotate.tracking import WINDOW
from pisa.data.mask_files import resize_masks
from pisa.data.mask_video import MaskVideo, read_npz, write_npz
from pisa.launch.track import track_video, video_windows
from pisa.ops.video import from_frames
from pisa.perception.base import Tracker
from pisa.perception.embedded_segmentation import EmbeddedTracker
from pisa.perception.sam2 import SAM2Tracker
from pisa.perception.sam2_network import HieraSize, build_sam2

HEIGHT, WIDTH, FPS_HZ, SIDE = 1080, 1920, 120, 160
SMALL = HieraSize(16, 1, (1, 1, 2, 1), (3,), (4, 4, 4, 2), (4, 4))


def frames_of(count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """A square that falls in front of a gradient, and its mask."""
    background = np.linspace(40, 160, WIDTH, dtype=np.uint8)
    for t in range(count):
        top = round(20 + (HEIGHT - SIDE - 40) * (t / 1440) ** 2)
        mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
        mask[top : top + SIDE, 900 : 900 + SIDE] = True
        picture = np.broadcast_to(background[None, :, None], (HEIGHT, WIDTH, 3)).copy()
        picture[mask] = (220, 90, 40)
        yield picture, mask


def write_clip(folder: Path, count: int) -> Path:
    """``COUNT.mp4`` and ``first.npz``; kept for the next run."""
    path = folder / f"{count}.mp4"
    if path.is_file():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / "part.mp4"
    with av.open(str(part), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(FPS_HZ))
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.options = {"preset": "ultrafast", "threads": "1"}
        for t, (picture, mask) in enumerate(frames_of(count)):
            if t == 0:
                first = MaskVideo(mask[None, None], (0,), ("square",))
                write_npz(first, folder / "first.npz")
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    part.rename(path)
    return path


def make_tracker(name: str, sam2_px: int) -> Tracker:
    if name == "embedded":
        return EmbeddedTracker.from_pretrained()
    torch.manual_seed(0)
    network = build_sam2(SMALL, sam2_px)
    torch.nn.init.constant_(network.sam_mask_decoder.pred_obj_score_head.layers[-1].bias, 5.0)
    return SAM2Tracker(network)


def track_in_windows(video: Path, tracker: Tracker, size: tuple[int, int] | None) -> None:
    """Track the objects of a prompt through a video, and write their masks to a file."""
    track_video(video, video.with_suffix(".npz"), video.parent / "first.npz", tracker, size=size)


def track_whole(video: Path, tracker: Tracker, size: tuple[int, int] | None, count: int) -> str:
    """The first ``count`` frames at once. Returns the digest of their masks."""
    frames = np.concatenate(list(islice(video_windows(video, size), count // WINDOW)))
    masks = resize_masks(read_npz(video.parent / "first.npz").masks, *frames.shape[1:3])
    with torch.no_grad():
        logits = tracker.segment(from_frames(frames)[None], torch.from_numpy(masks))
    found = (logits[0, 0] > 0).numpy()
    digest = hashlib.sha256()
    for mask in found:
        digest.update(resize_masks(mask[None, None], HEIGHT, WIDTH).tobytes())
    return digest.hexdigest()


def digest_of(path: Path, count: int) -> str:
    """Digest of the first ``count`` masks in a file, read one by one."""
    digest = hashlib.sha256()
    with zipfile.ZipFile(path) as archive, archive.open("mask.npy") as member:
        np.lib.format.read_magic(member)
        np.lib.format.read_array_header_1_0(member)
        for _ in range(count):
            digest.update(member.read(HEIGHT * WIDTH))
    return digest.hexdigest()


def run_case(given: argparse.Namespace) -> None:
    """One case in this process; prints its numbers."""
    video = given.folder / f"{given.frames}.mp4"
    tracker = make_tracker(given.tracker, given.sam2_px)
    size = (64, 64) if given.tracker == "embedded" else None
    started = time.perf_counter()
    if given.case == "windows":
        track_in_windows(video, tracker, size)
        digest = ""
    else:
        digest = track_whole(video, tracker, size, given.whole)
    seconds = time.perf_counter() - started
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    digest = digest or digest_of(video.with_suffix(".npz"), given.whole)
    print(json.dumps({"peak_gb": peak_gb, "seconds": seconds, "digest": digest}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--frames", type=int, default=1440)
    parser.add_argument("--whole", type=int, default=48, help="frames of the case without windows")
    parser.add_argument("--sam2-px", type=int, default=128, help="side of SAM 2's input")
    parser.add_argument("--tracker", choices=["sam2", "embedded"], default="sam2")
    parser.add_argument("--case", choices=["windows", "whole"], help="one case, in this process")
    given = parser.parse_args()
    if given.case:
        run_case(given)
        return
    write_clip(given.folder, given.frames)
    found = {}
    for case in ("windows", "whole"):
        command = [sys.executable, __file__, *sys.argv[1:], "--case", case]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        found[case] = json.loads(output.splitlines()[-1])
        count = given.frames if case == "windows" else given.whole
        print(
            f"{given.tracker:8}  {case:7}  {count:5} frames  {found[case]['peak_gb']:.2f} GB  "
            f"{found[case]['seconds']:.0f} s"
        )
    same = found["windows"]["digest"] == found["whole"]["digest"]
    print(f"masks of the first {given.whole} frames: {'the same' if same else 'DIFFERENT'}")


if __name__ == "__main__":
    main()
