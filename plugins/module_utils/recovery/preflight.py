# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides before anything is touched: may this cluster be recovered, and with which steps?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ..snapshot.manifest import known_seal_type
from ..vault import generate_root
from ..vault.versions import numbers
from .origin import FAILED, NOT_CHECKED, PASSED

INITIALIZE, CONTINUE, REPLACE, VERIFY = "initialize", "continue", "replace", "verify"
"""What to do: initialise fresh nodes and restore; go on with a cluster that this recovery has initialised; replace a
cluster that holds data; only look, the restore being done."""

ROOM = 3
"""The restored database, the uploaded snapshot and Raft's own copy of it lie side by side for a while."""

NOBODY = "no node answers"
UNKNOWN_SEAL = "an auto-unseal"

STEPS = {
    INITIALIZE: ["initialise a temporary cluster on the fresh nodes"],
    CONTINUE: ["go on with the temporary cluster that an earlier run has initialised"],
    REPLACE: ["take a safety snapshot of what the cluster holds now"],
    VERIFY: ["not restore again: an earlier run has (to restore once more, move its journal.json aside first)"],
}


@dataclass(frozen=True)
class Situation:
    """All that the decision rests on.

    Attributes:
        nodes: as `NodeHealth.to_dict` gives them.
        snapshot: as `describe` of the snapshot package gives it.
        own_token: whether the temporary cluster's root token is on file (False: none), and valid; None when nobody
            could be asked.
        has_init_file: whether the temporary cluster's keys are on file.
        lost_init: whether room for these keys was made on file, and they never came.
        restore: how far an earlier run's restore got: ``begun``, ``done`` or None.
        temporary_cluster_id: of the cluster that an earlier run has initialized, None where none was noted.
        restored_cluster_id: of the cluster right after an earlier run's restore, None where none was noted.
        restored_sha256: of the snapshot of that restore.
        confirm: the cluster name that the operator has typed.
        free: bytes free for Vault's data, by node name; empty where it is not known.
        origin: whether the snapshot's origin is alive, as `origin.judge` says.
        proof_by_shares: whether the proof needs a root token made of key shares, as no login is given.
        replace_by_shares: whether the same holds for the safety snapshot of a cluster that is replaced.
        generate_root: whether the active node makes such tokens; None where it could not be asked.
        generate_root_enabled: the operator's word that the nodes' configuration allows it.
    """

    nodes: Sequence[Mapping[str, Any]]
    snapshot: Mapping[str, Any]
    own_token: bool | None = None
    has_init_file: bool = False
    lost_init: bool = False
    restore: str | None = None
    temporary_cluster_id: str | None = None
    restored_cluster_id: str | None = None
    restored_sha256: str | None = None
    confirm: str = ""
    free: Mapping[str, int] = field(default_factory=dict)
    origin: tuple[str, str] = (NOT_CHECKED, "the origin was not asked")
    proof_by_shares: bool = False
    replace_by_shares: bool = False
    generate_root: bool | None = None
    generate_root_enabled: bool = False


@dataclass(frozen=True)
class Plan:
    """The decision.

    Attributes:
        action: one of the constants above; None when it is refused.
        problems: why it is refused, a sentence each.
        checks: what was compared, for the record: name, result (``passed``, ``failed``, ``not checked``), detail.
        steps: what will be done, as sentences.
        seal_type: of the target.
        versions: of Vault on the nodes, each once.
        cluster_id: of the cluster whose data the operator allows to replace; None unless the action is REPLACE.
        leader: address of the node that leads, as it was named; None without one.
        standby_reads: whether standbys answer reads themselves, and so have to be restarted after the restore.
    """

    action: str | None
    problems: list[str]
    checks: list[dict[str, str]]
    steps: list[str]
    seal_type: str | None
    versions: list[str]
    cluster_id: str | None = None
    standby_reads: bool = False
    leader: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a module's result."""
        return asdict(self)


def plan(situation: Situation) -> Plan:
    """Decides. Touches nothing."""
    checks: list[dict[str, str]] = []
    problems: list[str] = []

    def check(name: str, failed: Sequence[str], unknown: str | None, passed: str) -> None:
        problems.extend(failed)
        result = FAILED if failed else NOT_CHECKED if unknown else PASSED
        checks.append({"name": name, "result": result, "detail": "; ".join(failed) or unknown or passed})

    nodes = situation.nodes
    manifest = situation.snapshot.get("manifest") or {}
    lost = "If the node is lost permanently, name only the others in vault_recovery_nodes."
    unreachable = [
        f"{str(node['problem'] or node['url'] + ' does not answer').rstrip('.')}. {lost}"
        for node in nodes
        if not node["reachable"]
    ]
    removed = [
        f"{node['url']} was removed from its cluster and will not join one: empty its data folder and start it again."
        for node in nodes
        if node["removed_from_cluster"]
    ]
    check("every node answers", unreachable + removed, None, f"{len(nodes)} nodes")
    reachable = [node for node in nodes if node["reachable"]]

    _check_versions(check, reachable, manifest.get("vault_version"))
    seals = [node["seal"] or {} for node in reachable]
    seal_types = {str(seal["type"]) for seal in seals if seal.get("type")}
    _check_seal(check, seals, known_seal_type(manifest))
    _check_space(check, situation)
    action = None
    if not unreachable:
        action, refusal = _decide(situation, reachable)
        check("the target may be overwritten", [refusal] if refusal else [], None, action or "")
    alive, said = situation.origin
    # Once restored, the target has that ID itself, perhaps under an address that is not in nodes. And a cluster that is
    # replaced by an older snapshot of itself is its origin.
    ours = action == VERIFY or (action == REPLACE and _cluster_ids(reachable) == {manifest.get("cluster_id")})
    unknown = said if alive == NOT_CHECKED or (alive == FAILED and ours) else None
    check("the snapshot's origin is not alive", [said] if alive == FAILED and not ours else [], unknown, said)

    by_shares = situation.proof_by_shares or (action == REPLACE and situation.replace_by_shares)
    remedy = generate_root.REMEDY if situation.proof_by_shares else generate_root.TARGET_REMEDY
    refused = generate_root.problem(reachable, situation.generate_root, situation.generate_root_enabled, remedy)
    check(
        "key shares make a root token",
        [refused] if by_shares and refused else [],
        None if situation.generate_root or not by_shares else "no active node was there to be asked",
        "" if by_shares else "not needed",
    )
    if problems:
        action = None
    steps = [] if action is None else [*STEPS[action]]
    if action in (INITIALIZE, CONTINUE, REPLACE):
        steps.append("wait until every node is a Raft peer")
        taken = f"taken {situation.snapshot.get('taken_at')} of cluster {manifest.get('cluster_name') or 'not known'}"
        steps.append(f"restore {situation.snapshot.get('path')} ({taken}) on the leader")
    standby_reads = len(nodes) > 1 and any(_reads_on_standby(node) for node in reachable)
    if action is not None:
        steps += ["wait until every node serves", "read the canaries and write the record"]
        if standby_reads:
            steps.append(
                "restart OpenBao on every node after the restore, as its standbys answer reads by the mounts of before "
                "it (do that yourself where the hosts of the nodes are not in the inventory)"
            )
        if unknown:
            steps.append(f"note: {said}")
    versions = sorted({str(node["version"]) for node in reachable if node["version"]})
    return Plan(
        action=action,
        problems=problems,
        checks=checks,
        steps=steps,
        seal_type=seal_types.pop() if len(seal_types) == 1 else None,
        versions=versions,
        cluster_id=next(iter(_cluster_ids(reachable))) if action == REPLACE else None,
        standby_reads=standby_reads,
        leader=next((str(node["url"]) for node in reachable if node["http_status"] == 200), None),
    )


def _reads_on_standby(node: Mapping[str, Any]) -> bool:
    """Return whether the node, as a standby, would answer reads by the mounts of before the restore.

    OpenBao does since 2.5, unless disable_standby_reads is set, which no request without a token reports. Tried with
    2.6.2: until a restart, or the next change of a mount, it answers 404 to some tokens. With Shamir's seal a node
    joins after the restore, and knows the restored mounts only.
    """
    return (
        (node["seal"] or {}).get("type") != "shamir"
        and node["product"] == "OpenBao"
        and numbers(node["version"]) >= (2, 5)
    )


def _cluster_ids(nodes: Sequence[Mapping[str, Any]]) -> set[str]:
    return {str(node["cluster_id"]) for node in nodes if node["cluster_id"]}


def _decide(situation: Situation, nodes: Sequence[Mapping[str, Any]]) -> tuple[str | None, str | None]:
    """The action, or why it is refused."""
    initialized = [node for node in nodes if node["initialized"]]
    if not initialized:
        return INITIALIZE, None
    if situation.has_init_file and situation.own_token:
        return CONTINUE, None
    restore = situation.restore
    origin = (situation.snapshot.get("manifest") or {}).get("cluster_id")
    ours = {origin, situation.temporary_cluster_id, situation.restored_cluster_id} - {None}
    if ours and _cluster_ids(initialized) - ours:
        # The restore that was noted is not what these nodes hold: they are in a third cluster.
        restore = None
    if situation.restored_sha256 not in (None, situation.snapshot.get("sha256")):
        # It was of another snapshot than the operator wants now.
        restore = None
    if restore == "done":
        return VERIFY, None
    if situation.lost_init:
        return None, (
            f"{initialized[0]['url']} is initialised, and init.json in the recovery's folder has room for its keys but "
            "no key: an earlier run was killed in between. If it was that run which initialised this cluster, it is "
            "empty and nobody can use it: stop Vault on every node, empty the data folders, start Vault, and run this "
            "again. If it may hold data, do not: remove that init.json and run this again."
        )
    sealed = [node for node in initialized if node["sealed"]]
    if situation.has_init_file:
        if situation.own_token is None and restore is None:
            return CONTINUE, None
        if restore == "begun":
            return VERIFY, None
    elif restore == "begun" and sealed:
        return VERIFY, None
    if len(sealed) == len(initialized):
        return None, (
            f"{sealed[0]['url']} is initialised but sealed: it may hold data, and none of it can be saved "
            "like this. Unseal it; or, if it is worthless, stop Vault on every node, empty the data folders and start."
        )
    names = sorted({node["cluster_name"] for node in initialized if node["cluster_name"]})
    if len(names) > 1:
        return None, f"The nodes belong to different clusters ({', '.join(names)}): correct vault_recovery_nodes."
    name = names[0] if names else "vault"
    ids = sorted(_cluster_ids(initialized))
    if len(ids) > 1:
        return None, (
            f"The nodes belong to different clusters of the name '{name}' (IDs {', '.join(ids)}): correct "
            "vault_recovery_nodes."
        )
    if situation.confirm == name and not ids:
        return None, (
            f"The cluster '{name}' is not replaced: no node reports its cluster ID, which is compared again right "
            "before the restore. Wait until the cluster has a leader and run this again."
        )
    if situation.confirm == name and not any(node["http_status"] == 200 for node in initialized):
        leaders = ", ".join(sorted({str(node["leader_address"]) for node in initialized if node["leader_address"]}))
        return None, (
            f"The cluster '{name}' is not replaced: none of the named nodes leads it (its leader is "
            f"{leaders or 'not known'}). Name all its nodes in vault_recovery_nodes, or wait until it has a leader."
        )
    if situation.confirm == name:
        return REPLACE, None
    finished = ""
    if origin and ids == [origin]:
        finished = (
            " It has the cluster ID of the snapshot. If a recovery has finished here, as recovery-TIME.json in its "
            "folder says, it is over: do not replace the cluster, all that was written since would be lost."
        )
    typed = f" (vault_recovery_confirm is '{situation.confirm}')" if situation.confirm else ""
    return None, (
        f"{initialized[0]['url']} is initialised and holds the data of the cluster '{name}'{typed}. To replace it, run "
        "this again with that name in vault_recovery_confirm; a safety snapshot of it is taken first."
        f"{finished}"
    )


def _check_versions(check: Any, nodes: Sequence[Mapping[str, Any]], wanted: str | None) -> None:
    name = "every node runs the snapshot's version of Vault, or a newer one"
    if not wanted:
        check(name, [], "the snapshot has no manifest that tells its version", "")
        return
    older = [
        f"{node['url']} runs Vault {node['version']}, the snapshot is of {wanted}: install that or newer first."
        for node in nodes
        if node["version"] and numbers(node["version"]) < numbers(wanted)
    ]
    check(name, older, None if nodes else NOBODY, wanted)


def _check_seal(check: Any, seals: Sequence[Mapping[str, Any]], wanted: str | None) -> None:
    name = "the seal is of the snapshot's type"
    # Vault up to 1.14 and OpenBao up to 2.3 do not tell the type of an auto-unseal, but that it is one.
    found = {str(seal.get("type") or UNKNOWN_SEAL) for seal in seals}
    known = found - {UNKNOWN_SEAL}
    if len(known) > 1 or (UNKNOWN_SEAL in found and "shamir" in found):
        problem = f"The nodes do not have the same seal ({', '.join(sorted(found))}): correct their configuration."
        check(name, [problem], None, "")
    elif not wanted:
        check(name, [], "the snapshot has no manifest that tells its seal", "")
    elif found and wanted not in found and (known or wanted == "shamir"):
        check(
            name,
            [
                (
                    f"The snapshot was sealed with '{wanted}', the nodes have '{next(iter(found))}': they could not "
                    f"decrypt it. Configure a '{wanted}' seal with the same key on every node; where the KMS is gone, "
                    "restore an escrow snapshot instead (vault_recovery_seal=shamir)."
                )
            ],
            None,
            "",
        )
    elif found and wanted not in found:
        check(name, [], f"the nodes do not tell the type of their auto-unseal, the snapshot's is {wanted}", "")
    else:
        check(name, [], None if found else NOBODY, wanted)


def _check_space(check: Any, situation: Situation) -> None:
    name = "free space on every node"
    needed = ROOM * int(situation.snapshot.get("state_size") or 0)
    if not situation.free:
        check(name, [], "the nodes are known by their API only, or could not be asked", "")
        return
    short = [
        f"{node} has {free // 2**20} MiB free for Vault's data, {needed // 2**20} MiB are needed: make room there."
        for node, free in sorted(situation.free.items())
        if free < needed
    ]
    check(name, short, None, f"{needed // 2**20} MiB needed")
