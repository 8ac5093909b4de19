# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What alertmanager_config and its role write, judged and asked by amtool, and used by a real Alertmanager."""

from __future__ import annotations

import grp
import hashlib
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import certifi
import pytest
import requests
from ansible_collections.custodes.security_dr.plugins.module_utils.alerting.alertmanager import Secrets, configuration
from ansible_collections.custodes.security_dr.plugins.module_utils.alerting.alertmanager_files import hash_of, text_of
from integration.run_ansible import Ansible, four_runs, task
from lab.alertmanager import PACKAGE, Alertmanager
from lab.cases import refusals
from lab.debian import debian_program
from lab.playbook import FORKED_MODULES, Playbook
from lab.processes import free_port, wait_for
from lab.receiver import Receiver

ROLE = "alertmanager_routes"
GROUP = grp.getgrgid(os.getgid()).gr_name
EVERY = {
    "hook": {
        "type": "webhook",
        "url": "https://hook.example.com/x",
        "token_secret": "hook",
        "ca_cert": certifi.where(),
    },
    "beat": {"type": "heartbeat", "url_secret": "ping", "token_secret": "og", "token_type": "GenieKey"},
    "beat-2": {"type": "heartbeat", "url": "https://hc.example.com/2", "prometheus": "mon-2"},
    "chat": {"type": "slack", "url_secret": "slack", "channel": "#ops"},
    "pager": {"type": "pagerduty", "key_secret": "pagerduty"},
    "og": {"type": "opsgenie", "key_secret": "og", "api_url": "https://api.eu.opsgenie.com/"},
    "jira": {"type": "jsm", "key_secret": "jsm"},
    "mail": {"type": "email", "to": "ops@example.com"},
}
SECRETS = {
    "hook": "secret-hook-token",
    "ping": "https://hc.example.com/secret-uuid",
    "slack": "https://hooks.example.com/secret-t0",
    "pagerduty": "secret-pagerduty-key",
    "og": "secret-opsgenie-key",
    "jsm": "secret-jsm-key",
    "mail": "secret-mail-password",
}
OPTIONS: dict[str, Any] = {
    "receivers": EVERY,
    "default": ["chat", "mail"],
    "critical": ["pager", "jira", "og", "hook"],
    "watchdog": ["beat", "beat-2"],
    "smtp": {
        "smarthost": "mail.example.com:587",
        "from": "alerts@example.com",
        "auth_username": "alerts",
        "auth_password_secret": "mail",
    },
}
VAULT_DOWN = {"labels": {"alertname": "VaultDown", "severity": "critical"}}
WATCHDOG = {"labels": {"alertname": "Watchdog", "severity": "none"}}


def amtool(*arguments: str) -> str:
    command = [str(debian_program(PACKAGE, "amtool")), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "alertmanager.yml"
    made.write_bytes(text_of(configuration(OPTIONS, Secrets(SECRETS, str(tmp_path)))))
    return made


def test_amtool_takes_it(file: Path) -> None:
    assert "9 receivers" in amtool("check-config", str(file))


@pytest.mark.parametrize(
    ("labels", "receivers"),
    [
        (["alertname=VaultDown", "severity=critical"], "pager,jira,og,hook"),
        (["alertname=CertificateExpiring", "severity=warning"], "chat,mail"),
        (["alertname=NobodyGaveItASeverity"], "chat,mail"),
        (["alertname=Watchdog", "severity=none"], "beat,nobody"),
        (["alertname=Watchdog", "severity=critical"], "beat,nobody"),
        (["alertname=Watchdog", "severity=none", "prometheus=mon-1"], "beat,nobody"),
        (["alertname=Watchdog", "severity=none", "prometheus=mon-2"], "beat,beat-2,nobody"),
    ],
)
def test_who_is_told(file: Path, labels: list[str], receivers: str) -> None:
    assert amtool("config", "routes", "test", f"--config.file={file}", *labels).strip() == receivers


class Site:
    """A real Alertmanager, whose configuration the module writes."""

    def __init__(self, folder: Path, webhook: str = "http://127.0.0.1:1/theirs") -> None:
        self.server = Alertmanager(folder, webhook)
        self.server.start()
        self.dest = self.server.config_file
        self.secrets = folder / "alertmanager-secrets"
        self.theirs = self.dest.read_bytes()

    def options(self, **changed: Any) -> dict[str, Any]:
        given = {
            **OPTIONS,
            "secrets": SECRETS,
            "dest": str(self.dest),
            "group": GROUP,
            "amtool": str(debian_program(PACKAGE, "amtool")),
            "url": self.server.url,
        }
        return {**given, **changed}

    def metric(self, name: str) -> float:
        told = requests.get(f"{self.server.url}/metrics", timeout=5).text
        return float(re.search(rf"^{name} (\S+)$", told, re.MULTILINE)[1])  # type: ignore[index]

    def uses(self, data: bytes) -> bool:
        return self.metric("alertmanager_config_hash") == hash_of(data)

    def send(self, *alerts: Any) -> None:
        requests.post(f"{self.server.url}/api/v2/alerts", json=alerts, timeout=5).raise_for_status()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path / "alertmanager")
    yield made
    made.server.kill()


@pytest.fixture
def ansible(ansible: Ansible) -> Ansible:
    ansible.secrets += [*SECRETS.values(), "secret-uuid", "secret-t0", "secret-replaced"]
    return ansible


def test_check_run_check_run_and_remove(site: Site, ansible: Ansible) -> None:
    pid = site.server.pid
    checked, made, *again = ansible.run(four_runs("alertmanager_config", **site.options()))
    assert [checked["changed"], made["changed"], *(one["changed"] for one in again)] == [True, True, False, False]
    assert checked["changed_files"] == made["changed_files"]
    assert site.uses(site.dest.read_bytes())
    assert {path.name for path in site.secrets.iterdir()} == set(SECRETS) - {"ping"}
    new = site.options(secrets={**SECRETS, "og": "secret-replaced"})
    rotated, removed, nothing = ansible.run(
        [
            task("alertmanager_config", **new),
            *(task("alertmanager_config", **site.options(state="absent")) for _time in range(2)),
        ]
    )
    assert rotated["changed_files"] == [str(site.secrets / "og")]
    assert (removed["changed"], nothing["changed"]) == (True, False)
    assert site.dest.read_bytes() == site.theirs
    assert site.uses(site.theirs)
    assert not site.secrets.exists()
    assert site.server.pid == pid, "reloaded, never restarted"


def test_what_is_wrong_is_said_and_changes_nothing(site: Site, ansible: Ansible, tmp_path: Path) -> None:
    lacking = {name: value for name, value in SECRETS.items() if name != "pagerduty"}
    # amtool takes it for no address, and nothing before amtool looks.
    smtp = {**OPTIONS["smtp"], "smarthost": "mail.example.com"}
    # amtool takes it, and Alertmanager does not.
    no_ca = {**EVERY, "hook": {**EVERY["hook"], "ca_cert": "/nowhere/ca.pem"}}
    elsewhere = str(tmp_path / "alertmanager.yml")
    results = ansible.run(
        [
            task("alertmanager_config", **site.options(secrets=lacking)),
            task("alertmanager_config", **site.options(smtp=smtp)),
            task("alertmanager_config", check=True, **site.options(smtp=smtp)),
            task("alertmanager_config", **site.options(dest=elsewhere)),
            task("alertmanager_config", **site.options(amtool="/nowhere/amtool")),
            task("alertmanager_config", **site.options(receivers=no_ca)),
            task("alertmanager_config", **site.options(url=f"http://127.0.0.1:{free_port()}")),
        ]
    )
    told = [result["msg"] for result in results]
    assert "names the secret pagerduty, and there is no such one" in told[0]
    assert all("amtool refuses" in one and "Nothing was changed" in one for one in told[1:3])
    assert "its --config.file names another file" in told[3]
    assert "Cannot run /nowhere/amtool" in told[4]
    assert "500 to /-/reload: failed to reload config: unable to load specified CA cert /nowhere/ca.pem" in told[5]
    assert "The files are as they were before." in told[5]
    assert "does not answer" in told[6]
    assert site.dest.read_bytes() == site.theirs
    assert site.uses(site.theirs)
    assert not site.secrets.exists()
    assert not Path(elsewhere).exists()
    assert site.metric("alertmanager_config_last_reload_successful") == 1


def test_where_there_is_no_alertmanager_nothing_is_removed_and_what_to_do_is_said(ansible: Ansible) -> None:
    bare = {**OPTIONS, "secrets": SECRETS, "dest": "/nowhere/alertmanager.yml"}
    removed, made = ansible.run(
        [
            task("alertmanager_config", state="absent", **bare),
            task("alertmanager_config", check=True, **bare),
        ]
    )
    assert (removed.get("msg", ""), removed["changed_files"]) == ("", [])
    assert "There is no folder /nowhere. Install Alertmanager first." in made["msg"]


def test_a_run_that_was_killed_before_the_reload_is_completed(site: Site, ansible: Ansible) -> None:
    ansible.run([task("alertmanager_config", **site.options(reload=False))])
    assert not site.uses(site.dest.read_bytes())
    checked, made, again = ansible.run(
        [task("alertmanager_config", check=check, **site.options()) for check in (True, False, False)]
    )
    assert [(one["changed"], one["reloaded"]) for one in (checked, made, again)] == [
        (True, True),
        (True, True),
        (False, False),
    ]
    assert site.uses(site.dest.read_bytes())


def test_the_role_in_check_and_diff_mode_and_twice(site: Site, tmp_path: Path) -> None:
    names = ("receivers", "default", "critical", "watchdog", "smtp", "secrets", "group", "amtool", "url")
    variables = {f"alertmanager_routes_{name}": site.options()[name] for name in names}
    variables |= {"alertmanager_routes_config_file": str(site.dest), "alertmanager_routes_service": ""}
    play = {"hosts": "localhost", "gather_facts": False, "roles": [f"custodes.security_dr.{ROLE}"]}
    (tmp_path / "play.json").write_text(json.dumps([play]))
    playbook = Playbook(variables, tmp_path / "run", None, str(tmp_path / "play.json"), FORKED_MODULES)

    def run(*arguments: str, **more: Any) -> int:
        done = playbook.run("-vvv", "--diff", *arguments, **more)
        assert done.rc == 0, done.output
        assert not any(secret in done.output for secret in SECRETS.values())
        found = re.search(r"changed=(\d+)", done.output)
        return int(found[1]) if found else -1

    assert [run("--check"), run(), run()] == [1, 1, 0]
    assert site.uses(site.dest.read_bytes())
    assert run(alertmanager_routes_state="absent") == 1
    assert site.uses(site.theirs)


SYSTEMCTL = """#!/bin/sh
# Stands for systemd: it fails to start what has a peer named bad, and has the answers to show in a file.
echo "$1" >> "$FAKE/asked"
case "$1" in
show) cat "$FAKE/show" ;;
restart) ! grep -qs bad "$FAKE/drop-in.conf" ;;
esac
"""


class Peers:
    """The tasks on the peers, with systemd's place taken by a script."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        folder.mkdir()
        (folder / "systemctl").write_text(SYSTEMCTL)
        (folder / "systemctl").chmod(0o755)
        (folder / "show").write_text("LoadState=loaded\nActiveState=active\nNeedDaemonReload=no\nMainPID=0\n")
        (folder / "asked").touch()
        role = {"name": f"custodes.security_dr.{ROLE}", "tasks_from": "peers"}
        play = {"hosts": "localhost", "gather_facts": False, "tasks": [{"ansible.builtin.include_role": role}]}
        (folder / "play.json").write_text(json.dumps([play]))
        variables = {
            "alertmanager_routes_install": True,
            "alertmanager_routes_url": url,
            "__alertmanager_routes_drop_in": str(folder / "drop-in.conf"),
        }
        env = {**FORKED_MODULES, "FAKE": str(folder), "PATH": f"{folder}:{os.environ['PATH']}"}
        self.playbook = Playbook(variables, folder / "run", None, str(folder / "play.json"), env)

    def asked(self) -> list[str]:
        """What systemd was asked to do since this was last called."""
        asked = (self.folder / "asked").read_text().split()
        (self.folder / "asked").write_text("")
        return [one for one in asked if one != "show"]

    def run(self, *named: str, check: bool = False) -> tuple[int, str, list[str]]:
        """The exit code, what was said on one line, and what systemd was asked for."""
        done = self.playbook.run(*(["--check"] if check else []), alertmanager_routes_peers=named)
        return done.rc, done.words, self.asked()


@pytest.fixture
def peers(site: Site, tmp_path: Path) -> Peers:
    return Peers(tmp_path / "fake", site.options()["url"])


def test_the_peers_are_in_force_or_as_they_were(peers: Peers) -> None:
    drop_in, show = peers.folder / "drop-in.conf", peers.folder / "show"
    code, said, asked = peers.run("a:9094", "[fd00::1]:9094")
    assert (code, asked) == (0, ["daemon-reload", "restart"]), said
    good = drop_in.read_text()
    assert "--cluster.peer=a:9094 --cluster.peer=[fd00::1]:9094" in good
    code, said, asked = peers.run("a:9094", "[fd00::1]:9094")
    assert (code, asked) == (0, []), said
    # What does not come up is taken back.
    code, said, asked = peers.run("bad:9094")
    assert code != 0
    assert asked == ["daemon-reload", "restart"] * 2
    assert "does not come up with alertmanager_routes_peers bad:9094" in said
    assert "is as it was before, and it was restarted with that." in said
    assert drop_in.read_text() == good
    # A run that was killed before systemd heard of it, and one that was killed before the restart.
    told = show.read_text()
    show.write_text(told.replace("NeedDaemonReload=no", "NeedDaemonReload=yes"))
    assert peers.run("a:9094", "[fd00::1]:9094")[2] == ["daemon-reload", "restart"]
    show.write_text(told.replace("MainPID=0", f"MainPID={os.getpid()}"))
    code, said, asked = peers.run("a:9094", "[fd00::1]:9094", check=True)
    assert (code, "restart" in asked, "changed=1" in said) == (0, False, True), said
    assert peers.run("a:9094", "[fd00::1]:9094")[2] == ["daemon-reload", "restart"]


def test_a_peer_that_is_none_is_refused_before_anything_is_done(peers: Peers) -> None:
    wrong = {"no port": "mon-2", "an empty port": "mon-2:", "a URL": "http://mon-2:9094", "no brackets": "fd00::1"}
    cases = {case: {"alertmanager_routes_peers": ["mon-1:9094", peer]} for case, peer in wrong.items()}
    said = refusals(peers.playbook, ROLE, cases, hosts="localhost")
    for case, peer in wrong.items():
        assert f"alertmanager_routes_peers names {peer}: a peer is HOST:PORT" in said[case]
        assert "Nothing was changed." in said[case]
    assert peers.asked() == []


def test_critical_alerts_take_the_second_path_when_the_first_fails(tmp_path: Path, ansible: Ansible) -> None:
    """Both are told at once, so that nobody waits for the first to fail; the heartbeat goes on meanwhile."""
    with Receiver() as receiver:
        receiver.answer("first", 500)
        site = Site(tmp_path / "alertmanager", f"{receiver.http}/theirs")
        try:
            (made,) = ansible.run(
                [
                    task(
                        "alertmanager_config",
                        **site.options(
                            receivers={
                                "first": {"type": "webhook", "url": f"{receiver.http}/first"},
                                "second": {"type": "webhook", "url": f"{receiver.http}/second"},
                                "beat": {**EVERY["beat"], "url_secret": "local"},
                            },
                            default=[],
                            critical=["first", "second"],
                            watchdog=["beat"],
                            smtp={},
                            secrets={**SECRETS, "local": f"{receiver.http}/beat"},
                        ),
                    )
                ]
            )
            assert made["reloaded"]
            site.send(VAULT_DOWN, WATCHDOG)
            wait_for(
                "the second path and the heartbeat",
                lambda: bool(receiver.arrived("second")) and bool(receiver.arrived("beat")),
                30,
            )
            wait_for("the first was tried", lambda: bool(receiver.arrived("first")), 30)
            assert {one.status for one in receiver.arrived("first")} == {500}
            names = {alert["labels"]["alertname"] for one in receiver.arrived("second") for alert in one.body["alerts"]}
            assert names == {"VaultDown"}
            expected = hashlib.sha256(f"GenieKey {SECRETS['og']}".encode()).hexdigest()
            assert {one.authorization_sha256 for one in receiver.arrived("beat")} == {expected}
        finally:
            site.server.kill()


def test_one_prometheus_that_falls_silent_is_missed_while_the_other_one_is_heard(tmp_path: Path) -> None:
    """Two heartbeats through a real Alertmanager: the service outside has one URL for each."""
    with Receiver() as receiver:
        beats = {
            name: {"type": "heartbeat", "url": f"{receiver.http}/{name}", "prometheus": name} for name in ("one", "two")
        }
        options = {
            "receivers": {**beats, "page": {"type": "webhook", "url": f"{receiver.http}/page"}},
            "default": [],
            "critical": ["page"],
            "watchdog": [*beats],
        }
        config = configuration(options, Secrets({}, ""))
        for route in config["route"]["routes"][:2]:
            route |= {"group_interval": "2s", "repeat_interval": "1s"}
        server = Alertmanager(tmp_path, "", config)
        server.start()

        def send(*names: str) -> None:
            alerts = [{"labels": {**WATCHDOG["labels"], "prometheus": name}} for name in names]
            requests.post(f"{server.url}/api/v2/alerts", json=alerts, timeout=5).raise_for_status()

        try:
            send("one")
            wait_for("three heartbeats of one", lambda: len(receiver.arrived("one")) >= 3, 30)
            assert not receiver.arrived("two")
            send("one", "two")
            wait_for("the heartbeat of the other", lambda: bool(receiver.arrived("two")), 30)
        finally:
            server.kill()


def test_the_heartbeat_comes_at_every_interval(tmp_path: Path) -> None:
    """The times of the route a twentieth as long, so that it takes seconds."""
    with Receiver() as receiver:
        options = {
            "receivers": {
                "beat": {"type": "heartbeat", "url": f"{receiver.http}/beat"},
                "page": {"type": "webhook", "url": f"{receiver.http}/page"},
            },
            "default": [],
            "critical": ["page"],
            "watchdog": ["beat"],
        }
        config = configuration(options, Secrets({}, ""))
        route = config["route"]["routes"][0]
        for name in ("group_interval", "repeat_interval"):
            number, unit = re.fullmatch(r"(\d+)([sm])", route[name]).groups()  # type: ignore[union-attr]
            route[name] = f"{int(number) * {'s': 1, 'm': 60}[unit] * 50}ms"
        server = Alertmanager(tmp_path, "", config)
        server.start()
        try:
            requests.post(f"{server.url}/api/v2/alerts", json=[WATCHDOG], timeout=5).raise_for_status()
            wait_for("four heartbeats", lambda: len(receiver.arrived("beat")) >= 4, 90)
        finally:
            server.kill()
        times = [one.time for one in receiver.arrived("beat")]
        # One may be late on a machine under load; with times that do not fit, every second one is left out.
        assert min(later - earlier for earlier, later in zip(times, times[1:], strict=False)) < 4.5, "3 s each"
        assert not receiver.arrived("page")
