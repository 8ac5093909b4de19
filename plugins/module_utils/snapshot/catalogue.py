# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one or more stores hold, the newest that was verified first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from ..files import StoreError
from .stores.base import Store, Stored

CLOCK_SLACK = timedelta(days=1)
"""What calls itself younger than now by more than this is of the future: a clock was wrong."""

DAMAGED = 3
"""So many manifests that cannot be read, one after the other, are no accident of theirs."""


@dataclass(frozen=True)
class Copy:
    """A snapshot in one of the stores."""

    store: Store
    entry: Stored

    def manifest(self) -> dict[str, Any] | None:
        """What lies beside it. Raises StoreError."""
        return self.store.read_manifest(self.entry.name)


def of_the_future(entries: Iterable[Stored], now: datetime) -> list[Stored]:
    """Those whose name tells a time that has not come yet."""
    return [one for one in entries if one.taken_at > now + CLOCK_SLACK]


def newest_first(copies: Iterable[Copy], now: datetime) -> list[Copy]:
    """The verified ones of these copies, the newest first; copies of one snapshot in the order given.

    Where some are of the future and some are not, either they were taken under a wrong clock or ours is wrong. Raft's
    index, which never goes back while a cluster lives, tells: one of the future is the newest only with a higher index
    than the newest of the others has, and comes last otherwise.
    """
    verified = [copy for copy in copies if copy.entry.has_manifest]
    verified.sort(key=lambda copy: (copy.entry.taken_at, copy.entry.name), reverse=True)
    future = [copy for copy in verified if copy.entry.taken_at > now + CLOCK_SLACK]
    present = verified[len(future) :]
    if not future or not present:
        return verified
    index = next((known for known in map(_index, present) if known is not None), -1)
    ahead = [copy for copy in future if (_index(copy) or 0) > index]
    return [*ahead, *present, *(copy for copy in future if copy not in ahead)]


def good_ones(copies: Iterable[Copy], now: datetime) -> Iterator[tuple[Copy, dict[str, Any]]]:
    """The verified and unflagged ones with their manifests, newest first; a manifest is read when its turn comes.

    Raises:
        StoreError: DAMAGED manifests in a row cannot be read.
    """
    failed = 0
    for copy in newest_first(copies, now):
        try:
            manifest = copy.manifest()
        except StoreError:
            failed += 1
            if failed >= DAMAGED:
                raise
            continue
        failed = 0
        if manifest is not None and not manifest.get("flagged"):
            yield copy, manifest


def _index(copy: Copy) -> int | None:
    try:
        index = (copy.manifest() or {}).get("index")
    except StoreError:
        return None
    return index if isinstance(index, int) else None
