# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is made of a node's answers, those of Vault 1.21, of Vault 1.14 and of what is no Vault."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.errors import VaultConfigError
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.health import (
    read_autopilot,
    read_health,
    read_peers,
    seal_type,
)
from unit.vault.fake import HEALTH, OTHER, SEAL, URL, FakeVault, down, errors, node, redact, refused

AUTOPILOT = {
    "healthy": True,
    "failure_tolerance": 1,
    "leader": "node-1",
    "voters": ["node-2", "node-1"],
    "servers": {
        "node-2": {"id": "node-2", "address": "10.0.0.2:8201", "healthy": True, "status": "voter", "last_index": 9},
        "node-1": {"id": "node-1", "address": "10.0.0.1:8201", "healthy": True, "status": "leader", "last_index": 9},
    },
}


@pytest.mark.parametrize(
    ("code", "state", "serving"),
    [
        (200, "active", True),
        (429, "standby", True),
        (472, "disaster recovery secondary", False),
        (473, "performance standby", True),
        (474, "standby without a path to the active node", False),
        (501, "not initialised", False),
        (503, "sealed", False),
        (530, "removed from the cluster", False),
    ],
)
def test_every_health_code_is_an_answer(vault: FakeVault, code: int, state: str, serving: bool) -> None:
    node(vault, URL, code)
    health = read_health(vault.client())
    assert (health.reachable, health.problem, health.http_status) == (True, None, code)
    assert (health.state, health.serving) == (state, serving)
    assert health.initialized is (code != 501)
    assert health.sealed is (code in (501, 503))
    assert health.to_dict()["serving"] is serving


def test_a_standby_that_has_lost_its_leader_does_not_serve(vault: FakeVault) -> None:
    node(vault, URL, 429)
    vault.clear("GET", "sys/leader", URL)
    vault.on("GET", "sys/leader", {"ha_enabled": True, "is_self": False, "leader_address": ""})
    health = read_health(vault.client())
    assert (health.http_status, health.leader_address, health.serving) == (429, None, False)


def test_a_leader_that_is_redacted_is_still_a_leader(vault: FakeVault) -> None:
    node(vault, URL, 200)
    redact(vault, URL, None)
    active = read_health(vault.client())
    assert (active.serving, active.leader_address, active.version, active.cluster_name) == (True, None, None, None)
    assert active.product == "Vault"
    node(vault, OTHER, 429)
    redact(vault, OTHER, URL)
    standby = read_health(vault.client(OTHER))
    assert (standby.serving, standby.leader_address) == (True, URL)
    redact(vault, OTHER, None)
    assert not read_health(vault.client(OTHER)).serving


def test_the_redirect_is_not_asked_for_where_the_leader_is_known(vault: FakeVault) -> None:
    for code in (200, 429, 503):
        node(vault, URL, code)
        read_health(vault.client())
    assert vault.sent("GET", "sys/internal/ui/mounts") == []


def test_what_a_node_says(vault: FakeVault) -> None:
    node(vault, URL, 200)
    health = read_health(vault.client())
    assert (health.version, health.cluster_name, health.is_leader) == ("1.21.0", "prod", True)
    assert (health.leader_address, health.raft_committed_index, health.raft_applied_index) == (URL, 50, 50)
    assert health.removed_from_cluster is False
    assert health.seal == {
        "type": "shamir",
        "recovery_seal": False,
        "recovery_seal_type": None,
        "threshold": 3,
        "shares": 5,
        "progress": 0,
        "migration": False,
        "storage_type": "raft",
    }


def test_what_an_older_vault_or_openbao_does_not_say_is_none(vault: FakeVault) -> None:
    vault.on("GET", "sys/health", {"initialized": True, "sealed": False, "standby": False})
    vault.on("GET", "sys/seal-status", {"type": "shamir", "sealed": False, "t": 3, "n": 5})
    vault.on("GET", "sys/leader", {"ha_enabled": True, "is_self": True, "leader_address": URL})
    vault.on("GET", "sys/storage/raft/autopilot/state", errors(), 404)
    health = read_health(vault.client(token="hvs.t"))
    assert health.serving
    for name in ("removed_from_cluster", "raft_committed_index", "raft_applied_index", "autopilot", "version"):
        assert getattr(health, name) is None, name


def test_the_seal_status_fills_in_what_health_does_not_say(vault: FakeVault) -> None:
    node(vault, URL, 503)
    vault.clear("GET", "sys/health", URL).on("GET", "sys/health", {}, 503)
    health = read_health(vault.client())
    assert (health.sealed, health.initialized, health.version, health.cluster_name) == (True, True, "1.21.0", "prod")


def test_neither_seal_nor_leader(vault: FakeVault) -> None:
    vault.on("GET", "sys/health", HEALTH)
    for path in ("sys/seal-status", "sys/leader"):
        vault.on("GET", path, errors("permission denied"), 403)
    health = read_health(vault.client())
    assert (health.reachable, health.seal, health.leader_address) == (True, None, None)


class TestUnreachable:
    def test_nobody_listens(self, vault: FakeVault) -> None:
        down(vault, URL)
        health = read_health(vault.client())
        assert not health.reachable
        assert "connection refused" in str(health.problem)
        assert health.to_dict()["http_status"] is None

    def test_it_dies_between_two_questions(self, vault: FakeVault) -> None:
        vault.on("GET", "sys/health", HEALTH).on("GET", "sys/seal-status", raises=refused())
        assert not read_health(vault.client()).reachable

    @pytest.mark.parametrize("code", [204, 307, 404, 502])
    def test_no_vault(self, vault: FakeVault, code: int) -> None:
        vault.on("GET", "sys/health", b"" if code == 204 else b"<html>", code, headers={"Location": OTHER})
        health = read_health(vault.client())
        assert (health.reachable, health.http_status, health.state) == (False, code, None)
        assert f"HTTP {code}, which is no Vault health code" in str(health.problem)

    def test_a_wrong_scheme_is_the_operators_mistake(self, vault: FakeVault) -> None:
        vault.on("GET", "sys/health", b"Client sent an HTTP request to an HTTPS server.\n", 400)
        with pytest.raises(VaultConfigError):
            read_health(vault.client("http://vault-1:8200"))


class TestAutopilot:
    @pytest.mark.parametrize("wrap", [lambda state: {"data": state}, lambda state: state])
    def test_is_told_with_and_without_an_envelope(self, vault: FakeVault, wrap: Any) -> None:
        vault.on("GET", "sys/storage/raft/autopilot/state", wrap(AUTOPILOT))
        told = read_autopilot(vault.client(token="hvs.t"))
        assert told is not None
        assert (told["healthy"], told["failure_tolerance"], told["voters"]) == (True, 1, ["node-1", "node-2"])
        assert [server["id"] for server in told["servers"]] == ["node-1", "node-2"]
        assert told["servers"][0]["version"] is None

    @pytest.mark.parametrize("status", [403, 404])
    def test_not_told(self, vault: FakeVault, status: int) -> None:
        vault.on("GET", "sys/storage/raft/autopilot/state", errors("permission denied"), status)
        assert read_autopilot(vault.client(token="hvs.t")) is None

    def test_a_leader_that_dies_is_none_too(self, vault: FakeVault) -> None:
        vault.on("GET", "sys/storage/raft/autopilot/state", raises=refused())
        assert read_autopilot(vault.client(token="hvs.t")) is None

    @pytest.mark.parametrize(("code", "token", "asked"), [(200, "hvs.t", 1), (200, None, 0), (503, "hvs.t", 0)])
    def test_is_asked_only_where_it_can_answer(
        self, vault: FakeVault, code: int, token: str | None, asked: int
    ) -> None:
        node(vault, URL, code)
        vault.on("GET", "sys/storage/raft/autopilot/state", {"data": AUTOPILOT})
        read_health(vault.client(token=token))
        assert len(vault.sent("GET", "sys/storage/raft/autopilot/state")) == asked


@pytest.mark.parametrize("wrap", [lambda config: {"data": config}, lambda config: config])
def test_peers(vault: FakeVault, wrap: Any) -> None:
    peer = {"node_id": "node-1", "address": "10.0.0.1:8201", "voter": True, "leader": True, "protocol_version": "3"}
    vault.on("GET", "sys/storage/raft/configuration", wrap({"config": {"servers": [peer]}}))
    assert read_peers(vault.client(token="hvs.t")) == [
        {"node_id": "node-1", "address": "10.0.0.1:8201", "voter": True, "leader": True}
    ]


def test_seal_of_an_auto_unseal(vault: FakeVault) -> None:
    node(vault, URL, 200)
    seal = {**SEAL, "type": "awskms", "recovery_seal": True, "recovery_seal_type": "shamir"}
    vault.clear("GET", "sys/seal-status", URL).on("GET", "sys/seal-status", seal)
    told = read_health(vault.client()).seal
    assert told is not None
    assert (told["type"], told["recovery_seal"], told["recovery_seal_type"]) == ("awskms", True, "shamir")


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        # Vault 1.14 and OpenBao 2.3, an auto-unseal; the same before it is initialized, as its own type.
        ({"type": "shamir", "recovery_seal": True}, None),
        ({"type": "awskms", "recovery_seal": True}, "awskms"),
        ({"type": "shamir", "recovery_seal": False}, "shamir"),
        ({"type": "shamir"}, "shamir"),
        ({}, None),
    ],
)
def test_the_type_of_recovery_keys_is_none_of_the_seal(answer: dict[str, Any], kind: str | None) -> None:
    assert seal_type(answer) == kind


def test_the_seal_of_an_older_auto_unseal(vault: FakeVault) -> None:
    node(vault, URL, 200, recovery_seal=True)
    seal = read_health(vault.client()).seal
    assert seal is not None
    assert (seal["type"], seal["recovery_seal"]) == (None, True)
