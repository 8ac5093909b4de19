# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a scan found: one finding is one line of text, whatever a hostile process has put into its name."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Optional

from .rules import RULES

LONGEST = 400
"""Characters that are kept of one value; of what is longer the middle goes."""
MOST = 20
"""Items that are kept of one list, and keys of one mapping."""


class Finding(NamedTuple):
    """One thing that a rule found on this host, the same in the next run if it is still there.

    Attributes:
        rule: a key of RULES.
        severity: one of SEVERITIES.
        subject: what it is about, for a person: a path, a program, an address.
        summary: one sentence.
        evidence: JSON values, for whoever looks into it. May differ from run to run (process ids).
        key: what makes it the same finding in the next run; no process id, no time.
    """

    rule: str
    severity: str
    subject: str
    summary: str
    evidence: Mapping[str, Any]
    key: tuple[str, ...]

    @property
    def technique(self) -> str:
        """MITRE ATT&CK's number, or ""."""
        return RULES[self.rule].technique

    @property
    def fingerprint(self) -> str:
        """The same for the same rule and key, on every run and version: 16 hexadecimal digits."""
        import hashlib  # noqa: PLC0415 - the network is asked sooner without it

        text = json.dumps([self.rule, *self.key], ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class Scan(NamedTuple):
    """What one scanner saw.

    Attributes:
        findings: of its rules.
        blind: a sentence for each place where it could not look. Not to have looked is not to have found nothing:
            while there is one, nothing that this scanner had found before counts as gone.
    """

    findings: list[Finding]
    blind: list[str]

    @classmethod
    def of(cls, told: Sequence[Any]) -> Scan:
        """The scan that was one before it went through JSON."""
        findings, blind = told
        return cls([Finding(*fields)._replace(key=tuple(fields[-1])) for fields in findings], blind)


def found(
    rule: str,
    subject: str,
    summary: str,
    evidence: Mapping[str, Any],
    key: Sequence[str],
    severity: Optional[str] = None,
) -> Finding:
    """A finding whose every text is safe to print, with the severity of its rule unless one is given."""
    return Finding(
        rule,
        severity or RULES[rule].severity,
        one_line(subject),
        one_line(summary),
        safe(evidence),
        tuple(one_line(part, longest=4096) for part in key),
    )


def one_line(text: str, longest: int = LONGEST) -> str:
    """The text with everything that is no printable character written as an escape, and cut in its middle.

    Newlines, ANSI sequences, bidirectional overrides and the surrogates that stand for bytes outside UTF-8 all become
    visible: a terminal and a log see one harmless line.
    """
    if len(text) > longest:
        half = longest // 2
        text = f"{text[:half]}…({len(text) - 2 * half} more)…{text[-half:]}"
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def safe(value: Any) -> Any:
    """A JSON value in which every text is one_line, and no list or mapping is longer than MOST."""
    if isinstance(value, str):
        return one_line(value)
    if isinstance(value, Mapping):
        return {one_line(str(name)): safe(item) for name, item in list(value.items())[:MOST]}
    if isinstance(value, (list, tuple)):
        kept = [safe(item) for item in value[:MOST]]
        return kept if len(value) <= MOST else [*kept, f"… {len(value) - MOST} more"]
    return value
