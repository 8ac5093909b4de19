# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole runs between a scripted Vault and stores in memory: what is kept, told and deleted, whatever fails."""

from __future__ import annotations

import fcntl
import json
import os
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.files import StoreError
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot import settings
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.archive import SnapshotReader
from lab import archives
from unit.snapshot.world import NOW, World
from unit.vault.fake import OTHER, URL, Answer, FakeVault, Stream, errors, node, reset

API = "sys/storage/raft/snapshot"
GOOD = archives.archive()
STATE = b"".join(archives.encode_entry(*entry) for entry in archives.SMALL)
KEYS = len(list(archives.SMALL))
NAME = "prod-20261124T020000Z.snap"
DAY = timedelta(days=1)
RETENTION = {"max_age_days": 30, "min_count": 2}
PRUNING = [{"type": "filesystem", "path": one, "retention": RETENTION} for one in ("a", "b")]


def serve(vault: FakeVault, *pieces: bytes | BaseException) -> None:
    body = pieces or tuple(GOOD[start : start + 1000] for start in range(0, len(GOOD), 1000))
    vault.clear("GET", API).on("GET", API, call=lambda _seen: Answer(200, Stream(body)))


@pytest.fixture
def world(vault: FakeVault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    node(vault, URL, 200)
    vault.on("GET", "sys/storage/raft/autopilot/state", errors(), 404)
    vault.on("POST", "auth/approle/login", {"auth": {"client_token": "hvs.login"}})
    vault.on("POST", "auth/token/revoke-self", status=204)
    serve(vault)
    world = World(vault, tmp_path)
    monkeypatch.setattr(settings, "open_store", world.open_store)
    return world


def nights(world: World, *labels: str, count: int = 40) -> None:
    """A good snapshot of each night before."""
    for label in labels:
        for day in range(1, count + 1):
            world.store(label).add(NOW - day * DAY)


class TestAGoodRun:
    def test_every_destination_holds_a_proven_copy(self, world: World) -> None:
        report = world.run(seal_key_id="alias/vault")
        assert (report.ok, report.result, report.problem, report.warnings) == (True, "success", None, [])
        for store in (world.store("a"), world.store("b")):
            assert store.data == {NAME: GOOD}
            assert store.changes() == ["clean", "write", "manifest"]
            manifest = store.manifests[NAME]
            assert manifest == report.snapshot
        assert (manifest["flagged"], manifest["index"], manifest["seal_key_id"]) == (None, 4711, "alias/vault")
        assert [one["proof"] for one in report.destinations] == ["checksum"] * 2
        assert len(world.vault.sent("GET", API)) == 1

    def test_its_login_is_given_back(self, world: World) -> None:
        world.run()
        assert [seen.token for seen in world.vault.sent("POST", "auth/token/revoke-self")] == ["hvs.login"]

    def test_the_report_is_json_and_holds_no_secret(self, world: World) -> None:
        text = json.dumps(world.run().to_dict())
        assert json.loads(text)["ok"] is True
        assert "theSecretId" not in text
        assert "hvs.login" not in text

    def test_metrics(self, world: World) -> None:
        world.run()
        assert world.metrics.stat().st_mode & 0o777 == 0o644
        assert world.metric("last_success_timestamp_seconds") == NOW.timestamp()
        assert world.metric("last_run_timestamp_seconds") == NOW.timestamp()
        assert world.metric("last_run_result", '{result="success"}') == 1
        assert world.metric("last_run_result", '{result="failed"}') == 0
        assert (world.metric("size_bytes"), world.metric("index")) == (len(GOOD), 4711)
        assert world.metric("keys") == KEYS
        assert world.metric("duration_seconds") == 1
        for label in "ab":
            for name in ("verified", "destination_success", "kept"):
                assert world.metric(name, f'{{destination="{label}"}}') == 1

    def test_then_it_prunes(self, world: World) -> None:
        nights(world, "a", "b")
        report = world.run(destinations=PRUNING)
        assert len(report.destinations[0]["pruned"]) == 10
        for store in (world.store("a"), world.store("b")):
            assert store.changes() == ["clean", "write", "manifest", *["delete"] * 10]
            assert len(store.data) == 31
        assert world.metric("kept", '{destination="a"}') == 31
        assert world.metric("pruned", '{destination="a"}') == 10

    def test_without_a_retention_nothing_is_ever_deleted(self, world: World) -> None:
        nights(world, "a")
        world.run()
        assert "delete" not in world.store("a").changes()

    def test_a_name_that_is_taken_is_not_overwritten(self, world: World) -> None:
        world.store("b").add(NOW)
        report = world.run()
        assert report.snapshot is not None
        assert report.snapshot["name"] == "prod-20261124T020001Z.snap"
        assert world.store("b").data[NAME] == b"old"

    def test_that_it_cannot_prune_is_told_and_no_failure(self, world: World) -> None:
        nights(world, "a")
        world.store("a").fails["delete"] = StoreError("the lock holds it")
        report = world.run(destinations=PRUNING)
        assert report.ok
        assert "the lock holds it" in report.warnings[0]
        assert world.metric("destination_success", '{destination="a"}') == 0
        assert world.metric("verified", '{destination="a"}') == 1


class TestProof:
    def test_a_store_that_cannot_tell_is_read_back(self, world: World) -> None:
        world.store("a").checksum = lambda: None
        report = world.run()
        assert [one["proof"] for one in report.destinations] == ["read back", "checksum"]
        assert world.store("a").changes() == ["clean", "write", "read", "manifest"]

    def test_every_so_often_all_are(self, world: World) -> None:
        proofs = []
        for day in range(5):
            world.now = NOW + day * DAY
            proofs.append(world.run(read_back_every=2).destinations[1]["proof"])
        assert proofs == ["checksum", "read back", "checksum", "read back", "checksum"]

    def test_never_with_0(self, world: World) -> None:
        assert {world.run(read_back_every=0).destinations[0]["proof"] for _unused in range(3)} == {"checksum"}

    @pytest.mark.parametrize("checksum", [False, None])
    def test_a_copy_that_is_another_fails_and_has_no_manifest(self, world: World, checksum: bool | None) -> None:
        nights(world, "a", "b")
        store = world.store("a")

        def damage() -> bool | None:
            store.data[NAME] = GOOD[:-1]
            return checksum

        store.checksum = damage
        report = world.run(destinations=PRUNING)
        assert (report.result, report.destinations[0]["verified"]) == ("failed", False)
        assert f"What a holds as {NAME} is not what was sent there" in (report.problem or "")
        assert NAME not in store.manifests
        assert world.store("b").manifests[NAME]
        assert "delete" not in [*store.changes(), *world.store("b").changes()]

    def test_an_intact_snapshot_that_is_another_one(self, world: World) -> None:
        store = world.store("a")

        def replaced() -> None:
            store.data[NAME] = archives.archive(archives.members(STATE, archives.meta_json(len(STATE), Index=5)))

        store.checksum = replaced  # type: ignore[assignment]
        assert world.run().result == "failed"


class TestADestinationFails:
    @pytest.mark.parametrize("step", ["listing", "writer", "write", "commit", "checksum", "write_manifest"])
    def test_a_required_one(self, world: World, step: str) -> None:
        nights(world, "a", "b")
        world.store("a").fails[step] = StoreError("503 Slow Down")
        report = world.run(destinations=PRUNING)
        assert (report.ok, report.result) == (False, "failed")
        assert report.problem is not None
        assert "[a] 503 Slow Down" in report.problem
        assert "Nothing was pruned" in report.problem
        assert NAME not in world.store("a").manifests
        assert world.store("b").manifests[NAME]["flagged"] is None
        assert "delete" not in [*world.store("a").changes(), *world.store("b").changes()]
        assert world.metric("last_run_result", '{result="failed"}') == 1
        assert world.metric("verified", '{destination="a"}') == 0
        assert world.metric("verified", '{destination="b"}') == 1
        assert world.metric("last_success_timestamp_seconds") is None

    def test_an_optional_one(self, world: World) -> None:
        nights(world, "a", "b")
        world.store("a").fails["write"] = StoreError("503 Slow Down")
        report = world.run(destinations=[{**PRUNING[0], "required": False}, PRUNING[1]])
        assert (report.ok, report.problem) == (True, None)
        assert report.warnings == ["a, which is optional, failed: 503 Slow Down"]
        assert "delete" not in world.store("a").changes()
        assert "delete" in world.store("b").changes()

    def test_all_optional_ones(self, world: World) -> None:
        world.store("a").fails["write"] = StoreError("503 Slow Down")
        assert world.run(destinations=[{"type": "filesystem", "path": "a", "required": False}]).result == "failed"

    def test_all_of_them_end_the_download(self, world: World) -> None:
        for store in (world.store("a"), world.store("b")):
            store.fails["writer"] = StoreError("no room")
        pieces = [GOOD[start : start + 1] for start in range(len(GOOD))]
        body = Stream(pieces)
        world.vault.clear("GET", API).on("GET", API, body)
        report = world.run()
        assert (report.result, report.snapshot) == ("failed", None)
        assert "[a] no room [b] no room" in (report.problem or "")
        assert body.read() != b"", "read to its end for nobody"

    def test_no_destination_answers(self, world: World) -> None:
        for store in (world.store("a"), world.store("b")):
            store.fails["listing"] = StoreError("no route")
        report = world.run()
        assert "No destination can take a snapshot" in (report.problem or "")
        assert world.vault.sent("GET", API) == []

    def test_one_that_hangs_until_its_own_timeout_holds_up_but_does_not_harm(self, world: World) -> None:
        gate = threading.Event()
        store = world.store("a")

        def hang() -> None:
            gate.wait(0.5)
            raise StoreError("no answer for 0.5 s")

        store.on_write = hang
        serve(world.vault, *[GOOD[start : start + 10] for start in range(0, len(GOOD), 10)])
        report = world.run()
        assert "no answer for 0.5 s" in (report.problem or "")
        assert world.store("b").data == {NAME: GOOD}

    def test_a_bug_in_one_takes_nothing_from_the_other_and_stays_a_traceback(self, world: World) -> None:
        world.store("a").fails["write"] = KeyError("a bug")
        with pytest.raises(KeyError):
            world.run()
        assert world.store("b").manifests[NAME]
        assert world.metric("last_run_result", '{result="failed"}') == 1

    def test_that_it_cannot_be_cleaned_is_told(self, world: World) -> None:
        world.store("a").fails["clean"] = StoreError("may not list uploads")
        report = world.run()
        assert report.ok
        assert "may not list uploads" in report.warnings[0]


class TestTheStreamFails:
    @pytest.mark.parametrize(
        "pieces",
        [(GOOD[:-1],), (GOOD[:500], reset()), (GOOD[:700], b"x" * 100, GOOD[800:]), (b"",), (GOOD, b"x")],
        ids=["cut", "broken off", "damaged", "empty", "more"],
    )
    def test_nothing_is_kept_anywhere(self, world: World, pieces: Any) -> None:
        nights(world, "a", "b")
        serve(world.vault, *pieces)
        report = world.run(destinations=PRUNING)
        assert report.result == "failed"
        assert URL in (report.problem or "")
        assert report.snapshot is None
        for store in (world.store("a"), world.store("b")):
            assert store.changes() == ["clean"]
            assert len(store.data) == 40

    def test_a_refused_login(self, world: World) -> None:
        world.vault.clear("POST", "auth/approle/login")
        world.vault.on("POST", "auth/approle/login", errors("invalid role or secret ID"), 400)
        report = world.run()
        assert "Login with auth_method approle" in (report.problem or "")
        assert "theSecretId" not in json.dumps(report.to_dict())

    def test_what_succeeded_last_outlives_a_failure(self, world: World) -> None:
        world.run()
        serve(world.vault, GOOD[:-1])
        world.now = NOW + DAY
        world.run()
        assert world.metric("last_success_timestamp_seconds") == NOW.timestamp()
        assert world.metric("last_run_timestamp_seconds") == world.now.timestamp()
        assert world.metric("last_run_result", '{result="failed"}') == 1
        assert world.metric("index") == 4711


class TestFlagged:
    def flagged(self, world: World, **last: Any) -> Any:
        nights(world, "a", "b")
        world.store("b").add(NOW - timedelta(hours=1), **{"index": 4000, **last})
        return world.run(destinations=PRUNING)

    @pytest.mark.parametrize(
        ("last", "said"),
        [
            ({"index": 9000}, "its Raft index went back from 9000 to 4711"),
            ({"key_counts": {"core": 3, "logical": 900}}, "keys where there were 903"),
        ],
    )
    def test_it_is_stored_and_nothing_is_pruned(self, world: World, last: dict[str, Any], said: str) -> None:
        report = self.flagged(world, **last)
        assert (report.ok, report.result) == (False, "flagged")
        assert said in (report.problem or "")
        assert "accept_flagged" in (report.problem or "")
        for store in (world.store("a"), world.store("b")):
            assert said in store.manifests[NAME]["flagged"]
            assert "delete" not in store.changes()
        assert world.metric("last_run_result", '{result="flagged"}') == 1
        assert world.metric("last_success_timestamp_seconds") is None

    def test_another_cluster_is_told(self, world: World) -> None:
        report = self.flagged(world, index=9000, cluster_id="another")
        assert "it is of another cluster (45c5a04b-1d4e-4bd6-a2f8-d9d0a1c1ddbc, before another)" in (
            report.problem or ""
        )

    def test_another_cluster_alone_is_a_warning(self, world: World) -> None:
        report = self.flagged(world, cluster_id="another")
        assert report.ok
        assert "is of another cluster (another)" in report.warnings[0]

    def test_as_many_keys_may_go_as_the_config_says(self, world: World) -> None:
        nights(world, "a", count=1)
        world.store("a").add(NOW - timedelta(hours=1), key_counts={"core": 2 * KEYS})
        assert world.run(max_key_loss_percent=50).result == "success"
        world.now = NOW + DAY
        world.store("a").add(NOW + timedelta(hours=1), key_counts={"core": 2 * KEYS + 1})
        assert world.run(max_key_loss_percent=50).result == "flagged"

    def test_it_is_compared_with_the_last_good_one_for_as_long_as_it_lasts(self, world: World) -> None:
        self.flagged(world, index=9000)
        world.now = NOW + DAY
        report = world.run(destinations=PRUNING)
        assert report.result == "flagged"
        assert "9000" in (report.problem or "")

    def test_it_can_be_accepted(self, world: World) -> None:
        self.flagged(world, index=9000)
        world.now = NOW + DAY
        report = world.run(destinations=PRUNING, accept_flagged=True)
        assert report.ok
        assert "Accepted" in report.warnings[0]
        assert world.store("a").manifests["prod-20261125T020000Z.snap"]["flagged"] is None
        world.now = NOW + 2 * DAY
        assert world.run(destinations=PRUNING).warnings == []

    def test_the_last_good_one_of_a_destination_that_is_down_is_remembered(self, world: World) -> None:
        world.run(destinations=[PRUNING[0]])
        serve(world.vault, archives.archive(archives.members(STATE, archives.meta_json(len(STATE), Index=5))))
        world.store("a").fails["listing"] = StoreError("no route")
        world.now = NOW + DAY
        report = world.run(destinations=[{**PRUNING[0], "required": False}, PRUNING[1]])
        assert report.result == "flagged"
        assert "went back from 4711 to 5" in (report.problem or "")

    def test_flagged_and_lost_says_both(self, world: World) -> None:
        world.store("a").fails["write"] = StoreError("503 Slow Down")
        world.store("b").add(NOW - DAY, index=9000)
        report = world.run()
        assert report.result == "flagged"
        assert "9000" in (report.problem or "")
        assert "503 Slow Down" in (report.problem or "")

    def test_a_damaged_manifest_does_not_hide_the_good_one_before(self, world: World) -> None:
        store = world.store("a")
        store.add(NOW - 2 * DAY, index=9000)
        damaged = store.add(NOW - DAY)
        original = store.read_manifest

        def read(name: str) -> dict[str, Any] | None:
            if name == damaged:
                raise StoreError("damaged")
            return original(name)

        store.read_manifest = read  # type: ignore[method-assign]
        assert world.run().result == "flagged"


class TestTheClock:
    def test_one_that_went_back_deletes_nothing_and_is_told(self, world: World) -> None:
        nights(world, "a", "b")
        world.now = NOW - 100 * DAY
        report = world.run(destinations=PRUNING)
        assert report.ok
        assert "40 snapshots in a are of the future" in report.warnings[0]
        assert len(world.store("a").data) == 41

    def test_a_stale_one_from_the_future_is_not_what_is_compared_with(self, world: World) -> None:
        store = world.store("a")
        store.add(NOW + 1000 * DAY, index=9)
        store.add(NOW - DAY, index=9000)
        assert world.run().result == "flagged"

    def test_one_from_the_future_with_the_highest_index_is(self, world: World) -> None:
        store = world.store("a")
        store.add(NOW + 1000 * DAY, index=9000)
        store.add(NOW - DAY, index=9)
        assert world.run().result == "flagged"


class TestOneAtATime:
    def test_another_run_is_named(self, world: World) -> None:
        world.run()
        before = world.metrics.read_text()
        with (world.folder / "state" / "run.lock").open("r+") as file:
            assert file.read() == f"{os.getpid()}\n"
            fcntl.flock(file, fcntl.LOCK_EX)
            world.now = NOW + DAY
            report = world.run()
        assert (report.result, report.ok) == ("failed", False)
        assert f"process id {os.getpid()}" in (report.problem or "")
        assert world.metrics.read_text() == before
        assert len(world.store("a").data) == 1
        assert world.run().ok


class TestTheLeaderAlone:
    def test_a_standby_does_nothing(self, world: World) -> None:
        node(world.vault, URL, 429, leader=OTHER)
        report = world.run(only_on_leader=True)
        assert (report.result, report.ok) == ("skipped", True)
        assert report.skipped == f"{URL} is not the leader: {OTHER} is"
        assert world.stores["a"].done == []
        assert world.metric("last_run_result", '{result="skipped"}') == 1
        assert world.vault.sent("POST", "auth/approle/login") == []

    def test_the_leader_does(self, world: World) -> None:
        assert world.run(only_on_leader=True).result == "success"

    def test_after_a_change_of_leader_nothing_is_taken_twice(self, world: World) -> None:
        world.store("a").add(NOW - timedelta(hours=1))
        assert world.run(min_interval=7200).result == "success"
        world.now = NOW + timedelta(hours=1)
        report = world.run(min_interval=7200)
        assert report.skipped == "every required destination has a good snapshot of 3600 s ago"
        world.now = NOW + timedelta(hours=2)
        assert world.run(min_interval=7200).result == "success"


class TestCheck:
    def test_it_changes_nothing(self, world: World) -> None:
        report = world.run(check=True)
        assert report.ok
        assert (world.stores["a"].done, list(world.folder.iterdir())) == ([], [])
        assert world.vault.sent("GET", API) == []

    def test_it_finds_what_would_fail(self, world: World) -> None:
        world.store("a").fails["listing"] = StoreError("no route")
        assert "no route" in (world.run(check=True).problem or "")
        world.vault.clear("GET", "sys/leader", URL).on("GET", "sys/leader", {"is_self": False, "leader_address": ""})
        assert "knows of no leader" in (world.run(check=True).problem or "")


class TestConfig:
    @pytest.mark.parametrize(
        ("changed", "said"),
        [
            ({"destinations": []}, "names no destination"),
            ({"destinations": [PRUNING[0], PRUNING[0]]}, "the destination a twice"),
            ({"state_directory": None}, "needs state_directory"),
            ({"retain": 3}, "has no option retain"),
            ({"only_on_leader": "false"}, "only_on_leader is 'false' and has to be true or false"),
            ({"read_back_every": -1}, "read_back_every is -1"),
            ({"max_key_loss_percent": "50"}, "max_key_loss_percent is '50'"),
            ({"vault": {"url": "vault-1"}}, "not the address of a Vault server"),
            ({"destinations": [{**PRUNING[0], "retention": {"max_age_days": 3}}]}, "needs min_count"),
        ],
    )
    def test_what_is_wrong_is_a_failed_run(self, world: World, changed: dict[str, Any], said: str) -> None:
        report = world.run(**changed)
        assert (report.ok, report.result) == (False, "failed")
        assert said in (report.problem or "")
        assert world.metric("last_run_result", '{result="failed"}') == 1

    def test_what_succeeded_last_outlives_a_config_that_is_wrong(self, world: World) -> None:
        world.run()
        world.now = NOW + DAY
        world.run(retain=3)
        assert world.metric("last_success_timestamp_seconds") == NOW.timestamp()
        assert world.metric("last_run_timestamp_seconds") == world.now.timestamp()

    def test_a_state_that_is_damaged_is_begun_anew(self, world: World) -> None:
        world.run()
        (world.folder / "state" / "state.json").write_text("{")
        report = world.run()
        assert report.ok
        assert "begun anew" in report.warnings[0]

    def test_no_state_directory_can_be_made(self, world: World) -> None:
        (world.folder / "state").write_text("a file")
        report = world.run()
        assert "Give a state_directory" in (report.problem or "")
        assert world.metric("last_run_result", '{result="failed"}') == 1

    def test_metrics_that_cannot_be_written_are_a_warning(self, world: World) -> None:
        report = world.run(metrics_file=str(world.folder / "missing" / "x.prom"))
        assert report.ok
        assert "Prometheus is not told of this run" in report.warnings[0]


def test_the_fakes_archive_is_sound() -> None:
    reader = SnapshotReader()
    reader.feed(GOOD)
    assert reader.finish().index == 4711
