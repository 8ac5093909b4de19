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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from ansible_collections.custodes.security_dr.plugins.module_utils.alerting.alertmanager import GROUP_WAIT
from lab.debian import debian_program
from lab.playbook import Finished, Playbook
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


def make_site(folder: Path, *, lifecycle: bool) -> Site:
    rules = folder / "rules"
    prometheus = Prometheus(folder / "prometheus", lifecycle=lifecycle)
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
    return Site(prometheus, rules, Playbook(variables, folder / "run", inventory, "playbooks/deploy-monitoring.yml"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = make_site(tmp_path_factory.mktemp("monitoring"), lifecycle=True)
    yield site
    site.prometheus.kill()


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


def test_a_second_run_changes_nothing_and_does_not_reload(installed: Site) -> None:
    before = installed.prometheus.loaded_at()
    assert changes(installed.converge("--check")) == 0
    assert changes(installed.converge()) == 0
    assert installed.prometheus.loaded_at() == before


def test_a_run_that_was_killed_before_the_reload_is_completed(installed: Site) -> None:
    file = installed.rules / "monitoring-health.yml"
    text = file.read_text()
    file.write_text(text.replace("alert: VaultDown", "alert: VaultOther"))
    with requests.Session() as session:
        session.trust_env = False
        session.post(f"{installed.prometheus.url}/-/reload", timeout=5)
    assert "VaultOther" in alerts(installed.prometheus)["monitoring-health.yml"]
    # The file is right again, and Prometheus has not heard of it.
    file.write_text(text)
    assert changes(installed.converge("--check")) == 1
    assert changes(installed.converge()) == 1
    assert "VaultDown" in alerts(installed.prometheus)["monitoring-health.yml"]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"monitoring_rules_labels": {"no-good": "x"}}, "'no-good' is no legal label"),
        ({"monitoring_rules_components": ["valut"]}, "value of monitoring_rules_components must be one or more of"),
        ({"monitoring_rules_promtool": "/nowhere/promtool"}, "/nowhere/promtool cannot be run"),
        ({"monitoring_rules_url": "http://127.0.0.1:9"}, "Prometheus does not answer on http://127.0.0.1:9"),
        ({"monitoring_rules_ca_cert": "/nowhere/ca.pem"}, "certificate /nowhere/ca.pem cannot be used"),
        (
            {"monitoring_rules_scrape_options": {"vault": {"basic_auth": {"password": SECRET}}}},
            "has a secret in it",
        ),
        ({"monitoring_rules_targets": {"vault-health": ["https://a"]}}, "Give the blackbox_exporter's address"),
        # Ansible's braces make Prometheus' own: a template that promtool refuses.
        ({"monitoring_rules_labels": {"team": "{{ '{{' }} $nothing }}"}}, "undefined variable"),
    ],
    ids=lambda value: next(iter(value)).removeprefix("monitoring_rules_") if isinstance(value, dict) else "",
)
def test_what_is_refused_leaves_files_and_prometheus_as_they_are(
    installed: Site, changed: dict[str, Any], told: str
) -> None:
    before, loaded = installed.files(), installed.prometheus.loaded_at()
    done = installed.converge(**changed)
    assert done.rc != 0
    assert told in done.words
    assert installed.files() == before
    assert installed.prometheus.loaded_at() == loaded


def test_what_promtool_takes_and_prometheus_refuses_is_taken_back(installed: Site, tmp_path: Path) -> None:
    before = installed.files()
    theirs = installed.rules / "theirs.yml"
    # Somebody's file, not read so far: promtool is asked about the role's own.
    theirs.write_text("groups: {}")
    try:
        done = installed.converge(monitoring_rules_labels={"team": "a"})
        assert done.rc != 0
        assert "500, failed to reload config" in done.words
        assert "The files are as they were before" in done.words
        assert installed.files() == {**before, "theirs.yml": "groups: {}"}
        # And what is removed.
        scrape = tmp_path / "scrape.yml"
        scrape.write_text("scrape_configs: []\n")
        done = installed.converge(monitoring_rules_state="absent", monitoring_rules_scrape_file=str(scrape))
        assert done.rc != 0
        assert "500, failed to reload config" in done.words
        assert "The files are as they were before" in done.words
        assert installed.files() == {**before, "theirs.yml": "groups: {}"}
        assert scrape.read_text() == "scrape_configs: []\n"
    finally:
        theirs.unlink()
    assert "VaultDown" in alerts(installed.prometheus)["monitoring-health.yml"]
    # It is told that its last attempt was refused until it reads them again.
    assert changes(installed.converge()) == 1
    assert changes(installed.converge()) == 0


def test_a_prometheus_that_takes_no_orders_is_told_before_a_file_is_written(tmp_path: Path) -> None:
    site = make_site(tmp_path, lifecycle=False)
    try:
        done = site.converge()
        assert done.rc != 0
        assert "start it with --web.enable-lifecycle, or reload it by its service" in done.words
        assert not site.files()
    finally:
        site.prometheus.kill()


def test_rules_that_prometheus_does_not_read_are_told(installed: Site, tmp_path: Path) -> None:
    done = installed.converge(monitoring_rules_directory=str(tmp_path / "elsewhere"))
    assert done.rc != 0
    assert f"Add this to its rule_files: {tmp_path / 'elsewhere'}/*.yml" in done.words
    assert not list((tmp_path / "elsewhere").iterdir())


def test_the_primary_is_watched_by_a_secondary_with_less(installed: Site, tmp_path: Path) -> None:
    scrape = tmp_path / "scrape.yml"
    targets = {
        "prometheus": ["a:9090", "b:9090"],
        "vault-health": ["https://v:8200/v1/sys/health"],
        "vault": ["v:8200"],
    }
    done = installed.converge(
        monitoring_rules_components=["alertmanager"],
        monitoring_rules_jobs={"prometheus": "prom.main", "node": "node.all"},
        monitoring_rules_scrape_file=str(scrape),
        monitoring_rules_targets=targets,
        monitoring_rules_scrape_options={
            "vault": {
                "tls_config": {"ca_file": "/etc/prometheus/ca.pem"},
                "static_configs": [{"targets": ["v:8200"], "labels": {"cluster": "prod"}}],
            }
        },
        monitoring_rules_blackbox="127.0.0.1:9115",
    )
    assert done.rc == 0, done.output
    assert set(alerts(installed.prometheus)) == {"monitoring-health.yml"}
    rules = {
        rule.get("alert"): rule
        for rule in yaml.safe_load(installed.files()["monitoring-health.yml"])["groups"][0]["rules"]
    }
    assert "VaultDown" not in rules
    assert rules["PrometheusDown"]["expr"] == 'up{job="prom.main"} == 0 or absent(up{job="prom.main"})'
    assert "node[.]all|vault-health" in rules["MonitoringTargetDown"]["expr"]
    jobs = {job["job_name"]: job for job in yaml.safe_load(scrape.read_text())["scrape_configs"]}
    assert jobs["prom.main"]["scrape_interval"] == "10s"
    assert jobs["vault"]["tls_config"] == {"ca_file": "/etc/prometheus/ca.pem"}
    assert jobs["vault"]["metrics_path"] == "/v1/sys/metrics"
    assert jobs["vault"]["static_configs"] == [{"targets": ["v:8200"], "labels": {"cluster": "prod"}}]
    assert jobs["vault-health"]["relabel_configs"][2]["replacement"] == "127.0.0.1:9115"


def test_it_is_taken_away_again(installed: Site) -> None:
    done = installed.converge(monitoring_rules_state="absent")
    assert done.rc == 0, done.output
    assert not installed.files()
    assert alerts(installed.prometheus) == {}
    assert changes(installed.converge(monitoring_rules_state="absent")) == 0


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
    run = Playbook(variables, tmp_path / "run", site.playbook.inventory, str(play))
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
        "monitoring_rules_targets": {"prometheus": ["a:9090", "b:9090"], "fluent-bit": ["h:2020"]},
        "monitoring_rules_alertmanagers": ["a:9093"],
        "monitoring_rules_config": {"global": {"external_labels": {"region": "eu"}}},
        "__monitoring_rules_config_file": str(folder / "prometheus.yml"),
    }
    return Playbook(variables, folder / "run", site.playbook.inventory, str(play))


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
