# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a certificate authority's own certificates say, and a key and a request of which only the request leaves us."""

from __future__ import annotations

from typing import Any, Optional

from .errors import CaError

try:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID
except ImportError as error:
    CRYPTOGRAPHY_IMPORT_ERROR: Optional[ImportError] = error
else:
    CRYPTOGRAPHY_IMPORT_ERROR = None


def parsed(pem: str, title: str) -> x509.Certificate:
    """One certificate in PEM. Raises CaError; `title` says whose it is."""
    try:
        return x509.load_pem_x509_certificate(pem.encode())
    except (ValueError, AttributeError) as error:
        raise CaError(f"What {title} gives as a certificate in PEM is none: {error}.") from error


def to_pem(der: bytes, title: str) -> str:
    """DER as PEM. Raises CaError."""
    try:
        return x509.load_der_x509_certificate(der).public_bytes(serialization.Encoding.PEM).decode()
    except ValueError as error:
        raise CaError(f"What {title} gives as a certificate in DER is none: {error}.") from error


def told(pem: str, title: str) -> dict[str, Any]:
    """A certificate as modules tell it. Raises CaError."""
    one = parsed(pem, title)
    return {
        "certificate": pem.strip() + "\n",
        "fingerprint_sha256": one.fingerprint(hashes.SHA256()).hex(),
        "subject": one.subject.rfc4514_string(),
        "issuer": one.issuer.rfc4514_string(),
        "serial": f"{one.serial_number:x}",
        "not_after": one.not_valid_after_utc.isoformat(),
    }


def life(pem: str, title: str) -> float:
    """How long a certificate is good in all, in seconds. Raises CaError."""
    one = parsed(pem, title)
    return (one.not_valid_after_utc - one.not_valid_before_utc).total_seconds()


def subject_key_id(pem: str, title: str) -> str:
    """Hexadecimal; empty where the certificate has none. Raises CaError."""
    try:
        found = parsed(pem, title).extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    except x509.ExtensionNotFound:
        return ""
    return found.value.digest.hex()


def request_for(name: str) -> str:
    """A signing request in PEM for a DNS name, with a new key that nobody keeps: the certificate is only looked at."""
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
        .decode()
    )
