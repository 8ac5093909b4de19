# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a lost quorum is not made up for."""

from __future__ import annotations


class QuorumError(Exception):
    """It is refused or cannot be done; the message says why and what to do next."""
