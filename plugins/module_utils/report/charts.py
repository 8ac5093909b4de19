# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drawings of a report, as SVG that takes its colors from the page: a timeline and a trend, to scale.

Source of the format: W3C, "Scalable Vector Graphics 2".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape as escape_html
from typing import Optional

from .page import printable

WIDTH = 900
"""Of every drawing, in its own units; the page scales it."""
LABELS = 150
"""Width of the labels that are left of a timeline."""
_RIGHT = 20
_ROW = 34
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400)


@dataclass(frozen=True)
class Bar:
    """One row of a timeline. Times are in seconds from the start of the timeline.

    Attributes:
        kind: the style's name for its color: ``passed``, ``failed``, ``aborted`` or ``skipped``.
        tip: shown when the pointer is on the bar.
        within: begin, end and tip of a narrow bar over this one, None for none.
    """

    label: str
    begin: float
    end: float
    kind: str
    tip: str
    within: Optional[tuple[float, float, str]] = None


def escape(text: str) -> str:
    """Return a text as the page takes it."""
    return escape_html(printable(text))


def duration(value: Optional[float]) -> str:
    """Seconds as a person reads them."""
    if value is None:
        return "-"
    if value < 120:
        return f"{value:.1f} s" if 0 < value < 10 else f"{value:.0f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h" if hours else f"{days} d"
    if hours:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{minutes} min {rest} s" if rest else f"{minutes} min"


def timeline(
    bars: Sequence[Bar], whole: float, title: str, *, labels: int = LABELS, mark: Optional[tuple[float, str]] = None
) -> str:
    """Draw a row for each bar.

    Args:
        whole: length of the timeline in seconds.
        title: for readers who cannot see the drawing.
        labels: width of the column of labels.
        mark: time and name of a moment, drawn as a line through all rows.
    """
    whole = max(whole, 1.0)
    scale = (WIDTH - labels - _RIGHT) / whole
    top = 24 if mark else 6
    height = top + _ROW * len(bars) + 34
    drawn = []
    for moment in _ticks(whole):
        x = labels + moment * scale
        drawn.append(f'<line class="grid" x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{height - 30}"/>')
        drawn.append(f'<text class="axis" x="{x:.1f}" y="{height - 12}" text-anchor="middle">{duration(moment)}</text>')
    for row, one in enumerate(bars):
        y = top + 4 + row * _ROW
        drawn.append(
            f'<text class="label" x="{labels - 10}" y="{y + 16}" text-anchor="end">{escape(one.label)}</text>'
            f"{_rect(one.kind, labels + one.begin * scale, y, (one.end - one.begin) * scale, 22, one.tip)}"
        )
        if one.within:
            begin, end, tip = one.within
            drawn.append(_rect("fault", labels + begin * scale, y + 15, (end - begin) * scale, 7, tip))
    if mark:
        moment, name = mark
        x = labels + moment * scale
        anchor = "start" if moment < whole / 2 else "end"
        drawn.append(f'<line class="mark" x1="{x:.1f}" y1="{top - 6}" x2="{x:.1f}" y2="{height - 30}"/>')
        drawn.append(
            f'<text class="axis mark-text" x="{x:.1f}" y="{top - 10}" text-anchor="{anchor}">{escape(name)}</text>'
        )
    return _svg(height, title, drawn)


def _rect(kind: str, x: float, y: float, width: float, height: int, tip: str) -> str:
    return (
        f'<rect class="{escape(kind)}" x="{x:.1f}" y="{y}" width="{max(width, 2):.1f}" height="{height}" rx="3">'
        f"<title>{escape(tip)}</title></rect>"
    )


def trend(points: Sequence[tuple[str, Optional[float], bool]], objective: Optional[float], what: str) -> str:
    """One value over all drills, the oldest first.

    Args:
        points: day, seconds or None where it was not measured, and whether the phase passed.
        objective: seconds, a line; None for none.
        what: the value is, for who cannot see it.
    """
    height, bottom, top = 220, 180, 16
    values = [value for _day, value, _passed in points if value is not None]
    highest = _round_up(max([*values, objective or 0.0, 1.0]))
    across = (WIDTH - 90 - _RIGHT) / max(len(points) - 1, 1)

    def y_of(value: float) -> float:
        return bottom - value / highest * (bottom - top)

    drawn = []
    for part in (0.0, 0.5, 1.0):
        y = y_of(part * highest)
        drawn.append(f'<line class="grid" x1="90" y1="{y:.1f}" x2="{WIDTH - _RIGHT}" y2="{y:.1f}"/>')
        drawn.append(f'<text class="axis" x="82" y="{y + 4:.1f}" text-anchor="end">{duration(part * highest)}</text>')
    if objective is not None:
        y = y_of(objective)
        drawn.append(f'<line class="objective" x1="90" y1="{y:.1f}" x2="{WIDTH - _RIGHT}" y2="{y:.1f}"/>')
        drawn.append(
            f'<text class="axis objective-text" x="{WIDTH - _RIGHT}" y="{y - 5:.1f}" text-anchor="end">'
            f"objective {duration(objective)}</text>"
        )
    there = [(90 + number * across, point) for number, point in enumerate(points)]
    path = " ".join(f"{x:.1f},{y_of(value):.1f}" for x, (_day, value, _passed) in there if value is not None)
    drawn.append(f'<polyline class="trend" points="{path}"/>')
    every = math.ceil(len(points) / 8)
    for number, (x, (day, value, passed)) in enumerate(there):
        if number % every == 0 or number == len(points) - 1:
            anchor = "end" if number == len(points) - 1 and number else "start" if number == 0 else "middle"
            drawn.append(
                f'<text class="axis" x="{x:.1f}" y="{bottom + 20}" text-anchor="{anchor}">{escape(day)}</text>'
            )
        if value is not None:
            kind = "passed" if passed else "failed"
            drawn.append(
                f'<circle class="{kind}" cx="{x:.1f}" cy="{y_of(value):.1f}" r="5">'
                f"<title>{escape(day)}: {duration(value)}, {kind}</title></circle>"
            )
    return _svg(height, f"{what} over {len(points)} drills", drawn)


def _ticks(whole: float) -> list[float]:
    step = next((step for step in _STEPS if whole / step <= 8), math.ceil(whole / 8 / 86400) * 86400)
    return [number * step for number in range(int(whole / step) + 1)]


def _round_up(value: float) -> float:
    """To a time that is good to read on an axis, and half of it."""
    steps = [2 * step for step in _STEPS if 2 * step >= value]
    return float(steps[0]) if steps else 172800.0 * math.ceil(value / 172800)


def _svg(height: float, title: str, drawn: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(title)}" '
        f'xmlns="http://www.w3.org/2000/svg">{"".join(drawn)}</svg>'
    )
