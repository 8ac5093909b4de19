#!/usr/bin/python
# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which roots this host trusts: its system, its Java, its applications."""

from __future__ import annotations

DOCUMENTATION = r"""
module: trust_store
short_description: Put roots into what a host trusts, and take them out
version_added: 0.2.0
description:
  - Puts root certificates into the trust store of Debian, Ubuntu, RHEL, Fedora and SUSE, into keystores of Java and
    into files of applications, and reads back whether they are there. Where that fails, all is as it was before.
  - A root is removed only with a census that says that no certificate leads to it any longer.
  - Refuses what is no root of a CA or two in one, to add one that has ended, and to drop what was not named.
author: the custodes.security_dr authors (@custodes)
extends_documentation_fragment:
  - custodes.security_dr.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  roots:
    description:
      - The roots. One that is left out later stays where it is.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description:
          - Letters, digits, C(.), C(_), C(-), of its file and alias. A new root takes a new name.
        type: str
        required: true
      content:
        description:
          - Its certificate in PEM, and nothing else. Also where it is V(absent).
        type: str
        required: true
      state:
        description:
          - Whether it is trusted.
        type: str
        choices: [present, absent]
        default: present
  system:
    description:
      - Whether the system trusts them.
    type: bool
    default: true
  java_keystores:
    description:
      - Keystores of Java that trust them. One that is not there is made.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description:
          - Its file.
        type: path
        required: true
      password_file:
        description:
          - A file on the host with its password in the first line.
        type: path
        required: true
  keytool:
    description:
      - The program, of the Java that reads the keystores.
    type: str
    default: keytool
  bundles:
    description:
      - Files in PEM that are these roots and are replaced whole. One that would have none is removed.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description:
          - Its path, in a folder that is there.
        type: path
        required: true
      system:
        description:
          - Whether the roots of the system are in it as well.
        type: bool
        default: false
      owner:
        description:
          - Whose it is. Without it, whose it was.
        type: str
      group:
        description:
          - Its group. Without it, that which it had.
        type: str
      mode:
        description:
          - Its permissions, octal.
        type: raw
        default: "0644"
  elsewhere:
    description:
      - PEM that RV(bundle) will replace somewhere else, such as in a ConfigMap. It is held to the same rules.
    type: str
    default: ""
  census:
    description:
      - C(certificates) of M(custodes.security_dr.tls_endpoint_info), asked with a bundle that has every root. Needed
        when a root that is trusted is to be V(absent).
      - Refused when a certificate leads to that root, when it is not known where one leads to, and when it is empty.
    type: list
    elements: dict
    default: []
  census_max_age:
    description:
      - Seconds since the census looked. An older one is refused.
    type: float
    default: 3600.0
  reload_marker:
    description:
      - An empty file that is made before anything is changed. Remove it once the services have read the change.
    type: path
"""

EXAMPLES = r"""
- name: Trust the new root beside the old one
  custodes.security_dr.trust_store:
    roots:
      - {name: example-2021, content: "{{ lookup('ansible.builtin.file', 'example-2021.pem') }}"}
      - {name: example-2026, content: "{{ lookup('ansible.builtin.file', 'example-2026.pem') }}"}
    java_keystores:
      - {path: /etc/app/truststore.p12, password_file: /etc/app/truststore.password}
    bundles:
      - {path: /etc/app/ca.pem, group: app, mode: "0640"}

- name: Forget the old one, now that no certificate leads to it
  custodes.security_dr.trust_store:
    roots:
      - {name: example-2021, content: "{{ lookup('ansible.builtin.file', 'example-2021.pem') }}", state: absent}
      - {name: example-2026, content: "{{ lookup('ansible.builtin.file', 'example-2026.pem') }}"}
    census: "{{ looked.certificates }}"
"""

RETURN = r"""
roots:
  description: The roots, with their fingerprints as in C(anchor) of M(custodes.security_dr.tls_endpoint_info).
  returned: success
  type: list
  elements: dict
  sample:
    - name: example-2026
      state: present
      subject: O=Example,CN=Example root 2026
      fingerprint_sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
      not_after: "2046-11-27T04:00:00+00:00"
changed_files:
  description: The paths that were written or removed, or would be.
  returned: success
  type: list
  elements: str
  sample: [/usr/local/share/ca-certificates/example-2026.crt, /etc/app/truststore.p12]
reload_pending:
  description: Whether O(reload_marker) is there, or would be.
  returned: success
  type: bool
  sample: true
bundle:
  description: The roots that are V(present), in PEM.
  returned: success
  type: str
  sample: "# example-2026\n-----BEGIN CERTIFICATE-----\n..."
"""

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ansible_collections.custodes.security_dr.plugins.module_utils.module import SecurityDrModule
from ansible_collections.custodes.security_dr.plugins.module_utils.tls import trust_store
from ansible_collections.custodes.security_dr.plugins.module_utils.tls.keystore import Keystore
from ansible_collections.custodes.security_dr.plugins.module_utils.tls.roots import check_census, read_roots
from ansible_collections.custodes.security_dr.plugins.module_utils.tls.store_files import BundleFile

# Stands for "/".
ROOT = "/"

_STATE: dict[str, Any] = {"type": "str", "choices": ["present", "absent"], "default": "present"}
_LIST: dict[str, Any] = {"type": "list", "elements": "dict", "default": []}
_TEXT: dict[str, Any] = {"type": "str", "required": True}
_PATH: dict[str, Any] = {"type": "path", "required": True}
_FILE: dict[str, Any] = {
    "path": _PATH,
    "system": {"type": "bool", "default": False},
    "owner": {"type": "str"},
    "group": {"type": "str"},
    "mode": {"type": "raw", "default": "0644"},
}
_KEYSTORE: dict[str, Any] = {"path": _PATH, "password_file": {**_PATH, "no_log": False}}


def main() -> None:
    """Entry point."""
    root = {"name": _TEXT, "content": _TEXT, "state": _STATE}
    module = SecurityDrModule(
        {
            "roots": {"type": "list", "elements": "dict", "options": root, "required": True},
            "system": {"type": "bool", "default": True},
            "java_keystores": {**_LIST, "options": _KEYSTORE, "no_log": False},
            "keytool": {"type": "str", "default": "keytool", "no_log": False},
            "bundles": {**_LIST, "options": _FILE},
            "elsewhere": {"type": "str", "default": ""},
            "census": _LIST,
            "census_max_age": {"type": "float", "default": 3600.0},
            "reload_marker": {"type": "path"},
        },
        vault=False,
    )
    module.run(lambda: _trust(module))


def _trust(module: SecurityDrModule) -> dict[str, Any]:
    options, now = module.params, datetime.now(timezone.utc)
    run, marker = module.run_program, options["reload_marker"]
    roots = read_roots(options["roots"], now)
    store = trust_store.TrustStore(roots, trust_store.find_system(ROOT), run, options["system"], options["elsewhere"])
    keystores = [Keystore(run=run, keytool=options["keytool"], **one) for one in options["java_keystores"]]
    plan = store.plan([BundleFile.from_options(one) for one in options["bundles"]], keystores)
    check_census(plan.leaving, options["census"], options["census_max_age"], now)
    if plan.changed and not module.check_mode:
        store.apply(plan, marker or "")
    return {
        "changed": plan.changed,
        "changed_files": plan.paths,
        "roots": [one.to_dict() for one in roots],
        "reload_pending": bool(marker) and (plan.changed or Path(marker).exists()),
        "bundle": store.bundle().decode(),
        "diff": plan.diff(),
    }


if __name__ == "__main__":
    main()
