# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the decision rests on is what the servers and the folder really say."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.files import StoreError
from ansible_collections.custodes.security_dr.plugins.module_utils.recovery.errors import RecoveryError
from ansible_collections.custodes.security_dr.plugins.module_utils.recovery.journal import INIT, Journal
from ansible_collections.custodes.security_dr.plugins.module_utils.recovery.survey import survey
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.errors import VaultConfigError
from unit.vault.fake import OTHER, URL, Answer, Clock, FakeVault, Seen, down, errors, node

ROOT = "hvs.ofTheTemporaryCluster"
SNAPSHOT = {"path": "/backups/prod.snap", "taken_at": "2026-11-24T02:00:00+00:00", "state_size": 2**20}
START = datetime(2026, 11, 24, 3, 0, tzinfo=timezone.utc)


@pytest.fixture
def run(vault: FakeVault, clock: Clock, tmp_path: Path) -> Any:
    def ask(confirm: str = "", free: Any = None, writes: bool = True, now: datetime = START) -> dict[str, Any]:
        clients = [vault.client(url) for url in (URL, OTHER)]
        return survey(
            clients,
            tmp_path,
            SNAPSHOT,
            confirm,
            free or {},
            30.0,
            writes,
            clock.sleep,
            clock.monotonic,
            lambda: now,
        )

    return ask


def fresh(vault: FakeVault) -> None:
    for url in (URL, OTHER):
        node(vault, url, 501)


def serving(vault: FakeVault) -> None:
    node(vault, URL, 429, leader=OTHER)
    node(vault, OTHER, 200)


def keys(folder: Path) -> Path:
    """Write the keys of a temporary cluster, as a run that was killed leaves them."""
    (folder / INIT).write_text(json.dumps({"root_token": ROOT}))
    noted(folder, initializing=True)
    return folder / INIT


def noted(folder: Path, **facts: Any) -> None:
    (Journal.load(folder) or Journal.new(folder, [URL, OTHER], START)).note(**facts)


def restore_noted(folder: Path) -> str | None:
    left = Journal.load(folder)
    assert left is not None
    return left.restore


class TestFresh:
    def test_initialise(self, vault: FakeVault, run: Any, clock: Clock, tmp_path: Path) -> None:
        fresh(vault)
        result = run()
        assert (result["changed"], result["action"], result["seal_type"]) == (False, "initialize", "shamir")
        assert result["init_file"] == str(tmp_path / INIT)
        assert clock.slept == []
        assert list(tmp_path.iterdir()) == []

    def test_keys_of_a_cluster_that_is_gone_are_set_aside(self, vault: FakeVault, run: Any, tmp_path: Path) -> None:
        fresh(vault)
        for number in (1, 2):
            left = keys(tmp_path)
            run()
            assert not left.exists()
            assert json.loads((tmp_path / f"init.{number}.json").read_text())["root_token"] == ROOT

    def test_but_not_in_check_mode(self, vault: FakeVault, run: Any, tmp_path: Path) -> None:
        fresh(vault)
        noted(tmp_path, restore="done")
        left = keys(tmp_path)
        run(writes=False)
        assert left.exists()
        assert restore_noted(tmp_path) == "done"

    def test_check_mode_passes_over_an_abandoned_journal(self, vault: FakeVault, run: Any, tmp_path: Path) -> None:
        serving(vault)
        noted(tmp_path, restore="done")
        assert run(writes=False)["action"] == "verify"
        with pytest.raises(RecoveryError):
            run(writes=False, now=START + timedelta(days=2))

    def test_a_restore_on_nodes_that_are_gone_is_forgotten(self, vault: FakeVault, run: Any, tmp_path: Path) -> None:
        fresh(vault)
        noted(tmp_path, restore="done", safety_snapshot="/x")
        assert run()["action"] == "initialize"
        assert restore_noted(tmp_path) is None
        # Killed right after these nodes were initialised, before the restore: nothing has been restored on them.
        keys(tmp_path)
        serving(vault)
        vault.on("GET", "auth/token/lookup-self", {})
        assert run()["action"] == "continue"

    def test_room_that_was_only_reserved_holds_no_keys(self, vault: FakeVault, run: Any, tmp_path: Path) -> None:
        fresh(vault)
        noted(tmp_path, initializing=True)
        (tmp_path / INIT).write_text(" " * 65536)
        assert run()["action"] == "initialize"
        assert (tmp_path / INIT).exists()


class TestForeignKeys:
    """A file init.json whose root token works, and that no run of this recovery made: as `operator init` leaves it."""

    def test_a_living_cluster_is_not_taken_for_a_temporary_one(
        self, vault: FakeVault, run: Any, tmp_path: Path
    ) -> None:
        serving(vault)
        (tmp_path / INIT).write_text(json.dumps({"root_token": ROOT}))
        vault.on("GET", "auth/token/lookup-self", {})
        with pytest.raises(RecoveryError, match="holds the data of the cluster 'prod'"):
            run()
        assert vault.tokens_at(OTHER) == set()
        assert (tmp_path / INIT).exists()

    def test_nor_after_the_journal_was_abandoned(self, vault: FakeVault, run: Any, tmp_path: Path) -> None:
        serving(vault)
        noted(tmp_path, restore=None)
        (tmp_path / INIT).write_text(json.dumps({"root_token": ROOT}))
        with pytest.raises(RecoveryError, match="holds the data of the cluster 'prod'"):
            run()

    def test_on_fresh_nodes_it_is_set_aside(self, vault: FakeVault, run: Any, tmp_path: Path) -> None:
        fresh(vault)
        (tmp_path / INIT).write_text(json.dumps({"root_token": ROOT}))
        assert run()["action"] == "initialize"
        assert json.loads((tmp_path / "init.1.json").read_text())["root_token"] == ROOT


class TestGoingOn:
    @pytest.mark.parametrize(("status", "action"), [(200, "continue"), (403, "verify")])
    def test_the_leader_is_asked_whose_cluster_it_is(
        self, vault: FakeVault, run: Any, tmp_path: Path, status: int, action: str
    ) -> None:
        serving(vault)
        keys(tmp_path)
        noted(tmp_path, restore="begun")
        vault.on("GET", "auth/token/lookup-self", errors("invalid token"), status, at=OTHER)
        assert run()["action"] == action
        assert vault.tokens_at(URL) == set()
        assert vault.tokens_at(OTHER) == {ROOT}

    def test_a_leader_is_waited_for(self, vault: FakeVault, run: Any, clock: Clock, tmp_path: Path) -> None:
        node(vault, URL, 429)
        node(vault, OTHER, 429)
        keys(tmp_path)
        vault.on("GET", "auth/token/lookup-self", {})

        def elect(_seen: Seen) -> Answer:
            serving(vault)
            return Answer(429, {"initialized": True, "sealed": False})

        vault.clear("GET", "sys/health", OTHER)
        for _unused in range(3):
            vault.on("GET", "sys/health", {"initialized": True, "sealed": False}, 429, at=OTHER)
        vault.on("GET", "sys/health", call=elect, at=OTHER)
        assert run()["action"] == "continue"
        assert clock.slept == [0.5] * 4

    def test_not_for_ever(self, vault: FakeVault, run: Any, clock: Clock, tmp_path: Path) -> None:
        for url in (URL, OTHER):
            node(vault, url, 429)
        keys(tmp_path)
        assert run()["action"] == "continue"
        assert sum(clock.slept) == 30.0

    def test_nor_without_an_earlier_run(self, vault: FakeVault, run: Any, clock: Clock) -> None:
        for url in (URL, OTHER):
            node(vault, url, 429)
        with pytest.raises(RecoveryError, match="none of the named nodes leads it"):
            run(confirm="prod")
        assert clock.slept == []


class TestRefused:
    def test_with_every_reason(self, vault: FakeVault, run: Any, tmp_path: Path) -> None:
        node(vault, URL, 200)
        down(vault, OTHER)
        with pytest.raises(RecoveryError, match="The recovery is refused, this run has changed nothing:\n- ") as caught:
            run(confirm="prod", free={"vault-1": 1})
        assert str(caught.value).count("\n- ") == 2
        assert "connection refused" in str(caught.value)
        assert "vault-1 has 0 MiB free" in str(caught.value)

    def test_keys_are_not_touched_by_a_refusal(self, vault: FakeVault, run: Any, tmp_path: Path) -> None:
        fresh(vault)
        left = keys(tmp_path)
        with pytest.raises(RecoveryError):
            run(free={"vault-1": 1})
        assert left.exists()

    def test_without_the_clusters_name(self, vault: FakeVault, run: Any) -> None:
        serving(vault)
        with pytest.raises(
            RecoveryError,
            match=r"cluster 'prod'\. .*name in vault_recovery_confirm",
        ):
            run()
        assert run(confirm="prod")["action"] == "replace"
        assert {seen.method for seen in vault.seen} == {"GET"}

    def test_by_a_wrong_address(self, vault: FakeVault, run: Any) -> None:
        fresh(vault)
        vault.clear("GET", "sys/health", URL)
        vault.on("GET", "sys/health", b"Client sent an HTTP request to an HTTPS server.\n", 400, at=URL)
        with pytest.raises(VaultConfigError):
            run()

    @pytest.mark.parametrize("name", [INIT, "journal.json"])
    def test_by_what_is_damaged(self, vault: FakeVault, run: Any, tmp_path: Path, name: str) -> None:
        if name == INIT:
            noted(tmp_path, initializing=True)
        (tmp_path / name).write_text("{")
        with pytest.raises(StoreError, match=f"{name} is damaged"):
            run()
        assert vault.seen == []
