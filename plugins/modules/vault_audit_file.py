#!/usr/bin/python
# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Enables Vault's audit device that writes to a file."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vault_audit_file
short_description: Enable Vault's audit device that writes to a file
version_added: 0.1.0
description:
  - Enables an audit device of type C(file) for the whole cluster. One that writes to that file already is left alone.
  - A device of the same path that writes elsewhere is refused and never replaced, because a gap in the audit log is
    what an intruder would want.
  - The token needs C(read) and C(sudo) on C(sys/audit), and C(update) and C(sudo) on C(sys/audit/<path>).
author: the custodes.security_dr authors (@custodes)
extends_documentation_fragment:
  - custodes.security_dr.connection
  - custodes.security_dr.auth
  - custodes.security_dr.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  device:
    description:
      - Path at which the device is enabled.
    type: str
    default: file
  file_path:
    description:
      - The file, on every node. Its folder has to exist there and Vault's user has to be able to write it, since Vault
        serves no request that it cannot log.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Log every request
  custodes.security_dr.vault_audit_file:
    url: https://vault-1:8200
    ca_cert: /etc/vault.d/ca.pem
    file_path: /var/log/vault/audit.log
"""

RETURN = r"""
file_path:
  description: The file to which the device writes.
  returned: success
  type: str
  sample: /var/log/vault/audit.log
"""

from ansible_collections.custodes.security_dr.plugins.module_utils.module import SecurityDrModule
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.audit import enable_file, file_device
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.errors import VaultConfigError


def main() -> None:
    """Entry point."""
    module = SecurityDrModule(
        {"device": {"type": "str", "default": "file"}, "file_path": {"type": "str", "required": True}}
    )

    def action() -> dict[str, object]:
        device, wanted = module.params["device"], module.params["file_path"]
        with module.session() as client:
            found = file_device(client, device)
            if found not in (None, wanted):
                raise VaultConfigError(
                    f"The audit device {device} writes to {found}, not to {wanted}. Enable one at another path "
                    f"(device), then disable the old one by hand: 'vault audit disable {device}'."
                )
            if found is None and not module.check_mode:
                enable_file(client, device, wanted)
        return {"changed": found is None, "file_path": wanted}

    module.run(action)


if __name__ == "__main__":
    main()
