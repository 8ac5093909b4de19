# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can go wrong with the agent's service in a way that an operator can mend."""

from __future__ import annotations


class ServiceError(Exception):
    """The agent cannot be installed, or its service does not run; the message says why and what to do next."""
