# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a configuration gets onto a host: judged, written, restarted, proven, or taken back."""

from __future__ import annotations

import http.client
import os
import stat
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.custodes.security_dr.plugins.module_utils.logs import install, pipeline
from ansible_collections.custodes.security_dr.plugins.module_utils.logs.errors import LogsError

SECRET = "s3cret-of-the-test"
UNIT = "[Service]\nExecStart=/bin/fluent-bit\n"
JOURNAL = [{"type": "journal"}]


class Host:
    """Stands for a host: its files are real, in a folder; its programs are not."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.asked: list[list[str]] = []
        self.environment: Mapping[str, str] = {}
        self.dry_run = (0, "configuration test is successful")
        self.verify = (0, "")
        self.fails: set[str] = set()
        self.state = {"ActiveState": "inactive", "UnitFileState": "disabled", "ActiveEnterTimestampMonotonic": "0"}
        self.ready = True
        binary = root / "fluent-bit"
        binary.touch()
        self.options: dict[str, Any] = {
            "inputs": JOURNAL,
            "primary": {"type": "loki", "host": "10.0.0.1", "port": 3100, "token_env": "LOKI_TOKEN"},
            "secondary": {"type": "http", "host": "10.0.0.2", "port": "443", "tls": "yes"},
            "buffer": {},
            "bound_bytes": 10_000_000,
            "outage_seconds": 60,
            "bytes_per_second": 1000,
            "storage_path": "/var/lib/fluent-bit/storage",
            "metrics_listen": None,
            "metrics_port": 2020,
            "secrets": {"LOKI_TOKEN": SECRET},
            "form": "yaml",
            "folder": "/etc/fluent-bit",
            "binary": str(binary),
            "unit": UNIT,
            "manifest": None,
            "state": "present",
        }

    def run(self, command: Sequence[str], environment: Mapping[str, str]) -> tuple[int, str]:
        self.asked.append(list(command))
        assert not any(SECRET in word for word in command)
        if "--dry-run" in command:
            self.environment = environment
            return self.dry_run
        if command[0] == "systemd-analyze":
            return self.verify
        if command[1] in self.fails:
            return 1, f"{command[1]} failed"
        if command[1] == "restart":
            entered = str(int(time.clock_gettime(time.CLOCK_MONOTONIC) * 1e6) + 1_000_000)
            self.state = {
                "ActiveState": "active",
                "UnitFileState": "enabled",
                "ActiveEnterTimestampMonotonic": entered,
            }
        if command[1] == "show":
            return 0, "\n".join(f"{name}={value}" for name, value in self.state.items() if name in command[2])
        return 0, ""

    def configure(self, *, check: bool = False, **changed: Any) -> dict[str, Any]:
        self.asked = []
        return pipeline.configure({**self.options, **changed}, self.run, check=check, root=str(self.root))

    def words(self, first: str) -> list[str]:
        return [command[1] for command in self.asked if command[0] == first]

    def files(self) -> dict[str, str]:
        folders = (self.root / "etc",)
        return {
            f"/{file.relative_to(self.root)}": file.read_text()
            for folder in folders
            for file in folder.rglob("*")
            if file.is_file()
        }


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    made = Host(tmp_path)
    monkeypatch.setattr(pipeline, "metrics_ready", lambda _url: made.ready)
    monkeypatch.setattr(install, "PATIENCE", 0.05)
    monkeypatch.setattr(install, "PAUSE", 0.01)
    return made


def test_check_run_check_run_and_remove(host: Host) -> None:
    checked = host.configure(check=True)
    assert (checked["changed"], checked["judged"], checked["restarted"]) == (True, True, True)
    assert host.files() == {}
    assert host.words("systemctl") == []
    done = host.configure()
    assert done["changed_files"] == checked["changed_files"]
    assert set(host.files()) == {
        "/etc/fluent-bit/custodes.yaml",
        "/etc/fluent-bit/custodes.env",
        "/etc/systemd/system/fluent-bit.service",
    }
    assert host.words("systemctl") == ["show", "daemon-reload", "enable", "restart", "show"]
    for again in (host.configure(check=True), host.configure()):
        assert (again["changed"], again["changed_files"], again["restarted"]) == (False, [], False)
    assert "restart" not in host.words("systemctl")
    assert host.configure(state="absent", primary=None, secondary=None, inputs=[])["changed"]
    assert host.files() == {}
    assert host.words("systemctl") == ["disable", "daemon-reload"]
    assert not host.configure(state="absent")["changed"]


def test_the_secret_is_in_one_file_alone(host: Host) -> None:
    done = host.configure()
    (file,) = [name for name, text in host.files().items() if SECRET in text]
    assert stat.S_IMODE((host.root / file.lstrip("/")).stat().st_mode) == 0o600
    assert host.environment == {"LOKI_TOKEN": SECRET}
    assert SECRET not in str(done)
    changed = host.configure(secrets={"LOKI_TOKEN": "another-s3cret"})
    assert changed["changed_files"] == ["/etc/fluent-bit/custodes.env"]
    assert changed["restarted"]
    (diff,) = changed["diff"]
    assert diff["before"] == "LOKI_TOKEN=(hidden)\n"
    assert diff["after"] == "LOKI_TOKEN=(hidden)\n# A value has changed.\n"


def test_a_mode_that_somebody_has_widened_is_set_again(host: Host) -> None:
    host.configure()
    file = host.root / "etc/fluent-bit/custodes.env"
    file.chmod(0o644)
    assert host.configure()["changed_files"] == ["/etc/fluent-bit/custodes.env"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_what_is_between_quotes_for_systemd() -> None:
    assert install.environment_file({"B": 'a"b\\c$d`e', "A": "x y'z#"}) == 'A="x y\'z#"\nB="a\\"b\\\\c\\$d\\`e"\n'


def test_a_secret_of_several_lines_is_masked_whole() -> None:
    secrets = {"A": "one", "KEY": '-----BEGIN "x\\" KEY-----\nMII=abc\n-----END-----\n', "Z": "last"}
    masked = install.masked(install.environment_file(secrets) + "PLAIN=word\n")
    assert masked == "".join(f"{name}={install.MASK}\n" for name in (*secrets, "PLAIN"))


@pytest.mark.parametrize(
    ("dry_run", "message"),
    [
        ((1, "[2026] [error] [config] loki: unknown configuration property 'x'"), "unknown configuration property 'x'"),
        ((0, "[ warn] [config] invalid retry_limit. set default.\nconfiguration test is successful"), "set default"),
        ((1, "[error] [config] file: unknown configuration property 'rotate'"), "from Fluent Bit 5.1 on"),
        ((139, "Segmentation fault"), "Segmentation fault"),
    ],
)
def test_what_fluent_bit_refuses_changes_nothing(host: Host, dry_run: tuple[int, str], message: str) -> None:
    host.configure()
    before = host.files()
    host.dry_run = dry_run
    for check in (True, False):
        with pytest.raises(LogsError, match=message) as raised:
            host.configure(check=check, metrics_port=2021)
        assert "Nothing was changed." in str(raised.value)
    assert host.files() == before
    assert host.words("systemctl") == []


@pytest.mark.parametrize("verify", [(1, "bad"), (0, "{unit}:2: Failed to parse MemoryMax, ignoring: x")])
def test_what_systemd_refuses_changes_nothing(
    host: Host, monkeypatch: pytest.MonkeyPatch, verify: tuple[int, str]
) -> None:
    def run(command: Sequence[str], environment: Mapping[str, str]) -> tuple[int, str]:
        if command[0] == "systemd-analyze":
            return verify[0], verify[1].format(unit=command[-1])
        return Host.run(host, command, environment)

    monkeypatch.setattr(host, "run", run)
    with pytest.raises(LogsError, match="systemd refuses the unit"):
        host.configure()
    assert host.files() == {}


def test_what_does_not_come_up_is_taken_back(host: Host) -> None:
    host.configure()
    before = host.files()
    host.ready = False
    with pytest.raises(LogsError, match="has no metrics of both outputs") as raised:
        host.configure(secrets={"LOKI_TOKEN": "another"}, metrics_port=2021)
    assert "as they were before, and the service was restarted with them" in str(raised.value)
    assert host.files() == before
    assert host.words("systemctl").count("restart") == 2


@pytest.mark.parametrize("fails", [{"restart"}, {"enable"}, set()])
def test_a_first_one_that_does_not_come_up_leaves_nothing(host: Host, fails: set[str]) -> None:
    host.fails, host.ready = fails, False
    with pytest.raises(LogsError, match="as they were before, and the service, which did not run before, was stopped"):
        host.configure()
    assert host.files() == {}
    # Disabled while its unit is there; systemd is told that it is gone.
    assert host.words("systemctl")[-3:] == ["stop", "disable", "daemon-reload"]


def test_a_fluent_bit_of_the_hosts_own_runs_again_with_its_own_unit(host: Host) -> None:
    host.ready = False
    host.state = {"ActiveState": "active", "UnitFileState": "enabled", "ActiveEnterTimestampMonotonic": "0"}
    with pytest.raises(LogsError, match="as they were before, and the service was restarted with them"):
        host.configure()
    assert host.files() == {}
    assert host.words("systemctl")[-3:] == ["daemon-reload", "reenable", "restart"]
    assert "disable" not in host.words("systemctl")


def test_one_that_runs_no_more_after_the_way_back_is_told(host: Host) -> None:
    host.configure()
    host.fails = {"restart"}
    with pytest.raises(LogsError, match="does not start with them either, see to it: systemctl restart"):
        host.configure(metrics_port=2021)


def test_without_a_unit_there_is_nothing_to_restart_on_the_way_back(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.configure(unit=None)
    before = host.files()
    put = install.Installation._put

    def fail_once(one: install.Installation, file: install.File, content: Any) -> None:
        if file.path.endswith(".yaml") and "2021" in content:
            raise LogsError("Cannot write it.")
        put(one, file, content)

    monkeypatch.setattr(install.Installation, "_put", fail_once)
    with pytest.raises(LogsError, match="as they were before, and nothing was restarted"):
        host.configure(unit=None, metrics_port=2021)
    assert host.files() == before
    assert host.words("systemctl") == []


def test_a_run_that_was_killed_before_the_restart_is_completed(host: Host) -> None:
    host.configure()
    later = time.time() + 60
    os.utime(host.root / "etc/fluent-bit/custodes.env", (later, later))
    done = host.configure()
    assert (done["changed"], done["changed_files"], done["restarted"]) == (True, [], True)
    assert "restart" in host.words("systemctl")


def test_one_that_somebody_has_stopped_is_started(host: Host) -> None:
    host.configure()
    host.state["ActiveState"] = "failed"
    assert host.configure()["restarted"]
    host.state["UnitFileState"] = "disabled"
    assert host.configure()["restarted"]


def test_the_other_form_does_not_stay(host: Host) -> None:
    host.configure()
    done = host.configure(form="classic")
    assert "/etc/fluent-bit/custodes.yaml" in done["changed_files"]
    assert "/etc/fluent-bit/custodes.yaml" not in host.files()
    assert "/etc/fluent-bit/custodes.conf" in host.files()


def test_without_a_unit_nothing_is_restarted(host: Host) -> None:
    done = host.configure(unit=None)
    assert (done["changed"], done["restarted"]) == (True, False)
    assert host.words("systemctl") == []


def test_a_unit_without_its_fluent_bit_is_refused_and_not_judged_in_check_mode(host: Host) -> None:
    host.verify = (1, "Command /nowhere is not executable: No such file or directory")
    done = host.configure(binary="/nowhere", check=True)
    assert (done["changed"], done["judged"]) == (True, False)
    with pytest.raises(LogsError, match=r"There is no /nowhere, .* fluent_bit_install.* Nothing was changed\."):
        host.configure(binary="/nowhere")
    assert host.asked == []
    assert host.files() == {}


def test_the_journal_from_its_end_as_ansible_gives_it(host: Host) -> None:
    for text, told in (("true", "'on'"), ("False", "'off'")):
        host.configure(inputs=[{"type": "journal", "read_from_tail": text}])
        assert f"read_from_tail: {told}" in host.files()["/etc/fluent-bit/custodes.yaml"]


def test_what_is_taken_with_doubts(host: Host) -> None:
    assert host.configure(check=True)["doubts"] == []
    (doubt,) = host.configure(check=True, secondary={"type": "es", "host": "10.0.0.2", "port": 9200})["doubts"]
    assert "lines that are refused one by one" in doubt
    assert host.configure(state="absent", primary=None, secondary=None, inputs=[])["doubts"] == []


def test_without_a_fluent_bit_nobody_judges(host: Host) -> None:
    done = host.configure(binary="/nowhere", unit=None)
    assert (done["changed"], done["judged"]) == (True, False)


def test_the_manifest_and_nothing_else(host: Host, tmp_path: Path) -> None:
    manifest = "/out.yaml"
    given: dict[str, Any] = {"unit": None, "manifest": manifest, "secrets": {}}
    assert [host.configure(check=check, **given)["changed"] for check in (True, False, False)] == [True, True, False]
    assert yaml.safe_load((tmp_path / "out.yaml").read_text())["metadata"]["namespace"] == "logging"
    assert host.files() == {}
    assert host.environment["LOKI_TOKEN"]
    assert host.configure(state="absent", **given)["changed"]
    assert not (tmp_path / "out.yaml").exists()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"inputs": [{"type": "journal", "tag": "x"}]}, "Input 0 has no option tag. It has exclude, path, read_from"),
        ({"inputs": [{"type": "journal", "read_from_tail": "perhaps"}]}, "read_from_tail is neither true nor false"),
        ({"inputs": [{"type": "files", "path": "/x", "read_from_tail": True}]}, "is of the type journal alone"),
        ({"primary": {"type": "loki", "token": SECRET}}, "The primary output has no option token."),
        ({"secondary": {"type": "http", "host": "x", "port": "https"}}, "port is no number: 'https'"),
        ({"secondary": {"type": "http", "host": "x", "port": 1, "tls": "maybe"}}, "tls is neither true nor false"),
        ({"primary": {"type": "loki", "token_env": "eyJ-x.y"}}, "is the name of a variable"),
        ({"primary": {"type": "loki", "labels": ["a"]}}, "labels are no dictionary"),
        ({"secrets": {"LOKI TOKEN": SECRET}}, "The secret 'LOKI TOKEN' has no name of a variable"),
        ({"secrets": {}}, "LOKI_TOKEN, which is unset"),
        ({"secondary": {"type": "kafka", "host": "x", "port": 1}}, "has the type 'kafka'"),
        ({"buffer": {"size": 1}}, "The buffer has no option size"),
    ],
)
def test_bad_input_changes_nothing(host: Host, changed: dict[str, Any], message: str) -> None:
    host.configure()
    before = host.files()
    with pytest.raises(LogsError, match=message) as raised:
        host.configure(**changed)
    assert SECRET not in str(raised.value)
    assert host.files() == before
    assert host.asked == []


@pytest.mark.parametrize(
    "error",
    [http.client.BadStatusLine("SSH-2.0-OpenSSH_9.2"), http.client.IncompleteRead(b"x"), urllib.error.URLError("no")],
)
def test_what_is_no_fluent_bit_on_that_port_is_not_ready(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(_opener: object, _url: str, timeout: float) -> None:
        raise error

    monkeypatch.setattr(urllib.request.OpenerDirector, "open", fail)
    assert not install.metrics_ready("http://127.0.0.1:2020/api/v2/metrics/prometheus")
