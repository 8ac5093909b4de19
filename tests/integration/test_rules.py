# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The alert rules, by Prometheus' own promtool: valid, each one tested, and each with a runbook to open."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from lab.debian import debian_program

ROOT = Path(__file__).resolve().parents[2]
RULES = sorted((ROOT / "roles").glob("*/files/*.rules.yml"))
TESTS = sorted(Path(__file__).with_name("rules").glob("*.test.yml"))


@pytest.fixture(scope="module")
def promtool() -> str:
    return str(debian_program("prometheus", "promtool"))


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_there_are_rules_and_tests() -> None:
    assert RULES
    assert TESTS


@pytest.mark.parametrize("file", RULES, ids=lambda path: path.name)
def test_the_rules_are_valid(promtool: str, file: Path) -> None:
    run(promtool, "check", "rules", str(file))


def alone(file: Path, folder: Path) -> Iterator[Path]:
    """Write each test of a file into one of its own, beside only those alerts that it names.

    promtool evaluates every rule at every step, which takes four fifths of its time for alerts that no test looks at.
    """
    # As promtool reads them: 0x3600 is no number.
    tests = yaml.load(file.read_text(), Loader=yaml.BaseLoader)  # noqa: S506
    (source,) = tests["rule_files"]
    (group,) = yaml.safe_load((file.parent / source).read_text())["groups"]
    for number, test in enumerate(tests["tests"]):
        assert set(test) == {"name", "interval", "input_series", "alert_rule_test"}, test["name"]
        named = {one["alertname"] for one in test["alert_rule_test"]}
        rules = [rule for rule in group["rules"] if rule.get("alert", "") in {"", *named}]
        assert named <= {rule.get("alert") for rule in rules}, test["name"]
        (folder / f"{number}.rules.yml").write_text(json.dumps({"groups": [{**group, "rules": rules}]}))
        made = folder / f"{number}.test.yml"
        made.write_text(json.dumps({**tests, "rule_files": [f"{number}.rules.yml"], "tests": [test]}))
        yield made


@pytest.mark.parametrize("file", TESTS, ids=lambda path: path.name)
def test_they_fire_when_they_should(promtool: str, file: Path, tmp_path: Path) -> None:
    run(promtool, "test", "rules", *map(str, alone(file, tmp_path)))


@pytest.mark.parametrize("file", RULES, ids=lambda path: path.name)
def test_each_alert_is_tested_and_leads_to_its_runbook(file: Path) -> None:
    tested = "".join(path.read_text() for path in TESTS)
    alerts = [
        rule for group in yaml.safe_load(file.read_text())["groups"] for rule in group["rules"] if "alert" in rule
    ]
    assert alerts
    for rule in alerts:
        assert f"alertname: {rule['alert']}\n" in tested, "a test in which it fires"
        # What always fires goes to a heartbeat, and to nobody's phone.
        assert rule["labels"]["severity"] in (("none",) if rule["alert"] == "Watchdog" else ("critical", "warning"))
        assert {"summary", "description", "runbook_url"} == set(rule["annotations"])
        base, page = rule["annotations"]["runbook_url"].split("/blob/main/")
        assert base == "https://github.com/custodes/security_dr"
        page, _sharp, anchor = page.partition("#")
        headings = re.findall(r"^#+ (.+)$", (ROOT / page).read_text(), re.MULTILINE)
        if anchor:
            assert anchor in {heading.lower().replace(" ", "-") for heading in headings}, rule["alert"]
        else:
            assert headings[0] == rule["alert"]
            assert Path(page).stem == re.sub(r"(?<=.)(?=[A-Z])", "-", rule["alert"]).lower()


def test_each_page_of_an_alert_is_that_of_an_alert() -> None:
    named = "".join(file.read_text() for file in RULES)
    pages = sorted((ROOT / "docs" / "runbooks").glob("*.md"))
    # The others are of losses, by symptom: docs/runbooks/README.md has them.
    of_alerts = [page for page in pages if re.match(r"# [A-Z][A-Za-z]+\n", page.read_text())]
    assert of_alerts
    for page in of_alerts:
        assert f"/docs/runbooks/{page.name}\n" in named, page
