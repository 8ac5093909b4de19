# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Molecule's create and destroy call: three hosts with systemd, and S3, KMS and PostgreSQL beside them.

    python -m lab.molecule up FOLDER      # returns when all is there; FOLDER/inventory.json says how to reach it
    python -m lab.molecule down FOLDER
    python -m lab.molecule test FOLDER    # `molecule test`, and nothing is left behind when it is interrupted

Between the two a process of its own holds everything, and takes it down when it is told to.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from .binaries import vault_binary
from .hosts import Hosts, sweep, wheels
from .lab import Lab
from .pki import write_private
from .processes import LabError, tail, wait_for

_NAMES = ("vault-1", "vault-2", "vault-3")
_PROGRAM = "/srv/vault"
"""Where the hosts see the Vault that the lab has built."""


def _inventory(hosts: Hosts, lab: Lab, folder: Path) -> dict[str, Any]:
    """An Ansible inventory: the hosts as the group `vault`, and the backends as variables `lab_…`."""
    backends = {
        "lab_folder": str(folder),
        "lab_vault_program": _PROGRAM,
        "lab_wheels": str(wheels("hvac>=2.1.0", "boto3>=1.36.0", "requests>=2.31.0")),
        "lab_ca_file": str(lab.authority.ca_file),
        "lab_aws": lab.moto.environment,
        "lab_kms_key_id": lab.moto.key_id,
        "lab_bucket": lab.moto.create_bucket("vault-snapshots", versioned=True),
        "lab_postgres": f"{lab.postgres.address}:{lab.postgres.port}",
        "lab_postgres_user": lab.postgres.user,
        "lab_postgres_password": lab.postgres.password,
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


def _hold(folder: Path) -> None:
    """Start everything, write the inventory, and wait for SIGTERM."""
    ended = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        ended.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    with Hosts(folder, _NAMES, {vault_binary(): _PROGRAM}) as hosts, Lab(address=hosts.gateway) as lab:
        unfinished = folder / "inventory.unfinished"
        write_private(unfinished, json.dumps(_inventory(hosts, lab, folder), indent=2).encode())
        unfinished.rename(folder / "inventory.json")
        ended.wait()


def _up(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    log_file, inventory = folder / "hosts.log", folder / "inventory.json"
    if inventory.exists():
        raise LabError(f"{folder} has hosts already: end them with `down` first")
    with log_file.open("wb") as log:
        holder = subprocess.Popen(
            [sys.executable, "-m", "lab.molecule", "hold", str(folder)],
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

    # The first time Vault and the image are built.
    wait_for("the hosts are there", there, timeout=1200)


def _down(folder: Path) -> None:
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


def _test(folder: Path) -> None:
    try:
        status = subprocess.run(["molecule", "test"], check=False).returncode
    finally:
        _down(folder)
    if status != 0:
        raise LabError(f"molecule test ended with status {status}")


def main(arguments: list[str]) -> int:
    """Run the command line; return its exit status."""
    if len(arguments) != 2 or arguments[0] not in ("up", "down", "hold", "test"):
        sys.stderr.write("usage: python -m lab.molecule up|down|test FOLDER\n")
        return 2
    try:
        {"up": _up, "down": _down, "hold": _hold, "test": _test}[arguments[0]](Path(arguments[1]).absolute())
    except LabError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
