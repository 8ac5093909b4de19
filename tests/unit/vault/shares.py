# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes that take key shares: one that is sealed, one that generates a root token."""

from __future__ import annotations

import traceback
from typing import Any

from unit.vault.fake import SEAL, Answer, FakeVault, Seen

SHARES = ["shareOne", "shareTwo", "shareThree"]

# As Vault 1.21.0 answered, and `vault operator generate-root -decode` read it.
OTP = "PGjqNOjPhIXaCNe2sTWdbNqU22ZU"
ENCODED = "ODEZXyQMCwdbI2ATMTwAUBQbNjIpeDcEcAcyGg"
ROOT = "hvs.jCaW3j8rrrebgOaVK6FQB5hO"


def holds_no_share(error: BaseException) -> bool:
    """Whether neither the message nor the traceback, as Ansible would show them, tells a share."""
    shown = "".join(traceback.format_exception(error)) + str(error)
    return not any(share in shown.replace("SHARES", "") for share in SHARES)


def sealed(vault: FakeVault, threshold: int = 2, **state: Any) -> dict[str, Any]:
    """A sealed node that counts shares as Vault does; gives the state that it changes."""
    now: dict[str, Any] = {**SEAL, "sealed": True, "t": threshold, "progress": 0, "nonce": "n-1", **state}

    def take(seen: Seen) -> Answer:
        if seen.json.get("reset"):
            now["progress"] = 0
        else:
            now["progress"] += 1
            if now["progress"] == threshold:
                now.update(sealed=False, progress=0)
        return Answer(200, dict(now))

    vault.on("GET", "sys/seal-status", call=lambda _seen: Answer(200, dict(now))).on("PUT", "sys/unseal", call=take)
    return now


def generating(vault: FakeVault, required: int = 2, started: bool = False) -> None:
    """A node that generates a root token."""
    attempt = {"started": started, "progress": int(started), "required": required, "nonce": "n-1"}
    given = iter(range(1, 99))

    def update(_seen: Seen) -> Answer:
        done = next(given) >= required
        return Answer(200, {"complete": done, "encoded_token": ENCODED if done else ""})

    vault.on("GET", "sys/generate-root/attempt", attempt)
    vault.on("DELETE", "sys/generate-root/attempt", status=204)
    vault.on("PUT", "sys/generate-root/attempt", {**attempt, "started": True, "otp": OTP})
    vault.on("PUT", "sys/generate-root/update", call=update)
