# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Opens the places that keep snapshots, as a destination's options describe them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ...files import StoreError
from .base import Store
from .filesystem import FilesystemStore

_OF_THE_BACKUP = {"type", "required", "retention"}
"""Options of a destination that its store does not need."""

_OPTIONS: dict[str, dict[str, type]] = {
    "filesystem": {"path": str},
}
_NEEDED = {"filesystem": ("path",)}


def open_store(options: Mapping[str, Any]) -> Store:
    """The store that a destination's options describe; nothing is asked or written yet.

    Args:
        options: ``type`` and that type's options; one that is None counts as not given.

    Raises:
        StoreError: an option is unknown, missing or impossible; the message names it.
    """
    given = {name: value for name, value in options.items() if value is not None}
    kind = given.get("type")
    if kind not in _OPTIONS:
        raise StoreError(f"A destination's type is {' or '.join(sorted(_OPTIONS))}, not {kind!r}.")
    ours = {name: value for name, value in given.items() if name not in _OF_THE_BACKUP}
    _check(kind, ours)
    if not os.path.isabs(ours["path"]):
        raise StoreError(f"The destination {ours['path']} is no absolute path. Give one that starts with a slash.")
    return FilesystemStore(ours["path"])


def _check(kind: str, given: Mapping[str, Any]) -> None:
    known = _OPTIONS[kind]
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise StoreError(f"A {kind} destination has no option {', '.join(unknown)}. It has {', '.join(known)}.")
    missing = [name for name in _NEEDED[kind] if not given.get(name)]
    if missing:
        raise StoreError(f"A {kind} destination needs {', '.join(missing)}.")
    for name, value in given.items():
        if not isinstance(value, known[name]) or isinstance(value, bool):
            raise StoreError(
                f"The option {name} of a {kind} destination is a {known[name].__name__}, not a {type(value).__name__}."
            )
