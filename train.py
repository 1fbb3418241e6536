"""Train a video model to drop things: `python train.py experiment=oro_flow`."""

from pathlib import Path

from pisa.launch import entry_point, train_main

if __name__ == "__main__":
    entry_point(train_main, Path(__file__).parent / "configs", "train")
