# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host remembers between scans: each finding is told once at its beginning and once at its end."""

from __future__ import annotations

import json
import os
import stat
import tempfile
from pathlib import Path
from typing import Any, Optional

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.detection import memory as module
from ansible_collections.custodes.security_dr.plugins.module_utils.detection.errors import DetectionError
from ansible_collections.custodes.security_dr.plugins.module_utils.detection.findings import Finding, Scan, found
from ansible_collections.custodes.security_dr.plugins.module_utils.detection.memory import Event, Memory, utc
from ansible_collections.custodes.security_dr.plugins.module_utils.files import StoreError
from hypothesis import given
from hypothesis import strategies as st

NOW = 1_767_225_600
MINUTE, DAY = 60, 86_400


def one(name: str, rule: str = "process.miner_name", severity: Optional[str] = None) -> Finding:
    return found(rule, name, f"{name} is there", {"pid": 1}, [name], severity)


def saw(*findings: Finding, blind: tuple[str, ...] = ()) -> dict[str, Scan]:
    return {"processes": Scan(list(findings), list(blind))}


def told(events: list[Event]) -> list[tuple[str, str]]:
    return [(event["state"], event["subject"]) for event in events]


class Host:
    """A memory and its scans, five minutes apart."""

    def __init__(self) -> None:
        self.memory, self.now = Memory(), float(NOW)

    def scan(self, *findings: Finding, blind: tuple[str, ...] = (), after: float = 300) -> list[Event]:
        self.now += after
        return self.memory.update(saw(*findings, blind=blind), self.now, "web1", DAY)


class TestEpisode:
    def test_is_told_once_at_its_beginning_and_once_at_its_end(self) -> None:
        host = Host()
        assert told(host.scan(one("a"))) == [("new", "a")]
        assert host.scan(one("a")) == []
        assert told(host.scan()) == [("resolved", "a")]
        assert host.scan() == []

    def test_an_event_says_all_that_a_receiver_needs(self) -> None:
        host = Host()
        host.scan(one("a"))
        event = host.scan(after=600)[0]
        assert event == {
            "id": event["id"],
            "time": utc(NOW + 900),
            "state": "resolved",
            "host": "web1",
            "fingerprint": one("a").fingerprint,
            "rule": "process.miner_name",
            "severity": "critical",
            "technique": "T1496",
            "subject": "a",
            "summary": "a is there",
            "evidence": {"pid": 1},
            "advice": event["advice"],
            "first_seen": "2026-01-01T00:05:00Z",
            "last_seen": "2026-01-01T00:05:00Z",
        }
        assert next(iter(event)) == "id"
        assert event["advice"]

    def test_what_comes_back_is_a_new_episode_with_ids_of_its_own(self) -> None:
        host = Host()
        events = [*host.scan(one("a")), *host.scan(), *host.scan(one("a")), *host.scan()]
        assert [event["state"] for event in events] == ["new", "resolved", "new", "resolved"]
        assert len({event["id"] for event in events}) == 4

    def test_what_comes_back_in_the_same_second_has_ids_of_its_own(self) -> None:
        host = Host()
        events = [*host.scan(one("a"), after=0), *host.scan(after=0), *host.scan(one("a"), after=0)]
        assert len({event["id"] for event in events}) == 3

    def test_two_hosts_never_share_an_id(self) -> None:
        ids = {Memory().update(saw(one("a")), NOW, host, DAY)[0]["id"] for host in ("web1", "web2")}
        assert len(ids) == 2

    def test_the_same_scan_after_a_crash_gives_the_same_ids(self) -> None:
        first, second = Host(), Host()
        assert first.scan(one("a"), one("b")) == second.scan(one("a"), one("b"))

    def test_the_most_severe_are_told_first(self) -> None:
        low, high = one("l", "listener.unexpected_loopback"), one("h")
        assert told(Host().scan(low, high)) == [("new", "h"), ("new", "l")]

    def test_found_twice_it_is_told_once_with_the_higher_severity(self) -> None:
        events = Host().scan(one("a", severity="low"), one("a", severity="high"), one("a", severity="medium"))
        assert [event["severity"] for event in events] == ["high"]


class TestReminder:
    def test_comes_when_it_is_due_and_then_again(self) -> None:
        host = Host()
        host.scan(one("a"))
        assert host.scan(one("a"), after=DAY - 1) == []
        first = host.scan(one("a"), after=1)
        assert told(first) == [("reminded", "a")]
        assert host.scan(one("a"), after=DAY - 1) == []
        second = host.scan(one("a"), after=1)
        assert told(second) == [("reminded", "a")]
        assert first[0]["id"] != second[0]["id"]

    def test_does_not_come_for_what_nobody_could_see(self) -> None:
        host = Host()
        host.scan(one("a"))
        assert told(host.scan(blind=("x",), after=DAY)) == [("new", "processes")]

    def test_comes_at_once_for_what_got_worse(self) -> None:
        host = Host()
        host.scan(one("a", severity="medium"))
        assert told(host.scan(one("a", severity="critical"))) == [("reminded", "a")]
        assert host.scan(one("a", severity="medium")) == []


class TestBlind:
    def test_what_was_found_before_stays(self) -> None:
        host = Host()
        host.scan(one("a"))
        assert told(host.scan(blind=("cannot read /x",))) == [("new", "processes")]
        assert host.scan(one("a"), blind=("cannot read /x",)) == []
        assert told(host.scan(one("a"))) == [("resolved", "processes")]
        assert told(host.scan()) == [("resolved", "a")]

    def test_each_sentence_is_a_finding(self) -> None:
        host = Host()
        events = host.scan(blind=("cannot read /x", "cannot read /y"))
        assert [(event["rule"], event["summary"]) for event in events] == [
            ("scan.blind", "cannot read /x"),
            ("scan.blind", "cannot read /y"),
        ]
        gone = host.scan(blind=("cannot read /y",))
        assert [(event["state"], event["summary"]) for event in gone] == [("resolved", "cannot read /x")]

    def test_a_scanner_that_was_not_asked_keeps_what_it_found(self) -> None:
        host = Host()
        host.scan(one("a"), blind=("x",))
        assert host.memory.update({"files": Scan([], [])}, host.now, "web1", DAY) == []
        assert len(host.memory.known) == 2

    def test_another_scanner_may_find_it_from_now_on(self) -> None:
        host = Host()
        host.scan(one("a"))
        assert host.memory.update({"new": Scan([one("a")], []), "processes": Scan([], [])}, NOW, "h", DAY) == []
        assert told(host.memory.update({"new": Scan([], [])}, NOW, "h", DAY)) == [("resolved", "a")]


class TestQuiet:
    """Findings that have a beginning only."""

    @pytest.mark.parametrize(("rule", "severity"), [("package.changed", "info"), ("log.tampered", "high")])
    def test_is_told_once_and_forgotten_after_a_day(self, rule: str, severity: str) -> None:
        host, finding = Host(), one("a", rule)
        assert finding.severity == severity
        assert told(host.scan(finding)) == [("new", "a")]
        assert host.scan(after=DAY - 1) == []
        assert [row["subject"] for row in host.memory.active()] == ["a"]
        assert host.scan(after=1) == []
        assert host.memory.active() == []
        assert told(host.scan(finding)) == [("new", "a")]

    def test_is_never_reminded_of(self) -> None:
        host = Host()
        host.scan(one("a", "package.changed"))
        assert host.scan(one("a", "package.changed"), after=2 * DAY) == []

    def test_what_was_serious_once_has_an_end(self) -> None:
        host = Host()
        host.scan(one("a", severity="info"))
        assert told(host.scan(one("a", severity="high"))) == [("reminded", "a")]
        assert host.scan(one("a", severity="info"), after=2 * DAY) == []
        assert told(host.scan()) == [("resolved", "a")]


class TestClock:
    def test_set_back_it_delays_no_reminder_beyond_its_interval(self) -> None:
        host = Host()
        host.scan(one("a"))
        assert host.scan(one("a"), after=-365 * DAY) == []
        assert told(host.scan(one("a"), after=DAY)) == [("reminded", "a")]

    def test_set_back_it_ends_episodes_all_the_same(self) -> None:
        host = Host()
        host.scan(one("a"), one("b", "package.changed"))
        assert told(host.scan(after=-365 * DAY)) == [("resolved", "a")]
        host.scan(after=DAY)
        assert host.memory.known == {}

    def test_set_forward_it_reminds_once(self) -> None:
        host = Host()
        host.scan(one("a"))
        assert told(host.scan(one("a"), after=3650 * DAY)) == [("reminded", "a")]
        assert host.scan(one("a")) == []


class TestFlood:
    @pytest.fixture(autouse=True)
    def small(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "MOST_KNOWN", 3)

    def test_what_is_above_the_bound_is_told_as_a_count(self) -> None:
        host = Host()
        events = host.scan(*(one(f"p{number}") for number in range(5)))
        assert told(events) == [("new", "p0"), ("new", "p1"), ("new", "p2"), ("new", "findings")]
        assert "2 critical more" in events[-1]["summary"]
        assert events[-1]["severity"] == "critical"
        assert len(host.memory.known) == 4

    def test_it_pushes_out_nothing_that_is_more_severe(self) -> None:
        host = Host()
        flood = [one(f"p{number}", severity="low") for number in range(50)]
        host.scan(*flood)
        assert told(host.scan(*flood, one("evil"))) == [("new", "evil")]

    def test_what_found_no_room_is_told_when_there_is_some(self) -> None:
        host = Host()
        host.scan(*(one(f"p{number}") for number in range(4)))
        events = host.scan(*(one(f"p{number}") for number in range(1, 4)))
        assert sorted(told(events)) == [("new", "p3"), ("resolved", "findings"), ("resolved", "p0")]

    def test_with_a_log_that_cannot_be_written_it_waits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "MOST_PENDING", 1)
        host = Host()
        host.scan(one("a"))
        assert host.scan(one("b")) == []
        assert [event["subject"] for event in host.memory.pending] == ["a"]
        host.memory.pending = []
        assert told(host.scan(one("b"))) == [("resolved", "a"), ("new", "b")]


class TestActive:
    def test_gives_the_worst_first_with_what_became_of_it(self) -> None:
        host = Host()
        host.scan(one("old"))
        host.scan(one("old"), one("new"), one("low", severity="low"))
        rows = [(row["subject"], row["state"], row["first_seen"]) for row in host.memory.active()]
        assert rows == [
            ("new", "new", utc(NOW + 600)),
            ("old", "ongoing", utc(NOW + 300)),
            ("low", "new", utc(NOW + 600)),
        ]

    def test_what_was_not_seen_this_time_is_not_new(self) -> None:
        host = Host()
        host.scan(one("a"))
        host.scan(blind=("x",))
        assert {row["subject"]: row["state"] for row in host.memory.active()} == {"a": "ongoing", "processes": "new"}


class TestFile:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return tmp_path / "memory.json"

    def test_remembers_all_of_it(self, path: Path) -> None:
        host = Host()
        host.scan(one("a\n\udc80"), blind=("x",))
        host.memory.delivery, host.memory.last_run, host.memory.log = {"a": 1}, {"b": [2]}, {"c": 3}
        host.memory.save(path)
        again = Memory.load(path)
        assert vars(again) == vars(host.memory)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert json.loads(path.read_text())["memory"]["scans"] == 1

    def test_keeps_the_order_of_an_event(self, path: Path) -> None:
        host = Host()
        host.scan(one("a"))
        host.memory.save(path)
        assert list(Memory.load(path).pending[0]) == list(host.memory.pending[0])

    def test_is_empty_where_there_is_none(self, path: Path) -> None:
        assert vars(Memory.load(path)) == vars(Memory())

    def test_that_belongs_to_root_is_an_error_for_others(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_arguments: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("builtins.open", refuse)
        with pytest.raises(DetectionError, match="Run this as root"):
            Memory.load(path)

    @pytest.mark.parametrize("change", ["cut", "flip", "empty", "text", "append"])
    def test_damaged_is_kept_and_told(self, path: Path, change: str) -> None:
        host = Host()
        host.scan(one("a"))
        host.memory.save(path)
        good = path.read_bytes()
        flipped = good.replace(b'"a is there"', b'"b is there"')
        bad = {"cut": good[:-9], "flip": flipped, "empty": b"", "text": b"hello", "append": good + b"\n"}[change]
        assert bad != good
        path.write_bytes(bad)
        memory = Memory.load(path)
        assert memory.known == {}
        assert path.read_bytes() == bad
        events = memory.update(saw(one("a")), NOW + 900, "web1", DAY)
        assert [event["rule"] for event in events] == ["process.miner_name", "memory.damaged"]
        memory.save(path)
        assert (path.parent / "memory.json.damaged.1").read_bytes() == bad
        again = Memory.load(path)
        assert again.update(saw(one("a")), NOW + 1200, "web1", DAY) == []
        assert [row["rule"] for row in again.active()] == ["process.miner_name", "memory.damaged"]

    def test_of_another_format_or_shape_is_damaged(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(module, "FORMAT", 99)
            Memory().save(path)
        assert "format 99" in Memory.load(path).damage
        wrong = Memory()
        wrong.known = {"a": module.Known("x", "1.1", 1, 1, 1, 0, False, "new", one("a"))}
        monkeypatch.setattr(module.Known, "_asdict", lambda _self: {"odd": 1})
        wrong.save(path)
        assert "TypeError" in Memory.load(path).damage
        monkeypatch.setattr(Memory, "_pieces", lambda _self: [b"[no JSON"])
        wrong.save(path)
        assert "JSONDecodeError" in Memory.load(path).damage

    def test_killed_before_it_is_replaced_the_damage_is_told_by_the_next_run(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path.write_bytes(b"bad")
        memory = Memory.load(path)
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(StoreError):
                memory.save(path)
        assert Memory.load(path).damage
        Memory.load(path).save(path)
        assert sorted(each.name for each in path.parent.iterdir()) == ["memory.json", "memory.json.damaged.1"]

    def test_damaged_ones_do_not_fill_the_disk(self, path: Path) -> None:
        for number in range(9):
            path.write_bytes(b"bad %d" % number)
            Memory.load(path).save(path)
        kept = sorted(each for each in path.parent.iterdir() if each != path)
        assert [each.read_bytes() for each in kept] == [b"bad 0", b"bad 1", b"bad 2", b"bad 3", b"bad 8"]

    def test_on_a_full_disk_what_was_there_stays(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        host = Host()
        host.memory.save(path)
        before = path.read_bytes()
        host.scan(one("a"))
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match="No space left"):
            host.memory.save(path)
        assert path.read_bytes() == before


def full(*_arguments: object) -> None:
    raise OSError(28, os.strerror(28))


def saved_and_loaded(memory: Memory) -> Memory:
    with tempfile.TemporaryDirectory() as folder:
        memory.save(Path(folder, "memory.json"))
        return Memory.load(Path(folder, "memory.json"))


NAMES = st.sampled_from(["a", "b", "c"])
SEVERITIES = st.sampled_from(["info", "low", "critical"])
SCANS = st.dictionaries(
    st.sampled_from(["processes", "files"]),
    st.tuples(st.dictionaries(NAMES, SEVERITIES), st.lists(st.sampled_from(["x", "y"]), unique=True)),
)
STEPS = st.lists(st.tuples(SCANS, st.integers(-2 * DAY, 2 * DAY), st.booleans()), max_size=12)


@given(STEPS)
def test_any_sequence_of_scans_obeys_the_state_machine(steps: Any) -> None:
    memory, now, under_way, ids = Memory(), float(NOW), set(), set()
    for scans, after, saved in steps:
        now += after
        before = dict(memory.known)
        given_scans = {
            name: Scan(
                [found("process.miner_name", one, one, {}, [name, one], level) for one, level in rows.items()], b
            )
            for name, (rows, b) in scans.items()
        }
        for event in memory.update(given_scans, now, "h", DAY):
            assert event["id"] not in ids
            ids.add(event["id"])
            name = event["fingerprint"]
            if event["state"] == "new":
                assert name not in under_way
                assert name not in before
                under_way.add(name)
            elif event["state"] == "resolved":
                assert name in under_way
                assert not given_scans[before[name].scanner.split(":")[-1]].blind or event["rule"] == "scan.blind"
                under_way.remove(name)
            else:
                assert name in under_way
        # Those that end quietly may begin anew.
        quiet = {name for name, known in before.items() if known.quiet and name not in memory.known}
        under_way -= quiet
        assert under_way == set(memory.known)
        # What was found is known, whatever else happened.
        for scan in given_scans.values():
            assert {finding.fingerprint for finding in scan.findings} <= set(memory.known)
        if saved:
            memory = saved_and_loaded(memory)
