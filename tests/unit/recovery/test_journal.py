# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run leaves for the one that goes on, and what check mode leaves alone."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils import playbook_lock as lock
from ansible_collections.custodes.security_dr.plugins.module_utils.files import StoreError, read_json
from ansible_collections.custodes.security_dr.plugins.module_utils.playbook_lock import HeldError, Holder
from ansible_collections.custodes.security_dr.plugins.module_utils.recovery.errors import RecoveryError
from ansible_collections.custodes.security_dr.plugins.module_utils.recovery.journal import INIT, JOURNAL, Journal
from ansible_collections.custodes.security_dr.plugins.module_utils.recovery.process import PROOF, Recovery
from ansible_collections.custodes.security_dr.plugins.module_utils.recovery.report import FAILED, RECOVERED, Ending

NODES = ["https://vault-1:8200", "https://vault-2:8200"]
START = datetime(2026, 11, 24, 3, 0, tzinfo=timezone.utc)
ME = Holder(os.getpid(), "now", "controller", "root")
READ = {"path": "secret/a", "node": NODES[0], "readable": True, "problem": None, "fields": ["a"]}
UNREAD = {**READ, "readable": False, "problem": "There is nothing."}


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


@pytest.fixture(autouse=True)
def holder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "current_holder", lambda: ME)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "recoveries" / "prod"


@pytest.fixture
def recovery(folder: Path) -> Recovery:
    return Recovery(folder, writes=True)


class TestJournal:
    def test_none_at_first(self, tmp_path: Path) -> None:
        assert Journal.load(tmp_path) is None

    def test_is_on_disk_after_each_change(self, tmp_path: Path) -> None:
        journal = Journal.new(tmp_path, NODES, START)
        assert not (tmp_path / JOURNAL).exists()
        changes: list[Callable[[], None]] = [
            lambda: journal.begin_run(at(1)),
            lambda: journal.note(restore="begun"),
            lambda: journal.add("Restore", {"leader": "v"}, at(3)),
        ]
        for change in changes:
            change()
            left = Journal.load(tmp_path)
            assert left is not None
            assert left.data == journal.data

    def test_a_step_began_when_the_one_before_it_ended(self, tmp_path: Path) -> None:
        journal = Journal.new(tmp_path, NODES, START)
        journal.begin_run(at(1))
        journal.add("One", {}, at(3.5))
        journal.add("Two", {"a": 1}, at(4))
        one, two = journal.data["steps"]
        assert (one["name"], one["seconds"], one["run"]) == ("One", 2.5, 1)
        assert (two["seconds"], two["detail"], two["started_at"]) == (
            0.5,
            {"a": 1},
            at(3.5).isoformat(timespec="milliseconds"),
        )

    def test_the_time_between_two_runs_is_no_steps(self, tmp_path: Path) -> None:
        journal = Journal.new(tmp_path, NODES, START)
        journal.begin_run(at(1))
        journal.add("One", {}, at(2))
        again = Journal.load(tmp_path)
        assert again is not None
        again.begin_run(at(1000))
        again.add("Two", {}, at(1003))
        assert [(step["seconds"], step["run"]) for step in again.data["steps"]] == [(1.0, 1), (3.0, 2)]
        assert again.data["started_at"].startswith("2026-11-24T03:00:00.000")

    @pytest.mark.parametrize(("value", "expected"), [(None, None), ("", None), ("begun", "begun"), ("done", "done")])
    def test_how_far_the_restore_got(self, tmp_path: Path, value: Any, expected: Any) -> None:
        assert Journal(tmp_path, {"restore": value}).restore == expected
        assert Journal(tmp_path, {}).restore is None

    def test_closing_forgets_the_keys_with_it(self, tmp_path: Path) -> None:
        journal = Journal.new(tmp_path, NODES, START)
        journal.begin_run(START)
        journal.note(initializing=True)
        (tmp_path / INIT).write_text("{}")
        (tmp_path / "init.1.json").write_text("{}")
        journal.close()
        journal.close()
        assert [path.name for path in tmp_path.iterdir()] == ["init.1.json"]

    def test_keys_that_cannot_be_removed_are_told(self, tmp_path: Path) -> None:
        (tmp_path / INIT).mkdir()
        journal = Journal.new(tmp_path, NODES, START)
        journal.note(initializing=True)
        with pytest.raises(StoreError, match=r"Cannot remove .*/init\.json.*Remove it by hand"):
            journal.close()

    def test_closing_leaves_keys_that_no_run_of_it_made(self, tmp_path: Path) -> None:
        (tmp_path / INIT).write_text("{}")
        Journal.new(tmp_path, NODES, START).close()
        assert (tmp_path / INIT).exists()


class TestStart:
    def test_makes_a_folder_for_its_owner_alone(self, recovery: Recovery, folder: Path) -> None:
        result = recovery.start(NODES, START)
        assert (result["changed"], result["resumed"], result["journal"]["runs"]) == (True, False, 1)
        assert folder.stat().st_mode & 0o777 == 0o700
        assert read_json(folder / JOURNAL) == result["journal"]

    def test_goes_on_with_what_a_killed_run_left(self, recovery: Recovery) -> None:
        recovery.start(NODES, START)
        recovery.step("Restore", {}, {"restore": "begun"}, at(5))
        result = recovery.start(NODES, at(60))
        assert (result["resumed"], result["journal"]["runs"], result["journal"]["restore"]) == (True, 2, "begun")
        assert result["journal"]["started_at"].startswith("2026-11-24T03:00:00.000")

    @pytest.mark.parametrize(("hours", "resumed"), [(24, True), (24.001, False)])
    @pytest.mark.parametrize("writes", [True, False])
    def test_not_with_one_of_another_disaster(self, folder: Path, hours: float, resumed: bool, writes: bool) -> None:
        Recovery(folder, writes=True).start(NODES, START)
        Recovery(folder, writes=True).step("Restore", {}, {"restore": "done"}, at(60))
        (folder / INIT).write_text("{}")
        result = Recovery(folder, writes=writes).start(NODES, at(60 + hours * 3600))
        assert (result["resumed"], "restore" in result["journal"]) == (resumed, resumed)
        aside = folder / "journal-20261124T030000Z.json"
        assert aside.exists() is (writes and not resumed)
        # Whose cluster it is, only its keys tell.
        assert (folder / INIT).exists()
        assert read_json(aside if aside.exists() else folder / JOURNAL)["restore"] == "done"

    @pytest.mark.parametrize("nodes", [["https://vault-9:8200"], [*NODES, "https://vault-9:8200"], NODES[::-1], []])
    def test_not_with_another_clusters(self, recovery: Recovery, folder: Path, nodes: list[str]) -> None:
        recovery.start(NODES, START)
        recovery.step("Initialize", {}, {"temporary_cluster_id": "id-1"}, at(1))
        before = (folder / JOURNAL).read_bytes()
        with pytest.raises(RecoveryError, match=f"unfinished recovery of {', '.join(NODES)}"):
            recovery.start(nodes, at(60))
        assert (folder / JOURNAL).read_bytes() == before

    def test_a_run_that_changed_nothing_blocks_nothing(self, recovery: Recovery, folder: Path) -> None:
        recovery.start(NODES, START)
        recovery.step("Preflight", {}, {"checks": []}, at(1))
        started = recovery.start(["https://vault-9:8200"], at(60))
        assert (started["resumed"], started["journal"]["nodes"]) == (False, ["https://vault-9:8200"])

    @pytest.mark.parametrize("facts", [{"restore": "begun"}, {"safety_snapshot": "/x"}, {"temporary_cluster_id": "i"}])
    def test_a_node_that_died_meanwhile_is_left_out(
        self, recovery: Recovery, folder: Path, facts: dict[str, str]
    ) -> None:
        recovery.start(NODES, START)
        recovery.step("x", {}, facts, at(1))
        started = recovery.start(NODES[1:], at(60))
        assert (started["resumed"], started["journal"]["nodes"]) == (True, NODES[1:])
        # It does not come back into this recovery: it joins the recovered cluster.
        with pytest.raises(RecoveryError, match="those that died meanwhile may be left out"):
            recovery.start(NODES, at(120))

    def test_an_initialization_is_a_change(self, recovery: Recovery, folder: Path) -> None:
        recovery.start(NODES, START)
        recovery.step("Begin to initialize", {}, {"initializing": True}, at(1))
        with pytest.raises(RecoveryError, match="unfinished recovery"):
            recovery.start(["https://vault-9:8200"], at(60))

    def test_not_beside_another(self, recovery: Recovery, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        recovery.start(NODES, START)
        monkeypatch.setattr(lock, "current_holder", lambda: Holder(os.getpid(), "now", "controller", "alice"))
        with pytest.raises(HeldError, match="Another recovery is running"):
            recovery.start(NODES, at(1))
        assert read_json(folder / JOURNAL)["runs"] == 1

    def test_not_from_a_damaged_journal(self, recovery: Recovery, folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / JOURNAL).write_text("{")
        with pytest.raises(StoreError, match="is damaged"):
            recovery.start(NODES, START)

    def test_not_where_no_folder_can_be(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(StoreError, match=r"Cannot create .*Choose another folder"):
            Recovery(tmp_path / "file" / "x", writes=True).start(NODES, START)


class TestStep:
    def test_comes_after_the_start(self, recovery: Recovery, folder: Path) -> None:
        folder.mkdir(parents=True)
        with pytest.raises(RecoveryError, match="state 'started' comes first"):
            recovery.step("One", {}, {}, START)

    def test_the_moment_of_readable_secrets(self, recovery: Recovery) -> None:
        recovery.start(NODES, START)
        journal = recovery.step("Read", {}, {"secrets": [READ, READ]}, at(14))["journal"]
        assert journal["readable_at"] == at(14).isoformat(timespec="milliseconds")

    @pytest.mark.parametrize("secrets", [[], [READ, UNREAD]])
    def test_secrets_that_were_not_read_are_not_readable(self, recovery: Recovery, secrets: list[Any]) -> None:
        recovery.start(NODES, START)
        assert recovery.step("Read", {}, {"secrets": secrets}, at(14))["journal"]["readable_at"] is None

    @pytest.mark.parametrize("secrets", [[], [READ, UNREAD]])
    def test_a_later_read_that_fails_takes_the_moment_back(self, recovery: Recovery, secrets: list[Any]) -> None:
        recovery.start(NODES, START)
        recovery.step("Read", {}, {"secrets": [READ]}, at(14))
        assert recovery.step("Other", {}, {"restore": "done"}, at(15))["journal"]["readable_at"] is not None
        assert recovery.step("Read", {}, {"secrets": secrets}, at(16))["journal"]["readable_at"] is None

    def test_a_full_disk_is_told(self, recovery: Recovery, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(_handle: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        recovery.start(NODES, START)
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match="No space left"):
            recovery.step("One", {}, {}, at(1))


class TestEnd:
    def begun(self, recovery: Recovery, folder: Path) -> None:
        recovery.start(NODES, START)
        (folder / INIT).write_text('{"root_token": "hvs.t"}')
        recovery.step(PROOF, {}, {"secrets": [READ], "initializing": True}, at(14.25))

    def test_finished_writes_the_record_and_forgets(self, recovery: Recovery, folder: Path) -> None:
        self.begun(recovery, folder)
        result = recovery.end(Ending(RECOVERED, 900, versions={"ansible": "2.19"}), at(20))
        names = [f"recovery-20261124T030020Z.{kind}" for kind in ("json", "md", "html")]
        assert result["record_files"] == [str(folder / name) for name in names]
        assert sorted(path.name for path in folder.iterdir()) == sorted(["recovery.lock", *names])
        assert {(folder / name).stat().st_mode & 0o777 for name in names} == {0o600}
        record = json.loads((folder / names[0]).read_text())
        assert record == result["record"]
        assert (record["status"], record["rto_seconds"], record["rto_met"]) == ("recovered", 14.25, True)
        assert (folder / names[1]).read_text().startswith("# Vault recovery of 2026-11-24T03:00:00")

    def test_failed_keeps_what_the_next_run_needs(self, recovery: Recovery, folder: Path) -> None:
        self.begun(recovery, folder)
        result = recovery.end(Ending(FAILED, 900, problem="The leader refused."), at(20))
        assert (result["record"]["status"], result["record"]["problem"]) == ("failed", "The leader refused.")
        assert {JOURNAL, INIT} <= {path.name for path in folder.iterdir()}
        assert recovery.start(NODES, at(60))["resumed"] is True

    def test_not_a_run_that_has_read_nothing(self, recovery: Recovery, folder: Path) -> None:
        """As with --start-at-task, --tags and --skip-tags."""
        self.begun(recovery, folder)
        recovery.start(NODES, at(16))
        with pytest.raises(RecoveryError, match="in this run the canaries were not read back"):
            recovery.end(Ending(RECOVERED, 900), at(20))
        assert {JOURNAL, INIT} <= {path.name for path in folder.iterdir()}

    def test_nor_one_that_has_not_begun(
        self, recovery: Recovery, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.begun(recovery, folder)
        monkeypatch.setattr(lock, "current_holder", lambda: Holder(os.getpid(), "later", "controller", "root"))
        with pytest.raises(RecoveryError, match="--start-at-task"):
            recovery.end(Ending(RECOVERED, 900), at(20))

    @pytest.mark.parametrize("status", [RECOVERED, FAILED])
    def test_gives_the_lock_back(
        self, recovery: Recovery, folder: Path, monkeypatch: pytest.MonkeyPatch, status: str
    ) -> None:
        self.begun(recovery, folder)
        recovery.end(Ending(status, 900), at(20))
        monkeypatch.setattr(lock, "current_holder", lambda: Holder(os.getpid(), "now", "controller", "alice"))
        recovery.start(NODES, at(60))


class TestCheckMode:
    def test_a_whole_recovery_leaves_nothing(self, folder: Path) -> None:
        recovery = Recovery(folder, writes=False)
        assert recovery.start(NODES, START)["journal"]["nodes"] == NODES
        recovery.step("One", {}, {"restore": "begun", "secrets": [READ]}, at(1))
        for status in (FAILED, RECOVERED):
            result = recovery.end(Ending(status, 900), at(2))
            assert result["record"]["steps"] == []
            assert "record_files" not in result
        assert not folder.exists()

    def test_leaves_a_killed_runs_journal_as_it_was(self, folder: Path) -> None:
        Recovery(folder, writes=True).start(NODES, START)
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        recovery = Recovery(folder, writes=False)
        assert recovery.start(NODES, at(60))["resumed"] is True
        recovery.step("One", {}, {"restore": "begun"}, at(61))
        recovery.end(Ending(RECOVERED, 900), at(62))
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
