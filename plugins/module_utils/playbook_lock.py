# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One recovery, or one drill, at a time: a lock that belongs to a running ansible-playbook and dies with it.

A module ends with its task, so it cannot hold the lock itself. It writes down whose lock it is: the ansible-playbook
process above it, told by its id and start time, as ids are used again.
"""

from __future__ import annotations

import fcntl
import getpass
import json
import os
import platform
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from .files import StoreError, explain


class HeldError(StoreError):
    """Another ansible-playbook holds the lock."""


@dataclass(frozen=True)
class Holder:
    """A process that may hold the lock."""

    pid: int
    started: str
    host: str
    user: str


def _process(pid: int) -> tuple[int, str, str] | None:
    """Parent, start time and command line of a process, None when it is gone. Raises StoreError."""
    try:
        answer = subprocess.run(  # /proc would do on Linux; controllers are Macs, too
            ["ps", "-o", "ppid=,lstart=,command=", "-p", str(pid)],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )
    except OSError as error:
        raise StoreError(
            f"Cannot run ps, which tells whose lock it is: {explain(error)}. Install it here (procps)."
        ) from error
    words = answer.stdout.strip().split(None, 6)
    if answer.returncode != 0 or len(words) < 7:
        return None
    return int(words[0]), " ".join(words[1:6]), words[6]


def current_holder() -> Holder:
    """The ansible-playbook run that this process is part of; this process's parent where there is none."""
    chosen, pid = os.getppid(), os.getppid()
    while pid > 1:
        process = _process(pid)
        if process is None:
            break
        if "ansible-playbook" in process[2]:
            chosen = pid
            break
        pid = process[0]
    process = _process(chosen)
    if process is None:
        raise StoreError("ps does not tell the start time of a process here: install procps, whose ps the lock needs.")
    return Holder(chosen, process[1], platform.node(), getpass.getuser())


def is_alive(holder: Holder) -> bool:
    """Whether the holder's process still runs; that of another host is taken to."""
    if holder.host != platform.node():
        return True
    process = _process(holder.pid)
    return process is not None and process[1] == holder.started


def lock_file(directory: Path, what: str) -> Path:
    """Where the lock is."""
    return directory / f"{what}.lock"


def acquire(directory: Path, holder: Holder, what: str) -> None:
    """Takes the lock for a holder, or takes it over from one that is gone. Again by the same holder is no conflict.

    Args:
        what: what there may be one of, such as ``recovery``: a part of the file's name.

    Raises:
        HeldError: another is running.
        StoreError: the lock cannot be written.
    """
    path = lock_file(directory, what)
    with _open(path) as file:
        other = _read(file)
        if other is not None and other != holder and is_alive(other):
            raise HeldError(
                f"Another {what} is running: ansible-playbook with process id {other.pid} of {other.user} on "
                f"{other.host}, since {other.started} ({path}). Two at once would destroy each other's work. Wait for "
                f"it; if that host is gone for good, remove {path}."
            )
        file.seek(0)
        file.truncate()
        file.write(json.dumps(asdict(holder)))
        file.flush()


def release(directory: Path, holder: Holder, what: str) -> None:
    """Gives the lock back if it is the holder's. Raises StoreError."""
    path = lock_file(directory, what)
    if not path.exists():
        return
    with _open(path) as file:
        if _read(file) == holder:
            # Not unlinked: somebody may be waiting with this file open.
            file.seek(0)
            file.truncate()


def _open(path: Path) -> IO[str]:
    try:
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+", encoding="utf-8")
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as error:
        raise StoreError(f"Cannot lock {path}: {explain(error)}. Choose a folder that this user may write.") from error
    return file


def _read(file: IO[str]) -> Holder | None:
    try:
        return Holder(**json.loads(file.read()))
    except (ValueError, TypeError):
        return None
