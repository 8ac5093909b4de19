# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One recovery at a time, and none that is kept out by one that is dead."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils import playbook_lock as lock
from ansible_collections.custodes.security_dr.plugins.module_utils.files import StoreError
from ansible_collections.custodes.security_dr.plugins.module_utils.playbook_lock import (
    HeldError,
    Holder,
    acquire,
    current_holder,
    is_alive,
    lock_file,
    release,
)

SINCE = "Tue Nov 24 05:00:00 2026"
PLAYBOOK = "/usr/bin/python3 /usr/bin/ansible-playbook recover-vault.yml"
ME = Holder(100, SINCE, platform.node(), "root")
OTHER = replace(ME, pid=200, user="alice")

Table = dict[int, tuple[int, str, str]]


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Table:
    """Parent, start and command by process id, in the place of ps."""
    table: Table = {100: (1, SINCE, PLAYBOOK), 200: (1, SINCE, PLAYBOOK)}
    monkeypatch.setattr(lock, "_process", table.get)
    return table


class TestAcquire:
    def test_a_free_one(self, processes: Table, tmp_path: Path) -> None:
        acquire(tmp_path, ME, "recovery")
        assert (lock_file(tmp_path, "recovery")).stat().st_mode & 0o777 == 0o600

    def test_again_by_the_same_playbook(self, processes: Table, tmp_path: Path) -> None:
        acquire(tmp_path, ME, "recovery")
        acquire(tmp_path, ME, "recovery")

    def test_of_one_that_runs(self, processes: Table, tmp_path: Path) -> None:
        acquire(tmp_path, OTHER, "recovery")
        with pytest.raises(HeldError, match=f"process id 200 of alice on {platform.node()}, since {SINCE}"):
            acquire(tmp_path, ME, "recovery")
        # The refused one has taken nothing.
        acquire(tmp_path, OTHER, "recovery")

    def test_of_one_that_is_gone(self, processes: Table, tmp_path: Path) -> None:
        acquire(tmp_path, OTHER, "recovery")
        del processes[200]
        acquire(tmp_path, ME, "recovery")
        processes[200] = (1, SINCE, PLAYBOOK)
        with pytest.raises(HeldError, match="process id 100"):
            acquire(tmp_path, OTHER, "recovery")

    def test_of_one_whose_id_is_used_again(self, processes: Table, tmp_path: Path) -> None:
        acquire(tmp_path, OTHER, "recovery")
        processes[200] = (1, "Tue Nov 24 05:59:00 2026", PLAYBOOK)
        acquire(tmp_path, ME, "recovery")

    def test_of_another_host_is_believed(self, processes: Table, tmp_path: Path) -> None:
        acquire(tmp_path, replace(OTHER, pid=999, host="controller-2"), "recovery")
        with pytest.raises(HeldError, match=f"on controller-2.*if that host is gone for good, remove {tmp_path}"):
            acquire(tmp_path, ME, "recovery")

    @pytest.mark.parametrize("left", ["", "{", "[]", "7", '{"pid": 200}', '{"pid": 200, "more": 1}'])
    def test_one_that_names_nobody_is_free(self, processes: Table, tmp_path: Path, left: str) -> None:
        (lock_file(tmp_path, "recovery")).write_text(left)
        acquire(tmp_path, ME, "recovery")
        with pytest.raises(HeldError):
            acquire(tmp_path, OTHER, "recovery")

    def test_a_shorter_name_leaves_nothing_of_a_longer_one(self, processes: Table, tmp_path: Path) -> None:
        acquire(tmp_path, replace(OTHER, user="alice" * 99), "recovery")
        del processes[200]
        acquire(tmp_path, ME, "recovery")
        processes[200] = (1, SINCE, PLAYBOOK)
        with pytest.raises(HeldError):
            acquire(tmp_path, OTHER, "recovery")

    def test_no_folder(self, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match=r"Cannot lock .*Choose a folder"):
            acquire(tmp_path / "none", ME, "recovery")


class TestRelease:
    def test_makes_room_for_the_next(self, processes: Table, tmp_path: Path) -> None:
        acquire(tmp_path, ME, "recovery")
        release(tmp_path, ME, "recovery")
        acquire(tmp_path, OTHER, "recovery")

    def test_of_somebody_elses_does_nothing(self, processes: Table, tmp_path: Path) -> None:
        acquire(tmp_path, OTHER, "recovery")
        release(tmp_path, ME, "recovery")
        with pytest.raises(HeldError):
            acquire(tmp_path, ME, "recovery")

    def test_of_none_makes_none(self, tmp_path: Path) -> None:
        release(tmp_path, ME, "recovery")
        assert list(tmp_path.iterdir()) == []


class TestHolder:
    def test_is_the_nearest_playbook_and_no_terminal_that_was_started_with_one(
        self, processes: Table, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        processes.update(
            {
                50: (1, "long ago", "tmux new ansible-playbook recover-vault.yml"),
                100: (50, SINCE, PLAYBOOK),
                101: (100, "now", "/bin/sh"),
            }
        )
        monkeypatch.setattr(os, "getppid", lambda: 101)
        assert (current_holder().pid, current_holder().started) == (100, SINCE)

    def test_is_the_parent_where_no_playbook_is(self, processes: Table, monkeypatch: pytest.MonkeyPatch) -> None:
        processes.update({102: (50, "now", "/bin/sh"), 50: (1, "long ago", "/bin/bash")})
        monkeypatch.setattr(os, "getppid", lambda: 102)
        assert (current_holder().pid, current_holder().started) == (102, "now")

    def test_a_real_process_lives_until_it_ends(self) -> None:
        child = subprocess.Popen(["sleep", "60"])
        try:
            found = lock._process(child.pid)
            assert found is not None
            parent, started, command = found
            assert (parent, command.strip()) == (os.getpid(), "sleep 60")
            holder = replace(ME, pid=child.pid, started=started)
            assert is_alive(holder)
            assert not is_alive(replace(holder, started="Tue Nov 24 05:00:00 1999"))
        finally:
            child.kill()
            child.wait()
        assert not is_alive(holder)

    def test_no_ps(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", "/no/such/folder")
        with pytest.raises(StoreError, match=r"Cannot run ps.*procps"):
            current_holder()
