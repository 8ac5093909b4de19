# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Molecule's create and destroy call: a scenario's hosts with systemd, and the servers beside them.

    python -m lab.molecule up SCENARIO      # returns when all is there; build/molecule-SCENARIO/inventory.json says how
    python -m lab.molecule down SCENARIO    # to reach it
    python -m lab.molecule test SCENARIO    # `molecule test`, and nothing is left behind when it is interrupted

Between the two a process of its own holds everything, and takes it down when it is told to.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from .binaries import loki_binary, vault_binary
from .fluent_bit import WHERE_FROM, fluent_bit_binary, portable_fluent_bit
from .hosts import Hosts, debs, sweep, wheels
from .lab import Lab
from .loki import loki_config
from .pki import Authority, write_private
from .processes import LabError, tail, wait_for

_ROOT = Path(__file__).resolve().parents[2]
_BUILD = _ROOT / "build"
_PROGRAM = "/srv/vault"
"""Where the hosts see the Vault that the lab has built."""

Inventory = dict[str, Any]


@dataclass(frozen=True)
class Scenario:
    """What one scenario runs on.

    Attributes:
        names: of the hosts.
        mounts: gives what every host sees of the controller, and where.
        inventory: makes an Ansible inventory, its variables named ``lab_…``, and starts the servers that it tells of.
        missing: why it cannot be run here; empty when it can.
    """

    names: tuple[str, ...]
    mounts: Callable[[Path], Mapping[Path, str]]
    inventory: Callable[[Hosts, Lab, Path], Inventory]
    missing: Callable[[], str] = str


def _vault_mounts(folder: Path) -> Mapping[Path, str]:
    """Vault, and wheels in the place of a package index, which pip on the hosts is configured for."""
    config = folder / "pip.conf"
    config.write_text("[global]\nno-index = true\nfind-links = /srv/wheels\n")
    index = wheels("hvac>=2.1.0", "boto3>=1.36.0", "requests>=2.31.0")
    return {vault_binary(): _PROGRAM, index: "/srv/wheels", config: "/etc/pip.conf"}


def _vault(hosts: Hosts, lab: Lab, folder: Path) -> Inventory:
    """The hosts as the group `vault`; S3 and KMS."""
    backends = {
        "lab_folder": str(folder),
        "lab_vault_program": _PROGRAM,
        "lab_ca_file": str(lab.authority.ca_file),
        "lab_aws": lab.moto.environment,
        "lab_kms_key_id": lab.moto.key_id,
        "lab_bucket": lab.moto.create_bucket("vault-snapshots", versioned=True),
    }
    nodes = {}
    for host in hosts.hosts:
        cert_file, key_file = lab.authority.issue(host.name, [host.name, host.address, "localhost", "127.0.0.1"])
        nodes[host.name] = {
            **hosts.connection(host),
            "vault_api_addr": f"https://{host.address}:8200",
            "lab_cert_file": str(cert_file),
            "lab_key_file": str(key_file),
        }
    return {"all": {"vars": backends}, "vault": {"hosts": nodes}}


def _detection(hosts: Hosts, lab: Lab, folder: Path) -> Inventory:
    """The hosts as the group `fleet`; Loki, and a receiver of webhooks that also switches Loki on and off."""
    lab.receiver.switches["loki"] = lab.loki.become
    servers = {
        "lab_folder": str(folder),
        "lab_ca_file": str(lab.authority.ca_file),
        "lab_log_store": lab.loki.url,
        "lab_webhooks": lab.receiver.https,
        "lab_control": f"{lab.receiver.http}/control",
        "lab_token": secrets.token_urlsafe(24),
    }
    return {
        "all": {"vars": servers},
        "fleet": {"hosts": {host.name: hosts.connection(host) for host in hosts.hosts}},
    }


def _log_pipeline(hosts: Hosts, lab: Lab, folder: Path) -> Inventory:
    """The hosts that log as the group `apps`, and those on which Loki is to run as `log_stores`."""
    tokens = {name: secrets.token_urlsafe(24) for name in ("first", "second")}
    known = {
        "lab_folder": str(folder),
        "lab_ca_file": str(lab.authority.ca_file),
        "lab_read_token": secrets.token_urlsafe(24),
        "lab_tokens": tokens,
        "lab_loki_config": loki_config(Path("/var/lib/loki"), "127.0.0.1", 3100, 9095),
    }
    groups: dict[str, dict[str, Any]] = {"apps": {}, "log_stores": {}}
    for host in hosts.hosts:
        connection = hosts.connection(host)
        if host.name.startswith("loki"):
            cert_file, key_file = lab.authority.issue(host.name, [host.name, host.address])
            groups["log_stores"][host.name] = {
                **connection,
                "lab_cert_file": str(cert_file),
                "lab_key_file": str(key_file),
            }
        else:
            groups["apps"][host.name] = connection
    return {"all": {"vars": known}, **{name: {"hosts": members} for name, members in groups.items()}}


def _monitoring(hosts: Hosts, lab: Lab, folder: Path) -> Inventory:
    """The hosts as the groups `prometheus` and `alertmanager`, another as `watchdog`; a receiver of webhooks."""
    servers = {
        "lab_folder": str(folder),
        "lab_ca_file": str(lab.authority.ca_file),
        "lab_webhooks": lab.receiver.https,
        "lab_control": f"{lab.receiver.http}/control",
        "lab_token": secrets.token_urlsafe(24),
    }
    members = {host.name: hosts.connection(host) for host in hosts.hosts}
    monitors: dict[str, dict[str, Any]] = {name: {} for name in members if name.startswith("mon")}
    return {
        "all": {"vars": servers, "hosts": members},
        "prometheus": {"hosts": monitors},
        "alertmanager": {"hosts": monitors},
        "watchdog": {"hosts": {"bastion": {}}},
    }


def _trust_store(hosts: Hosts, _lab: Lab, folder: Path) -> Inventory:
    """The hosts as the group `apps`, each with a certificate of an old and of a new root."""
    roots = {name: Authority(folder / name, f"{name} root") for name in ("old", "new", "next")}
    members = {}
    for host in hosts.hosts:
        members[host.name] = hosts.connection(host)
        for name in ("old", "new"):
            cert_file, key_file = roots[name].issue(host.name, [host.name, host.address])
            members[host.name] |= {f"lab_{name}_cert_file": str(cert_file), f"lab_{name}_key_file": str(key_file)}
    known = {"lab_folder": str(folder), "lab_roots": {name: str(one.ca_file) for name, one in roots.items()}}
    return {"all": {"vars": known}, "apps": {"hosts": members}}


def _no_fluent_bit() -> str:
    return "" if fluent_bit_binary() else f"there is no Fluent Bit. {WHERE_FROM}"


SCENARIOS = {
    "default": Scenario(("vault-1", "vault-2", "vault-3"), _vault_mounts, _vault),
    "host_detection": Scenario(
        ("app-1", "app-2"), lambda _folder: {_ROOT / "molecule" / "host_detection" / "files": "/srv/lab"}, _detection
    ),
    "monitoring": Scenario(
        ("mon-1", "mon-2", "bastion"),
        lambda _folder: {debs("prometheus", "prometheus-alertmanager"): "/srv/debs"},
        _monitoring,
    ),
    "trust_store": Scenario(("app-1", "app-2"), lambda _folder: {}, _trust_store),
    "log_pipeline": Scenario(
        ("app-1", "app-2", "loki-1", "loki-2"),
        lambda folder: {portable_fluent_bit(folder / "fluent-bit"): "/srv/fluent-bit", loki_binary(): "/srv/loki"},
        _log_pipeline,
        _no_fluent_bit,
    ),
}


def _folder(scenario: str) -> Path:
    return _BUILD / f"molecule-{scenario}"


def _hold(name: str) -> None:
    """Start everything, write the inventory, and wait for SIGTERM."""
    ended = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        ended.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    scenario, folder = SCENARIOS[name], _folder(name)
    with Hosts(folder, scenario.names, scenario.mounts(folder)) as hosts, Lab(address=hosts.gateway) as lab:
        unfinished = folder / "inventory.unfinished"
        write_private(unfinished, json.dumps(scenario.inventory(hosts, lab, folder), indent=2).encode())
        unfinished.rename(folder / "inventory.json")
        ended.wait()


def _up(name: str) -> None:
    folder = _folder(name)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    log_file, inventory = folder / "hosts.log", folder / "inventory.json"
    if inventory.exists():
        raise LabError(f"{folder} has hosts already: end them with `down` first")
    with log_file.open("wb") as log:
        holder = subprocess.Popen(
            [sys.executable, "-m", "lab.molecule", "hold", name],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    (folder / "pid").write_text(str(holder.pid))

    def there() -> bool:
        if holder.poll() is not None:
            raise LabError(f"The hosts did not start:\n{tail(log_file)}")
        return inventory.exists()

    # The first time the servers and the image are built.
    wait_for("the hosts are there", there, timeout=1200)


def _down(name: str) -> None:
    folder = _folder(name)
    pid_file = folder / "pid"
    if pid_file.exists():
        pid = int(pid_file.read_text())
        if _holds(pid):
            os.kill(pid, signal.SIGTERM)
            wait_for("the hosts are gone", lambda: not _holds(pid))
    shutil.rmtree(folder, ignore_errors=True)
    sweep()


def _holds(pid: int) -> bool:
    """Whether this process is (still) one that holds hosts: ids are used again, and a zombie has no command line."""
    try:
        return b"lab.molecule\0hold" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _test(name: str) -> None:
    missing = SCENARIOS[name].missing()
    if missing:
        # tests/layers.py counts these.
        print(f"Skipping scenario {name}: {missing}")
        return
    folder = _folder(name)
    _down(name)
    try:
        # Both of Molecule's steps `destroy` would be a run of ansible-playbook that does what `_down` does.
        command = ["molecule", "test", f"--scenario-name={name}", "--destroy=never"]
        # With a folder of Molecule's state for this run alone, no step counts as done by an earlier one.
        environment = {**os.environ, "MOLECULE_EPHEMERAL_DIRECTORY": str(folder / "molecule")}
        status = subprocess.run(command, env=environment, check=False).returncode
    finally:
        _down(name)
    if status != 0:
        raise LabError(f"molecule test of {name} ended with status {status}")


def main(arguments: list[str]) -> int:
    """Run the command line; return its exit status."""
    verbs = {"up": _up, "down": _down, "hold": _hold, "test": _test}
    if len(arguments) != 2 or arguments[0] not in verbs or arguments[1] not in SCENARIOS:
        sys.stderr.write(f"usage: python -m lab.molecule up|down|test {'|'.join(SCENARIOS)}\n")
        return 2
    try:
        verbs[arguments[0]](arguments[1])
    except LabError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
