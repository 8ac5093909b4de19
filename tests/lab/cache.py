# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The folder outside the checkout that keeps what is slow to make, and who may work in it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .processes import LabError


def cache_folder() -> Path:
    """Return the folder, which exists. Raises LabError when it cannot be made or written."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "custodes-lab"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        cause = "" if os.access(folder, os.W_OK | os.X_OK) else "this account cannot write in it"
    except OSError as error:
        cause = error.strerror or str(error)
    if cause:
        raise LabError(
            f"Cannot use the cache folder {folder}: {cause}. Set XDG_CACHE_HOME to a folder that you can write."
        )
    return folder


@contextmanager
def locked(name: str, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Keep other processes out that lock the same name. `waiting` is called when another one has the lock."""
    with (cache_folder() / f"{name}.lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting is not None:
                waiting()
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
