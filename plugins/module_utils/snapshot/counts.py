# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Walks the storage entries of a snapshot's state.bin and counts their keys.

Source of the format: Vault's ``physical/raft/fsm.go`` (``writeTo``) and ``physical/raft/varint.go``. Every entry is a
uvarint length and a protobuf ``StorageEntry`` with ``string key = 1`` and ``bytes value = 2``; an empty value is left
out. Other fields are never written; one that follows the value is passed over. Keys are readable, values are encrypted
by Vault's barrier.
"""

from __future__ import annotations

from .errors import SnapshotCorruptError

# physical/raft/snapshot.go reads with NewDelimitedReader(file, math.MaxInt32); bolt's MaxKeySize bounds the key.
MAX_ENTRY = 2**31 - 1
MAX_KEY = 32768
MAX_PREFIXES = 256
MAX_PREFIX_LENGTH = 128
OTHER = "other"

_KEY_TAG = 0x0A
_VALUE_TAG = 0x12


class EntryCounter:
    """Takes state.bin piece by piece and counts its entries by the first part of their keys.

    A prefix is a key's first path segment, under ``sys`` the first two (``core``, ``logical``, ``sys/token``). At most
    ``MAX_PREFIXES`` are told apart, the rest counts as ``other``. Memory is bounded by the longest key allowed.

    Args:
        size: length of state.bin in bytes, so that an entry that cannot fit is found where it starts.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._base = 0
        self._skip = 0
        self._carry = b""
        self._counts: dict[bytes, int] = {}
        self._other = 0

    @property
    def entries(self) -> int:
        """How many entries were seen so far."""
        return sum(self._counts.values()) + self._other

    def feed(self, data: bytes) -> None:
        """Take the next bytes of state.bin.

        Raises:
            SnapshotCorruptError: an entry is malformed or reaches beyond the end of state.bin.
        """
        if self._skip >= len(data):
            self._skip -= len(data)
            self._base += len(data)
            return
        if self._carry:
            data = self._carry + data
            self._carry = b""
        counts = self._counts
        length = len(data)
        room = self._size - self._base
        start = pos = self._skip
        # This loop runs once per entry, half a million times in 512 MiB of small secrets: hence one function, with
        # lengths of one and two bytes decoded in place and the end of the data found by IndexError.
        try:
            while pos < length:
                start = pos
                size = data[pos]
                pos += 1
                if size > 127:
                    high = data[pos]
                    if high < 128:
                        size += (high << 7) - 128
                        pos += 1
                    else:
                        size, pos = self._uvarint(data, start, start)
                stop = pos + size
                if stop > room:
                    raise self._malformed(start, f"is {size} bytes long, more than is left of state.bin")
                if data[pos] != _KEY_TAG:
                    raise self._malformed(start, "does not begin with a key")
                key_length = data[pos + 1]
                pos += 2
                if key_length > 127:
                    key_length, pos = self._uvarint(data, pos - 1, start)
                key_end = pos + key_length
                if not 0 < key_length <= MAX_KEY or key_end > stop:
                    raise self._malformed(start, f"has a key of {key_length} bytes, which cannot be")
                if key_end < stop:
                    value_length = data[key_end + 1]
                    value = key_end + 2
                    if value_length > 127:
                        high = data[value]
                        if high < 128:
                            value_length += (high << 7) - 128
                            value += 1
                        else:
                            value_length, value = self._uvarint(data, key_end + 1, start)
                    if data[key_end] != _VALUE_TAG or value + value_length > stop:
                        raise self._malformed(start, "is not a key and a value that fill it")
                elif key_end > length:
                    raise IndexError  # noqa: TRY301
                key = data[pos:key_end]
                if not key.isascii():
                    self._check_text(key, start)
                head = key.partition(b"/")[0]
                if head == b"sys":
                    head = b"/".join(key.split(b"/", 2)[:2])
                if head in counts:
                    counts[head] += 1
                else:
                    self._new_prefix(head)
                pos = stop
        except IndexError:
            self._carry = data[start:]
            self._skip = 0
            self._base += start
        else:
            self._skip = pos - length
            self._base += length

    def finish(self) -> dict[str, int]:
        """Return the number of keys by prefix, sorted by prefix.

        Raises:
            SnapshotCorruptError: state.bin ends within an entry, or holds none.
        """
        if self._carry:
            raise self._malformed(0, "is cut off by the end of state.bin")
        if not self.entries:
            raise SnapshotCorruptError("state.bin holds no entries: restored, it would leave an empty Vault")
        counts = {prefix.decode(): number for prefix, number in self._counts.items()}
        if self._other:
            counts[OTHER] = counts.get(OTHER, 0) + self._other
        return dict(sorted(counts.items()))

    def _new_prefix(self, prefix: bytes) -> None:
        if len(self._counts) < MAX_PREFIXES and len(prefix) <= MAX_PREFIX_LENGTH:
            self._counts[prefix] = 1
        else:
            self._other += 1

    def _uvarint(self, data: bytes, pos: int, start: int) -> tuple[int, int]:
        """Decode the number at pos; return it and the position behind it."""
        value = shift = 0
        while shift < 35:
            byte = data[pos]
            pos += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if value > MAX_ENTRY:
                    break
                return value, pos
            shift += 7
        raise self._malformed(start, f"has a length over {MAX_ENTRY} bytes")

    def _check_text(self, key: bytes, start: int) -> None:
        try:
            key.decode()
        except UnicodeDecodeError:
            raise self._malformed(start, "has a key that is no UTF-8 text") from None

    def _malformed(self, start: int, what: str) -> SnapshotCorruptError:
        return SnapshotCorruptError(
            f"state.bin is damaged: entry {self.entries + 1}, at byte {self._base + start}, {what}"
        )
