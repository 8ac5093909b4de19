# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""rotate-root-ca.yml and recover-ca.yml: a real Vault, real servers, and clients that never stop to ask them.

The hosts are folders of this machine: what a trust store does on a real one is for the role trust_store's tests.
"""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.ca.vault_pki import VaultPki
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.client import Connection, VaultClient
from lab import Lab
from lab.pki import write_private
from lab.playbook import Finished, Playbook

HERE = Path(__file__).with_name("ca")
ROTATE, RECOVER = "playbooks/rotate-root-ca.yml", "playbooks/recover-ca.yml"
HOSTS = ("host-1", "host-2", "host-3")


class TlsServer:
    """Serves what its file holds, a key and a chain, read again for each connection."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def stop(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _address = self._listener.accept()
                with suppress(OSError), connection:
                    connection.settimeout(5)
                    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                    context.load_cert_chain(self.file)
                    with context.wrap_socket(connection, server_side=True) as secure:
                        secure.recv(1)


class Client(threading.Thread):
    """Connects over and over, as a program on that host would; keeps every refusal."""

    def __init__(self, bundle: Path, port: int) -> None:
        super().__init__(daemon=True)
        self.bundle, self.port = bundle, port
        self.taken = 0
        self.refusals: list[str] = []
        self._stopped = threading.Event()

    def run(self) -> None:
        while not self._stopped.wait(0.1):
            try:
                connect(self.bundle, self.port)
                self.taken += 1
            except ssl.SSLError as error:
                self.refusals.append(str(error))

    def stop(self) -> None:
        self._stopped.set()
        self.join()


def connect(bundle: Path, port: int) -> str:
    """Shake hands as a client that trusts this bundle; gives the issuer's common name. Raises ssl.SSLError."""
    context = ssl.create_default_context(cafile=str(bundle))
    with (
        socket.create_connection(("127.0.0.1", port), 5) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as secure,
    ):
        told: Any = secure.getpeercert()
        return str(dict(pair[0] for pair in told["issuer"])["commonName"])


class World:
    """A Vault with a root, three hosts that trust it, and a server on each with a certificate of it."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.folder = folder
        self.cluster = lab.cluster("rotation", nodes=1)
        self.cluster.initialize()
        self.vault = VaultClient(Connection(self.cluster.addresses[0], ca_cert=str(self.cluster.ca_file)))
        self.vault.token = self.cluster.root_token
        self.pki = VaultPki(self.vault.request)
        self.mount("root-1")
        self.servers = {host: self._host(host) for host in HOSTS}

    def mount(self, root: str) -> None:
        """A new PKI engine with a root and a role."""
        self.vault.request("POST", "sys/mounts/pki", json={"type": "pki", "config": {"max_lease_ttl": "87600h"}})
        self.pki.prepare(root, root, "1000h")
        self.pki.activate(root)
        role = {"allow_any_name": True, "max_ttl": "48h", "key_type": "ec", "key_bits": 256}
        self.vault.request("POST", "pki/roles/servers", json=role)

    def bundle(self, host: str) -> Path:
        return self.folder / host / "bundle.pem"

    def roots(self, host: str) -> list[str]:
        return sorted(path.stem for path in (self.folder / host / "roots").iterdir())

    def issuers(self) -> list[str]:
        """Who each server's certificate is from, as a client on its host sees it."""
        return [connect(self.bundle(host), server.port) for host, server in self.servers.items()]

    def signing(self) -> str:
        return self.pki.issuer("default").name

    def playbook(self, name: str, **variables: Any) -> Playbook:
        login = {"url": self.cluster.addresses[0], "ca_cert": str(self.cluster.ca_file), "token": self.vault.token}
        given = {
            "ca_rotation_vault": login,
            "ca_rotation_endpoints": [
                {"host": "127.0.0.1", "port": server.port, "server_name": "localhost"}
                for server in self.servers.values()
            ],
            "ca_rotation_probes": [{"role": "servers", "name": "probe.example.com"}],
            "ca_rotation_trust_role": "lab_trust",
            "ca_rotation_reissue_tasks": str(HERE / "reissue.yml"),
            "ca_rotation_directory": str(self.folder / "rotation"),
            "ca_rotation_wait": 4,
            "lab_issue_url": f"{self.cluster.addresses[0]}/v1/pki/issue/servers",
            "lab_issue_token": self.vault.token,
            "lab_issue_ca": str(self.cluster.ca_file),
        }
        env = {"ANSIBLE_ROLES_PATH": str(HERE / "roles")}
        return Playbook({**given, **variables}, self.folder / "rotation", self._inventory(), name, env)

    def _host(self, host: str) -> TlsServer:
        roots = self.folder / host / "roots"
        roots.mkdir(parents=True)
        root = self.pki.issuer("default").certificate
        (roots / "root-1.crt").write_text(root)
        self.bundle(host).write_text(root)
        body = {"common_name": "localhost", "ip_sans": "127.0.0.1", "ttl": "24h"}
        issued = self.vault.request("POST", "pki/issue/servers", json=body)["data"]
        file = self.folder / host / "server.pem"
        write_private(file, f"{issued['private_key']}\n{issued['certificate']}\n".encode())
        return TlsServer(file)

    def _inventory(self) -> Path:
        hosts = {
            host: {
                "ca_rotation_bundle": str(self.bundle(host)),
                "lab_trust": str(self.folder / host),
                "lab_server_file": str(self.folder / host / "server.pem"),
            }
            for host in HOSTS
        }
        shared = {
            "ansible_connection": "local",
            "ansible_python_interpreter": "{{ ansible_playbook_python }}",
            "ansible_become": False,
        }
        file = self.folder / "inventory.json"
        file.write_text(
            json.dumps({"all": {"hosts": hosts}, "clients": {"hosts": dict.fromkeys(HOSTS), "vars": shared}})
        )
        return file


@pytest.fixture(scope="module")
def world(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(lab, tmp_path_factory.mktemp("rotation"))
    yield made
    for server in made.servers.values():
        server.stop()


def good(finished: Finished, world: World) -> Finished:
    assert finished.rc == 0, finished.output
    assert world.vault.token not in finished.output
    return finished


def refused(finished: Finished, *words: str) -> None:
    assert finished.rc != 0, finished.output
    for one in words:
        assert one in finished.words, finished.output


def test_a_root_is_rotated(world: World) -> None:
    """Each refusal on the way, a kill in the middle, and clients that notice nothing of it all."""
    rotate = world.playbook(ROTATE, ca_rotation_old="root-1", ca_rotation_new="root-2")
    clients = [Client(world.bundle(host), server.port) for host, server in world.servers.items()]
    for client in clients:
        client.start()
    try:
        checked = good(rotate.run("--check"), world)
        assert "root-2 would be made" in checked.words
        assert [one.name for one in world.pki.issuers()] == ["root-1"]

        # One host where the root does not arrive, whatever its trust role says.
        broken = rotate.run(lab_trust_broken="{{ inventory_hostname == 'host-2' }}")
        refused(broken, "host-2.bundle.pem", "signed by itself, and not in")
        assert world.signing() == "root-1"

        # Not every host.
        refused(rotate.run("--limit", "localhost,host-1"), "not proven to trust root-2: host-2, host-3")
        assert world.signing() == "root-1"
        assert world.issuers() == ["root-1"] * 3

        killed = rotate.start()
        killed.wait_for_task("Put it where the server reads it")
        killed.kill_all()
        assert world.signing() == "root-2"

        refused(rotate.run(ca_rotation_retire="root-2"), "the root that goes is 'root-1'")

        done = good(rotate.run("-vvv"), world)
        assert "run it again with -e ca_rotation_retire=root-1" in done.words
        assert world.issuers() == ["root-2"] * 3
        assert world.roots("host-1") == ["root-1", "root-2"]
        assert not world.pki.issuer("root-1").revoked

        good(rotate.run(ca_rotation_retire="root-1"), world)
        assert world.pki.issuer("root-1").revoked
        assert [world.roots(host) for host in HOSTS] == [["root-2"]] * 3
        assert world.issuers() == ["root-2"] * 3

        again = good(rotate.run(ca_rotation_retire="root-1"), world)
        assert again.output.count("changed=0") == len(HOSTS) + 1
        refused(rotate.run(), "was retired before")
    finally:
        for client in clients:
            client.stop()
    assert [client.refusals for client in clients] == [[], [], []]
    assert min(client.taken for client in clients) > 50


def test_a_server_that_nobody_renewed_keeps_the_old_root(world: World, tmp_path: Path) -> None:
    """After the rotation: root-2 to root-3, with no tasks that renew."""
    idle = tmp_path / "idle.yml"
    idle.write_text("---\n- name: Do nothing\n  ansible.builtin.debug:\n    msg: idle\n")
    rotate = world.playbook(ROTATE, ca_rotation_old="root-2", ca_rotation_new="root-3", ca_rotation_retire="root-2")
    refused(rotate.run(ca_rotation_reissue_tasks=str(idle)), "3 of 3 certificates are not good")
    assert not world.pki.issuer("root-2").revoked
    assert world.issuers() == ["root-2"] * 3
    # All at once, as it was typed from the start.
    good(rotate.run(), world)
    assert world.issuers() == ["root-3"] * 3
    assert [world.roots(host) for host in HOSTS] == [["root-3"]] * 3


def test_a_rebuilt_authority(world: World) -> None:
    """The mount is lost with its key. Its successor has another root."""
    world.vault.request("DELETE", "sys/mounts/pki")
    world.mount("rebuilt")
    before = world.issuers()
    recover = world.playbook(RECOVER, ca_rotation_new="rebuilt")
    refused(recover.run(ca_rotation_new="other"), "is not the default issuer")
    good(recover.run("--check"), world)
    assert world.issuers() == before
    began = time.monotonic()
    good(recover.run(), world)
    assert time.monotonic() - began < 60
    assert world.issuers() == ["rebuilt"] * 3
    again = good(recover.run(), world)
    assert again.output.count("changed=0") == len(HOSTS) + 1
