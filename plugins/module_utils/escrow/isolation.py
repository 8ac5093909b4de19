# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Is this host cut off from what a restored copy of Vault would harm?

A copy revokes the leases that it finds expired, as the real Vault does: it deletes database users, for instance, that
applications use. Nothing in Vault turns that off; only the network can keep it from doing harm.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .errors import EscrowError

_TARGET = re.compile(r"\[?([^\[\]]+?)\]?:([0-9]{1,5})")


def refuse_when_reachable(
    targets: Sequence[str], timeout: float, connect: Callable[..., Any] = socket.create_connection
) -> None:
    """Tries a TCP connection to each target, side by side.

    Args:
        targets: ``host:port``, or ``[address]:port`` for IPv6.
        timeout: seconds for each.

    Raises:
        EscrowError: one was reached, or is no target.
    """
    places = []
    for target in targets:
        match = _TARGET.fullmatch(target)
        if match is None or not 0 < int(match.group(2)) < 65536:
            raise EscrowError(f"'{target}' in must_not_reach is not HOST:PORT. Nothing was started.")
        places.append((match.group(1), int(match.group(2))))

    def reached(place: tuple[str, int]) -> bool:
        try:
            connect(place, timeout=timeout).close()
        except OSError:
            return False
        return True

    with ThreadPoolExecutor(max_workers=max(1, min(16, len(places)))) as pool:
        found = [target for target, yes in zip(targets, pool.map(reached, places)) if yes]
    if found:
        raise EscrowError(
            f"This host reaches {', '.join(found)}: a restored copy of Vault would revoke leases there that are in "
            "use. Nothing was started. Cut this host off (let it reach the KMS alone), or use another one."
        )


def not_checked(targets: Sequence[str], key_counts: dict[str, int]) -> str:
    """What nobody has made sure of, in a sentence."""
    leases = sum(number for prefix, number in key_counts.items() if prefix.startswith("sys/expire"))
    named = f"Of all that the snapshot's {leases} leases may be of, only {', '.join(targets)} was tried"
    return (
        f"{named if targets else 'Nothing was named in must_not_reach'}: whether this host reaches other systems whose "
        "leases a restored copy revokes, cannot be told from outside, the snapshot being encrypted."
    )
