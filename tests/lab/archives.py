# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes snapshots in the format of hashicorp/raft-snapshot, sound ones and broken ones, without a Vault."""

from __future__ import annotations

import hashlib
import json
import random
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

Entry = tuple[str, bytes]

GZIP = 16 + zlib.MAX_WBITS
END_OF_TAR = bytes(1024)
SEALED = b"\x0a\x9c\x01" + bytes(range(156)) + b"s"
# Longer than deflate's window of 32 KiB, so that what is cut from it at random does not compress.
_POOL = random.Random(1).getrandbits(8 * 2**22).to_bytes(2**22, "little")  # noqa: S311


@dataclass(frozen=True)
class Member:
    """One file of the tar. size (bytes) is what the header says, where that is not the length of data."""

    name: str
    data: Iterable[bytes]
    size: int
    type: bytes = b"0"

    def blocks(self) -> Iterator[bytes]:
        """Yield header, data and padding as they lie in the tar."""
        yield tar_header(self.name, self.size, self.type)
        written = 0
        for piece in self.data:
            written += len(piece)
            yield piece
        yield bytes(-written % 512)


def member(name: str, data: bytes, **header: Any) -> Member:
    """A member of bytes in memory; header overrides what its header says."""
    return Member(name=name, data=[data], **{"size": len(data), **header})


def tar_header(name: str, size: int, kind: bytes = b"0") -> bytes:
    """A header block as Go's archive/tar writes it; from 8 GiB on with the extended header in front."""
    if size >= 2**33:
        length = next(n for n in range(100) if n == len(f"{n} size={size}\n"))
        record = f"{length} size={size}\n".encode()
        extended = tar_header("PaxHeaders.0/" + name, len(record), b"x")
        return extended + record + bytes(-len(record) % 512) + tar_header(name, 0, kind)
    fields = [
        name.encode().ljust(100, b"\0"),
        b"0000600\0000000000\0000000000\0",
        b"%011o\0" % size,
        b"%011o\0" % 1764000000,
        b" " * 8,
        kind,
        bytes(100),
        b"ustar\x0000",
        bytes(64),
        b"0000000\0000000000\0",
    ]
    block = b"".join(fields).ljust(512, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def base256_header(name: str, size: int, kind: bytes = b"0") -> bytes:
    """A header block with the size as GNU tar writes large ones, which can be negative too."""
    block = bytearray(tar_header(name, 0, kind))
    block[124:136] = (b"\x80" if size >= 0 else b"\xff") + size.to_bytes(11, "big", signed=True)
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def uvarint(value: int) -> bytes:
    """A number as protobuf and Go's encoding/binary write it."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode_entry(key: str, value: bytes) -> bytes:
    """One entry of state.bin."""
    name = key.encode()
    message = b"\x0a" + uvarint(len(name)) + name
    if value:
        message += b"\x12" + uvarint(len(value)) + value
    return uvarint(len(message)) + message


@dataclass(frozen=True)
class Entries:
    """Entries that can be iterated again and again: about size bytes of values between smallest and largest bytes.

    compressible is the share of each value, 0 to 1, that deflate can shrink to next to nothing.
    """

    size: int
    smallest: int = 100
    largest: int = 2000
    compressible: float = 0.0
    seed: int = 1

    def __iter__(self) -> Iterator[Entry]:
        dice = random.Random(self.seed)  # noqa: S311
        yield "core/keyring", dice.getrandbits(8 * 300).to_bytes(300, "little")
        left, number = self.size, 0
        while left > 0:
            length = min(left, dice.randint(self.smallest, self.largest))
            plain = int(length * self.compressible)
            start = dice.randrange(len(_POOL) - length)
            value = _POOL[start : start + length - plain] + b"=" * plain
            mount = ("logical/3f0a8c1e-77c9", "sys/token/id", "sys/expire/id", "auth/9bd0c2aa-1e5f")[number % 4]
            yield f"{mount}/{number:012d}", value
            left -= length
            number += 1


SMALL = Entries(size=20_000)


def sums(**files: bytes) -> bytes:
    """A SHA256SUMS file for files, named by keyword with _ for the dot."""
    return b"".join(
        f"{hashlib.sha256(data).hexdigest()}  {name.replace('_', '.')}\n".encode() for name, data in files.items()
    )


def meta_json(size: int, **fields: Any) -> bytes:
    """A meta.json as Go writes it; fields overrides and adds, a field of None is left out."""
    meta: dict[str, Any] = {
        "Version": 1,
        "ID": "bolt-snapshot",
        "Index": 4711,
        "Term": 3,
        "Peers": None,
        "Configuration": {"Servers": [{"Suffrage": 0, "ID": "node1", "Address": "127.0.0.1:8201"}]},
        "ConfigurationIndex": 1,
        "Size": size,
    }
    meta.update(fields)
    left_out = [name for name, value in fields.items() if value is None]
    return json.dumps({name: value for name, value in meta.items() if name not in left_out}).encode() + b"\n"


def members(state: bytes | None = None, meta: bytes | None = None) -> list[Member]:
    """The four members of a sound snapshot, in memory, for a test to break."""
    if state is None:
        state = b"".join(encode_entry(*entry) for entry in SMALL)
    if meta is None:
        meta = meta_json(len(state))
    return [
        member("meta.json", meta),
        member("state.bin", state),
        member("SHA256SUMS", sums(meta_json=meta, state_bin=state)),
        member("SHA256SUMS.sealed", SEALED),
    ]


def tar(parts: Iterable[Member], end: bytes = END_OF_TAR) -> bytes:
    """The tar of these members."""
    return b"".join(block for part in parts for block in part.blocks()) + end


def gzip(data: bytes, level: int = 6) -> bytes:
    """One gzip member, the same bytes at each run."""
    packer = zlib.compressobj(level, zlib.DEFLATED, GZIP)
    return packer.compress(data) + packer.flush()


def archive(parts: Iterable[Member] | None = None, end: bytes = END_OF_TAR) -> bytes:
    """A snapshot in memory, a sound one unless told otherwise."""
    return gzip(tar(members() if parts is None else parts, end))


def write_archive(
    path: str | Path,
    entries: Iterable[Entry] = SMALL,
    *,
    meta: dict[str, Any] | None = None,
    edit: Callable[[list[Member]], list[Member]] = list,
    end: bytes = END_OF_TAR,
    level: int = 6,
) -> None:
    """Write a snapshot to path in constant memory.

    :param entries: what can be iterated three times, as Vault itself scans first for the size.
    :param meta: fields of meta.json to override.
    :param edit: gets the four members and returns those to write.
    :param level: of deflate; Vault uses 6.
    """
    state_hash, size = hashlib.sha256(), 0
    for entry in entries:
        data = encode_entry(*entry)
        state_hash.update(data)
        size += len(data)
    meta_data = meta_json(size, **(meta or {}))
    parts = [
        member("meta.json", meta_data),
        Member("state.bin", (encode_entry(*entry) for entry in entries), size),
        member("SHA256SUMS", sums(meta_json=meta_data) + f"{state_hash.hexdigest()}  state.bin\n".encode()),
        member("SHA256SUMS.sealed", SEALED),
    ]
    packer = zlib.compressobj(level, zlib.DEFLATED, GZIP)
    with Path(path).open("wb") as file:
        for part in edit(parts):
            for block in part.blocks():
                file.write(packer.compress(block))
        file.write(packer.compress(end) + packer.flush())
