# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two runs of a kind never go on at once."""

from __future__ import annotations

import os
import resource
import stat
from pathlib import Path

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.files import StoreError
from ansible_collections.custodes.security_dr.plugins.module_utils.lock import LOCK, BusyError, locked


def test_second_one_is_told_who_holds_it(tmp_path: Path) -> None:
    with (
        locked(tmp_path / "a" / "b", "scan"),
        pytest.raises(BusyError, match=f"Another scan is under way, process id {os.getpid()} "),
        locked(tmp_path / "a" / "b", "scan"),
    ):
        pass
    with locked(tmp_path / "a" / "b", "scan"):
        assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700


def test_what_a_killed_run_left_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text("1234567890\n")
    with locked(tmp_path, "scan"):
        assert (tmp_path / LOCK).read_text() == f"{os.getpid()}\n"


def test_a_full_disk_does_not_matter(tmp_path: Path) -> None:
    """The number of the process is for the reader alone."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with locked(tmp_path, "scan"):
            pass
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
        with locked(tmp_path, "scan"):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(StoreError, match=r"Cannot write .*run\.lock: Not a directory"),
        locked(tmp_path / "file" / "b", "scan"),
    ):
        pass
