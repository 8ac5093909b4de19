# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads and verifies a Vault Raft snapshot in one pass, from a file or from a stream as it arrives.

Source of the format: ``archive.go`` and ``snapshot.go`` of hashicorp/raft-snapshot. A snapshot is one gzip member that
holds a tar of ``meta.json``, ``state.bin``, ``SHA256SUMS`` and ``SHA256SUMS.sealed``, in this order, closed by two
blocks of zeros. Vault has a seal at all times, so it always writes the sealed sums. What Vault's own reader would let
pass but its writer never writes is refused here.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import stat
import tarfile
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Callable

from .counts import EntryCounter
from .errors import SnapshotCorruptError

META, STATE, SUMS, SEALED = "meta.json", "state.bin", "SHA256SUMS", "SHA256SUMS.sealed"
ORDER = (META, STATE, SUMS, SEALED)

# archive.go refuses meta.json and the sums once it has read this many bytes of one.
SMALL_LIMIT = 8192
READ_SIZE = 256 * 1024
INFLATE_SIZE = 512 * 1024

_BLOCK = tarfile.BLOCKSIZE
_ZEROS = bytes(_BLOCK)
_END = "the end"
_GZIP_MAGIC = b"\x1f\x8b"
_SUM_LINE = re.compile(r"([0-9a-f]{64})  (.+)")
_PAX_SIZE = re.compile(rb"([0-9]{1,4}) size=([0-9]{1,19})\n")


@dataclass(frozen=True)
class SnapshotInfo:
    """What a verified snapshot says about itself.

    ``index`` and ``term`` are Raft's, ``version`` is Raft's SnapshotVersion, ``snapshot_id`` Raft's ID of it;
    ``state_size`` and ``state_sha256`` are of state.bin, ``size`` (bytes) and ``sha256`` of the archive as stored;
    ``key_counts`` is the number of keys by prefix; ``sealed`` that the sums sealed by Vault's seal are there.
    """

    index: int
    term: int
    version: int
    snapshot_id: str
    state_size: int
    state_sha256: str
    size: int
    sha256: str
    key_counts: dict[str, int]
    sealed: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values that JSON can hold."""
        return asdict(self)


class SnapshotReader:
    """Takes a snapshot in pieces of any length and raises as soon as one of them cannot belong to an intact snapshot.

    Memory does not grow with the snapshot, and there is nothing to close. After a SnapshotCorruptError the reader stays
    in that error.
    """

    def __init__(self) -> None:
        self._gzip = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        self._failed: SnapshotCorruptError | None = None
        self._size = 0
        self._magic = b""
        self._archive_hash = hashlib.sha256()
        self._state_hash = hashlib.sha256()
        self._hashes: dict[str, str] = {}
        self._meta: dict[str, Any] = {}
        self._entries = EntryCounter(0)
        self._key_counts: dict[str, int] = {}
        self._seen: list[str] = []
        self._pax_size: int | None = None
        self._block = bytearray()
        self._expect_header()

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the archive.

        Raises:
            SnapshotCorruptError: the bytes so far cannot be the beginning of an intact snapshot.
        """
        self._guard(self._feed, data)

    def finish(self) -> SnapshotInfo:
        """Return what the snapshot says, now that all of it was fed.

        Raises:
            SnapshotCorruptError: the snapshot is not complete.
        """
        self._guard(self._check_complete)
        return SnapshotInfo(
            index=self._meta["Index"],
            term=self._meta["Term"],
            version=self._meta["Version"],
            snapshot_id=self._meta["ID"],
            state_size=self._meta["Size"],
            state_sha256=self._hashes[STATE],
            size=self._size,
            sha256=self._archive_hash.hexdigest(),
            key_counts=self._key_counts,
            sealed=SEALED in self._seen,
        )

    def _guard(self, step: Callable[..., None], *args: bytes) -> None:
        if self._failed:
            raise self._failed
        try:
            step(*args)
        except SnapshotCorruptError as exc:
            self._failed = exc
            raise

    def _feed(self, data: bytes) -> None:
        self._archive_hash.update(data)
        self._size += len(data)
        if len(self._magic) < len(_GZIP_MAGIC):
            self._magic += data[: len(_GZIP_MAGIC) - len(self._magic)]
            if not _GZIP_MAGIC.startswith(self._magic):
                raise SnapshotCorruptError(f"it is no gzip file: it begins with {self._magic!r}, not {_GZIP_MAGIC!r}")
        # What inflate did not use is copied each time, so pieces are kept short however long the data is.
        for start in range(0, len(data), READ_SIZE):
            self._inflate(data[start : start + READ_SIZE])

    def _inflate(self, data: bytes) -> None:
        while not self._gzip.eof:
            try:
                # The limit keeps memory flat whatever the data inflates to.
                out = self._gzip.decompress(data, INFLATE_SIZE)
            except zlib.error as exc:
                raise SnapshotCorruptError(f"the gzip stream is damaged, in {self._where()}: {exc}") from None
            data = self._gzip.unconsumed_tail
            self._unpack(out)
            if not data and len(out) < INFLATE_SIZE:
                break
        if self._gzip.unused_data or data:
            raise SnapshotCorruptError("bytes follow the end of the gzip stream, where nothing may follow")

    def _check_complete(self) -> None:
        if not self._size:
            raise SnapshotCorruptError("it is empty: 0 bytes")
        if not self._gzip.eof:
            raise SnapshotCorruptError(
                f"it ends in the middle of {self._where()}: it was cut short at {self._size} bytes"
            )
        if self._part != _END:
            raise SnapshotCorruptError(f"the tar in it ends in the middle of {self._where()}: it was cut short")

    def _where(self) -> str:
        if self._part == _END:
            return "the checksum of the gzip stream"
        return f"{self._part} after {self._part_done} of {self._part_size} bytes"

    def _unpack(self, out: bytes) -> None:
        """Take the next bytes of the tar."""
        pos = 0
        while pos < len(out):
            if self._part == _END:
                raise SnapshotCorruptError("bytes follow the end of the tar, where nothing may follow")
            take = min(self._part_size - self._part_done, len(out) - pos)
            piece = out if take == len(out) else out[pos : pos + take]
            pos += take
            self._part_done += take
            if self._streamed:
                self._state_hash.update(piece)
                self._entries.feed(piece)
            else:
                self._block += piece
            if self._part_done == self._part_size:
                self._complete()

    def _expect(self, part: str, size: int, then: Callable[[bytes], None], streamed: bool = False) -> None:
        """Read size bytes next, named part in messages, and give them to then unless they were streamed."""
        self._part, self._part_size, self._part_done = part, size, 0
        self._then, self._streamed = then, streamed
        if not size:
            then(b"")

    def _complete(self) -> None:
        block = bytes(self._block)
        self._block.clear()
        self._then(block)

    def _expect_padding(self, name: str, size: int) -> None:
        self._expect(f"the padding of {name}", -size % _BLOCK, lambda _: self._expect_header())

    def _expect_header(self) -> None:
        name = ORDER[len(self._seen)] if len(self._seen) < len(ORDER) else "the end of the tar"
        self._expect(f"the header of {name}", _BLOCK, self._header)

    def _header(self, block: bytes) -> None:
        if block == _ZEROS:
            self._expect("the second closing block", _BLOCK, self._end)
            return
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError as exc:
            raise SnapshotCorruptError(f"{self._part} is damaged: {exc}") from None
        wanted = ORDER[len(self._seen)] if len(self._seen) < len(ORDER) else None
        if (
            header.type == tarfile.XHDTYPE
            and wanted == STATE
            and self._pax_size is None
            and 0 < header.size < SMALL_LIMIT
        ):
            self._expect("the extended header of state.bin", header.size, self._extended)
            return
        self._check_member(header, wanted)
        if header.name == STATE:
            self._expect_state(header.size if self._pax_size is None else self._pax_size)
            return
        if not 0 <= header.size < SMALL_LIMIT:
            raise SnapshotCorruptError(
                f"{header.name} holds {header.size} bytes where at most {SMALL_LIMIT - 1} are allowed"
            )
        take = {META: self._take_meta, SUMS: self._take_sums, SEALED: self._take_sealed}[header.name]
        self._expect(header.name, header.size, take)

    def _check_member(self, header: tarfile.TarInfo, wanted: str | None) -> None:
        name = header.name
        if name not in ORDER:
            raise SnapshotCorruptError(f"it holds a member {name!r}, which no Vault snapshot has")
        if name in self._seen:
            raise SnapshotCorruptError(f"it holds {name} twice")
        if name != wanted:
            raise SnapshotCorruptError(f"{name} comes where {wanted} has to be: members are missing or out of order")
        if header.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
            raise SnapshotCorruptError(f"{name} is no regular file: its tar type is {header.type!r}")
        self._seen.append(name)

    def _extended(self, data: bytes) -> None:
        """Take the header that Go's archive/tar writes for files of 8 GiB and more: a size, and nothing else."""
        record = _PAX_SIZE.fullmatch(data)
        if not record or int(record[1]) != len(data):
            raise SnapshotCorruptError("the extended header of state.bin is not one size")
        self._pax_size = int(record[2])
        self._expect_padding("the extended header", len(data))

    def _expect_state(self, size: int) -> None:
        if size != self._meta["Size"]:
            raise SnapshotCorruptError(f"state.bin holds {size} bytes where meta.json says {self._meta['Size']}")
        self._pax_size = None
        self._entries = EntryCounter(size)
        self._expect(STATE, size, self._take_state, streamed=True)

    def _take_state(self, _block: bytes) -> None:
        self._key_counts = self._entries.finish()
        self._hashes[STATE] = self._state_hash.hexdigest()
        self._expect_padding(STATE, self._part_size)

    def _take_meta(self, data: bytes) -> None:
        self._meta = parse_meta(data)
        self._hashes[META] = hashlib.sha256(data).hexdigest()
        self._expect_padding(META, len(data))

    def _take_sums(self, data: bytes) -> None:
        expected = parse_sums(data)
        for name, actual in self._hashes.items():
            if expected[name] != actual:
                raise SnapshotCorruptError(f"SHA256SUMS: {name} hashes to {actual} where {expected[name]} was expected")
        self._expect_padding(SUMS, len(data))

    def _take_sealed(self, data: bytes) -> None:
        if not data:
            raise SnapshotCorruptError("SHA256SUMS.sealed is empty")
        self._expect_padding(SEALED, len(data))

    def _end(self, block: bytes) -> None:
        if block != _ZEROS:
            raise SnapshotCorruptError("one block of zeros is followed by more: the tar is damaged")
        missing = [name for name in ORDER if name not in self._seen]
        if missing:
            raise SnapshotCorruptError(f"{', '.join(missing)} missing: the tar ends before")
        self._expect(_END, _BLOCK, self._end)


def parse_meta(data: bytes) -> dict[str, Any]:
    """Return Index, Term, Version, Size (bytes) and ID of a meta.json, Raft's SnapshotMeta.

    Raises:
        SnapshotCorruptError: it is not such a JSON object.
    """
    try:
        meta = json.loads(data.decode())
    except (ValueError, RecursionError) as exc:
        raise SnapshotCorruptError(f"meta.json is no JSON: {exc}") from None
    if not isinstance(meta, dict):
        raise SnapshotCorruptError("meta.json is no JSON object")
    # Go's decoder takes what is absent for zero; for Index, Term and Size that would be a lie.
    meta = {"Version": 0, "ID": "", **meta}
    limits = {"Index": 2**64, "Term": 2**64, "Size": 2**63, "Version": 2**63}
    for name, limit in limits.items():
        value = meta.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < limit:
            raise SnapshotCorruptError(f"meta.json has no {name} that is a whole number from 0 to {limit - 1}")
    if not isinstance(meta["ID"], str) or not meta["ID"].isprintable():
        raise SnapshotCorruptError("meta.json has an ID that is no printable text")
    return {name: meta[name] for name in (*limits, "ID")}


def parse_sums(data: bytes) -> dict[str, str]:
    """Return the SHA-256 (hex) of meta.json and of state.bin that a SHA256SUMS file gives.

    Raises:
        SnapshotCorruptError: a line is malformed, or a name is missing, doubled or another.
    """
    sums: dict[str, str] = {}
    lines = data.decode("ascii", "replace").split("\n")
    if lines.pop():
        raise SnapshotCorruptError("SHA256SUMS is malformed: its last line has no end")
    for number, line in enumerate(lines, 1):
        match = _SUM_LINE.fullmatch(line)
        if not match:
            raise SnapshotCorruptError(f"SHA256SUMS is malformed: line {number} is no SHA-256 and name")
        name = match[2]
        if name not in (META, STATE):
            raise SnapshotCorruptError(f"SHA256SUMS has a sum for {name!r}, which it cannot have")
        if name in sums:
            raise SnapshotCorruptError(f"SHA256SUMS has two sums for {name}")
        sums[name] = match[1]
    for name in (META, STATE):
        if name not in sums:
            raise SnapshotCorruptError(f"SHA256SUMS has no sum for {name}")
    return sums


def verify_file(path: str | os.PathLike[str]) -> SnapshotInfo:
    """Read a regular file and return what the snapshot in it says.

    Raises:
        SnapshotCorruptError: it is not an intact snapshot; the message names the path.
        OSError: it cannot be read, or is no regular file.
    """
    file_path = Path(path)
    if not stat.S_ISREG(file_path.stat().st_mode):
        raise OSError(errno.EINVAL, "Not a regular file", str(path))
    reader = SnapshotReader()
    try:
        with file_path.open("rb", buffering=0) as file:
            while data := file.read(READ_SIZE):
                reader.feed(data)
        return reader.finish()
    except SnapshotCorruptError as exc:
        raise SnapshotCorruptError(f"{file_path} is not an intact snapshot: {exc}") from None
