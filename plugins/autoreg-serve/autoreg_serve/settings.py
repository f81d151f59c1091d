"""What the command was given."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """The options of ``autoreg serve``."""

    model: str
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    max_body: int = 10_000_000
    max_rows: int = 100_000
    max_waiting: int = 256
    timeout: float = 30.0
    access_log: bool = False
    plugins: tuple[str, ...] = ()

    @property
    def max_held(self) -> int:
        """Bytes of all bodies that one process holds at a time."""
        return max(64_000_000, 4 * self.max_body)
