# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands in files and folders of a host, in a form that two runs can be compared by.

Read without trust: whatever stands there can be put there by somebody hostile, and can change while it is looked at.
Nothing is opened that is no regular file, nothing is read without a bound, and no network file system is touched,
because a dead server would hold the scan for ever.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, NamedTuple, Optional, TypeVar

from .findings import one_line

HASHED = 4 * 2**20
"""Bytes of a file that are hashed; of a longer one its size counts as well."""
MOST_HASHED = 256 * 2**20
"""Bytes that are hashed in one run: a user can have thousands of links to one big file. As much again for root's."""
MOST_ENTRIES = 20_000
"""Entries of one folder that are looked at."""
MOST_LISTED = 100_000
"""Entries of all folders in one run, ten times as many where the folder is root's; the last one is finished."""
ROOT = 0
MOST_LINKS = 40
"""Symbolic links on the way to one file, as in Linux (path_resolution(7))."""

_CHUNK = 128 * 2**10
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFLNK: "link",
    stat.S_IFDIR: "folder",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESRCH)
"""What says that there is nothing to read at a path, for whoever asks."""

_NETWORK = frozenset(("9p", "afs", "autofs", "beegfs", "ceph", "cifs", "coda", "glusterfs", "gpfs", "lustre", "ncpfs"))
_NETWORK |= {"nfs", "nfs4", "orangefs", "smb3", "smbfs"}
"""File systems whose server may be dead; those of FUSE (fuse, fuse.sshfs …) count as well: a user may be the server."""

Result = TypeVar("Result")


class Item(NamedTuple):
    """One thing that is there.

    Attributes:
        rule: the rule that its appearance, change or deletion falls under, a key of RULES.
        kind: file, link, folder, fifo, socket, device or account.
        sha256: of the content, of a link's that of the file it leads to; "" where none is read.
        uid, gid, mode: of a link those of what it leads to, where its content is read; mode is the twelve bits.
        note: a link's target as it is written, or the size of what is too long to be hashed whole.
    """

    rule: str
    kind: str
    sha256: str
    uid: int
    gid: int
    mode: int
    note: str = ""


class Inventory(NamedTuple):
    """What a scan has seen.

    Attributes:
        items: by path, or by path and name where one file holds several ("/etc/passwd:toor").
        blind: a sentence for each place where it could not look.
        unseen: paths at and below which nothing is known; what was there in the baseline is not gone.
    """

    items: dict[str, Item]
    blind: list[str]
    unseen: set[str]

    def add_blind(self, path: str, sentence: str) -> None:
        """Notes that nothing is known of a path, and once why."""
        self.unseen.add(path)
        sentence = one_line(sentence)
        if sentence not in self.blind:
            self.blind.append(sentence)

    def is_unseen(self, path: str) -> bool:
        """Whether the path is at or below a place where the scan could not look."""
        while path and self.unseen:
            if path in self.unseen:
                return True
            path = path.rpartition("/")[0]
        return "/" in self.unseen


def empty() -> Inventory:
    """An inventory to be filled."""
    return Inventory({}, [], set())


def merge(*parts: Inventory) -> Inventory:
    """All of them in one; of a path that is in several, the first has its say."""
    whole = empty()
    for part in parts:
        for path, item in part.items.items():
            whole.items.setdefault(path, item)
        whole.blind.extend(sentence for sentence in part.blind if sentence not in whole.blind)
        whole.unseen.update(part.unseen)
    return whole


class _SkippedError(OSError):
    """A path lies where this scan is told not to look, or on a network file system (`place`, `kind`)."""

    def __init__(self, place: str, kind: str) -> None:
        super().__init__(f"{place} is not looked into")
        self.place, self.kind = place, kind


class _TooMuchError(OSError):
    """A bound of the whole run is reached; `sentence` says which."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


class Reader:
    """Looks at the files of one host, for one run: what it has resolved or computed, it keeps.

    Args:
        root: the folder that is taken for "/"; links are resolved within it.
        skip: folders that are left out on purpose, which makes no blind spot.
    """

    def __init__(self, root: str = "/", skip: Sequence[str] = ()) -> None:
        self.root = root.rstrip("/")
        self._closed = {**_network_mounts(self.root), **dict.fromkeys((path.rstrip("/") for path in skip), "")}
        self._targets: dict[str, str] = {}
        self._real: dict[str, str] = {}
        # Apart, so that no user can keep this from looking at what is root's.
        self._budgets = {True: MOST_HASHED, False: MOST_HASHED}
        self._listed = 0
        self._results: dict[Callable[[Reader], Any], Any] = {}

    def once(self, work: Callable[[Reader], Result]) -> Result:
        """What the function gives for this reader, computed at the first call alone."""
        if work not in self._results:
            self._results[work] = work(self)
        result: Result = self._results[work]
        return result

    def real(self, path: str) -> str:
        """The path without any symbolic link in it. Raises OSError, ELOOP for too many links."""
        found = self._real.get(path)
        if found is None:
            found = self._real[path] = self._resolve(path)
        return found

    def _resolve(self, path: str) -> str:
        done, links = "", 0
        waiting = path.split("/")
        waiting.reverse()
        while waiting:
            name = waiting.pop()
            if name in ("", "."):
                continue
            if name == "..":
                done = done.rpartition("/")[0]
                continue
            here = f"{done}/{name}"
            target = self._targets.get(here)
            if target is None:
                target = self._target(here)
            if not target:
                done = here
                continue
            links += 1
            if links > MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            if target.startswith("/"):
                done = ""
            waiting.extend(reversed(target.split("/")))
        return done or "/"

    def _target(self, path: str) -> str:
        """Where a link leads, "" for what is no link."""
        kind = self._closed.get(path)
        if kind is not None:
            raise _SkippedError(path, kind)
        try:
            target = os.readlink(self.root + path)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            target = ""
        self._targets[path] = target
        return target

    def file(self, into: Inventory, path: str, rule: str, *, follow: bool = True) -> None:
        """Adds what is at a path, if there is something.

        Args:
            follow: also reads the file that a link leads to.
        """
        folder, slash, name = path.rpartition("/")
        try:
            path = f"{self.real(folder).rstrip('/')}{slash}{name}"
            into.items[path] = self._item(path, rule, follow=follow)
        except OSError as error:
            self.failed(into, path, error)

    def entry(self, into: Inventory, path: str, entry: os.DirEntry[str], rule: str, *, follow: bool = True) -> None:
        """Adds one of the `entries` of a folder, whose real path and the entry's name make `path`."""
        try:
            if entry.is_file(follow_symlinks=False) and path not in self._closed:
                into.items[path] = self._file(path, rule)
            else:
                into.items[path] = self._item(path, rule, follow=follow)
        except OSError as error:
            self.failed(into, path, error)

    def folder(self, into: Inventory, path: str, rule: str, wanted: Callable[[str], bool] = bool) -> None:
        """Adds a folder and what is in it, but not what is in folders within it.

        Args:
            wanted: says of a name whether it counts.
        """
        place, entries = self.entries(into, path)
        if place:
            self.file(into, place, rule)
        for entry in entries:
            if wanted(entry.name) and not entry.is_dir(follow_symlinks=False):
                self.entry(into, f"{place}/{entry.name}", entry, rule)

    def entries(
        self, into: Inventory, path: str, visited: Optional[set[str]] = None
    ) -> tuple[str, list[os.DirEntry[str]]]:
        """The real path of a folder, "" if there is none, and its entries in no order, MOST_ENTRIES at most.

        Args:
            visited: real paths of folders that count as not there; this one is added.
        """
        try:
            place = self.real(path)
            if visited is not None:
                if place in visited:
                    return "", []
                visited.add(place)
            with os.scandir(self.root + place) as listing:
                if self._listed > MOST_LISTED and (
                    os.stat(self.root + place).st_uid != ROOT or self._listed > 10 * MOST_LISTED
                ):
                    raise _TooMuchError(f"There are more than {MOST_LISTED} entries; the rest was not looked at.")
                entries = list(islice(listing, MOST_ENTRIES + 1))
                self._listed += len(entries)
        except OSError as error:
            self.failed(into, path, error)
            return "", []
        if len(entries) > MOST_ENTRIES:
            into.add_blind(place, f"{place} holds more than {MOST_ENTRIES} entries; the rest was not looked at.")
        return place, entries[:MOST_ENTRIES]

    def content(self, path: str, limit: int = HASHED) -> bytes:
        """The beginning of a regular file, at most `limit` bytes, through links. Raises OSError."""
        full = self.root + self.real(path)
        # To open a device can do something: only what is a file is opened.
        if not stat.S_ISREG(os.lstat(full).st_mode):
            raise OSError(errno.ENOENT, "is no regular file", path)
        handle = os.open(full, _FLAGS)
        try:
            parts: list[bytes] = []
            while limit > 0 and (part := os.read(handle, min(_CHUNK, limit))):
                parts.append(part)
                limit -= len(part)
            return b"".join(parts)
        finally:
            os.close(handle)

    def text(self, into: Inventory, path: str, limit: int = HASHED) -> str:
        """The beginning of a file's text, "" if there is none or it cannot be read."""
        try:
            return os.fsdecode(self.content(path, limit))
        except OSError as error:
            self.failed(into, path, error)
            return ""

    def failed(self, into: Inventory, path: str, error: OSError) -> None:
        """Notes what was in the way, unless it is that nothing is there."""
        if isinstance(error, _SkippedError):
            if error.kind:
                sentence = f"{error.place} was not looked into: it is a network or FUSE file system ({error.kind})."
                into.add_blind(error.place, sentence)
            into.unseen.update((error.place, path))
        elif isinstance(error, _TooMuchError):
            into.add_blind(path, error.sentence)
        elif error.errno not in _ABSENT:
            into.add_blind(path, f"{path} cannot be read: {error.strerror or error}.")

    def _item(self, path: str, rule: str, *, follow: bool, asked: Optional[int] = None) -> Item:
        """What is at a path that is real but for its last name. Raises OSError."""
        kind_of_mount = self._closed.get(path)
        if kind_of_mount is not None:
            raise _SkippedError(path, kind_of_mount)
        full = self.root + path
        status = os.lstat(full)
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "device")
        if kind == "file":
            return self._file(path, rule, asked)
        if kind == "link":
            return self._link(path, rule, status, follow=follow)
        return _plain(rule, kind, status)

    def _link(self, path: str, rule: str, status: os.stat_result, *, follow: bool) -> Item:
        target = os.readlink(self.root + path)
        if follow:
            try:
                # Whoever made the link, not whose the file is, has asked for what is read.
                return self._item(self.real(path), rule, follow=False, asked=status.st_uid)._replace(
                    kind="link", note=target
                )
            except OSError as error:
                if error.errno not in _ABSENT:
                    raise
        return _plain(rule, "link", status)._replace(note=target)

    def _file(self, path: str, rule: str, asked: Optional[int] = None) -> Item:
        handle = os.open(self.root + path, _FLAGS)
        try:
            status = os.fstat(handle)
            # Another thing can have taken the name since it was looked at.
            if not stat.S_ISREG(status.st_mode):
                return _plain(rule, _KINDS.get(stat.S_IFMT(status.st_mode), "device"), status)
            of_root = (status.st_uid if asked is None else asked) == ROOT
            digest, length = _digest(handle, status.st_size, min(HASHED, self._budgets[of_root]))
        finally:
            os.close(handle)
        self._budgets[of_root] -= length
        if self._budgets[of_root] <= 0:
            raise _TooMuchError(f"There are more than {MOST_HASHED} bytes to hash; the rest was not looked at.")
        note = f"{status.st_size} bytes, the first {HASHED} hashed" if length == HASHED < status.st_size else ""
        return Item(rule, "file", digest, status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode), note)


def _digest(handle: int, size: int, limit: int) -> tuple[str, int]:
    """SHA-256 of what can be read, and of how many bytes."""
    data = os.read(handle, min(size + 1, _CHUNK, limit))
    digest, length = hashlib.sha256(data), len(data)
    # One byte more than its size was asked for: a first read of exactly that size has met the end.
    if length != size:
        while data and (data := os.read(handle, min(_CHUNK, limit - length))):
            digest.update(data)
            length += len(data)
    return digest.hexdigest(), length


def _plain(rule: str, kind: str, status: os.stat_result) -> Item:
    return Item(rule, kind, "", status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode))


def _network_mounts(root: str) -> dict[str, str]:
    """Where file systems that may not answer are mounted, and their types; the root itself cannot be avoided.

    Source of the format: proc_pid_mountinfo(5).
    """
    try:
        with open(f"{root}/proc/self/mountinfo", "rb") as file:
            lines = os.fsdecode(file.read(HASHED)).split("\n")
    except OSError:
        return {}
    mounts: dict[str, str] = {}
    for line in lines:
        before, _separator, after = line.partition(" - ")
        kind = after.partition(" ")[0]
        if kind in _NETWORK or kind.startswith("fuse"):
            fields = before.split(" ")
            mounts[re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal.group(1), 8)), fields[4])] = kind
    mounts.pop("/", None)
    return mounts
