# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that are whole or not there: written beside their final name, synced, renamed; mode 0600."""

from __future__ import annotations

import fcntl
import json
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

RESERVED = 64 * 1024
"""Bytes reserved for a file of keys; five shares encrypted to PGP keys of 4096 bits need a fifth of it."""


class StoreError(Exception):
    """A file could not be written, read or locked; the message says which, why and what to do next."""


def explain(error: OSError) -> str:
    """The system's reason, in words."""
    return error.strerror or str(error)


@contextmanager
def new_file(dest: Path, *, sync: bool = True) -> Iterator[IO[bytes]]:
    """A file that takes the name `dest` when the block ends well, and vanishes when it does not.

    What a killed run left behind is removed by the next one for the same name. Without `sync` a power cut may take the
    file back to what it was, or to nothing.

    Raises:
        StoreError: the folder cannot be written, or the disk is full.
    """
    prefix, suffix = f".{dest.name}.", ".partial"
    # Not tempfile, whose imports would be a tenth of a scan of a host.
    partial = dest.with_name(f"{prefix}{os.urandom(8).hex()}{suffix}")
    try:
        for name in os.listdir(dest.parent):
            if name.startswith(prefix) and name.endswith(suffix):
                remove_unless_in_use(dest.with_name(name))
        handle = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(
            f"Cannot write in {dest.parent}: {explain(error)}. Create the folder, or give one that this user may write."
        ) from error
    try:
        with os.fdopen(handle, "wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file
            file.flush()
            if sync:
                os.fsync(file.fileno())
            partial.replace(dest)
            if sync:
                sync_folder(dest.parent)
    except OSError as error:
        if error.filename is not None and Path(error.filename) not in (partial, dest):
            raise
        raise StoreError(
            f"Cannot write {dest}: {explain(error)}. Nothing was left under this name, and a file that was there "
            "before is untouched. Make room or choose another folder, then run this again."
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def remove_unless_in_use(left: Path) -> bool:
    """Removes a partial file whose writer is gone; whether it did."""
    with suppress(OSError), open(left, "rb", opener=_unwaiting) as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        left.unlink()
        return True
    return False


def _unwaiting(path: str, flags: int) -> int:
    """Opens neither what a link leads to nor a pipe that nobody writes into, should somebody have put one there."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def sync_folder(folder: Path) -> None:
    """Makes what was renamed or removed in a folder survive a power cut. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(dest: Path, value: Mapping[str, Any]) -> None:
    """Replaces `dest` by this object. Raises StoreError."""
    with new_file(dest) as file:
        file.write((json.dumps(value, indent=2, sort_keys=True) + "\n").encode())


def check_unused(dest: Path) -> None:
    """Raises StoreError when a file holds something already, or cannot be read."""
    try:
        used = dest.exists() and dest.read_bytes().strip()
    except OSError as error:
        raise StoreError(f"Cannot write {dest}: {explain(error)}. Choose a folder that this user may write.") from error
    if used:
        raise StoreError(f"{dest} exists and is not overwritten: it may hold keys. Move it aside or name another file.")


@contextmanager
def reserved_json(dest: Path) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Takes room on disk before something is fetched that must not be lost, and gives the function that writes it.

    While the block runs, Ctrl-C and SIGTERM wait. A file that holds something already is never overwritten.

    Raises:
        StoreError: the file exists, or there is no room; nothing was fetched yet.
    """
    waiting = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    try:
        handle = os.open(dest, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StoreError(f"Cannot write {dest}: {explain(error)}. Choose a folder that this user may write.") from error
    with os.fdopen(handle, "r+b") as file:
        check_unused(dest)
        try:
            os.fchmod(file.fileno(), 0o600)
            file.seek(0)
            file.write(b" " * RESERVED)
            file.flush()
            os.fsync(file.fileno())
        except OSError as error:
            dest.unlink(missing_ok=True)
            raise StoreError(
                f"No room for {dest}: {explain(error)}. Nothing was changed yet; make room first."
            ) from error

        def write(value: Mapping[str, Any]) -> None:
            file.seek(0)
            file.write((json.dumps(value, indent=2, sort_keys=True) + "\n").encode())
            file.truncate()
            file.flush()
            os.fsync(file.fileno())

        signal.pthread_sigmask(signal.SIG_BLOCK, waiting)
        try:
            yield write
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, waiting)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file.

    Raises:
        FileNotFoundError: it is not there.
        StoreError: it cannot be read, or is no JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StoreError(f"Cannot read {path}: {explain(error)}.") from error
    except ValueError as error:
        raise StoreError(f"{path} is damaged: {error}. Move it aside if it is not needed.") from error
    if not isinstance(value, dict):
        raise StoreError(f"{path} is damaged: it holds no JSON object. Move it aside if it is not needed.")
    return value
