"""The gallery page: every clip with its pictures, the distributions, errors in one line."""

from pathlib import Path

import numpy as np
from PIL import Image

from pisa.__main__ import main
from pisa.data.clip_io import write_clip
from pisa.data.manifest import Manifest, write_manifest
from pisa.reports.gallery import all_in_one, paint_depth, paint_flow, paint_masks, stroboscopic
from pisa.simulation.fast import FastSimulator
from pisa.simulation.scene import Prior

PRIOR = Prior(num_dropping=(1, 1), num_pile=(0, 1), size_m=None, span_px=(9.0, 20.0))


def test_the_page_shows_every_clip_and_distribution(tmp_path: Path) -> None:
    simulator = FastSimulator(PRIOR, num_frames=3)
    for seed in range(2):
        clip, extra = simulator.make_clip(seed, "train", str(seed))
        write_clip(tmp_path / "clips" / str(seed), clip, extra=extra)
    write_manifest(tmp_path, Manifest(("0", "1")))
    main(["gallery", str(tmp_path), "--clips", "1"])
    page = (tmp_path / "gallery" / "index.html").read_text()
    assert "The first 1 are shown" in page and page.count("<svg") >= 6
    for kind in ("video", "masks", "depth", "flow", "strobe"):
        assert f"0-{kind}.webp" in page
        with Image.open(tmp_path / "gallery" / f"0-{kind}.webp") as picture:
            frames = {"flow": 2, "strobe": 1}.get(kind, 3)
            assert (picture.size, picture.n_frames) == ((64, 64), frames)


def test_a_folder_without_clips_is_one_line(tmp_path: Path, capsys) -> None:
    assert main(["gallery", str(tmp_path)]) == 2
    assert "holds no clips" in capsys.readouterr().err


def test_masks_have_their_own_colours_and_flow_its_direction() -> None:
    masks = np.zeros((2, 1, 4, 4), bool)
    masks[0, 0, 0], masks[1, 0, 1] = True, True
    painted = paint_masks(np.zeros((1, 4, 4, 3), np.uint8), masks)
    assert len(np.unique(painted.reshape(-1, 3), axis=0)) == 3
    flow = np.zeros((2, 1, 4, 4), np.float32)
    flow[0, 0, 0], flow[0, 0, 1] = 2.0, -2.0
    colours = paint_flow(flow)[0]
    assert (colours[0, 0] != colours[1, 0]).any() and not colours[2:].any()


def test_near_is_brighter_than_far_and_the_sky_black() -> None:
    depth = np.full((1, 2, 2), 1000.0)
    depth[0, 0] = (1.0, 4.0)
    grey = paint_depth(depth)[0].sum(-1)
    assert grey[0, 0] > grey[0, 1] > grey[1, 0] == grey[1, 1]


def test_all_in_one_keeps_what_rests_and_repeats_what_moves() -> None:
    frames = np.zeros((5, 8, 8, 3), np.uint8)
    masks = np.zeros((2, 5, 8, 8), bool)
    masks[0, :, 7] = True
    frames[:, 7] = 90
    for t in range(5):
        masks[1, t, t, 2], frames[t, t, 2] = True, 255
    picture = all_in_one(frames, masks)
    assert (picture[7] == 90).all()
    assert (picture[[0, 2, 4], 2] > 100).all() and not picture[[1, 3], 2].any()


def test_stroboscopic_shows_the_object_over_the_clean_background(moving_square):
    clip = moving_square(start_x=8, fall_px=6, num_frames=4)
    image = stroboscopic(clip["frames"], clip["mask"], every=3)
    assert image[clip["mask"][3]].tolist() == [[220, 40, 40]] * 36
    assert (image[8:12, 9:12] == 120).all()  # frame 1 is not shown: background behind it
    faint = image[2, 9]
    assert 120 < faint[0] < 220 and 40 < faint[1] < 120


def test_stroboscopic_where_the_object_never_moves(moving_square):
    clip = moving_square(start_x=8, fall_px=0)
    image = stroboscopic(clip["frames"], clip["mask"])
    np.testing.assert_array_equal(image, clip["frames"][0])
