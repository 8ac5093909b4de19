# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that are whole or not there, also on a full disk and after a killed run."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils import files
from ansible_collections.custodes.security_dr.plugins.module_utils.files import (
    RESERVED,
    StoreError,
    new_file,
    read_json,
    reserved_json,
    write_json,
)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def disk_full(*_arguments: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "x.snap"


@pytest.fixture(autouse=True)
def folder(dest: Path) -> None:
    dest.parent.mkdir()


class TestNewFile:
    def test_takes_its_name_at_the_end(self, dest: Path) -> None:
        dest.write_bytes(b"old")
        with new_file(dest) as file:
            file.write(b"new")
            file.flush()
            assert dest.read_bytes() == b"old"
        assert dest.read_bytes() == b"new"
        assert mode(dest) == 0o600
        assert list(dest.parent.iterdir()) == [dest]

    def test_is_on_disk_before_it_takes_its_name(self, dest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        at_sync = []
        monkeypatch.setattr(os, "fsync", lambda _handle: at_sync.append(dest.exists()))
        with new_file(dest) as file:
            file.write(b"new")
        # The file, then the folder.
        assert at_sync == [False, True]

    @pytest.mark.parametrize("raised", [ValueError("it does not verify"), KeyboardInterrupt()])
    def test_a_block_that_fails_leaves_what_was_there(self, dest: Path, raised: BaseException) -> None:
        dest.write_bytes(b"old")
        with pytest.raises(type(raised)), new_file(dest) as file:  # noqa: PT012 - the block is what is tested
            file.write(b"new")
            raise raised
        assert dest.read_bytes() == b"old"
        assert list(dest.parent.iterdir()) == [dest]

    @pytest.mark.parametrize("there", [b"old", None])
    def test_a_full_disk_leaves_what_was_there(
        self, dest: Path, monkeypatch: pytest.MonkeyPatch, there: bytes | None
    ) -> None:
        if there is not None:
            dest.write_bytes(there)
        monkeypatch.setattr(os, "fsync", disk_full)
        with pytest.raises(StoreError, match=f"Cannot write {dest}: No space left on device.*Make room"):
            write_json(dest, {"a": 1})
        assert [path.read_bytes() for path in dest.parent.iterdir()] == ([there] if there else [])

    def test_a_full_disk_while_it_is_written(self, dest: Path) -> None:
        with pytest.raises(StoreError, match="No space left"), new_file(dest) as file:  # noqa: PT012 - as above
            file.write(b"new")
            disk_full()
        assert list(dest.parent.iterdir()) == []

    def test_another_files_trouble_is_not_taken_for_its_own(self, dest: Path) -> None:
        with pytest.raises(FileNotFoundError), new_file(dest):
            Path("/no/such/file").read_bytes()

    def test_no_folder(self, dest: Path) -> None:
        with pytest.raises(StoreError, match=r"Cannot write in .*/none: No such file.*Create the folder"):
            write_json(dest.parent / "none" / "x", {})

    def test_a_folder_of_this_name(self, dest: Path) -> None:
        dest.mkdir()
        with pytest.raises(StoreError, match=r"Cannot write .*Is a directory"):
            write_json(dest, {})
        assert list(dest.parent.iterdir()) == [dest]


class TestWhatAKilledRunLeft:
    def test_is_removed(self, dest: Path) -> None:
        (dest.parent / ".x.snap.killed.partial").write_bytes(b"half")
        write_json(dest, {})
        assert list(dest.parent.iterdir()) == [dest]

    def test_is_kept_while_somebody_writes_it(self, dest: Path) -> None:
        other = dest.parent / ".x.snap.running.partial"
        with other.open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            write_json(dest, {})
            assert other.exists()
        write_json(dest, {})
        assert not other.exists()

    def test_what_nobody_has_left_as_a_file_is_not_waited_for(self, dest: Path) -> None:
        """The folder of the metrics may belong to somebody else, who can put a pipe there."""
        os.mkfifo(dest.parent / ".x.snap.1.partial")
        (dest.parent / ".x.snap.2.partial").symlink_to("/dev/zero")
        before = signal.signal(signal.SIGALRM, lambda *_given: pytest.fail("It waits."))
        signal.alarm(60)
        try:
            write_json(dest, {})
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, before)
        assert dest.exists()

    def test_of_another_name_is_not_ours(self, dest: Path) -> None:
        others = [dest.parent / name for name in (".y.snap.1.partial", "x.snap.1.partial", ".x.snap.1.part")]
        for other in others:
            other.write_bytes(b"")
        write_json(dest, {})
        assert all(other.exists() for other in others)

    def test_a_name_is_not_a_pattern(self, dest: Path) -> None:
        left = dest.parent / ".[x].snap.killed.partial"
        left.write_bytes(b"half")
        write_json(dest.parent / "[x].snap", {})
        assert not left.exists()


class TestReserved:
    def test_the_room_is_taken_before_the_block(self, dest: Path) -> None:
        with reserved_json(dest) as write:
            assert dest.stat().st_size == RESERVED
            assert mode(dest) == 0o600
            write({"b": 1, "a": "é"})
        assert json.loads(dest.read_text()) == {"a": "é", "b": 1}
        assert dest.stat().st_size < 100

    def test_more_than_was_reserved(self, dest: Path) -> None:
        with reserved_json(dest) as write:
            write({"a": "x" * RESERVED})
        assert len(read_json(dest)["a"]) == RESERVED

    @pytest.mark.parametrize("there", ['{"root_token": "hvs.t"}', "   x", "0"])
    def test_what_may_hold_keys_is_not_overwritten(self, dest: Path, there: str) -> None:
        dest.write_text(there)
        dest.chmod(0o600)
        with pytest.raises(StoreError, match=f"{dest} exists and is not overwritten"), reserved_json(dest):
            pytest.fail("the block ran")
        assert dest.read_text() == there

    def test_what_a_killed_run_only_reserved_is_used(self, dest: Path) -> None:
        dest.write_bytes(b" " * RESERVED)
        dest.chmod(0o600)
        with reserved_json(dest) as write:
            assert mode(dest) == 0o600
            write({})
        assert dest.read_text() == "{}\n"

    @pytest.mark.parametrize("planted", ["link", "dangling link", "second name", "open to others", "pipe", "folder"])
    def test_what_another_user_may_have_planted_gets_no_keys(self, dest: Path, tmp_path: Path, planted: str) -> None:
        elsewhere = tmp_path / "elsewhere"
        if planted != "dangling link":
            elsewhere.touch(0o600)
        if "link" in planted:
            dest.symlink_to(elsewhere)
        elif planted == "second name":
            dest.hardlink_to(elsewhere)
        elif planted == "open to others":
            dest.touch()
            dest.chmod(0o620)
        elif planted == "pipe":
            os.mkfifo(dest, 0o600)
        else:
            dest.mkdir()
        with pytest.raises(StoreError, match=f"Cannot write keys to {dest}: it exists"), reserved_json(dest):
            pytest.fail("the block ran")
        assert elsewhere.exists() is (planted != "dangling link")
        assert not elsewhere.exists() or elsewhere.read_bytes() == b""

    def test_a_file_of_another_user_gets_no_keys(self, dest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        dest.touch(0o600)
        monkeypatch.setattr(os, "geteuid", lambda: dest.stat().st_uid + 1)
        with pytest.raises(StoreError, match=f"Cannot write keys to {dest}: it exists"), reserved_json(dest):
            pytest.fail("the block ran")

    @pytest.mark.parametrize("failing", ["fsync", "fchmod"])
    def test_no_room_is_told_before_the_block(self, dest: Path, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
        monkeypatch.setattr(os, failing, disk_full)
        with pytest.raises(StoreError, match=f"No room for {dest}.*Nothing was changed yet"), reserved_json(dest):
            pytest.fail("the block ran")
        assert not dest.exists()

    def test_no_folder(self, dest: Path) -> None:
        with pytest.raises(StoreError, match="Choose a folder"), reserved_json(dest.parent / "none" / "x"):
            pytest.fail("the block ran")

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    def test_a_signal_waits_until_the_keys_are_written(self, dest: Path, number: signal.Signals) -> None:
        came: list[str] = []
        before = signal.signal(number, lambda *_: came.append(dest.read_text()))
        try:
            with reserved_json(dest) as write:
                signal.raise_signal(number)
                assert came == []
                write({"a": 1})
            assert came == ['{\n  "a": 1\n}\n']
        finally:
            signal.signal(number, before)

    def test_signals_come_again_after_a_block_that_fails(self, dest: Path) -> None:
        with pytest.raises(ValueError, match="refused"), reserved_json(dest):
            raise ValueError("refused")
        assert not signal.pthread_sigmask(signal.SIG_BLOCK, []) & {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


class TestReadJson:
    def test_what_was_written(self, dest: Path) -> None:
        write_json(dest, {"b": [1], "a": None})
        assert read_json(dest) == {"a": None, "b": [1]}
        assert dest.read_text().startswith('{\n  "a": null')

    @pytest.mark.parametrize("there", [b"", b"{", b"[]", b"1", b"\xff\xfe", b'{"a": ' + b"[" * 10**5])
    def test_damaged(self, dest: Path, there: bytes) -> None:
        dest.write_bytes(there)
        with pytest.raises(StoreError, match=f"{dest} is damaged"):
            read_json(dest)

    def test_missing_is_another_matter(self, dest: Path) -> None:
        with pytest.raises(FileNotFoundError):
            read_json(dest)

    def test_unreadable(self, dest: Path) -> None:
        dest.mkdir()
        with pytest.raises(StoreError, match=f"Cannot read {dest}: it is no regular file"):
            read_json(dest)

    def test_a_pipe_that_nobody_writes_into_ends_nothing(self, dest: Path) -> None:
        os.mkfifo(dest)
        with pytest.raises(StoreError, match=f"Cannot read {dest}: it is no regular file"):
            read_json(dest)

    def test_larger_than_may_be(self, dest: Path) -> None:
        write_json(dest, {})
        assert read_json(dest, 3) == {}
        with pytest.raises(StoreError, match=f"Cannot read {dest}: it has more than 2 bytes"):
            read_json(dest, 2)


@pytest.mark.parametrize(
    ("error", "said"),
    [(OSError(errno.EACCES, "Permission denied", "/x"), "Permission denied"), (OSError("odd"), "odd")],
)
def test_explain(error: OSError, said: str) -> None:
    explain: Callable[[Any], str] = files.explain
    assert explain(error) == said
