# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real servers on loopback for the integration tests, the benchmarks and `make demo`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .lab import Lab
    from .processes import LabError

__all__ = ["Lab", "LabError"]

# No proxy reaches this machine's loopback interface. Downloads of packages still use the proxy.
_direct = [os.environ.get("no_proxy") or os.environ.get("NO_PROXY"), "localhost", "127.0.0.1"]
os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(filter(None, _direct))


def __getattr__(name: str) -> Any:
    """Import the servers only when they are asked for: `lab.archives` and `lab.binaries` do without what they need."""
    if name == "Lab":
        from .lab import Lab

        return Lab
    if name == "LabError":
        from .processes import LabError

        return LabError
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
