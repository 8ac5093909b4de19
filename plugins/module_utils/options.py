# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Refuse options that are given and empty."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

MAY_BE_EMPTY = frozenset({"namespace"})
"""Options of which the empty string is a value: the root namespace."""


def empty_options(spec: Mapping[str, Mapping[str, Any]], given: Mapping[str, Any]) -> str | None:
    """Return why the options are refused, None if no one is given and empty.

    An empty value is almost always a variable that has lost its value. If it counted as "not given", the module would
    use the environment's token, another address or the machine's own credentials instead.

    Args:
        spec: an argument spec. An option may be empty if its default is the empty string.
        given: the options as the task has them, before defaults and fallbacks.
    """
    found = list(_empty(spec, given, ""))
    if not found:
        return None
    return (
        f"Refused before anything was done: {', '.join(found)} {'is' if len(found) == 1 else 'are'} given and empty. "
        "Give a value, or omit the option, for example with the filter default(omit, true)."
    )


def empty_items(spec: Mapping[str, Mapping[str, Any]], values: Mapping[str, Any]) -> str | None:
    """Return why the options are refused after their conversion: a text like ``a,`` is a list with an empty item."""
    lists = {name: value for name, value in values.items() if isinstance(value, list)}
    return empty_options(spec, {name: [item for item in lists[name] if isinstance(item, str)] for name in lists})


def _empty(spec: Mapping[str, Mapping[str, Any]], given: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for option, rules in spec.items():
        if option in MAY_BE_EMPTY or rules.get("default") == "":
            continue
        for name in (option, *rules.get("aliases", ())):
            if name in given:
                yield from _empty_values(rules, given[name], f"{prefix}{name}")


def _empty_values(rules: Mapping[str, Any], value: Any, name: str) -> Iterator[str]:
    nested = rules.get("options")
    if value is None or (isinstance(value, str) and not value.strip()):
        yield name
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _empty_values({"options": nested}, item, f"{name}[{number}]")
    elif nested and isinstance(value, Mapping):
        yield from _empty(nested, value, f"{name}.")
