# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The JOSE that step-ca's JWK provisioners ask for: their encrypted key opened, and a one-time token signed with it.

Only what step makes by default is spoken: PBES2-HS256+A128KW with AES-GCM, and keys on NIST curves. Sources: RFC 7515,
RFC 7516, RFC 7518 (4.8 and 5.3), RFC 7519.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any, Optional

from .errors import CaError

try:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
    from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap
except ImportError as error:
    CRYPTOGRAPHY_IMPORT_ERROR: Optional[ImportError] = error
else:
    CRYPTOGRAPHY_IMPORT_ERROR = None

_ALGORITHM = "PBES2-HS256+A128KW"
_CONTENTS = ("A128GCM", "A192GCM", "A256GCM")
_UNDERSTOOD = f"Only {_ALGORITHM} with AES-GCM is understood, as step makes it."
_CURVES = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
MOST_ITERATIONS = 10_000_000
"""Of PBKDF2. The server names the number, and must not keep us busy for ever; step's own is 600,000."""


def decrypt_key(encrypted: str, password: str) -> dict[str, Any]:
    """The private JWK in a provisioner's ``encryptedKey``.

    Raises:
        CaError: the password is wrong, or it is no JWE of the kind that step makes. The password is never quoted.
    """
    try:
        opened = json.loads(_plain(encrypted, password))
    except (InvalidUnwrap, InvalidTag) as error:
        raise CaError("The provisioner's key does not open with this password. Give that provisioner's own.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CaError(f"The provisioner's encrypted key is damaged. {_UNDERSTOOD}") from error
    if not isinstance(opened, dict):
        raise CaError("The provisioner's encrypted key opens, and holds no JWK.")
    return opened


def _plain(encrypted: str, password: str) -> bytes:
    protected, wrapped, nonce, text, tag = encrypted.split(".")
    header = json.loads(decoded(protected))
    algorithm, content, iterations = header["alg"], header["enc"], int(header["p2c"])
    if algorithm != _ALGORITHM or content not in _CONTENTS:
        raise CaError(f"The provisioner's encrypted key is of {algorithm} and {content}. {_UNDERSTOOD}")
    if not 1000 <= iterations <= MOST_ITERATIONS:
        raise CaError(f"The provisioner's encrypted key asks for {iterations} rounds of PBKDF2, which is refused.")
    salt = algorithm.encode() + b"\0" + decoded(header["p2s"])
    wrapping = PBKDF2HMAC(hashes.SHA256(), 16, salt, iterations).derive(password.encode())
    key = aes_key_unwrap(wrapping, decoded(wrapped))
    return AESGCM(key).decrypt(decoded(nonce), decoded(text) + decoded(tag), protected.encode())


def signed(claims: Mapping[str, Any], jwk: Mapping[str, Any]) -> str:
    """A JWT of these claims, signed with a private JWK on a NIST curve. Raises CaError for another kind of key."""
    algorithm = _CURVES.get(str(jwk.get("crv")))
    if jwk.get("kty") != "EC" or algorithm is None:
        raise CaError(
            f"The provisioner's key is of type {jwk.get('kty')} {jwk.get('crv') or ''}: only EC keys on "
            f"{', '.join(_CURVES)} are understood."
        )
    curves = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
    digests = {"ES256": hashes.SHA256(), "ES384": hashes.SHA384(), "ES512": hashes.SHA512()}
    try:
        scalar = int.from_bytes(decoded(jwk["d"]), "big")
        private = ec.derive_private_key(scalar, curves[algorithm])
    except (ValueError, KeyError, TypeError) as error:
        # What the error quotes may be the key.
        raise CaError("The provisioner's private key is damaged.") from error.with_traceback(None)
    header = {"alg": algorithm, "kid": str(jwk.get("kid", "")), "typ": "JWT"}
    body = ".".join(encoded(json.dumps(part, separators=(",", ":")).encode()) for part in (header, dict(claims)))
    pair = decode_dss_signature(private.sign(body.encode(), ec.ECDSA(digests[algorithm])))
    size = (private.key_size + 7) // 8
    return f"{body}.{encoded(b''.join(number.to_bytes(size, 'big') for number in pair))}"


def encoded(raw: bytes) -> str:
    """Base64 as JOSE has it: URL-safe, no padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decoded(text: str) -> bytes:
    """The bytes of JOSE's base64. Raises ValueError."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
