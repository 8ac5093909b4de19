# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What counts as a secret that can be read. The answers are Vault 1.21's."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.errors import (
    VaultApiError,
    VaultAuthError,
    VaultSealedError,
    VaultUnreachableError,
)
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.secrets import SecretProof, prove
from unit.vault.fake import FakeVault, errors, refused

PREFLIGHT = errors("preflight capability check returned 403, please ensure client's policies grant access to path")
VALUE = "hunter2hunter2"


def mount(vault: FakeVault, path: str, prefix: str, version: str | None) -> None:
    data = {"path": prefix, "type": "kv", "options": {"version": version} if version else None}
    vault.on("GET", f"sys/internal/ui/mounts/{path}", {"data": data})


def ask(vault: FakeVault, path: str, **options: Any) -> SecretProof:
    return prove(vault.client(token="hvs.t"), path, **options)


class TestKv:
    @pytest.mark.parametrize("path", ["secret/app/db", "/secret/app/db/", "secret/data/app/db"])
    def test_version_2(self, vault: FakeVault, path: str) -> None:
        mount(vault, path.strip("/"), "secret/", "2")
        data = {"data": {"user": "app", "password": VALUE}, "metadata": {"version": 7}}
        vault.on("GET", "secret/data/app/db", {"data": data})
        proof = ask(vault, path)
        assert (proof.readable, proof.problem, proof.kind, proof.version) == (True, None, "kv2", 7)
        assert proof.fields == ["password", "user"]

    def test_version_2_at_a_mount_of_two_parts(self, vault: FakeVault) -> None:
        mount(vault, "team/kv/app", "team/kv/", "2")
        vault.on("GET", "team/kv/data/app", {"data": {"data": {"a": 1}, "metadata": {"version": 1}}})
        assert ask(vault, "team/kv/app").readable

    @pytest.mark.parametrize("version", ["1", None])
    def test_version_1(self, vault: FakeVault, version: str | None) -> None:
        mount(vault, "kv/data/app", "kv/", version)
        vault.on("GET", "kv/data/app", {"data": {"a": VALUE}, "lease_id": "", "lease_duration": 2764800})
        proof = ask(vault, "kv/data/app")
        assert (proof.readable, proof.kind, proof.fields) == (True, "kv1", ["a"])
        assert (proof.version, proof.lease_id, proof.lease_duration, proof.lease_revoked) == (None, None, None, None)

    def test_a_token_that_may_not_ask_for_the_mount_may_still_read(self, vault: FakeVault) -> None:
        vault.on("GET", "sys/internal/ui/mounts/kv/app", PREFLIGHT, 403).on("GET", "kv/app", {"data": {"a": 1}})
        assert ask(vault, "kv/app").readable


class TestValues:
    def test_only_when_asked_for(self, vault: FakeVault) -> None:
        mount(vault, "kv/app", "kv/", "1")
        vault.on("GET", "kv/app", {"data": {"a": VALUE}})
        assert ask(vault, "kv/app").values is None
        assert ask(vault, "kv/app", values=True).values == {"a": VALUE}

    def test_are_not_shown_by_chance(self, vault: FakeVault) -> None:
        mount(vault, "kv/app", "kv/", "1")
        vault.on("GET", "kv/app", {"data": {"a": VALUE}})
        assert VALUE not in repr(ask(vault, "kv/app", values=True))


class TestDynamic:
    def issue(self, vault: FakeVault) -> None:
        vault.on("GET", "sys/internal/ui/mounts/database/creds/ro", {"data": {"path": "database/", "options": None}})
        lease = {"lease_id": "database/creds/ro/abc", "lease_duration": 3600}
        vault.on("GET", "database/creds/ro", {"data": {"username": "v-ro", "password": VALUE}, **lease})

    def test_its_lease_is_given_back(self, vault: FakeVault) -> None:
        self.issue(vault)
        vault.on("POST", "sys/leases/revoke", status=204)
        proof = ask(vault, "database/creds/ro")
        assert (proof.readable, proof.kind, proof.fields) == (True, "dynamic", ["password", "username"])
        assert (proof.lease_id, proof.lease_duration) == ("database/creds/ro/abc", 3600)
        assert proof.lease_revoked is True
        assert vault.seen[-1].json == {"lease_id": "database/creds/ro/abc", "sync": True}

    @pytest.mark.parametrize("failure", [{"body": errors("permission denied"), "status": 403}, {"raises": refused()}])
    def test_a_lease_that_cannot_be_given_back_is_told(self, vault: FakeVault, failure: dict[str, Any]) -> None:
        self.issue(vault)
        vault.on("POST", "sys/leases/revoke", **failure)
        proof = ask(vault, "database/creds/ro")
        assert (proof.readable, proof.lease_revoked) == (True, False)

    def test_unless_it_is_wanted(self, vault: FakeVault) -> None:
        self.issue(vault)
        assert ask(vault, "database/creds/ro", revoke_lease=False).lease_revoked is None
        assert vault.sent("POST", "sys/leases/revoke") == []


class TestNotReadable:
    @pytest.mark.parametrize(
        ("status", "body", "said"),
        [
            (404, errors(), "There is nothing at secret/app in https://vault-1:8200"),
            # Deleted: the metadata is there, the data is not.
            (404, {"data": {"data": None, "metadata": {"version": 1, "deletion_time": "2026"}}}, "There is nothing at"),
            (200, {"data": {"data": None, "metadata": {"version": 1}}}, "holds no field: deleted, or empty"),
            (200, {"data": {"data": {}, "metadata": {"version": 1}}}, "holds no field"),
            (403, errors("permission denied"), "policies do not allow this"),
            (500, errors("disk on fire"), "HTTP 500: disk on fire"),
        ],
    )
    def test_is_an_answer_with_its_reason(self, vault: FakeVault, status: int, body: Any, said: str) -> None:
        mount(vault, "secret/app", "secret/", "2")
        vault.on("GET", "secret/data/app", body, status)
        proof = ask(vault, "secret/app")
        assert (proof.readable, proof.fields, proof.values) == (False, [], None)
        assert said in str(proof.problem)

    def test_no_such_mount(self, vault: FakeVault) -> None:
        vault.on("GET", "sys/internal/ui/mounts/nope/x", PREFLIGHT, 403)
        vault.on("GET", "nope/x", errors('no handler for route "nope/x". route entry not found.'), 404)
        proof = ask(vault, "nope/x")
        assert (proof.readable, proof.path) == (False, "nope/x")


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ({"body": errors("Vault is sealed"), "status": 503}, VaultSealedError),
        (
            {"body": errors("2 errors occurred:\n\t* permission denied\n\t* invalid token\n"), "status": 403},
            VaultAuthError,
        ),
        ({"raises": refused()}, VaultUnreachableError),
        # A standby that has not reached its leader yet.
        ({"status": 307, "headers": {"Location": "https://vault-2:8200/v1/kv/app"}}, VaultApiError),
        (
            {"body": errors("local node not active but active cluster node not found"), "status": 500},
            VaultUnreachableError,
        ),
    ],
)
@pytest.mark.parametrize("at", ["mount", "read"])
def test_a_server_that_cannot_be_asked_is_no_answer(
    vault: FakeVault, answer: dict[str, Any], kind: type[Exception], at: str
) -> None:
    if at == "mount":
        vault.on("GET", "sys/internal/ui/mounts/kv/app", **answer)
    else:
        mount(vault, "kv/app", "kv/", "1")
        vault.on("GET", "kv/app", **answer)
    with pytest.raises(kind):
        ask(vault, "kv/app")
