# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""step-ca: is it well, which roots does it serve, and does it issue?

Its API changes no root: roots, intermediate and federated roots are files that ``ca.json`` names, read at its start.
So there is nothing here to prepare or to activate, only to see that the operator's change is served.

Source of paths and fields: smallstep/certificates v0.30.2, ``api/api.go``, ``api/sign.go`` and
``authority/provisioner/jwk.go``.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any, Optional

from .errors import CaError
from .jose import decrypt_key, signed

try:
    import requests
except ImportError as error:
    REQUESTS_IMPORT_ERROR: Optional[ImportError] = error
else:
    REQUESTS_IMPORT_ERROR = None

TOKEN_SECONDS = 300
"""How long a one-time token is good: step's own is as long."""


class StepCa:
    """One step-ca.

    Args:
        url: scheme, host and port.
        ca_cert: PEM file of its root, which vouches for it; None trusts the system's.
        timeout: seconds for one answer.
        session: of `requests`.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        url: str,
        ca_cert: Optional[str] = None,
        timeout: float = 10.0,
        session: Any = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.url = url.rstrip("/")
        if not self.url.startswith("https://"):
            raise CaError(f"'{url}' is not the address of a step-ca. Give url as https://HOST:PORT.")
        if session is None and REQUESTS_IMPORT_ERROR is not None:
            raise CaError(f"step-ca is asked with the Python library requests: {REQUESTS_IMPORT_ERROR}. Install it.")
        self._verify = ca_cert or True
        self._timeout = timeout
        self._session = session or requests.Session()
        # A CA bundle or proxy of the environment would beat what the operator gave.
        self._session.trust_env = False
        self._clock = clock

    def health(self) -> None:
        """Returns when it says that it is well. Raises CaError."""
        status = self._call("GET", "health").get("status")
        if status != "ok":
            raise CaError(f"{self.url}/health says {status!r}, not 'ok'. Look at step-ca's log.")

    def roots(self) -> list[str]:
        """The roots that it serves to its clients, in PEM. Raises CaError."""
        return self._certificates("roots")

    def intermediates(self) -> list[str]:
        """What it signs with, in PEM; empty for versions before 0.26, which do not tell. Raises CaError."""
        try:
            return self._certificates("intermediates")
        except CaNotFoundError:
            return []

    def provisioners(self) -> list[dict[str, Any]]:
        """All of them, as it tells them. Raises CaError."""
        found: list[dict[str, Any]] = []
        cursor = ""
        # Its own largest page is 100; the bound is against a cursor that goes in a circle.
        for number in range(100):
            answer = self._call("GET", f"provisioners?limit=100{f'&cursor={cursor}' if number else ''}")
            page = answer.get("provisioners")
            found += [one for one in page or [] if isinstance(one, dict)]
            cursor = str(answer.get("nextCursor") or "")
            if not cursor:
                break
        return found

    def sign(self, name: str, request: str, provisioner: str, password: str, ttl: str = "") -> list[str]:
        """Has a request signed, by a one-time token of a JWK provisioner.

        Args:
            name: the DNS name that the request is for.
            request: PEM.
            provisioner: its name.
            password: opens the provisioner's encrypted key.
            ttl: how long the certificate is good, as Go writes durations (``5m``); the provisioner's own if empty.

        Returns:
            The chain in PEM, the certificate first.

        Raises:
            CaError: there is no such provisioner, the password does not open it, or the CA refused.
        """
        token = self._token(name, self._jwk(provisioner, password), provisioner)
        body = {"csr": request, "ott": token, **({"notAfter": ttl} if ttl else {})}
        answer = self._call("POST", "1.0/sign", body)
        chain = answer.get("certChain") or [one for one in (answer.get("crt"), answer.get("ca")) if one]
        if not chain or not all(isinstance(one, str) for one in chain):
            raise CaError(f"{self.url}/1.0/sign answered without a certificate. Is it a step-ca?")
        return list(chain)

    def _jwk(self, provisioner: str, password: str) -> dict[str, Any]:
        all_of_them = self.provisioners()
        found = [one for one in all_of_them if one.get("name") == provisioner and str(one.get("type")).upper() == "JWK"]
        if not found:
            names = ", ".join(f"{one.get('name')} ({one.get('type')})" for one in all_of_them) or "none"
            raise CaError(f"{self.url} has no JWK provisioner '{provisioner}'. It has: {names}.")
        encrypted = found[0].get("encryptedKey")
        if not encrypted:
            raise CaError(
                f"The provisioner '{provisioner}' of {self.url} keeps its encrypted key to itself. Name one that "
                "serves it."
            )
        return {**decrypt_key(str(encrypted), password), "kid": (found[0].get("key") or {}).get("kid", "")}

    def _token(self, name: str, jwk: Mapping[str, Any], provisioner: str) -> str:
        now = int(self._clock())
        claims = {
            "aud": f"{self.url}/1.0/sign",
            "iss": provisioner,
            "sub": name,
            "sans": [name],
            "jti": secrets.token_hex(32),
            "iat": now,
            "nbf": now,
            "exp": now + TOKEN_SECONDS,
        }
        return signed(claims, jwk)

    def _certificates(self, path: str) -> list[str]:
        found = self._call("GET", path).get("crts")
        if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
            raise CaError(f"{self.url}/{path} answered without certificates. Is it a step-ca?")
        return found

    def _call(self, method: str, path: str, body: Any = None) -> Mapping[str, Any]:
        where = f"{self.url}/{path}"
        try:
            answer = self._session.request(
                method, where, json=body, timeout=self._timeout, verify=self._verify, allow_redirects=False
            )
        except (requests.RequestException, OSError) as error:
            hint = "Is ca_cert its root?" if "CERTIFICATE_VERIFY_FAILED" in str(error) else "Does it run?"
            # requests' own words name the request, which has the token in it for no path; the kind is enough.
            raise CaError(f"{method} {where} got no answer ({type(error).__name__}). {hint}") from error
        try:
            told = answer.json()
        except ValueError:
            told = None
        if answer.status_code == 404:
            raise CaNotFoundError(f"{method} {where} was answered with 404. Is it a step-ca?")
        if not 200 <= answer.status_code < 300:
            reason = told.get("message") if isinstance(told, dict) else None
            raise CaError(
                f"{method} {where} was answered with {answer.status_code}: {reason or 'no reason given'}. "
                "step-ca's log says more."
            )
        if not isinstance(told, dict):
            raise CaError(f"{method} {where} was answered with something that is not JSON. Is it a step-ca?")
        return told


class CaNotFoundError(CaError):
    """The authority knows no such path."""
