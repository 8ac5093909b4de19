# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Vault's Raft folder on a node: who the peers are, whether Vault has it open, keeping it aside, peers.json.

Layout (Vault's physical/raft): ``vault.db`` is a bbolt file, ``raft/`` holds the log and takes ``peers.json``. bbolt
holds an exclusive lock on a file that it has open.
"""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Optional, Union

from ..files import StoreError, explain, new_file
from .errors import QuorumError

DATABASE, PEERS = "vault.db", Path("raft", "peers.json")
ASIDE = "aside-"

_CONFIG_KEY = re.compile(b"latest_config")


def read_peers(database: Path) -> tuple[int, list[dict[str, Any]]]:
    """The Raft configuration that a node knew last, and its index; also of a node that runs.

    Vault keeps it under the key ``latest_config`` (physical/raft/fsm.go) as protobuf (physical/raft/types.proto:
    ConfigurationValue). A bbolt file holds a value right behind its key, and old ones in pages that are free by now:
    the one of the highest index counts. On a follower it can be a few entries behind: who has a vote may have changed.

    Returns:
        Index and peers: ``id``, ``address`` (host:port of the cluster port), ``non_voter``; 0 and none if nothing is
        there.

    Raises:
        StoreError: it cannot be read.
    """
    best: tuple[int, list[dict[str, Any]]] = (0, [])
    try:
        with database.open("rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                return best
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                for match in _CONFIG_KEY.finditer(content):
                    # 64 KiB are hundreds of peers.
                    found = _configuration(content[match.end() : match.end() + 65536])
                    if found is not None and found[0] > best[0]:
                        best = found
    except OSError as error:
        raise StoreError(f"Cannot read {database}: {explain(error)}. Check the path; root can read it.") from error
    return best


def _configuration(data: bytes) -> tuple[int, list[dict[str, Any]]] | None:
    """Index and servers at the start of `data`; None if there is no whole configuration."""
    index, peers, at = 0, [], 0
    try:
        while at < len(data):
            if data[at] == 0x08:  # field 1, the index
                index, at = _number(data, at + 1)
            elif data[at] == 0x12:  # field 2, a server
                length, at = _number(data, at + 1)
                peers.append(_server(_piece(data, at, length)))
                at += length
            else:  # the next key of the file
                break
    except (IndexError, ValueError):
        return None
    return (index, peers) if peers else None


def _server(data: bytes) -> dict[str, Any]:
    suffrage, texts, at = 0, {}, 0
    while at < len(data):
        field, at = data[at], at + 1
        number, at = _number(data, at)
        if field == 0x08:
            suffrage = number
        elif field in (0x12, 0x1A):
            texts[field], at = _piece(data, at, number).decode(), at + number
        else:
            raise ValueError(field)
    if not all(texts.get(field, "").isprintable() and texts.get(field) for field in (0x12, 0x1A)):
        raise ValueError(data)
    return {"id": texts[0x12], "address": texts[0x1A], "non_voter": suffrage != 0}


def _piece(data: bytes, at: int, length: int) -> bytes:
    if at + length > len(data):
        raise ValueError(length)
    return data[at : at + length]


def _number(data: bytes, at: int) -> tuple[int, int]:
    """A protobuf varint, and where the next thing begins."""
    value = shift = 0
    while True:
        byte = data[at]
        value, shift, at = value | (byte & 0x7F) << shift, shift + 7, at + 1
        if not byte & 0x80:
            return value, at


def is_in_use(database: Path) -> bool:
    """Whether a process, which is Vault, has the database open. Raises StoreError when that cannot be told."""
    try:
        with database.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    except OSError as error:
        raise StoreError(f"Cannot tell whether Vault has {database} open: {explain(error)}.") from error
    return False


def survey(path: Path) -> dict[str, Any]:
    """What Vault's data folder tells. Raises StoreError."""
    database = path / DATABASE
    if not database.is_file():
        return {"present": False, "in_use": False, "index": 0, "peers": [], "data_bytes": 0, "free_bytes": 0}
    index, peers = read_peers(database)
    return {
        "present": True,
        "in_use": is_in_use(database),
        "index": index,
        "peers": peers,
        "data_bytes": sum(file.stat().st_size for entry in _entries(path) for file in _files(entry)),
        "free_bytes": shutil.disk_usage(path).free,
    }


def _entries(path: Path) -> list[Path]:
    """What Vault has in its folder, less what was kept aside there and a mount point's own."""
    return sorted(entry for entry in path.iterdir() if not entry.name.startswith(ASIDE) and entry.name != "lost+found")


def _files(entry: Path) -> Iterator[Path]:
    for file in [entry, *entry.rglob("*")] if entry.is_dir() else [entry]:
        if file.is_file():
            yield file


def wait_released(
    path: Path,
    timeout: float,
    sleep: Callable[[float], None] = time.sleep,
    monotonic: Callable[[], float] = time.monotonic,
) -> None:
    """Waits until Vault has let go of its database. Raises QuorumError after `timeout` seconds."""
    deadline = monotonic() + timeout
    while is_in_use(path / DATABASE):
        if monotonic() >= deadline:
            raise QuorumError(
                f"Vault still has {path / DATABASE} open, {timeout:g} s after it was stopped. Nothing was touched "
                "there. Stop it, see that its process is gone, and run this again."
            )
        sleep(0.2)


def keep_aside(path: Path, stamp: str, move: bool, writes: bool = True) -> tuple[bool, Path]:
    """Copies, or moves, all that Vault has in `path` to ``aside-<stamp>`` in it: a move stays on one file system.

    A run that was killed is gone on with: a move moves what is left, a copy begins anew.

    Returns:
        Whether there was anything to do, and the folder.

    Raises:
        StoreError: it cannot be done; of a copy nothing is left.
    """
    aside, partial = path / f"{ASIDE}{stamp}", path / f"{ASIDE}{stamp}.partial"
    try:
        entries = [entry.name for entry in _entries(path)] if path.is_dir() else []
        if not entries or (aside.exists() and not move):
            return False, aside
        if writes and move:
            _move(path, aside.name, entries)
        elif writes:
            shutil.rmtree(partial, ignore_errors=True)
            with _opened(path) as here:
                _copy_into(here, entries, here, partial.name)
                os.sync()
                os.rename(partial.name, aside.name, src_dir_fd=here, dst_dir_fd=here)
    except OSError as error:
        if writes and not move:
            shutil.rmtree(partial, ignore_errors=True)
        raise StoreError(
            f"Cannot keep {path} aside in {aside}: {explain(error)}. Look at space, owner and mounts, run this again."
        ) from error
    return True, aside


# Root works in a folder of Vault's user, which may put a link in the place of each name at any moment. So every file is
# opened below the folder that is open already, links are not followed, and a file that exists is not written.


@contextmanager
def _opened(name: Union[str, Path], below: Optional[int] = None) -> Iterator[int]:
    """Open a folder; below another one not where a link leads. Raises OSError."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | (0 if below is None else os.O_NOFOLLOW)
    handle = os.open(name, flags, dir_fd=below)
    try:
        yield handle
    finally:
        os.close(handle)


def _move(path: Path, aside: str, entries: Sequence[str]) -> None:
    with _opened(path) as here:
        with suppress(FileExistsError):
            os.mkdir(aside, 0o700, dir_fd=here)
        with _opened(aside, here) as there:
            for name in entries:
                os.rename(name, _unused(there, name), src_dir_fd=here, dst_dir_fd=there)
            _like(os.fstat(here), there)


def _unused(folder: int, name: str) -> str:
    """This name, or with a number if an earlier run has moved one of the name there."""
    there = set(os.listdir(folder))
    names = [name, *(f"{name}.{number}" for number in range(1, 1000))]
    return next(one for one in names if one not in there)


def _copy_into(source: int, names: Sequence[str], parent: int, folder: str) -> None:
    """Create a folder with a copy of these entries of another one, and its owner and mode. Raises OSError."""
    os.mkdir(folder, 0o700, dir_fd=parent)
    with _opened(folder, parent) as dest:
        if os.fstat(dest).st_uid != os.geteuid():
            raise OSError(0, f"{folder} was replaced by another folder")
        for name in names:
            _copy(source, name, dest)
        # At the end: until then only root may write it.
        _like(os.fstat(source), dest)


def _copy(source: int, name: str, dest: int) -> None:
    mode = os.stat(name, dir_fd=source, follow_symlinks=False).st_mode
    if stat.S_ISLNK(mode):
        raise OSError(0, f"{name} is a link, which is not followed in a folder of another user")
    if stat.S_ISDIR(mode):
        with _opened(name, source) as below:
            _copy_into(below, os.listdir(below), dest, name)
    elif stat.S_ISREG(mode):
        handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=source)
        with os.fdopen(handle, "rb") as file:
            new = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=dest)
            with os.fdopen(new, "wb") as made:
                shutil.copyfileobj(file, made, 1024 * 1024)
                made.flush()
                status = os.fstat(file.fileno())
                _like(status, made.fileno())
                os.utime(made.fileno(), ns=(status.st_atime_ns, status.st_mtime_ns))


def _like(status: os.stat_result, handle: int) -> None:
    """Give an open file or folder this owner and these permissions. Raises OSError."""
    os.fchown(handle, status.st_uid, status.st_gid)
    os.fchmod(handle, stat.S_IMODE(status.st_mode) & 0o777)


def write_peers(path: Path, peers: Sequence[dict[str, Any]], writes: bool = True) -> tuple[bool, Path]:
    """Writes ``raft/peers.json``, owned as its folder is, which Vault reads once, at its next start.

    Returns:
        Whether it was another one before, and the file.

    Raises:
        QuorumError: Vault runs there, or has no data there.
        StoreError
    """
    file = path / PEERS
    content = (json.dumps(list(peers), indent=2, sort_keys=True) + "\n").encode()
    if not (path / DATABASE).is_file() or not file.parent.is_dir():
        raise QuorumError(f"There is no Raft data of Vault in {path}: this is no survivor. Check the path.")
    if writes and is_in_use(path / DATABASE):
        raise QuorumError(f"Vault runs on {path}: it would read {file.name} at some later start. Stop it first.")
    try:
        if file.exists() and file.read_bytes() == content:
            return False, file
        if writes:
            with new_file(file) as out:
                status = file.parent.stat()
                os.fchown(out.fileno(), status.st_uid, status.st_gid)
                out.write(content)
    except OSError as error:
        raise StoreError(f"Cannot write {file}: {explain(error)}.") from error
    return True, file
