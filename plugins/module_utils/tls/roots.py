# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Roots as an operator gives them, and the proof that one may go. The standard library alone, which every host has.

Sources: RFC 7468 for PEM; Python's ssl, whose get_ca_certs() gives what OpenSSL's X509_check_ca(3) calls a CA's.
"""

from __future__ import annotations

import base64
import hashlib
import re
import ssl
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, NamedTuple

from .errors import TlsError

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----\s(.*?)-----END CERTIFICATE-----", re.DOTALL)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SHORT = {"commonName": "CN", "organizationName": "O", "organizationalUnitName": "OU", "countryName": "C"}


class Root(NamedTuple):
    """One root.

    Attributes:
        name: of its file and its alias.
        pem: itself, and nothing beside it.
        fingerprint: SHA-256, hexadecimal.
        subject: for people.
        not_after: when it ends.
        present: whether it is to be trusted.
        ended: whether it has: then it is trusted only where it is trusted already.
    """

    name: str
    pem: bytes
    fingerprint: str
    subject: str
    not_after: datetime
    present: bool
    ended: bool = False

    def to_dict(self) -> dict[str, str]:
        """Plain values for a module's result."""
        return {
            "name": self.name,
            "state": "present" if self.present else "absent",
            "subject": self.subject,
            "fingerprint_sha256": self.fingerprint,
            "not_after": self.not_after.isoformat(),
        }


def certificates(pem: bytes, title: str) -> dict[str, bytes]:
    """The certificates of a file by their fingerprints, in their order, each in PEM of its own.

    Raises TlsError for one that is damaged.
    """
    found = {}
    for number, block in enumerate(_PEM.findall(pem), 1):
        try:
            der = base64.b64decode(b"".join(block.split()), validate=True)
        except ValueError as error:
            raise TlsError(f"Certificate {number} of {title} is damaged: {error}.") from error
        found[hashlib.sha256(der).hexdigest()] = ssl.DER_cert_to_PEM_cert(der).encode()
    return found


def read_roots(given: Sequence[Mapping[str, Any]], now: datetime) -> list[Root]:
    """Roots from options with `name`, `content` and `state`. Raises TlsError for what is none or is there twice."""
    roots = [_root(one["name"], one["content"], one["state"] == "present", now) for one in given]
    for number, one in enumerate(roots):
        for other in roots[:number]:
            # Debian's links, and aliases of Java, do not tell them apart.
            if one.name.lower() == other.name.lower():
                raise TlsError(f"Two roots have the name {one.name}: give each its own.")
            if one.fingerprint == other.fingerprint:
                raise TlsError(f"{other.name} and {one.name} are the same certificate: give it once.")
    return roots


def _root(name: str, content: str, present: bool, now: datetime) -> Root:
    if not _NAME.fullmatch(name):
        raise TlsError(f"{name!r:.120} is no name of a root: give letters, digits, '.', '_' and '-'.")
    pem = content.encode()
    if b"PRIVATE KEY-----" in pem:
        raise TlsError(f"The content of {name} has a private key in it: give the certificate alone, to nobody the key.")
    count = pem.count(b"-----BEGIN ")
    found = certificates(pem, f"the content of {name}")
    if count != 1 or len(found) != 1:
        raise TlsError(
            f"The content of {name} has to be one certificate in PEM, and has {count}: give each its own name."
        )
    fingerprint, alone = next(iter(found.items()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata=ssl.PEM_cert_to_DER_cert(alone.decode()))
    except (ssl.SSLError, ValueError) as error:
        raise TlsError(f"The certificate of {name} is damaged: {getattr(error, 'reason', None) or error}.") from error
    authorities = context.get_ca_certs()
    if not authorities:
        raise TlsError(f"The certificate of {name} is no CA's: give the root that the servers' certificates lead to.")
    told: Mapping[str, Any] = authorities[0]
    subject, issuer = _words(told["subject"]), _words(told["issuer"])
    if told["subject"] != told["issuer"]:
        raise TlsError(
            f"{name}, {subject}, is no root: {issuer} has signed it, and OpenSSL ends no chain at it. Give that."
        )
    begins, ends = _time(told["notBefore"]), _time(told["notAfter"])
    if present and begins > now:
        raise TlsError(
            f"The root {name} begins only on {begins:%Y-%m-%d %H:%M} UTC: look at the clocks of this host and the CA."
        )
    return Root(name, alone, fingerprint, subject, ends, present, ends <= now)


def check_census(leaving: Iterable[Root], census: Sequence[Mapping[str, Any]], max_age: float, now: datetime) -> None:
    """Whether roots may go: every certificate of a census was looked at lately, and leads to another root.

    Args:
        census: `certificates` of tls_endpoint_info.
        max_age: seconds.

    Raises TlsError when one may not, or when nobody knows.
    """
    names = {one.fingerprint: one.name for one in leaving}
    if not names:
        return
    which = ", ".join(names.values())
    again = "Ask all endpoints with tls_endpoint_info and a bundle that has both roots, and give its 'certificates'."
    if not census:
        raise TlsError(
            f"{which} is trusted here, and would be removed with no census to say that nobody needs it. {again}"
        )
    for one in census:
        try:
            name, anchor, looked = str(one["name"]), one.get("anchor"), datetime.fromisoformat(one["looked_at"])
            age = abs((now - looked).total_seconds())
            leads_to = anchor["fingerprint_sha256"] if anchor else None
        except (KeyError, TypeError, ValueError) as error:
            raise TlsError(
                f"The census is none of tls_endpoint_info: {type(error).__name__}, {error}. {again}"
            ) from error
        if age > max_age:
            raise TlsError(
                f"The census looked at {name} on {looked:%Y-%m-%d %H:%M} UTC, {age:.0f} s away from the time of this "
                f"host and further than the {max_age:.0f} s of census_max_age. {again}"
            )
        if leads_to is None:
            raise TlsError(
                f"The census could not tell which root {name} leads to: {one.get('why') or 'it gives no reason'} So "
                f"{which} stays. Mend it, or leave it out of the census if nobody needs it."
            )
        if leads_to in names:
            raise TlsError(
                f"{name} still leads to {names[leads_to]}, which stays. Issue it anew from the new root first."
            )


def _words(name: Iterable[Iterable[tuple[str, str]]]) -> str:
    return ",".join(f"{_SHORT.get(key, key)}={value}" for part in name for key, value in part)


def _time(text: str) -> datetime:
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(text), timezone.utc)
