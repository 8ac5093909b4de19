# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator meets at night between here and Vault: certificates, ports, names, silence, lost nodes."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot import download, restore
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.errors import SnapshotCorruptError
from ansible_collections.custodes.security_dr.plugins.module_utils.vault import cluster as several
from ansible_collections.custodes.security_dr.plugins.module_utils.vault import errors, health
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.client import Connection, VaultClient
from integration.run_ansible import Ansible, task
from lab import Lab
from lab.archives import write_archive
from lab.binaries import server
from lab.pki import Authority
from lab.processes import free_port
from lab.vault import VaultCluster
from urllib3.exceptions import InsecureRequestWarning

BAD_LISTENERS = ("expired", "elsewhere", "plain")


@pytest.fixture(scope="module")
def listeners(lab: Lab) -> Iterator[dict[str, str]]:
    """One Vault with listeners that are right, of an expired certificate, of another host's, and without TLS."""
    cluster = lab.cluster("listeners", nodes=1, awskms=False)
    cluster.stop()
    node = cluster.nodes[0]
    config = json.loads(node.config_file.read_text())
    ports = {name: free_port() for name in BAD_LISTENERS}
    certificates = {
        "expired": lab.authority.issue("expired", expired=True),
        "elsewhere": lab.authority.issue("elsewhere", ["vault.example.org"]),
    }
    extra: list[dict[str, Any]] = []
    for name, port in ports.items():
        tcp: dict[str, Any] = {"address": f"127.0.0.1:{port}", "cluster_address": f"127.0.0.1:{free_port()}"}
        if name in certificates:
            tcp["tls_cert_file"], tcp["tls_key_file"] = map(str, certificates[name])
        else:
            tcp["tls_disable"] = True
        extra.append({"tcp": tcp})
    config["listener"] = [config["listener"], *extra]
    node.config_file.write_text(json.dumps(config))
    cluster.start()
    yield {
        "right": node.address,
        **{name: f"https://127.0.0.1:{port}" for name, port in ports.items()},
        "ca": str(lab.authority.ca_file),
    }
    cluster.stop()


@dataclass
class Silence:
    """A server of the test's own that takes connections and says nothing, or breaks them off."""

    port: int
    taken: list[socket.socket] = field(default_factory=list)


@pytest.fixture(params=[False], ids=["hangs"])
def silence(request: pytest.FixtureRequest) -> Iterator[Silence]:
    resets: bool = request.param
    with socket.create_server(("127.0.0.1", 0)) as server:
        silence = Silence(server.getsockname()[1])

        def serve() -> None:
            while True:
                try:
                    connection, _unused = server.accept()
                except OSError:
                    return
                silence.taken.append(connection)
                if resets:
                    connection.recv(1)
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        yield silence
        # Closing alone does not wake the thread.
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in silence.taken:
            connection.close()


resets = pytest.mark.parametrize("silence", [True], ids=["resets"], indirect=True)


def _client(url: str, ca: str | None = None, **options: Any) -> VaultClient:
    return VaultClient(Connection(url, ca_cert=ca, **options), "hvs.some-token")


def _fails(client: VaultClient, kind: type[errors.VaultError], *words: str) -> None:
    with pytest.raises(kind) as caught:
        client.request("GET", "sys/leader")
    assert caught.value.__class__ is kind
    message = str(caught.value)
    for word in (client.connection.url, *words):
        assert word in message
    assert "hvs.some-token" not in message


def test_the_right_listener_answers(listeners: dict[str, str]) -> None:
    # The others below fail for the reason that is tested, not because that Vault is down.
    assert _client(listeners["right"], listeners["ca"]).status("sys/health")[0] == 501
    assert _client(listeners["plain"].replace("https:", "http:")).status("sys/health")[0] == 501
    for name in ("expired", "elsewhere"):
        with pytest.warns(InsecureRequestWarning):
            assert _client(listeners[name], validate_certs=False).status("sys/health")[0] == 501


@pytest.mark.parametrize(("name", "word"), [("expired", "has expired"), ("elsewhere", "another host name")])
def test_a_bad_certificate(listeners: dict[str, str], name: str, word: str) -> None:
    _fails(_client(listeners[name], listeners["ca"]), errors.VaultConfigError, word)


def test_a_ca_that_does_not_vouch(listeners: dict[str, str], tmp_path: Path) -> None:
    other = Authority(tmp_path, "another CA").ca_file
    _fails(_client(listeners["right"], str(other)), errors.VaultConfigError, "not signed by a CA", "ca_cert")
    _fails(_client(listeners["right"]), errors.VaultConfigError, "not signed by a CA", "ca_cert")
    no_pem = tmp_path / "no.pem"
    no_pem.write_text("this is no certificate\n")
    _fails(_client(listeners["right"], str(no_pem)), errors.VaultConfigError, "ca_cert")


def test_requests_ca_bundle_does_not_beat_the_operator(
    ansible: Ansible, listeners: dict[str, str], tmp_path: Path
) -> None:
    other, url = str(Authority(tmp_path, "another CA").ca_file), listeners["right"]
    right, wrong = task("vault_health_info", ca_cert=listeners["ca"]), task("vault_health_info", ca_cert=other)
    good, bad = ansible.run([right, wrong], url=url, env={"REQUESTS_CA_BUNDLE": other, "CURL_CA_BUNDLE": other})
    assert (good.get("reachable"), bad.get("error_type")) == (True, "VaultConfigError")
    good, bad = ansible.run([right, wrong], url=url, env={"REQUESTS_CA_BUNDLE": listeners["ca"]})
    assert (good.get("reachable"), bad.get("error_type")) == (True, "VaultConfigError")


def test_clear_text_and_tls_confused(listeners: dict[str, str]) -> None:
    clear = listeners["right"].replace("https:", "http:")
    _fails(_client(clear), errors.VaultConfigError, "speaks TLS", "https://")
    _fails(_client(listeners["plain"], listeners["ca"]), errors.VaultConfigError, "does not speak TLS")
    with pytest.raises(errors.VaultConfigError, match="speaks TLS"):
        health.read_health(_client(clear))


def test_a_name_that_nobody_has() -> None:
    _fails(_client("https://host.invalid:8200"), errors.VaultUnreachableError, "cannot be resolved", "DNS")


def test_a_port_where_nobody_listens() -> None:
    _fails(_client(f"https://127.0.0.1:{free_port()}"), errors.VaultUnreachableError, "connection refused")


@pytest.mark.parametrize(
    ("scheme", "timeout", "connect_timeout", "words"),
    [("http", 1, 600, "no answer for 1 s"), ("https", 600, 1, "no TLS handshake within 1 s")],
)
def test_a_server_that_hangs_is_asked_once(
    silence: Silence, scheme: str, timeout: float, connect_timeout: float, words: str
) -> None:
    url = f"{scheme}://127.0.0.1:{silence.port}"
    client = _client(url, timeout=timeout, connect_timeout=connect_timeout, retries=3)
    _fails(client, errors.VaultUnreachableError, words)
    assert len(silence.taken) == 1


def test_a_module_tells_of_a_server_that_hangs(ansible: Ansible, silence: Silence, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{silence.port}"
    snapshot, info = ansible.run(
        [task("vault_raft_snapshot", dest=str(tmp_path / "x.snap")), task("vault_health_info")],
        url=url,
        timeout=1,
        token="hvs.some-token",
    )
    assert snapshot["error_type"] == "VaultUnreachableError"
    assert f"at {url}: connected, then no answer for 1 s" in snapshot["msg"]
    assert (info["reachable"], info["serving"]) == (False, False)
    assert url in info["problem"]
    assert not list(tmp_path.glob("*.snap"))


@resets
def test_only_what_is_safe_is_repeated(silence: Silence) -> None:
    client = _client(f"http://127.0.0.1:{silence.port}", retries=2)
    with pytest.raises(errors.VaultUnreachableError, match="broke off"):
        client.request("GET", "sys/leader")
    assert len(silence.taken) == 3
    with pytest.raises(errors.VaultUnreachableError, match="broke off"):
        client.request("POST", "auth/token/revoke-self")
    assert len(silence.taken) == 4


@resets
def test_a_corrupt_snapshot_is_not_even_announced(silence: Silence, tmp_path: Path) -> None:
    """Restoring a damaged file, no connection is made at all."""
    file = tmp_path / "damaged.snap"
    write_archive(file)
    intact = file.read_bytes()
    client = _client(f"http://127.0.0.1:{silence.port}", retries=0)
    file.write_bytes(intact[:-9] + b"\0" + intact[-8:])
    with pytest.raises(SnapshotCorruptError, match=r"damaged\.snap"):
        restore.restore(client, file, force=True, upload_timeout=1, reload_timeout=1)
    assert silence.taken == []
    file.write_bytes(intact)
    with pytest.raises(errors.VaultUnreachableError):
        restore.restore(client, file, force=True, upload_timeout=1, reload_timeout=1)
    assert len(silence.taken) == 1


@pytest.mark.vault
def test_a_standby_does_not_send_the_token_on(cluster: VaultCluster, tmp_path: Path) -> None:
    leader = cluster.leader()
    node = next(node for node in cluster.nodes if node is not leader)
    standby = VaultClient(Connection(node.address, ca_cert=str(cluster.ca_file)), cluster.root_token)
    path = download.SNAPSHOT_API
    with pytest.raises(errors.VaultApiError) as caught, standby.download(path, 10) as chunks:
        list(chunks)
    assert caught.value.status == 307
    assert f"{node.address}: redirected (HTTP 307) to {leader.address}" in str(caught.value)
    assert cluster.root_token not in str(caught.value)
    assert standby.at_leader().connection.url == leader.address
    taken = download.take(standby, tmp_path / "x.snap", 60)
    assert taken.manifest["node"] == leader.address


def test_a_node_that_does_not_come_back_is_named(ansible: Ansible, cluster: VaultCluster) -> None:
    dead = f"https://127.0.0.1:{free_port()}"
    nodes = [*cluster.addresses[:2], dead]
    ca = str(cluster.ca_file)
    with pytest.raises(errors.VaultUnreachableError) as caught:
        several.wait_for([_client(url, ca) for url in nodes], "serving", timeout=1)
    assert "not serving after " in str(caught.value)
    assert dead in str(caught.value)
    for url in nodes[:2]:
        assert url not in str(caught.value)
    without, waited = ansible.run(
        [task("vault_cluster_info"), task("vault_cluster_info", wait_for="serving", wait_timeout=1)],
        ca_cert=ca,
        nodes=nodes,
    )
    assert [node["reachable"] for node in without["nodes"]] == [True, True, False]
    assert waited["error_type"] == "VaultUnreachableError"
    assert dead in waited["msg"]


@pytest.mark.vault
def test_a_listener_that_redacts_hides_no_leader(lab: Lab, ansible: Ansible) -> None:
    cluster = lab.cluster("redacting", nodes=2, awskms=False)
    cluster.stop()
    for node in cluster.nodes:
        config = json.loads(node.config_file.read_text())
        config["listener"]["tcp"].update(redact_addresses=True, redact_version=True, redact_cluster_name=True)
        node.config_file.write_text(json.dumps(config))
    cluster.start()
    answer = cluster.nodes[0].client().sys.initialize(secret_shares=1, secret_threshold=1)
    cluster.unseal_all(answer["keys"])
    ca = str(cluster.ca_file)
    state = several.wait_for([_client(url, ca) for url in cluster.addresses], "serving", 60)
    leader = cluster.leader()
    assert state.leader_address == leader.address
    [standby] = [node for node in cluster.nodes if node is not leader]
    assert standby.request("GET", "sys/leader").json()["leader_address"] == ""
    assert _client(standby.address, ca).at_leader().connection.url == leader.address
    [info] = ansible.run([task("vault_health_info", url=standby.address, ca_cert=ca)])
    assert (info["serving"], info["leader_address"], info["version"]) == (True, leader.address, None)
    cluster.stop()


@pytest.mark.skipif(server().product == "Vault", reason="permanent non-voters take OpenBao, or Vault Enterprise")
def test_redundant_does_not_wait_for_a_permanent_non_voter(lab: Lab) -> None:
    cluster = lab.cluster("non-voter", awskms=False)
    cluster.stop()
    node = cluster.nodes[-1]
    config = json.loads(node.config_file.read_text())
    config["storage"]["raft"]["retry_join_as_non_voter"] = True
    node.config_file.write_text(json.dumps(config))
    cluster.start()
    cluster.initialize(shares=1, threshold=1, wait_voters=False)
    ca = str(cluster.ca_file)
    clients = [VaultClient(Connection(url, ca_cert=ca), cluster.root_token) for url in cluster.addresses]
    state = several.wait_for(clients, "redundant", timeout=60)
    assert state.autopilot is not None
    assert (len(state.autopilot["voters"]), len(state.peers or [])) == (2, 3)
    cluster.stop()
