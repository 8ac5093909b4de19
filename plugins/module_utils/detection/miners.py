# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What gives a cryptocurrency miner away: its name, its arguments, the ports and names of its pools.

From the miners' own documentation (xmrig, cpuminer, ccminer, T-Rex, NBMiner, lolMiner, PhoenixMiner, TeamRedMiner,
SRBMiner), from pools' help pages, and from public reports on Kinsing, H2Miner, TeamTNT, WatchDog, Sysrv, 8220, Perfctl.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from typing import Optional

from . import commands

# fmt: off
NAMES = (
    # Miners.
    "xmrig", "xmrigcc", "xmrigd", "xmrigdaemon", "xmrigminer", "xmr-stak", "xmrstak", "xmr-stak-cpu", "minerd",
    "cpuminer", "ccminer", "ethminer", "t-rex", "nbminer", "lolminer", "phoenixminer", "gminer", "teamredminer",
    "nanominer", "srbminer", "cgminer", "bfgminer", "sgminer", "bminer", "bzminer", "wildrig", "onezerominer",
    "kawpowminer", "progpowminer", "nsfminer", "serpentminer", "nheqminer", "hellminer", "cryptodredge", "z-enemy",
    "claymore", "ethdcrminer64", "cnrig", "minergate", "minerstat", "rainbowminer", "multiminer", "cudaminer",
    "astrominer", "dero-miner", "tnn-miner", "moneroocean", "xmr-node-proxy",
    # What intruders call theirs.
    "kinsing", "kdevtmpfsi", "kthreaddi", "kthreaddk", "kworkerds", "ksoftirqds", "khugepageds", "kerberods",
    "watchbog", "ddgs", "qw3xt", "pwnrig", "sysrv", "dbused", "perfctl", "perfcc", "zzh", "xmrig_setup",
    "c3pool_miner", "moneroocean_miner", "cryptonight",
)
"""Of programs, in lower case."""
# fmt: on

PORTS = frozenset((3333, 4444, 5555, 7777, 10128, 10300, 10343, 13333, 14433, 14444, 15555, 23333, 45560, 45700))
"""TCP ports of pools that are seldom anything else."""

# fmt: off
POOLS = (
    "minexmr.com", "supportxmr.com", "nanopool.org", "moneroocean.stream", "hashvault.pro", "2miners.com",
    "f2pool.com", "ethermine.org", "nicehash.com", "unmineable.com", "c3pool.com", "c3pool.org", "herominers.com",
    "flexpool.io", "hiveon.net", "hiveon.com", "minergate.com", "xmrpool.eu", "monerohash.com", "dwarfpool.com",
    "antpool.com", "viabtc.com", "poolin.com", "woolypooly.com", "zergpool.com", "miningpoolhub.com",
    "prohashing.com", "kryptex.network", "k1pool.com", "rplant.xyz", "xmrfast.com", "skypool.org", "crypto-pool.fr",
    "monerop.com", "pool-pay.com", "moneropool.com", "xmr.pt", "zpool.ca", "ravenminer.com",
)
"""Domains of pools."""
# fmt: on

# Compiled when they are first needed, which on most hosts is never.
_ALGORITHMS = (
    r"(?:rx/\w+|random(?:x|wow|arq|sfx|keva|epic|xl|yada)\w*|cn(?:-\w+)?/[\w-]+|cryptonight[\w/-]*|ghostrider|argon2/"
    r"(?:chukwa\w*|ninja|wrkz)|astrobwt\w*|ethash|etchash|kawpow|progpow\w*|firopow|autolykos2?|kheavyhash|verushash|"
    r"equihash[\w/]*|beamhash\w*|cuck(?:oo|aroo|atoo)\w*|lyra2\w+|x1[1-9][a-z]*|x2[125][a-z]*|yescryptr\d+|"
    r"yespower\w*|neoscrypt\w*|nexapow|karlsenhash\w*|pyrinhash\w*|verthash|ubqhash|zelhash|heavyhash)"
)
# fmt: off
_FLAGS = frozenset((
    "--donate-level", "--donate-over-proxy", "--nicehash", "--rig-id", "--randomx-init", "--randomx-mode",
    "--randomx-1gb-pages", "--randomx-wrmsr", "--randomx-no-rdmsr", "--randomx-no-numa", "--randomx-cache-qos",
    "--cpu-max-threads-hint", "--cpu-no-yield", "--cpu-memory-pool", "--huge-pages-jit", "--argon2-impl",
    "--health-print-time", "--pause-on-battery", "--pause-on-active", "--self-select",
))
"""Options that only miners take."""
_ALGORITHM = frozenset(("-a", "--algo", "--algorithm"))
_SERVER = frozenset(("-o", "--url", "--pool", "--pools", "-pool", "-pool1", "--server", "--server1", "-s"))
_WALLET = frozenset(("-u", "--user", "--wallet", "-wal", "--wal", "-w"))
_COINS = frozenset((
    "xmr", "monero", "wow", "wownero", "zeph", "zephyr", "eth", "ethereum", "etc", "rvn", "ravencoin", "erg", "ergo",
    "kas", "kaspa", "arq", "arqma", "sal", "salvium",
))
# fmt: on
_URL = (
    r"(?:stratum\d?s?(?:\+[a-z0-9]+)*|ethproxy(?:\+\w+)?|ethstratum\w*(?:\+\w+)?|daemon\+https?)://[^\s/*]{0,300}[\w\]]"
)
_HOST = r"(?:([a-z][a-z0-9+]{0,20})://)?(?:[^\s@/]{1,300}@)?([a-z0-9][a-z0-9.-]{2,252})(?::(\d{1,5}))?(?:/\S{0,300})?"
_WEB = (None, "http", "https", "ssh", "git", "ftp")
_MONERO = r"[48][1-9A-HJ-NP-Za-km-z]{94}(?:[1-9A-HJ-NP-Za-km-z]{11})?(?:[.+/:].*)?"
_ADDRESS = r"(?:[a-z]{2,8}:)?(?:0x[0-9a-fA-F]{40}|bc1[0-9a-z]{25,60}|[13][1-9A-HJ-NP-Za-km-z]{25,34})(?:[.+/:].*)?"
# What holds none of these is no miner's command line. Both start with one plain byte, which makes them fast.
_WORTH_A_LOOK = re.compile(
    rb"-(?:-(?:donate-|nicehash|rig-id|randomx|cpu-|huge-pages-jit|argon2-impl|health-print|pause-on|self-select|coin|algo|"
    rb"server|url)|a(?:[\0 ]|rx/|cn/)|o[\0 ]|(?:u|-user|w|-wallet|-?wal)[\0= ]?(?:[a-z]{2,8}:)?[48013b][0-9a-z]{24})"
)
_NETWORK = re.compile(rb":(?://|[0-9]{2,5}(?:[\0/ ]|$))")
_SCHEMES = (b"stratum", b"ethproxy", b"daemon+http")


class Names:
    """Recognises names of programs."""

    def __init__(self, names: Iterable[str]) -> None:
        """Takes names in any case."""
        every = sorted({name.lower() for name in names if name}, key=len, reverse=True)
        # The kernel keeps 15 bytes of a process's name.
        parts = [re.escape(name) for name in every] + [f"{re.escape(name[:15])}$" for name in every if len(name) > 15]
        self._pattern = re.compile(rf"(?<![a-z0-9])(?:{'|'.join(parts)})(?![a-z])") if parts else None
        self._known: dict[str, Optional[str]] = {}

    def match(self, name: str) -> Optional[str]:
        """The miner whose name stands in it as a word of its own, which digits may follow."""
        if self._pattern is None or not name:
            return None
        if name in self._known:
            return self._known[name]
        match = self._pattern.search(name[:4096].lower())
        result = match.group() if match else None
        if len(self._known) < 4096 and len(name) < 128:
            self._known[name] = result
        return result


class Arguments:
    """Recognises what only miners are told."""

    def __init__(self, pools: Iterable[str]) -> None:
        """Takes domains, which stand for every name in them."""
        self._pools = frozenset(name.lower().strip(".") for name in pools if name.strip("."))
        self._signs = (*_SCHEMES, *map(os.fsencode, self._pools))

    def match(self, command: bytes) -> Optional[str]:
        """The arguments that give it away, or None. Passwords in them are shown as ``***``."""
        low = command.lower()
        if b"pool" in low or _WORTH_A_LOOK.search(low):
            return self._look(command)
        if _NETWORK.search(low):
            for sign in self._signs:
                if sign in low:
                    return self._look(command)
        return None

    def _look(self, command: bytes) -> Optional[str]:
        """One sign that is a miner's alone is enough, and two that others may share."""
        weak: dict[str, str] = {}
        for option, value, shown in _options(command):
            if self._certain(option, value):
                return commands.masked(shown)
            kind = _hint(option, value)
            if kind:
                weak.setdefault(kind, shown)
            if len(weak) > 1:
                return commands.masked(" ".join(weak.values()))
        return None

    def _certain(self, option: str, value: str) -> bool:
        if option in _FLAGS or (option in _WALLET and re.fullmatch(_MONERO, value)):
            return True
        low = value.lower()
        if option in _ALGORITHM and re.fullmatch(_ALGORITHMS, low):
            return True
        if "://" in low and re.match(_URL, low):
            return True
        return ("." in low or ":" in low) and self._pool(option, low)

    def _pool(self, option: str, value: str) -> bool:
        match = re.fullmatch(_HOST, value)
        if not match:
            return False
        scheme, host, port = match.groups()
        labels = host.split(".")
        if any(".".join(labels[at:]) in self._pools for at in range(min(len(labels), 9))):
            return port is not None or option in _SERVER or scheme not in _WEB
        return option in _SERVER and port is not None and "pool" in labels[:-2] and not host.endswith(".ntp.org")


def _options(command: bytes) -> Iterator[tuple[str, str, str]]:
    """Each option with its value, either of which may be "", and both as they stand there."""
    option = ""
    for whole in commands.arguments(command):
        argument = whole[:4096]
        if not argument.startswith("-"):
            yield option, argument, f"{option} {argument}" if option else argument
            option = ""
            continue
        name, equals, value = argument.partition("=")
        if not equals and argument[:2] in ("-a", "-o", "-u"):
            name, value = argument[:2], argument[2:]
        yield name, value, argument
        option = "" if equals or value else name


def _hint(option: str, value: str) -> str:
    if option == "--coin" and value.lower() in _COINS:
        return "coin"
    if option in _WALLET and re.fullmatch(_ADDRESS, value):
        return "wallet"
    if option in _SERVER and re.fullmatch(_HOST, value.lower()) and re.search(r":\d{1,5}$", value):
        return "server"
    return ""
