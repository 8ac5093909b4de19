# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The operator's acts: each in check mode first, then done, then done again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from unit.modules.runner import Runner, for_vault
from unit.vault.fake import OTHER, SEAL, URL, Answer, FakeVault, Seen, errors, node, silent
from unit.vault.shares import ROOT, SHARES, generating, sealed

Capture = pytest.CaptureFixture[str]
INIT = {"keys_base64": ["keyOne", "keyTwo", "keyThree"], "root_token": "hvs.root"}
KEYS = ("keyOne", "keyTwo", "keyThree", "hvs.root")


@pytest.fixture
def fresh(vault: FakeVault) -> FakeVault:
    """A node that can be initialised, once."""
    done: list[Seen] = []

    def initialise(seen: Seen) -> Answer:
        done.append(seen)
        return Answer(400, errors("Vault is already initialized")) if len(done) > 1 else Answer(200, INIT)

    vault.on("GET", "sys/init", call=lambda _seen: Answer(200, {"initialized": bool(done)}))
    vault.on("PUT", "sys/init", call=initialise)
    return vault.on("GET", "sys/seal-status", {"type": "shamir"})


class TestOperatorInit:
    @pytest.fixture
    def run(self, fresh: FakeVault, capsys: Capture) -> Runner:
        return for_vault(capsys, "vault_operator_init", key_shares=3, key_threshold=2)

    def test_into_a_file(self, run: Runner, fresh: FakeVault, tmp_path: Path) -> None:
        file = tmp_path / "init.json"
        before, done, _again, after = run.four_runs(output_file=str(file))
        assert (before["initialized"], done["initialized"], after["initialized"]) == (False, True, True)
        assert done["output_file"] == str(file)
        assert json.loads(file.read_text())["unseal_keys_b64"] == INIT["keys_base64"]
        assert file.stat().st_mode & 0o777 == 0o600
        assert len(fresh.sent("PUT", "sys/init")) == 1
        assert not any(key in run.output for key in KEYS)

    def test_check_mode_makes_no_file(self, run: Runner, fresh: FakeVault, tmp_path: Path) -> None:
        run(check=True, output_file=str(tmp_path / "init.json"))
        assert list(tmp_path.iterdir()) == []
        assert fresh.sent("PUT", "sys/init") == []

    def test_into_the_result_of_a_task_that_is_not_shown(self, run: Runner) -> None:
        result = run(no_log=True)
        assert (result["output_file"], result["init"]["root_token"]) == (None, "hvs.root")

    def test_encrypted(self, run: Runner, fresh: FakeVault) -> None:
        result = run(pgp_keys=["a", "b", "c"], root_token_pgp_key="d")
        assert result["init"]["unseal_keys_b64"] == INIT["keys_base64"]
        assert fresh.seen[-1].json["pgp_keys"] == ["a", "b", "c"]

    @pytest.mark.parametrize("options", [{}, {"pgp_keys": ["a", "b", "c"]}, {"root_token_pgp_key": "d"}])
    @pytest.mark.parametrize("check", [True, False])
    def test_not_where_keys_would_be_shown(
        self, run: Runner, fresh: FakeVault, options: dict[str, Any], check: bool
    ) -> None:
        assert "would be shown and logged" in run.fails(check=check, **options)["msg"]
        assert fresh.sent("PUT", "sys/init") == []

    @pytest.mark.parametrize("check", [True, False])
    def test_not_over_keys_that_are_there(self, run: Runner, fresh: FakeVault, tmp_path: Path, check: bool) -> None:
        file = tmp_path / "init.json"
        file.write_text("keys of another cluster")
        result = run.fails(check=check, output_file=str(file))
        assert (result["error_type"], "is not overwritten" in result["msg"]) == ("StoreError", True)
        assert fresh.sent("PUT", "sys/init") == []
        assert file.read_text() == "keys of another cluster"

    def test_an_answer_that_does_not_come_is_told(self, run: Runner, fresh: FakeVault, tmp_path: Path) -> None:
        fresh.clear("PUT", "sys/init").on("PUT", "sys/init", raises=silent())
        result = run.fails(output_file=str(tmp_path / "init.json"), retries=3)
        assert result["error_type"] == "VaultUnreachableError"
        assert len(fresh.sent("PUT", "sys/init")) == 1


class TestUnseal:
    def test_until_it_is_unsealed(self, vault: FakeVault, capsys: Capture) -> None:
        sealed(vault)
        run = for_vault(capsys, "vault_unseal", key_shares=SHARES)
        vault.on("GET", "sys/init", {"initialized": True})
        before, done, _again, _after = run.four_runs()
        assert (before["sealed"], done["sealed"], done["progress"], done["threshold"]) == (True, False, 0, 2)
        assert len(vault.sent("PUT", "sys/unseal")) == 2
        assert not any(share in run.output for share in SHARES)

    def test_part_of_the_way_is_a_change(self, vault: FakeVault, capsys: Capture) -> None:
        sealed(vault, 5)
        vault.on("GET", "sys/init", {"initialized": True})
        result = for_vault(capsys, "vault_unseal", key_shares=SHARES)()
        assert (result["changed"], result["sealed"], result["progress"], result["shares"]) == (True, True, 3, 5)

    def test_a_refused_share_is_not_shown(self, vault: FakeVault, capsys: Capture) -> None:
        sealed(vault)
        vault.on("GET", "sys/init", {"initialized": True})
        vault.clear("PUT", "sys/unseal").on("PUT", "sys/unseal", errors("invalid key"), 400)
        run = for_vault(capsys, "vault_unseal", key_shares=SHARES)
        assert "refused key share 1 of 3 (invalid key)" in run.fails()["msg"]
        assert not any(share in run.output for share in SHARES)

    def test_a_node_that_has_not_joined_is_told(self, vault: FakeVault, capsys: Capture) -> None:
        sealed(vault, initialized=False)
        vault.on("GET", "sys/init", {"initialized": False})
        assert "not initialised" in for_vault(capsys, "vault_unseal", key_shares=SHARES).fails()["msg"]


class TestGenerateRoot:
    @pytest.fixture
    def run(self, vault: FakeVault, capsys: Capture) -> Runner:
        node(vault, URL, 200)
        generating(vault)
        return for_vault(capsys, "vault_generate_root", key_shares=SHARES, wait_timeout=0)

    def test_only_where_it_is_not_shown(self, run: Runner, vault: FakeVault) -> None:
        for check in (True, False):
            assert "no_log: true" in run.fails(check=check)["msg"]
        assert vault.seen == []

    def test_not_in_check_mode(self, run: Runner, vault: FakeVault) -> None:
        result = run(check=True, no_log=True)
        assert (result["changed"], "token" in result) == (True, False)
        assert {seen.method for seen in vault.seen} == {"GET"}

    def test_each_run_makes_one(self, run: Runner) -> None:
        result = run(no_log=True)
        assert (result["changed"], result["token"]) == (True, ROOT)
        assert not any(share in run.output for share in SHARES)

    def test_a_cluster_without_a_leader_is_told(self, run: Runner, vault: FakeVault) -> None:
        node(vault, URL, 503)
        result = run.fails(no_log=True)
        assert (result["error_type"], "is sealed" in result["msg"]) == ("VaultUnreachableError", True)

    def test_somebody_elses_attempt(self, vault: FakeVault, capsys: Capture) -> None:
        node(vault, URL, 200)
        generating(vault, started=True)
        run = for_vault(capsys, "vault_generate_root", key_shares=SHARES, wait_timeout=0)
        assert "already being generated" in run.fails(no_log=True)["msg"]
        assert run(no_log=True, cancel_existing=True)["token"] == ROOT


class TestTokenRevoke:
    def test_once(self, vault: FakeVault, capsys: Capture) -> None:
        gone: list[Seen] = []

        def ask(seen: Seen) -> Answer:
            if seen.method == "POST" and not gone:
                gone.append(seen)
                return Answer(204)
            return Answer(403, errors("invalid token")) if gone else Answer(200, {})

        vault.on("GET", "auth/token/lookup-self", call=ask).on("POST", "auth/token/revoke-self", call=ask)
        run = for_vault(capsys, "vault_token_revoke", token="hvs.theToken")
        assert [result["revoked"] for result in run.four_runs()] == [True, True, False, False]
        assert vault.tokens_at(URL) == {"hvs.theToken"}
        assert "hvs.theToken" not in run.output

    def test_never_a_token_that_was_not_given(
        self, vault: FakeVault, capsys: Capture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("VAULT_TOKEN", "hvs.ofTheOperator")
        assert "token" in for_vault(capsys, "vault_token_revoke").fails()["msg"]
        assert vault.seen == []


class TestStepDown:
    def test_the_leader_once(self, vault: FakeVault, capsys: Capture) -> None:
        node(vault, URL, 200)

        def hand_over(_seen: Seen) -> Answer:
            node(vault, URL, 429, leader=OTHER)
            return Answer(204)

        vault.on("PUT", "sys/step-down", call=hand_over)
        run = for_vault(capsys, "vault_step_down", token="hvs.theToken")
        before, done, _again, after = run.four_runs()
        assert (before["leader_address"], done["leader_address"], after["leader_address"]) == (None, OTHER, None)
        assert (done["was_leader"], after["was_leader"]) == (True, False)
        assert len(vault.sent("PUT", "sys/step-down")) == 1

    def test_a_token_that_may_not(self, vault: FakeVault, capsys: Capture) -> None:
        node(vault, URL, 200)
        vault.on("PUT", "sys/step-down", errors("permission denied"), 403)
        result = for_vault(capsys, "vault_step_down", token="hvs.theToken").fails()
        assert (result["error_type"], "sys/step-down" in result["msg"]) == ("VaultPermissionError", True)


class TestAuditFile:
    def test_once(self, vault: FakeVault, capsys: Capture) -> None:
        devices: dict[str, Any] = {}

        def enable(seen: Seen) -> Answer:
            devices["file/"] = seen.json
            return Answer(204)

        vault.on("GET", "sys/audit", call=lambda _seen: Answer(200, {"data": dict(devices)}))
        vault.on("PUT", "sys/audit/file", call=enable)
        run = for_vault(capsys, "vault_audit_file", token="hvs.theToken", file_path="/var/log/vault/audit.log")
        assert {result["file_path"] for result in run.four_runs()} == {"/var/log/vault/audit.log"}
        assert devices["file/"] == {"type": "file", "options": {"file_path": "/var/log/vault/audit.log"}}

    @pytest.mark.parametrize(
        ("device", "said"),
        [
            ({"type": "file", "options": {"file_path": "/elsewhere"}}, "writes to /elsewhere"),
            ({"type": "socket", "options": {}}, "is of type socket"),
        ],
    )
    def test_another_one_is_not_replaced(
        self, vault: FakeVault, capsys: Capture, device: dict[str, Any], said: str
    ) -> None:
        vault.on("GET", "sys/audit", {"data": {"file/": device}})
        result = for_vault(
            capsys, "vault_audit_file", token="hvs.theToken", file_path="/var/log/vault/audit.log"
        ).fails()
        assert said in result["msg"]
        assert {seen.method for seen in vault.seen} == {"GET"}


def test_the_environments_address(vault: FakeVault, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAULT_ADDR", URL)
    vault.on("GET", "sys/seal-status", SEAL)
    assert Runner(capsys, "vault_unseal", key_shares=SHARES)()["changed"] is False
    vault.on("GET", "sys/seal-status", SEAL, at="https://vault-2:8200")
    for_vault(capsys, "vault_unseal", key_shares=SHARES, url="https://vault-2:8200")()
    assert [seen.node for seen in vault.seen] == [URL, "https://vault-2:8200"]


def test_no_address_at_all(vault: FakeVault, capsys: Capture) -> None:
    result = Runner(capsys, "vault_unseal", key_shares=SHARES).fails()
    assert (result["error_type"], "VAULT_ADDR" in result["msg"]) == ("VaultConfigError", True)
