# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One recovery at a time, and none that is kept out by one that is dead."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import ansible_collections.custodes.security_dr as collection
import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils import playbook_lock as lock
from ansible_collections.custodes.security_dr.plugins.module_utils.files import StoreError
from ansible_collections.custodes.security_dr.plugins.module_utils.playbook_lock import (
    HeldError,
    Holder,
    acquire,
    current_holder,
    lock_file,
    release,
)
from lab.processes import wait_for

COLLECTIONS = Path(next(iter(collection.__path__))).parents[2]
PLAYBOOK = """
import os, sys, time
from pathlib import Path
from ansible_collections.custodes.security_dr.plugins.module_utils import playbook_lock as lock
try:
    lock.acquire(Path(sys.argv[1]), lock.Holder(os.getpid(), "x", "h", "alice"), "recovery")
except Exception as error:
    sys.stdout.write(str(error)); sys.exit(3)
sys.stdout.write("held"); sys.stdout.flush()
time.sleep(60)
"""


class Run:
    """A process in the place of ansible-playbook, which takes the lock and sleeps."""

    def __init__(self, folder: Path, *prefix: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-c", PLAYBOOK, str(folder)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(COLLECTIONS), **environment},
        )
        assert self.process.stdout is not None
        self.said = self.process.stdout.read(4)
        if self.said != "held":
            self.said += self.process.stdout.read()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Run]:
    run = Run(tmp_path)
    yield run
    run.end()


@pytest.fixture
def me() -> Holder:
    return Holder(os.getpid(), "me", platform.node(), "root")


def soon_free(folder: Path, holder: Holder) -> None:
    def free() -> bool:
        try:
            acquire(folder, holder, "recovery")
        except HeldError:
            return False
        return True

    wait_for("the lock is free", free, 20)


class TestAcquire:
    def test_a_free_one(self, me: Holder, tmp_path: Path) -> None:
        acquire(tmp_path, me, "recovery")
        assert lock_file(tmp_path, "recovery").stat().st_mode & 0o777 == 0o600
        release(tmp_path, me, "recovery")

    def test_again_by_the_same_playbook(self, me: Holder, tmp_path: Path) -> None:
        acquire(tmp_path, me, "recovery")
        acquire(tmp_path, me, "recovery")
        release(tmp_path, me, "recovery")

    def test_of_one_that_runs(self, other: Run, me: Holder, tmp_path: Path) -> None:
        assert other.said == "held"
        with pytest.raises(HeldError, match=f"process id {other.process.pid} of alice on h, since 20"):
            acquire(tmp_path, me, "recovery")

    def test_of_one_that_was_killed(self, other: Run, me: Holder, tmp_path: Path) -> None:
        other.end()
        soon_free(tmp_path, me)
        release(tmp_path, me, "recovery")

    @pytest.mark.parametrize("environment", [{"TZ": "Asia/Tokyo"}, {"LC_ALL": "de_DE.UTF-8"}, {"PATH": "/nowhere"}])
    def test_neither_clock_nor_locale_nor_programs_matter(
        self, other: Run, tmp_path: Path, environment: dict[str, str]
    ) -> None:
        second = Run(tmp_path, **environment)
        try:
            assert f"Another recovery is running: ansible-playbook with process id {other.process.pid}" in second.said
        finally:
            second.end()

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root makes a process namespace")
    def test_nor_does_the_process_namespace(self, other: Run, tmp_path: Path) -> None:
        # In a namespace of its own the process has number 1, and does not see the other one.
        second = Run(tmp_path, "unshare", "--pid", "--fork", "--mount-proc")
        try:
            assert "Another recovery is running" in second.said
        finally:
            second.end()

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
    def test_another_user_is_not_sent_to_another_folder(self, me: Holder) -> None:
        with tempfile.TemporaryDirectory() as folder:
            Path(folder).chmod(0o755)
            run = Run(Path(folder))
            os.seteuid(65534)
            try:
                with pytest.raises(StoreError, match="belongs to another user, whose recovery may be running"):
                    acquire(Path(folder), me, "recovery")
            finally:
                os.seteuid(0)
                run.end()

    @pytest.mark.parametrize("left", ["", "{", "[]", "7", '{"pid": 200}', '{"pid": 200, "more": 1}'])
    def test_a_file_that_is_not_locked_is_free(self, me: Holder, tmp_path: Path, left: str) -> None:
        lock_file(tmp_path, "recovery").write_text(left)
        acquire(tmp_path, me, "recovery")
        release(tmp_path, me, "recovery")

    def test_a_link_is_not_followed(self, me: Holder, tmp_path: Path) -> None:
        lock_file(tmp_path, "recovery").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(StoreError, match="Cannot lock"):
            acquire(tmp_path, me, "recovery")
        assert not (tmp_path / "elsewhere").exists()

    def test_no_folder(self, me: Holder, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match=r"Cannot lock .*Choose a folder"):
            acquire(tmp_path / "none", me, "recovery")

    def test_a_process_that_is_gone_keeps_nothing(self, tmp_path: Path) -> None:
        ended = subprocess.Popen(["true"])
        ended.wait()
        with pytest.raises(StoreError, match="Cannot keep the lock"):
            acquire(tmp_path, Holder(ended.pid, "x", "h", "u"), "recovery")


class TestRelease:
    def test_makes_room_for_the_next(self, me: Holder, tmp_path: Path) -> None:
        acquire(tmp_path, me, "recovery")
        release(tmp_path, me, "recovery")
        next_one = Run(tmp_path)
        assert next_one.said == "held"
        next_one.end()

    def test_of_somebody_elses_does_nothing(self, other: Run, me: Holder, tmp_path: Path) -> None:
        release(tmp_path, me, "recovery")
        time.sleep(0.5)  # longer than a keeper takes to see that its file was emptied
        with pytest.raises(HeldError):
            acquire(tmp_path, me, "recovery")

    def test_of_none_makes_none(self, me: Holder, tmp_path: Path) -> None:
        release(tmp_path, me, "recovery")
        assert list(tmp_path.iterdir()) == []


def test_a_module_knows_whether_its_run_is_alive(other: Run, tmp_path: Path) -> None:
    held = {"pid": str(other.process.pid), "process": "x", "host": "h", "user": "alice"}
    path = lock_file(tmp_path, "recovery")
    assert lock.is_alive(path, held)
    assert not lock.is_alive(path, {**held, "pid": 1})
    other.end()
    wait_for("the lock is free", lambda: not lock.is_alive(path, held), 20)
    assert not lock.is_alive(tmp_path / "none", held)


def test_the_holder_is_the_parent() -> None:
    holder = current_holder()
    assert (holder.pid, holder.host) == (os.getppid(), platform.node())
    assert holder.process == lock._process(os.getppid())
    assert not lock._process(2**22)
