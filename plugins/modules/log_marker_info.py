#!/usr/bin/python
# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks log backends for one line that is known."""

from __future__ import annotations

DOCUMENTATION = r"""
module: log_marker_info
short_description: Did this line reach that log backend?
version_added: 0.2.0
description:
  - Asks each backend until it returns a line with the marker in it, and tells how long that took.
  - A marker is text that stands in no other line, such as one that M(custodes.security_dr.log_marker) has
    just logged.
  - That it is looked for leaves no line with it in the log of the host, and none that Loki's own log would be found by.
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
options:
  marker:
    description:
      - 8 to 128 letters, digits, C(_), C(.) and C(-).
    type: str
    required: true
  backends:
    description:
      - Where to look.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description:
          - Its name in the result.
        type: str
        required: true
      type:
        description:
          - What it is.
        type: str
        choices: [loki, elasticsearch, opensearch, http, file]
        required: true
      url:
        description:
          - The base URL; of V(http) the whole one; of V(file) a path.
        type: str
        required: true
      query:
        description:
          - Of V(loki) a stream selector, C({job="fluent-bit"}) without one.
          - Of V(elasticsearch) and V(opensearch) an index.
          - Of V(http) a JSON body, which is then sent by POST. It or O(backends[].url) has C({marker}) in it, or
            C({pattern}), a regular expression that matches the marker and not itself; C({since}) is seconds since 1970.
            The answer has to repeat the line and must not repeat the query.
        type: str
        default: ""
      user:
        description:
          - For basic authentication.
        type: str
      password:
        description:
          - For basic authentication.
        type: str
      token:
        description:
          - A bearer token.
        type: str
      tenant:
        description:
          - Loki's, sent as C(X-Scope-OrgID).
        type: str
      ca_cert:
        description:
          - CA certificates. Without it, the system's.
        type: path
      timeout:
        description:
          - Seconds of one question.
        type: float
        default: 10.0
  wait:
    description:
      - Seconds to go on asking. V(0) asks once.
    type: float
    default: 30.0
  since:
    description:
      - Seconds since 1970 when the line was logged. Without it, ten minutes ago.
    type: float
  required:
    description:
      - Whether the task fails when a backend does not return the line in time.
    type: bool
    default: true
"""

EXAMPLES = r"""
- name: Is the line in both?
  custodes.security_dr.log_marker_info:
    marker: drill-6f1c2f0e-8a7f-4d51-9c3e-2f5f1f0b7a11
    backends:
      - {name: primary, type: loki, url: "https://loki.example.com:3100", token: "{{ loki_token }}"}
      - {name: secondary, type: opensearch, url: "https://search.example.net:9200", query: logs}
"""

RETURN = r"""
backends:
  description: What each backend said, by name. C(age) is the seconds from O(since) to its last answer.
  returned: always
  type: dict
  sample:
    primary: {found: true, seconds: 0.8, age: 1.4, problem: ""}
    secondary: {found: false, seconds: 30.1, age: 30.7, problem: "secondary does not answer: timed out."}
summary:
  description: The same in a line.
  returned: always
  type: str
  sample: primary after 0.8 s, secondary not after 30.1 s
"""

import time
from typing import Any

from ansible_collections.custodes.security_dr.plugins.module_utils.logs import backends
from ansible_collections.custodes.security_dr.plugins.module_utils.module import SecurityDrModule

_BACKEND: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "type": {"type": "str", "choices": [*backends.TYPES], "required": True},
    "url": {"type": "str", "required": True},
    "query": {"type": "str", "default": ""},
    "user": {"type": "str"},
    "password": {"type": "str", "no_log": True},
    "token": {"type": "str", "no_log": True},
    "tenant": {"type": "str"},
    "ca_cert": {"type": "path"},
    "timeout": {"type": "float", "default": 10.0},
}


def main() -> None:
    """Entry point."""
    module = SecurityDrModule(
        {
            # Ansible logs a module's options on its host, where they would be a line with the marker.
            "marker": {"type": "str", "required": True, "no_log": True},
            "backends": {"type": "list", "elements": "dict", "required": True, "options": _BACKEND},
            "wait": {"type": "float", "default": 30.0},
            "since": {"type": "float"},
            "required": {"type": "bool", "default": True},
        },
        vault=False,
    )
    module.run(lambda: _look(module))


def _look(module: SecurityDrModule) -> dict[str, Any]:
    options = module.params
    marker = options["marker"]
    # It is no secret: whoever reads the result needs it to look by hand.
    module.no_log_values.discard(marker)
    given = [backends.Backend(**one) for one in options["backends"]]
    backends.check(given, marker)
    since = time.time() - 600 if options["since"] is None else options["since"]
    asked = time.time()
    answers = backends.wait(given, marker, since, options["wait"])
    told = {name: {**seen._asdict(), "age": round(asked + seen.seconds - since, 3)} for name, seen in answers.items()}
    summary = ", ".join(
        f"{name} {'' if seen['found'] else 'not '}after {seen['seconds']:g} s" for name, seen in told.items()
    )
    lost = [name for name, seen in told.items() if not seen["found"]]
    if lost and options["required"]:
        reasons = " ".join(told[name]["problem"] or f"{name} answers and has no such line." for name in lost)
        module.fail_json(
            msg=f"The line {marker} is not in {', '.join(lost)} after {options['wait']:g} seconds. {reasons}",
            error_type="LogsError",
            backends=told,
            summary=summary,
        )
    return {"changed": False, "backends": told, "summary": summary}


if __name__ == "__main__":
    main()
