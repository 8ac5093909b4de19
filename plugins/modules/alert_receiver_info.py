#!/usr/bin/python
# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks who is told of alerts whether one arrived."""

from __future__ import annotations

DOCUMENTATION = r"""
module: alert_receiver_info
short_description: Did this alert arrive at PagerDuty, Opsgenie, Jira Service Management or a webhook?
version_added: 0.2.0
description:
  - An alert counts when its receiver has it. This asks the receiver until it has an alert with the marker in it.
  - A webhook has to be one that can be asked what arrived there.
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
  type:
    description:
      - What the receiver is.
    type: str
    choices: [webhook, pagerduty, opsgenie, jsm]
    required: true
  url:
    description:
      - Of V(webhook) the whole address that tells what arrived; of the others their API, such as
        C(https://api.eu.opsgenie.com), and of V(jsm) C(https://api.atlassian.com/jsm/ops/api/CLOUD-ID).
      - V(pagerduty) and V(opsgenie) have one by default.
    type: str
  token:
    description:
      - A key of the API that may read. Of V(webhook) and V(jsm), a bearer token.
    type: str
  marker:
    description:
      - Text that stands in no other alert, such as the value of a label.
    type: str
    required: true
  since:
    description:
      - Seconds since 1970 when the alert was sent. Without it, ten minutes ago.
    type: float
  acknowledged:
    description:
      - Whether a person has to have acknowledged it. A webhook cannot tell.
    type: bool
    default: false
  wait:
    description:
      - Seconds to go on asking. V(0) asks once.
    type: float
    default: 120.0
"""

EXAMPLES = r"""
- name: Does PagerDuty have it?
  custodes.security_dr.alert_receiver_info:
    type: pagerduty
    token: "{{ pagerduty_read_key }}"
    marker: drill-20261127T221500Z
"""

RETURN = r"""
arrived:
  description: Whether it is there, acknowledged where that was asked for.
  returned: always
  type: bool
  sample: true
seconds:
  description: How long it took, or was waited.
  returned: always
  type: float
  sample: 10.8
arrived_at:
  description: When it was seen there first, seconds since 1970; null when it was not.
  returned: always
  type: float
  sample: 1795817711.0
alert_id:
  description: The receiver's name for it.
  returned: always
  type: str
  sample: Q1A2B3
problem:
  description: Why the receiver could not be asked, or is not content; empty if neither.
  returned: always
  type: str
  sample: ""
"""

import time
from typing import Any

from ansible_collections.custodes.security_dr.plugins.module_utils.alerting.alerts import (
    API,
    Receiver,
    headers,
    wait_for,
)
from ansible_collections.custodes.security_dr.plugins.module_utils.alerting.errors import AlertingError
from ansible_collections.custodes.security_dr.plugins.module_utils.alerting.prometheus import Http
from ansible_collections.custodes.security_dr.plugins.module_utils.module import HTTP_SPEC, SecurityDrModule


def main() -> None:
    """Entry point."""
    module = SecurityDrModule(
        {
            "type": {"type": "str", "choices": ["webhook", "pagerduty", "opsgenie", "jsm"], "required": True},
            "url": {"type": "str"},
            "token": {"type": "str", "no_log": True},
            **HTTP_SPEC,
            "marker": {"type": "str", "required": True},
            "since": {"type": "float"},
            "acknowledged": {"type": "bool", "default": False},
            "wait": {"type": "float", "default": 120.0},
        },
        vault=False,
    )
    module.run(lambda: _look(module))


def _look(module: SecurityDrModule) -> dict[str, Any]:
    options = module.params
    kind, url = options["type"], options["url"] or API.get(options["type"], "")
    if not url:
        raise AlertingError(f"Give the url of the {kind}: it has none that is the same for all.")
    if kind == "webhook" and options["acknowledged"]:
        raise AlertingError("A webhook cannot tell whether a person has acknowledged an alert: leave acknowledged out.")
    login = (options["url_username"] or "", options["url_password"] or "")
    more = headers(kind, options["token"] or "")
    http = Http(url, options["ca_cert"] or "", *login, options["timeout"], f"The {kind}", more)
    receiver = Receiver(kind, http, url.partition("?")[0])
    since = time.time() - 600 if options["since"] is None else options["since"]
    arrived: dict[str, Any] = {}

    def look() -> bool:
        found = receiver.arrived(options["marker"], since)
        if found and not arrived:
            arrived.update(found, at=time.time())
        return bool(found and (found["acknowledged"] or not options["acknowledged"]))

    good, seconds, problem = wait_for(look, options["wait"])
    if not good and arrived and not problem:
        problem = "It arrived, and nobody has acknowledged it."
    return {
        "changed": False,
        "arrived": bool(good),
        "seconds": round(seconds, 3),
        "arrived_at": arrived.get("at"),
        "alert_id": arrived.get("id", ""),
        "problem": problem,
    }


if __name__ == "__main__":
    main()
