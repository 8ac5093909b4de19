# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one or more stores hold, the newest that was verified first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
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


def survey(stores: Sequence[Store]) -> tuple[list[Copy], list[dict[str, str]]]:
    """Every copy in every store, and the stores that could not be read. Raises StoreError when none could."""
    copies: list[Copy] = []
    unreachable = []
    for store in stores:
        try:
            copies += [Copy(store, entry) for entry in store.listing()]
        except StoreError as error:
            unreachable.append({"store": store.label, "problem": str(error)})
    if len(unreachable) == len(stores):
        told = " ".join(f"[{one['store']}] {one['problem']}" for one in unreachable)
        raise StoreError(f"No store could be read: {told or 'none is named'}")
    return copies, unreachable


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


def overview(stores: Sequence[Store], limit: int, now: datetime) -> dict[str, Any]:
    """What the stores hold.

    Args:
        limit: how many copies are described; each costs a request.

    Raises:
        StoreError: none of them can be read.
    """
    copies, unreachable = survey(stores)
    unproven = [copy for copy in copies if not copy.entry.has_manifest]
    unproven.sort(key=lambda copy: (copy.entry.taken_at, copy.entry.name), reverse=True)
    told = [_describe(copy) for copy in [*newest_first(copies, now), *unproven][: max(limit, 0)]]
    latest = next((_describe(copy) for copy, _manifest in good_ones(copies, now)), None)
    problems = {one["store"]: one["problem"] for one in unreachable}
    return {
        "latest": latest,
        "snapshots": sorted(told, key=lambda one: (not one["verified"], one["flagged"] is not None)),
        "stores": [_state(store, copies, problems.get(store.label)) for store in stores],
    }


def _state(store: Store, copies: list[Copy], problem: str | None) -> dict[str, Any]:
    entries = [copy.entry for copy in copies if copy.store is store]
    lacks = []
    if problem is None:
        try:
            lacks = store.lacks()
        except StoreError as error:
            lacks = [f"What it lacks could not be asked: {error}"]
    return {
        "store": store.label,
        "problem": problem,
        "count": len(entries),
        "unverified": sum(not entry.has_manifest for entry in entries),
        "size": sum(entry.size for entry in entries),
        "lacks": lacks,
    }


def _describe(copy: Copy) -> dict[str, Any]:
    problem, manifest = None, None
    try:
        manifest = copy.manifest() if copy.entry.has_manifest else None
    except StoreError as error:
        problem = str(error)
    return {
        "name": copy.entry.name,
        "store": copy.store.label,
        "taken_at": copy.entry.taken_at.isoformat(timespec="seconds"),
        "size": copy.entry.size,
        "verified": manifest is not None,
        "flagged": (manifest or {}).get("flagged"),
        "problem": problem,
        "manifest": manifest,
    }


def _index(copy: Copy) -> int | None:
    try:
        index = (copy.manifest() or {}).get("index")
    except StoreError:
        return None
    return index if isinstance(index, int) else None
