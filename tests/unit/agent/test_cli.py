# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line: what it prints, and the exit code that systemd and an operator's script go by."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.agent import cli
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot import job
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.job import Report

SNAPSHOT = {"name": "prod-20261124T020000Z.snap", "size": 4096, "index": 77, "key_counts": {"logical": 5, "sys": 3}}


def leg(label: str, **changed: Any) -> dict[str, Any]:
    told = {"verified": True, "proof": "checksum", "problem": None, "kept": 7, "pruned": ["old"], "prune_problem": None}
    return {"label": label, "required": True, **told, **changed}


class Agent:
    """The command line with a configuration of its own; `given` is what the run was given."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "snapshot.json"
        self.given: list[dict[str, Any]] = []
        self.report = Report("success", "2026-11-24T02:00:00+00:00")
        self.write(
            vault={"url": "https://vault-1:8200"},
            destinations=[{"type": "filesystem", "path": str(folder / "backups")}],
            state_directory=str(folder / "state"),
        )

    def write(self, **config: Any) -> None:
        self.file.write_text(json.dumps(config))

    def __call__(self, *options: str) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        code = cli.main(["snapshot", "--config", str(self.file), *options], {}, out, err)
        return code, out.getvalue(), err.getvalue()


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Agent:
    agent = Agent(tmp_path)

    def run(config: dict[str, Any], environ: dict[str, str]) -> Report:
        agent.given.append(config)
        return agent.report

    monkeypatch.setattr(job, "run_job", run)
    return agent


def test_a_success_in_a_few_lines(agent: Agent) -> None:
    agent.report.snapshot, agent.report.duration = SNAPSHOT, 3.14
    agent.report.destinations = [leg("/var/backups/vault"), leg("s3://b/p", verified=False, kept=None, pruned=[])]
    agent.report.warnings = ["s3://b/p, which is optional, failed"]
    code, out, err = agent("--once")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "Snapshot prod-20261124T020000Z.snap: success, 3.1 s",
        "  4096 bytes, Raft index 77, 8 keys",
        "  /var/backups/vault: verified, 7 kept, 1 pruned",
        "  s3://b/p: nothing new, unknown kept, 0 pruned",
        "  Warning: s3://b/p, which is optional, failed",
    ]


@pytest.mark.parametrize(("result", "code"), [("success", 0), ("skipped", 0), ("failed", 1), ("flagged", 1)])
def test_the_exit_code_and_the_report_as_json(agent: Agent, result: str, code: int) -> None:
    agent.report.result = result
    agent.report.problem = "Vault is sealed."
    agent.report.skipped = "another node leads"
    assert agent("--once", "--json") == (code, json.dumps(agent.report.to_dict(), sort_keys=True) + "\n", "")
    _code, out, _err = agent("--once")
    assert "Vault is sealed." in out
    assert "another node leads" in out


def test_what_is_flagged_is_accepted_by_word_only(agent: Agent) -> None:
    agent("--once")
    agent("--once", "--accept-flagged")
    assert [config.get("accept_flagged", False) for config in agent.given] == [False, True]


def test_the_configuration_is_judged_without_a_run(agent: Agent) -> None:
    assert agent("--check-config") == (0, f"{agent.file} is usable.\n", "")
    agent.write(vault={"url": "https://vault-1:8200"}, destinations=[], state_directory="/x")
    code, out, err = agent("--check-config")
    assert (code, out) == (2, "")
    assert err.startswith(f"custodes snapshot: {agent.file}: The config names no destination")
    assert agent.given == []


def test_a_python_without_hvac_is_told(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{cli.__name__.rpartition('.agent.')[0]}.vault.client.HVAC_IMPORT_ERROR", ImportError("hvac"))
    code, _out, err = agent("--once")
    assert code == 2
    assert "Install hvac, boto3 and requests there" in err


@pytest.mark.parametrize("argv", [[], ["snapshot"], ["snapshot", "--once", "--check-config"], ["unknown"]])
def test_usage_errors(argv: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(argv, {})
    assert ended.value.code == 2
