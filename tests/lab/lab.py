# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One folder, one authority, and the servers that a test or a demo asks for, stopped in reverse."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from types import TracebackType

from .cloud import Moto, SeaweedFS
from .loki import Loki
from .pki import Authority
from .postgres import Postgres
from .receiver import Receiver
from .vault import VaultCluster


class Lab:
    """Context manager that owns one temporary folder (mode 0700) and everything that runs out of it.

    PostgreSQL's data is in another one where root runs the lab.

    The folder goes when the lab ends, unless `keep` is set, or the lab ends by an exception while LAB_KEEP is set in
    the environment. What others than this machine have to reach listens at `address`.
    """

    def __init__(self, *, keep: bool = False, address: str = "127.0.0.1") -> None:
        self.keep = keep
        self.address = address
        self.folder = Path(tempfile.mkdtemp(prefix="custodes-lab-"))
        self._stops: list[Callable[[], None]] = []

    def __enter__(self) -> Lab:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.keep = self.keep or (kind is not None and bool(os.environ.get("LAB_KEEP")))
        self.stop()

    @cached_property
    def authority(self) -> Authority:
        """The authority that every server of this lab has its certificate from."""
        return Authority(self.folder / "pki")

    @cached_property
    def moto(self) -> Moto:
        """S3 and KMS, started when first asked for."""
        moto = Moto(self.folder / "moto", self.address)
        self._stops.append(moto.stop)
        moto.start()
        return moto

    @cached_property
    def seaweedfs(self) -> SeaweedFS:
        """A real S3 server, started when first asked for."""
        seaweedfs = SeaweedFS(self.folder / "seaweedfs")
        self._stops.append(seaweedfs.stop)
        seaweedfs.start()
        return seaweedfs

    @cached_property
    def postgres(self) -> Postgres:
        """PostgreSQL, started when first asked for."""
        postgres = Postgres(self.folder / "postgres", self.address)
        self._stops += [postgres.remove, postgres.stop]
        postgres.start()
        return postgres

    @cached_property
    def loki(self) -> Loki:
        """Loki with TLS, started when first asked for."""
        loki = Loki(self.folder / "loki", self.address, self.authority)
        self._stops.append(loki.stop)
        loki.start()
        return loki

    @cached_property
    def receiver(self) -> Receiver:
        """A receiver of webhooks, started when first asked for."""
        receiver = Receiver(self.address, self.authority.issue("receiver", [self.address, "localhost"]))
        self._stops.append(receiver.stop)
        receiver.start()
        return receiver

    def cluster(
        self, name: str = "vault", *, nodes: int = 3, awskms: bool = True, key_id: str | None = None
    ) -> VaultCluster:
        """Start a Vault cluster that is not initialised yet, sealed by this lab's KMS or by Shamir shares."""
        cluster = VaultCluster(
            self.folder / name,
            self.authority,
            nodes=nodes,
            kms=self.moto if awskms else None,
            key_id=key_id,
            name=name,
        )
        self._stops.append(cluster.stop)
        cluster.start()
        return cluster

    def inventory(self, cluster: VaultCluster) -> Path:
        """Write an Ansible inventory in which the cluster's nodes are hosts of the group `vault`."""
        hosts = {
            f"vault-{number}": {
                "vault_api_addr": node.address,
                "vault_recovery_stop_command": cluster.command(node, "stop"),
                "vault_recovery_start_command": cluster.command(node, "start"),
                "vault_quorum_data_path": str(node.data),
                "vault_quorum_node_id": node.name,
            }
            for number, node in enumerate(cluster.nodes, start=1)
        }
        nodes = {
            "ansible_connection": "local",
            "ansible_python_interpreter": "{{ ansible_playbook_python }}",
            # They run as who runs the lab.
            "ansible_become": False,
        }
        groups = {
            # The play that recovers runs on localhost, which is in no group but this one.
            "all": {"vars": {"vault_recovery_ca_cert": str(cluster.ca_file)}},
            "vault": {"hosts": hosts, "vars": nodes},
        }
        file = cluster.folder / "inventory.json"
        file.write_text(json.dumps(groups, indent=2) + "\n")
        return file

    def logs(self, command: str) -> str:
        """Return the place of the servers' logs, or how to keep them, for the end of a failed `command`."""
        if self.keep or os.environ.get("LAB_KEEP"):
            return f"The servers' logs are in {self.folder}."
        return f"The servers' logs were removed. To keep those of another run: LAB_KEEP=1 {command}"

    def stop(self) -> None:
        """Stop every server, last started first, and remove the folder."""
        while self._stops:
            self._stops.pop()()
        if not self.keep:
            shutil.rmtree(self.folder, ignore_errors=True)
