# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that are whole or not there: written beside their final name, synced, renamed; mode 0600."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Any, Union

if TYPE_CHECKING:
    from pathlib import Path

Name = Union[str, "os.PathLike[str]"]
"""A path. Of what a scan of a host needs nothing imports pathlib, which takes 3 ms of it."""

RESERVED = 64 * 1024
"""Bytes reserved for a file of keys; five shares encrypted to PGP keys of 4096 bits need a fifth of it."""

LONGEST_JSON = 64 * 1024 * 1024
"""Bytes of a JSON file that is read."""


class StoreError(Exception):
    """A file could not be written, read or locked; the message says which, why and what to do next."""


def explain(error: OSError) -> str:
    """The system's reason, in words."""
    return error.strerror or str(error)


@contextmanager
def new_file(dest: Name, *, sync: bool = True) -> Iterator[IO[bytes]]:
    """A file that takes the name `dest` when the block ends well, and vanishes when it does not.

    What a killed run left behind is removed by the next one for the same name. Without `sync` a power cut may take the
    file back to what it was, or to nothing.

    Raises:
        StoreError: the folder cannot be written, or the disk is full.
    """
    folder, name = os.path.split(os.fspath(dest))
    folder = folder or "."
    prefix, suffix = f".{name}.", ".partial"
    # Not tempfile, whose imports would be a tenth of a scan of a host.
    partial = os.path.join(folder, f"{prefix}{os.urandom(8).hex()}{suffix}")
    try:
        for left in os.listdir(folder):
            if left.startswith(prefix) and left.endswith(suffix):
                remove_unless_in_use(os.path.join(folder, left))
        handle = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(
            f"Cannot write in {folder}: {explain(error)}. Create the folder, or give one that this user may write."
        ) from error
    try:
        with os.fdopen(handle, "wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file
            file.flush()
            if sync:
                os.fsync(file.fileno())
            os.replace(partial, dest)
            if sync:
                sync_folder(folder)
    except OSError as error:
        if error.filename is not None and os.fspath(error.filename) not in (partial, os.fspath(dest)):
            raise
        raise StoreError(
            f"Cannot write {dest}: {explain(error)}. Nothing was left under this name, and a file that was there "
            "before is untouched. Make room or choose another folder, then run this again."
        ) from error
    finally:
        with suppress(FileNotFoundError):
            os.unlink(partial)


def remove_unless_in_use(left: Name) -> bool:
    """Removes a partial file whose writer is gone; whether it did."""
    with suppress(OSError), open(left, "rb", opener=_unwaiting) as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(left)
        return True
    return False


def _unwaiting(path: str, flags: int) -> int:
    """Opens neither what a link leads to nor a pipe that nobody writes into, should somebody have put one there."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def sync_folder(folder: Name) -> None:
    """Makes what was renamed or removed in a folder survive a power cut. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(dest: Name, value: Mapping[str, Any]) -> None:
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
        raise _used(dest)


def _used(dest: Path) -> StoreError:
    return StoreError(f"{dest} exists and is not overwritten: it may hold keys. Move it aside or name another file.")


@contextmanager
def reserved_json(dest: Path) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Takes room on disk before something is fetched that must not be lost, and gives the function that writes it.

    While the block runs, Ctrl-C and SIGTERM wait. A file that holds something already is never overwritten, and a file
    that another user may have put there is never used.

    Raises:
        StoreError: the file exists, or there is no room; nothing was fetched yet.
    """
    waiting = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    try:
        handle = _open_for_keys(dest)
    except OSError as error:
        raise StoreError(f"Cannot write {dest}: {explain(error)}. Choose a folder that this user may write.") from error
    with os.fdopen(handle, "r+b") as file:
        if file.read().strip():
            raise _used(dest)
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


def _open_for_keys(dest: Path) -> int:
    """Create the file, or open the one in which a killed run has only made room. Raises StoreError and OSError."""
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with suppress(FileExistsError):
        return os.open(dest, flags | os.O_CREAT | os.O_EXCL, 0o600)
    # In a folder that others may write, theirs would receive the keys: a file, or one that a link or a name leads to.
    refused = StoreError(
        f"Cannot write keys to {dest}: it exists, and is not a file that only this user can open. Nothing was changed. "
        "Check who has put it there, move it aside, and choose a folder that only this user may write."
    )
    try:
        handle = os.open(dest, flags)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EACCES, errno.ENXIO, errno.EISDIR):
            raise refused from error
        raise
    found = os.fstat(handle)
    ours = stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and found.st_nlink == 1
    if not ours or stat.S_IMODE(found.st_mode) & 0o077:
        os.close(handle)
        raise refused
    return handle


def read_regular(path: Name, longest: int) -> bytes:
    """A regular file's content, whole. Never waits, as a FIFO would make it. Raises OSError; `longest` is in bytes."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(0, "it is no regular file")
        data = b""
        while len(data) <= longest and (part := os.read(handle, longest + 1 - len(data))):
            data += part
    finally:
        os.close(handle)
    if len(data) > longest:
        raise OSError(0, f"it has more than {longest} bytes")
    return data


def read_json(path: Name, longest: int = LONGEST_JSON) -> dict[str, Any]:
    """The object in a file of at most `longest` bytes.

    Raises:
        FileNotFoundError: it is not there.
        StoreError: it cannot be read, or is no JSON object.
    """
    try:
        data = read_regular(path, longest)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StoreError(f"Cannot read {path}: {explain(error)}.") from error
    return parse_json(data, path)


def parse_json(data: bytes, where: Name) -> dict[str, Any]:
    """Return the object that these bytes are. Raises StoreError with `where` they are from."""
    try:
        value = json.loads(data.decode())
    except ValueError as error:
        raise damaged(where, str(error)) from error
    except RecursionError:
        raise damaged(where, "it is nested too deeply") from None
    if not isinstance(value, dict):
        raise damaged(where, "it holds no JSON object")
    return value


def damaged(where: Name, why: str) -> StoreError:
    """Return the error for content that is not what was written."""
    return StoreError(f"{where} is damaged: {why}. Move it aside if it is not needed.")
