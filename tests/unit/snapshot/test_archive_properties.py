# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds for any snapshot, any damage and any way in which the bytes arrive."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot import archive
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.archive import SnapshotInfo, SnapshotReader
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.counts import EntryCounter
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.errors import SnapshotCorruptError
from hypothesis import example, given, settings
from hypothesis import strategies as st
from lab import archives
from lab.archives import encode_entry

reproducible = settings(derandomize=True, deadline=None, max_examples=150)

GOOD = archives.archive()
GOOD_TAR = archives.tar(archives.members())
SEGMENTS = st.sampled_from(["core", "sys", "logical", "token", "ü", "a" * 130, ""])
KEYS = st.lists(SEGMENTS, min_size=1, max_size=4).map("/".join).filter(bool)
VALUES = st.one_of(st.binary(max_size=20), st.integers(0, 40000).map(bytes))
ENTRIES = st.lists(st.tuples(KEYS, VALUES), min_size=1, max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def read(pieces: list[bytes]) -> SnapshotInfo:
    reader = SnapshotReader()
    for piece in pieces:
        reader.feed(piece)
    return reader.finish()


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in zip(edges, edges[1:])]


def prefix(key: str) -> str:
    name = "/".join(key.split("/")[: 2 if key.startswith("sys/") else 1])
    return name if len(name.encode()) <= 128 else "other"


def counted(pieces: list[bytes]) -> dict[str, int] | None:
    """Counts of these pieces of a state.bin, or None when they are refused."""
    counter = EntryCounter(sum(map(len, pieces)))
    try:
        for piece in pieces:
            counter.feed(piece)
        return counter.finish()
    except SnapshotCorruptError:
        return None


def number(data: bytes) -> tuple[int, bytes] | None:
    """The uvarint at the front of data and what is behind it."""
    for index, byte in enumerate(data[:5]):
        if byte < 128:
            value = sum((part & 127) << 7 * place for place, part in enumerate(data[: index + 1]))
            return (value, data[index + 1 :]) if value < 2**31 else None
    return None


def plainly_counted(data: bytes) -> dict[str, int] | None:
    """EntryCounter again, without a thought for speed: the second opinion."""
    keys = []
    while data:
        entry_length = number(data)
        if not entry_length or entry_length[0] > len(entry_length[1]):
            return None
        entry, data = entry_length[1][: entry_length[0]], entry_length[1][entry_length[0] :]
        key_length = number(entry[1:])
        if entry[:1] != b"\x0a" or not key_length or not 0 < key_length[0] <= len(key_length[1]):
            return None
        key, rest = key_length[1][: key_length[0]], key_length[1][key_length[0] :]
        value_length = number(rest[1:])
        if rest and (rest[:1] != b"\x12" or not value_length or value_length[0] > len(value_length[1])):
            return None
        try:
            keys.append(key.decode())
        except UnicodeDecodeError:
            return None
    return dict(Counter(map(prefix, keys))) or None


@reproducible
@given(ENTRIES, st.lists(st.integers(0, 10**6), max_size=8))
def test_any_entries_in_any_pieces(entries: list[tuple[str, bytes]], places: list[int]) -> None:
    state = b"".join(encode_entry(*entry) for entry in entries)
    info = read(cut(archives.archive(archives.members(state=state)), places))
    assert info.key_counts == Counter(prefix(key) for key, _unused in entries)
    assert info.state_size == len(state)


@reproducible
@given(ENTRIES, st.lists(st.integers(0, 10**6), max_size=8), st.integers(0, 10**6), st.integers(0, 255))
@example([("sys", bytes(9))], [], 7, 0)
def test_walk_agrees_with_a_plain_one(
    entries: list[tuple[str, bytes]], places: list[int], where: int, byte: int
) -> None:
    state = bytearray(b"".join(encode_entry(*entry) for entry in entries))
    state[where % len(state)] = byte
    assert counted(cut(bytes(state), places)) == plainly_counted(bytes(state))


SHORT = st.sampled_from(
    [b"\x05", b"\x03", b"\x0a", b"\x01", b"k", b"\x12", b"\x00", b"\x80", b"\xff", b"\x04\x0a\x02a/"]
)


@settings(reproducible, max_examples=400)
@given(st.lists(SHORT, max_size=12).map(b"".join), st.lists(st.integers(0, 20), max_size=3))
def test_walk_of_nonsense_agrees_with_a_plain_one(state: bytes, places: list[int]) -> None:
    assert counted(cut(state, places)) == plainly_counted(state)


@reproducible
@given(st.integers(10, len(GOOD) - 1), st.integers(1, 255), st.lists(st.integers(0, 10**6), max_size=3))
def test_no_flip_is_accepted(position: int, mask: int, places: list[int]) -> None:
    damaged = bytearray(GOOD)
    damaged[position] ^= mask
    assert refused(cut(bytes(damaged), places))


@reproducible
@given(st.integers(0, len(GOOD) - 1))
def test_no_shorter_one_is_accepted(length: int) -> None:
    assert refused([GOOD[:length]])


def refused(pieces: list[bytes]) -> bool:
    try:
        read(pieces)
    except SnapshotCorruptError:
        return True
    return False


@settings(reproducible, max_examples=600)
@given(st.integers(0, len(GOOD_TAR) - 1), st.integers(1, 255))
def test_change_under_a_good_gzip_is_refused_or_means_nothing(position: int, mask: int) -> None:
    """Padding and the sealed sums, which only Vault can check, may differ; nothing that this reader says may."""
    changed = bytearray(GOOD_TAR)
    changed[position] ^= mask
    try:
        info = read([archives.gzip(bytes(changed), 0)])
    except SnapshotCorruptError:
        return
    good = read([GOOD])
    assert replace(info, size=good.size, sha256=good.sha256) == good


@reproducible
@given(st.binary(max_size=2000), st.booleans(), st.booleans())
def test_nonsense_is_refused_and_nothing_else(data: bytes, in_gzip: bool, behind_meta: bool) -> None:
    if behind_meta:
        data = GOOD_TAR[:1024] + data
    assert refused([archives.gzip(data, 0) if in_gzip else data])


@settings(reproducible, max_examples=400)
@given(st.binary(min_size=1, max_size=40), st.integers(0, 500), st.sampled_from([0, 1024]))
def test_header_of_nonsense_with_a_good_checksum(data: bytes, offset: int, start: int) -> None:
    changed = bytearray(GOOD_TAR)
    header = changed[start : start + 512]
    header[offset : offset + len(data)] = data[: 512 - offset]
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    changed[start : start + 512] = header
    try:
        info = read([archives.gzip(bytes(changed), 0)])
    except SnapshotCorruptError:
        return
    assert info.state_sha256 == read([GOOD]).state_sha256


@reproducible
@given(JSON, st.sampled_from(["Index", "Term", "Size", "Version", "ID", None]))
def test_any_meta(value: object, field: str | None) -> None:
    data = json.dumps(value).encode() if field is None else archives.meta_json(1, **{field: value})
    try:
        meta = archive.parse_meta(data)
    except SnapshotCorruptError:
        return
    assert all(meta[name].__class__ is int and 0 <= meta[name] < 2**64 for name in ("Index", "Term", "Size", "Version"))
    meta["ID"].encode()


@reproducible
@given(st.binary(max_size=300))
def test_any_bytes_for_meta_and_sums(data: bytes) -> None:
    for parse in (archive.parse_meta, archive.parse_sums):
        try:
            parse(data)
        except SnapshotCorruptError:
            continue
        raise AssertionError(f"{parse.__name__} took {data!r}")
