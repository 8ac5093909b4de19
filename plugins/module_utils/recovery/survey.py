# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gathers what the decision of `preflight` rests on: the nodes, the snapshot, and what an earlier run has left."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ..files import StoreError, explain, read_json
from ..vault.client import VaultClient
from ..vault.cluster import read_cluster
from ..vault.generate_root import is_allowed
from ..vault.health import NodeHealth
from ..vault.operator import is_valid
from .errors import RecoveryError
from .journal import INIT, Journal
from .origin import NOT_CHECKED
from .preflight import INITIALIZE, Situation, plan


def survey(
    clients: Sequence[VaultClient],
    directory: Path,
    snapshot: Mapping[str, Any],
    confirm: str,
    free: Mapping[str, int],
    settle_timeout: float,
    writes: bool = True,
    sleep: Callable[[float], None] = time.sleep,
    monotonic: Callable[[], float] = time.monotonic,
    now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    origin: tuple[str, str] = (NOT_CHECKED, "the origin was not asked"),
    proof_by_shares: bool = False,
    replace_by_shares: bool = False,
    generate_root_enabled: bool = False,
) -> dict[str, Any]:
    """The plan of the recovery, as `Plan.to_dict`, and where the temporary cluster's keys lie.

    Args:
        clients: one for each node, not logged in.
        free: bytes free for Vault's data, by host, as far as known.
        settle_timeout: seconds to wait for a leader where nodes are initialised and unsealed.
        origin: whether the snapshot's origin is alive, as `origin.judge` says.
        proof_by_shares, replace_by_shares, generate_root_enabled: see `Situation`.
        writes: False leaves keys of a temporary cluster that is gone where they are.

    Raises:
        RecoveryError: the recovery is refused; every reason is in the message.
        VaultConfigError: an address or the CA is wrong.
        StoreError: what an earlier run has left is damaged.
    """
    journal = Journal.load(directory)
    # A run that writes has set such a one aside at its start.
    if journal and not writes and journal.is_abandoned(now()):
        journal = None
    restore = journal.restore if journal else None
    init_file = directory / INIT
    # Keys that no run of this recovery made are another cluster's, perhaps of one that is alive.
    ours = bool(journal and (journal.data.get("initializing") or journal.data.get("temporary_cluster_id")))
    root_token = _root_token(init_file) if ours else None
    nodes = _settled(clients, settle_timeout if root_token or restore else 0.0, sleep, monotonic)
    own_token = None
    leader = next((client for client, node in zip(clients, nodes) if node.http_status == 200), None)
    if root_token and leader is not None:
        own_token = is_valid(VaultClient(leader.connection, root_token))
    decision = plan(
        Situation(
            nodes=[node.to_dict() for node in nodes],
            snapshot=snapshot,
            own_token=own_token,
            has_init_file=root_token is not None,
            lost_init=ours and root_token is None and init_file.exists(),
            restore=restore,
            temporary_cluster_id=journal.data.get("temporary_cluster_id") if journal else None,
            restored_cluster_id=journal.data.get("restored_cluster_id") if journal else None,
            restored_sha256=(journal.data.get("snapshot") or {}).get("sha256") if journal and restore else None,
            confirm=confirm,
            free=free,
            origin=origin,
            proof_by_shares=proof_by_shares,
            replace_by_shares=replace_by_shares,
            generate_root=is_allowed(leader) if leader and (proof_by_shares or replace_by_shares) else None,
            generate_root_enabled=generate_root_enabled,
        )
    )
    if decision.problems:
        raise RecoveryError(
            "The recovery is refused, this run has changed nothing:\n- " + "\n- ".join(decision.problems)
        )
    if decision.action == INITIALIZE and writes:
        if root_token or (not ours and init_file.exists()):
            _set_aside(init_file)
        if journal and journal.restore:
            # All of it was of nodes that are gone: a run that follows must not take these for restored.
            journal.note(
                restore=None,
                snapshot=None,
                readable_at=None,
                secrets=[],
                redundant=None,
                temporary_cluster_id=None,
                restored_cluster_id=None,
                initializing=None,
            )
    return {"changed": False, **decision.to_dict(), "init_file": str(init_file)}


def _root_token(init_file: Path) -> str | None:
    """The temporary cluster's root token; None where none was written, or a killed run only made room for it."""
    try:
        if not init_file.read_text(encoding="utf-8").strip():
            return None
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"Cannot read {init_file}: {explain(error)}.") from error
    return str(read_json(init_file).get("root_token") or "") or None


def _settled(
    clients: Sequence[VaultClient],
    timeout: float,
    sleep: Callable[[float], None],
    monotonic: Callable[[], float],
) -> list[NodeHealth]:
    """The nodes' health, once those that are unsealed have a leader or the time is over."""
    deadline = monotonic() + timeout
    while True:
        nodes = read_cluster(clients).nodes
        unsealed = [node for node in nodes if node.initialized and not node.sealed]
        if not unsealed or any(node.http_status == 200 for node in unsealed) or monotonic() >= deadline:
            return nodes
        sleep(0.5)


def _set_aside(init_file: Path) -> None:
    """Keys of a temporary cluster that is gone are worthless, but nobody deletes keys on a guess."""
    number = 1
    while (aside := init_file.with_suffix(f".{number}.json")).exists():
        number += 1
    init_file.rename(aside)
