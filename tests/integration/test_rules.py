# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The alert rules, by Prometheus' own promtool: valid, each one tested, and each with a runbook to open."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
RULES = sorted((ROOT / "roles").glob("*/files/*.rules.yml"))
TESTS = sorted(Path(__file__).with_name("rules").glob("*.test.yml"))


@pytest.fixture(scope="module")
def promtool() -> str:
    found = shutil.which("promtool")
    assert found, "promtool is missing. On Debian or Ubuntu: apt-get install --yes --no-install-recommends prometheus"
    return found


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_there_are_rules_and_tests() -> None:
    assert RULES
    assert TESTS


@pytest.mark.parametrize("file", RULES, ids=lambda path: path.name)
def test_the_rules_are_valid(promtool: str, file: Path) -> None:
    run(promtool, "check", "rules", str(file))


@pytest.mark.parametrize("file", TESTS, ids=lambda path: path.name)
def test_they_fire_when_they_should(promtool: str, file: Path) -> None:
    run(promtool, "test", "rules", str(file))


@pytest.mark.parametrize("file", RULES, ids=lambda path: path.name)
def test_each_alert_is_tested_and_leads_to_its_runbook(file: Path) -> None:
    tested = "".join(path.read_text() for path in TESTS)
    for group in yaml.safe_load(file.read_text())["groups"]:
        for rule in group["rules"]:
            assert f"alertname: {rule['alert']}\n" in tested, "a test in which it fires"
            assert rule["labels"]["severity"] in ("critical", "warning")
            assert {"summary", "description", "runbook_url"} == set(rule["annotations"])
            page, anchor = rule["annotations"]["runbook_url"].split("/blob/main/")[1].split("#")
            headings = re.findall(r"^#+ (.+)$", (ROOT / page).read_text(), re.MULTILINE)
            assert anchor in {heading.lower().replace(" ", "-") for heading in headings}, rule["alert"]
