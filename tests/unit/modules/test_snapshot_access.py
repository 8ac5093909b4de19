# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The backup's access to Vault: the four runs, and what of an existing one counts as a change."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.vault import approle
from unit.modules.runner import Runner, for_vault
from unit.vault.fake import Answer, FakeVault, Seen

ROLE = "auth/approle/role/vault-snapshot"


class Server:
    """A Vault that keeps what is written to it."""

    def __init__(self, vault: FakeVault) -> None:
        self.kept: dict[str, Any] = {"sys/auth": {"token/": {"type": "token"}}}
        vault.on("GET", "sys/leader", {"is_self": True})
        for path in ("sys/auth", "sys/policies/acl/vault-snapshot", ROLE, f"{ROLE}/role-id"):
            vault.on("GET", path, call=self.read)
        for method, path in (("PUT", "sys/policies/acl/vault-snapshot"), ("POST", ROLE), ("POST", "sys/auth/approle")):
            vault.on(method, path, call=self.write)
        vault.on("POST", f"{ROLE}/secret-id", {"data": {"secret_id": "the-secret-id"}})

    def read(self, seen: Seen) -> Answer:
        if seen.path not in self.kept:
            return Answer(404, {"errors": []})
        return Answer(200, {"data": self.kept[seen.path]})

    def write(self, seen: Seen) -> Answer:
        if seen.path == "sys/auth/approle":
            self.kept["sys/auth"]["approle/"] = seen.json
        else:
            self.kept.setdefault(seen.path, {}).update(seen.json)
        if seen.path == ROLE:
            self.kept[f"{ROLE}/role-id"] = {"role_id": "the-role-id"}
        return Answer(204)


@pytest.fixture
def server(vault: FakeVault) -> Server:
    return Server(vault)


@pytest.fixture
def access(capsys: pytest.CaptureFixture[str], server: Server) -> Runner:
    return for_vault(capsys, "vault_snapshot_access", token="s.root", role="vault-snapshot")


def test_four_runs(access: Runner, server: Server) -> None:
    results = access.four_runs()
    assert [result["role_id"] for result in results] == [None, "the-role-id", "the-role-id", "the-role-id"]
    assert server.kept[ROLE]["token_policies"] == ["vault-snapshot"]
    assert server.kept[ROLE]["token_no_default_policy"] is True
    assert "sys/storage/raft/snapshot" in server.kept["sys/policies/acl/vault-snapshot"]["policy"]


@pytest.mark.parametrize(
    ("path", "drift"),
    [
        ("sys/policies/acl/vault-snapshot", {"policy": 'path "*" { capabilities = ["sudo"] }'}),
        (ROLE, {"token_policies": ["vault-snapshot", "root"]}),
        (ROLE, {"token_no_default_policy": False}),
        (ROLE, {"secret_id_bound_cidrs": None, "token_bound_cidrs": ["0.0.0.0/0"]}),
    ],
)
def test_what_has_drifted_is_put_right(access: Runner, server: Server, path: str, drift: dict[str, Any]) -> None:
    access()
    good = dict(server.kept[path])
    server.kept[path].update(drift)
    access.four_runs()
    assert server.kept[path] == good


def test_what_vault_tells_besides_is_no_change(access: Runner, server: Server) -> None:
    access(bound_cidrs=["192.0.2.1/32", "192.0.2.2/32"])
    server.kept[ROLE].update(bind_secret_id=True, token_bound_cidrs=["192.0.2.2/32", "192.0.2.1/32"])
    assert not access(bound_cidrs=["192.0.2.1/32", "192.0.2.2/32"])["changed"]


def test_without_a_role_only_the_policy_is_written(access: Runner, server: Server) -> None:
    access.options.pop("role")
    access.four_runs()
    assert ROLE not in server.kept
    assert "approle/" not in server.kept["sys/auth"]


def test_a_secret_id_is_made_when_asked_for_and_given_to_a_task_with_no_log_only(
    access: Runner, vault: FakeVault
) -> None:
    refused = access.fails(new_secret_id=True)
    assert "no_log: true" in refused["msg"]
    assert access(new_secret_id=True, no_log=True, check=True)["secret_id"] is None
    assert not [seen for seen in vault.seen if seen.path.endswith("secret-id")]
    assert access(new_secret_id=True, no_log=True)["secret_id"] == "the-secret-id"
    assert access()["secret_id"] is None


def test_the_policy_holds_no_more_than_two_paths() -> None:
    assert approle.SNAPSHOT_POLICY.count("path ") == 2
