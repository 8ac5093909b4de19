# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What gives a miner away, and what does not."""

from __future__ import annotations

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.detection.miners import (
    NAMES,
    POOLS,
    Arguments,
    Names,
)
from hypothesis import given
from hypothesis import strategies as st

XMR = "4" + "A" * 94
ETH = "0x" + "ab" * 20
names = Names(NAMES)
arguments = Arguments(POOLS)


@pytest.mark.parametrize(
    ("name", "miner"),
    [
        ("xmrig", "xmrig"),
        ("XMRig", "xmrig"),
        ("xmrig-6.21.0", "xmrig"),
        ("xmrig64", "xmrig"),
        ("my_xmrig", "xmrig"),
        ("xmrig (deleted)", "xmrig"),
        ("memfd:xmrig (deleted)", "xmrig"),
        (".xmrig", "xmrig"),
        ("t-rex", "t-rex"),
        ("kdevtmpfsi", "kdevtmpfsi"),
        ("kthreaddi", "kthreaddi"),
        ("cpuminer-avx2", "cpuminer"),
        ("lolMiner", "lolminer"),
        ("kdevtmpfs", None),
        ("kthreadd", None),
        ("minerdata", None),
        ("logminer", None),
        ("st-rex", None),
        ("t-rexonium", None),
        ("examiner", None),
        ("bash", None),
        ("", None),
    ],
)
def test_names(name: str, miner: str | None) -> None:
    assert names.match(name) == miner
    assert names.match(name) == miner, "remembered"


def test_the_kernel_cuts_a_name() -> None:
    own = Names(["Our-Very-Secret-Miner"])
    assert own.match("our-very-secret-miner") == "our-very-secret-miner"
    assert own.match("our-very-secret") == "our-very-secret"
    assert own.match("our-very-secrets") is None
    assert Names([]).match("xmrig") is None


@pytest.mark.parametrize(
    "command",
    [
        ["x", "-o", "stratum+tcp://203.0.113.5:443", "-u", "x"],
        ["x", "--url=Stratum+SSL://pool.example:443"],
        ["x", "-ostratum2+tcp://pool.example:443"],
        ["x", "stratum://[2001:db8::1]:443"],
        ["x", "-o", "daemon+http://node.example:18081"],
        ["x", "--donate-level", "1"],
        ["x", "--donate-level=0"],
        ["x", "--randomx-1gb-pages"],
        ["x", "--nicehash"],
        ["x", "-a", "rx/0"],
        ["x", "-arx/0"],
        ["x", "--algo=cn/upx2"],
        ["x", "--algo", "CryptoNight"],
        ["x", "-a", "kawpow"],
        ["x", "-o", "pool.example.org:3333"],
        ["x", "--pool", "eu.pool.example.org:443"],
        ["x", "-o", "xmr-eu1.nanopool.org:10343"],
        ["x", "--server", "eth.2miners.com", "--port", "2020"],
        ["x", "-pool", "ssl://eth-eu.f2pool.com:6688"],
        ["x", "-o", "gulf.moneroocean.stream"],
        ["x", "-u", XMR],
        ["x", "-u", f"{XMR}.rig1"],
        ["x", "-u", ETH, "-o", "10.0.0.1:443"],
        ["x", "--coin", "monero", "-o", "10.0.0.1:443"],
        ["x", "--coin=xmr", "--url=10.0.0.1:443"],
        ["x -o stratum+tcp://pool.example:443 -u y"],
        ["x" * 70_000, "--donate-level", "1"],
        ["x", "-o", "stratum+tcp://pool.example:443/" + "y" * 100_000],
        ["x", b"\xff\xfe", "--donate-level"],
    ],
)
def test_arguments_of_miners(command: list[str | bytes]) -> None:
    assert arguments.match(_line(command))


@pytest.mark.parametrize(
    "command",
    [
        ["grep", "-r", "stratum", "/etc"],
        ["grep", "stratum+tcp://", "/var/log/x"],
        ["rg", "stratum\\+tcp://.*"],
        ["vim", "stratum+tcp.txt"],
        ["less", "/srv/pools/stratum+tcp:/x"],
        ["bash", "-c", "echo stratum+tcp://pool.example:3333 is bad"],
        ["chronyd", "-o", "pool.ntp.org:123"],
        ["ntpdate", "0.pool.ntp.org"],
        ["php-fpm: pool www"],
        ["gcc", "-a", "-o", "pool.o", "pool.c"],
        ["ssh", "-o", "StrictHostKeyChecking=no", "-a", "host"],
        ["curl", "https://supportxmr.com/"],
        ["curl", "-o", "page.html", "https://nanopool.org"],
        ["ping", "pool.supportxmr.com"],
        ["conmon", "-u", "4" + "0123456789abcdef" * 4, "-c", "x"],
        ["python3", "-u", "/srv/app.py", "-o", "0.0.0.0:8080"],
        ["web3d", "--wallet", ETH],
        ["zpool", "status"],
        ["java", "-cp", "a.jar:b.jar", "--algorithm", "SHA-256", "-Dpool.size=10"],
        ["docker", "run", "--cpu-shares", "3", "x"],
        ["psql", "-U", "u", "-h", "db.pool.internal:5432"],
        ["curl", "--url", "http://localhost:8080", "--user", "x:y"],
        ["notsupportxmr.com:3333"],
        [],
        [""],
    ],
)
def test_arguments_of_others(command: list[str | bytes]) -> None:
    assert arguments.match(_line(command)) is None


def test_pools_of_ones_own() -> None:
    own = Arguments(["Hidden.Example.", "xmrproxy"])
    assert own.match(_line(["x", "a.hidden.example:443"]))
    assert own.match(_line(["x", "-o", "hidden.example"]))
    assert own.match(_line(["x", "-o", "xmrproxy:443"]))
    assert own.match(_line(["x", "wss://hidden.example/x"]))
    assert own.match(_line(["x", "-o", "xmr.nanopool.org:443"])) is None


def test_what_is_told_of_an_argument_holds_no_password() -> None:
    told = arguments.match(_line(["x", "-o", "stratum+tcp://wallet:sesame@pool.example:443"]))
    assert told == "-o stratum+tcp://wallet:***@pool.example:443"


@given(st.lists(st.one_of(st.binary(max_size=40), st.sampled_from([b"-o", b"-u", b"-a", b"--coin", b"a.pool.x:1"]))))
def test_any_command_line_can_be_looked_at(command: list[bytes]) -> None:
    arguments.match(b"\0".join(command))


@given(st.lists(st.text("abc/-= ", max_size=12).map(str.encode), max_size=8), st.integers(0, 8))
def test_a_sign_is_found_wherever_it_stands(command: list[bytes], at: int) -> None:
    command.insert(at, b"stratum+tcp://pool.example:3333")
    assert arguments.match(b"x\0" + b"\0".join(command) + b"\0")


def _line(command: list[str | bytes]) -> bytes:
    return b"".join((one if isinstance(one, bytes) else one.encode()) + b"\0" for one in command)
