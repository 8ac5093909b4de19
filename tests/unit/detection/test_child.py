# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Work in a child process: its result, and no process, lock or half-done work left behind."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.detection.child import Child


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_its_result_comes_back_also_a_long_one() -> None:
    with Child(lambda: {"a": [1, "é" * 200_000]}, 10) as child:
        pid = child._pid
        assert child.result() == {"a": [1, "é" * 200_000]}
    assert pid is not None
    assert gone(pid)


def test_it_works_beside_its_parent() -> None:
    with Child(os.getpid, 10) as child:
        assert child.result() not in (None, os.getpid())


def fail() -> Any:
    raise ValueError("a bug")


def test_a_bug_in_it_is_a_traceback_and_no_result(capfd: pytest.CaptureFixture[str]) -> None:
    with Child(fail, 10) as child:
        assert child.result() is None
    assert "ValueError: a bug" in capfd.readouterr().err


@pytest.mark.parametrize(
    "work", [lambda: os.kill(os.getpid(), signal.SIGKILL), lambda: os._exit(0), lambda: b"no JSON"]
)
def test_one_that_dies_has_no_result(work: Any) -> None:
    with Child(work, 10) as child:
        assert child.result() is None


def test_one_that_does_not_end_is_killed_at_its_deadline() -> None:
    started = time.monotonic()
    with Child(lambda: time.sleep(60), 0.2) as child:
        pid = child._pid
        assert child.result() is None
    assert time.monotonic() - started < 30, "it slept to its end"
    assert pid is not None
    assert gone(pid)


def test_it_is_gone_when_the_block_ends_by_an_exception() -> None:
    children = []

    def block() -> None:
        with Child(lambda: time.sleep(60), 30) as child:
            children.append(child._pid)
            raise SystemExit(1)

    with pytest.raises(SystemExit):
        block()
    assert gone(children[0] or 0)


def test_an_orphan_ends_by_itself() -> None:
    child = Child(lambda: time.sleep(60), 0.2)
    pid = child._pid
    assert pid is not None
    assert os.waitpid(pid, 0) == (pid, signal.SIGALRM)
    child.stop()


def at_work(started: Path) -> Child:
    """Return a child once its function runs, so that all that it does before is done."""

    def work() -> None:
        started.touch()
        time.sleep(60)

    child = Child(work, 30)
    deadline = time.monotonic() + 30
    while not started.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    return child


def test_a_signal_that_is_an_exception_in_the_parent_just_ends_it(tmp_path: Path) -> None:
    def cleanup(*_arguments: object) -> None:
        (tmp_path / "cleaned").touch()

    before = signal.signal(signal.SIGTERM, cleanup)
    try:
        with at_work(tmp_path / "started") as child:
            assert child._pid is not None
            os.kill(child._pid, signal.SIGTERM)
            assert child.result() is None
    finally:
        signal.signal(signal.SIGTERM, before)
    assert not (tmp_path / "cleaned").exists()


def test_it_does_not_hold_a_lock_of_its_parent(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with at_work(tmp_path / "started"):
            file.close()
            with (tmp_path / "lock").open("w") as other:
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_files_of_the_parent_are_not_written_twice(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file:
        file.write("once")
        with Child(lambda: 1, 10) as child:
            assert child.result() == 1
    assert (tmp_path / "file").read_text() == "once"


def test_a_parent_that_has_its_children_reaped_by_the_system_is_fine() -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with Child(lambda: 7, 10) as child:
            assert child.result() == 7
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_no_open_file_is_left() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with Child(lambda: 7, 10) as child:
        child.result()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
