# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two drawings of a drill's report, as SVG that takes its colours from the page: a timeline and a trend, to scale.

Source of the format: W3C, "Scalable Vector Graphics 2".
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Optional

from .times import seconds

WIDTH = 900
"""Of every drawing, in its own units; the page scales it."""
_LEFT, _RIGHT = 150, 20
_ROW = 34
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400)


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


def timeline(record: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """Every phase of a drill from its begin to its end, and within it the time for which its fault was in force.

    Args:
        names: of the phases, for the reader.
    """
    phases = record["phases"]
    began = seconds(record["started"])
    whole = max(seconds(record["ended"]) - began, 1.0)
    scale = (WIDTH - _LEFT - _RIGHT) / whole
    height = _ROW * len(phases) + 40

    def at(time: str) -> float:
        return _LEFT + (seconds(time) - began) * scale

    drawn = []
    for moment in _ticks(whole):
        x = _LEFT + moment * scale
        drawn.append(f'<line class="grid" x1="{x:.1f}" y1="6" x2="{x:.1f}" y2="{height - 30}"/>')
        drawn.append(f'<text class="axis" x="{x:.1f}" y="{height - 12}" text-anchor="middle">{duration(moment)}</text>')
    for row, phase in enumerate(phases):
        y = 10 + row * _ROW
        x, end = at(phase["started"]), at(phase["ended"])
        tip = f"{names.get(phase['name'], phase['name'])}: {duration((end - x) / scale)}, {phase['verdict']}"
        drawn.append(
            f'<text class="label" x="{_LEFT - 10}" y="{y + 16}" text-anchor="end">'
            f"{escape(names.get(phase['name'], phase['name']))}</text>"
            f'<rect class="{escape(phase["verdict"])}" x="{x:.1f}" y="{y}" '
            f'width="{max(end - x, 2):.1f}" height="22" rx="3">'
            f"<title>{escape(tip)}</title></rect>"
        )
        drawn.append(_fault(phase, y, at))
    told = f"Timeline of {len(phases)} phases over {duration(whole)}"
    return _svg(height, told, drawn)


def _fault(phase: Mapping[str, Any], y: float, at: Any) -> str:
    fault = phase.get("fault")
    if not fault or not fault.get("injected"):
        return ""
    undone = fault["undone"] or phase["ended"]
    x, end = at(fault["injected"]), at(undone)
    tip = f"{fault['what']}: in force for {duration(seconds(undone) - seconds(fault['injected']))}"
    return (
        f'<rect class="fault" x="{x:.1f}" y="{y + 15}" width="{max(end - x, 2):.1f}" height="7" rx="2">'
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
    step = next((step for step in _STEPS if whole / step <= 8), _STEPS[-1])
    return [number * step for number in range(int(whole / step) + 1)]


def _round_up(value: float) -> float:
    """To a time that is good to read on an axis, and half of it."""
    steps = [2 * step for step in _STEPS if 2 * step >= value]
    return float(steps[0]) if steps else 172800.0 * math.ceil(value / 172800)


def _svg(height: float, told: str, drawn: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(told)}" '
        f'xmlns="http://www.w3.org/2000/svg">{"".join(drawn)}</svg>'
    )
