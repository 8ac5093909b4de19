# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""rotate-root-ca.yml and recover-ca.yml: a real Vault, real servers, and clients that never stop to ask them.

The hosts are folders of this machine: what a trust store does on a real one is for the role trust_store's tests. Two of
them are "every host": a third shows nothing more.
"""

from __future__ import annotations

import json
import re
import ssl
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.ca.certificates import told
from ansible_collections.custodes.security_dr.plugins.module_utils.ca.vault_pki import VaultPki
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.client import Connection, VaultClient
from cryptography import x509
from lab import Lab
from lab.endpoint import TlsServer, connect
from lab.pki import Authority, write_private
from lab.playbook import FORKED_MODULES, Finished, Playbook

HERE = Path(__file__).with_name("ca")
ROLE = "custodes.security_dr.ca_rotation"
ROTATE, RECOVER = "playbooks/rotate-root-ca.yml", "playbooks/recover-ca.yml"
HOSTS = ("host-1", "host-2")


class Client(threading.Thread):
    """Connects over and over, as a program on that host would; keeps every refusal."""

    def __init__(self, bundle: Path, port: int) -> None:
        super().__init__(daemon=True)
        self.bundle, self.port = bundle, port
        self.taken = 0
        self.refusals: list[str] = []
        self._stopped = threading.Event()

    def run(self) -> None:
        while not self._stopped.wait(0.2):
            try:
                connect(self.bundle, self.port)
                self.taken += 1
            except ssl.SSLError as error:
                self.refusals.append(str(error))

    def stop(self) -> None:
        self._stopped.set()
        self.join()


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
        self.named: list[dict[str, str]] = []
        """What the inventory names as trust_store_roots."""
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
        bundle = x509.load_pem_x509_certificates(self.bundle(host).read_bytes())
        return sorted(one.subject.rfc4514_string().removeprefix("CN=") for one in bundle)

    def issuers(self) -> list[str]:
        """Who each server's certificate is from, as a client on its host sees it."""
        return [connect(self.bundle(host), server.port) for host, server in self.servers.items()]

    def served(self) -> list[bytes]:
        """The file of each server, a key and a chain."""
        return [server.file.read_bytes() for server in self.servers.values()]

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
            "ca_rotation_reissue_tasks": str(HERE / "reissue.yml"),
            "ca_rotation_directory": str(self.folder / "rotation"),
            # As -e gives it.
            "ca_rotation_wait": "4",
            "lab_issue_url": f"{self.cluster.addresses[0]}/v1/pki/issue/servers",
            "lab_issue_token": self.vault.token,
            "lab_issue_ca": str(self.cluster.ca_file),
        }
        env = environment(self.folder)
        return Playbook({**given, **variables}, self.folder / "rotation", self._inventory(), name, env)

    def steps(self, *tasks_from: str, **variables: Any) -> Playbook:
        """Files of the role's tasks, one after the other, where every host is proven to trust root-2."""
        folder = self.folder / "steps"
        folder.mkdir(exist_ok=True)
        tasks = [{"name": one, "ansible.builtin.include_role": {"name": ROLE, "tasks_from": one}} for one in tasks_from]
        defaults = {"group/custodes.security_dr.vault": "{{ ca_rotation_vault }}"}
        play = {"hosts": "localhost", "gather_facts": False, "module_defaults": defaults, "tasks": tasks}
        proven = {"ca_rotation_clients": {"hosts": {"host-1": {"__ca_rotation_proof": {"problems": []}}}}}
        (folder / "play.json").write_text(json.dumps([play]))
        (folder / "hosts.json").write_text(json.dumps(proven))
        given = {
            "__ca_rotation_roots": {"new": told(self.pki.issuer("root-2").certificate, "Vault")["fingerprint_sha256"]},
            "ansible_python_interpreter": "{{ ansible_playbook_python }}",
        }
        whole = self.playbook(str(folder / "play.json"), ca_rotation_old="root-1", ca_rotation_new="root-2")
        return replace(whole, variables={**whole.variables, **given, **variables}, inventory=folder / "hosts.json")

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
                "trust_store_system": False,
                "trust_store_bundles": [{"path": str(self.bundle(host)), "mode": "0600"}],
                "lab_server_file": str(self.folder / host / "server.pem"),
            }
            for host in HOSTS
        }
        shared = {
            "trust_store_roots": self.named,
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


def environment(folder: Path) -> dict[str, str]:
    """Environment in which facts of a host are gathered once, and not at each run."""
    return {
        **FORKED_MODULES,
        "ANSIBLE_GATHERING": "smart",
        "ANSIBLE_CACHE_PLUGIN": "ansible.builtin.jsonfile",
        "ANSIBLE_CACHE_PLUGIN_CONNECTION": str(folder / "facts"),
    }


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
    of_old = world.served()[0]
    clients = [Client(world.bundle(host), server.port) for host, server in world.servers.items()]
    for client in clients:
        client.start()
    try:
        checked = good(rotate.run("--check"), world)
        assert "root-2 would be made" in checked.words
        assert [one.name for one in world.pki.issuers()] == ["root-1"]

        # A root that would end first.
        refused(rotate.run(ca_rotation_new="short", ca_rotation_ttl="24h"), "before root-1. Nobody trusts it yet")

        # One host where the root does not arrive, whatever its trust role says.
        elsewhere = [{"path": f"{world.folder}/{{{{ inventory_hostname }}}}/elsewhere.pem"}]
        broken = rotate.run("--limit", "localhost,host-1", trust_store_bundles=elsewhere)
        refused(broken, "signed by itself, and not in")
        assert world.signing() == "root-1"

        # Not every host.
        refused(rotate.run("--limit", "localhost,host-1"), "not proven to trust root-2: host-2")
        assert world.signing() == "root-1"
        assert world.issuers() == ["root-1", "root-1"]

        killed = rotate.start()
        killed.wait_for_task("Put it where the server reads it")
        killed.kill_all()
        assert world.signing() == "root-2"

        refused(rotate.run(ca_rotation_retire="root-2"), "the root that goes is 'root-1'")
        not_typed_and_another_mount(world)

        # All of it as it was typed from the start, and servers that nobody renews.
        idle = world.folder / "idle.yml"
        idle.write_text(json.dumps([{"name": "Do nothing", "ansible.builtin.debug": {"msg": "idle"}}]))
        typed = {"ca_rotation_retire": "root-1"}
        left = rotate.run(**typed, ca_rotation_reissue_tasks=str(idle))
        refused(left, "of 2 certificates are not good")
        assert not world.pki.issuer("root-1").revoked
        assert world.issuers()[1] == "root-1"
        assert [world.roots(host) for host in HOSTS] == [["root-1", "root-2"]] * 2

        forgotten = good(rotate.run("-vvv", **typed), world)
        # A host gets what its module reads of the census, without the chains.
        (given, *_others) = re.findall(r" census:\n(.+?) census_max_age:", forgotten.output, re.DOTALL)
        assert given.count("anchor:") == len(HOSTS)
        assert "chain:" not in given
        assert world.pki.issuer("root-1").revoked
        assert [world.roots(host) for host in HOSTS] == [["root-2"]] * 2
        assert world.issuers() == ["root-2", "root-2"]

        again = good(rotate.run(**typed), world)
        assert again.output.count("changed=0") == len(HOSTS) + 1
        refused(rotate.run(), "was retired before")
    finally:
        for client in clients:
            client.stop()
    assert [client.refusals for client in clients] == [[], []]
    assert min(client.taken for client in clients) > 50

    # Nobody trusts it once more when a server has gone back to it.
    of_new = world.served()[0]
    write_private(world.folder / "host-1/server.pem", of_old)
    refused(rotate.run("--limit", "localhost,host-1", **typed), "not proven to trust root-2: host-2")
    assert [world.roots(host) for host in HOSTS] == [["root-2"]] * 2
    write_private(world.folder / "host-1/server.pem", of_new)


def not_typed_and_another_mount(world: World) -> None:
    """The steps that follow the proof: the old root stays until it is typed, and each role is asked in its mount."""
    world.vault.request("POST", "sys/mounts/other", json={"type": "pki"})
    VaultPki(world.vault.request, "other").prepare("other", "other", "1h")
    world.vault.request("POST", "other/roles/web", json={"allow_any_name": True})
    activate = world.folder / "activate.yml"
    done = {"content": "{{ ca_rotation_new }}", "dest": f"{world.folder}/activated"}
    activate.write_text(json.dumps([{"name": "Have it signed", "ansible.builtin.copy": done}]))
    probes = [{"role": "web", "mount": "other", "name": "probe.example.com"}]
    steps = world.steps("retire", "activate", ca_rotation_activate_tasks=str(activate), ca_rotation_probes=probes).run()
    refused(steps, "run this again with its name in ca_rotation_retire")
    assert not world.pki.issuer("root-1").revoked
    # After what the operator does about that mount.
    assert "Vault's role other/web issues from CN=other, not from root-2" in steps.words
    assert (world.folder / "activated").read_text() == "root-2"


def test_a_rebuilt_authority(world: World) -> None:
    """The mount is lost with its key. Its successor has another root."""
    lost = world.pki.issuer("default")
    world.named = [{"name": lost.name, "content": lost.certificate, "state": "present"}]
    world.vault.request("DELETE", "sys/mounts/pki")
    world.mount("rebuilt")
    before = world.issuers()
    recover = world.playbook(RECOVER, ca_rotation_new="rebuilt")
    refused(recover.run(ca_rotation_new="other"), "other is not the default issuer of pki, which has: rebuilt.")
    by_id = world.pki.issuer("rebuilt").id
    assert "is not the default issuer" not in good(recover.run("--check", ca_rotation_new=by_id), world).words
    assert world.issuers() == before
    refused(recover.run("--limit", "localhost,host-1"), "not proven to trust rebuilt: host-2")
    assert world.issuers() == before
    good(recover.run(), world)
    assert world.issuers() == ["rebuilt", "rebuilt"]
    assert [world.roots(host) for host in HOSTS] == [["rebuilt", lost.name]] * 2
    again = good(recover.run(), world)
    assert again.output.count("changed=0") == len(HOSTS) + 1


class Site:
    """Two roots in files, one server, and tasks of the operator that activate and renew."""

    def __init__(self, folder: Path, old: Authority, new: Authority, *hosts: str) -> None:
        self.folder, self.old, self.new = folder, old, new
        key_and_chain(old, folder / "server.pem")
        key_and_chain(new, folder / "renewed.pem")
        given = {}
        for host in hosts:
            # The second one is of an application.
            bundles = [self.bundle(host), self.bundle(f"{host}-app")]
            for bundle in bundles:
                bundle.write_bytes(old.ca_file.read_bytes())
            given[host] = {
                "ansible_connection": "local",
                "ansible_python_interpreter": "{{ ansible_playbook_python }}",
                "ansible_become": False,
                "ca_rotation_bundle": str(self.bundle(host)),
                "trust_store_system": False,
                "trust_store_bundles": [{"path": str(bundle), "mode": "0600"} for bundle in bundles],
            }
        away = {**given[hosts[0]], "ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
        inventory = folder / "inventory.json"
        inventory.write_text(json.dumps({"all": {"hosts": {**given, "away": away}}}))
        copied = {"src": str(folder / "renewed.pem"), "dest": str(folder / "server.pem")}
        noted = {"path": f"{folder}/renewed-{{{{ inventory_hostname }}}}", "state": "touch"}
        renew = [{"name": "Renew", "ansible.builtin.copy": copied}, {"name": "Note", "ansible.builtin.file": noted}]
        activate = [{"name": "Sign with it", "ansible.builtin.copy": {"content": "new", "dest": f"{folder}/signs"}}]
        (folder / "renew.yml").write_text(json.dumps(renew))
        (folder / "activate.yml").write_text(json.dumps(activate))
        # Relative to where the operator is, as the runbook has it.
        home = folder / "rotation-home"
        home.mkdir(mode=0o700)
        (home / "old-root.pem").write_bytes(old.ca_file.read_bytes())
        (home / "new-root.pem").write_bytes(new.ca_file.read_bytes())
        self.server = TlsServer(folder / "server.pem")
        variables = {
            "ca_rotation_provider": "files",
            "ca_rotation_hosts": ",".join(hosts),
            "ca_rotation_old": "old",
            "ca_rotation_new": "new",
            "ca_rotation_old_file": "old-root.pem",
            "ca_rotation_new_file": "new-root.pem",
            "ca_rotation_endpoints": [{"host": "127.0.0.1", "port": self.server.port}],
            "ca_rotation_activate_tasks": str(folder / "activate.yml"),
            "ca_rotation_reissue_tasks": str(folder / "renew.yml"),
            "ca_rotation_directory": str(folder / "rotation"),
            "ca_rotation_wait": "4",
        }
        self.rotate = Playbook(variables, folder / "rotation", inventory, ROTATE, environment(folder))

    def bundle(self, host: str) -> Path:
        return self.folder / f"{host}.pem"

    def renewed(self) -> list[str]:
        """The hosts whose certificates were issued anew."""
        return sorted(file.name.removeprefix("renewed-") for file in self.folder.glob("renewed-*"))

    def roots(self, host: str) -> list[str]:
        """Names of what that host trusts."""
        bundle = x509.load_pem_x509_certificates(self.bundle(host).read_bytes())
        return [one.subject.rfc4514_string().removeprefix("CN=") for one in bundle]

    def run(self, **changed: Any) -> Finished:
        done = self.rotate.run(**changed)
        assert done.rc == 0, done.output
        return done


def test_an_authority_that_is_no_vault(tmp_path: Path) -> None:
    """A host that is away stops it. One that came later gets the new root alone."""
    site = Site(
        tmp_path, Authority(tmp_path / "old", "old root"), Authority(tmp_path / "new", "new root"), "here", "later"
    )
    away_too = site.rotate.run(ca_rotation_hosts="here,away")
    assert away_too.rc != 0
    assert "UNREACHABLE" in away_too.output
    assert not (tmp_path / "signs").exists()
    done = site.run(ca_rotation_hosts="here")
    assert "run this again with its name in ca_rotation_retire" in done.words
    assert (tmp_path / "signs").exists()
    assert connect(site.bundle("here"), site.server.port) == "new root"
    assert site.roots("here") == ["old root", "new root"]
    assert site.roots("here-app") == ["old root", "new root"]
    # Killed while the host forgot the old root: it is gone from one of its files.
    site.bundle("here").write_bytes(site.new.ca_file.read_bytes())
    # A server that is away is none of the old root's, which nobody trusts once more for it.
    away = [*site.rotate.variables["ca_rotation_endpoints"], {"host": "127.0.0.1", "port": 1}]
    typed = {"ca_rotation_hosts": "here", "ca_rotation_retire": "old"}
    refused(site.rotate.run(**typed, ca_rotation_endpoints=away), "1 of 2 certificates are not good")
    assert (site.roots("here"), site.roots("here-app")) == (["new root"], ["old root", "new root"])
    # Another host joins, and trusts nothing yet. It was not issued anew, although all servers of the census have
    # certificates of the new root.
    for name in ("later", "later-app"):
        site.bundle(name).unlink()
    assert site.renewed() == ["here"]
    done = site.run(ca_rotation_retire="old")
    assert [site.roots(host) for host in ("here", "here-app", "later", "later-app")] == [["new root"]] * 4
    assert site.renewed() == ["here", "later"]
    # The controller has nothing to change.
    assert done.output.count("changed=0") == 1
    site.server.stop()


def test_an_old_root_that_has_ended_is_replaced_and_goes(tmp_path: Path) -> None:
    """It is put nowhere else, and taken out after the census: else the trust store would refuse."""
    old, new = Authority(tmp_path / "old", "old root", days=-1), Authority(tmp_path / "new", "new root")
    site = Site(tmp_path, old, new, "here", "later")
    for name in ("later", "later-app"):
        site.bundle(name).unlink()
    site.run(ca_rotation_retire="old")
    assert [site.roots(host) for host in ("here", "later")] == [["new root"]] * 2
    # A new one that has ended is none.
    refused(site.rotate.run(ca_rotation_old_file="new-root.pem", ca_rotation_new_file="old-root.pem"), "has ended on")
    site.server.stop()


def test_a_new_root_that_ends_first_is_taken_once_servers_lead_to_it(tmp_path: Path) -> None:
    """The successor of a lost root, which recover-ca.yml has distributed already."""
    old, new = Authority(tmp_path / "old", "old root", days=90), Authority(tmp_path / "new", "new root")
    site = Site(tmp_path, old, new, "here")
    refused(site.rotate.run("--check"), "before old. Nobody trusts it yet")
    (tmp_path / "server.pem").write_bytes((tmp_path / "renewed.pem").read_bytes())
    checked = site.rotate.run("--check", ca_rotation_retire="old")
    assert checked.rc == 0, checked.output
    site.server.stop()


def test_a_census_without_every_host_names_those_that_are_missing(tmp_path: Path) -> None:
    one = {"name": ROLE, "tasks_from": "census"}
    tasks = [
        {"name": "A host", "ansible.builtin.add_host": {"name": "host-9", "groups": "ca_rotation_clients"}},
        {"name": "Count", "ansible.builtin.import_role": one},
    ]
    play = tmp_path / "play.json"
    play.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]))
    refused(Playbook({}, tmp_path / "run", None, str(play)).run(), "trust store was read: host-9. Run it again")


def key_and_chain(authority: Authority, file: Path) -> None:
    """Write a certificate for loopback with its key."""
    certificate, key = authority.issue("server")
    write_private(file, key.read_bytes() + certificate.read_bytes())
