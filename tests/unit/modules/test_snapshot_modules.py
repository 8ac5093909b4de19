# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take, verify, find and restore snapshots, as tasks do."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from lab import archives
from unit.modules.runner import Runner, for_vault
from unit.vault.fake import URL, Answer, FakeVault, Seen, Stream, errors, node

Capture = pytest.CaptureFixture[str]
API = "sys/storage/raft/snapshot"
GOOD = archives.archive()
LOGIN: dict[str, Any] = {"auth_method": "approle", "role_id": "r", "secret_id": "theSecretId"}


@pytest.fixture
def cluster(vault: FakeVault) -> FakeVault:
    """A leader that gives snapshots to who has logged in."""
    node(vault, URL, 200)
    vault.on("GET", "sys/storage/raft/autopilot/state", errors(), 404)
    vault.on("POST", "auth/approle/login", {"auth": {"client_token": "hvs.login"}})
    vault.on("POST", "auth/token/revoke-self", status=204)
    return vault.on("GET", API, call=lambda _seen: Answer(200, Stream([GOOD])))


def revoked(vault: FakeVault) -> list[str | None]:
    return [seen.token for seen in vault.sent("POST", "auth/token/revoke-self")]


class TestTake:
    @pytest.fixture
    def run(self, cluster: FakeVault, capsys: Capture, tmp_path: Path) -> Runner:
        return for_vault(capsys, "vault_raft_snapshot", dest=str(tmp_path), **LOGIN)

    def test_one_that_is_young_enough_is_kept(self, run: Runner, cluster: FakeVault, tmp_path: Path) -> None:
        before, done, _again, after = run.four_runs(max_age=3600)
        assert before["path"] == str(tmp_path)
        assert Path(done["path"]).read_bytes() == GOOD
        assert after["path"] == done["path"]
        for name in ("taken_at", "verified", "index", "size", "sha256", "key_counts", "vault_version", "cluster_id"):
            assert after[name] == done[name], name
        assert (done["index"], done["verified"], done["vault_version"]) == (4711, True, "1.21.0")
        assert len(cluster.sent("GET", API)) == 1
        assert "theSecretId" not in run.output

    def test_each_run_takes_one_without_an_age(self, run: Runner, cluster: FakeVault) -> None:
        assert [run()["changed"], run()["changed"]] == [True, True]
        assert len(cluster.sent("GET", API)) == 2

    def test_check_mode_looks_for_the_leader_and_writes_nothing(
        self, run: Runner, cluster: FakeVault, tmp_path: Path
    ) -> None:
        assert run(check=True)["changed"] is True
        assert list(tmp_path.iterdir()) == []
        cluster.clear("GET", "sys/leader", URL).on("GET", "sys/leader", {"is_self": False, "leader_address": ""})
        assert "knows of no leader" in run.fails(check=True)["msg"]

    def test_its_login_is_given_back(self, run: Runner, cluster: FakeVault) -> None:
        run()
        assert revoked(cluster) == ["hvs.login"]
        cluster.clear("GET", API).on("GET", API, errors("permission denied"), 403)
        assert run.fails()["error_type"] == "VaultPermissionError"
        assert revoked(cluster) == ["hvs.login"] * 2

    def test_the_operators_token_is_not(self, cluster: FakeVault, capsys: Capture, tmp_path: Path) -> None:
        for_vault(capsys, "vault_raft_snapshot", dest=str(tmp_path), token="hvs.operator")()
        assert revoked(cluster) == []

    def test_one_that_does_not_arrive_whole_is_a_failure(self, run: Runner, cluster: FakeVault, tmp_path: Path) -> None:
        cluster.clear("GET", API).on("GET", API, Stream([GOOD[:-1]]))
        assert run.fails()["error_type"] == "SnapshotCorruptError"
        assert list(tmp_path.iterdir()) == []


class TestVerify:
    def test_info(self, capsys: Capture, tmp_path: Path) -> None:
        path = tmp_path / "x.snap"
        path.write_bytes(GOOD)
        run = Runner(capsys, "vault_raft_snapshot_info", path=str(path))
        good = run()
        assert (good["changed"], good["verified"], good["index"]) == (False, True, 4711)
        path.write_bytes(GOOD[:-1])
        bad = run()
        assert (bad.get("failed", False), bad["verified"], "index" in bad) == (False, False, False)
        path.unlink()
        assert run.fails()["error_type"] == "StoreError"

    def test_find(self, capsys: Capture, tmp_path: Path) -> None:
        names = [f"prod-2026112{day}T020000Z.snap" for day in (2, 3, 4)]
        for name, data in zip(names, (GOOD, GOOD, b"")):
            (tmp_path / name).write_bytes(data)
        run = Runner(capsys, "vault_raft_snapshot_find", path=str(tmp_path))
        found = run()
        assert (found["changed"], found["path"]) == (False, str(tmp_path / names[1]))
        assert [rejected["path"] for rejected in found["rejected"]] == [str(tmp_path / names[2])]
        assert run.fails(candidates=1)["error_type"] == "SnapshotError"

    def test_a_damaged_manifest_is_passed_over_with_its_snapshot(self, capsys: Capture, tmp_path: Path) -> None:
        old, new = (tmp_path / f"prod-2026112{day}T020000Z.snap" for day in (2, 3))
        for file in (old, new):
            file.write_bytes(GOOD)
        (tmp_path / f"{new.name}.json").write_text("{")
        found = Runner(capsys, "vault_raft_snapshot_find", path=str(tmp_path))()
        assert found["path"] == str(old)
        assert f"{new}.json is damaged" in found["rejected"][0]["problem"]

    def test_what_a_backup_has_flagged_counts_by_its_name_alone(self, capsys: Capture, tmp_path: Path) -> None:
        old, new = (tmp_path / f"prod-2026112{day}T020000Z.snap" for day in (2, 3))
        for file in (old, new):
            file.write_bytes(GOOD)
        sha256 = Runner(capsys, "vault_raft_snapshot_info", path=str(new))()["sha256"]
        (tmp_path / f"{new.name}.json").write_text(json.dumps({"sha256": sha256, "flagged": "it has 3 keys"}))
        found = Runner(capsys, "vault_raft_snapshot_find", path=str(tmp_path), candidates=1)()
        assert found["path"] == str(old)
        assert [rejected["path"] for rejected in found["rejected"]] == [str(new)]
        assert "it has 3 keys" in found["rejected"][0]["problem"]
        assert Runner(capsys, "vault_raft_snapshot_find", path=str(new))()["path"] == str(new)
        old.unlink()
        assert "unflagged" in Runner(capsys, "vault_raft_snapshot_find", path=str(tmp_path)).fails()["msg"]


class TestRestore:
    @pytest.fixture
    def run(self, cluster: FakeVault, capsys: Capture, tmp_path: Path) -> Runner:
        (tmp_path / "x.snap").write_bytes(GOOD)

        def reload(_seen: Seen) -> Answer:
            cluster.clear("GET", "sys/leader", URL)
            cluster.on("GET", "sys/leader", {"is_self": True, "leader_address": URL, "raft_applied_index": 90})
            return Answer(204)

        for api in (API, f"{API}-force"):
            cluster.on("POST", api, call=reload)
        return for_vault(capsys, "vault_raft_restore", path=str(tmp_path / "x.snap"), **LOGIN)

    def peers(self, vault: FakeVault, count: int) -> None:
        peer = {"node_id": "x", "address": "x:8201", "leader": False, "voter": True}
        vault.on("GET", "sys/storage/raft/configuration", {"data": {"config": {"servers": [peer] * count}}})

    def posts(self, vault: FakeVault) -> list[str]:
        return [seen.path for seen in vault.seen if seen.method == "POST" and seen.path.startswith(API)]

    def test_check_mode_verifies_and_sends_nothing(self, run: Runner, cluster: FakeVault) -> None:
        result = run(check=True, force=True)
        assert (result["changed"], result["leader"], result["index"]) == (True, URL, 4711)
        assert self.posts(cluster) == []

    def test_check_mode_asks_the_named_node_that_leads(self, run: Runner, cluster: FakeVault) -> None:
        node(cluster, "https://vault-9:8200", 200, cluster_id="origin")
        cluster.clear("GET", "sys/leader", URL)
        cluster.on("GET", "sys/leader", {"is_self": False, "leader_address": "https://vault-9:8200"})
        assert run(check=True, nodes=[URL])["leader"] == URL

    def test_check_mode_finds_what_would_fail(self, run: Runner, cluster: FakeVault, tmp_path: Path) -> None:
        node(cluster, URL, 200, storage_type="consul")
        assert run.fails(check=True)["error_type"] == "VaultConfigError"
        (tmp_path / "x.snap").write_bytes(b"")
        assert run.fails(check=True)["error_type"] == "SnapshotCorruptError"

    @pytest.mark.parametrize(("force", "api"), [(True, f"{API}-force"), (False, API)])
    def test_each_run_restores_once(self, run: Runner, cluster: FakeVault, force: bool, api: str) -> None:
        result = run(force=force)
        assert (result["changed"], result["leader"], result["sealed"]) == (True, URL, False)
        assert set(result["seconds"]) == {"peers", "verify", "upload", "reload", "nodes"}
        assert self.posts(cluster) == [api]

    def test_the_login_that_is_gone_is_not_given_back(self, run: Runner, cluster: FakeVault) -> None:
        run(force=True)
        assert revoked(cluster) == []

    def test_nothing_without_a_file(self, run: Runner, cluster: FakeVault, tmp_path: Path) -> None:
        (tmp_path / "x.snap").unlink()
        assert "Nothing was sent" in run.fails()["msg"]
        assert cluster.seen == []

    def test_not_before_the_peers_are_there(self, run: Runner, cluster: FakeVault) -> None:
        self.peers(cluster, 2)
        assert "does not have 3 raft peers" in run.fails(force=True, nodes=[URL] * 3, nodes_timeout=0)["msg"]
        assert self.posts(cluster) == []
        assert run(force=True, nodes=[URL] * 2, nodes_timeout=0)["changed"] is True

    @pytest.mark.parametrize(
        ("status", "values", "problem", "missed"),
        [
            (429, {}, None, False),
            (503, {}, "is sealed", False),
            (429, {"cluster_id": "old"}, "has missed the restore's change of keys", True),
        ],
    )
    def test_what_a_node_lacks_afterwards_is_an_answer(
        self,
        run: Runner,
        cluster: FakeVault,
        status: int,
        values: dict[str, Any],
        problem: str | None,
        missed: bool,
    ) -> None:
        other = "https://vault-9:8200"
        self.peers(cluster, 2)
        node(cluster, other, status, **values)
        done = run(force=True, nodes=[URL, other], nodes_timeout=0)
        assert (done["changed"], done["missed_restore"]) == (True, missed)
        if problem is None:
            assert done["nodes_problem"] is None
        else:
            assert f"{other} {problem}" in done["nodes_problem"]


def test_taken_at_is_utc(cluster: FakeVault, capsys: Capture, tmp_path: Path) -> None:
    taken = for_vault(capsys, "vault_raft_snapshot", dest=str(tmp_path), **LOGIN)()["taken_at"]
    assert datetime.fromisoformat(taken).tzinfo == timezone.utc
