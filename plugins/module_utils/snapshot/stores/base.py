# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every place that keeps snapshots can do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from ...files import StoreError
from ..library import SUFFIX

MANIFEST_SUFFIX = ".json"
LONGEST_NAME = 200
"""Bytes of a snapshot's name. A file system takes 255, and its manifest and unfinished files have longer names."""


@dataclass(frozen=True)
class Stored:
    """A snapshot as a listing shows it.

    Attributes:
        name: ``<cluster>-<YYYYmmddTHHMMSSZ>.snap``, without folder or prefix.
        taken_at: UTC, from the name; where that tells nothing, when it was stored.
        size: bytes, of the archive.
        has_manifest: whether ``<name>.json`` lies beside it. A backup writes that last, once the copy is proven: a
            snapshot without one was never verified in this place.
    """

    name: str
    taken_at: datetime
    size: int
    has_manifest: bool


class Writer(Protocol):
    """Takes a snapshot that is on its way into a store."""

    def write(self, data: bytes) -> None:
        """The next bytes. Raises StoreError."""


class Store(Protocol):
    """A place that keeps snapshots. Every method raises StoreError when the place cannot be reached or refuses.

    Attributes:
        label: how messages, metrics and results call it: ``/var/backups/vault``, ``s3://bucket/prefix``.
    """

    label: str

    def writer(self, name: str) -> AbstractContextManager[Writer]:
        """What was written is there, under its name and as a whole, once the block ends well; never otherwise.

        A name that is there already is refused, at the start of the block: no good snapshot is ever overwritten.
        """

    def listing(self) -> list[Stored]:
        """Every snapshot, newest first. What is half-written is not in it."""

    def reader(self, name: str) -> AbstractContextManager[Iterator[bytes]]:
        """The bytes of a snapshot, streamed."""

    def checksum_matches(self, name: str, sha256: str) -> bool | None:
        """Whether what is stored is what this process has written, told by the place itself; None where it cannot."""

    def write_manifest(self, name: str, manifest: Mapping[str, Any]) -> None:
        """Writes ``<name>.json``."""

    def read_manifest(self, name: str) -> dict[str, Any] | None:
        """What ``<name>.json`` says, None where there is none."""

    def delete(self, name: str) -> None:
        """Deletes a snapshot and its manifest, the manifest first: half-deleted, it counts as not verified."""

    def clean(self, older_than: timedelta) -> list[str]:
        """Removes what killed runs have left half-written, and says what that was."""

    def lacks(self) -> list[str]:
        """What an operator would want of this place and it does not have, a sentence each; empty when nothing."""


def is_name(name: str) -> bool:
    """Whether a snapshot may be called so."""
    return name.endswith(SUFFIX) and not name.startswith(".") and "/" not in name and name.isprintable()


def check_name(name: str) -> None:
    """Raises StoreError when this is no snapshot's name: it must not lead out of its place, nor be hidden there."""
    if not is_name(name):
        raise StoreError(
            f"{name!r} is no name of a snapshot: it ends in {SUFFIX}, has no slash and does not start with a dot."
        )
    if len(name.encode()) > LONGEST_NAME:
        raise StoreError(
            f"{name!r} is too long for the name of a snapshot: a file of this name needs at most {LONGEST_NAME} bytes, "
            "as its manifest has a longer one. Rename it, or use another snapshot."
        )


def newest_first(found: Iterable[Stored]) -> list[Stored]:
    """In the order of a listing; of two that were taken in the same second, the name decides."""
    return sorted(found, key=lambda stored: (stored.taken_at, stored.name), reverse=True)
