"""One table row for each fault: the fault, how often, the outcome, and what was lost."""

from __future__ import annotations

import json
import platform
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass
class Line:
    """``lost`` names every difference from the undisturbed run; empty is what should be."""

    fault: str
    times: int = 0
    happened: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    note: str = ""

    def expect(self, holds: bool, otherwise: str) -> None:
        """Record ``otherwise`` as a loss unless ``holds``."""
        if not holds:
            self.lost.append(otherwise)

    def as_markdown(self, name: str) -> str:
        counts = {text: self.happened.count(text) for text in dict.fromkeys(self.happened)}
        what = "; ".join(f"{n} x {text}" if n > 1 else text for text, n in counts.items())
        what = f"{what}; {self.note}" if self.note else what
        lost = "; ".join(dict.fromkeys(self.lost))
        what = f"{what}; **lost**: {lost}" if lost else what
        return f"| {self.fault} | {self.times} | {what} | `{name}` |"

    def save(self, folder: Path, command: str, seconds: float) -> None:
        record = asdict(self) | {
            "command": command,
            "seconds": round(seconds),
            "date": time.strftime("%Y-%m-%d %H:%M"),
            "machine": f"{platform.machine()}, {platform.system()}",
        }
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "results.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
