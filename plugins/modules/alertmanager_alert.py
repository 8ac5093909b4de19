#!/usr/bin/python
# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sends one alert to Alertmanager, or resolves it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: alertmanager_alert
short_description: Send an alert to Alertmanager, or resolve it
version_added: 0.2.0
description:
  - So that it can be seen whether an alert arrives, at the receiver, with M(custodes.security_dr.alert_receiver_info).
  - An alert ends by itself after O(lasts), so that one of a drill that was killed does not fire for ever.
author: the custodes.security_dr authors (@custodes)
extends_documentation_fragment:
  - custodes.security_dr.attributes
  - custodes.security_dr.alerts
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: none
options:
  url:
    description:
      - Address of one Alertmanager, with the path it is served under.
    type: str
    required: true
  labels:
    description:
      - Labels of the alert, C(alertname) among them. They are what it is known by.
    type: dict
    required: true
  annotations:
    description:
      - Such as C(summary).
    type: dict
    default: {}
  state:
    description:
      - V(firing) or V(resolved).
    type: str
    choices: [firing, resolved]
    default: firing
  lasts:
    description:
      - Seconds after which it is resolved by itself.
    type: float
    default: 600.0
"""

EXAMPLES = r"""
- name: Does a page arrive?
  custodes.security_dr.alertmanager_alert:
    url: https://alertmanager.example.com:9093
    labels: {alertname: DR_DRILL_TEST, severity: critical, drill: 20261127T221500Z}
    annotations: {summary: This is a drill.}
"""

RETURN = r"""
sent:
  description: When it was sent, seconds since 1970.
  returned: always
  type: float
  sample: 1795817700.2
"""

import time
from typing import Any

from ansible_collections.custodes.security_dr.plugins.module_utils.alerting.alerts import Alertmanager
from ansible_collections.custodes.security_dr.plugins.module_utils.alerting.prometheus import Http
from ansible_collections.custodes.security_dr.plugins.module_utils.module import HTTP_SPEC, SecurityDrModule


def main() -> None:
    """Entry point."""
    module = SecurityDrModule(
        {
            "url": {"type": "str", "required": True},
            **HTTP_SPEC,
            "labels": {"type": "dict", "required": True},
            "annotations": {"type": "dict", "default": {}},
            "state": {"type": "str", "choices": ["firing", "resolved"], "default": "firing"},
            "lasts": {"type": "float", "default": 600.0},
        },
        vault=False,
    )
    module.run(lambda: _send(module))


def _send(module: SecurityDrModule) -> dict[str, Any]:
    options = module.params
    login = (options["url_username"] or "", options["url_password"] or "")
    http = Http(options["url"], options["ca_cert"] or "", *login, options["timeout"], "Alertmanager")
    alertmanager, now = Alertmanager(http, options["url"]), time.time()
    if module.check_mode:
        # It answers, and the login is right.
        alertmanager.active()
        return {"changed": True, "sent": now}
    end = now + options["lasts"] if options["state"] == "firing" else now
    labels, annotations = (
        {key: str(value) for key, value in options[name].items()} for name in ("labels", "annotations")
    )
    alertmanager.post(labels, annotations, now - 1, end)
    return {"changed": True, "sent": now}


if __name__ == "__main__":
    main()
