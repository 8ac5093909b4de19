# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judges a chain of certificates as a client would, and says why not when it would refuse it.

The verdict is OpenSSL's own, by pyOpenSSL, whether the chain came from a server or lay in a file; cryptography parses.
pyOpenSSL cannot ask for a purpose or a level of security, as clients do: these two are looked at here.
Sources: RFC 5280 and RFC 6125; OpenSSL's X509_verify_cert(3) and its error codes; level 2 of its
SSL_CTX_set_security_level(3), which is that of distributions.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from typing import Any, Optional

from .errors import TlsError

try:
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
    from cryptography.x509.oid import ExtendedKeyUsageOID
    from OpenSSL import crypto
except ImportError as error:
    IMPORT_ERROR: Optional[ImportError] = error
else:
    IMPORT_ERROR = None

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)

# X509_V_ERR_… of OpenSSL's x509_vfy.h.
_UNABLE_TO_GET_ISSUER = (2, 20)
_NOT_YET_VALID, _EXPIRED = 9, 10
_SELF_SIGNED_LEAF, _SELF_SIGNED_IN_CHAIN, _NO_ISSUER_CERT = 18, 19, 21
_NOT_A_CA = (24, 79)

_WEAK_HASHES = ("md5", "sha1")
_RSA_BITS, _EC_BITS = 2048, 224
_NOT_FOR_SERVERS = "The certificate is not for servers (extended key usage). Issue anew with serverAuth."


@dataclass(frozen=True)
class Verdict:
    """What a client would say of a chain.

    Attributes:
        verifies: whether the chain leads to a root of the bundle, every certificate of it is valid at that time and
            strong enough, and the first one is for servers where a host was asked for.
        host_matches: whether the first one is for the host; None where no host was asked for.
        why: what is wrong and what to do, a sentence or two; empty when nothing is.
        subject, issuer: as RFC 4514 has them.
        serial: hexadecimal.
        fingerprint_sha256: hexadecimal, of the first certificate.
        not_before, not_after: ISO 8601.
        days_left: until the first one of the chain ends, in days; below 0 when that was.
        names: of the subject alternative name.
        anchor: subject and fingerprint of the root that it leads to; None where it does not verify.
        chain: subject, issuer and end of each certificate that was given, in that order.
    """

    verifies: bool
    host_matches: Optional[bool]
    why: str
    subject: str
    issuer: str
    serial: str
    fingerprint_sha256: str
    not_before: str
    not_after: str
    days_left: float
    names: list[str]
    anchor: Optional[dict[str, str]]
    chain: list[dict[str, str]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a module's result."""
        return asdict(self)


class Bundle:
    """The roots that are trusted.

    Args:
        pem: certificates, one after the other.
        title: what messages call it, such as its path.

    Raises TlsError when there is none in it.
    """

    def __init__(self, pem: bytes, title: str) -> None:
        self.title = title
        self.certificates = parse(pem, title)
        if not self.certificates:
            raise TlsError(f"{title} has no certificate in PEM: give the bundle of root CAs that clients trust.")

    def store(self, at: datetime) -> crypto.X509Store:
        """OpenSSL's store, for a judgement at that time."""
        store = crypto.X509Store()
        for one in self.certificates:
            store.add_cert(crypto.X509.from_cryptography(one))
        store.set_time(at)
        return store


def parse(pem: bytes, title: str) -> list[x509.Certificate]:
    """The certificates of a file in PEM, in their order; keys and text between them are passed over.

    Raises TlsError for one that is damaged.
    """
    found = []
    for number, block in enumerate(_PEM.findall(pem), 1):
        try:
            found.append(x509.load_pem_x509_certificate(block))
        except ValueError as error:
            raise TlsError(f"Certificate {number} of {title} is damaged: {error}.") from error
    return found


def judge(
    chain: Sequence[x509.Certificate], bundle: Bundle, host: Optional[str] = None, at: Optional[datetime] = None
) -> Verdict:
    """Judges a chain, the server's own certificate first.

    Args:
        chain: as a server sends it: the root need not be there, the intermediates have to.
        bundle: what is trusted.
        host: name or address that the first one has to be for.
        at: the time that counts; now without it.
    """
    when = at or datetime.now(timezone.utc)
    leaf = chain[0]
    problem, path = _verify(chain, bundle, when)
    if problem is None:
        # A root by itself is judged with what it has signed: one that is too weak has to be replaceable.
        problem = _too_weak(path if host is not None or len(path) > 1 else []) or (
            None if host is None or _for_servers(leaf) else _NOT_FOR_SERVERS
        )
        path = [] if problem else path
    names = _names(leaf)
    matches = None if host is None else _matches(host, leaf)
    sentences = [problem] if problem else []
    if matches is False:
        sentences.append(f"It is for {', '.join(names) or 'no name at all'}, and not for {host}.")
    ends = min((one.not_valid_after_utc for one in path or chain), default=leaf.not_valid_after_utc)
    return Verdict(
        verifies=problem is None,
        host_matches=matches,
        why=" ".join(sentences),
        subject=leaf.subject.rfc4514_string(),
        issuer=leaf.issuer.rfc4514_string(),
        serial=f"{leaf.serial_number:x}",
        fingerprint_sha256=fingerprint(leaf),
        not_before=leaf.not_valid_before_utc.isoformat(),
        not_after=leaf.not_valid_after_utc.isoformat(),
        days_left=round((ends - when).total_seconds() / 86400, 2),
        names=names,
        anchor=_told(path[-1]) if path else None,
        chain=[{**_told(one), "not_after": one.not_valid_after_utc.isoformat()} for one in chain],
    )


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256, hexadecimal."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def _told(certificate: x509.Certificate) -> dict[str, str]:
    return {
        "subject": certificate.subject.rfc4514_string(),
        "issuer": certificate.issuer.rfc4514_string(),
        "fingerprint_sha256": fingerprint(certificate),
    }


def _verify(
    chain: Sequence[x509.Certificate], bundle: Bundle, when: datetime
) -> tuple[Optional[str], list[x509.Certificate]]:
    """What OpenSSL has against it, in a sentence, and the way to the root when it has nothing."""
    native = [crypto.X509.from_cryptography(one) for one in chain]
    context = crypto.X509StoreContext(bundle.store(when), native[0], native[1:])
    try:
        return None, [one.to_cryptography() for one in context.get_verified_chain()]
    except crypto.X509StoreContextError as error:
        code, depth, message = error.errors[0], error.errors[1], str(error.errors[2])
        return _sentence(int(code), int(depth), message, error.certificate.to_cryptography(), chain, bundle), []


def _sentence(
    code: int,
    depth: int,
    message: str,
    certificate: x509.Certificate,
    chain: Sequence[x509.Certificate],
    bundle: Bundle,
) -> str:
    subject, issuer = certificate.subject.rfc4514_string(), certificate.issuer.rfc4514_string()
    which = _which(depth, certificate)
    if code == _EXPIRED:
        return f"{which} has ended on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC. Renew it."
    if code == _NOT_YET_VALID:
        return (
            f"{which} begins only on {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC: look at the clocks of this "
            "machine and of the CA."
        )
    if code == _SELF_SIGNED_LEAF:
        return f"It is signed by itself, and not in {bundle.title}."
    if code == _SELF_SIGNED_IN_CHAIN:
        return f"It leads to the root {subject}, which is not in {bundle.title}: distribute that root, or issue anew."
    if code in _UNABLE_TO_GET_ISSUER or code == _NO_ISSUER_CERT:
        if any(one.subject == certificate.issuer for one in bundle.certificates):
            return (
                f"{issuer} is in {bundle.title} by that name, with another key: the CA was made anew. Distribute its "
                "new root, or issue anew."
            )
        if len(chain) == 1 or any(one.subject == certificate.issuer for one in chain):
            return (
                f"Its issuer {issuer} was not sent with it, and is not in {bundle.title}: add the intermediate to the "
                "server's file, or distribute the root."
            )
        return f"The chain ends at {issuer}, which is not in {bundle.title}."
    if code in _NOT_A_CA:
        return f"{which} was used to sign and is no CA's: it should never have been. Issue anew from a CA."
    return f"{which} is refused: {message} (OpenSSL's error {code})."


def _which(depth: int, certificate: x509.Certificate) -> str:
    if depth == 0:
        return "The certificate"
    return f"The certificate {depth} above it, {certificate.subject.rfc4514_string()},"


def _too_weak(path: Sequence[x509.Certificate]) -> Optional[str]:
    """What clients refuse though it verifies, from the leaf to the root, whose own signature counts for nothing."""
    for depth, one in enumerate(path):
        fault = _weak_key(one) or ("" if one is path[-1] else _weak_signature(one))
        if fault:
            return f"{_which(depth, one)} has a key or signature that is too weak ({fault}). Issue anew."
    return None


def _weak_key(certificate: x509.Certificate) -> str:
    try:
        key = certificate.public_key()
    except (UnsupportedAlgorithm, ValueError):
        # OpenSSL has taken it.
        return ""
    if isinstance(key, (rsa.RSAPublicKey, dsa.DSAPublicKey)) and key.key_size < _RSA_BITS:
        return f"a key of {key.key_size} bits, and {_RSA_BITS} are the least"
    if isinstance(key, ec.EllipticCurvePublicKey) and key.key_size < _EC_BITS:
        return f"a key of {key.key_size} bits, and {_EC_BITS} are the least for its kind"
    return ""


def _weak_signature(certificate: x509.Certificate) -> str:
    try:
        algorithm = certificate.signature_hash_algorithm
    except UnsupportedAlgorithm:
        return ""
    return f"signed with {algorithm.name.upper()}" if algorithm and algorithm.name in _WEAK_HASHES else ""


def _for_servers(leaf: x509.Certificate) -> bool:
    try:
        allowed = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True
    return any(one in allowed for one in (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE))


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    addresses = [str(one) for one in found.get_values_for_type(x509.IPAddress)]
    return [*found.get_values_for_type(x509.DNSName), *addresses]


def _matches(host: str, certificate: x509.Certificate) -> bool:
    """RFC 6125: addresses by themselves, names without regard of case, a star for the whole first label."""
    names = _names(certificate)
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        wanted = host.rstrip(".").lower()
        return any(_name_matches(wanted, name.rstrip(".").lower()) for name in names)
    return str(address) in names


def _name_matches(wanted: str, name: str) -> bool:
    if not name.startswith("*."):
        return wanted == name
    first, dot, rest = wanted.partition(".")
    return bool(first) and bool(dot) and rest == name[2:] and "." in rest
