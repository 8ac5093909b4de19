# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes and listeners, looked at in a child process while this one looks at files."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Optional

from . import listeners, processes
from .child import Child
from .findings import Scan
from .procfs import Proc

if TYPE_CHECKING:
    from .settings import Settings

LONGEST = 60.0
"""Seconds for the child."""


class Running:
    """Both scans, under way. Use it as a context: it leaves no child."""

    def __init__(self, work: Callable[[], dict[str, Scan]]) -> None:
        self._work = work
        self._late = time.monotonic() + LONGEST
        self._child: Optional[Child] = None
        with suppress(OSError):
            self._child = Child(work, LONGEST)

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._child is not None:
            self._child.stop()

    def finish(self) -> dict[str, Scan]:
        """The scans by name; what no child can give, this process looks for. To be called once.

        Where the child did not end, neither would this process: whoever has the memory of a process on a file system
        that never answers holds every reader of its command line.
        """
        told = None if self._child is None else self._child.result()
        if told is not None:
            return {name: Scan.of(scan) for name, scan in told.items()}
        if self._child is not None and time.monotonic() >= self._late:
            lost = f"The scan of {{}} did not end within {LONGEST:.0f} seconds: a process may hold whoever looks at it."
            return {name: Scan([], [lost.format(name)]) for name in ("processes", "listeners")}
        return self._work()


def start(settings: Settings, root: str = "/") -> Running:
    """Begins beside this process, which must have no other thread."""

    def work() -> dict[str, Scan]:
        proc = Proc(os.path.join(root, "proc"))
        return {
            "processes": guarded("processes", lambda: processes.scan(proc, settings.processes)),
            "listeners": guarded("listeners", lambda: listeners.scan(proc, settings.listeners)),
        }

    return Running(work)


def guarded(name: str, work: Callable[[], Scan]) -> Scan:
    """A scan; of one that fails, a blind spot: a fault in one scanner must not blind the others."""
    try:
        return work()
    except Exception as error:  # noqa: BLE001 - see above
        return Scan([], [f"The scanner of {name} failed, which is a fault of its own: {type(error).__name__}: {error}"])
