# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module agent_service on a host in a folder: its options, its result, and what it keeps to itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible_collections.custodes.security_dr.plugins.module_utils.agent import zipapp
from ansible_collections.custodes.security_dr.plugins.modules import agent_service
from unit.agent.fake_host import CONFIG, CREDENTIALS, SERVICE, UNITS, FakeHost
from unit.modules.runner import Runner

SECRET = CREDENTIALS["chat-url"]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    fake = FakeHost(tmp_path)

    def run_command(_module: Any, command: list[str], environ_update: Any, handle_exceptions: bool) -> Any:
        assert handle_exceptions is False
        if command[0] == "/no/python":
            raise FileNotFoundError(2, "No such file or directory")
        return fake.run(command, environ_update)

    monkeypatch.setattr(zipapp, "build", lambda interpreter: f"#!{interpreter} -IS\nagent".encode())
    monkeypatch.setattr(agent_service, "ROOT", str(tmp_path))
    monkeypatch.setattr(AnsibleModule, "run_command", run_command)
    return fake


@pytest.fixture
def run(host: FakeHost, capsys: pytest.CaptureFixture[str]) -> Runner:
    return Runner(capsys, "agent_service", command="detect", config=CONFIG, credentials=CREDENTIALS, units=UNITS)


def test_four_runs(run: Runner) -> None:
    foretold, done, _again, last = run.four_runs()
    assert foretold["diff"] == done["diff"]
    assert foretold["changes"] == done["changes"]
    assert (done["ran"], last["ran"]) == (True, False)
    for result in (done, last):
        assert (result["version"], result["counts"]["info"], result["log_store"]) == ("0.2.0", 1, "unconfigured")
        assert result["baseline"]["state"] == "written"
    assert SECRET not in run.output


def test_absent(run: Runner, host: FakeHost) -> None:
    run()
    assert [run(state="absent", check=check)["changed"] for check in (True, False, True, False)] == [
        *(True, True, False, False)
    ]
    assert host.tree() == {}


def test_what_a_webhook_needs_is_hidden_and_what_was_found_is_not(run: Runner, host: FakeHost) -> None:
    config = {"delivery": {"destinations": [{"name": "baseline.written", "url": "https://x/hidden", "token": "t0ken"}]}}
    result = run(config=config)
    assert "hidden" not in run.output.replace("(hidden)", "")
    assert "t0ken" not in run.output
    assert result["findings"][0]["rule"] == "baseline.written", "a word of the configuration is no secret"


def test_options_are_not_logged_on_the_host(run: Runner, monkeypatch: pytest.MonkeyPatch, host: FakeHost) -> None:
    said: list[Any] = []
    monkeypatch.setattr(AnsibleModule, "log", lambda _module, msg, log_args=None: said.append((msg, log_args)))
    run(config={"delivery": {"destinations": [{"name": "x", "url": "https://x/hidden"}]}})
    assert said
    assert "https://x/hidden" not in str(said)
    assert SECRET not in str(said)


def test_a_run_that_fails(run: Runner, host: FakeHost) -> None:
    host.problem = "The disk is full."
    result = run.fails()
    assert result["error_type"] == "ServiceError"
    assert "The disk is full." in result["msg"]
    assert f"systemctl start {SERVICE}" in result["msg"]


def test_a_python_that_is_not_there(run: Runner, host: FakeHost) -> None:
    before = host.tree()
    assert "/no/python is no Python of 3.9" in run.fails(interpreter="/no/python")["msg"]
    assert host.tree() == before
