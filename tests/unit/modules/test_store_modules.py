# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules on stores, as tasks do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils import module as glue
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot import stores as all_stores
from lab import archives
from unit.modules.runner import Runner, for_vault
from unit.vault.fake import URL, Answer, FakeVault, Stream, errors, node

Capture = pytest.CaptureFixture[str]
API = "sys/storage/raft/snapshot"
GOOD = archives.archive()


@pytest.fixture
def stores(tmp_path: Path) -> list[dict[str, Any]]:
    return [{"type": "filesystem", "path": str(tmp_path / name)} for name in ("a", "b")]


@pytest.fixture
def backup(vault: FakeVault, capsys: Capture, tmp_path: Path, stores: list[dict[str, Any]]) -> Runner:
    node(vault, URL, 200)
    vault.on("GET", "sys/storage/raft/autopilot/state", errors(), 404)
    vault.on("GET", API, call=lambda _seen: Answer(200, Stream([GOOD])))
    options = {"token": "hvs.operator", "stores": stores, "state_directory": str(tmp_path / "state")}
    return for_vault(capsys, "vault_snapshot_backup", **options)


def test_the_options_are_those_that_stores_take() -> None:
    taken = set(glue.STORES_SPEC["stores"]["options"])
    assert taken - {"type", "required", "retention"} == {
        name for options in all_stores._OPTIONS.values() for name in options
    }
    for secret in ("secret_key", "session_token", "proxies"):
        assert glue.STORES_SPEC["stores"]["options"][secret]["no_log"] is True


class TestBackup:
    def test_four_runs(self, backup: Runner, tmp_path: Path) -> None:
        before, done, _again, after = backup.four_runs(min_interval=3600)
        assert [before["result"], done["result"], after["result"]] == ["success", "success", "skipped"]
        assert "good snapshot" in after["skipped_because"]
        name = done["snapshot"]["name"]
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() == GOOD
        assert [one["verified"] for one in done["destinations"]] == [True, True]

    def test_a_failure_says_what_there_is_all_the_same(self, backup: Runner, stores: list[dict[str, Any]]) -> None:
        bad = [stores[0], {"type": "filesystem", "path": "/nowhere/at/all"}]
        result = backup.fails(stores=bad)
        assert result["error_type"] == "StoreError"
        assert "/nowhere/at does not exist" in result["msg"] == result["problem"]
        assert [one["verified"] for one in result["destinations"]] == [True, False]
        assert result["changed"] is True

    def test_retention_as_an_operator_gives_it(self, backup: Runner, stores: list[dict[str, Any]]) -> None:
        rule = {"max_age_days": 30, "min_count": 7}
        assert backup(stores=[{**stores[0], "retention": rule}])["result"] == "success"
        result = backup.fails(stores=[{**stores[0], "retention": {**rule, "min_count": 0}}])
        assert "min_count is 0" in result["msg"]


class TestStores:
    def test_what_was_stored_is_listed_and_fetched(
        self, backup: Runner, capsys: Capture, tmp_path: Path, stores: list[dict[str, Any]]
    ) -> None:
        name = backup()["snapshot"]["name"]
        listed = Runner(capsys, "vault_snapshot_store_info", stores=stores)()
        assert (listed["changed"], listed["latest"]["name"]) == (False, name)
        assert len(listed["snapshots"]) == 2
        fetch = Runner(capsys, "vault_snapshot_fetch", stores=stores, dest=str(tmp_path / "x.snap"))
        before, done, _again, after = fetch.four_runs()
        assert [before["verified"], done["verified"], after["verified"]] == [False, True, True]
        assert after["sha256"] == done["sha256"]
        (tmp_path / "a" / name).write_bytes(GOOD[:-1])
        (tmp_path / "b" / name).write_bytes(GOOD[:-1])
        (tmp_path / "x.snap").unlink()
        result = fetch.fails()
        assert result["error_type"] == "SnapshotError"
        assert "cut short" in result["msg"]
