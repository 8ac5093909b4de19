# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare the versions of Vault and OpenBao."""

from __future__ import annotations

import re
from typing import Optional


def numbers(version: Optional[str]) -> tuple[int, ...]:
    """Return the first three numbers of a version, without what follows a ``+``: ``2.0.1+ent`` is (2, 0, 1).

    None, and a text without a number, give an empty tuple, which is older than all.
    """
    return tuple(int(number) for number in re.findall(r"\d+", (version or "").partition("+")[0])[:3])
