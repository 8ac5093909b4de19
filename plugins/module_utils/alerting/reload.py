# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes Prometheus read its files again where it has not, without a restart, and looks whether it did."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from .errors import AlertingError
from .prometheus import Loaded

_ALERT = re.compile(r"^\s*(?:-\s+)?[\"']?alert[\"']?:\s*[\"']?(\w+)", re.MULTILINE)
_POLL_SECONDS = 0.5


class Server(Protocol):
    """What is asked of Prometheus."""

    def loaded(self) -> Loaded:
        """What it runs with."""


def alerts_in(path: str) -> list[str]:
    """The names of the alerts of a rule file, in order; none where there is no file. Raises AlertingError."""
    try:
        with open(path, encoding="utf-8") as file:
            return _ALERT.findall(file.read())
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise AlertingError(f"Cannot read {path}: {error}.") from error


def newest(paths: Sequence[str]) -> float:
    """When the file that was changed last was changed, in seconds since 1970; 0 where there is none."""
    return max((os.stat(path).st_mtime for path in paths if os.path.exists(path)), default=0.0)


class Reload:
    """One attempt.

    Args:
        server: Prometheus.
        expected: the names of the alerts that it should have from each rule file, none for a file that is gone.
        changed_at: when its files were changed last, in seconds since 1970.
    """

    def __init__(self, server: Server, expected: Mapping[str, Sequence[str]], changed_at: float) -> None:
        self._server = server
        self._expected = expected
        self._changed_at = changed_at

    def is_needed(self) -> bool:
        """Whether it runs with other files than those that are there. Raises AlertingError."""
        # It tells whole seconds.
        return self._behind(self._server.loaded(), math.floor(self._changed_at))

    def settle(
        self, trigger: Callable[[], None], clock: Callable[[], float], sleep: Callable[[float], None], wait: float
    ) -> None:
        """Triggers it, and waits until Prometheus runs with the files that are there.

        Args:
            trigger: tells Prometheus to reload.
            clock: seconds since 1970.
            sleep: takes seconds.
            wait: how long at most, in seconds.

        Raises:
            AlertingError: it refused them, or does not know a rule file; it goes on with what it had.
        """
        began = clock()
        before = self._server.loaded()
        trigger()
        loaded = self._server.loaded()
        while self._behind(loaded, math.floor(began)) and clock() < began + wait:
            if before.good and not loaded.good:
                break
            sleep(_POLL_SECONDS)
            loaded = self._server.loaded()
        if not loaded.good:
            raise AlertingError(
                "Prometheus has refused its configuration and goes on with the one before; its next restart would fail."
                " Its log says why (journalctl -u prometheus -n 20), and so does promtool check config with its file."
            )
        if loaded.at is not None and loaded.at < math.floor(began):
            raise AlertingError(
                f"Prometheus was told to reload and has not within {wait:g} s. Does the service's reload send SIGHUP "
                "to this Prometheus, and is the address that of the same one?"
            )
        for path, names in self._expected.items():
            if loaded.alerts.get(path, []) != list(names):
                raise AlertingError(self._unknown(path, names))

    def _behind(self, loaded: Loaded, since: float) -> bool:
        return (
            not loaded.good
            or (loaded.at is not None and loaded.at < since)
            or any(loaded.alerts.get(path, []) != list(names) for path, names in self._expected.items())
        )

    @staticmethod
    def _unknown(path: str, names: Sequence[str]) -> str:
        if not names:
            return f"Prometheus has loaded its configuration and still has the rules of {path}, which is gone."
        return (
            f"Prometheus has loaded its configuration, without the rules of {path}. Add this to its rule_files: "
            f"{os.path.dirname(path)}/*.yml."
        )
