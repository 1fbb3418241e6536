"""Simulate data sets: `python simulate.py datasets=[psft,sim_seen]`."""

from pathlib import Path

from pisa.launch import entry_point, simulate_main

if __name__ == "__main__":
    entry_point(simulate_main, Path(__file__).parent / "configs", "simulate")
