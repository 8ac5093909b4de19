# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When certificates expire: the one date of PEM and DER files that the standard library does not read.

Source of the format: RFC 5280, section 4.1 (the certificate and its validity), and ITU-T X.690 (DER).
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone

from .findings import Finding, found

_BEGIN = re.compile(rb"-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----")
_PEM = re.compile(rb"-----BEGIN ((?:X509 |TRUSTED )?CERTIFICATE)-----([A-Za-z0-9+/=\s]*)-----END \1-----")
_INTEGER, _UTC_TIME, _GENERALIZED_TIME, _SEQUENCE, _VERSION = 0x02, 0x17, 0x18, 0x30, 0xA0


def expiries(data: bytes) -> list[datetime]:
    """When each certificate in a PEM file, or the one in a DER file, expires, in the file's order.

    Raises ValueError: there is no certificate in it, or one is damaged.
    """
    started = len(_BEGIN.findall(data))
    if not started:
        return [not_after(data)]
    blocks = _PEM.findall(data)
    if len(blocks) != started:
        raise ValueError("a certificate in it is cut off")
    return [not_after(binascii.a2b_base64(text)) for _label, text in blocks]


def not_after(der: bytes) -> datetime:
    """When a certificate in DER expires. Raises ValueError: it is no certificate."""
    start, end = _element(der, 0, len(der), _SEQUENCE)
    at, end = _element(der, start, end, _SEQUENCE)
    if der[at : at + 1] == bytes([_VERSION]):
        at = _element(der, at, end, _VERSION)[1]
    for tag in (_INTEGER, _SEQUENCE, _SEQUENCE):  # serial number, signature algorithm, issuer
        at = _element(der, at, end, tag)[1]
    at, end = _element(der, at, end, _SEQUENCE)
    at = _element(der, at, end, _UTC_TIME, _GENERALIZED_TIME)[1]
    start, stop = _element(der, at, end, _UTC_TIME, _GENERALIZED_TIME)
    return _time(der[at], der[start:stop])


def _element(der: bytes, at: int, end: int, *tags: int) -> tuple[int, int]:
    """Where the content of the element at a place begins and ends; it has one of these tags and ends by `end`."""
    if at + 2 > end or der[at] not in tags:
        raise ValueError("it holds no certificate")
    size, start = der[at + 1], at + 2
    if size >= 0x80:
        count = size - 0x80
        if not 1 <= count <= 4 or start + count > end:
            raise ValueError("it holds no certificate")
        size, start = int.from_bytes(der[start : start + count], "big"), start + count
    if start + size > end:
        raise ValueError("a certificate in it is cut off")
    return start, start + size


def _time(tag: int, value: bytes) -> datetime:
    digits = value[:-1].decode("ascii", "replace")
    if value[-1:] != b"Z" or not re.fullmatch("[0-9]{12}" if tag == _UTC_TIME else "[0-9]{14}", digits):
        raise ValueError("a certificate in it has a date that RFC 5280 does not know")
    if tag == _UTC_TIME:
        digits = ("19" if digits >= "50" else "20") + digits
    year, rest = int(digits[:4]), [int(digits[at : at + 2]) for at in range(4, 14, 2)]
    return datetime(year, *rest, tzinfo=timezone.utc)  # type: ignore[misc,arg-type]  # five numbers


def judge(name: str, times: Sequence[datetime], now: datetime, days: float) -> list[Finding]:
    """What is to be said of a file or an endpoint whose certificates expire at these times: nothing, or one finding.

    Args:
        name: the file's path, or the endpoint.
        times: of its certificates.
        now: with a time zone.
        days: it is reported when it has less than these left.
    """
    first = min(times)
    if first - now >= timedelta(days=days):
        return []
    which = f"Certificate {times.index(first) + 1} of {len(times)} in {name}" if len(times) > 1 else name
    date = first.strftime("%Y-%m-%d %H:%M UTC")
    if first <= now:
        return [problem(name, f"{which} has expired on {date}.", {"not_after": date}, "critical")]
    left = (first - now) / timedelta(days=1)
    return [problem(name, f"{which} expires on {date}, in {left:.1f} days.", {"not_after": date})]


def problem(name: str, summary: str, evidence: dict[str, str], severity: str = "high") -> Finding:
    """A finding of infrastructure.certificate: the same for one file or endpoint, whatever is wrong with it."""
    return found("infrastructure.certificate", name, summary, evidence, ("certificate", name), severity)
