# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Root tokens from key shares: no share is ever in a message, and a server that refuses is known beforehand."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.errors import VaultApiError, VaultConfigError
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.generate_root import (
    generate_root,
    is_allowed,
    problem,
    refuses_by_default,
)
from unit.vault.fake import URL, FakeVault, errors, refused
from unit.vault.shares import ENCODED, ROOT, SHARES, generating, holds_no_share


class TestGenerateRoot:
    def test_the_token_is_that_which_vaults_own_tool_reads(self, vault: FakeVault) -> None:
        generating(vault)
        assert generate_root(vault.client(), SHARES) == ROOT
        updates = vault.sent("PUT", "sys/generate-root/update")
        assert [seen.json for seen in updates] == [{"key": share, "nonce": "n-1"} for share in SHARES[:2]]
        assert vault.sent("DELETE", "sys/generate-root/attempt") == []

    def test_too_few_shares_cancel_the_attempt(self, vault: FakeVault) -> None:
        generating(vault, required=5)
        with pytest.raises(VaultConfigError, match=r"3 key shares are too few .* 5 are required") as caught:
            generate_root(vault.client(), SHARES)
        assert vault.seen[-1].method == "DELETE"
        assert holds_no_share(caught.value)

    def test_a_refused_share_cancels_the_attempt(self, vault: FakeVault) -> None:
        generating(vault)
        vault.clear("PUT", "sys/generate-root/update")
        vault.on("PUT", "sys/generate-root/update", errors("root generation aborted"), 400)
        with pytest.raises(VaultConfigError, match=r"refused key share 1 of 3 .root generation aborted") as caught:
            generate_root(vault.client(), SHARES)
        assert vault.seen[-1].method == "DELETE"
        assert holds_no_share(caught.value)

    def test_the_reason_outlives_a_cancel_that_fails(self, vault: FakeVault) -> None:
        generating(vault, required=5)
        vault.clear("DELETE", "sys/generate-root/attempt")
        vault.on("DELETE", "sys/generate-root/attempt", raises=refused())
        with pytest.raises(VaultConfigError, match="too few"):
            generate_root(vault.client(), SHARES)

    def test_somebody_elses_attempt_is_left_alone(self, vault: FakeVault) -> None:
        generating(vault, started=True)
        with pytest.raises(VaultApiError, match=r"already being generated .* \(1 of 2 shares given\).*cancel_existing"):
            generate_root(vault.client(), SHARES)
        assert [seen.method for seen in vault.seen] == ["GET"]

    def test_unless_the_operator_says_otherwise(self, vault: FakeVault) -> None:
        generating(vault, started=True)
        assert generate_root(vault.client(), SHARES, cancel_existing=True) == ROOT
        assert [seen.method for seen in vault.seen] == ["GET", "DELETE", "PUT", "PUT", "PUT"]

    def test_the_field_of_older_versions(self, vault: FakeVault) -> None:
        generating(vault)
        vault.clear("PUT", "sys/generate-root/update")
        vault.on("PUT", "sys/generate-root/update", {"complete": True, "encoded_root_token": ENCODED})
        assert generate_root(vault.client(), SHARES) == ROOT

    def test_an_answer_of_another_length(self, vault: FakeVault) -> None:
        generating(vault)
        vault.clear("PUT", "sys/generate-root/update")
        vault.on("PUT", "sys/generate-root/update", {"complete": True, "encoded_token": ENCODED[:20]})
        with pytest.raises(VaultConfigError, match="length of its one-time password"):
            generate_root(vault.client(), SHARES)

    @pytest.mark.parametrize(("status", "said"), [(403, "permission denied"), (405, "unsupported operation")])
    def test_a_server_that_refuses_it_is_named_with_the_ways_out(
        self, vault: FakeVault, status: int, said: str
    ) -> None:
        vault.on("GET", "sys/generate-root/attempt", errors(said), status)
        with pytest.raises(
            VaultConfigError, match=f"{said}.*vault_recovery_auth.*disable_unauthed_generate_root"
        ) as caught:
            generate_root(vault.client(), SHARES)
        assert [seen.method for seen in vault.seen] == ["GET"]
        assert holds_no_share(caught.value)


@pytest.mark.parametrize(("status", "allowed"), [(200, True), (403, False), (405, False), (503, None), (500, None)])
def test_a_node_is_asked(vault: FakeVault, status: int, allowed: bool | None) -> None:
    vault.on("GET", "sys/generate-root/attempt", {}, status)
    assert is_allowed(vault.client()) is allowed


@pytest.mark.parametrize(
    ("product", "version", "refuses"),
    [
        ("Vault", "1.21.4", False),
        ("Vault", "2.0.0", True),
        ("Vault", "2.0.1+ent", True),
        ("OpenBao", "2.5.2", False),
        ("OpenBao", "2.5.3", True),
        ("OpenBao", "2.6.2", True),
        ("OpenBao", None, False),
        (None, "2.6.2", False),
    ],
)
def test_the_default_goes_by_product_and_version(product: str | None, version: str | None, refuses: bool) -> None:
    assert refuses_by_default(product, version) is refuses


def running(product: str | None, version: str) -> dict[str, Any]:
    return {"url": URL, "product": product, "version": version}


OLD, NEW = running("Vault", "1.21.0"), running("OpenBao", "2.6.2")


@pytest.mark.parametrize(
    ("nodes", "allowed", "enabled", "said"),
    [
        ([OLD], None, False, None),
        ([OLD, NEW], None, False, f"{URL} runs OpenBao 2.6.2, which by default refuses"),
        ([NEW], None, True, None),
        ([NEW], True, False, None),
        # What a node answers counts more than the operator's word.
        ([NEW], False, True, f"{URL} runs OpenBao 2.6.2, which refuses"),
        ([OLD], False, False, f"{URL} runs Vault 1.21.0, which refuses"),
    ],
)
def test_what_is_known_against_it(
    nodes: list[dict[str, Any]], allowed: bool | None, enabled: bool, said: str | None
) -> None:
    found = problem(nodes, allowed, enabled)
    assert (found is None) if said is None else (said in str(found))
