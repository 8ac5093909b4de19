# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Initialise, unseal, generate a root token; and that no key share is ever in a message."""

from __future__ import annotations

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.vault import operator
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.errors import (
    VaultApiError,
    VaultConfigError,
    VaultUnreachableError,
)
from unit.vault.fake import OTHER, SEAL, URL, Clock, FakeVault, errors, refused, silent
from unit.vault.shares import SHARES, holds_no_share, sealed


class TestInitialise:
    def test_shamir(self, vault: FakeVault) -> None:
        vault.on("GET", "sys/seal-status", {"type": "shamir"})
        vault.on("PUT", "sys/init", {"keys": ["6f"], "keys_base64": ["b1", "b2", "b3"], "root_token": "hvs.root"})
        init = operator.initialize(vault.client(), 3, 2)
        assert vault.seen[-1].json == {"secret_shares": 3, "secret_threshold": 2}
        assert init == {
            "unseal_keys_b64": ["b1", "b2", "b3"],
            "unseal_shares": 3,
            "unseal_threshold": 2,
            "recovery_keys_b64": [],
            "recovery_keys_shares": 0,
            "recovery_keys_threshold": 0,
            "root_token": "hvs.root",
        }

    def test_auto_unseal(self, vault: FakeVault) -> None:
        vault.on("GET", "sys/seal-status", {"type": "awskms"})
        body = {"keys_base64": [], "recovery_keys_base64": ["r1"], "root_token": "hvs.root"}
        vault.on("PUT", "sys/init", body)
        init = operator.initialize(vault.client(), 1, 1)
        assert vault.seen[-1].json == {"recovery_shares": 1, "recovery_threshold": 1}
        assert (init["unseal_keys_b64"], init["recovery_keys_b64"]) == ([], ["r1"])
        assert (init["unseal_shares"], init["recovery_keys_shares"], init["recovery_keys_threshold"]) == (1, 1, 1)

    @pytest.mark.parametrize(("seal", "name"), [("shamir", "pgp_keys"), ("awskms", "recovery_pgp_keys")])
    def test_pgp_keys(self, vault: FakeVault, seal: str, name: str) -> None:
        vault.on("GET", "sys/seal-status", {"type": seal}).on("PUT", "sys/init", {"keys_base64": ["b"]})
        operator.initialize(vault.client(), 2, 2, ["one", "two"], "three")
        assert vault.seen[-1].json[name] == ["one", "two"]
        assert vault.seen[-1].json["root_token_pgp_key"] == "three"

    @pytest.mark.parametrize(("shares", "threshold"), [(3, 0), (3, 4), (3, 1), (0, 0), (1, 2), (-1, -1)])
    def test_shares_that_cannot_be(self, vault: FakeVault, shares: int, threshold: int) -> None:
        with pytest.raises(VaultConfigError, match=f"{threshold} of {shares} key shares is no valid threshold"):
            operator.initialize(vault.client(), shares, threshold)
        assert vault.seen == []

    def test_a_pgp_key_too_few(self, vault: FakeVault) -> None:
        with pytest.raises(VaultConfigError, match="1 PGP keys for 2 key shares"):
            operator.initialize(vault.client(), 2, 2, ["one"])
        assert vault.seen == []

    def test_is_asked_for_once(self, vault: FakeVault) -> None:
        vault.on("GET", "sys/seal-status", {"type": "shamir"}).on("PUT", "sys/init", raises=silent())
        with pytest.raises(VaultUnreachableError):
            operator.initialize(vault.client(retries=5), 1, 1)
        assert len(vault.sent("PUT", "sys/init")) == 1


class TestWaitInitialised:
    def test_until_its_leader_has_let_it_in(self, vault: FakeVault, clock: Clock) -> None:
        vault.on("GET", "sys/init", {"initialized": False}).on("GET", "sys/init", {"initialized": True})
        operator.wait_initialized(vault.client(), 10, clock.sleep, clock.monotonic)
        assert clock.slept == [0.25]

    @pytest.mark.parametrize("timeout", [0, 1])
    def test_not_for_ever(self, vault: FakeVault, clock: Clock, timeout: float) -> None:
        vault.on("GET", "sys/init", {"initialized": False})
        operator.wait_initialized(vault.client(), timeout, clock.sleep, clock.monotonic)
        assert sum(clock.slept) == timeout


class TestUnseal:
    def test_with_no_share_more_than_needed(self, vault: FakeVault) -> None:
        sealed(vault)
        status = operator.unseal(vault.client(), SHARES)
        assert (status["sealed"], "nonce" in status) == (False, False)
        assert [seen.json["key"] for seen in vault.sent("PUT", "sys/unseal")] == SHARES[:2]

    def test_a_node_that_is_still_joining_gets_no_share_of_a_next_round(self, vault: FakeVault) -> None:
        vault.on("GET", "sys/seal-status", {**SEAL, "sealed": True, "t": 2, "progress": 0})
        vault.on("PUT", "sys/unseal", {**SEAL, "sealed": True, "t": 2, "progress": 1})
        vault.on("PUT", "sys/unseal", {**SEAL, "sealed": True, "t": 2, "progress": 0})
        assert operator.unseal(vault.client(), SHARES)["sealed"] is True
        assert [seen.json["key"] for seen in vault.sent("PUT", "sys/unseal")] == SHARES[:2]

    def test_too_few_leave_it_sealed(self, vault: FakeVault) -> None:
        sealed(vault, 5)
        status = operator.unseal(vault.client(), SHARES)
        assert (status["sealed"], status["progress"], status["t"]) == (True, 3, 5)

    def test_an_unsealed_node_gets_none(self, vault: FakeVault) -> None:
        sealed(vault, sealed=False)
        assert operator.unseal(vault.client(), SHARES)["sealed"] is False
        assert vault.sent("PUT", "sys/unseal") == []

    def test_a_node_that_is_not_initialised_gets_none(self, vault: FakeVault) -> None:
        sealed(vault, initialized=False)
        with pytest.raises(VaultApiError, match="not initialised: there is nothing to unseal") as caught:
            operator.unseal(vault.client(), SHARES)
        assert caught.value.status == 501
        assert vault.sent("PUT", "sys/unseal") == []

    @pytest.mark.parametrize(("progress", "reset", "times"), [(1, True, 1), (1, False, 0), (0, True, 0)])
    def test_reset_forgets_what_was_given_before(
        self, vault: FakeVault, progress: int, reset: bool, times: int
    ) -> None:
        sealed(vault, 3, progress=progress)
        operator.unseal(vault.client(), SHARES, reset=reset)
        bodies = [seen.json for seen in vault.sent("PUT", "sys/unseal")]
        assert bodies.count({"reset": True}) == times
        assert {"reset": True} not in bodies[1:]

    def test_migration(self, vault: FakeVault) -> None:
        sealed(vault, 1)
        operator.unseal(vault.client(), SHARES, migrate=True)
        assert vault.seen[1].json == {"key": "shareOne", "migrate": True}

    def test_a_refused_share_is_told_by_its_number(self, vault: FakeVault) -> None:
        sealed(vault, 3)
        vault.clear("PUT", "sys/unseal").on("PUT", "sys/unseal", {**SEAL, "sealed": True, "progress": 1})
        vault.on("PUT", "sys/unseal", errors("invalid key:\ncipher: message authentication failed"), 400)
        with pytest.raises(VaultConfigError, match=r"refused key share 2 of 3 .invalid key: cipher") as caught:
            operator.unseal(vault.client(), SHARES)
        assert holds_no_share(caught.value)

    def test_a_share_is_never_sent_twice(self, vault: FakeVault) -> None:
        sealed(vault)
        vault.clear("PUT", "sys/unseal").on("PUT", "sys/unseal", raises=silent())
        with pytest.raises(VaultUnreachableError) as caught:
            operator.unseal(vault.client(retries=5), SHARES)
        assert len(vault.sent("PUT", "sys/unseal")) == 1
        assert holds_no_share(caught.value)


@pytest.mark.parametrize(
    ("status", "said", "valid"), [(200, "", True), (403, "invalid token", False), (403, "denied", False)]
)
def test_is_valid_and_revoke(vault: FakeVault, status: int, said: str, valid: bool) -> None:
    vault.on("GET", "auth/token/lookup-self", errors(said), status)
    vault.on("POST", "auth/token/revoke-self", errors(said), status)
    client = vault.client(token="hvs.t")
    assert operator.is_valid(client) is valid
    assert operator.revoke(client) is valid


def test_a_token_is_not_said_to_be_invalid_by_a_dead_server(vault: FakeVault) -> None:
    vault.on("GET", "auth/token/lookup-self", raises=refused()).on("POST", "auth/token/revoke-self", raises=refused())
    for ask in (operator.is_valid, operator.revoke):
        with pytest.raises(VaultUnreachableError):
            ask(vault.client(token="hvs.t"))


class TestStepDown:
    def test_waits_until_another_node_leads(self, vault: FakeVault) -> None:
        clock = Clock()
        vault.on("PUT", "sys/step-down", status=204)
        vault.on("GET", "sys/leader", {"is_self": True, "leader_address": URL})
        vault.on("GET", "sys/leader", {"is_self": False, "leader_address": ""})
        vault.on("GET", "sys/leader", {"is_self": False, "leader_address": OTHER})
        assert operator.step_down(vault.client(token="t"), 30, clock.sleep, clock.monotonic) == OTHER
        assert len(vault.sent("PUT", "sys/step-down")) == 1
        assert len(clock.slept) == 2

    def test_nobody_takes_over(self, vault: FakeVault) -> None:
        clock = Clock()
        vault.on("PUT", "sys/step-down", status=204)
        vault.on("GET", "sys/leader", {"is_self": False, "leader_address": ""})
        with pytest.raises(VaultUnreachableError, match="30 s later no other node leads"):
            operator.step_down(vault.client(token="t"), 30, clock.sleep, clock.monotonic)
        assert sum(clock.slept) >= 30
