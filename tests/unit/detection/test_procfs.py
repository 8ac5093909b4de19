# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is read from /proc: processes, containers, socket tables, owners, command lines."""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
import threading
from pathlib import Path

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.detection import commands, sockets
from ansible_collections.custodes.security_dr.plugins.module_utils.detection.procfs import Proc, container_of
from hypothesis import given
from hypothesis import strategies as st
from unit.detection.proc_tree import ID, KERNEL_THREAD, Tree, hexadecimal


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "proc")


def test_processes_come_in_ascending_order(tree: Tree) -> None:
    tree.process(7, "a", None)
    tree.process(100, "b", None)
    assert tree.proc().pids() == ["1", "7", "50", "100"]


def test_a_name_that_looks_like_stat_itself_shifts_no_field(tree: Tree) -> None:
    tree.process(9, ") S 1 1 (\n", None, ppid=77, flags=KERNEL_THREAD)
    assert tree.proc().stat("9")[1] == b"77"
    assert tree.proc().kernel_thread("9")


def test_the_ancestry_ends_where_a_parent_is_gone_or_comes_again(tree: Tree) -> None:
    assert tree.proc().ancestry() == {"50", "1"}
    (tree.root / "1" / "stat").write_text("1 (x) S 50 1 1 0 -1 0\n")
    assert tree.proc().ancestry() == {"50", "1"}
    (tree.root / "1" / "stat").unlink()
    assert tree.proc().ancestry() == {"50", "1"}
    (tree.root / "self").unlink()
    assert tree.proc().ancestry() == frozenset()


def test_what_is_told_about_a_process(tree: Tree) -> None:
    tree.process(8, "nginx", "/usr/sbin/nginx", ["nginx", "-g", "daemon off;"], ppid=1, uid=33)
    assert tree.proc().describe("8") == {
        "ppid": 1,
        "started": "2023-11-14T22:13:25Z",
        "name": "nginx",
        "command": "nginx -g daemon off;",
        "user": "www",
    }
    assert tree.proc().describe("99999") == {}


def test_a_user_without_a_name_is_a_number(tree: Tree) -> None:
    assert [tree.proc().user(uid) for uid in (0, 33, 4711)] == ["root", "www", "4711"]
    (tree.root / "users").unlink()
    assert tree.proc().user(0) == "0"


def test_in_a_container_the_host_names_no_user(tree: Tree) -> None:
    tree.process(8, "x", "/x", ["x"], uid=33, cgroup=f"/system.slice/docker-{ID}.scope", inside=5)
    told = tree.proc().describe("8")
    assert (told["user"], told["container"], told["pid_in_container"]) == ("33", "docker 0123456789ab", 5)
    assert tree.proc().place("8") == "container"


def test_a_container_is_none_to_who_is_in_it(tree: Tree) -> None:
    cgroup = f"/system.slice/docker-{ID}.scope"
    (tree.root / "50" / "cgroup").write_text(f"0::{cgroup}\n")
    tree.process(8, "x", "/x", ["x"], cgroup=cgroup)
    assert tree.proc().place("8") == ""


def test_a_user_namespace_has_paths_of_its_own(tree: Tree) -> None:
    tree.process(8, "x", "/x", ["x"], user=2)
    assert tree.proc().place("8") == "user namespace"


@pytest.mark.parametrize(
    ("cgroup", "container"),
    [
        (f"0::/system.slice/docker-{ID}.scope", "docker 0123456789ab"),
        (f"12:cpu:/docker/{ID}\n1:name=systemd:/docker/{ID}", "docker 0123456789ab"),
        (f"0::/machine.slice/libpod-{ID}.scope/container", "libpod 0123456789ab"),
        (f"0::/machine.slice/libpod-payload-{ID}", "libpod-payload 0123456789ab"),
        (f"0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope", "libpod 0123456789ab"),
        (
            f"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1a_2b.slice/cri-containerd-{ID}.scope",
            "cri-containerd 0123456789ab",
        ),
        (f"0::/kubepods/besteffort/pod1a-2b/{ID}", "kubepods 0123456789ab"),
        (f"0::/kubepods.slice/kubepods-pod1.slice/crio-{ID}.scope", "crio 0123456789ab"),
        (f"0::/system.slice/containerd.service/default/{ID}", "container 0123456789ab"),
        ("0::/lxc.payload.web1/system.slice/nginx.service", "lxc web1"),
        ("5:devices:/lxc/web1", "lxc web1"),
        ("0::/machine.slice/systemd-nspawn@deb.service/payload", "machine deb"),
        ("0::/machine.slice/machine-deb.scope", "machine deb"),
        (r"0::/machine.slice/machine-qemu\x2d1\x2dvm.scope", ""),
        (f"0::/machine.slice/libpod-conmon-{ID}.scope", ""),
        (f"0::/system.slice/crio-conmon-{ID}.scope", ""),
        ("0::/system.slice/sshd.service", ""),
        ("0::/", ""),
        ("", ""),
        ("nonsense", ""),
    ],
)
def test_containers_by_their_control_groups(cgroup: str, container: str) -> None:
    assert container_of(cgroup) == container


def test_a_process_whose_first_thread_has_ended_still_has_a_program(tree: Tree) -> None:
    tree.process(9, "x", None)
    assert tree.proc().live_thread("9") is None
    for thread in (9, 10, 11):
        tree.process(f"9/task/{thread}", "x", "/opt/x" if thread == 11 else None)
    assert tree.proc().live_thread("9") == "9/task/11"


def test_a_file_may_really_be_named_deleted(tree: Tree, tmp_path: Path) -> None:
    program = tmp_path / "x (deleted)"
    program.write_text("")
    tree.process(9, "x", str(program))
    (tree.root / "9" / "root").symlink_to("/")
    assert tree.proc().really_named_so("9", str(program))
    program.unlink()
    assert not tree.proc().really_named_so("9", str(program))


def test_owners_of_sockets(tree: Tree) -> None:
    tree.process(8, "x", "/x", sockets=[100, 101])
    tree.process(9, "x", "/x", sockets=[101, 102])
    owners = tree.proc().owners([0, 101, 102, 999])
    assert owners == ({101: "8", 102: "9"}, False, False)


def test_a_socket_without_an_inode_has_no_owner_to_look_for(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Proc, "pids", None)
    assert tree.proc().owners([0]) == ({}, False, False)


def test_the_search_for_owners_has_an_end(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.process(8, "x", "/x", sockets=range(100, 120))
    monkeypatch.setattr("ansible_collections.custodes.security_dr.plugins.module_utils.detection.procfs.LINKS_MOST", 5)
    tree.process(9, "x", "/x", sockets=[130])
    owners = tree.proc().owners([104, 119, 130])
    assert owners.cut
    assert len(owners.found) < 2
    assert 130 not in owners.found


def test_listeners_of_all_tables(tree: Tree) -> None:
    tree.socket("tcp", ("127.0.0.1", 8125), 1)
    tree.socket("tcp", ("10.0.0.1", 40000), 2, peer=("10.0.0.2", 443))
    tree.socket("tcp6", ("::", 22), 3, uid=33)
    tree.socket("tcp6", ("::ffff:127.0.0.1", 9), 4)
    tree.socket("udp", ("0.0.0.0", 53), 5)
    tree.socket("udp", ("10.0.0.1", 5000), 6, peer=("10.0.0.2", 53))
    tree.socket("udp6", ("fe80::1", 546), 7)
    found, problems = tree.proc().listening()
    assert problems == []
    assert [(one.protocol, sockets.with_port(one.address, one.port), one.uid, one.inode) for one in found] == [
        ("tcp", "127.0.0.1:8125", 0, 1),
        ("tcp", "[::]:22", 33, 3),
        ("tcp", "127.0.0.1:9", 0, 4),
        ("udp", "0.0.0.0:53", 0, 5),
        ("udp", "[fe80::1]:546", 0, 7),
    ]
    assert [one.loopback for one in found] == [True, False, True, False, False]


def test_a_long_table_is_read_in_pieces(tree: Tree) -> None:
    tree.socket("tcp", ("0.0.0.0", 1000), 1000)
    table = tree.root / "net" / "tcp"
    header, line = table.read_text().splitlines(keepends=True)
    lines = (line.replace(":03E8", f":{port:04X}").replace(" 1000 1 ", f" {port} 1 ") for port in range(1000, 4000))
    table.write_text(header + "".join(lines))
    found, _problems = tree.proc().listening()
    assert [one.port for one in found] == list(range(1000, 4000))


def test_without_ports_nothing_is_read_after_the_listeners() -> None:
    lines = [
        f" 0: {hexadecimal('10.0.0.1', 99)} {hexadecimal('0.0.0.0', 0)} {state} 0:0 0:0 0 0 0 {number}\n".encode()
        for number, state in enumerate(("0A", "01", "0A"))
    ]
    found, connections = sockets.tcp([b"  sl  local_address rem_address   st tx_queue\n", *lines], frozenset())
    assert [one.inode for one in found] == [0]
    assert connections == []


def test_connections_go_from_here_to_a_port(tree: Tree) -> None:
    tree.socket("tcp", ("0.0.0.0", 8080), 1)
    tree.socket("tcp", ("10.0.0.1", 8080), 2, peer=("203.0.113.9", 3333))  # a client of ours, at a port of its own
    tree.socket("tcp", ("10.0.0.1", 41000), 3, peer=("203.0.113.9", 3333))
    tree.socket("tcp", ("10.0.0.1", 41001), 4, peer=("203.0.113.9", 3333), state="02")
    tree.socket("tcp", ("10.0.0.1", 41002), 5, peer=("203.0.113.9", 3333), state="06")
    tree.socket("tcp", ("10.0.0.1", 41003), 6, peer=("203.0.113.9", 443))
    tree.socket("tcp", ("10.0.0.1", 3333), 7, peer=("203.0.113.9", 443))
    tree.socket("tcp6", ("::1", 41004), 8, peer=("2001:db8::1", 3333))
    tree.socket("tcp6", ("::ffff:10.0.0.1", 41005), 9, peer=("::ffff:198.51.100.1", 3333))
    proc = tree.proc()
    found, problems = proc.connections(frozenset((3333,)))
    assert ([one.inode for one in found], problems) == ([3, 4, 8, 9], [])
    assert sockets.text_of(found[3].peer) == "198.51.100.1"
    (tree.root / "net" / "tcp").unlink()
    assert [one.port for one in proc.listening()[0]] == [8080], "the same scan reads a table once"


def test_a_table_that_is_not_there_or_not_known(tree: Tree) -> None:
    (tree.root / "net" / "tcp6").unlink()
    (tree.root / "net" / "udp6").unlink()
    assert tree.proc().listening() == ([], []), "a kernel without IPv6"
    (tree.root / "net" / "tcp").unlink()
    (tree.root / "net" / "udp").write_text("x\n 0: zz:0035 00000000:0000 07 0 0 0 0 0 1 1\n")
    found, problems = tree.proc().listening()
    assert found == []
    assert ["No such file" in problems[0], "known format" in problems[1]] == [True, True]


def test_a_table_that_the_kernel_counts_as_empty_is_not_read(tree: Tree) -> None:
    tree.socket("tcp", ("0.0.0.0", 22), 1)
    tree.socket("tcp6", ("::", 22), 2)
    (tree.root / "net" / "sockstat").write_text("sockets: used 9\nTCP: inuse 0 orphan 0\nUDP: inuse 0 mem 0\n")
    (tree.root / "net" / "sockstat6").write_text("TCP6: inuse 05\nUDP6: inuse 10\n")
    assert [one.inode for one in tree.proc().listening()[0]] == [2]


def test_the_order_of_the_machine_decides_how_an_address_is_printed() -> None:
    assert sockets.packed(b"0100007F", little=True) == bytes((127, 0, 0, 1))
    assert sockets.packed(b"7F000001", little=False) == bytes((127, 0, 0, 1))
    assert (
        sockets.packed(b"B80D0120000000000000000001000000", little=True) == ipaddress.ip_address("2001:db8::1").packed
    )
    assert sockets.packed(b"0000000000000000FFFF00000100007F", little=True) == bytes((127, 0, 0, 1))


@given(st.ip_addresses())
def test_every_address_comes_back(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    raw = sockets.packed(hexadecimal(str(address), 1).partition(":")[0].encode())
    plain = getattr(address, "ipv4_mapped", None) or address
    assert sockets.text_of(raw) == str(plain)
    assert sockets.is_loopback(raw) == plain.is_loopback


@given(st.lists(st.binary(max_size=200).map(lambda line: line.replace(b"\n", b""))))
def test_no_table_does_worse_than_being_refused(lines: list[bytes]) -> None:
    chunk = b"".join(line + b"\n" for line in [*lines, b" 0: zz:0 zz:0000 0A zz"])
    try:
        found, connections = sockets.tcp([chunk], frozenset((3333,)))
    except ValueError:
        return
    assert all(len(one.address) in (4, 16) for one in (*found, *connections))


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        (b"mysql\0-psesame\0db\0", "mysql -p*** db"),
        (b"mysql\0--password=sesame\0", "mysql --password=***"),
        (b"x\0--password\0se same\0y\0", "x --password *** y"),
        (b"x\0-p\0sesame\0", "x -p ***"),
        (b"mkdir\0-p\0/tmp/.x\0", "mkdir -p /tmp/.x"),
        (b"phoenix\0-pool\0eu.x:4444\0-pass\0sesame\0", "phoenix -pool eu.x:4444 -pass ***"),
        (b"curl\0-u\0ada:sesame\0x\0", "curl -u ada:*** x"),
        (b"sh\0-c\0curl -u ada:sesame x", "sh -c curl -u ada:*** x"),
        (b"docker\0run\0-u\x001000:1000\0", "docker run -u 1000:1000"),
        (b"x\0--db-pass=sesame\0DB_PASS=sesame\0", "x --db-pass=*** DB_PASS=***"),
        (b"redis-server\0--requirepass\0sesame\0", "redis-server --requirepass ***"),
        (b"curl\0https://u:sesame@h/p\0", "curl https://u:***@h/p"),
        (b"git\0clone\0https://ghp_sesame@github.com/x\0", "git clone https://***@github.com/x"),
        (b"x\0stratum+tcp://WALLET.rig:sesame@pool:3333\0", "x stratum+tcp://WALLET.rig:***@pool:3333"),
        (b"x\0stratum+tcp://WALLET.rig@pool:3333\0", "x stratum+tcp://WALLET.rig@pool:3333"),
        (b"java\0-Dspring.password=sesame\0-Xmx1g\0", "java -Dspring.password=*** -Xmx1g"),
        (b"curl\0-H\0Authorization: Bearer sesame\0", "curl -H Authorization: ***"),
        (b"curl\0-H\0X-Vault-Token: sesame\0", "curl -H X-Vault-Token: ***"),
        (
            b"sh\0-c\0mysql --password sesame -psesame db; API_KEY=sesame x",
            "sh -c mysql --password *** -p*** db; API_KEY=*** x",
        ),
        (b'x\0{"token": "sesame"}\0', 'x {"token": ***"}'),
        (b"x\0--auth\0sesame\0--vault-token-file\0/run/token\0", "x --auth *** --vault-token-file /run/token"),
        (b"x\0https://h/p?token=sesame&x=1\0", "x https://h/p?token=***&x=1"),
        (b"", ""),
    ],
)
def test_passwords_in_command_lines_are_not_shown(command: bytes, shown: str) -> None:
    assert commands.shown(command) == shown


def test_a_long_command_line_is_shown_in_part() -> None:
    assert commands.shown(b"a" * 5000).endswith("…(904 more bytes)")


@pytest.mark.parametrize(
    "piece", [b"passw", b"--password ", b"a.a:", b"x://", b"-p", b"token=", b"\0", b"\xff", b"https://"]
)
def test_no_command_line_takes_long_to_show(piece: bytes) -> None:
    # Quadratic, not cubic, in 4 KiB at worst: this would not end in minutes if a pattern went wrong.
    assert commands.shown(piece * (100_000 // len(piece)))


@given(st.lists(st.binary(max_size=30).map(lambda text: text.replace(b"\0", b"")), min_size=2, max_size=8))
def test_arguments_come_apart_as_they_were_put_together(given_ones: list[bytes]) -> None:
    command = b"".join(one + b"\0" for one in given_ones)
    while given_ones and not given_ones[-1]:
        given_ones.pop()
    if len(given_ones) > 1:
        assert [os.fsencode(one) for one in commands.arguments(command)] == given_ones


def test_the_real_proc_knows_this_process() -> None:
    proc, me = Proc(), str(os.getpid())
    told = proc.describe(me)
    assert me in proc.pids()
    assert {me, str(os.getppid())} <= proc.ancestry()
    assert told["ppid"] == os.getppid()
    assert proc.uid(me) == os.geteuid()
    assert Path(proc.link(f"{me}/exe")).name.startswith("python")
    assert proc.command(me).split(b"\0")[1:] == [*map(os.fsencode, sys.orig_argv[1:]), b""]


@pytest.mark.skipif(not Path("/proc/2/stat").exists(), reason="this machine shows no kernel threads")
def test_a_real_kernel_thread_has_the_flag() -> None:
    assert [Proc().kernel_thread(pid) for pid in ("2", str(os.getpid()))] == [True, False]


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_the_real_tables_show_a_listener_and_a_connection(family: int) -> None:
    host = "127.0.0.1" if family == socket.AF_INET else "::1"
    try:
        server = socket.create_server((host, 0), family=family)
    except OSError as error:
        pytest.skip(f"no such network here: {error}")
    with server, socket.create_connection(server.getsockname()[:2]) as client:
        port, inode = server.getsockname()[1], os.fstat(server.fileno()).st_ino
        proc = Proc()
        connections, _problems = proc.connections(frozenset((port,)))
        assert [one.inode for one in connections] == [os.fstat(client.fileno()).st_ino]
        listener = next(one for one in proc.listening()[0] if one.inode == inode)
        assert (listener.port, listener.loopback, listener.uid) == (port, True, os.geteuid())
        assert listener in Proc().listening()[0], "also when only listeners are asked for"
        assert proc.owners([inode]).found == {inode: str(os.getpid())}
        assert proc.established("net")


def test_a_process_may_end_at_any_moment() -> None:
    # Threads of this process come and go while it is looked at.
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            threading.Thread(target=int).start()

    worker = threading.Thread(target=churn)
    worker.start()
    try:
        for _round in range(20):
            Proc().live_thread(str(os.getpid()))
    finally:
        stop.set()
        worker.join()
