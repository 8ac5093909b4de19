# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with a chain is said, and agrees with what Python's ssl says in a handshake with the same chain."""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.tls.chain import Bundle, judge, parse
from ansible_collections.custodes.security_dr.plugins.module_utils.tls.errors import TlsError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from OpenSSL import crypto

NOW = dt.datetime.now(dt.timezone.utc)
DAY = dt.timedelta(days=1)
USES = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
NO_USE = dict.fromkeys((*USES, "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"), False)
MAY_SIGN = x509.KeyUsage(**{**NO_USE, "key_cert_sign": True})


@dataclass
class Made:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )


Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def make(
    name: str,
    by: Made | None = None,
    *,
    ca: bool = False,
    begins: dt.timedelta = -DAY,
    ends: dt.timedelta = 30 * DAY,
    names: Sequence[str] = ("www.example.com",),
    key: Key | None = None,
    usage: Sequence[x509.ObjectIdentifier] = (),
) -> Made:
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder(
            issuer_name=by.certificate.subject if by else subject,
            subject_name=subject,
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=NOW + begins,
            not_valid_after=NOW + ends,
        )
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key((by.key if by else key).public_key()), critical=False
        )
    )
    if ca:
        # Without it Python 3.13 takes no CA.
        builder = builder.add_extension(MAY_SIGN, critical=True)
    else:
        alternatives = [x509.IPAddress(ipaddress.ip_address(n)) if n[0].isdigit() else x509.DNSName(n) for n in names]
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    if usage:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usage), critical=False)
    return Made(builder.sign((by or Made(None, key)).key, hashes.SHA256()), key)  # type: ignore[arg-type]


ROOT = make("Root", ca=True, begins=-400 * DAY, ends=400 * DAY)
REBUILT = make("Root", ca=True, begins=-400 * DAY, ends=400 * DAY)
OTHER = make("Other root", ca=True)
MIDDLE = make("Middle", ROOT, ca=True, begins=-400 * DAY, ends=300 * DAY)
OLD_MIDDLE = make("Old middle", ROOT, ca=True, begins=-400 * DAY, ends=-DAY)
GOOD = make("good", MIDDLE)
NO_CA = make("no ca", make("leaf", MIDDLE))
ALONE = make("alone")

CASES = {
    "good": ([GOOD, MIDDLE], ROOT, ""),
    "good, with the root": ([GOOD, MIDDLE, ROOT], ROOT, ""),
    "wrong order": ([GOOD, ROOT, MIDDLE], ROOT, ""),
    "expired": ([make("x", MIDDLE, begins=-9 * DAY, ends=-DAY), MIDDLE], ROOT, "has ended on"),
    "not yet valid": ([make("x", MIDDLE, begins=DAY), MIDDLE], ROOT, "begins only on"),
    "the intermediate has expired": ([make("x", OLD_MIDDLE), OLD_MIDDLE], ROOT, "above it, CN=Old middle, has ended"),
    "no intermediate": ([GOOD], ROOT, "CN=Middle was not sent with it"),
    "another root": ([make("x", OTHER)], ROOT, "CN=Other root was not sent with it, and is not in the bundle"),
    "another root, sent": ([make("x", OTHER), OTHER], ROOT, "leads to the root CN=Other root, which is not in"),
    "a root of the same name": ([make("x", REBUILT)], ROOT, "the CA was made anew"),
    "signed by itself": ([ALONE], ROOT, "signed by itself"),
    "signed by none": ([make("x", leaf := make("leaf", MIDDLE)), leaf, MIDDLE], ROOT, "is no CA's"),
}


def ssl_says(chain: Sequence[Made], root: Made, folder: Path) -> str:
    """What Python's ssl has against it in a handshake; empty when nothing."""
    file = folder / "chain.pem"
    file.write_bytes(chain[0].key_pem + b"".join(one.pem for one in chain))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(file)
    client = ssl.create_default_context(cadata=root.pem.decode())
    client.check_hostname = False
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _round in range(6):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError as error:
                return error.verify_message
            except ssl.SSLError:
                continue
    return ""


@pytest.mark.parametrize("case", CASES)
def test_the_verdict_is_that_of_a_client(case: str, tmp_path: Path) -> None:
    chain, root, why = CASES[case]
    verdict = judge([one.certificate for one in chain], Bundle(root.pem, "the bundle"))
    assert why in verdict.why
    assert (verdict.why == "") is (why == "")
    assert verdict.verifies is (why == "")
    assert (ssl_says(chain, root, tmp_path) == "") is verdict.verifies
    assert (verdict.anchor is not None) is verdict.verifies


def test_what_is_told_of_a_good_one() -> None:
    verdict = judge([GOOD.certificate, MIDDLE.certificate], Bundle(ROOT.pem, "the bundle"), "www.example.com")
    assert verdict.host_matches is True
    assert verdict.subject == "CN=good"
    assert verdict.issuer == "CN=Middle"
    assert verdict.names == ["www.example.com"]
    assert 29.9 < verdict.days_left < 30.1
    assert verdict.anchor is not None
    assert verdict.anchor["subject"] == "CN=Root"
    assert [one["subject"] for one in verdict.chain] == ["CN=good", "CN=Middle"]


@pytest.mark.parametrize(
    ("names", "host", "matches"),
    [
        (["www.example.com"], "WWW.example.com.", True),
        (["*.example.com"], "www.example.com", True),
        (["*.example.com"], "a.b.example.com", False),
        (["*.example.com"], "example.com", False),
        (["*.com"], "example.com", False),
        (["10.0.0.1"], "10.0.0.1", True),
        (["10.0.0.1"], "10.0.0.2", False),
        (["www.example.com"], "10.0.0.1", False),
    ],
)
def test_names(names: list[str], host: str, matches: bool) -> None:
    verdict = judge([make("x", ROOT, names=names).certificate], Bundle(ROOT.pem, "the bundle"), host)
    assert verdict.verifies
    assert verdict.host_matches is matches
    assert (f"not for {host}" in verdict.why) is not matches


@pytest.mark.parametrize(
    ("usage", "taken"),
    [
        ((), True),
        ((ExtendedKeyUsageOID.CLIENT_AUTH,), False),
        ((ExtendedKeyUsageOID.CODE_SIGNING, ExtendedKeyUsageOID.CLIENT_AUTH), False),
        ((ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH), True),
    ],
)
def test_a_server_needs_a_certificate_for_servers(
    usage: Sequence[x509.ObjectIdentifier], taken: bool, tmp_path: Path
) -> None:
    made, bundle = make("x", ROOT, usage=usage), Bundle(ROOT.pem, "the bundle")
    verdict = judge([made.certificate], bundle, "www.example.com")
    assert verdict.verifies is taken
    assert ("not for servers (extended key usage)" in verdict.why) is not taken
    assert (ssl_says([made], ROOT, tmp_path) == "") is taken
    # Of a file nobody knows what it is for.
    assert judge([made.certificate], bundle).why == ""


def test_a_server_may_have_one_for_everything() -> None:
    made = make("x", ROOT, usage=[ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE])
    assert judge([made.certificate], Bundle(ROOT.pem, "the bundle"), "www.example.com").verifies


def rsa_key(bits: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


def hashed(made: Made, by: Made, algorithm: str) -> Made:
    """The same certificate, signed with this hash, which cryptography has given up to do."""
    native = crypto.X509.from_cryptography(made.certificate)
    native.sign(crypto.PKey.from_cryptography_key(by.key), algorithm)
    return Made(native.to_cryptography(), made.key)


RSA_ROOT = make("RSA root", ca=True, key=rsa_key(2048))
SHA1_ROOT = hashed(RSA_ROOT, RSA_ROOT, "sha1")
WEAK_ROOT = make("Weak root", ca=True, key=rsa_key(1024))
WEAK_MIDDLE = make("Weak middle", ROOT, ca=True, key=rsa_key(1024))
WEAK_CURVE = ec.generate_private_key(ec.SECP192R1())


@pytest.mark.parametrize(
    ("chain", "root", "why"),
    [
        ([make("x", ROOT, key=rsa_key(2048))], ROOT, ""),
        (
            [make("x", ROOT, key=rsa_key(1024))],
            ROOT,
            "The certificate has a key or signature that is too weak (a key of 1024",
        ),
        ([make("x", ROOT, key=WEAK_CURVE)], ROOT, "a key of 192 bits, and 224 are the least"),
        ([make("x", WEAK_MIDDLE), WEAK_MIDDLE], ROOT, "The certificate 1 above it, CN=Weak middle, has a key"),
        ([make("x", WEAK_ROOT)], WEAK_ROOT, "The certificate 1 above it, CN=Weak root, has a key"),
        ([hashed(make("x", RSA_ROOT), RSA_ROOT, "sha1")], RSA_ROOT, "too weak (signed with SHA1). Issue anew."),
        ([hashed(make("x", RSA_ROOT), RSA_ROOT, "md5")], RSA_ROOT, "too weak (signed with MD5)"),
        # Nobody looks at the signature of what is trusted by itself.
        ([make("x", SHA1_ROOT)], SHA1_ROOT, ""),
    ],
)
def test_what_is_too_weak(chain: list[Made], root: Made, why: str) -> None:
    verdict = judge([one.certificate for one in chain], Bundle(root.pem, "the bundle"))
    assert why in verdict.why
    assert verdict.verifies is (why == "")
    assert (verdict.anchor is None) is not verdict.verifies


def test_a_weak_root_is_judged_with_what_it_has_signed() -> None:
    assert judge([WEAK_ROOT.certificate], Bundle(WEAK_ROOT.pem, "the bundle")).verifies
    assert "too weak" in judge([WEAK_ROOT.certificate], Bundle(WEAK_ROOT.pem, "the bundle"), "www.example.com").why


def test_a_bundle_without_certificates() -> None:
    with pytest.raises(TlsError, match=r"/etc/x\.pem has no certificate"):
        Bundle(b"nothing", "/etc/x.pem")


def test_a_damaged_certificate() -> None:
    with pytest.raises(TlsError, match=r"Certificate 2 of x\.pem is damaged"):
        parse(ROOT.pem + b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "x.pem")
