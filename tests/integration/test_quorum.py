# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""playbooks/recover-vault-quorum.yml brings a cluster back whose majority is dead for good."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import Lab
from lab.playbook import Origin, Playbook, accessors, make_origin
from lab.vault import VaultCluster, VaultNode

NUMBERS = itertools.count()
STEPS = [
    "Move its data aside",
    "Wait until it has ended, and keep a copy of its data",
    "Tell it who its peers are from now on",
    "Start Vault",
    "Wait until they serve under one leader",
    "Read every canary at every node",
]


@pytest.fixture
def origin(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Origin]:
    """A cluster of three voters, and a secret that no snapshot has."""
    kind = getattr(request, "param", "awskms")
    origin = make_origin(lab, f"quorum-{next(NUMBERS)}", awskms=kind == "awskms", wait_voters=True)
    client = origin.cluster.client(token=origin.root_token)
    client.secrets.kv.v1.create_or_update_secret("dr/last", {"written": "before the loss"}, mount_point="kv1")
    yield origin
    origin.cluster.stop()


def playbook(origin: Origin, folder: Path, lost: tuple[str, ...]) -> Playbook:
    return Playbook(
        {
            "vault_quorum_lost": list(lost),
            "vault_quorum_directory": str(folder / "quorum"),
            "vault_recovery_key_shares": list(origin.keys[: origin.threshold]),
            "vault_recovery_canaries": [origin.seed.canary, "kv1/dr/last"],
        },
        folder / "quorum",
        origin.inventory,
        name="playbooks/recover-vault-quorum.yml",
    )


def lose(*nodes: VaultNode) -> None:
    """They die, and what they had dies with them; the hosts come back empty."""
    for node in nodes:
        node.kill()
        shutil.rmtree(node.data)
        node.data.mkdir(mode=0o700)


def names(cluster: VaultCluster, *nodes: VaultNode) -> tuple[str, ...]:
    """Of these nodes' hosts in the inventory."""
    return tuple(f"vault-{cluster.nodes.index(node) + 1}" for node in nodes)


def split(cluster: VaultCluster) -> tuple[VaultNode, list[VaultNode]]:
    """A follower, which will survive, and the others."""
    leader = cluster.leader()
    survivor = next(node for node in cluster.nodes if node is not leader)
    return survivor, [node for node in cluster.nodes if node is not survivor]


def assert_whole(origin: Origin) -> None:
    """Every node gives what was written last, and the loss of one is borne again."""
    cluster = origin.cluster
    for node in cluster.nodes:
        client = cluster.client(node, origin.root_token)
        assert client.read("kv1/dr/last")["data"] == {"written": "before the loss"}
        assert client.read("secret/data/dr/canary")["data"]["data"] == origin.seed.value
    state = cluster.client(token=origin.root_token).read("sys/storage/raft/autopilot/state")["data"]
    assert (state["healthy"], state["failure_tolerance"], len(state["voters"])) == (True, 1, 3)


@pytest.mark.parametrize("origin", ["awskms", "shamir"], indirect=True)
def test_two_of_three_nodes_are_lost_for_good(origin: Origin, tmp_path: Path) -> None:
    cluster = origin.cluster
    survivor, lost = split(cluster)
    lose(*lost)
    run = playbook(origin, tmp_path, names(cluster, *lost))
    done = run.run()
    assert done.rc == 0, done.output
    assert [key for key in (*origin.keys, origin.root_token) if key in done.output] == []
    assert_whole(origin)
    assert accessors(cluster, origin.root_token) == list(origin.accessors)
    assert done.record["redundant"] is True
    [kept] = survivor.data.glob("aside-*")
    assert (kept / "vault.db").is_file()
    assert not (survivor.data / "raft" / "peers.json").exists()
    again = run.run()
    assert again.rc == 0, again.output
    assert "every node serves: nothing is done" in again.words


def test_it_is_refused_until_all_is_as_the_operator_says(origin: Origin, tmp_path: Path) -> None:
    cluster = origin.cluster
    survivor, (one, two) = split(cluster)
    pids = survivor.pid

    def refused(*lost: VaultNode) -> str:
        done = playbook(origin, tmp_path, names(cluster, *lost)).run("-v")
        assert done.rc == 2, done.output
        assert list(survivor.data.glob("aside-*")) == []
        assert survivor.pid == pids
        return done.words

    leader = cluster.leader()
    one, two = sorted((one, two), key=lambda node: node is leader)
    one.stop()
    assert "The quorum is not lost: " in refused(one)
    # It hangs: cut off it may be, dead it is not.
    two.pause()
    assert f"{names(cluster, two)[0]} does not answer, but Vault runs there" in refused(one, two)
    two.kill()
    unnamed = refused()
    assert "named as lost for good: nothing" in unnamed
    found = [name for name in ("vault-1", "vault-2", "vault-3") if name in names(cluster, one, two)]
    assert f"""-e '{{"vault_quorum_lost": ["{found[0]}", "{found[1]}"]}}'""" in unnamed.replace('\\"', '"')
    assert "named as lost for good: " + names(cluster, one)[0] in refused(one)
    checked = playbook(origin, tmp_path, names(cluster, one, two)).run("--check")
    assert checked.rc == 0, checked.output
    assert survivor.pid == pids
    assert list(survivor.data.glob("aside-*")) == []


def test_a_sealed_majority_is_no_lost_quorum(lab: Lab, tmp_path: Path) -> None:
    cluster = lab.cluster("sealed", awskms=False)
    cluster.initialize()
    cluster.nodes[0].kill()
    for node in cluster.nodes[1:]:
        node.stop()
        node.start()
    plain = Playbook(
        {"vault_quorum_lost": ["vault-1"], "vault_quorum_directory": str(tmp_path / "quorum")},
        tmp_path / "quorum",
        lab.inventory(cluster),
        name="playbooks/recover-vault-quorum.yml",
    )
    done = plain.run()
    cluster.stop()
    assert done.rc == 2, done.output
    assert "A majority of the 3 nodes lives (vault-2 is sealed, vault-3 is sealed)" in done.words


def test_killed_at_every_step_it_goes_on(origin: Origin, tmp_path: Path) -> None:
    cluster = origin.cluster
    _survivor, lost = split(cluster)
    for node in lost:
        node.kill()
    run = playbook(origin, tmp_path, names(cluster, *lost))
    for step in STEPS:
        started = run.start()
        started.wait_for_task(step)
        started.kill_all()
    other = run.run(vault_quorum_lost=list(names(cluster, lost[0])))
    assert "An earlier run has begun with vault_quorum_lost" in other.words
    done = run.run()
    assert done.rc == 0, done.output
    assert_whole(origin)
    assert done.record["runs"] == len(STEPS) + 2
    # The data that was given up is kept, on each host.
    for node in cluster.nodes:
        [kept] = node.data.glob("aside-*")
        assert (kept / "vault.db").is_file(), node.name
