# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The log on the host: whatever a name holds it is one line, and wherever a run is killed it is there once."""

from __future__ import annotations

import itertools
import json
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.detection import alerts
from ansible_collections.custodes.security_dr.plugins.module_utils.detection.errors import DetectionError
from ansible_collections.custodes.security_dr.plugins.module_utils.detection.findings import Scan, found
from ansible_collections.custodes.security_dr.plugins.module_utils.detection.memory import Memory
from hypothesis import example, given
from hypothesis import strategies as st

NOW = 1_767_225_600
LARGE = 10_000_000


def events(*numbers: int) -> list[dict[str, Any]]:
    return [{"id": f"{number:032x}", "state": "new", "subject": f"s{number}"} for number in numbers]


def append(path: Path, *numbers: int, max_bytes: int = LARGE, keep: int = 3) -> dict[str, Any]:
    return alerts.append(str(path), events(*numbers), max_bytes, keep)


def logged(path: Path) -> list[int]:
    """The numbers in the log and in those that were rotated, oldest first; torn lines are left out."""
    found_numbers = []
    for file in sorted(path.parent.glob(f"{path.name}*"), key=lambda file: -int(file.suffix[1:].replace("log", "0"))):
        for line in file.read_bytes().split(b"\n"):
            with suppress(ValueError):
                found_numbers.append(int(json.loads(line)["id"], 16))
    return found_numbers


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "security" / "alerts.log"


class TestAppend:
    def test_is_one_line_of_json_each(self, path: Path) -> None:
        append(path, 1, 2)
        append(path, 3)
        lines = path.read_text().splitlines()
        assert [json.loads(line)["subject"] for line in lines] == ["s1", "s2", "s3"]
        assert lines[0] == '{"id":"00000000000000000000000000000001","state":"new","subject":"s1"}'

    def test_only_the_owner_may_look(self, path: Path) -> None:
        append(path, 1)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700

    def test_makes_an_empty_log_for_who_wants_to_follow_it(self, path: Path) -> None:
        mark = append(path)
        assert path.read_bytes() == b""
        assert mark == {"path": str(path), "inode": path.stat().st_ino, "size": 0}

    def test_what_is_in_the_log_is_left_out(self, path: Path) -> None:
        append(path, 1, 2)
        append(path, 1, 2, 3)
        assert logged(path) == [1, 2, 3]

    def test_what_is_in_the_rotated_log_is_left_out(self, path: Path) -> None:
        append(path, 1, 2)
        path.rename(path.with_name("alerts.log.1"))
        append(path, 1, 2, 3)
        assert logged(path) == [1, 2, 3]

    def test_a_torn_line_is_closed_and_its_event_written_again(self, path: Path) -> None:
        append(path, 1, 2)
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size - 20)
        append(path, 2, 3)
        assert logged(path) == [1, 2, 3]
        assert path.read_bytes().count(b"\n") == 4

    def test_a_line_that_lacks_its_newline_alone_is_whole(self, path: Path) -> None:
        append(path, 1, 2)
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size - 1)
        append(path, 2)
        assert [json.loads(line)["subject"] for line in path.read_text().splitlines()] == ["s1", "s2"]

    def test_an_id_in_what_a_process_says_of_itself_hides_nothing(self, path: Path) -> None:
        line = f'"id":"{2:032x}"'
        alerts.append(str(path), [{**events(1)[0], "evidence": {"id": f"{2:032x}", "name": line}}], LARGE, 3)
        append(path, 2)
        assert logged(path) == [1, 2]

    def test_syncs_the_file_and_the_folder_where_it_makes_one(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        synced: list[str] = []
        real = os.fsync

        def fsync(handle: int) -> None:
            synced.append(Path(f"/proc/self/fd/{handle}").resolve().name)
            real(handle)

        monkeypatch.setattr(os, "fsync", fsync)
        append(path, 1)
        assert synced == [path.parent.parent.name, "security", "alerts.log"]
        synced.clear()
        append(path, 2)
        assert synced == ["alerts.log"]

    def test_many_events_are_one_write(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        sizes: list[int] = []
        real = os.write
        monkeypatch.setattr(os, "write", lambda handle, data: sizes.append(len(data)) or real(handle, data))
        append(path, *range(500))
        assert sizes == [path.stat().st_size]


class TestRefusals:
    def test_full_disk_says_so_and_the_next_try_completes_it(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        real, calls = os.write, itertools.count()

        def write(handle: int, data: bytes) -> int:
            if next(calls):
                raise OSError(28, os.strerror(28))
            return real(handle, data[:100])

        with monkeypatch.context() as patch:
            patch.setattr(os, "write", write)
            with pytest.raises(DetectionError, match=r"Cannot write .*alerts\.log: No space left on device"):
                append(path, 1, 2, 3)
        append(path, 1, 2, 3)
        assert logged(path) == [1, 2, 3]

    def test_folder_that_others_may_write(self, path: Path) -> None:
        path.parent.mkdir()
        path.parent.chmod(0o777)
        with pytest.raises(DetectionError, match=r"security belongs to user id .* mode 0777"):
            append(path, 1)

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
    def test_folder_or_log_of_somebody_else(self, path: Path) -> None:
        path.parent.mkdir()
        os.chown(path.parent, 12345, 0)
        with pytest.raises(DetectionError, match="belongs to user id 12345"):
            append(path, 1)
        os.chown(path.parent, 0, 0)
        path.touch()
        os.chown(path, 12345, 0)
        with pytest.raises(DetectionError, match="not a file of this user"):
            append(path, 1)

    def test_folder_that_is_a_link(self, path: Path) -> None:
        (path.parent.parent / "elsewhere").mkdir()
        path.parent.symlink_to("elsewhere")
        with pytest.raises(DetectionError, match="Cannot write"):
            append(path, 1)
        assert list((path.parent.parent / "elsewhere").iterdir()) == []

    def test_folder_in_one_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(DetectionError, match="No such file"):
            append(tmp_path / "a" / "b" / "alerts.log", 1)

    def test_log_that_is_a_link(self, path: Path, tmp_path: Path) -> None:
        path.parent.mkdir(0o700)
        (tmp_path / "other").write_text("")
        path.symlink_to(tmp_path / "other")
        with pytest.raises(DetectionError, match="Cannot write"):
            append(path, 1)
        assert (tmp_path / "other").read_text() == ""

    @pytest.mark.parametrize("name", ["alerts.log", "alerts.log.1"])
    def test_pipe_does_not_hang(self, path: Path, name: str) -> None:
        path.parent.mkdir(0o700)
        os.mkfifo(path.parent / name)
        if name == "alerts.log":
            with pytest.raises(DetectionError, match="not a file"):
                append(path, 1)
        else:
            append(path, 1)
            assert path.stat().st_size

    def test_log_that_others_may_write_is_so_no_more(self, path: Path) -> None:
        append(path, 1)
        path.chmod(0o666)
        append(path, 2)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


class TestRotation:
    def test_renames_and_keeps_so_many(self, path: Path) -> None:
        for number in range(1, 7):
            inode = append(path, number, max_bytes=100, keep=3)["inode"]
        assert sorted(file.name for file in path.parent.iterdir()) == [
            "alerts.log",
            "alerts.log.1",
            "alerts.log.2",
            "alerts.log.3",
        ]
        assert logged(path) == [3, 4, 5, 6]
        append(path, 7, max_bytes=100)
        assert path.with_name("alerts.log.1").stat().st_ino == inode

    def test_does_not_begin_with_an_empty_file(self, path: Path) -> None:
        append(path, 1, 2, 3, max_bytes=10)
        assert [file.name for file in path.parent.iterdir()] == ["alerts.log"]

    def test_closes_a_torn_line_first(self, path: Path) -> None:
        path.parent.mkdir(0o700)
        path.write_text("torn")
        append(path, 1, max_bytes=10)
        assert path.with_name("alerts.log.1").read_text() == "torn\n"

    def test_that_was_cut_short_loses_no_file(self, path: Path) -> None:
        for number in range(1, 5):
            append(path, number, max_bytes=100)
        path.with_name("alerts.log.3").unlink()
        path.with_name("alerts.log.2").rename(path.with_name("alerts.log.3"))
        append(path, 5, max_bytes=100)
        assert logged(path) == [2, 3, 4, 5]


class TestNote:
    def test_is_a_line_with_its_time(self, path: Path) -> None:
        log = path.with_name("degraded-mode.log")
        alerts.note(str(log), "clean\n\x1b[31mred", NOW, LARGE, 3)
        alerts.note(str(log), "again", NOW + 300, LARGE, 3)
        assert log.read_text() == "2026-01-01T00:00:00Z clean\\x0a\\x1b[31mred\n2026-01-01T00:05:00Z again\n"
        assert stat.S_IMODE(log.stat().st_mode) == 0o600

    def test_is_rotated(self, path: Path) -> None:
        for number in range(9):
            alerts.note(str(path), f"run {number}", NOW, 60, 2)
        assert len(list(path.parent.iterdir())) == 3


class TestTampered:
    def test_what_was_only_appended_to_is_whole(self, path: Path) -> None:
        mark = append(path, 1)
        append(path, 2)
        assert alerts.tampered(str(path), mark) == []

    def test_nothing_is_known_at_the_first_run_or_of_another_log(self, path: Path) -> None:
        mark = append(path, 1)
        assert alerts.tampered(str(path), {}) == []
        assert alerts.tampered(str(path.with_name("other.log")), mark) == []

    @pytest.mark.parametrize("name", ["alerts.log.1", "alerts.log-20260101"])
    def test_a_rotation_by_rename_is_none(self, path: Path, name: str) -> None:
        mark = append(path, 1)
        path.rename(path.with_name(name))
        assert alerts.tampered(str(path), mark) == []
        path.touch()
        assert alerts.tampered(str(path), mark) == []

    def test_ours_is_none(self, path: Path) -> None:
        mark = append(path, 1)
        append(path, 2, max_bytes=10)
        assert alerts.tampered(str(path), mark) == []

    def test_removed_with_its_folder_or_without(self, path: Path) -> None:
        mark = append(path, 1)
        path.unlink()
        gone = alerts.tampered(str(path), mark)
        assert [finding.rule for finding in gone] == ["log.tampered"]
        assert gone[0].severity == "high"
        assert "is gone" in gone[0].summary
        path.parent.rmdir()
        assert alerts.tampered(str(path), mark) == gone

    def test_cut(self, path: Path) -> None:
        mark = append(path, 1, 2)
        os.truncate(path, 10)
        assert "was cut to 10" in alerts.tampered(str(path), mark)[0].summary

    def test_replaced(self, path: Path) -> None:
        mark = append(path, 1)
        (path.parent / "new").write_bytes(path.read_bytes())
        (path.parent / "new").rename(path)
        assert alerts.tampered(str(path), mark)

    def test_is_another_finding_the_next_time(self, path: Path) -> None:
        prints = set()
        for _each in range(2):
            mark = append(path, *range(_each + 1))
            path.unlink()
            prints.add(alerts.tampered(str(path), mark)[0].fingerprint)
        assert len(prints) == 2


TEXT = st.text(st.characters(min_codepoint=0, max_codepoint=0x10FFFF, categories=None), max_size=60)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=8,
)


@given(TEXT, VALUES)
@example("\n\r\x00\x1b[31m\u2028\u2029\x85\udc80\ud800\U0001f600", ["\n"])
@example("x" * 100_000, {})
def test_whatever_an_event_holds_is_one_line(name: str, value: Any) -> None:
    finding = found("process.miner_name", name, name, {"name": value}, [name])
    safe = Memory().update({"processes": Scan([finding], [])}, NOW, name, 60)
    raw = [{"id": "1", "subject": name, "value": value}]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "security", "alerts.log")
        alerts.append(str(path), [*safe, *raw], LARGE, 3)
        lines = path.read_bytes().split(b"\n")
    assert len(lines) == 3
    assert lines[2] == b""
    for line, event in zip(lines, [*safe, *raw]):
        assert line.isascii()
        assert line.decode().isprintable()
        # Two surrogates next to each other that make a character come back as that: compare what stands in the log.
        assert json.dumps(json.loads(line)) == json.dumps(event)
    if not any(0xD800 <= ord(char) <= 0xDFFF for char in name):
        assert json.loads(lines[1])["subject"] == name
    assert json.loads(lines[0])["subject"] == finding.subject


class Killed(BaseException):
    """The process ends here."""


@contextmanager
def killed_at(number: int) -> Iterator[list[str]]:
    """Ends the process at the so-many-th thing that it does on the disk; what it writes there it writes in half."""
    done: list[str] = []

    def wrapped(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            done.append(name)
            if len(done) == number:
                if name == "write":
                    real(args[0], args[1][: len(args[1]) // 2])
                raise Killed
            # The kernel outlives the process: what it has it need not put on the disk for this.
            return None if name == "fsync" else real(*args, **options)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in ("write", "open", "fsync", "rename", "replace", "mkdir"):
            patch.setattr(os, name, wrapped(name, getattr(os, name)))
        yield done


SCANS = ["ab", "bc", "abcd", "d", ""]


def run(folder: Path, scan: int, max_bytes: int) -> None:
    """A run, in the order that memory.py tells."""
    memory, log = Memory.load(folder / "memory.json"), folder / "security" / "alerts.log"
    findings = [found("process.miner_name", name, name * 50, {"x": {"y": 1}}, [name]) for name in SCANS[scan]]
    findings += alerts.tampered(str(log), memory.log)
    memory.update({"processes": Scan(findings, [])}, NOW + 300 * scan, "web1", 400)
    memory.save(folder / "memory.json")
    memory.log = alerts.append(str(log), memory.pending, max_bytes, 30)
    memory.pending = []
    memory.save(folder / "memory.json")


def check_killed(kills: list[int], max_bytes: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, log = Path(name), Path(name, "security", "alerts.log")
        for scan in range(len(SCANS)):
            with killed_at(kills[scan] if scan < len(kills) else 0), suppress(Killed):
                run(folder, scan, max_bytes)
        memory = Memory.load(folder / "memory.json")
        assert memory.pending == []
        files = sorted(log.parent.iterdir(), key=lambda file: -int(file.suffix[1:].replace("log", "0")))
        lines = b"".join(file.read_bytes() for file in files).split(b"\n")
    told = []
    for line in lines:
        with suppress(ValueError):
            told.append(json.loads(line))
    assert len({event["id"] for event in told}) == len(told)
    under_way: set[str] = set()
    for event in told:
        assert event["rule"] == "process.miner_name"
        if event["state"] == "new":
            assert event["fingerprint"] not in under_way
            under_way.add(event["fingerprint"])
        else:
            assert event["fingerprint"] in under_way
            if event["state"] == "resolved":
                under_way.remove(event["fingerprint"])
    assert under_way == set(memory.known)


@pytest.mark.parametrize("max_bytes", [LARGE, 700])
def test_killed_anywhere_every_event_is_in_the_log_once(max_bytes: int) -> None:
    steps: list[int] = []
    with tempfile.TemporaryDirectory() as name, killed_at(0) as done:
        for scan in range(len(SCANS)):
            run(Path(name), scan, max_bytes)
            steps.append(len(done) - sum(steps))
    assert set(done) == {"write", "open", "fsync", "mkdir", "replace"} | ({"rename"} if max_bytes == 700 else set())
    for scan, number in enumerate(steps[:-1]):
        for kill in range(1, number + 1):
            check_killed([0] * scan + [kill], max_bytes)


@given(st.lists(st.integers(0, 25), max_size=len(SCANS) - 1), st.sampled_from([LARGE, 700, 1500]))
def test_killed_again_and_again_every_event_is_in_the_log_once(kills: list[int], max_bytes: int) -> None:
    check_killed(kills, max_bytes)
