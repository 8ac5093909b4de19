# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lock that keeps two runs of the same kind from going on at once on a host."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from .files import Name, StoreError, explain

LOCK = "run.lock"


class BusyError(StoreError):
    """Another run is under way."""


@contextmanager
def locked(directory: Name, who: str) -> Iterator[None]:
    """Keeps other runs of this host out while the block runs; ends with the process, however it ends.

    Args:
        directory: where the runs of this kind keep their state; made when it is missing.
        who: what runs, for the message, such as "snapshot run".

    Raises:
        BusyError: another run is under way; says its process id.
        StoreError: the folder cannot be made or written.
    """
    path = os.path.join(directory, LOCK)
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StoreError(
            f"Cannot write {path}: {explain(error)}. Give a state_directory that this user may write."
        ) from error
    with os.fdopen(handle, "r+b", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = file.read(32).decode("ascii", "replace").strip() or "unknown"
            raise BusyError(
                f"Another {who} is under way, process id {pid} ({path}). Wait for it, or end it if it hangs: "
                "what it has begun is cleared up by the next run."
            ) from None
        # The number is for the reader alone: the kernel's lock counts.
        with suppress(OSError):
            file.truncate()
            # Unbuffered: what a full disk does not take would be written once more, and raise, at the end.
            file.write(b"%d\n" % os.getpid())
        yield
