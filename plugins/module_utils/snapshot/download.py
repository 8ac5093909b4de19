# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes a snapshot: from the leader into a file, verified while it arrives."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from ..files import StoreError, new_file
from ..vault.client import VaultClient
from ..vault.health import read_health
from .archive import SnapshotInfo, SnapshotReader
from .errors import SnapshotCorruptError, SnapshotError
from .library import newest_verified
from .manifest import Origin, read_manifest, retire_manifest, verify, write_manifest

SNAPSHOT_API = "sys/storage/raft/snapshot"


@dataclass(frozen=True)
class Taken:
    """A snapshot that lies, verified, in a file.

    Attributes:
        path: of the file.
        info: as read from it.
        manifest: what was written beside it.
        taken_at: when the leader was asked for it, UTC.
        duration: seconds from the request to the synced file; 0 for one that was kept.
        kept: True when a snapshot that was young enough was there already.
    """

    path: Path
    info: SnapshotInfo
    manifest: dict[str, Any]
    taken_at: datetime
    duration: float
    kept: bool


def origin_of(leader: VaultClient) -> Origin:
    """What the leader says of its cluster."""
    health = read_health(leader)
    autopilot = health.autopilot or {}
    # Autopilot tells the version that the listener may redact.
    versions = [one["version"] for one in autopilot.get("servers", []) if one["id"] == autopilot["leader"]]
    version = health.version or next(iter(versions), None)
    return Origin(
        health.cluster_name, health.cluster_id, version, (health.seal or {}).get("type"), leader.connection.url
    )


def file_name(origin: Origin, taken_at: datetime) -> str:
    """A snapshot's name in a folder: cluster, then time, so that a listing is in order."""
    cluster = "".join(c if c.isalnum() or c in "-_" else "-" for c in origin.cluster_name or "vault")
    return f"{cluster}-{taken_at:%Y%m%dT%H%M%SZ}.snap"


def find_young(dest: Path, max_age: timedelta, now: datetime) -> Taken | None:
    """The verified snapshot at `dest`, or the newest in that folder, when it is younger than max_age; else None."""
    if not dest.exists():
        return None
    try:
        choice = newest_verified(str(dest), verify=verify)
        path = Path(choice.path)
        manifest = read_manifest(path)
    except (SnapshotError, StoreError):
        return None
    if now - choice.taken_at > max_age:
        return None
    return Taken(path, choice.info, manifest or {}, choice.taken_at, 0.0, True)


def take(
    client: VaultClient,
    dest: Path,
    first_byte_timeout: float,
    now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    monotonic: Callable[[], float] = time.monotonic,
) -> Taken:
    """Streams a snapshot from the leader to `dest`; only a complete and verified one ever gets that name.

    Args:
        client: logged in at any node of the cluster.
        dest: file to replace, or a folder in which it gets a name of its own.
        first_byte_timeout: seconds; the server reads its whole database before it sends the first byte.

    Raises:
        VaultError: the leader cannot be found or asked, or the stream broke off.
        SnapshotCorruptError: the stream ended early, or is not what it should be.
        StoreError: it cannot be written.
    """
    leader = client.at_leader()
    origin = origin_of(leader)
    started, taken_at = monotonic(), now()
    path = dest / file_name(origin, taken_at) if dest.is_dir() else dest
    reader = SnapshotReader()
    try:
        with leader.download(SNAPSHOT_API, first_byte_timeout) as chunks, new_file(path) as file:
            for chunk in chunks:
                file.write(chunk)
                reader.feed(chunk)
            info = reader.finish()
            retire_manifest(path, file)
    except SnapshotCorruptError as error:
        raise SnapshotCorruptError(
            f"The snapshot from {leader.connection.url} did not arrive whole: {error}. Nothing was kept; a snapshot "
            "that was there before is untouched. Look at the leader's log for this moment, then run this again."
        ) from error
    try:
        manifest = write_manifest(path, info, origin, taken_at)
    except StoreError as error:
        raise StoreError(f"{path} is there and verified, but its manifest is not: {error}") from error
    return Taken(path, info, manifest, taken_at, monotonic() - started, False)
