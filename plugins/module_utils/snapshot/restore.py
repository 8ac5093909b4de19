# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restores a snapshot: verified first, sent to the leader once, then watched until the node has reloaded."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..vault.client import VaultClient
from ..vault.errors import VaultApiError, VaultConfigError, VaultSealedError, VaultUnreachableError
from ..vault.health import NodeHealth, read_health
from .archive import SnapshotInfo
from .download import SNAPSHOT_API
from .manifest import verify


@dataclass(frozen=True)
class Restored:
    """What a restore did.

    Attributes:
        leader: address the snapshot was sent to.
        info: the snapshot.
        cluster_id: of the restored cluster, None where the leader sealed itself.
        sealed: the leader sealed itself, as it does when the snapshot is of other Shamir keys: unseal every node now,
            with the keys of the snapshot's origin.
        seconds: of each step: verify, upload, reload.
    """

    leader: str
    info: SnapshotInfo
    sealed: bool
    seconds: dict[str, float]
    cluster_id: str | None = None


def inspect_target(client: VaultClient, cluster_id: str | None = None, nodes: Sequence[VaultClient] = ()) -> NodeHealth:
    """Return the leader's state, if it is one that a snapshot may be sent to.

    Args:
        cluster_id: of the only cluster whose data may be replaced. None accepts every one.
        nodes: all nodes of the cluster. The leader is the one of them that leads. Without nodes it is at the address
            that the client's node names, which the configuration of a copy may have taken over from its origin.

    Raises:
        VaultConfigError: it is another cluster, or does not store its data in Raft, or none of the nodes leads.
        VaultError: it is no leader, among others.
    """
    leader = _leader(client, nodes) if nodes else client.at_leader()
    health = read_health(leader)
    if health.http_status != 200:
        raise VaultUnreachableError(
            f"{leader.connection.url} should be the leader but is {health.state or health.problem}. Wait until the "
            "cluster has elected one, then run this again."
        )
    storage = (health.seal or {}).get("storage_type")
    if storage not in (None, "raft"):
        raise VaultConfigError(
            f"{leader.connection.url} stores its data in '{storage}': a Raft snapshot cannot be restored there."
        )
    if cluster_id is not None and health.cluster_id != cluster_id:
        raise VaultConfigError(
            f"Cannot restore: the leader {leader.connection.url} is in the cluster with the ID "
            f"{health.cluster_id or 'not reported'} (name '{health.cluster_name or 'not reported'}'), and only the "
            f"data of the cluster {cluster_id} may be replaced. No snapshot was sent, no data was changed. Find out "
            "how the node joined that cluster (retry_join in its configuration, its data folder) before the next run."
        )
    return health


def _leader(client: VaultClient, nodes: Sequence[VaultClient]) -> VaultClient:
    for node in nodes:
        if read_health(node).http_status == 200:
            return client.at(node.connection.url)
    raise VaultConfigError(
        f"Cannot restore: none of {', '.join(node.connection.url for node in nodes)} leads its cluster. The leader "
        f"is {client.leader_address()}, as {client.connection.url} says. No snapshot was sent. Name all nodes of the "
        "cluster in nodes. If that address is of another cluster, correct api_addr in the configuration of the leader."
    )


def restore(
    client: VaultClient,
    path: Path,
    force: bool,
    upload_timeout: float,
    reload_timeout: float,
    sleep: Callable[[float], None] = time.sleep,
    monotonic: Callable[[], float] = time.monotonic,
    cluster_id: str | None = None,
    nodes: Sequence[VaultClient] = (),
    check: Callable[[], None] = lambda: None,
) -> Restored:
    """Replace all data of the cluster by the snapshot's. The snapshot is sent once, and never again unattended.

    Args:
        cluster_id: of the only cluster whose data may be replaced, checked after the file and right before it is sent.
        nodes: see `inspect_target`.
        check: called right before the snapshot is sent; what it raises keeps it from being sent.
        force: skips the check that the snapshot is of the same seal, for one of another cluster.
        upload_timeout: seconds to wait for the answer after the last byte was sent.
        reload_timeout: seconds to wait for the leader to have reloaded.

    Raises:
        SnapshotError: the file does not verify; nothing was sent.
        VaultError: before, during or after the upload; the message says which.
    """
    moments = [monotonic()]
    info = verify(path)
    moments.append(monotonic())
    before = inspect_target(client, cluster_id, nodes)
    leader = client.at(before.url)
    # The restore replaces the token store: from then on this token is nobody's.
    watcher = VaultClient(leader.connection)
    check()
    try:
        with path.open("rb") as file:
            leader.upload(SNAPSHOT_API + ("-force" if force else ""), file, upload_timeout)
    except VaultApiError as error:
        hint = ""
        if "snapshot-force" in " ".join(error.errors):
            hint = " If it is meant to come from another cluster or seal, set force."
        raise VaultApiError(f"The leader refused the snapshot: {error}{hint}", error.status, error.errors) from error
    except VaultUnreachableError as error:
        raise VaultUnreachableError(
            f"The upload of {path} ({info.size / 1e6:.0f} MB) to {leader.connection.url} ended after "
            f"{monotonic() - moments[1]:.1f} s: {error} Vault cuts a request that takes longer than the listener's "
            "http_read_timeout, 30 s unless configured (vault_server_http_read_timeout): if it ended after about that "
            "time, raise it, and restart Vault. Whether the snapshot was taken over is not known: wait for a leader, "
            "read a secret that only the snapshot has, and restore again if it is missing."
        ) from error
    moments.append(monotonic())
    # Vault lets go of its answer and takes the lock under which it applies the snapshot at the same moment; on a busy
    # cluster the index alone would not tell.
    sleep(0.2)
    sealed = _wait_reloaded(watcher, before, reload_timeout, sleep, monotonic)
    moments.append(monotonic())
    seconds = {
        step: round(end - start, 3)
        for step, start, end in zip(("verify", "upload", "reload"), moments[:-1], moments[1:])
    }
    restored_id = None if sealed else read_health(watcher).cluster_id
    return Restored(leader.connection.url, info, sealed, seconds, restored_id)


def _wait_reloaded(
    leader: VaultClient,
    before: NodeHealth,
    timeout: float,
    sleep: Callable[[float], None],
    monotonic: Callable[[], float],
) -> bool:
    """Waits until the restored state is in force; True when the node sealed itself over it.

    The POST returns before the snapshot is applied. Raft gives a restored snapshot an index above all others
    (hashicorp/raft, restoreUserSnapshot), and while it is applied sys/leader waits for the same lock.
    """
    deadline = monotonic() + timeout
    moved_to: str | None = None
    problem = "it did not answer"
    while True:
        now = read_health(leader)
        moved_to = None
        if now.removed_from_cluster:
            raise VaultSealedError(
                f"{leader.connection.url} took the snapshot, and reports that it was removed from its cluster "
                f"(sys/health: {now.http_status}). So it reached the leader that the snapshot names: the snapshot's "
                "origin is alive. Isolate the nodes from the origin, stop Vault on them, empty their data folders, "
                "start Vault, and run this again."
            )
        if now.sealed and (before.seal or {}).get("type") != "shamir":
            raise VaultSealedError(
                f"{leader.connection.url} took the snapshot and sealed itself. Its API does not report why "
                f"(sys/health: {now.http_status}, seal type {(now.seal or {}).get('type')}). The reason is in the log "
                "of Vault on that host. Two known ones: the KMS does not decrypt what the snapshot was sealed with "
                "(another key, or no permission), or the KMS is unreachable."
            )
        if now.sealed:
            return True
        if not now.reachable:
            problem = (now.problem or problem).rstrip(".")
        elif now.http_status == 200 and (now.raft_applied_index is None or _passed(now, before)):
            return False
        else:
            problem = f"it is {now.state}, raft index {now.raft_applied_index}"
            # While it reloads it may name itself and yet not say that it leads.
            elsewhere = not now.is_leader and now.leader_address not in (before.leader_address, leader.connection.url)
            moved_to = now.leader_address if elsewhere else None
        if monotonic() >= deadline or moved_to:
            break
        sleep(0.1)
    if moved_to:
        raise VaultUnreachableError(
            f"The leadership went from {leader.connection.url} to {moved_to} while the snapshot was being applied: "
            "whether the new leader has it is not known. Read a secret that only the snapshot has, and restore again "
            "if it is missing."
        )
    raise VaultUnreachableError(
        f"{leader.connection.url} took the snapshot but has not reloaded after {timeout:g} s: {problem}. Look at its "
        "log; it seals itself when it cannot use the snapshot. Do not restore again before you know."
    )


def _passed(now: NodeHealth, before: NodeHealth) -> bool:
    return now.raft_applied_index is not None and now.raft_applied_index > (before.raft_applied_index or 0)
