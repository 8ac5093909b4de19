#!/usr/bin/python
# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Do clients that trust this bundle take these certificates, for how long, and why not?"""

from __future__ import annotations

DOCUMENTATION = r"""
module: tls_endpoint_info
short_description: Would clients take these certificates, for how long, and why not?
version_added: 0.2.0
description:
  - Asks endpoints for their certificates, thousands side by side, reads those of files, and judges each as OpenSSL
    does.
  - A certificate that is refused, and an endpoint that does not answer, are answers, unless O(required).
  - C(anchor) says which root a chain leads to. So the results are a census of who still depends on which root.
author: the custodes.security_dr authors (@custodes)
extends_documentation_fragment:
  - custodes.security_dr.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
requirements:
  - cryptography >= 42
  - pyOpenSSL >= 23
options:
  endpoints:
    description:
      - Servers to be asked. They speak TLS from the first byte.
    type: list
    elements: dict
    default: []
    suboptions:
      host:
        description:
          - A name or an address.
        type: str
        required: true
      port:
        description:
          - Its port.
        type: int
        default: 443
      server_name:
        description:
          - The name that is asked for, and that the certificate has to be for. Without it O(endpoints[].host).
        type: str
  files:
    description:
      - Files in PEM, the certificate first and then its intermediates.
    type: list
    elements: path
    default: []
  ca_cert:
    description:
      - The roots that are trusted, a file in PEM.
    type: path
    required: true
  timeout:
    description:
      - Seconds for one endpoint.
    type: float
    default: 10.0
  parallel:
    description:
      - How many endpoints are asked at once.
    type: int
    default: 64
  min_days:
    description:
      - What ends sooner than in so many days counts as a problem.
    type: float
    default: 0.0
  required:
    description:
      - Whether the task fails when there is a problem.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Would a client that trusts our root take all of them, for two weeks at least?
  custodes.security_dr.tls_endpoint_info:
    endpoints:
      - {host: vault.example.com, port: 8200}
      - {host: 10.0.0.7, port: 636, server_name: ldap.example.com}
    files: [/etc/ssl/private/app.pem]
    ca_cert: /etc/ssl/certs/internal-ca.pem
    min_days: 14
"""

RETURN = r"""
certificates:
  description: One for each endpoint, in the order given, then one for each file.
  returned: success
  type: list
  elements: dict
  sample:
    - name: vault.example.com:8200
      good: false
      why: The certificate has ended on 2026-11-26 04:00 UTC. Renew it.
      verifies: false
      host_matches: true
      days_left: -1.2
      not_after: "2026-11-26T04:00:00+00:00"
      subject: CN=vault.example.com
      issuer: CN=Example intermediate
      serial: 4f1c
      fingerprint_sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
      anchor: null
problems:
  description: The sentences of those that are not good, with their names.
  returned: always
  type: list
  elements: str
  sample: ["vault.example.com:8200: The certificate has ended on 2026-11-26 04:00 UTC. Renew it."]
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import missing_required_lib
from ansible_collections.custodes.security_dr.plugins.module_utils.module import SecurityDrModule
from ansible_collections.custodes.security_dr.plugins.module_utils.tls.errors import TlsError

try:
    from ansible_collections.custodes.security_dr.plugins.module_utils.tls import endpoints as tls
    from ansible_collections.custodes.security_dr.plugins.module_utils.tls.chain import Bundle
except ImportError as error:
    IMPORT_ERROR: str | None = str(error)
else:
    IMPORT_ERROR = None

_ENDPOINT: dict[str, Any] = {
    "host": {"type": "str", "required": True},
    "port": {"type": "int", "default": 443},
    "server_name": {"type": "str"},
}


def main() -> None:
    """Entry point."""
    module = SecurityDrModule(
        {
            "endpoints": {"type": "list", "elements": "dict", "options": _ENDPOINT, "default": []},
            "files": {"type": "list", "elements": "path", "default": []},
            "ca_cert": {"type": "path", "required": True},
            "timeout": {"type": "float", "default": 10.0},
            "parallel": {"type": "int", "default": 64},
            "min_days": {"type": "float", "default": 0.0},
            "required": {"type": "bool", "default": False},
        },
        vault=False,
    )
    if IMPORT_ERROR is not None:
        module.fail_json(msg=missing_required_lib("cryptography and pyOpenSSL"), exception=IMPORT_ERROR)
    module.run(lambda: _look(module))


def _look(module: SecurityDrModule) -> dict[str, Any]:
    options = module.params
    if not options["endpoints"] and not options["files"]:
        raise TlsError("Neither endpoints nor files are given: there is nothing to look at.")
    try:
        bundle = Bundle(Path(options["ca_cert"]).read_bytes(), options["ca_cert"])
    except OSError as error:
        raise TlsError(f"Cannot read ca_cert, {options['ca_cert']}: {error.strerror}.") from error
    asked = [tls.Endpoint(**one) for one in options["endpoints"]]
    seen = tls.look(asked, options["files"], bundle, options["timeout"], options["parallel"])
    certificates = [one.to_dict(options["min_days"]) for one in seen]
    problems = [f"{one['name']}: {one['why']}" for one in certificates if not one["good"]]
    if problems and options["required"]:
        module.fail_json(
            msg=f"{len(problems)} of {len(certificates)} certificates are not good. {' '.join(problems)}",
            error_type="TlsError",
            certificates=certificates,
            problems=problems,
        )
    return {"changed": False, "certificates": certificates, "problems": problems}


if __name__ == "__main__":
    main()
