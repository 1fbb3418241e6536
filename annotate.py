"""Own real clips, cut, cropped, pointed and tracked in a page: `python annotate.py path=DIR`."""

from pathlib import Path

from pisa.launch import annotate_main, entry_point

if __name__ == "__main__":
    entry_point(annotate_main, Path(__file__).parent / "configs", "annotate")
