# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What listens, against what is allowed."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.detection import listeners
from ansible_collections.custodes.security_dr.plugins.module_utils.detection.errors import DetectionError
from ansible_collections.custodes.security_dr.plugins.module_utils.detection.findings import Finding, Scan
from ansible_collections.custodes.security_dr.plugins.module_utils.detection.listeners import DEFAULTS, Options
from ansible_collections.custodes.security_dr.plugins.module_utils.detection.procfs import Owners, Proc
from unit.detection.proc_tree import ID, Tree

TODAY = "2026-07-01"
NC = "/usr/bin/nc"


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "proc")


def options(*allowed: dict[str, Any], **more: Any) -> Options:
    return Options.from_config({"allowed": [{"reason": "Ours.", **one} for one in allowed], **more}, TODAY)


def scan(tree: Tree, *allowed: dict[str, Any], **more: Any) -> Scan:
    return listeners.scan(tree.proc(), options(*allowed, **more))


def only(tree: Tree, *allowed: dict[str, Any], **more: Any) -> Finding:
    result = scan(tree, *allowed, **more)
    assert result.blind == []
    assert len(result.findings) == 1, result.findings
    return result.findings[0]


def test_the_defaults_are_allowed_without_looking_for_their_owners(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    for inode, (protocol, port, _reason) in enumerate(DEFAULTS, start=1):
        tree.socket(protocol, ("0.0.0.0", port), inode)
        tree.socket(f"{protocol}6", ("::", port), inode + 100)
    monkeypatch.setattr(Proc, "owners", None)
    assert scan(tree) == Scan([], [])


def test_without_the_defaults_all_are_told(tree: Tree) -> None:
    for inode, (protocol, port, _reason) in enumerate(DEFAULTS, start=1):
        tree.socket(protocol, ("0.0.0.0", port), inode)
    assert len(scan(tree, defaults=False).findings) == len(DEFAULTS)


def test_a_port_of_another_protocol_is_another_port(tree: Tree) -> None:
    tree.socket("udp", ("0.0.0.0", 22), 1)
    assert only(tree).subject == "udp 0.0.0.0:22 an unknown program"


@pytest.mark.parametrize(
    ("table", "address", "shown"),
    [("tcp", "0.0.0.0", "0.0.0.0:4444"), ("tcp6", "::", "[::]:4444"), ("tcp6", "2001:db8::1", "[2001:db8::1]:4444")],
)
def test_a_listener_with_its_owner(tree: Tree, table: str, address: str, shown: str) -> None:
    tree.process(60, "nc", NC, ["nc", "-l", "4444"], uid=33, sockets=[500])
    tree.socket(table, (address, 4444), 500, uid=33)
    finding = only(tree)
    assert (finding.rule, finding.severity) == ("listener.unexpected", "high")
    assert finding.subject == f"tcp {shown} {NC}"
    assert finding.key == ("tcp", address, "4444", NC, "33")
    evidence = finding.evidence
    assert (evidence["pid"], evidence["user"], evidence["command"]) == (60, "www", "nc -l 4444")


@pytest.mark.parametrize(("table", "address"), [("tcp", "127.0.0.53"), ("tcp6", "::1"), ("tcp6", "::ffff:127.0.0.1")])
def test_on_loopback_it_matters_less(tree: Tree, table: str, address: str) -> None:
    tree.socket(table, (address, 4444), 500)
    assert (only(tree).rule, only(tree).severity) == ("listener.unexpected_loopback", "low")


def test_workers_that_share_a_socket_are_one_finding(tree: Tree) -> None:
    for pid in (60, 61):
        tree.process(pid, "nc", NC, sockets=[500])
    tree.socket("tcp", ("0.0.0.0", 4444), 500)
    first = only(tree)
    assert first.evidence["pid"] == 60
    for pid, inode in ((62, 501), (63, 502)):
        tree.process(pid, "nc", NC, sockets=[inode])
        tree.socket("tcp", ("0.0.0.0", 4444), inode)
    assert only(tree).fingerprint == first.fingerprint


@pytest.mark.parametrize(
    ("entry", "allowed"),
    [
        ({"port": 4444}, True),
        ({"port": "4444"}, True),
        ({"port": "4000-5000"}, True),
        ({"port": "4445-5000"}, False),
        ({"protocol": "tcp"}, True),
        ({"protocol": "udp", "port": 4444}, False),
        ({"address": "10.0.0.1"}, True),
        ({"address": "10.0.0.0/8"}, True),
        ({"address": "10.0.0.9/8"}, True),
        ({"address": "10.0.0.2"}, False),
        ({"address": "0.0.0.0/0"}, True),
        ({"address": "::/0"}, False),
        ({"address": "loopback"}, False),
        ({"user": "www"}, True),
        ({"user": 33}, True),
        ({"user": "33"}, True),
        ({"user": "root"}, False),
        ({"program": NC}, True),
        ({"program": "/usr/bin/*"}, True),
        ({"program": "nc"}, False),
        ({"port": 4444, "user": "root"}, False),
        ({"port": 4444, "program": NC, "user": "www", "protocol": "tcp", "address": "10.0.0.1"}, True),
        ({"port": 4444, "program": "/usr/sbin/sshd"}, False),
    ],
)
def test_an_entry_allows_what_fits_all_of_it(tree: Tree, entry: dict[str, Any], allowed: bool) -> None:
    tree.process(60, "nc", NC, uid=33, sockets=[500])
    tree.socket("tcp", ("10.0.0.1", 4444), 500, uid=33)
    assert bool(scan(tree, entry).findings) != allowed


def test_loopback_may_be_allowed_as_such(tree: Tree) -> None:
    tree.socket("tcp", ("127.0.0.1", 4444), 500)
    tree.socket("tcp6", ("::1", 4444), 501)
    tree.socket("tcp6", ("::", 4445), 502)
    assert only(tree, {"address": "loopback"}).evidence["port"] == 4445


def test_a_user_is_who_opened_it_or_who_has_it_now(tree: Tree) -> None:
    tree.process(60, "named", "/usr/sbin/named", uid=33, sockets=[500])
    tree.socket("tcp", ("0.0.0.0", 53), 500, uid=0)
    assert scan(tree, {"user": "www"}).findings == scan(tree, {"user": "root"}).findings == []


@pytest.mark.parametrize("more", [{"cgroup": f"/docker/{ID}"}, {"user": 2}])
def test_a_program_of_another_file_system_is_another_program(tree: Tree, more: dict[str, Any]) -> None:
    tree.process(60, "nginx", "/usr/sbin/nginx", sockets=[500], **more)
    tree.socket("tcp", ("0.0.0.0", 4444), 500)
    assert only(tree, {"program": "/usr/sbin/*"}).evidence["program"].endswith(": /usr/sbin/nginx")
    assert scan(tree, {"program": "*: /usr/sbin/nginx"}).findings == []


def test_an_updated_program_is_still_the_same(tree: Tree) -> None:
    tree.process(60, "nginx", "/usr/sbin/nginx (deleted)", sockets=[500])
    tree.socket("tcp", ("0.0.0.0", 4444), 500)
    assert scan(tree, {"program": "/usr/sbin/nginx"}).findings == []


def test_udp_ports_that_the_kernel_gives_to_clients(tree: Tree) -> None:
    tree.socket("udp", ("0.0.0.0", 41000), 500)
    tree.socket("udp6", ("::", 20000), 501)
    assert only(tree).evidence["port"] == 20000
    assert len(scan(tree, udp_ephemeral=True).findings) == 2
    path = tree.root / "sys" / "net" / "ipv4" / "ip_local_port_range"
    path.parent.mkdir(parents=True)
    path.write_text("15000\t25000\n")
    assert only(tree).evidence["port"] == 41000
    path.write_text("")
    assert only(tree).evidence["port"] == 20000


def test_an_expired_entry_allows_nothing(tree: Tree) -> None:
    tree.socket("tcp", ("0.0.0.0", 4444), 500)
    findings = scan(tree, {"port": 4444, "expires": "2026-06-30"}).findings
    assert [one.rule for one in findings] == ["allowlist.expired", "listener.unexpected"]


def test_not_to_have_looked_is_said(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree.root / "net" / "udp").unlink()
    tree.socket("tcp", ("0.0.0.0", 4444), 500)
    monkeypatch.setattr(Proc, "owners", lambda *_arguments: Owners({}, True, True))
    result = scan(tree)
    assert result.findings[0].subject == "tcp 0.0.0.0:4444 an unknown program"
    assert [text.partition(" ")[0].rpartition("/")[2] for text in result.blind] == ["udp", "Some", "So"]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({}, "would allow everything"),
        ({"port": 70000}, "port"),
        ({"port": 0}, "above 0"),
        ({"port": "9-8"}, "port"),
        ({"port": "http"}, "port"),
        ({"port": "1-2-3"}, "port"),
        ({"port": True}, "port"),
        ({"port": "٣"}, "port"),
        ({"protocol": "sctp"}, "protocol"),
        ({"address": "localhost"}, "address"),
        ({"address": "10.0.0.0/99"}, "address"),
        ({"program": 3}, "program"),
        ({"surprise": 3}, "surprise"),
        ({"port": 22, "reason": ""}, "reason"),
    ],
)
def test_a_wrong_entry_is_named(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(DetectionError, match=message):
        options(entry)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_real_a_listener_of_this_process(family: int) -> None:
    host = "127.0.0.1" if family == socket.AF_INET else "::1"
    try:
        server = socket.create_server((host, 0), family=family)
    except OSError as error:
        pytest.skip(f"no such network here: {error}")
    with server:
        port = server.getsockname()[1]
        mine = [one for one in listeners.scan(Proc(), options()).findings if one.evidence.get("port") == port]
        assert [one.evidence["pid"] for one in mine] == [os.getpid()]
        assert (mine[0].rule, mine[0].evidence["address"]) == ("listener.unexpected_loopback", host)
        allowed = listeners.scan(Proc(), options({"port": port, "address": "loopback"})).findings
        assert [one for one in allowed if one.evidence.get("port") == port] == []


def test_real_a_udp_socket_of_this_process() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        seen = listeners.scan(Proc(), options(udp_ephemeral=True)).findings
        assert [one.evidence["protocol"] for one in seen if one.evidence.get("port") == port] == ["udp"]
