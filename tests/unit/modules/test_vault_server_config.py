# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module vault_server_config on a host in a folder: its options, its result, and what it keeps to itself."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible_collections.custodes.security_dr.plugins.module_utils.vault import server_files
from unit.modules.runner import Runner

SECRET, KEY = "s3cret-of-the-seal", "s3cret-key-of-the-server"


@pytest.fixture
def diagnosed() -> list[tuple[int, str, str]]:
    """What the programs of the host answer."""
    return [(0, "", "")]


@pytest.fixture
def run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    diagnosed: list[tuple[int, str, str]],
) -> Runner:
    monkeypatch.setattr(AnsibleModule, "run_command", lambda _module, _command: diagnosed[-1])
    me = (os.geteuid(), os.getegid())
    monkeypatch.setattr(server_files.ServerFiles.__init__, "__defaults__", (me,))
    (tmp_path / "vault").touch()
    return Runner(
        capsys,
        "vault_server_config",
        program=str(tmp_path / "vault"),
        user=pwd.getpwuid(me[0]).pw_name,
        config_file=str(tmp_path / "etc/vault.hcl"),
        config="ui = false\n",
        trial_config="ui = false\n",
        environment_file=str(tmp_path / "etc/vault.env"),
        environment_content=f"SECRET={SECRET}\n",
        unit_file=str(tmp_path / "vault.service"),
        unit="[Unit]\n",
        certificates=[
            {"name": "server.key", "path": str(tmp_path / "etc/server.key"), "content": KEY},
            {"name": "ca.pem", "path": str(tmp_path / "etc/ca.pem"), "content": ""},
        ],
        folders=[{"path": str(tmp_path / "etc"), "mode": "0755"}],
        started_file=str(tmp_path / "started"),
    )


def test_four_runs(run: Runner, tmp_path: Path) -> None:
    foretold, done, _again, last = run.four_runs()
    assert foretold["changed_paths"] == done["changed_paths"]
    assert foretold["diff"] == done["diff"]
    assert last["changed_paths"] == []
    assert not (tmp_path / "etc/ca.pem").exists(), "its content is empty"
    assert (SECRET in run.output, KEY in run.output) == (False, False)


def test_refused(run: Runner, diagnosed: list[tuple[int, str, str]]) -> None:
    diagnosed.append((1, "[ failure ] Create Vault Server Configuration Seals: no such key\n", ""))
    for check in (True, False):
        result = run.fails(check=check)
        assert "no such key. The configuration that is in use was not touched." in result["msg"]
        assert result["error_type"] == "VaultConfigError"


def test_the_user_need_not_exist_in_check_mode(run: Runner) -> None:
    assert run(check=True, user="no-such-user")["changed"] is True
    assert "no user no-such-user" in run.fails(user="no-such-user")["msg"]


def test_a_mode_that_is_none(run: Runner) -> None:
    assert "give octal digits" in run.fails(folders=[{"path": "/nowhere", "mode": "u=rwx"}])["msg"]


def test_a_start_is_older_or_newer(run: Runner, tmp_path: Path) -> None:
    result: dict[str, Any] = run()
    assert result["newer_than_start"] is True
    (tmp_path / "started").touch()
    os.utime(tmp_path / "started", (2**31, 2**31))
    assert run()["newer_than_start"] is False
