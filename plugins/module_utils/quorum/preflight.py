# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides before anything is touched: is the quorum really lost, and whose data is left?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from ipaddress import ip_address
from typing import Any, Optional
from urllib.parse import urlsplit

RECOVER, REJOIN, NOTHING = "recover", "rejoin", "nothing"
"""What to do: make the survivors a cluster of their own, then let the others join; only the latter, as an earlier run
has done the former; nothing, as every node serves."""

ROOM = 1.1
"""Free space for the copy of the data that is kept aside."""


@dataclass(frozen=True)
class Node:
    """A host of the inventory.

    Attributes:
        name: in the inventory.
        url: of its API.
        connected: whether Ansible reaches the host itself.
        data: as `folder.survey` tells; empty where it could not be asked.
        health: as `NodeHealth.to_dict` gives it.
        node_id: Vault's node_id as the operator gives it, empty if not.
    """

    name: str
    url: str
    connected: bool
    data: Mapping[str, Any]
    health: Mapping[str, Any]
    node_id: str = ""

    @property
    def answers(self) -> bool:
        """Whether its API does."""
        return bool(self.health.get("reachable"))

    @property
    def is_active(self) -> bool:
        """Whether it says that it leads."""
        return self.health.get("http_status") == 200


@dataclass
class Plan:
    """The decision.

    Attributes:
        action: one of the constants above, None when it is refused.
        problems: why it is refused, a sentence each.
        survivors: names.
        lost: names, and the node_id of each node that is on no host.
        aside: names of lost nodes whose host is reached and whose Vault does not answer: their data is moved aside.
        rejoin: names of lost nodes whose host is reached.
        peers: what peers.json has to hold.
        remarks: what the operator has to see to, in sentences.
        seal_type: of the survivors, None for an auto-unseal whose type Vault does not tell.
    """

    action: Optional[str] = None
    problems: list[str] = field(default_factory=list)
    survivors: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    aside: list[str] = field(default_factory=list)
    rejoin: list[str] = field(default_factory=list)
    peers: list[dict[str, Any]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    seal_type: Optional[str] = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a module's result."""
        return asdict(self)


def plan(nodes: Sequence[Node], lost: Sequence[str], begun: Optional[Mapping[str, Any]], serves: bool = False) -> Plan:
    """Decides. Touches nothing.

    Args:
        lost: names of the nodes that are lost permanently, typed by the operator; the node_id of one on no host.
        begun: the plan by which an earlier run has begun to change things, None if none has.
        serves: whether that run has seen the survivors serve.
    """
    active = [node for node in nodes if node.is_active]
    if begun is None and active and all(node.health.get("serving") for node in nodes):
        return Plan(NOTHING)
    decided = _fresh(nodes, lost) if begun is None else _again(nodes, lost, begun, serves)
    if decided.problems:
        return decided
    by_name = {node.name: node for node in nodes}
    decided.seal_type = next(
        (seal["type"] for name in decided.survivors if (seal := by_name[name].health.get("seal"))),
        (begun or {}).get("seal_type"),
    )
    away = [by_name[name] for name in decided.lost if name in by_name]
    decided.rejoin = [node.name for node in away if node.connected]
    decided.aside = [node.name for node in away if node.connected and not node.answers]
    decided.remarks = _remarks(away, [name for name in decided.lost if name not in by_name])
    return decided


def _remarks(away: Sequence[Node], hostless: Sequence[str]) -> list[str]:
    unreached = [
        f"{node.name} cannot be reached: see to it that Vault never starts there again with the data that it had. Two "
        "such nodes would make a second cluster of their own. Empty its data folder first."
        for node in away
        if not node.connected
    ]
    empty = [
        f"{node.name} is reached, and no data of Vault was found there: {node.data.get('problem') or 'none is there'}. "
        "Does it lie elsewhere? Then correct vault_quorum_data_path first: with it, it would make a second cluster."
        for node in away
        if node.connected and not node.data.get("present")
    ]
    unknown = [
        f"{name} is on no host of the inventory: make sure that Vault never starts there again with its data. Two such "
        "nodes would make a second cluster of their own."
        for name in hostless
    ]
    return unreached + unknown + empty


def _again(nodes: Sequence[Node], lost: Sequence[str], begun: Mapping[str, Any], serves: bool) -> Plan:
    """Goes on with what an earlier run has begun, when its survivors are perhaps stopped."""
    decided = Plan(survivors=list(begun["survivors"]), lost=list(begun["lost"]), peers=list(begun["peers"]))
    if sorted(lost) != sorted(decided.lost):
        decided.problems.append(
            f"An earlier run has begun with vault_quorum_lost {', '.join(decided.lost)}, now it is "
            f"{', '.join(lost) or 'empty'}. Go on with the same, or move the journal.json of that run aside."
        )
        return decided
    active = [node for node in nodes if node.is_active]
    if active and not serves and any(node.name in decided.lost for node in active):
        decided.problems.append(
            f"{', '.join(node.name for node in active)} leads with data that was given up. Stop Vault there at once, "
            "and move its data aside; then run this again."
        )
        return decided
    decided.action = REJOIN if active else RECOVER
    back = [node.name for node in nodes if node.name in decided.lost and node.answers]
    if decided.action == RECOVER and serves:
        decided.problems.append(
            "The survivors have served since that run began, so nodes that joined have votes, and nobody leads now: "
            "another peers.json could make a second cluster. Start and unseal every node, wait for a leader, run this "
            "again."
        )
    elif decided.action == RECOVER and back:
        decided.problems.append(
            f"{', '.join(back)}, given up by an earlier run, answers again: its old data could make a second cluster. "
            "Stop Vault there (its data is then moved aside), and run this again."
        )
    gone = [node.name for node in nodes if node.name in decided.survivors and not node.connected]
    if decided.action == RECOVER and gone:
        decided.problems.append(f"{', '.join(gone)}, which survived, cannot be reached now. Mend that, run this again.")
    return decided


def _fresh(nodes: Sequence[Node], lost: Sequence[str]) -> Plan:
    survivors = [node for node in nodes if node.answers]
    found = [node.name for node in nodes if not node.answers]
    known = max(survivors, key=lambda node: int(node.data.get("index") or 0), default=None)
    peers = list(known.data.get("peers") or []) if known else []
    ids = {node.name: own_id(node, peers) for node in nodes}
    hostless = _hostless(ids, peers)
    decided = Plan(RECOVER, survivors=[node.name for node in survivors], lost=found + hostless)
    problems = decided.problems
    if not survivors:
        problems.append("No node's API answers: there is no survivor. If all data is lost, run recover-vault.yml.")
        return decided
    if any(node.is_active for node in survivors):
        problems.append(
            f"The quorum is not lost: {next(node.name for node in survivors if node.is_active)} leads. A node that is "
            "lost while the others live is replaced by one with an empty data folder, which joins by itself."
        )
    unclear = _unclear(survivors, ids, peers) if peers else []
    if not unclear and sorted(lost) != sorted(decided.lost):
        problems.append(_unlike(lost, found, [peer for peer in peers if peer["id"] in hostless]))
    problems += unclear + _no_data(survivors)
    if problems:
        return decided
    voters = [peer["id"] for peer in peers if not peer["non_voter"]]
    voting = [node for node in survivors if ids[node.name] in voters]
    # A follower's data can be of a moment before a node became a voter. Where such nodes make a majority with the
    # survivors, these elect a leader, which is a problem above, or are sealed and have all that was committed.
    if len(voting) * 2 > len(voters):
        living = ", ".join(f"{node.name} is {node.health.get('state')}" for node in voting)
        problems.append(
            f"A majority of the {len(voters)} voters lives ({living}): the quorum is not lost. Unseal the sealed ones, "
            "wait for a leader, read their logs and check the network between them."
        )
    problems += [
        f"{node.name} does not answer, but Vault runs there (it has its database open): it may be alive. Stop it first."
        for node in nodes
        if node.name in found and node.data.get("in_use")
    ]
    # Autopilot promotes those that are to vote. Without a voter there is no leader that could.
    decided.peers = [
        {**peer, "non_voter": peer["non_voter"] and bool(voting)}
        for peer in peers
        if peer["id"] in [ids[node.name] for node in survivors]
    ]
    return decided


def _hostless(ids: Mapping[str, Optional[str]], peers: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the node_ids that no host has. A host of unknown node_id may have any of them: then there is none."""
    left = [str(peer["id"]) for peer in peers if peer["id"] not in ids.values()]
    return [] if None in ids.values() else left


def _unclear(
    survivors: Sequence[Node], ids: Mapping[str, Optional[str]], peers: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Return why it is unknown which host is which of Vault's nodes, in sentences."""
    known = ", ".join(f"{peer['id']} at {peer['address']}" for peer in peers)
    unknown = [name for name, node_id in ids.items() if node_id is None]
    # Hosts that do not answer need no node_id, as long as each node has a host.
    needed = unknown if len(ids) != len(peers) else [node.name for node in survivors if node.name in unknown]
    problems = [
        f"Which of Vault's nodes {known} is {name}? Set vault_quorum_node_id of that host to the node_id of its "
        "configuration, or remove a host that is no node of this cluster from the inventory group 'vault'."
        for name in needed
    ]
    claims: dict[str, list[str]] = {}
    for name, node_id in ids.items():
        claims.setdefault(node_id or "", []).append(name)
    problems += [
        f"{' and '.join(names)} count as the same node {node_id}: set vault_quorum_node_id of each host."
        for node_id, names in claims.items()
        if node_id and len(names) > 1
    ]
    return problems + [
        f"{name} is the name of a host and the node_id of another node: rename the host in the inventory."
        for name in _hostless(ids, peers)
        if name in ids
    ]


def _unlike(lost: Sequence[str], found: Sequence[str], hostless: Sequence[Mapping[str, Any]]) -> str:
    """That the operator's word is not what was found."""
    names = [*found, *(str(peer["id"]) for peer in hostless)]
    command = f"-e '{{\"vault_quorum_lost\": [{', '.join(chr(34) + name + chr(34) for name in names)}]}}'"
    typed = ", ".join(lost) or "nothing"
    known = ", ".join(f"{peer['id']} at {peer['address']}" for peer in hostless)
    nowhere = (
        f" Vault's data also has {known}, and the inventory group 'vault' has no such host. A node that may be alive "
        "belongs into that group with its vault_api_addr; one that is lost is named by its node_id."
        if known
        else ""
    )
    return (
        f"Not answering: {', '.join(found) or 'none'}; named as lost for good: {typed}.{nowhere} What has happened "
        "after their last contact with the survivors is given up. If they are really dead, run this again with "
        f"{command}."
    )


def _no_data(survivors: Sequence[Node]) -> list[str]:
    problems = [
        f"{node.name} answers, but its Raft data was not found"
        f"{'' if node.connected else ', as the host cannot be reached'}: "
        f"{node.data.get('problem') or 'none is there'}. Correct vault_quorum_data_path, or how Ansible reaches it."
        for node in survivors
        if not node.data.get("peers")
    ]
    return problems + [
        f"{node.name} has {node.data['free_bytes'] // 2**20} MiB free, a copy of its data takes "
        f"{node.data['data_bytes'] // 2**20} MiB: make room there."
        for node in survivors
        if node.data.get("peers") and node.data["free_bytes"] < ROOM * node.data["data_bytes"]
    ]


def own_id(node: Node, peers: Sequence[Mapping[str, Any]]) -> Optional[str]:
    """The node_id of a host: the operator's word, its own name, or the only one at its address; None if neither is."""
    ids = [str(peer["id"]) for peer in peers]
    for name in (node.node_id, node.name):
        if name:
            if name in ids:
                return name
            if name == node.node_id:
                return None
    host = _host(node.url)
    there = [str(peer["id"]) for peer in peers if _host(f"//{peer['address']}") == host]
    return there[0] if len(there) == 1 else None


def _host(url: str) -> str:
    """Return the host of an address, an IPv6 address in its shortest form."""
    host = urlsplit(url).hostname or ""
    with suppress(ValueError):
        return ip_address(host).compressed
    return host
