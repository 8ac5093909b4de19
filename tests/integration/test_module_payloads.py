# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every module as ansible-playbook sends it: its payload has all that it imports.

Most other tests run modules from the checkout, where every import works.
"""

from __future__ import annotations

import re
from pathlib import Path

import ansible_collections.custodes.security_dr as collection
from integration.run_ansible import Ansible, task

PLUGINS = Path(next(iter(collection.__path__))) / "plugins"
# An action plugin of the same name does the work of the others, on the controller.
MODULES = sorted(
    {file.stem for file in (PLUGINS / "modules").glob("*.py")}
    - {file.stem for file in (PLUGINS / "action").glob("*.py")}
)


def test_every_module_starts_and_refuses_what_it_does_not_know(ansible: Ansible) -> None:
    results = ansible.run_by_playbook([task(name, no_such_option="x") for name in MODULES], typed_failures=False)
    for name, result in zip(MODULES, results, strict=True):
        assert result["failed"] is True, name
        # Said by the argument spec. A module whose payload lacks an import ends in a traceback before that.
        assert re.match(r"Unsupported parameters for|missing required arguments:|\S+ is \S+ but", result["msg"]), result
