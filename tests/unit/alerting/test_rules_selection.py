# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules that one Prometheus gets out of the source that has them all."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.custodes.security_dr.plugins.filter.monitoring_rules import FilterModule
from ansible_collections.custodes.security_dr.plugins.module_utils.alerting.errors import AlertingError
from ansible_collections.custodes.security_dr.plugins.module_utils.alerting.rules import components, jobs, select

ROLE = Path(__file__).resolve().parents[3] / "roles" / "monitoring_rules"
SOURCE: dict[str, Any] = yaml.safe_load((ROLE / "files" / "monitoring-health.rules.yml").read_text())
ALL = components(SOURCE) - {"prometheus"}


def alerts(rules: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for group in rules["groups"] for rule in group["rules"] if "alert" in rule}


def test_all_of_it_is_the_source_but_for_the_heartbeats_name() -> None:
    before = copy.deepcopy(SOURCE)
    made = select(SOURCE, ALL, {}, "primary", {})
    assert before == SOURCE
    watchdog = alerts(made)["Watchdog"]
    assert watchdog["labels"].pop("prometheus") == "primary"
    assert made == SOURCE


def test_a_secondary_gets_less_and_never_less_than_prometheus_itself() -> None:
    assert set(alerts(select(SOURCE, [], {}, "b", {}))) < set(alerts(select(SOURCE, ["alertmanager"], {}, "b", {})))
    least = alerts(select(SOURCE, [], {}, "b", {}))
    assert {"Watchdog", "PrometheusDown", "MonitoringTargetVanished"} <= set(least)
    assert {rule["labels"]["component"] for rule in least.values()} == {"prometheus"}


def test_jobs_get_their_names_in_every_matcher() -> None:
    made = alerts(select(SOURCE, ALL, {"vault": "vault.prod", "node": "nodes"}, "a", {}))
    assert 'up{job="vault.prod"} == 0' in made["VaultDown"]["expr"]
    assert 'absent(up{job=~"vault[.]prod|vault-health"})' in made["VaultDown"]["expr"]
    assert made["MonitoringTargetDown"]["expr"].startswith('up{job=~"nodes|vault-health')
    assert "vault" not in jobs({"groups": [{"rules": list(made.values())}]})


def test_labels_are_for_alerts_and_not_for_recorded_series() -> None:
    made = select(SOURCE, ALL, {}, "a", {"team": "security"})
    assert all(rule["labels"]["team"] == "security" for rule in alerts(made).values())
    recorded = [rule for rule in made["groups"][0]["rules"] if "record" in rule]
    assert recorded
    assert all("team" not in rule["labels"] for rule in recorded)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"wanted": ["valut"]}, "There is no component 'valut'. Known are alertmanager"),
        ({"renamed": {"vaults": "x"}}, "There is no job 'vaults'. Known are alertmanager"),
        ({"renamed": {"vault": 'x"} or up{job="y'}}, "is no name of a job"),
        ({"renamed": {"vault": ""}}, "is no name of a job"),
        ({"renamed": {"vault": 7}}, "is no name of a job"),
        (
            {"renamed": {"vault-health": "blackbox", "loki-ready": "blackbox"}},
            "The jobs loki-ready and vault-health would both be 'blackbox'",
        ),
        ({"renamed": {"vault": "node"}}, "The jobs node and vault would both be 'node'"),
        ({"labels": {"no-good": "x"}}, "'no-good' is no legal label"),
        ({"labels": {"1st": "x"}}, "is no legal label"),
        ({"labels": {"__x": "x"}}, "is no legal label"),
        ({"labels": {"x\n": "x"}}, "is no legal label"),
        ({"labels": {"severity": "none"}}, "is no legal label"),
        ({"labels": {"tier": 1}}, "has to be a text"),
    ],
)
def test_what_is_not_legal_is_refused(given: dict[str, Any], told: str) -> None:
    options: dict[str, Any] = {"wanted": ALL, "renamed": {}, "prometheus": "a", "labels": {}}
    with pytest.raises(AlertingError, match=told):
        select(SOURCE, **{**options, **given})


def test_the_filter_says_the_same() -> None:
    made = FilterModule().filters()["monitoring_rules"]
    assert made(SOURCE, ["loki"], "a") == select(SOURCE, ["loki"], {}, "a", {})
    with pytest.raises(AnsibleFilterError, match="There is no component 'x'"):
        made(SOURCE, ["x"], "a")


def test_the_roles_components_are_the_sources() -> None:
    defaults = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())
    inner = yaml.safe_load((ROLE / "vars" / "main.yml").read_text())
    given = set(defaults["monitoring_rules_components"])
    assert given - set(inner["__monitoring_rules_elsewhere"]) == ALL
    specs = yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text())
    choices = specs["argument_specs"]["main"]["options"]["monitoring_rules_components"]["choices"]
    assert set(choices) == given
