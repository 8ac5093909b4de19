# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Watches a Vault cluster as its users see it, while something is done to it.

    python -m lab.watch CA_FILE TOKEN_FILE SECRET STOP_FILE NODE...

It reads a secret through every node, round after round, until STOP_FILE is there, and then tells as JSON what it saw.
"""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import requests

_ROUND_SECONDS = 0.2
_LONGEST = 900.0


def _reads(session: requests.Session, node: str, secret: str) -> bool:
    """Whether a node gives the secret, itself or through its leader."""
    try:
        return session.get(f"{node}/v1/{secret}", timeout=3).status_code == 200
    except requests.RequestException:
        return False


def _down(session: requests.Session, node: str) -> bool:
    """Whether nobody listens, or one that is sealed. Who is slow is not down: restarts are what is looked for."""
    try:
        return session.get(f"{node}/v1/sys/health", timeout=3).status_code not in (200, 429, 473)
    except requests.ConnectTimeout:
        return False
    except requests.ConnectionError:
        return True
    except requests.RequestException:
        return False


def watch(nodes: list[str], ca_file: str, token: str, secret: str, stop_file: Path) -> dict[str, Any]:
    """Look until `stop_file` is there.

    Returns how many rounds there were; the longest time in seconds in which no node gave the secret; the most nodes
    that were down at once; and the nodes in the order in which they first went down.
    """
    session = requests.Session()
    session.trust_env = False
    session.verify = ca_file
    session.headers["X-Vault-Token"] = token
    began = good = time.monotonic()
    rounds, gap, most, order = 0, 0.0, 0, list[str]()
    with ThreadPoolExecutor(max_workers=2 * len(nodes)) as pool:
        while not stop_file.exists() and time.monotonic() - began < _LONGEST:
            down = pool.map(lambda node: _down(session, node), nodes)
            reads = list(pool.map(lambda node: _reads(session, node, secret), nodes))
            now, gone = time.monotonic(), [node for node, is_down in zip(nodes, down) if is_down]
            gap = max(gap, now - good)
            if any(reads):
                good = now
            rounds, most = rounds + 1, max(most, len(gone))
            order += [node for node in gone if node not in order]
            time.sleep(_ROUND_SECONDS)
    return {"rounds": rounds, "longest_gap": round(gap, 1), "most_down": most, "down_in_order": order}


if __name__ == "__main__":
    ca, token_file, path, stop, *addresses = sys.argv[1:]
    print(json.dumps(watch(addresses, ca, json.loads(Path(token_file).read_text())["root_token"], path, Path(stop))))
