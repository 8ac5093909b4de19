# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One pass from the leader to every destination: downloaded once, verified as it streams, then proven where it lies.

Each destination has a thread and a short queue, so that memory is flat and one that fails takes nothing from the
others. None of them gives the snapshot its name before all of it was verified, and none has a manifest before the copy
in it was proven. Only a run that has succeeded deletes anything.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from ..files import StoreError
from ..vault.client import VaultClient
from .archive import SnapshotInfo, SnapshotReader
from .catalogue import Copy, good_ones, of_the_future
from .download import SNAPSHOT_API, file_name
from .errors import SnapshotCorruptError, SnapshotError
from .manifest import Origin, build_manifest
from .retention import Retention, plan
from .stores.base import Store, Stored

QUEUED = 8
"""Chunks (vault/client.py, CHUNK) that may wait for one destination: enough to keep it busy, 2 MiB."""

CANCEL_SECONDS = 20.0
"""How long a destination that was told to drop what it has is waited for."""

ABANDONED = timedelta(days=1)
"""What is half-written for longer than any run may take belongs to a run that was killed."""


@dataclass(frozen=True)
class Destination:
    """Where a copy is to lie.

    Attributes:
        required: whether the run fails without a verified copy in it.
        retention: None prunes nothing.
    """

    store: Store
    required: bool = True
    retention: Retention | None = None


class _NotKeptError(Exception):
    """Makes a store's writer drop what it has, where the snapshot turned out not to be one."""


_TOLD = ("verified", "proof", "problem", "kept", "pruned", "prune_problem")


class Leg:
    """One destination's part of one run.

    Attributes:
        problem: why there is no verified copy, None while nothing is wrong.
        warnings: what else an operator should know.
        verified: whether a proven copy with its manifest lies there.
        proof: ``checksum`` or ``read back``.
        kept: number of snapshots there, None where it could not be asked.
        pruned: names that this run has deleted.
        prune_problem: why it could not delete all that it should have.
    """

    def __init__(self, destination: Destination) -> None:
        self.destination = destination
        self.store = destination.store
        self.label = destination.store.label
        self.problem: str | None = None
        self.warnings: list[str] = []
        self.verified = False
        self.proof: str | None = None
        self.kept: int | None = None
        self.pruned: list[str] = []
        self.prune_problem: str | None = None
        self.entries: list[Stored] = []
        self.last_good: dict[str, Any] | None = None
        self.bug: Exception | None = None
        self._queue: queue.Queue[bytes | None] = queue.Queue(QUEUED)
        self._manifest: dict[str, Any] = {}
        self._read_back = False
        self._cancelled = False
        self._thread: threading.Thread | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a report."""
        return {
            "label": self.label,
            "required": self.destination.required,
            **{name: getattr(self, name) for name in _TOLD},
        }

    def look(self, now: datetime, clean: bool) -> None:
        """Reads what is there and clears up after killed runs. A destination that does not answer has failed."""
        try:
            self.entries = self.store.listing()
            copies = (Copy(self.store, entry) for entry in self.entries)
            self.last_good = next((manifest for _copy, manifest in good_ones(copies, now)), None)
        except StoreError as error:
            self.problem = str(error)
            return
        try:
            if clean:
                self.store.clean(ABANDONED)
        except StoreError as error:
            self.warnings.append(f"{self.label} could not be cleaned of what killed runs have left: {error}")
        self.kept = len(self.entries)
        future = of_the_future(self.entries, now)
        if future:
            self.warnings.append(
                f"{len(future)} snapshots in {self.label} are of the future, {future[0].name} among them: the clock of "
                f"this host ({now:%Y-%m-%dT%H:%M:%SZ}) is wrong, or that of the host that took them was. They are "
                "never pruned; correct the clock, and delete those whose time is wrong by hand."
            )

    def start(self, name: str, read_back: bool) -> None:
        """Begins to take the snapshot that `put` brings."""
        self._read_back = read_back
        self._thread = threading.Thread(target=self._run, args=(name,), name=f"store {self.label}", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether it still takes what is put."""
        return self._thread is not None and self._thread.is_alive()

    def put(self, chunk: bytes | None) -> None:
        """Hands the next bytes over, as soon as there is room; to one that has failed, nothing."""
        while self.alive:
            with suppress(queue.Full):
                self._queue.put(chunk, timeout=0.2)
                return

    def commit(self, manifest: dict[str, Any]) -> None:
        """All was put, and it is an intact snapshot: let it have its name, prove it, and write this beside it."""
        self._manifest = manifest
        self.put(None)

    def cancel(self) -> None:
        """Nothing of it is to be kept."""
        self._cancelled = True
        with suppress(queue.Empty):
            while True:
                self._queue.get_nowait()
        # Nobody else puts any more, so there is room.
        self._queue.put_nowait(None)

    def join(self, timeout: float | None = None) -> None:
        """Waits for its end, at most `timeout` seconds."""
        if self._thread is not None:
            self._thread.join(timeout)

    def prune(self, now: datetime) -> None:
        """Deletes what the retention lets go. That it cannot is no reason to call a proven copy a failure."""
        try:
            self.entries = self.store.listing()
            self.kept = len(self.entries)
            if self.destination.retention is None:
                return
            for entry in plan(self.entries, now, self.destination.retention, self._is_good):
                self.store.delete(entry.name)
                self.pruned.append(entry.name)
                self.kept -= 1
        except StoreError as error:
            self.prune_problem = str(error)
            self.warnings.append(f"{self.label} could not be pruned: {error}")

    def _is_good(self, entry: Stored) -> bool:
        manifest = self.store.read_manifest(entry.name)
        return manifest is not None and not manifest.get("flagged")

    def _run(self, name: str) -> None:
        try:
            with self.store.writer(name) as writer:
                for chunk in iter(self._next, None):
                    writer.write(chunk)
            self.proof = prove(self.store, name, self._manifest["sha256"], self._read_back)
            self.store.write_manifest(name, self._manifest)
            self.verified = True
        except _NotKeptError:
            pass
        except StoreError as error:
            self.problem = str(error)
        except Exception as error:  # noqa: BLE001 - raised by `deliver`, when the other copies are safe
            self.problem, self.bug = f"{self.label}: {type(error).__name__}: {error}", error

    def _next(self) -> bytes | None:
        chunk = self._queue.get()
        if self._cancelled:
            raise _NotKeptError
        return chunk


def prove(store: Store, name: str, sha256: str, read_back: bool) -> str:
    """Says how it is known that the store holds these bytes: ``checksum`` or ``read back``.

    Args:
        read_back: reads all of it even where the store itself can tell.

    Raises:
        StoreError: it does not hold them, or cannot be asked.
    """
    matches = None if read_back else store.checksum_matches(name, sha256)
    if matches:
        return "checksum"
    problem = "its checksum is another"
    if matches is None:
        reader = SnapshotReader()
        try:
            with store.reader(name) as chunks:
                for chunk in chunks:
                    reader.feed(chunk)
            if reader.finish().sha256 == sha256:
                return "read back"
        except SnapshotError as error:
            problem = str(error)
    raise StoreError(
        f"What {store.label} holds as {name} is not what was sent there: {problem}. It has no manifest, so it is never "
        "offered as a snapshot. Suspect the disk, or what is between here and there, and run this again."
    )


def look(legs: Sequence[Leg], now: datetime, clean: bool = True) -> None:
    """Reads what every destination holds, side by side, after clearing up in it."""
    with ThreadPoolExecutor(max_workers=len(legs)) as pool:
        for _done in pool.map(lambda leg: leg.look(now, clean), legs):
            pass


@dataclass(frozen=True)
class Taken:
    """A snapshot that was verified as it arrived; whether it lies anywhere the legs tell."""

    info: SnapshotInfo
    manifest: dict[str, Any]

    @property
    def flagged(self) -> str | None:
        """Why it is not to be trusted."""
        reason: str | None = self.manifest["flagged"]
        return reason


def deliver(
    leader: VaultClient,
    origin: Origin,
    legs: Sequence[Leg],
    taken_at: datetime,
    first_byte_timeout: float,
    judge: Callable[[SnapshotInfo], str | None],
    read_back: bool,
) -> Taken:
    """Takes a snapshot into every destination that has no problem yet.

    Args:
        taken_at: UTC; a second or more is added where that name is taken already.
        first_byte_timeout: seconds; the server reads its whole database before it sends the first byte.
        judge: why an intact snapshot is to be flagged, None where it is not.
        read_back: as for `prove`.

    Raises:
        VaultError: the leader cannot be asked, or the stream broke off.
        SnapshotCorruptError: what came is no intact snapshot.
        StoreError: no destination takes it (any more).
        In each case nothing was kept anywhere.
    """
    used = {entry.name for leg in legs for entry in leg.entries}
    taken_at = taken_at.astimezone(timezone.utc).replace(microsecond=0)
    while file_name(origin, taken_at) in used:
        taken_at += timedelta(seconds=1)
    name = file_name(origin, taken_at)
    running = [leg for leg in legs if leg.problem is None]
    if not running:
        raise StoreError(f"No destination can take a snapshot. {problems(legs)}")
    for leg in running:
        leg.start(name, read_back)
    try:
        info = _stream(leader, running, first_byte_timeout)
        manifest = build_manifest(name, info, origin, taken_at, judge(info))
        for leg in running:
            leg.commit(manifest)
        for leg in running:
            leg.join()
    except BaseException:
        for leg in running:
            leg.cancel()
        for leg in running:
            # One that hangs must not keep the run from being recorded.
            leg.join(CANCEL_SECONDS)
        raise
    for leg in running:
        if leg.bug is not None:
            raise leg.bug
    return Taken(info, manifest)


def _stream(leader: VaultClient, legs: Sequence[Leg], first_byte_timeout: float) -> SnapshotInfo:
    reader = SnapshotReader()
    try:
        with leader.download(SNAPSHOT_API, first_byte_timeout) as chunks:
            for chunk in chunks:
                reader.feed(chunk)
                for leg in legs:
                    leg.put(chunk)
                if not any(leg.alive for leg in legs):
                    raise StoreError(f"No destination takes the snapshot any more. {problems(legs)}")
        return reader.finish()
    except SnapshotCorruptError as error:
        raise SnapshotCorruptError(
            f"The snapshot from {leader.connection.url} did not arrive whole: {error}. Nothing of it was kept, and "
            "what was stored before is untouched. Look at the leader's log for this moment, then run this again."
        ) from error


def problems(legs: Sequence[Leg]) -> str:
    """What is wrong with each of them."""
    return " ".join(f"[{leg.label}] {leg.problem}" for leg in legs if leg.problem)


def why_flagged(
    info: SnapshotInfo, origin: Origin, last: Mapping[str, Any] | None, max_key_loss_percent: float
) -> str | None:
    """Why a snapshot is not taken for the successor of the last good one, None where it is or there is none.

    Args:
        last: manifest of the last good one.
        max_key_loss_percent: so much of the number of keys may go from one to the next.
    """
    if last is None:
        return None
    reasons = []
    index, keys = last.get("index"), sum((last.get("key_counts") or {}).values())
    now_keys = sum(info.key_counts.values())
    if isinstance(index, int) and info.index < index:
        reasons.append(f"its Raft index went back from {index} to {info.index}")
    if now_keys < keys * (1 - max_key_loss_percent / 100):
        reasons.append(f"it has {now_keys} keys where there were {keys} (more than {max_key_loss_percent:g}% less)")
    if not reasons:
        return None
    if last.get("cluster_id") != origin.cluster_id:
        reasons.append(
            f"it is of another cluster ({origin.cluster_id}, before {last.get('cluster_id')}), so Vault was "
            "initialised anew, or two clusters share this place and need a prefix each"
        )
    return f"compared with {last.get('name')}, {', and '.join(reasons)}"
