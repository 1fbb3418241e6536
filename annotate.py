"""Make masks of real clips from points: `python annotate.py path=DIR`."""

from pathlib import Path

from pisa.launch import annotate_main, entry_point

if __name__ == "__main__":
    entry_point(annotate_main, Path(__file__).parent / "configs", "annotate")
