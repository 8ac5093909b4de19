# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When certificates expire: a few lines of DER against what cryptography makes, and what else may be in a file."""

from __future__ import annotations

import datetime as dt
import os
from contextlib import suppress
from pathlib import Path

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.detection import certificates
from ansible_collections.custodes.security_dr.plugins.module_utils.files import read_regular
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

UTC = dt.timezone.utc
KEY = ec.generate_private_key(ec.SECP256R1())
NOW = dt.datetime(2026, 6, 1, tzinfo=UTC)
EARLY = dt.datetime(1961, 1, 1, tzinfo=UTC)


def certificate(end: dt.datetime, name: str = "host", serial: int = 1, extensions: int = 0) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(KEY.public_key())
        .serial_number(serial)
        .not_valid_before(dt.datetime(1960, 1, 1, tzinfo=UTC))
        .not_valid_after(end)
    )
    for number in range(extensions):
        oid = x509.ObjectIdentifier(f"1.2.3.{number + 1}")
        builder = builder.add_extension(x509.UnrecognizedExtension(oid, b"x" * 200), critical=False)
    return builder.sign(KEY, hashes.SHA256())


def pem(*several: x509.Certificate) -> bytes:
    return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in several)


def der(one: x509.Certificate) -> bytes:
    return one.public_bytes(serialization.Encoding.DER)


WHOLE = der(certificate(NOW))


@settings(deadline=None, max_examples=60)
@given(
    seconds=st.integers(0, (dt.datetime.max.replace(tzinfo=UTC) - EARLY) // dt.timedelta(seconds=1)),
    name=st.text("abc é中", min_size=1, max_size=64),
    serial=st.integers(1, 2**158),
    extensions=st.integers(0, 20),
)
def test_the_date_is_the_one_that_was_written(seconds: int, name: str, serial: int, extensions: int) -> None:
    end = EARLY + dt.timedelta(seconds=seconds)
    one = certificate(end, name, serial, extensions)
    assert certificates.expiries(der(one)) == [end]
    assert certificates.expiries(b"leaf:\n" + pem(one) + b"more text\n" + pem(one)) == [end, end]


@settings(deadline=None)
@given(st.data())
def test_damage_is_a_value_error_and_nothing_else(data: st.DataObject) -> None:
    whole = bytearray(WHOLE)
    for _time in range(data.draw(st.integers(0, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    length = data.draw(st.integers(0, len(whole)))
    with suppress(ValueError):
        certificates.not_after(bytes(whole[:length]))


@given(st.binary(max_size=60))
def test_noise_is_a_value_error_and_nothing_else(noise: bytes) -> None:
    for content in (noise, b"\x30\x20\x30\x1e" + noise, b"-----BEGIN CERTIFICATE-----" + noise):
        with pytest.raises(ValueError, match="certificate"):
            certificates.expiries(content)


def test_a_certificate_that_is_cut_off_in_a_chain_is_not_passed_over() -> None:
    chain = pem(certificate(NOW), certificate(NOW))
    with pytest.raises(ValueError, match="cut off"):
        certificates.expiries(chain[:-40])


def test_a_private_key_beside_it_does_not_matter() -> None:
    key = KEY.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    assert certificates.expiries(key + pem(certificate(NOW))) == [NOW]
    with pytest.raises(ValueError, match="holds no certificate"):
        certificates.expiries(key)


def test_a_certificate_with_days_to_spare_is_not_reported() -> None:
    assert certificates.judge("/x.pem", [NOW + dt.timedelta(days=14)], NOW, 14) == []


def test_a_certificate_that_expires_soon_is_reported_with_its_date() -> None:
    (finding,) = certificates.judge("/x.pem", [NOW + dt.timedelta(days=2, hours=12)], NOW, 14)
    assert finding.severity == "high"
    assert finding.summary == "/x.pem expires on 2026-06-03 12:00 UTC, in 2.5 days."


def test_an_expired_certificate_is_critical_and_the_same_finding() -> None:
    soon = certificates.judge("/x.pem", [NOW + dt.timedelta(days=1)], NOW, 14)[0]
    (finding,) = certificates.judge("/x.pem", [NOW + dt.timedelta(days=99), NOW], NOW, 14)
    assert finding.severity == "critical"
    assert finding.summary == "Certificate 2 of 2 in /x.pem has expired on 2026-06-01 00:00 UTC."
    assert finding.fingerprint == soon.fingerprint


def test_only_regular_files_of_a_sane_size_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="no regular file"):
        read_regular(str(tmp_path / "fifo"), 10)
    with pytest.raises(OSError, match=r"regular|directory"):
        read_regular(str(tmp_path), 10)
    (tmp_path / "big").write_bytes(b"x" * 11)
    with pytest.raises(OSError, match="more than 10 bytes"):
        read_regular(str(tmp_path / "big"), 10)
    (tmp_path / "big").write_bytes(b"x" * 10)
    assert read_regular(str(tmp_path / "big"), 10) == b"x" * 10
