# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host remembers from one run to the next, and the lock that keeps two from running at once."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..files import StoreError, explain, read_json, write_json

LOCK, STATE = "run.lock", "state.json"


class BusyError(StoreError):
    """Another run is under way."""


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


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keeps other runs of this host out while the block runs; ends with the process, however it ends.

    Raises:
        BusyError: another run is under way; says its process id.
        StoreError: the folder cannot be made or written.
    """
    path = directory / LOCK
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StoreError(
            f"Cannot write {path}: {explain(error)}. Give a state_directory that this user may write."
        ) from error
    with os.fdopen(handle, "r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = file.read(32).decode("ascii", "replace").strip() or "unknown"
            raise BusyError(
                f"Another snapshot run is under way, process id {pid} ({path}). Wait for it, or end it if it hangs: "
                "what it has begun is cleared up by the next run."
            ) from None
        # The number is for the reader alone: the kernel's lock counts.
        with suppress(OSError):
            file.truncate()
            file.write(b"%d\n" % os.getpid())
            file.flush()
        yield
