# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the collection's playbooks against the lab as an operator does: ansible-playbook, an inventory, variables."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any

from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot import manifest as manifests
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.archive import verify_file

from .lab import Lab
from .pki import write_private
from .processes import LabError, spawn, wait_for
from .seed import AppRole, Seed, seed
from .vault import VaultCluster

ROOT = Path(__file__).resolve().parents[2]
RECOVER_VAULT = "playbooks/recover-vault.yml"
FORKED_MODULES = {
    "ANSIBLE_CONNECTION_PLUGINS": str(ROOT / "tests" / "lab" / "connection_plugins"),
    "ANSIBLE_PIPELINING": "true",
}
"""Environment in which modules of `local` hosts take a quarter of their CPU time: see connection_plugins/local.py."""
FORKED_VAULT_MODULES = {
    **FORKED_MODULES,
    "ANSIBLE_CALLBACK_PLUGINS": str(ROOT / "tests" / "lab" / "callback_plugins"),
    "ANSIBLE_CALLBACKS_ENABLED": "vault_imports",
}
"""The same for playbooks most of whose modules speak to Vault: see callback_plugins/vault_imports.py."""
RESTART = "Restart Vault on every node, as one had missed the change of keys"
RESTART_STANDBYS = "Restart Vault on every node, as standbys answer reads"
"""The steps that a recovery's record has then."""


@dataclass(frozen=True)
class Finished:
    """What a run of ansible-playbook came to. `output` is stdout and stderr as they were shown."""

    rc: int
    output: str
    directory: Path

    @property
    def record_file(self) -> Path:
        """The newest record in the recovery's folder. Raises LabError when there is none."""
        found = sorted(self.directory.glob("recovery-*.json"))
        if not found:
            raise LabError(f"There is no record in {self.directory}. The output was:\n{self.output}")
        return found[-1]

    @property
    def record(self) -> dict[str, Any]:
        """What the newest record says."""
        record: dict[str, Any] = json.loads(self.record_file.read_text())
        return record

    @property
    def words(self) -> str:
        """The output with every run of white space as one space: messages are wrapped when they are shown."""
        return " ".join(self.output.split())


class Run:
    """A run of ansible-playbook under way, in a session of its own; it dies with this process."""

    def __init__(self, process: subprocess.Popen[bytes], log_file: Path, directory: Path) -> None:
        self.log_file = log_file
        self.directory = directory
        self._process = process

    @property
    def pid(self) -> int:
        """Of ansible-playbook itself."""
        return self._process.pid

    @property
    def output(self) -> str:
        """What was shown so far."""
        return self.log_file.read_text(errors="replace")

    def wait_for_task(self, name: str, timeout: float = 120.0) -> None:
        """Wait until the task of this name begins. Raises LabError when the run ends before it does."""

        def shown() -> bool:
            if f": {name}] *" in self.output:
                return True
            if self._process.poll() is not None:
                raise LabError(f"ansible-playbook ended before the task '{name}' began:\n{self.output}")
            return False

        wait_for(f"the task '{name}' begins", shown, timeout)

    def finish(self, timeout: float = 300.0) -> Finished:
        """Wait for the end. Raises LabError with the output when that takes longer than `timeout` seconds."""
        try:
            rc = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill_all()
            raise LabError(f"ansible-playbook was killed after {timeout:g} s:\n{self.output}") from None
        return Finished(rc, self.output, self.directory)

    def kill(self) -> None:
        """SIGKILL ansible-playbook and its process group. A module that runs has a session of its own and goes on.

        Returns once that has ended, too: a run that begins beside it is refused or stops, depending on the moment.
        """
        under = _descendants(self.pid)
        os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        wait_for("the modules that went on have ended", lambda: not any(map(_runs, under)), 120)

    def kill_all(self) -> None:
        """SIGKILL ansible-playbook and everything under it at once, as a power cut does."""
        stopped: list[int] = []
        found = [self.pid]
        while found:
            for pid in found:
                _signal(pid, signal.SIGSTOP)
            stopped += found
            found = [pid for pid in _descendants(self.pid) if pid not in stopped]
        for pid in stopped:
            _signal(pid, signal.SIGKILL)
        self._process.wait()

    def pause(self) -> None:
        """Freeze ansible-playbook; a module that runs goes on to its end."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)


@dataclass
class Playbook:
    """One playbook with its variables, which can be run again and again.

    Attributes:
        variables: extra variables; they go through a file of mode 0600 in `directory`'s parent, not the command line.
        directory: the recovery's folder, for the records.
        inventory: None runs without one.
    """

    variables: Mapping[str, Any]
    directory: Path
    inventory: Path | None = None
    name: str = RECOVER_VAULT
    env: Mapping[str, str] = field(default_factory=dict)

    def run(self, *arguments: str, timeout: float = 300.0, **changed: Any) -> Finished:
        """Run it to its end, with further arguments and with these variables changed."""
        return self.start(*arguments, **changed).finish(timeout)

    def start(self, *arguments: str, **changed: Any) -> Run:
        """Start it and return at once."""
        folder = Path(tempfile.mkdtemp(prefix="run-", dir=self._home))
        variables_file, log_file = folder / "variables.json", folder / "output"
        write_private(variables_file, json.dumps({**self.variables, **changed}).encode())
        command = [*ansible_playbook(), "-e", f"@{variables_file}"]
        if self.inventory is not None:
            command += ["-i", str(self.inventory)]
        with log_file.open("wb") as log:
            process = spawn([*command, *arguments, self.name], log, env=self.environment, cwd=ROOT)
        return Run(process, log_file, self.directory)

    @cached_property
    def _home(self) -> Path:
        """What the run writes outside of its recovery's folder it writes here."""
        home = self.directory.with_name(f"{self.directory.name}-home")
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        return home

    @property
    def environment(self) -> dict[str, str]:
        """What ansible-playbook gets: nothing of what the caller has set for itself (VAULT_*, ANSIBLE_*, proxies)."""
        kept = {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
        return {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
            "HOME": str(self._home),
            "PWD": str(self._home),
            "LANG": "C.UTF-8",
            "ANSIBLE_HOME": str(self._home / ".ansible"),
            **kept,
            **self.env,
        }


@dataclass(frozen=True)
class Origin:
    """A cluster as it was before it was lost: what a recovery must bring back, and what it needs for that.

    Attributes:
        cluster: its nodes, which the recovery uses again; what they hold by now is another matter.
        root_token: valid again once the cluster is restored.
        keys: unseal or recovery key shares, of which `threshold` are enough.
        accessors: of every token that there was.
        snapshots: folder with one snapshot, `snapshot`, which has a manifest.
    """

    cluster: VaultCluster
    seed: Seed
    root_token: str
    keys: Sequence[str]
    threshold: int
    accessors: Sequence[str]
    inventory: Path
    snapshot: Path

    @property
    def snapshots(self) -> Path:
        """The folder of its snapshots."""
        return self.snapshot.parent

    def playbook(self, folder: Path, *, login: AppRole | None = None, **variables: Any) -> Playbook:
        """Its recovery, which logs in with the AppRole or else makes a root token of the key shares."""
        given: dict[str, Any] = {
            "vault_recovery_snapshot": str(self.snapshots),
            "vault_recovery_directory": str(folder / "recovery"),
            "vault_recovery_key_shares": list(self.keys[: self.threshold]),
            "vault_recovery_canaries": [self.seed.canary, self.seed.canary_v1],
            "vault_recovery_dynamic_canaries": list(self.seed.dynamic_canaries),
        }
        if login is not None:
            given["vault_recovery_auth"] = {
                "auth_method": "approle",
                "role_id": login.role_id,
                "secret_id": login.secret_id,
            }
        return Playbook({**given, **variables}, folder / "recovery", self.inventory)


def make_origin(
    lab: Lab,
    name: str = "prod",
    *,
    nodes: int = 3,
    awskms: bool = True,
    wait_voters: bool = False,
    database: bool = True,
    stabilization: str = "1s",
) -> Origin:
    """Start a cluster, seed it and take its snapshot. The caller stops it.

    Without `database` it needs no PostgreSQL, and no database engine in the server. Autopilot gives a node its vote
    after `stabilization`, where Vault's own default is 10 s, and so it does in the restored cluster.
    """
    cluster = lab.cluster(name, nodes=nodes, awskms=awskms)
    cluster.initialize(wait_voters=False)
    cluster.client().write("sys/storage/raft/autopilot/configuration", server_stabilization_time=stabilization)
    if wait_voters:
        cluster.wait_voters()
    seeded = seed(cluster, lab if database else None)
    return Origin(
        cluster=cluster,
        seed=seeded,
        root_token=cluster.root_token,
        keys=tuple(cluster.keys),
        threshold=cluster.threshold,
        accessors=tuple(accessors(cluster, cluster.root_token)),
        inventory=lab.inventory(cluster),
        snapshot=take_snapshot(cluster, cluster.folder / "snapshots"),
    )


def accessors(cluster: VaultCluster, token: str) -> list[str]:
    """The accessor of every token that the cluster holds, sorted."""
    return sorted(cluster.client(token=token).list("auth/token/accessors")["data"]["keys"])


def take_snapshot(cluster: VaultCluster, folder: Path, *, manifest: bool = True) -> Path:
    """Snapshot a cluster with its root token into `folder`, named after it and the time, and return the file."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    leader, now = cluster.leader(), datetime.now(timezone.utc)
    answer = leader.request("GET", "sys/storage/raft/snapshot", token=cluster.root_token, timeout=60)
    if not answer.ok:
        raise LabError(f"{leader.address} gave no snapshot: {answer.status_code} {answer.text[:300]}")
    file = folder / f"{cluster.name}-{now:%Y%m%dT%H%M%SZ}.snap"
    write_private(file, answer.content)
    info = verify_file(str(file))
    if manifest:
        health = leader.request("GET", "sys/health").json()
        seal = leader.request("GET", "sys/seal-status").json()
        origin = manifests.Origin(
            health["cluster_name"], health["cluster_id"], health["version"], seal["type"], leader.address
        )
        manifests.write_manifest(file, info, origin, now)
    return file


def ansible_playbook() -> list[str]:
    """The ansible-playbook of this Python's environment."""
    beside = Path(sys.executable).with_name("ansible-playbook")
    return [str(beside) if beside.exists() else "ansible-playbook"]


def _descendants(pid: int) -> list[int]:
    """Every process under this one, by /proc."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found: list[int] = []
    layer = {pid}
    while layer:
        layer = {child for child, parent in parents.items() if parent in layer}
        found += layer
    return found


def _runs(pid: int) -> bool:
    """Whether there is such a process that is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
