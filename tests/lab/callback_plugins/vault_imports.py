# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Imports once, in ansible-playbook's own process, the packages that each module for Vault imports.

Modules that connection_plugins/local.py runs in a fork then have them: that is a fifth of the CPU time of a recovery.
"""

from __future__ import annotations

import importlib

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: vault_imports
type: aggregate
short_description: Import the packages of Vault's modules
description:
  - Imports C(hvac), and with it C(requests), before the first task. It reports nothing.
requirements:
  - Enable it in C(ANSIBLE_CALLBACKS_ENABLED).
"""

importlib.import_module("hvac")


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """The callback."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "vault_imports"
    CALLBACK_NEEDS_ENABLED = True
