# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SPIRE's X.509 authorities, through its own program on the server's host.

Built to the documented output of ``spire-server localauthority x509`` and ``spire-server bundle show`` (SPIRE 1.12 and
newer); not tried on a running SPIRE. Each change is read back, whatever the program says of it.

Source: SPIRE, doc/spire_server.md, and the JSON of its command line's tests.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Optional

from .certificates import subject_key_id, to_pem
from .errors import CaError

Run = Callable[[Sequence[str]], tuple[int, str, str]]
"""Runs a command; gives exit code, standard output and standard error."""

STATES = {"active": "active", "prepared": "standby", "old": "old"}
"""The slots of SPIRE, and what modules call what is in them."""


class Spire:
    """The local authorities of one SPIRE server.

    Args:
        run: runs a command.
        program: ``spire-server``, or its path.
        socket: path of the server's API socket; SPIRE's default without it.
    """

    def __init__(self, run: Run, program: str = "spire-server", socket: Optional[str] = None) -> None:
        self._run = run
        self._program = program
        self._socket = ["-socketPath", socket] if socket else []

    def authorities(self) -> dict[str, Mapping[str, Any]]:
        """What is in the slots active, prepared and old; those that are empty are not there. Raises CaError."""
        told = self._ask("localauthority", "x509", "show")
        found: dict[str, Mapping[str, Any]] = {}
        for slot in STATES:
            one = told.get(slot)
            if isinstance(one, dict) and one.get("authority_id"):
                found[slot] = one
        return found

    def bundle(self) -> dict[str, tuple[str, bool]]:
        """The roots that workloads trust, by subject key id: PEM, and whether it is tainted. Raises CaError."""
        told = self._ask("bundle", "show").get("x509_authorities")
        if not isinstance(told, list):
            raise CaError(f"{self._program} bundle show gave no x509_authorities. It needs SPIRE 1.12 or newer.")
        found = {}
        for one in told:
            try:
                der = base64.b64decode(one["asn1"], validate=True)
            except (KeyError, TypeError, binascii.Error) as error:
                raise CaError(f"{self._program} bundle show gave a root without its certificate.") from error
            pem = to_pem(der, "spire-server bundle show")
            found[subject_key_id(pem, "spire-server bundle show")] = (pem, bool(one.get("tainted")))
        return found

    def prepare(self, dry: bool = False) -> tuple[Optional[str], bool]:
        """A new authority, which is in the bundle and does not sign yet; the one that is prepared already, if any.

        Returns:
            Its id (None when it was only looked), and whether it is new.
        """
        before = self.authorities().get("prepared")
        if before:
            return before["authority_id"], False
        if dry:
            return None, True
        self._ask("localauthority", "x509", "prepare")
        after = self.authorities().get("prepared")
        if not after:
            raise CaError("SPIRE prepared an authority, and does not show it. Look at the server's log.")
        return after["authority_id"], True

    def activate(self, authority: str, dry: bool = False) -> bool:
        """Sign with the prepared authority; True if it was not active before. Raises CaError if it is not prepared."""
        slots = self.authorities()
        if _is_in(slots, "active", authority):
            return False
        if not _is_in(slots, "prepared", authority):
            raise CaError(
                f"SPIRE's authority {authority} is not the prepared one ({_shown(slots)}), so it was not activated. "
                "Prepare one, and name it."
            )
        if dry:
            return True
        self._ask("localauthority", "x509", "activate", "-authorityID", authority)
        if not _is_in(self.authorities(), "active", authority):
            raise CaError(f"SPIRE activated {authority}, and shows another one as active. Look at the server's log.")
        return True

    def retire(self, authority: str, dry: bool = False) -> bool:
        """Taint the old authority, so that every agent gets new certificates, then revoke it; False if it was.

        Raises:
            CaError: it is active or prepared, it is an upstream's, or it is still in the bundle afterwards.
        """
        slots = self.authorities()
        for slot in ("active", "prepared"):
            if _is_in(slots, slot, authority):
                raise CaError(f"SPIRE's authority {authority} is the {slot} one, so it was not revoked.")
        upstream = slots.get("old", {}).get("upstream_authority_subject_key_id")
        if upstream and _is_in(slots, "old", authority):
            raise CaError(
                f"SPIRE's authority {authority} is signed by an upstream authority, {upstream}: it is that one that is "
                "tainted and revoked, with spire-server upstreamauthority."
            )
        in_bundle = self.bundle().get(authority.lower())
        if in_bundle is None:
            return False
        if dry:
            return True
        if not in_bundle[1]:
            self._ask("localauthority", "x509", "taint", "-authorityID", authority)
        self._ask("localauthority", "x509", "revoke", "-authorityID", authority)
        if authority.lower() in self.bundle():
            raise CaError(f"SPIRE revoked {authority}, and it is still in the bundle. Look at the server's log.")
        return True

    def _ask(self, *words: str) -> Mapping[str, Any]:
        command = [self._program, *words, "-output", "json", *self._socket]
        status, output, errors = self._run(command)
        said = " ".join(command)
        if status != 0:
            raise CaError(
                f"{said} ended with {status}: {errors.strip() or output.strip() or 'nothing was said'}. It is run on "
                "the SPIRE server's host, as a user who may use its socket."
            )
        try:
            told = json.loads(output)
        except ValueError:
            told = None
        if not isinstance(told, dict):
            raise CaError(f"{said} gave no JSON object. It needs SPIRE 1.12 or newer.")
        return told


def _is_in(slots: Mapping[str, Mapping[str, Any]], slot: str, authority: str) -> bool:
    return bool(slots.get(slot, {}).get("authority_id") == authority)


def _shown(slots: Mapping[str, Mapping[str, Any]]) -> str:
    return ", ".join(f"{slot} is {one['authority_id']}" for slot, one in slots.items()) or "it shows none"
