#!/usr/bin/python
# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes Prometheus run with the files that are there."""

from __future__ import annotations

DOCUMENTATION = r"""
module: prometheus_reload
short_description: Make Prometheus reload its files where it has not, and look whether it runs with them
version_added: 0.3.0
description:
  - Asks Prometheus when it last loaded its configuration and which alerts it has, reloads it when that is older than
    its files or other than they say, and waits until it evaluates the rules. It is never restarted.
  - A run that was killed before the reload is completed by the next.
author: the custodes.security_dr authors (@custodes)
extends_documentation_fragment:
  - custodes.security_dr.attributes
  - custodes.security_dr.alerts
attributes:
  check_mode:
    support: full
    details:
      - In check mode Prometheus is asked as well, and whether it may be told to reload.
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  url:
    description:
      - Address of Prometheus as the host reaches it, with the path it is served under.
    type: str
    default: http://127.0.0.1:9090
  rules:
    description:
      - Rule files whose alerts it should have. One that is not there is one whose alerts it should not have.
    type: list
    elements: path
    default: []
  files:
    description:
      - Other files that it reads, such as its configuration.
    type: list
    elements: path
    default: []
  force:
    description:
      - Whether to reload in any case, as a file was changed in this very second.
    type: bool
    default: false
  method:
    description:
      - How it is told. V(service) reloads O(service) by systemd, which sends a signal. V(http) sends a request, which
        Prometheus takes with C(--web.enable-lifecycle) only.
    type: str
    choices: [service, http]
    default: service
  service:
    description:
      - The service of systemd that is Prometheus.
    type: str
    default: prometheus
  jobs:
    description:
      - Jobs of which a target that is scraped more seldom than every 10 seconds is a warning, as alerts on it come
        later than two minutes after the fault.
    type: list
    elements: str
    default: []
  timeout:
    description:
      - Seconds that a request, and then the reload, may take.
    type: float
    default: 30.0
"""

EXAMPLES = r"""
- name: Run with the rules that are there
  custodes.security_dr.prometheus_reload:
    rules: [/etc/prometheus/rules/monitoring-health.yml]
    files: [/etc/prometheus/prometheus.yml]
"""

RETURN = r"""
alerts:
  description: The names of the alerts that it should have, by rule file.
  returned: success
  type: dict
  sample: {/etc/prometheus/rules/monitoring-health.yml: [Watchdog, PrometheusDown]}
slow_scrapes:
  description: Scrape intervals of O(jobs) that are too long, in seconds, by job.
  returned: success
  type: dict
  sample: {vault: 60.0}
"""

import time

from ansible_collections.custodes.security_dr.plugins.module_utils.alerting.errors import AlertingError
from ansible_collections.custodes.security_dr.plugins.module_utils.alerting.prometheus import (
    Http,
    Prometheus,
    no_lifecycle,
)
from ansible_collections.custodes.security_dr.plugins.module_utils.alerting.reload import Reload, alerts_in, newest
from ansible_collections.custodes.security_dr.plugins.module_utils.module import HTTP_SPEC, SecurityDrModule

SPEC = {
    "url": {"type": "str", "default": "http://127.0.0.1:9090"},
    **HTTP_SPEC,
    "rules": {"type": "list", "elements": "path", "default": []},
    "files": {"type": "list", "elements": "path", "default": []},
    "force": {"type": "bool", "default": False},
    "method": {"type": "str", "choices": ["service", "http"], "default": "service"},
    "service": {"type": "str", "default": "prometheus"},
    "jobs": {"type": "list", "elements": "str", "default": []},
    "timeout": {"type": "float", "default": 30.0},
}
SLOW_SECONDS = 10.0


def by_service(module: SecurityDrModule) -> None:
    """Has systemd send the signal. Raises AlertingError."""
    service = module.params["service"]
    status, out, err = module.run_command(["systemctl", "reload", service], handle_exceptions=False)
    if status != 0:
        raise AlertingError(f"systemctl reload {service} failed: {(err or out).strip()}. Prometheus was not touched.")


def main() -> None:
    """Entry point."""
    module = SecurityDrModule(SPEC, vault=False, required_together=[("url_username", "url_password")])
    given = module.params

    def action() -> dict[str, object]:
        http = Http(
            given["url"],
            given["ca_cert"] or "",
            given["url_username"] or "",
            given["url_password"] or "",
            given["timeout"],
        )
        server = Prometheus(http, http.url)
        expected = {path: alerts_in(path) for path in given["rules"]}
        attempt = Reload(server, expected, newest([*given["rules"], *given["files"]]))
        if given["method"] == "http" and not server.lifecycle():
            raise AlertingError(no_lifecycle(http.url))
        needed = given["force"] or attempt.is_needed()
        if needed and not module.check_mode:
            trigger = server.reload if given["method"] == "http" else lambda: by_service(module)
            attempt.settle(trigger, time.time, time.sleep, given["timeout"])
        slow = {job: every for job, every in server.slow_scrapes(SLOW_SECONDS).items() if job in given["jobs"]}
        for job, every in slow.items():
            module.warn(
                f"Targets of the job {job} are scraped every {every:g} s: alerts on them may take more than 2 minutes."
            )
        return {"changed": needed, "alerts": expected, "slow_scrapes": slow}

    module.run(action)


if __name__ == "__main__":
    main()
