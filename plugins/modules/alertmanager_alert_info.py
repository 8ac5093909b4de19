#!/usr/bin/python
# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells what alerts fire at Alertmanager."""

from __future__ import annotations

DOCUMENTATION = r"""
module: alertmanager_alert_info
short_description: Which alerts fire at Alertmanager?
version_added: 0.2.0
description:
  - Asks each Alertmanager for the alerts that fire and are neither silenced nor inhibited, and with O(wait) goes on
    asking until there is one with O(labels).
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
    support: full
options:
  urls:
    description:
      - Addresses of Alertmanagers. One that does not answer is left out, as long as one does.
    type: list
    elements: str
    required: true
  labels:
    description:
      - Labels that the alert has to have.
    type: dict
    default: {}
  ignore:
    description:
      - Values of C(alertname) that do not count.
    type: list
    elements: str
    default: [Watchdog]
  wait:
    description:
      - Seconds to go on asking until there is one. V(0) asks once.
    type: float
    default: 0.0
  absent:
    description:
      - Whether to wait until there is none, instead.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Does anything critical fire?
  custodes.security_dr.alertmanager_alert_info:
    urls: ["https://alertmanager-1.example.com:9093", "https://alertmanager-2.example.com:9093"]
    labels: {severity: critical}
  register: firing
"""

RETURN = r"""
alerts:
  description: The alerts, each once.
  returned: always
  type: list
  elements: dict
  sample: [{labels: {alertname: VaultDown, severity: critical}, annotations: {}, startsAt: "2026-11-27T09:00:00.000Z"}]
seconds:
  description: How long was waited.
  returned: always
  type: float
  sample: 38.2
"""

from typing import Any

from ansible_collections.custodes.security_dr.plugins.module_utils.alerting.alerts import (
    Alertmanager,
    matching,
    wait_for,
)
from ansible_collections.custodes.security_dr.plugins.module_utils.alerting.errors import AlertingError
from ansible_collections.custodes.security_dr.plugins.module_utils.alerting.prometheus import Http
from ansible_collections.custodes.security_dr.plugins.module_utils.module import HTTP_SPEC, SecurityDrModule


def main() -> None:
    """Entry point."""
    module = SecurityDrModule(
        {
            "urls": {"type": "list", "elements": "str", "required": True},
            **HTTP_SPEC,
            "labels": {"type": "dict", "default": {}},
            "ignore": {"type": "list", "elements": "str", "default": ["Watchdog"]},
            "wait": {"type": "float", "default": 0.0},
            "absent": {"type": "bool", "default": False},
        },
        vault=False,
    )
    module.run(lambda: _look(module))


def _look(module: SecurityDrModule) -> dict[str, Any]:
    options = module.params
    if not options["urls"]:
        raise AlertingError("urls is empty: name at least one Alertmanager.")
    login = (options["url_username"] or "", options["url_password"] or "")
    asked = [
        Alertmanager(Http(url, options["ca_cert"] or "", *login, options["timeout"], "Alertmanager"), url)
        for url in options["urls"]
    ]
    labels = {key: str(value) for key, value in options["labels"].items()}

    def look() -> list[Any]:
        told, problems = {}, []
        for alertmanager in asked:
            try:
                for alert in matching(alertmanager.active(), labels):
                    told[tuple(sorted(alert["labels"].items()))] = alert
            except AlertingError as error:
                problems.append(str(error))
        if len(problems) == len(asked):
            raise AlertingError(" ".join(problems))
        return [alert for alert in told.values() if alert["labels"].get("alertname") not in options["ignore"]]

    last: list[Any] = []

    def wanted() -> bool:
        last[:] = look()
        return bool(last) is not bool(options["absent"])

    _found, seconds, problem = wait_for(wanted, options["wait"])
    if problem:
        raise AlertingError(problem)
    return {"changed": False, "alerts": last, "seconds": round(seconds, 3)}


if __name__ == "__main__":
    main()
