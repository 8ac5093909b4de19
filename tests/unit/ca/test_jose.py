# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The JOSE of step-ca's provisioners: what opens, what does not, and nothing secret in any message."""

from __future__ import annotations

import base64
import json

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.ca.errors import CaError
from ansible_collections.custodes.security_dr.plugins.module_utils.ca.jose import decoded, decrypt_key, encoded, signed
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from hypothesis import given
from hypothesis import strategies as st
from lab.step_ca import provisioner_key


def changed(jwe: str, **header: object) -> str:
    """The same with another protected header."""
    first, rest = jwe.split(".", 1)
    told = json.loads(decoded(first))
    for name, value in header.items():
        if value is None:
            del told[name]
        else:
            told[name] = value
    return f"{encoded(json.dumps(told).encode())}.{rest}"


@pytest.mark.parametrize("content", ["A128GCM", "A192GCM", "A256GCM"])
def test_a_key_opens_with_its_password(content: str) -> None:
    public, encrypted = provisioner_key("open sesame", content)
    opened = decrypt_key(encrypted, "open sesame")
    assert set(opened) - set(public) == {"d"}
    assert {name: opened[name] for name in public} == public


def test_what_does_not_open() -> None:
    _public, encrypted = provisioner_key("open sesame")
    protected, wrapped, nonce, text, tag = encrypted.split(".")
    other = provisioner_key("open sesame")[1].split(".")
    for bad in (
        (encrypted, "another-password"),
        (f"{protected}.{wrapped}.{nonce}.{text}.{other[4]}", "open sesame"),
        (f"{protected}.{other[1]}.{nonce}.{text}.{tag}", "open sesame"),
        (changed(encrypted, extra="x"), "open sesame"),
    ):
        with pytest.raises(CaError, match="does not open with this password") as told:
            decrypt_key(*bad)
        assert "another-password" not in str(told.value)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"alg": "dir"}, "of dir and A256GCM. Only PBES2"),
        ({"enc": "A128CBC-HS256"}, "A128CBC-HS256. Only PBES2"),
        ({"p2c": 2**31}, "2147483648 rounds"),
        ({"p2c": 1}, "1 rounds"),
        ({"p2c": "many"}, "is damaged"),
        ({"p2s": None}, "is damaged"),
        ({"p2s": 7}, "is damaged"),
    ],
)
def test_a_header_that_is_not_steps(header: dict[str, object], words: str) -> None:
    with pytest.raises(CaError, match=words):
        decrypt_key(changed(provisioner_key("x")[1], **header), "x")


@given(st.text(alphabet=st.characters(codec="ascii"), max_size=60))
def test_no_text_is_a_bug(text: str) -> None:
    for one in (text, f"{text}....", f"{encoded(text.encode())}.a.b.c.d"):
        with pytest.raises(CaError):
            decrypt_key(one, "x")


@given(st.dictionaries(st.text(max_size=9), st.text(max_size=9), max_size=4))
def test_a_signature_is_the_keys(claims: dict[str, str]) -> None:
    key = ec.derive_private_key(7, ec.SECP256R1())
    jwk = {"kty": "EC", "crv": "P-256", "kid": "one", "d": encoded((7).to_bytes(32, "big"))}
    head, body, signature = signed(claims, jwk).split(".")
    assert json.loads(decoded(head)) == {"alg": "ES256", "kid": "one", "typ": "JWT"}
    assert json.loads(decoded(body)) == claims
    raw = decoded(signature)
    pair = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    key.public_key().verify(pair, f"{head}.{body}".encode(), ec.ECDSA(hashes.SHA256()))
    with pytest.raises(InvalidSignature):
        key.public_key().verify(pair, f"{head}.{body}x".encode(), ec.ECDSA(hashes.SHA256()))


@pytest.mark.parametrize(
    "jwk",
    [
        {"kty": "oct", "k": "secret-k"},
        {"kty": "OKP", "crv": "Ed25519", "d": "secret-d"},
        {"kty": "EC", "crv": "P-256"},
        {"kty": "EC", "crv": "P-256", "d": "AA"},
        {"kty": "EC", "crv": "P-256", "d": 5},
    ],
)
def test_a_key_of_another_kind_is_said_and_not_shown(jwk: dict[str, object]) -> None:
    with pytest.raises(CaError, match=r"only EC keys|is damaged") as told:
        signed({}, jwk)
    assert "secret" not in str(told.value)


@given(st.binary(max_size=40))
def test_base64_of_jose(raw: bytes) -> None:
    assert decoded(encoded(raw)) == raw
    assert encoded(raw) == base64.urlsafe_b64encode(raw).decode().rstrip("=")
