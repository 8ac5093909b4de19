# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One face for the authorities: what roots they have and which of them signs, in the same words for all."""

from __future__ import annotations

import re
from typing import Any, Optional, Union

from .certificates import life, told
from .errors import CaError
from .spire import STATES, Spire
from .step_ca import StepCa
from .vault_pki import VaultPki


def issuers(ca: Union[VaultPki, Spire]) -> list[dict[str, Any]]:
    """The issuers of an authority that can be told to change them."""
    return of_spire(ca) if isinstance(ca, Spire) else of_vault(ca)


def prepare(
    ca: Union[VaultPki, Spire], name: str, common_name: str, ttl: str, key_type: str, dry: bool
) -> tuple[Optional[str], bool]:
    """A root that does not sign yet: its id (None when it was only looked and is not there), and whether it is new.

    SPIRE's configuration says what it is called, how long it is good, and what key it has.

    Raises CaError when Vault has a root of this name that is good for less than `ttl`.
    """
    if isinstance(ca, Spire):
        return ca.prepare(dry)
    asked = seconds(ttl)
    made, new = ca.prepare(name, common_name, ttl, key_type, dry)
    if made and life(made.certificate, ca.mount) < asked:
        raise CaError(
            f"The root {name} of {ca.mount} is good for {life(made.certificate, ca.mount) / 86400:.0f} days, not for "
            f"{ttl}: Vault cuts it to the mount's max_lease_ttl without a word. It does not sign. Raise the maximum "
            f"(vault secrets tune -max-lease-ttl={ttl} {ca.mount}), and give another name or a shorter ttl."
        )
    return (made.id if made else None), new


def seconds(ttl: str) -> int:
    """A duration as Vault writes it, ``87600h``, ``3650d`` or a number of seconds. Raises CaError."""
    found = re.fullmatch(r"([0-9]{1,12})([smhd]?)", ttl.strip())
    if not found:
        raise CaError(f"'{ttl}' is no duration. Give ttl as a number and one of s, m, h, d, such as 87600h.")
    return int(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]]


def of_vault(ca: VaultPki) -> list[dict[str, Any]]:
    """The issuers of a PKI mount; the active one is its default."""
    default = ca.default()
    found = []
    for one in ca.issuers():
        if one.revoked:
            state = "retired"
        elif one.id == default:
            state = "active"
        else:
            state = "standby" if one.key_id else "trusted"
        found.append({"id": one.id, "name": one.name, "state": state, **told(one.certificate, ca.mount)})
    return found


def of_spire(ca: Spire) -> list[dict[str, Any]]:
    """What is in SPIRE's slots, and then what else is in the bundle."""
    bundle = ca.bundle()
    found = []
    for slot, one in ca.authorities().items():
        key = one["authority_id"]
        pem = bundle.pop(key.lower(), ("", False))[0]
        found.append({"id": key, "name": "", "state": STATES[slot], **_told(pem)})
    found += [{"id": key, "name": "", "state": "trusted", **_told(pem)} for key, (pem, _tainted) in bundle.items()]
    return found


def of_step_ca(ca: StepCa) -> list[dict[str, Any]]:
    """The roots that it serves, then what it signs with; raises CaError when it is not well."""
    ca.health()
    rows = [("trusted", pem) for pem in ca.roots()] + [("active", pem) for pem in ca.intermediates()]
    found = []
    for state, pem in rows:
        one = told(pem, ca.url)
        found.append({"id": one["fingerprint_sha256"], "name": "", "state": state, **one})
    return found


def _told(pem: str) -> dict[str, Any]:
    # An authority that an upstream has signed is not in the bundle itself.
    names = ("certificate", "fingerprint_sha256", "subject", "issuer", "serial", "not_after")
    return told(pem, "SPIRE") if pem else dict.fromkeys(names)
