# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What only looks: a dead node or a missing secret is an answer, a server that cannot be asked is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from lab import archives
from unit.modules.runner import Runner, for_vault
from unit.vault.fake import OTHER, URL, Clock, FakeVault, down, errors, node, refused

Capture = pytest.CaptureFixture[str]
AUTOPILOT = {"healthy": True, "failure_tolerance": 1, "leader": "n1", "voters": ["n1", "n2"], "servers": {}}
LOGIN: dict[str, Any] = {"auth_method": "approle", "role_id": "r", "secret_id": "theSecretId"}
VALUE = "hunter2hunter2"


def logs_in(vault: FakeVault) -> None:
    vault.on("POST", "auth/approle/login", {"auth": {"client_token": "hvs.login"}})
    vault.on("POST", "auth/token/revoke-self", status=204)


class TestHealth:
    def test_a_dead_node_is_an_answer(self, vault: FakeVault, capsys: Capture) -> None:
        down(vault, URL)
        result = for_vault(capsys, "vault_health_info")()
        assert (result["changed"], result["reachable"], result["serving"]) == (False, False, False)
        assert "connection refused" in result["problem"]

    @pytest.mark.parametrize("code", [429, 501, 503])
    def test_without_a_token(self, vault: FakeVault, capsys: Capture, code: int) -> None:
        node(vault, URL, code)
        result = for_vault(capsys, "vault_health_info")()
        assert (result["http_status"], result["autopilot"], result["problem"]) == (code, None, None)

    def test_with_a_login_that_is_given_back(self, vault: FakeVault, capsys: Capture) -> None:
        node(vault, URL, 200)
        logs_in(vault)
        vault.on("GET", "sys/storage/raft/autopilot/state", {"data": AUTOPILOT})
        result = for_vault(capsys, "vault_health_info", **LOGIN)()
        assert (result["autopilot"]["failure_tolerance"], result["problem"]) == (1, None)
        assert vault.seen[-1].path == "auth/token/revoke-self"

    def test_a_node_that_cannot_log_anybody_in_is_not_asked_to(self, vault: FakeVault, capsys: Capture) -> None:
        node(vault, URL, 503)
        assert for_vault(capsys, "vault_health_info", **LOGIN)()["state"] == "sealed"
        assert {seen.method for seen in vault.seen} == {"GET"}

    def test_a_login_that_is_refused_is_told_beside_the_health(self, vault: FakeVault, capsys: Capture) -> None:
        node(vault, URL, 200)
        vault.on("POST", "auth/approle/login", errors("invalid role or secret ID"), 400)
        result = for_vault(capsys, "vault_health_info", **LOGIN)()
        assert (result["serving"], result["autopilot"]) == (True, None)
        assert "invalid role or secret ID" in result["problem"]

    @pytest.mark.parametrize("options", [{"url": "vault-1"}, {"ca_cert": "/no/ca.pem"}, {"auth_method": "approle"}])
    def test_a_mistake_of_the_operators_is_a_failure(
        self, vault: FakeVault, capsys: Capture, options: dict[str, Any]
    ) -> None:
        node(vault, URL, 200)
        assert for_vault(capsys, "vault_health_info", **options).fails()["error_type"] == "VaultConfigError"


class TestCluster:
    @pytest.fixture
    def run(self, vault: FakeVault, capsys: Capture) -> Runner:
        node(vault, URL, 429, leader=OTHER)
        node(vault, OTHER, 200)
        return for_vault(capsys, "vault_cluster_info", nodes=[URL, OTHER], wait_timeout=0)

    def test_looks_once(self, run: Runner) -> None:
        result = run()
        assert (result["changed"], result["leader_address"], result["waiting_for"]) == (False, OTHER, [])
        assert [one["http_status"] for one in result["nodes"]] == [429, 200]

    def test_without_a_goal_a_dead_node_is_an_answer(self, run: Runner, vault: FakeVault) -> None:
        down(vault, URL)
        assert [one["reachable"] for one in run()["nodes"]] == [False, True]

    def test_with_a_goal_it_is_a_failure(self, run: Runner, vault: FakeVault) -> None:
        assert run(wait_for="serving")["waiting_for"] == []
        node(vault, URL, 503)
        result = run.fails(wait_for="serving")
        assert (result["error_type"], f"{URL} is sealed" in result["msg"]) == ("VaultUnreachableError", True)

    def test_redundant_needs_a_login_and_gives_it_back(self, run: Runner, vault: FakeVault) -> None:
        assert "No token" in run.fails(wait_for="redundant")["msg"]
        logs_in(vault)
        vault.on("GET", "sys/storage/raft/configuration", {"config": {"servers": []}})
        vault.on("GET", "sys/storage/raft/autopilot/state", {"data": AUTOPILOT})
        assert run(wait_for="redundant", **LOGIN)["autopilot"]["voters"] == ["n1", "n2"]
        assert vault.seen[-1].path == "auth/token/revoke-self"

    def test_the_token_goes_to_every_node(self, run: Runner, vault: FakeVault) -> None:
        vault.on("GET", "sys/storage/raft/configuration", {"config": {"servers": [{"node_id": "n1"}]}})
        vault.on("GET", "sys/storage/raft/autopilot/state", {"data": AUTOPILOT})
        assert len(run(token="hvs.t", wait_for="redundant")["peers"]) == 1
        assert vault.tokens_at(URL) == vault.tokens_at(OTHER) == {"hvs.t"}

    def test_no_nodes(self, run: Runner) -> None:
        every: list[dict[str, Any]] = [{}, {"wait_for": "redundant", **LOGIN}]
        for options in every:
            assert run.fails(nodes=[], **options)["error_type"] == "VaultConfigError"


class TestSecret:
    @pytest.fixture
    def run(self, vault: FakeVault, capsys: Capture, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Runner:
        for path in ("kv/a", "kv/b"):
            vault.on("GET", f"sys/internal/ui/mounts/{path}", {"data": {"path": "kv/", "options": {"version": "1"}}})
        vault.on("GET", "kv/a", {"data": {"password": VALUE}})
        run = for_vault(capsys, "vault_secret_info", path=["kv/a"], token="hvs.t")
        monkeypatch.setattr(run.module, "time", clock)
        return run

    def test_readable(self, run: Runner, clock: Clock) -> None:
        result = run()
        ((secret),) = result["secrets"]
        assert (result["changed"], result["readable"]) == (False, True)
        assert (secret["node"], secret["fields"], secret["kind"], secret["values"]) == (URL, ["password"], "kv1", None)
        assert VALUE not in run.output
        assert clock.slept == []

    def test_values_only_where_they_are_not_shown(self, run: Runner, vault: FakeVault) -> None:
        assert "no_log: true" in run.fails(values=True)["msg"]
        assert vault.seen == []
        assert run(values=True, no_log=True)["secrets"][0]["values"] == {"password": VALUE}

    def test_one_that_is_missing_is_an_answer(self, run: Runner, vault: FakeVault) -> None:
        vault.on("GET", "kv/b", errors(), 404)
        result = run(path=["kv/a", "kv/b"])
        assert result["readable"] is False
        assert [secret["readable"] for secret in result["secrets"]] == [True, False]

    def test_at_every_node(self, run: Runner, vault: FakeVault) -> None:
        vault.on("GET", "kv/a", errors("denied"), 403, at=OTHER)
        result = run(nodes=[URL, OTHER])
        assert [(secret["node"], secret["readable"]) for secret in result["secrets"]] == [(URL, True), (OTHER, False)]

    def test_a_server_that_cannot_be_asked_is_waited_for(self, run: Runner, vault: FakeVault, clock: Clock) -> None:
        vault.clear("GET", "kv/a").on("GET", "kv/a", raises=refused()).on("GET", "kv/a", errors("sealed"), 503)
        vault.on("GET", "kv/a", {"data": {"password": VALUE}})
        assert run(wait_timeout=5)["readable"] is True
        assert clock.slept == [0.25] * 2

    def test_but_not_for_ever(self, run: Runner, vault: FakeVault, clock: Clock) -> None:
        vault.clear("GET", "kv/a").on("GET", "kv/a", raises=refused())
        assert run.fails(wait_timeout=60)["error_type"] == "VaultUnreachableError"
        assert sum(clock.slept) == 60
        assert run.fails()["error_type"] == "VaultUnreachableError"
        assert sum(clock.slept) == 60

    def test_a_refusal_is_believed_sooner(self, run: Runner, vault: FakeVault, clock: Clock) -> None:
        vault.on("GET", "kv/b", errors(), 404)
        assert run(path=["kv/b"], wait_timeout=60)["readable"] is False
        vault.clear("GET", "kv/a").on("GET", "kv/a", errors("invalid token"), 403)
        assert run.fails(wait_timeout=60)["error_type"] == "VaultAuthError"
        assert sum(clock.slept) == run.module.SETTLES + 3

    def test_a_refused_login_is_tried_twice_and_not_until_the_user_is_locked_out(
        self, run: Runner, vault: FakeVault, clock: Clock
    ) -> None:
        vault.on("POST", "auth/approle/login", errors("invalid role or secret ID"), 400)
        assert run.fails(wait_timeout=60, **LOGIN)["error_type"] == "VaultAuthError"
        assert len([seen for seen in vault.seen if seen.path == "auth/approle/login"]) == 2

    def test_a_mistake_is_not_waited_for(self, run: Runner, clock: Clock) -> None:
        assert run.fails(url="vault-1", wait_timeout=60)["error_type"] == "VaultConfigError"
        assert clock.slept == []


class TestPreflight:
    @pytest.fixture
    def run(self, vault: FakeVault, capsys: Capture, tmp_path: Path) -> Runner:
        for url in (URL, OTHER):
            node(vault, url, 501)
        snapshot = {"path": "/b/x.snap", "taken_at": "2026-11-24T02:00:00+00:00", "state_size": 2**20}
        options = {"snapshot": snapshot, "directory": str(tmp_path), "nodes": [URL, OTHER]}
        return for_vault(capsys, "vault_recovery_preflight", **options)

    def result(self, checks: list[dict[str, str]]) -> str:
        return next(check["result"] for check in checks if "free space" in check["name"])

    @pytest.mark.parametrize("check", [True, False])
    def test_decides(self, run: Runner, tmp_path: Path, check: bool) -> None:
        result = run(check=check)
        assert (result["changed"], result["action"], result["seal_type"]) == (False, "initialize", "shamir")
        assert self.result(result["checks"]) == "not checked"

    def test_room_that_is_not_known_is_not_too_little(self, run: Runner) -> None:
        hosts: dict[str, Any] = {"hosts": ["vault-1", "vault-2"]}
        assert self.result(run(**hosts, free_bytes=[2**30, -1])["checks"]) == "passed"
        assert self.result(run(**hosts, free_bytes=[-1, -1])["checks"]) == "not checked"
        assert "vault-2 has 0 MiB free" in run.fails(**hosts, free_bytes=[2**30, 0])["msg"]

    def test_a_refusal_is_a_failure(self, run: Runner, vault: FakeVault) -> None:
        node(vault, URL, 200)
        result = run.fails()
        assert (result["error_type"], "name in vault_recovery_confirm" in result["msg"]) == ("RecoveryError", True)
        assert run(confirm="prod")["action"] == "replace"

    @pytest.mark.parametrize("check", [True, False])
    def test_check_mode_leaves_old_keys_where_they_are(self, run: Runner, tmp_path: Path, check: bool) -> None:
        (tmp_path / "init.json").write_text(json.dumps({"root_token": "hvs.t"}))
        run(check=check)
        assert (tmp_path / "init.json").exists() is check


class TestDiskSpace:
    def test_of_the_nearest_folder_that_is_there(self, capsys: Capture, tmp_path: Path) -> None:
        result = Runner(capsys, "disk_space_info", path=str(tmp_path / "opt" / "vault"))()
        assert (result["changed"], result["path"]) == (False, str(tmp_path))
        assert result["free_bytes"] >= len(archives.SEALED)
