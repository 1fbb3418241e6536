"""CPU seconds per frame of the Kubric backend: our settings against stock Kubric's, in one run.

    python benchmarks/kubric_speed.py [FRAMES] [REPETITIONS]

All render the same scenes at 256x256 with all five passes on one thread, alternating, and the CPU
time of the renderer process is counted, which other jobs on the machine change little. The time of
a 32-frame clip is extrapolated from the frames rendered, scene set-up included once.
"""

import sys
from dataclasses import replace
from pathlib import Path

import psutil

from pisa.simulation.fast import draw_moving_scene
from pisa.simulation.kubric.description import RenderSettings, describe
from pisa.simulation.kubric.hdris import choose_hdri, packaged_folder
from pisa.simulation.kubric.process import Renderer
from pisa.simulation.scene import Prior

PYTHON = Path(".venv-kubric/bin/python")
SETTINGS = {
    "ours (16 samples, fast denoiser, small HDRI map)": RenderSettings(),
    "stock (16 samples, denoiser)": RenderSettings(stock=True),
    "stock Kubric default (128 samples, denoiser)": RenderSettings(stock=True, samples=128),
}


def main() -> None:
    num_frames = int(sys.argv[1]) if len(sys.argv) > 1 else 4
    repetitions = int(sys.argv[2]) if len(sys.argv) > 2 else 2
    renderer = Renderer(PYTHON, 3600.0)
    renderer.start()
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in SETTINGS}
    for seed in range(repetitions):
        scene, motion = draw_moving_scene(Prior(), seed, "train", 256, num_frames, 16)
        hdri = choose_hdri(packaged_folder(PYTHON), scene.background, "train")
        first = replace(
            motion.poses,
            position_m=motion.poses.position_m[:1],
            quaternion=motion.poses.quaternion[:1],
        )
        for name, settings in SETTINGS.items():
            one, all_ = (
                _cpu_s(renderer, describe(scene, poses, 16, hdri, settings))
                for poses in (first, motion.poses)
            )
            spent[name].append((one, (all_ - one) / (num_frames - 1)))
            print(
                f"seed {seed}, {name}: {one:.2f} s one frame, {spent[name][-1][1]:.2f} s each more"
            )
    for name, pairs in spent.items():
        once, each = (sum(p[i] for p in pairs) / len(pairs) for i in (0, 1))
        print(f"{name}: {each:.2f} s/frame, {once + 31 * each:.0f} s per 32-frame clip")
    renderer.stop()


def _cpu_s(renderer: Renderer, description) -> float:
    process = psutil.Process(renderer.pid)
    before = process.cpu_times()
    renderer.render(description)
    after = process.cpu_times()
    return after.user + after.system - before.user - before.system


if __name__ == "__main__":
    main()
