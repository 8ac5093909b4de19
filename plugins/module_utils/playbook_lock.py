# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One recovery, or one drill, at a time: a lock that belongs to a running ansible-playbook and dies with it.

The lock is the kernel's own (flock), which depends on no clock, locale, user or namespace. But a task runs in a process
that ends with it, so a small process of its own keeps the file open until ansible-playbook ends, however that ends.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import IO

from .files import StoreError, explain
from .user import user_name

_KEEPER = """
import os, select, sys, time
lock, pid, watched = map(int, sys.argv[1:])
poll = select.poll()
if watched >= 0:
    poll.register(watched, select.POLLIN)
def runs():
    if watched >= 0:
        return not poll.poll(200)
    time.sleep(0.2)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
while os.fstat(lock).st_size and runs():
    pass
"""
"""Ends, and so unlocks, when the process ends, or when the file is emptied: that is how the lock is released."""

_SETTLE = 2.0
"""Seconds that a lock which names no holder may take to be free: its keeper is about to end, or another begins."""


class HeldError(StoreError):
    """Another ansible-playbook holds the lock."""


@dataclass(frozen=True)
class Holder:
    """A run of ansible-playbook.

    Attributes:
        pid: of its main process, in its own process namespace.
        process: tells this process from others of the same number, in other namespaces or later.
        host, user: their names.
    """

    pid: int
    process: str
    host: str
    user: str


def current_holder() -> Holder:
    """Return the ansible-playbook run that this process is a worker of, which is its parent."""
    pid = os.getppid()
    return Holder(pid, _process(pid), platform.node(), user_name())


def _process(pid: int) -> str:
    """Return namespace and start of a process; empty where there is no /proc, as on macOS, which has no namespaces."""
    with suppress(OSError):
        namespace = os.stat("/proc/self/ns/pid").st_ino
        return f"{namespace}:{Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[19]}"
    return ""


def lock_file(directory: Path, what: str) -> Path:
    """Return where the lock is."""
    return directory / f"{what}.lock"


def acquire(directory: Path, holder: Holder, what: str) -> None:
    """Take the lock for a holder. Again by the same holder is no conflict.

    Args:
        what: what there may be one of, such as ``recovery``: a part of the file's name.

    Raises:
        HeldError: another is running.
        StoreError: the lock cannot be taken.
    """
    path, deadline = lock_file(directory, what), time.monotonic() + _SETTLE
    with _open(path, what) as file:
        while not _try(file, path):
            held = _read(file)
            other = {name: held.get(name, "not known") for name in ("pid", "process", "host", "user", "since")}
            if _is_of(held, asdict(holder)):
                return
            if held or time.monotonic() >= deadline:
                raise HeldError(
                    f"Another {what} is running: ansible-playbook with process id {other['pid']} of {other['user']} on "
                    f"{other['host']}, since {other['since']} ({path}). Two simultaneous ones would destroy each "
                    "other's work. Nothing was done. Wait until that process has ended, then run this again."
                )
            time.sleep(0.05)
        since = datetime.now(timezone.utc).isoformat(timespec="seconds")
        file.seek(0)
        file.truncate()
        file.write(json.dumps({**asdict(holder), "since": since}))
        file.flush()
        _keep(file, holder.pid, path)


def is_held(directory: Path, holder: Holder, what: str) -> bool:
    """Return whether the lock is this holder's. Raises StoreError."""
    if not lock_file(directory, what).exists():
        return False
    with _open(lock_file(directory, what), what) as file:
        return _is_of(_read(file), asdict(holder))


def is_alive(path: Path, holder: Mapping[str, object]) -> bool:
    """Return whether the lock at `path` is this holder's and kept, so that its ansible-playbook still runs.

    Raises:
        StoreError: the file cannot be read.
    """
    if not path.exists():
        return False
    with _open(path, path.stem) as file:
        return _is_of(_read(file), holder) and not _try(file, path)


def release(directory: Path, holder: Holder, what: str) -> None:
    """Release the lock if it is the holder's. Raises StoreError."""
    path = lock_file(directory, what)
    if not path.exists():
        return
    with _open(path, what) as file:
        if _is_of(_read(file), asdict(holder)):
            # Not unlinked: another run may be waiting with this file open.
            file.truncate(0)


def _is_of(held: Mapping[str, object], holder: Mapping[str, object]) -> bool:
    # Values that went through a template may have become text.
    return all(str(held.get(name)) == str(value) for name, value in holder.items())


def _keep(file: IO[str], pid: int, path: Path) -> None:
    watched = -1
    try:
        with suppress(AttributeError):  # on macOS; the keeper asks now and then instead
            watched = os.pidfd_open(pid)
        fds = [file.fileno(), *([watched] if watched >= 0 else [])]
        subprocess.Popen(  # not waited for: its parent ends before it
            [sys.executable, "-I", "-S", "-c", _KEEPER, str(file.fileno()), str(pid), str(watched)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
            pass_fds=fds,
        )
    except OSError as error:
        raise StoreError(
            f"Cannot keep the lock {path} for process {pid}: {explain(error)}. Nothing was done."
        ) from error
    finally:
        if watched >= 0:
            os.close(watched)


def _try(file: IO[str], path: Path) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise StoreError(
            f"Cannot lock {path}: {explain(error)}. Choose a folder on a file system with locks. Nothing was done."
        ) from error
    return True


def _open(path: Path, what: str) -> IO[str]:
    try:
        return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600), "r+", encoding="utf-8")
    except OSError as error:
        hint, others = "Choose a folder that this user may write.", False
        with suppress(OSError):
            others = path.parent.stat().st_uid not in (os.geteuid(), 0)
        if isinstance(error, PermissionError) and (others or os.path.lexists(path)):
            hint = (
                f"It belongs to another user, whose {what} may be running: ask them before you choose another folder."
            )
        raise StoreError(f"Cannot lock {path}: {explain(error)}. {hint} Nothing was done.") from error


def _read(file: IO[str]) -> dict[str, object]:
    try:
        file.seek(0)
        held = json.loads(file.read())
    except ValueError:
        return {}
    return held if isinstance(held, dict) else {}
