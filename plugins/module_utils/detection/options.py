# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads a part of the configuration: every option has a type and a default, and none is unknown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Union

from .errors import DetectionError

Kind = Union[type, tuple[type, ...]]


def read(config: Any, where: str, spec: Mapping[str, tuple[Kind, Any]]) -> dict[str, Any]:
    """The options in a mapping, those that are missing with their defaults; numbers have to be positive.

    Args:
        config: what stands in the configuration; None stands for an empty mapping.
        where: its name in the configuration, for messages, such as "listeners".
        spec: each option's type (bool, int, float for any number, str, list, dict) and default. An option whose
            default is ``...`` has to be given. None is taken for "not given".

    Raises DetectionError, which names the option and what it has to be.
    """
    if not isinstance(config, (Mapping, type(None))):
        raise DetectionError(f"The configuration's {where} has to be an object, and is {_kind(config)}.")
    given = {name: value for name, value in (config or {}).items() if value is not None}
    unknown = sorted(set(given) - set(spec))
    if unknown:
        raise DetectionError(f"The configuration's {where} has no option {unknown[0]}: it takes {', '.join(spec)}.")
    result: dict[str, Any] = {}
    for name, (kind, default) in spec.items():
        if name in given:
            result[name] = _checked(given[name], f"{where}.{name}", kind)
        elif default is ...:
            raise DetectionError(f"The configuration's {where} lacks {name}.")
        else:
            result[name] = default
    return result


def _checked(value: Any, name: str, kind: Kind) -> Any:
    kinds = kind if isinstance(kind, tuple) else (kind,)
    taken = (*kinds, int) if float in kinds else kinds
    if not isinstance(value, taken) or (isinstance(value, bool) and bool not in kinds):
        wanted = " or ".join(_NAMES[one] for one in kinds)
        raise DetectionError(f"The configuration's {name} has to be {wanted}, and is {_kind(value)}.")
    if isinstance(value, (int, float)) and not isinstance(value, bool) and not value > 0:
        raise DetectionError(f"The configuration's {name} has to be above 0, and is {value!r}.")
    return value


def _kind(value: Any) -> str:
    """What a value is. The value itself may be a secret, such as a webhook's URL in a wrong place."""
    return next((name for kind, name in _NAMES.items() if isinstance(value, kind)), "something else")


_NAMES = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    list: "a list",
    dict: "an object",
}
