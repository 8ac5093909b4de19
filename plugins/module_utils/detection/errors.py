# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can go wrong with host detection in a way that an operator can mend."""

from __future__ import annotations


class DetectionError(Exception):
    """The scan cannot begin or cannot keep what it found; the message says what, where and what to do next."""
