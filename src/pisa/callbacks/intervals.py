"""When a callback that acts in validation is due."""

from __future__ import annotations


class StepInterval:
    """Due when a multiple of ``every_n_steps`` has passed since the last time (None: always)."""

    def __init__(self, every_n_steps: int | None) -> None:
        if every_n_steps is not None and every_n_steps < 1:
            raise ValueError(f"every_n_steps must be at least 1, got {every_n_steps}")
        self.every_n_steps = every_n_steps
        self.last_step: int | None = None

    def due(self, step: int) -> bool:
        """Whether to act at optimiser step ``step``; remembers it if so."""
        if self.every_n_steps is not None and self.last_step is not None:
            n = self.every_n_steps
            if step // n == self.last_step // n:
                return False
        self.last_step = step
        return True
