# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host remembers from one run to the next."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..files import StoreError, read_json, write_json

STATE = "state.json"


@dataclass
class State:
    """Of the runs so far.

    Attributes:
        last_success: when one last succeeded, seconds since 1970.
        last_run: when one last ended, seconds since 1970.
        runs_since_read_back: successful ones since every copy was last read back in full.
        last_good: manifest of the last snapshot that was neither flagged nor lost.
        last_snapshot: manifest of the last one that arrived whole.
    """

    last_success: float | None = None
    last_run: float | None = None
    runs_since_read_back: int = 0
    last_good: dict[str, Any] | None = None
    last_snapshot: dict[str, Any] | None = None

    def read_back_is_due(self, every: int) -> bool:
        """Whether this run is one of those that read all of every copy; with 0 none is."""
        return every > 0 and self.runs_since_read_back + 1 >= every


def load(directory: Path) -> State:
    """What was remembered; nothing at the first run. Raises StoreError where it is damaged."""
    path = directory / STATE
    try:
        return State(**read_json(path))
    except FileNotFoundError:
        return State()
    except TypeError as error:
        raise StoreError(f"{path} is damaged: {error}.") from error


def save(directory: Path, state: State) -> None:
    """Remembers it. Raises StoreError."""
    write_json(directory / STATE, asdict(state))
