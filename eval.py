"""Score a checkpoint with PisaBench: `python eval.py ckpt=runs/.../weights.safetensors`."""

from pathlib import Path

from pisa.launch import entry_point, evaluate_main

if __name__ == "__main__":
    entry_point(evaluate_main, Path(__file__).parent / "configs", "eval")
