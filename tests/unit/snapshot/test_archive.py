# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the reader takes for a snapshot, and what it says of everything else."""

from __future__ import annotations

import hashlib
import json
import random
import re
import tracemalloc
import zlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot import archive
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.archive import SnapshotInfo, SnapshotReader
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.errors import (
    SnapshotCorruptError,
    SnapshotError,
)
from lab import archives
from lab.archives import Member, encode_entry, member, meta_json, uvarint

GOOD = archives.archive()
GZIP_HEADER = 10


def read(data: bytes, chunk: int = 65536) -> SnapshotInfo:
    reader = SnapshotReader()
    for start in range(0, len(data), chunk):
        reader.feed(data[start : start + chunk])
    return reader.finish()


def problem(data: bytes, chunk: int = 65536) -> str:
    with pytest.raises(SnapshotCorruptError) as caught:
        read(data, chunk)
    return str(caught.value)


def packed(edit: Callable[[list[Member]], Iterable[Member]], **more: Any) -> bytes:
    return archives.archive(edit(archives.members()), **more)


def with_state(state: bytes) -> bytes:
    return archives.archive(archives.members(state=state))


def with_meta(meta: bytes) -> bytes:
    return archives.archive(archives.members(meta=meta))


def with_sums(sums: bytes) -> bytes:
    return packed(lambda m: [m[0], m[1], member("SHA256SUMS", sums), m[3]])


def meta_and(header: bytes, size: int) -> bytes:
    return archives.tar([member("meta.json", meta_json(size))], b"") + header


def good_state() -> bytes:
    return b"".join(archives.members()[1].data)


def good_sums() -> bytes:
    return b"".join(archives.members()[2].data)


class TestSound:
    def test_says_what_the_snapshot_says(self) -> None:
        state = good_state()
        assert read(GOOD) == SnapshotInfo(
            index=4711,
            term=3,
            version=1,
            snapshot_id="bolt-snapshot",
            state_size=len(state),
            state_sha256=hashlib.sha256(state).hexdigest(),
            size=len(GOOD),
            sha256=hashlib.sha256(GOOD).hexdigest(),
            key_counts={"auth": 3, "core": 1, "logical": 4, "sys/expire": 4, "sys/token": 4},
            sealed=True,
        )

    @pytest.mark.parametrize("chunk", [1, 7, 65536, 2**30])
    def test_chunk_size_makes_no_difference(self, chunk: int) -> None:
        assert read(GOOD, chunk) == read(GOOD, 4096)

    def test_empty_chunks_make_no_difference(self) -> None:
        reader = SnapshotReader()
        for data in (b"", GOOD, b""):
            reader.feed(data)
        assert reader.finish() == read(GOOD)

    def test_to_dict_is_plain_json(self) -> None:
        info = read(GOOD)
        assert SnapshotInfo(**json.loads(json.dumps(info.to_dict()))) == info

    def test_file(self, tmp_path: Path) -> None:
        path = tmp_path / "vault.snap"
        path.write_bytes(GOOD)
        assert archive.verify_file(path) == archive.verify_file(str(path)) == read(GOOD)

    def test_writer_on_disk_and_in_memory_agree(self, tmp_path: Path) -> None:
        archives.write_archive(tmp_path / "vault.snap")
        assert (tmp_path / "vault.snap").read_bytes() == GOOD

    def test_sums_in_the_other_order(self) -> None:
        """Go ranges over a map to write them."""
        lines = good_sums().splitlines(keepends=True)
        assert read(with_sums(lines[1] + lines[0])).index == 4711

    def test_meta_without_version_and_id(self) -> None:
        info = read(with_meta(meta_json(len(good_state()), Version=None, ID=None)))
        assert (info.version, info.snapshot_id) == (0, "")

    def test_largest_meta(self) -> None:
        assert read(with_meta(meta_json(len(good_state())).ljust(8191))).term == 3

    def test_extended_header_with_the_size(self) -> None:
        """As Go's archive/tar writes it from 8 GiB on."""
        state = good_state()
        parts = archives.members()
        record = b"14 size=%d\n" % len(state)
        tar = (
            archives.tar(parts[:1], b"")
            + archives.tar([member("PaxHeaders.0/state.bin", record, type=b"x")], b"")
            + archives.tar([replace(parts[1], size=0)], b"")
            + archives.tar(parts[2:])
        )
        assert len(record) == 14
        assert read(archives.gzip(tar)).state_size == len(state)

    @pytest.mark.parametrize("write_header", [archives.tar_header, archives.base256_header])
    def test_state_over_8_gib(self, write_header: Callable[[str, int], bytes]) -> None:
        size = 9 * 2**30
        header = write_header("state.bin", size)
        tar = archives.tar([member("meta.json", meta_json(size))], b"") + header + encode_entry("core/lock", b"x")
        assert f"state.bin after 15 of {size} bytes" in problem(archives.gzip(tar))


class TestKeyCounts:
    def counts(self, *keys: str, value: bytes = b"v", chunk: int = 65536) -> dict[str, int]:
        return read(with_state(b"".join(encode_entry(key, value) for key in keys)), chunk).key_counts

    def test_first_segment_and_two_under_sys(self) -> None:
        keys = (
            "core/a",
            "core/b/c",
            "sys/token/id/x",
            "sys/token/accessor/y",
            "sys/policy/z",
            "logical/u/v",
            "system/a",
        )
        expected = {"core": 2, "logical": 1, "sys/policy": 1, "sys/token": 2, "system": 1}
        assert self.counts(*keys) == expected

    def test_keys_of_one_segment(self) -> None:
        assert self.counts("lock", "sys", "sys/", "sys/x") == {"lock": 1, "sys": 1, "sys/": 1, "sys/x": 1}

    def test_entry_without_value(self) -> None:
        assert self.counts("core/a", "core/b", value=b"") == {"core": 2}

    def test_field_of_a_newer_vault_behind_the_value(self) -> None:
        assert read(with_state(b"\x08\x0a\x01k\x12\x01a\x18\x01")).key_counts == {"k": 1}

    def test_key_that_is_not_ascii(self) -> None:
        assert self.counts("logical/schlüssel") == {"logical": 1}

    @pytest.mark.parametrize("chunk", [1, 65536])
    @pytest.mark.parametrize("size", [1, 120, 127, 128, 16383, 16384, 70000])
    def test_lengths_around_each_varint_step(self, size: int, chunk: int) -> None:
        assert self.counts("core/a", "core/b", value=b"x" * size, chunk=chunk) == {"core": 2}

    @pytest.mark.parametrize("size", [127, 128, 16384, 32768])
    def test_long_keys(self, size: int) -> None:
        assert self.counts("core/".ljust(size, "k"), "core/a") == {"core": 2}

    def test_prefixes_are_bounded(self) -> None:
        counts = self.counts(*(f"p{number}/k" for number in range(1000)))
        assert len(counts) == 257
        assert counts["other"] == 1000 - 256

    def test_long_prefixes_are_not_kept(self) -> None:
        assert self.counts("k" * 129, "core/a") == {"core": 1, "other": 1}

    def test_real_prefix_named_other(self) -> None:
        assert self.counts("other/a", "k" * 129) == {"other": 2}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


STATE_SIZE = len(good_state())
FIRST = encode_entry("core/a", b"value")
NO_KEY = uvarint(4) + b"\x12\x02ab"

BROKEN: dict[str, tuple[Callable[[], bytes], str]] = {
    # The gzip stream
    "empty": (lambda: b"", r"it is empty: 0 bytes"),
    "plain tar": (lambda: archives.tar(archives.members()), r"it is no gzip file: it begins with b'm"),
    "one byte of gzip": (lambda: GOOD[:1], r"header of meta\.json after 0 of 512 bytes: it was cut short at 1 bytes"),
    "gzip of nothing": (lambda: archives.gzip(b""), r"tar in it ends in the middle of the header of meta\.json"),
    "no gzip trailer": (lambda: GOOD[:-8], r"in the middle of the checksum of the gzip stream: it was cut short"),
    "half the gzip trailer": (lambda: GOOD[:-4], r"in the middle of the checksum of the gzip stream: it was cut short"),
    "wrong gzip checksum": (lambda: GOOD[:-8] + bytes(4) + GOOD[-4:], r"gzip stream is damaged.*incorrect data check"),
    "wrong gzip length": (lambda: GOOD[:-4] + bytes(4), r"gzip stream is damaged.*incorrect length check"),
    "byte after gzip": (lambda: GOOD + b"\0", r"bytes follow the end of the gzip stream"),
    "second gzip member": (lambda: GOOD + archives.gzip(b""), r"bytes follow the end of the gzip stream"),
    "snapshot twice": (lambda: GOOD + GOOD, r"bytes follow the end of the gzip stream"),
    # The tar
    "no end of tar": (
        lambda: packed(list, end=b""),
        r"tar in it ends in the middle of the header of the end of the tar",
    ),
    "half the end of tar": (
        lambda: packed(list, end=bytes(512)),
        r"tar in it ends in the middle of the second closing",
    ),
    "byte after tar": (lambda: packed(list, end=bytes(1025)), r"bytes follow the end of the tar"),
    "padded as GNU tar does": (lambda: packed(list, end=bytes(10240)), r"bytes follow the end of the tar"),
    "one block of zeros": (
        lambda: packed(list, end=bytes(512) + b"x" * 512),
        r"one block of zeros is followed by more",
    ),
    "header damaged": (
        lambda: archives.gzip(b"M" + archives.tar(archives.members())[1:]),
        r"the header of meta\.json is damaged: bad checksum",
    ),
    "no meta.json": (lambda: packed(lambda m: m[1:]), r"state\.bin comes where meta\.json has to be"),
    "no state.bin": (lambda: packed(lambda m: [m[0], *m[2:]]), r"SHA256SUMS comes where state\.bin has to be"),
    "no SHA256SUMS": (lambda: packed(lambda m: [*m[:2], m[3]]), r"SHA256SUMS\.sealed comes where SHA256SUMS has to be"),
    "no SHA256SUMS.sealed": (lambda: packed(lambda m: m[:3]), r"SHA256SUMS\.sealed missing: the tar ends before"),
    "no member": (lambda: archives.archive([]), r"meta\.json, state\.bin, SHA256SUMS, SHA256SUMS\.sealed missing"),
    "meta.json twice": (lambda: packed(lambda m: [m[0], *m]), r"it holds meta\.json twice"),
    "state.bin twice": (lambda: packed(lambda m: [*m[:2], *m[1:]]), r"it holds state\.bin twice"),
    "SHA256SUMS twice": (lambda: packed(lambda m: [*m[:3], *m[2:]]), r"it holds SHA256SUMS twice"),
    "sealed twice": (lambda: packed(lambda m: [*m, m[3]]), r"it holds SHA256SUMS\.sealed twice"),
    "reversed": (lambda: packed(reversed), r"SHA256SUMS\.sealed comes where meta\.json has to be"),
    "sums swapped": (lambda: packed(lambda m: [m[0], m[1], m[3], m[2]]), r"\.sealed comes where SHA256SUMS has to be"),
    "extra member": (
        lambda: packed(lambda m: [*m, member("x", b"")]),
        r"it holds a member 'x', which no Vault snapshot",
    ),
    "name with a folder": (
        lambda: packed(lambda m: [replace(m[0], name="./meta.json"), *m[1:]]),
        r"it holds a member '\./meta\.json'",
    ),
    "extended header elsewhere": (
        lambda: packed(lambda m: [member("x", b"14 size=12345\n", type=b"x"), *m]),
        r"it holds a member 'x'",
    ),
    "two extended headers": (
        lambda: packed(lambda m: [m[0], *[member("x", b"14 size=%d\n" % STATE_SIZE, type=b"x")] * 2, *m[1:]]),
        r"it holds a member 'x'",
    ),
    "extended header with a path": (
        lambda: packed(lambda m: [m[0], member("x", b"18 path=state.bin\n", type=b"x"), *m[1:]]),
        r"extended header of state\.bin is not one size",
    ),
    "extended header of a wrong length": (
        lambda: packed(lambda m: [m[0], member("x", b"15 size=%d\n" % STATE_SIZE, type=b"x"), *m[1:]]),
        r"extended header of state\.bin is not one size",
    ),
    "extended header of another size": (
        lambda: packed(lambda m: [m[0], member("x", b"10 size=9\n", type=b"x"), *m[1:]]),
        rf"state\.bin holds 9 bytes where meta\.json says {STATE_SIZE}",
    ),
    "extended header of negative size": (
        lambda: archives.gzip(meta_and(archives.base256_header("x", -600, b"x"), 1) + bytes(4096)),
        r"it holds a member 'x'",
    ),
    "state.bin of negative size": (
        lambda: archives.gzip(meta_and(archives.base256_header("state.bin", -600), 1) + bytes(4096)),
        r"state\.bin holds -600 bytes where meta\.json says 1",
    ),
    "meta.json of negative size": (
        lambda: archives.gzip(archives.base256_header("meta.json", -600) + bytes(4096)),
        r"meta\.json holds -600 bytes where at most 8191 are allowed",
    ),
    # meta.json
    "meta.json empty": (lambda: with_meta(b""), r"meta\.json is no JSON"),
    "meta.json no JSON": (lambda: with_meta(b"{"), r"meta\.json is no JSON"),
    "meta.json two values": (lambda: with_meta(meta_json(1) * 2), r"meta\.json is no JSON: Extra data"),
    "meta.json a list": (lambda: with_meta(b"[]"), r"meta\.json is no JSON object"),
    "meta.json deep": (lambda: with_meta(b"[" * 8000), r"meta\.json is no JSON"),
    "meta.json no UTF-8": (lambda: with_meta(b'{"ID": "\xff"}'), r"meta\.json is no JSON: 'utf-8' codec"),
    "meta.json UTF-16": (lambda: with_meta('{"Index": 1}'.encode("utf-16")), r"meta\.json is no JSON"),
    "meta.json huge number": (
        lambda: with_meta(b'{"Index": ' + b"9" * 8000 + b"}"),
        r"meta\.json (is no JSON|has no Index)",
    ),
    "meta.json too long": (
        lambda: with_meta(b" " * 8192),
        r"meta\.json holds 8192 bytes where at most 8191 are allowed",
    ),
    "meta.json ID a number": (lambda: with_meta(meta_json(STATE_SIZE, ID=7)), r"has an ID that is no printable text"),
    "meta.json ID half a surrogate": (lambda: with_meta(meta_json(STATE_SIZE, ID="\ud800")), r"no printable text"),
    "meta.json ID with an escape": (lambda: with_meta(meta_json(STATE_SIZE, ID="\x1b[2J")), r"no printable text"),
    "meta.json lies about Size": (
        lambda: with_meta(meta_json(2 * STATE_SIZE)),
        rf"state\.bin holds {STATE_SIZE} bytes where meta\.json says {2 * STATE_SIZE}",
    ),
    # The sums
    "sums empty": (lambda: with_sums(b""), r"SHA256SUMS has no sum for meta\.json"),
    "sum of meta.json missing": (lambda: with_sums(good_sums().splitlines(True)[1]), r"has no sum for meta\.json"),
    "sum of state.bin missing": (lambda: with_sums(good_sums().splitlines(True)[0]), r"has no sum for state\.bin"),
    "sum for another name": (lambda: with_sums(good_sums() + b"0" * 64 + b"  x\n"), r"has a sum for 'x'"),
    "sum doubled": (lambda: with_sums(good_sums() + good_sums()), r"SHA256SUMS has two sums for meta\.json"),
    "sum too short": (lambda: with_sums(b"0" * 63 + b"  meta.json\n"), r"malformed: line 1 is no SHA-256 and name"),
    "sum with one space": (lambda: with_sums(b"0" * 64 + b" meta.json\n"), r"malformed: line 1"),
    "sum in capitals": (lambda: with_sums(b"A" * 64 + b"  meta.json\n"), r"malformed: line 1"),
    "empty line in the sums": (lambda: with_sums(b"\n" + good_sums()), r"malformed: line 1"),
    "sums no text": (lambda: with_sums(b"\xff\0\n"), r"malformed: line 1"),
    "no newline at the end": (lambda: with_sums(good_sums()[:-1]), r"malformed: its last line has no end"),
    "sums too long": (lambda: with_sums(good_sums().ljust(8192, b"\n")), r"SHA256SUMS holds 8192 bytes"),
    "sum of state.bin wrong": (
        lambda: with_sums(archives.sums(meta_json=meta_json(STATE_SIZE), state_bin=b"x")),
        rf"SHA256SUMS: state\.bin hashes to {sha256(good_state())} where {sha256(b'x')} was expected",
    ),
    "sum of meta.json wrong": (
        lambda: with_sums(archives.sums(meta_json=b"x", state_bin=good_state())),
        r"SHA256SUMS: meta\.json hashes to .* was expected",
    ),
    "sealed sums empty": (lambda: packed(lambda m: [*m[:3], member(m[3].name, b"")]), r"SHA256SUMS\.sealed is empty"),
    "sealed sums too long": (
        lambda: packed(lambda m: [*m[:3], member(m[3].name, bytes(9000))]),
        r"sealed holds 9000 by",
    ),
    # state.bin
    "no entries": (lambda: with_state(b""), r"state\.bin holds no entries"),
    "entry cut in its value": (
        lambda: with_state(FIRST + FIRST[:-1]),
        r"entry 2, at byte 16, is 15 bytes long, more than",
    ),
    "entry cut in its length": (lambda: with_state(FIRST + b"\x80"), r"entry 2, at byte 16, is cut off by the end"),
    "entry longer than all": (lambda: with_state(uvarint(999) + FIRST), r"entry 1, at byte 0, is 999 bytes long"),
    "entry of no bytes": (lambda: with_state(FIRST + b"\0" + FIRST), r"entry 2, at byte 16, does not begin with a key"),
    "entry of one byte": (lambda: with_state(b"\x01\x0a" + FIRST), r"entry 1, at byte 0, has a key of \d+ bytes"),
    "entry without key": (lambda: with_state(NO_KEY), r"entry 1, at byte 0, does not begin with a key"),
    "key empty": (lambda: with_state(b"\x02\x0a\x00"), r"entry 1, at byte 0, has a key of 0 bytes"),
    "key longer than the entry": (
        lambda: with_state(b"\x03\x0a\x05abcdefgh"),
        r"has a key of 5 bytes, which cannot be",
    ),
    "key over 32768 bytes": (lambda: with_state(encode_entry("k" * 32769, b"")), r"has a key of 32769 bytes"),
    "key no UTF-8": (lambda: with_state(b"\x03\x0a\x01\xff"), r"entry 1, at byte 0, has a key that is no UTF-8 text"),
    "value of another length": (
        lambda: with_state(b"\x07\x0a\x01k\x12\x03ab"),
        r"is not a key and a value that fill it",
    ),
    "another field": (lambda: with_state(b"\x05\x0a\x01k\x18\x01"), r"is not a key and a value that fill it"),
    "length over 2 GiB": (lambda: with_state(uvarint(2**31) + FIRST), r"has a length over 2147483647 bytes"),
    "length without end": (lambda: with_state(b"\xff" * 11), r"entry 1, at byte 0, has a length over 2147483647 bytes"),
    "random bytes": (
        lambda: with_state(hashlib.shake_128().digest(5000)),
        r"state\.bin is damaged: entry 1, at byte 0",
    ),
}

for kind in b"1234567VLKgS":
    BROKEN[f"state.bin of type {chr(kind)}"] = (
        lambda kind=kind: packed(lambda m: [m[0], replace(m[1], type=bytes([kind])), *m[2:]]),  # type: ignore[misc]
        rf"state\.bin is no regular file: its tar type is b'{chr(kind)}'",
    )
for field in ("Index", "Term", "Size"):
    for name, value in {
        "missing": None,
        "text": "1",
        "a fraction": 1.5,
        "true": True,
        "negative": -1,
        "not a number": float("nan"),
        "infinite": float("inf"),
        "over 64 bits": 2**64,
        "a list": [1],
    }.items():
        BROKEN[f"meta.json {field} {name}"] = (
            lambda field=field, value=value: with_meta(meta_json(STATE_SIZE, **{field: value})),  # type: ignore[misc]
            rf"meta\.json has no {field} that is a whole number",
        )


class TestBroken:
    @pytest.mark.parametrize("chunk", [1, 2**20])
    @pytest.mark.parametrize("case", BROKEN)
    def test_is_refused_in_words(self, case: str, chunk: int) -> None:
        build, message = BROKEN[case]
        said = problem(build(), chunk)
        assert re.search(message, said), said

    def test_stays_in_its_error(self) -> None:
        reader = SnapshotReader()
        with pytest.raises(SnapshotCorruptError) as first:
            reader.feed(b"no")
        with pytest.raises(SnapshotCorruptError) as second:
            reader.feed(GOOD)
        with pytest.raises(SnapshotCorruptError) as third:
            reader.finish()
        assert first.value is second.value is third.value

    def test_no_values_in_messages(self) -> None:
        secret = b"s.0123456789abcdef"
        state = encode_entry("core/a", secret) + uvarint(30) + b"\x0a\x03abc" + secret
        assert secret.decode() not in problem(with_state(state))

    def test_random_flips(self) -> None:
        dice = random.Random(20261124)  # noqa: S311
        accepted = []
        for position in (dice.randrange(GZIP_HEADER, len(GOOD)) for _unused in range(2000)):
            damaged = bytearray(GOOD)
            damaged[position] ^= 0xFF
            try:
                read(bytes(damaged))
            except SnapshotCorruptError:
                continue
            accepted.append(position)
        assert accepted == []

    def test_cut_at_random(self) -> None:
        dice = random.Random(20261124)  # noqa: S311
        for length in (dice.randrange(GZIP_HEADER, len(GOOD)) for _unused in range(200)):
            assert f"it was cut short at {length} bytes" in problem(GOOD[:length])

    def test_tar_cut_at_every_boundary(self) -> None:
        """The stream is whole, what is in it is not: as of a writer that lost its source."""
        tar = archives.tar(archives.members())
        for length in range(0, len(tar), 512):
            assert "it was cut short" in problem(archives.gzip(tar[:length]))

    def test_says_how_far_state_bin_came(self) -> None:
        reader = SnapshotReader()
        packer = zlib.compressobj(wbits=archives.GZIP)
        parts = archives.members()
        head = archives.tar(parts[:1], b"") + archives.tar_header("state.bin", STATE_SIZE) + good_state()[:1234]
        reader.feed(packer.compress(head) + packer.flush(zlib.Z_SYNC_FLUSH))
        with pytest.raises(
            SnapshotCorruptError, match=rf"in the middle of state\.bin after 1234 of {STATE_SIZE} bytes"
        ):
            reader.finish()


class TestFile:
    def test_message_names_the_path(self, tmp_path: Path) -> None:
        path = tmp_path / "vault.snap"
        path.write_bytes(GOOD[:500])
        with pytest.raises(
            SnapshotError, match=re.escape(f"{path} is not an intact snapshot: it ends in the middle of")
        ):
            archive.verify_file(path)

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            archive.verify_file(tmp_path / "vault.snap")

    @pytest.mark.parametrize("path", [".", "/dev/null"])
    def test_no_regular_file(self, path: str) -> None:
        with pytest.raises(OSError, match="Not a regular file"):
            archive.verify_file(path)


def zeros(packer: Any, mebibytes: int) -> bytes:
    block = bytes(2**20)
    return b"".join(packer.compress(block) for _unused in range(mebibytes))


def bomb(head: bytes, mebibytes: int = 64) -> bytes:
    """64 MiB of zeros behind head, in about 64 KiB of gzip."""
    packer = zlib.compressobj(wbits=archives.GZIP)
    return packer.compress(head) + zeros(packer, mebibytes) + packer.flush()


BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "from the start": (lambda: b"", "missing: the tar ends before"),
    "in meta.json": (lambda: archives.tar_header("meta.json", 2**26), "meta.json holds 67108864 bytes where at most"),
    "in the extended header": (lambda: meta_and(archives.tar_header("x", 2**26, b"x"), 1), "it holds a member 'x'"),
    "in state.bin": (
        lambda: meta_and(archives.tar_header("state.bin", 2**40), 2**40),
        "entry 1, at byte 0, does not begin",
    ),
    "in SHA256SUMS": (
        lambda: archives.tar(archives.members()[:2], b"") + archives.tar_header("SHA256SUMS", 2**26),
        "SHA256SUMS holds 67108864 bytes where at most",
    ),
    "in SHA256SUMS.sealed": (
        lambda: archives.tar(archives.members()[:3], b"") + archives.tar_header("SHA256SUMS.sealed", 2**26),
        "SHA256SUMS.sealed holds 67108864 bytes where at most",
    ),
    "after the tar": (lambda: archives.tar(archives.members()), "bytes follow the end of the tar"),
}


def peak_memory(step: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        step()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


class TestMemory:
    # Two inflated pieces (one being made), what was read, and small change.
    BOUND = 2 * archive.INFLATE_SIZE + 2 * archive.READ_SIZE + 2**19

    @pytest.mark.parametrize("place", BOMBS)
    def test_bomb_is_refused_early(self, place: str) -> None:
        head, message = BOMBS[place]
        data = bomb(head())
        reader = SnapshotReader()

        def feed() -> None:
            with pytest.raises(SnapshotCorruptError, match=re.escape(message)):
                reader.feed(data)

        assert peak_memory(feed) < self.BOUND
        # It stopped inflating where it saw it, not at the end.
        assert len(reader._gzip.unconsumed_tail) > len(data) // 2

    def test_value_that_inflates_a_thousandfold(self) -> None:
        size = 64 * 2**20
        prefix = b"\x0a\x06core/a\x12" + uvarint(size)
        state_size = len(uvarint(len(prefix) + size)) + len(prefix) + size
        head = meta_and(archives.tar_header("state.bin", state_size), state_size) + uvarint(len(prefix) + size) + prefix
        data = bomb(head)
        reader = SnapshotReader()
        assert peak_memory(lambda: reader.feed(data)) < self.BOUND
        with pytest.raises(
            SnapshotCorruptError, match=r"the tar in it ends in the middle of the padding of state\.bin"
        ):
            reader.finish()

    @pytest.mark.parametrize("mebibytes", [4, 64])
    def test_flat(self, tmp_path: Path, mebibytes: int) -> None:
        path = tmp_path / "vault.snap"
        archives.write_archive(path, archives.Entries(mebibytes * 2**20, 2**16, 2**19), level=0)
        assert path.stat().st_size > mebibytes * 2**20
        assert peak_memory(lambda: archive.verify_file(path)) < self.BOUND
