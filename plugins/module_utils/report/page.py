# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A report as one HTML page that needs no other file: the frame, the style and the escaping of every report."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

SHARED = [Path(__file__).with_name(name) for name in ("page.html.j2", "macros.html.j2")]
SIGNS = {"passed": "\N{CHECK MARK}", "failed": "\N{BALLOT X}", "skipped": "-", "aborted": "!"}
"""Beside the word, for readers who see no colors."""

LONGEST = 4000
"""Characters of one value on a page. The record has all of it."""

_UNPRINTABLE = re.compile(
    # Control characters, those that change the direction of the text around them, and halves of UTF-16 pairs.
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff\ufffe\uffff]"
)


def printable(value: object) -> str:
    """Return a value as text that changes no other text of the page and that UTF-8 can encode."""
    text = _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", str(value).replace("\r\n", "\n"))
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} \N{HORIZONTAL ELLIPSIS}"


class Page:
    """The pages of one template, which extends the frame. It is compiled once.

    Every value is made printable and escaped. Only drawings, which escape their own values, are `Markup`.

    Args:
        file: the template.
        filters: for the template, by name.
    """

    def __init__(self, file: Path, **filters: Callable[..., Any]) -> None:
        self._file = file
        self._filters = filters

    def render(self, title: str, **values: Any) -> str:
        """Return the page with this title and these values."""
        return str(self._template.render(title=title, signs=SIGNS, **values))

    @cached_property
    def _template(self) -> Any:
        # Ansible has Jinja2, on the controller. A host, to which this file may be sent, need not have it.
        from jinja2 import DictLoader, Environment, StrictUndefined  # noqa: PLC0415
        from markupsafe import Markup  # noqa: PLC0415

        texts = {file.name: file.read_text(encoding="utf-8") for file in (*SHARED, self._file)}
        environment = Environment(
            autoescape=True,
            finalize=lambda value: value if isinstance(value, Markup) else printable(value),
            loader=DictLoader(texts),
            lstrip_blocks=True,
            trim_blocks=True,
            undefined=StrictUndefined,
        )
        environment.filters.update(self._filters)
        return environment.get_template(self._file.name)


def drawing(svg: str) -> Any:
    """Return a drawing of `charts` as the page takes it: not escaped again."""
    from markupsafe import Markup  # noqa: PLC0415

    return Markup(svg)  # noqa: S704
