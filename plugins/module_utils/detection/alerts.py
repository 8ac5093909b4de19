# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The logs on the host: alerts.log, an event in JSON per line (jsonlines.org), and one line of text per run.

A log is only ever appended to and renamed, never cut or rewritten: whoever follows it by its inode misses no line.
The newest rotated file is ``alerts.log.1``.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Optional

from ..files import explain
from .errors import DetectionError
from .findings import Finding, found, one_line
from .memory import utc

SLACK = 1024 * 1024
"""Bytes that are looked at beyond what an interrupted run can have written: torn lines may lie between its events."""

_APPEND = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def append(path: str, events: Sequence[Mapping[str, Any]], max_bytes: int, keep: int) -> dict[str, Any]:
    """Puts events into the log, those that it does not hold already, and syncs it. Makes the log where there is none.

    Args:
        path: of the log. Its folder is made, mode 0700, in one that exists.
        events: as Memory.update gives them; one that an interrupted run has written already is left out.
        max_bytes: the log is rotated before it grows above this. One call's events stay together.
        keep: how many rotated files are kept.

    Returns what `tampered` needs to know in the next run.

    Raises DetectionError when the log cannot be written or the folder is not safe: give the same events again.
    """
    lines = {str(event["id"]): _line(event) for event in events}
    with _explained(path), _folder(path) as folder:
        name = os.path.basename(path)
        if lines:
            reach = sum(map(len, lines.values())) + SLACK
            for number in _logged(folder, name, lines.keys(), reach, keep):
                lines.pop(number, None)
        return _append(folder, path, b"".join(lines.values()), max_bytes, keep)


def note(path: str, line: str, now: float, max_bytes: int, keep: int) -> None:
    """Puts a line of text into a log, the time before it. Rotates, makes and raises as `append` does; syncs nothing."""
    text = f"{utc(now)} {one_line(line)}\n"
    with _explained(path), _folder(path) as folder:
        _append(folder, path, text.encode(), max_bytes, keep, sync=False)


def tampered(path: str, mark: Mapping[str, Any]) -> list[Finding]:
    """A finding when somebody has removed, replaced or cut the log since `append` gave this mark.

    A log that was renamed and is still beside it (alerts.log.1, alerts.log-20260101) was rotated, which is no finding.
    Raises DetectionError when the folder is there and cannot be looked at.
    """
    if mark.get("path") != path:
        return []
    size = _size_now(path, mark["inode"])
    if size is not None and size >= mark["size"]:
        return []
    what = "is gone" if size is None else f"was cut to {size}"
    summary = f"The alert log of the last run, {mark['size']} bytes, {what}. Events may be missing from it."
    evidence = {"inode": mark["inode"], "size": mark["size"], "size_now": size}
    return [found("log.tampered", path, summary, evidence, [path, str(mark["inode"]), str(mark["size"])])]


def _size_now(path: str, inode: int) -> Optional[int]:
    """The size of the file that was the log, which may have another name in the same folder; None without it."""
    folder, name = os.path.split(path)
    try:
        beside = [each for each in os.listdir(folder) if each.startswith(name)]
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DetectionError(f"Cannot look at {folder}: {explain(error)}.") from error
    for each in beside:
        with suppress(FileNotFoundError):
            info = os.lstat(os.path.join(folder, each))
            if info.st_ino == inode:
                return info.st_size
    return None


def _line(event: Mapping[str, Any]) -> bytes:
    # The id stands first, where `_logged` looks for it.
    ordered = {"id": event["id"], **event}
    return json.dumps(ordered, ensure_ascii=True, separators=(",", ":")).encode("ascii") + b"\n"


@contextmanager
def _explained(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DetectionError(
            f"Cannot write {path}: {explain(error)}. Nothing is lost: it is tried again in the next run. Make room, "
            "or make it writable."
        ) from error


@contextmanager
def _folder(path: str) -> Iterator[int]:
    """The log's folder, open, so that nobody can put another in its place. Raises OSError and DetectionError."""
    folder = os.path.dirname(path)
    with suppress(FileExistsError):
        os.mkdir(folder, 0o700)
        _sync(os.path.dirname(folder))
    handle = os.open(folder, _READ | os.O_DIRECTORY)
    try:
        info = os.fstat(handle)
        if info.st_uid != os.geteuid() or info.st_mode & 0o022:
            raise DetectionError(
                f"{folder} belongs to user id {info.st_uid} and has mode {stat.S_IMODE(info.st_mode):04o}: others "
                f"could replace what is logged. chown it to user id {os.geteuid()} and chmod it to 0700."
            )
        yield handle
    finally:
        os.close(handle)


def _append(folder: int, path: str, text: bytes, max_bytes: int, keep: int, *, sync: bool = True) -> dict[str, Any]:
    name = os.path.basename(path)
    handle = _open(folder, path)
    try:
        info = os.fstat(handle)
        if text and info.st_size and info.st_size + len(text) > max_bytes:
            _close_line(handle, info.st_size)
            os.fsync(handle)
            _rotate(folder, name, keep)
            os.close(handle)
            handle = -1
            handle = _open(folder, path)
        elif info.st_size:
            _close_line(handle, info.st_size)
        while text:
            text = text[os.write(handle, text) :]
        if sync:
            os.fsync(handle)
        info = os.fstat(handle)
        return {"path": path, "inode": info.st_ino, "size": info.st_size}
    finally:
        if handle != -1:
            os.close(handle)


def _open(folder: int, path: str) -> int:
    """The log, open to append; made where it is missing. Raises OSError and DetectionError."""
    name = os.path.basename(path)
    try:
        handle = os.open(name, _APPEND, dir_fd=folder)
    except FileNotFoundError:
        handle = os.open(name, _APPEND | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=folder)
        os.fsync(folder)
    info = os.fstat(handle)
    if not stat.S_ISREG(info.st_mode) or info.st_uid != os.geteuid():
        os.close(handle)
        raise DetectionError(f"{path} is not a file of this user. Find out who put it there, then move it away.")
    if info.st_mode & 0o022:
        os.fchmod(handle, 0o600)
    return handle


def _close_line(handle: int, size: int) -> None:
    """Ends the line that a killed run or a full disk has torn: what follows has a line of its own."""
    if os.pread(handle, 1, size - 1) != b"\n":
        os.write(handle, b"\n")


def _rotate(folder: int, name: str, keep: int) -> None:
    """Renames the log and those rotated before it. A rotation that was cut short has left a gap, which is filled."""
    numbers = range(1, keep + 1)
    gap = next((number for number in numbers if not _exists(folder, f"{name}.{number}")), keep)
    for number in range(gap, 0, -1):
        older = name if number == 1 else f"{name}.{number - 1}"
        os.rename(older, f"{name}.{number}", src_dir_fd=folder, dst_dir_fd=folder)
    os.fsync(folder)


def _exists(folder: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _sync(folder: str) -> None:
    handle = os.open(folder or ".", _READ | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _logged(folder: int, name: str, numbers: Iterable[str], reach: int, keep: int) -> set[str]:
    """Which of these ids stand in whole lines among the last `reach` bytes of the log and the files before it."""
    wanted = {b'{"id":"%s"' % number.encode(): number for number in numbers}
    logged: set[str] = set()
    for each in (name, *(f"{name}.{number}" for number in range(1, keep + 1))):
        data = _tail(folder, each, reach)
        reach -= len(data)
        for line in data.split(b"\n"):
            number = wanted.get(line[: line.find(b'"', 7) + 1])
            if number is not None and _is_whole(line):
                logged.add(number)
        if reach <= 0:
            break
    return logged


def _is_whole(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def _tail(folder: int, name: str, most: int) -> bytes:
    """The last bytes of a file; none of one that is not there or not regular. Raises OSError."""
    try:
        handle = os.open(name, _READ, dir_fd=folder)
    except FileNotFoundError:
        return b""
    try:
        info = os.fstat(handle)
        if not stat.S_ISREG(info.st_mode):
            return b""
        with os.fdopen(os.dup(handle), "rb") as file:
            file.seek(max(0, info.st_size - most))
            return file.read(most)
    finally:
        os.close(handle)
