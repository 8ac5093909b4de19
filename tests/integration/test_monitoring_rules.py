# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role monitoring_rules into a Prometheus that is there: what it evaluates afterwards, and what is left alone."""

from __future__ import annotations

import json
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from ansible_collections.custodes.security_dr.plugins.module_utils.alerting.alertmanager import GROUP_WAIT
from lab.cases import refusals
from lab.debian import debian_program
from lab.playbook import FORKED_MODULES, Finished, Playbook
from lab.prometheus import Prometheus

PROMTOOL = debian_program("prometheus", "promtool")
SECRET = "scrape-password-7f3a"


def alerts(prometheus: Prometheus) -> dict[str, list[str]]:
    """The names of the alerts that it evaluates, by file."""
    found: dict[str, list[str]] = {}
    for group in prometheus.rules():
        names = [rule["name"] for rule in group["rules"] if rule["type"] == "alerting"]
        found.setdefault(Path(group["file"]).name, []).extend(names)
    return found


@dataclass
class Site:
    prometheus: Prometheus
    rules: Path
    playbook: Playbook

    def converge(self, *arguments: str, **changed: Any) -> Finished:
        done = self.playbook.run(*arguments, timeout=120, **changed)
        assert SECRET not in done.output
        return done

    def files(self) -> dict[str, str]:
        folder = self.rules
        return {file.name: file.read_text() for file in folder.iterdir()} if folder.exists() else {}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("monitoring")
    rules = folder / "rules"
    prometheus = Prometheus(folder / "prometheus")
    prometheus.configure({}, [rules / "*.yml"], scrape_interval="1m")
    prometheus.start()
    inventory = folder / "inventory.json"
    host = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    inventory.write_text(json.dumps({"prometheus": {"hosts": {"primary": host}}}))
    variables = {
        "ansible_become": False,
        "monitoring_rules_directory": str(rules),
        "monitoring_rules_promtool": str(PROMTOOL),
        "monitoring_rules_reload": "http",
        "monitoring_rules_url": prometheus.url,
        "monitoring_rules_username": "role",
        "monitoring_rules_password": SECRET,
    }
    playbook = Playbook(variables, folder / "run", inventory, "playbooks/deploy-monitoring.yml", FORKED_MODULES)
    yield Site(prometheus, rules, playbook)
    prometheus.kill()


@pytest.fixture(scope="module")
def installed(site: Site) -> Site:
    checked = site.converge("--check", "--diff")
    assert checked.rc == 0, checked.output
    assert not site.files()
    done = site.converge()
    assert done.rc == 0, done.output
    return site


def changes(done: Finished) -> int:
    assert done.rc == 0, done.output
    return sum(map(int, re.findall(r"changed=(\d+)", done.output)))


def test_prometheus_evaluates_what_was_put_in_place_and_was_not_restarted(installed: Site) -> None:
    pid = installed.prometheus.pid
    found = alerts(installed.prometheus)
    assert set(found) == {"monitoring-health.yml", "vault-snapshot.yml", "host-detection.yml", "dr-drill.yml"}
    assert {"Watchdog", "PrometheusDown", "AlertmanagerDown", "VaultDown", "VaultSealed", "LogPipelineDown"} <= set(
        found["monitoring-health.yml"]
    )
    assert "CertificateRenewalFailing" in found["monitoring-health.yml"]
    assert installed.prometheus.pid == pid
    watchdog = yaml.safe_load(installed.files()["monitoring-health.yml"])["groups"][0]["rules"][2]
    assert watchdog["labels"] == {"severity": "none", "component": "prometheus", "prometheus": "primary"}


@pytest.fixture(scope="module")
def secondary(installed: Site) -> Site:
    """The same one with less: one file of rules, and one of scrape jobs. What follows is alike for four of them."""
    targets = {
        "prometheus": ["a:9090", "b:9090"],
        "vault-health": ["https://v:8200/v1/sys/health"],
        "vault": ["v:8200"],
    }
    vault = {
        "tls_config": {"ca_file": "/etc/prometheus/ca.pem"},
        "static_configs": [{"targets": ["v:8200"], "labels": {"cluster": "prod"}}],
    }
    less = {
        "monitoring_rules_components": ["alertmanager"],
        "monitoring_rules_jobs": {"prometheus": "prom.main", "node": "node.all"},
        "monitoring_rules_scrape_file": str(installed.rules.with_name("scrape.yml")),
        "monitoring_rules_targets": targets,
        "monitoring_rules_scrape_options": {"vault": vault},
        "monitoring_rules_blackbox": "127.0.0.1:9115",
    }
    playbook = replace(installed.playbook, variables={**installed.playbook.variables, **less})
    site = replace(installed, playbook=playbook)
    done = site.converge()
    assert done.rc == 0, done.output
    return site


def test_the_primary_is_watched_by_a_secondary_with_less(secondary: Site) -> None:
    assert set(alerts(secondary.prometheus)) == {"monitoring-health.yml"}
    rules = {
        rule.get("alert"): rule
        for rule in yaml.safe_load(secondary.files()["monitoring-health.yml"])["groups"][0]["rules"]
    }
    assert "VaultDown" not in rules
    assert rules["PrometheusDown"]["expr"] == 'up{job="prom.main"} == 0 or absent(up{job="prom.main"})'
    assert "node[.]all|vault-health" in rules["MonitoringTargetDown"]["expr"]
    scrape = secondary.rules.with_name("scrape.yml")
    jobs = {job["job_name"]: job for job in yaml.safe_load(scrape.read_text())["scrape_configs"]}
    assert jobs["prom.main"]["scrape_interval"] == "10s"
    assert jobs["vault"]["tls_config"] == {"ca_file": "/etc/prometheus/ca.pem"}
    assert jobs["vault"]["metrics_path"] == "/v1/sys/metrics"
    assert jobs["vault"]["static_configs"] == [{"targets": ["v:8200"], "labels": {"cluster": "prod"}}]
    assert jobs["vault-health"]["relabel_configs"][2]["replacement"] == "127.0.0.1:9115"


def test_a_second_run_changes_nothing_and_does_not_reload(secondary: Site) -> None:
    before = secondary.prometheus.loaded_at()
    assert changes(secondary.converge()) == 0
    assert secondary.prometheus.loaded_at() == before


def test_a_run_that_was_killed_before_the_reload_is_completed(secondary: Site) -> None:
    file = secondary.rules / "monitoring-health.yml"
    text = file.read_text()
    file.write_text(text.replace("alert: PrometheusDown", "alert: PrometheusOther"))
    with requests.Session() as session:
        session.trust_env = False
        session.post(f"{secondary.prometheus.url}/-/reload", timeout=5)
    assert "PrometheusOther" in alerts(secondary.prometheus)["monitoring-health.yml"]
    # The file is right again, and Prometheus has not heard of it.
    file.write_text(text)
    assert changes(secondary.converge("--check")) == 1
    assert changes(secondary.converge()) == 1
    assert "PrometheusDown" in alerts(secondary.prometheus)["monitoring-health.yml"]


def test_what_is_refused_leaves_files_and_prometheus_as_they_are(secondary: Site, tmp_path: Path) -> None:
    before, loaded = secondary.files(), secondary.prometheus.loaded_at()
    takes_no_orders = Prometheus(tmp_path / "prometheus", lifecycle=False)
    takes_no_orders.configure({})
    takes_no_orders.start()
    cases: dict[str, tuple[dict[str, Any], str]] = {
        "label": ({"labels": {"no-good": "x"}}, "'no-good' is no legal label"),
        "component": ({"components": ["valut"]}, "value of monitoring_rules_components must be one or more of"),
        "promtool": ({"promtool": "/nowhere/promtool"}, "/nowhere/promtool cannot be run"),
        "address": ({"url": "http://127.0.0.1:9"}, "Prometheus does not answer on http://127.0.0.1:9"),
        "authority": ({"ca_cert": "/nowhere/ca.pem"}, "certificate /nowhere/ca.pem cannot be used"),
        "secret": ({"scrape_options": {"vault": {"basic_auth": {"password": SECRET}}}}, "has a secret in it"),
        "probe": (
            {"targets": {"vault-health": ["https://a"]}, "blackbox": ""},
            "Give the blackbox_exporter's address",
        ),
        "orders": (
            {"url": takes_no_orders.url, "directory": str(tmp_path / "none")},
            "start it with --web.enable-lifecycle, or reload it by its service",
        ),
        # Ansible's braces make Prometheus' own: a template that promtool refuses.
        "template": ({"labels": {"team": "{{ '{{' }} $nothing }}"}}, "undefined variable"),
    }
    changed = {
        case: {f"monitoring_rules_{name}": value for name, value in given.items()}
        for case, (given, _told) in cases.items()
    }
    try:
        said = refusals(secondary.playbook, "monitoring_rules", changed)
    finally:
        takes_no_orders.kill()
    assert [case for case, (_given, told) in cases.items() if told not in said[case]] == [], said
    assert SECRET not in str(said)
    assert secondary.files() == before
    assert secondary.prometheus.loaded_at() == loaded
    assert not (tmp_path / "none").exists()


def test_rules_that_prometheus_does_not_read_are_told(secondary: Site, tmp_path: Path) -> None:
    done = secondary.converge(monitoring_rules_directory=str(tmp_path / "elsewhere"))
    assert done.rc != 0
    assert f"Add this to its rule_files: {tmp_path / 'elsewhere'}/*.yml" in done.words
    assert not list((tmp_path / "elsewhere").iterdir())


def test_what_promtool_takes_and_prometheus_refuses_is_taken_back(secondary: Site) -> None:
    before, scrape = secondary.files(), secondary.rules.with_name("scrape.yml")
    jobs = scrape.read_text()
    theirs = secondary.rules / "theirs.yml"
    # Somebody's file, not read so far: promtool is asked about the role's own.
    theirs.write_text("groups: {}")
    changed = {
        "monitoring_rules_labels": {"team": "a"},
        "monitoring_rules_components": ["dr_drill"],
        "monitoring_rules_targets": {"prometheus": ["a:9090"]},
    }
    try:
        # What is written anew, what is new, and what is removed.
        for given in (changed, {"monitoring_rules_state": "absent"}):
            done = secondary.converge(**given)
            assert done.rc != 0
            assert "500, failed to reload config" in done.words
            assert "The files are as they were before" in done.words
            assert secondary.files() == {**before, "theirs.yml": "groups: {}"}
            assert scrape.read_text() == jobs
    finally:
        theirs.unlink()
    assert "PrometheusDown" in alerts(secondary.prometheus)["monitoring-health.yml"]
    # It is told that its last attempt was refused until it reads them again.
    assert changes(secondary.converge()) == 1
    assert changes(secondary.converge("--check")) == 0


def test_it_is_taken_away_again(secondary: Site) -> None:
    done = secondary.converge(monitoring_rules_state="absent")
    assert done.rc == 0, done.output
    assert not secondary.files()
    assert not secondary.rules.with_name("scrape.yml").exists()
    assert alerts(secondary.prometheus) == {}
    assert changes(secondary.converge(monitoring_rules_state="absent")) == 0


def test_the_manifest_for_kubernetes_has_the_same_rules(site: Site, tmp_path: Path) -> None:
    play = tmp_path / "play.json"
    role = {"name": "custodes.security_dr.monitoring_rules", "tasks_from": "kubernetes"}
    tasks = [{"name": "Write it", "ansible.builtin.include_role": role}]
    play.write_text(json.dumps([{"hosts": "prometheus", "gather_facts": False, "tasks": tasks}]))
    manifest = tmp_path / "rule.yml"
    variables = {
        "monitoring_rules_kubernetes_manifest": str(manifest),
        "monitoring_rules_jobs": {"node": "node-exporter"},
        "monitoring_rules_labels": {"team": "security"},
    }
    run = replace(site.playbook, variables=variables, name=str(play))
    assert changes(run.run()) == 1
    assert changes(run.run()) == 0
    made = yaml.safe_load(manifest.read_text())
    assert (made["kind"], made["metadata"]["namespace"]) == ("PrometheusRule", "monitoring")
    assert [group["name"] for group in made["spec"]["groups"]] == [
        "monitoring-health",
        "vault-snapshot",
        "host-detection",
        "dr-drill",
    ]
    every = [rule for group in made["spec"]["groups"] for rule in group["rules"] if "alert" in rule]
    assert {rule["labels"].get("team") for rule in every} == {"security"}
    (missing,) = [rule for rule in every if rule["alert"] == "HostDetectionMissing"]
    assert missing["expr"].startswith('up{job="node-exporter"} == 1')
    rules = tmp_path / "rules.yml"
    rules.write_text(json.dumps({"groups": made["spec"]["groups"]}))
    checked = subprocess.run([PROMTOOL, "check", "rules", rules], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


def seconds(text: str) -> int:
    number, unit = re.fullmatch(r"(\d+)([smhd])", text).groups()  # type: ignore[union-attr]
    return int(number) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[unit]


REPEATED = {"PrometheusNotificationsFailing": 60, "AlertmanagerDeliveryFailing": 20}
"""Seconds until it has happened often enough: Prometheus sends again after a minute, Alertmanager after seconds."""


THEIRS = f"scrape_configs: [{{job_name: theirs, basic_auth: {{username: a, password: {SECRET}}}}}]\n"


def configuring(site: Site, folder: Path) -> Playbook:
    """Writes what the role writes where it installs Prometheus, and nothing else."""
    play = folder / "play.json"
    role = {"name": "custodes.security_dr.monitoring_rules", "tasks_from": "configure"}
    tasks = [{"name": "Write it", "ansible.builtin.include_role": role}]
    play.write_text(json.dumps([{"hosts": "prometheus", "gather_facts": False, "tasks": tasks}]))
    variables = {
        "monitoring_rules_install": True,
        "monitoring_rules_directory": str(folder / "rules"),
        "monitoring_rules_promtool": str(PROMTOOL),
        # All that is in the file monitoring-health, which has the alerts with a time budget.
        "monitoring_rules_components": ["alertmanager", "vault", "fluent_bit", "loki", "certificates"],
        "monitoring_rules_targets": {"prometheus": ["a:9090", "b:9090"], "fluent-bit": ["h:2020"]},
        "monitoring_rules_alertmanagers": ["a:9093"],
        "monitoring_rules_config": {"global": {"external_labels": {"region": "eu"}}},
        "__monitoring_rules_config_file": str(folder / "prometheus.yml"),
    }
    return replace(site.playbook, variables=variables, name=str(play))


@pytest.fixture(scope="module")
def rendered(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the role writes where it installs Prometheus: prometheus.yml, and the folder of its rules."""
    folder = tmp_path_factory.mktemp("rendered")
    run = configuring(site, folder)
    # Twice: the rules and the configuration, and then nothing.
    assert [changes(run.run()) > 0, changes(run.run())] == [True, 0]
    assert not (folder / "prometheus.yml.orig").exists()
    return folder


def test_a_configuration_of_somebody_else_is_kept_and_not_shown(site: Site, tmp_path: Path) -> None:
    config, kept = tmp_path / "prometheus.yml", tmp_path / "prometheus.yml.orig"
    config.write_text(THEIRS)
    config.chmod(0o640)
    run = configuring(site, tmp_path)
    for arguments in (("--check", "--diff"), ("--diff",)):
        done = run.run(*arguments)
        assert changes(done) > 0
        assert SECRET not in done.output
    assert kept.read_text() == THEIRS
    assert [stat.S_IMODE(file.stat().st_mode) for file in (config, kept)] == [0o640, 0o640]
    # Of its own it shows what changes; and what somebody has tried in between does not replace the first one.
    changed = run.run("--diff", monitoring_rules_alertmanagers=["b:9093"])
    assert "+      - b:9093" in changed.output
    config.write_text("scrape_configs: []\n")
    assert changes(run.run()) > 0
    assert kept.read_text() == THEIRS


def test_a_prometheus_of_the_package_is_configured_whole(rendered: Path) -> None:
    config = yaml.safe_load((rendered / "prometheus.yml").read_text())
    assert config["global"]["external_labels"] == {"region": "eu"}
    assert config["rule_files"] == [f"{rendered}/rules/*.yml"]
    assert config["alerting"]["alertmanagers"] == [{"static_configs": [{"targets": ["a:9093"]}]}]
    assert {job["job_name"]: job.get("metrics_path") for job in config["scrape_configs"]} == {
        "prometheus": None,
        "fluent-bit": "/api/v2/metrics/prometheus",
    }


def test_every_alert_has_two_minutes_and_those_on_up_one(rendered: Path) -> None:
    """From the fault to the receiver, at worst: scrape, its timeout, window, evaluation, `for`, Alertmanager's wait.

    A rate is 0 only when all of its window is; increase() and changes() move with the first sample. The groups on
    backups and host detection are of facts that are hours old when they are told.
    """
    (group,) = yaml.safe_load((rendered / "rules" / "monitoring-health.yml").read_text())["groups"]
    every = seconds(group["interval"])
    jobs = yaml.safe_load((rendered / "prometheus.yml").read_text())["scrape_configs"]
    assert jobs
    scrape = max(seconds(job["scrape_interval"]) + seconds(job["scrape_timeout"]) for job in jobs)
    spent = {}
    for rule in group["rules"]:
        if "alert" not in rule or rule["expr"] == "vector(1)":
            continue
        window = max(map(seconds, re.findall(r"\brate\([^\[]*\[(\w+)\]", rule["expr"])), default=0)
        wait = seconds(GROUP_WAIT[rule["labels"]["severity"]])
        pending = -(-seconds(rule.get("for", "0s")) // every) * every
        repeated = REPEATED.get(rule["alert"], 0)
        spent[rule["alert"]] = scrape + window + repeated + every + pending + wait
        if "up{" in rule["expr"]:
            # Two scrapes that fail are no alert yet.
            assert pending > seconds(jobs[0]["scrape_interval"]), rule["alert"]
    assert len(spent) > 20
    assert {name: total for name, total in spent.items() if total > 120} == {}
    assert max(spent[name] for name in ("PrometheusDown", "AlertmanagerDown", "VaultDown", "VaultSealed")) <= 60
