# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules log_marker and log_marker_info: what they log of themselves, and what they refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible_collections.custodes.security_dr.plugins.module_utils.logs import backends, marker
from unit.modules.runner import Runner

MARKER = "marker-0f6a5dd0c6bb4a5d8a2a07cbe1cf7d4e"


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What Ansible logs on the host."""
    lines: list[str] = []
    monkeypatch.setattr(AnsibleModule, "log", lambda _self, msg, log_args=None: lines.append(f"{msg} {log_args}"))
    return lines


def test_looking_for_a_marker_logs_no_line_with_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, logged: list[str]
) -> None:
    """Fluent Bit would ship that line, and it would be found."""
    look = Runner(capsys, "log_marker_info", marker=MARKER, wait=0)
    result = look.fails(backends=[{"name": "f", "type": "file", "url": str(tmp_path / "x")}])
    assert logged
    assert not any(MARKER in line for line in logged)
    # Whoever reads the result needs it to look by hand.
    assert result["msg"].startswith(f"The line {MARKER} is not in f after 0 seconds. f answers and has no such line.")


def test_no_secret_is_logged_or_printed(capsys: pytest.CaptureFixture[str], logged: list[str]) -> None:
    look = Runner(capsys, "log_marker_info", marker=MARKER, wait=0)
    given = {"name": "x", "type": "loki", "url": "http://127.0.0.1:1"}
    look.fails(backends=[{**given, "token": "s3cret-token"}, {**given, "name": "y", "password": "s3cret-pass"}])
    assert "s3cret" not in look.output + "".join(logged)


def test_sending_logs_the_line_alone(capsys: pytest.CaptureFixture[str], tmp_path: Path, logged: list[str]) -> None:
    send = Runner(capsys, "log_marker", file=str(tmp_path / "app.log"))
    assert send(check=True)["changed"]
    assert not (tmp_path / "app.log").exists()
    sent = send()
    assert (tmp_path / "app.log").read_text().endswith(f" {sent['marker']}\n")
    assert not any(sent["marker"] in line for line in logged)


def test_without_a_file_it_is_the_journal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []

    def into_journal(text: str) -> float:
        sent.append(text)
        return 1.5

    monkeypatch.setattr(marker, "into_journal", into_journal)
    result = Runner(capsys, "log_marker")()
    assert (result["marker"], result["time"]) == (sent[0], 1.5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"marker": "x` or `"}, "is no marker"),
        ({"backends": []}, "No backend is given"),
        ({"backends": [{"name": "x", "type": "loki", "url": "loki"}]}, "url is not of the form"),
    ],
)
def test_what_is_refused_before_anything_is_asked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], message: str
) -> None:
    monkeypatch.setattr(backends, "wait", None)
    usual = {"marker": MARKER, "backends": [{"name": "f", "type": "file", "url": "/x"}]}
    result = Runner(capsys, "log_marker_info")(**{**usual, **given})
    assert message in result["msg"]
    assert result["error_type"] == "LogsError"
