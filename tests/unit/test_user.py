# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The name of the user in records, also of a container's user without one."""

from __future__ import annotations

import getpass
import os
import pwd
from pathlib import Path

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.recovery.journal import Journal
from ansible_collections.custodes.security_dr.plugins.module_utils.recovery.report import FAILED, Ending, build_record
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.manifest import taken_by
from ansible_collections.custodes.security_dr.plugins.module_utils.user import user_name
from unit.snapshot.world import NOW


def test_a_name() -> None:
    assert user_name() == getpass.getuser()


@pytest.mark.parametrize("error", [KeyError, OSError])
def test_no_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: type[Exception]) -> None:
    def unknown(_uid: int) -> object:
        raise error("uid not found: 54321")

    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    assert user_name() == "54321"
    assert taken_by()["user"] == "54321"
    record = build_record(Journal.new(tmp_path, [], NOW), Ending(FAILED, 1), NOW)
    assert record["operator"].startswith("54321@")
