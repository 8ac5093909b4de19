# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module drill_fault, with real commands on a file that is there while all is well."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from unit.modules.runner import Runner


@pytest.fixture
def well(tmp_path: Path) -> Path:
    file = tmp_path / "well"
    file.touch()
    return file


@pytest.fixture
def fault(capsys: pytest.CaptureFixture[str], tmp_path: Path, well: Path) -> Runner:
    commands = {"inject": ["rm", str(well)], "undo": ["touch", str(well)], "check": ["test", "-e", str(well)]}
    runner = Runner(capsys, "drill_fault", commands=commands, folder=str(tmp_path / "state"), wait=5)
    runner.options["name"] = "well"
    return runner


def test_four_runs(fault: Runner, well: Path) -> None:
    assert fault(check=True)["changed"] is True
    assert well.exists()
    injected = fault()
    assert (injected["changed"], well.exists()) == (True, False)
    assert injected["fault"]["confirmed"] is not None
    assert fault(check=True)["changed"] is False
    assert fault()["changed"] is False
    assert fault(check=True, state="undone")["changed"] is True
    assert not well.exists()
    undone = fault(state="undone")
    assert (undone["changed"], undone["fault"]["undone_by"], well.exists()) == (True, "drill", True)
    assert fault(check=True, state="undone")["changed"] is False
    assert fault(state="undone")["changed"] is False


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"name": "../x"}, "is no name of a fault"),
        ({"systemd_unit": "loki.service"}, "mutually exclusive"),
        ({"commands": {"inject": [], "undo": ["true"], "check": ["true"]}}, "none may be empty"),
        (
            {"commands": {"inject": ["true"], "undo": ["true"], "check": ["false"]}},
            "Nothing was injected: 'false' ended",
        ),
        ({"commands": {"inject": ["true"], "undo": ["true"], "check": ["/no/such"]}}, "No such file"),
    ],
)
def test_what_is_refused(fault: Runner, options: dict[str, Any], said: str) -> None:
    failed = fault(**options)
    assert failed["failed"] is True
    assert said in failed["msg"]


def test_check_mode_looks(fault: Runner, well: Path) -> None:
    well.unlink()
    assert "Nothing was injected" in fault(check=True)["msg"]
