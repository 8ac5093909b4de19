#!/usr/bin/python
# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells a running Alertmanager who is told what, and proves that it has taken it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: alertmanager_config
short_description: Give a running Alertmanager its receivers and routes
version_added: 0.2.0
description:
  - Writes Alertmanager's whole configuration and the files of its secrets, after C(amtool check-config) has judged it,
    has Alertmanager reload it, and compares the hash of what it uses with the file.
  - Where amtool or Alertmanager refuses it, all files are as they were, and Alertmanager runs on with those.
  - What is critical goes to every receiver that is named for it at once, so that nobody waits until one has failed.
author: the custodes.security_dr authors (@custodes)
extends_documentation_fragment:
  - custodes.security_dr.attributes
attributes:
  check_mode:
    support: full
    details:
      - The configuration is judged by amtool in check mode as well.
  diff_mode:
    support: full
    details:
      - Tells of a webhook's URL the host only, and of secrets that they change.
  idempotent:
    support: full
notes:
  - Runs on the host of Alertmanager, which is reloaded and never restarted.
  - A configuration of somebody else that it replaces is kept beside it, with C(.orig) at its end.
options:
  receivers:
    description:
      - Receivers by name. Each has a C(type), and C(*_secret) is a name in O(secrets).
      - C(webhook), C(heartbeat) take C(url) or C(url_secret), C(token_secret), C(token_type) (C(Bearer)), C(ca_cert);
        C(heartbeat) takes C(prometheus) as well, the name of the one whose C(Watchdog) alone goes there;
        C(slack) takes C(url_secret), C(channel); C(pagerduty) C(key_secret); C(opsgenie) and C(jsm) C(key_secret),
        C(api_url); C(email) C(to).
    type: dict
    default: {}
  default:
    description:
      - Names of receivers of what is not critical.
    type: list
    elements: str
    default: []
  critical:
    description:
      - Names of receivers of what is critical. One is required, two that share nothing are better.
    type: list
    elements: str
    default: []
  watchdog:
    description:
      - Names of receivers of C(Watchdog), once a minute, of the type C(heartbeat) or C(webhook).
    type: list
    elements: str
    default: []
  smtp:
    description:
      - For mail, C(smarthost), C(from), C(hello), C(auth_username), C(auth_identity), C(auth_password_secret),
        C(require_tls).
    type: dict
    default: {}
  secrets:
    description:
      - Secrets by name. Those that a receiver names are kept in C(alertmanager-secrets) beside O(dest), mode 0640.
      - A C(url_secret) of a webhook is in O(dest) itself, as Alertmanager before 0.26 reads it from no file.
    type: dict
    default: {}
  dest:
    description:
      - Alertmanager's configuration, mode 0640.
    type: path
    default: /etc/prometheus/alertmanager.yml
  group:
    description:
      - The group that Alertmanager runs as.
    type: str
    default: prometheus
  state:
    description:
      - V(absent) puts back what was there before, and removes the secrets.
    type: str
    choices: [present, absent]
    default: present
  amtool:
    description:
      - The program that judges the configuration.
    type: path
    default: amtool
  reload:
    description:
      - Whether to have Alertmanager at O(url) reload it, and to prove that it did. Otherwise that is somebody else's.
    type: bool
    default: true
  url:
    description:
      - Where Alertmanager answers.
    type: str
    default: http://127.0.0.1:9093
  ca_cert:
    description:
      - CA certificates for an O(url) of https. Without it, the system's.
    type: path
"""

EXAMPLES = r"""
- name: Page by two ways, and tell a service outside each minute that alerts would arrive
  custodes.security_dr.alertmanager_config:
    receivers:
      pager: {type: pagerduty, key_secret: pagerduty}
      chat: {type: slack, url_secret: slack, channel: "#incidents"}
      outside: {type: heartbeat, url_secret: healthchecks}
    critical: [pager, chat]
    default: [chat]
    watchdog: [outside]
    secrets: "{{ vaulted_alertmanager_secrets }}"
"""

RETURN = r"""
changed_files:
  description: The paths that were written or removed, or would be.
  returned: success
  type: list
  elements: str
  sample: [/etc/prometheus/alertmanager.yml]
reloaded:
  description: Whether Alertmanager was reloaded, or would be, and has proven that it uses the configuration.
  returned: success
  type: bool
  sample: true
"""

from pathlib import Path
from typing import Any

from ansible_collections.custodes.security_dr.plugins.module_utils.alerting.alertmanager import Secrets, configuration
from ansible_collections.custodes.security_dr.plugins.module_utils.alerting.alertmanager_files import (
    ConfigFiles,
    Running,
    shown,
    text_of,
)
from ansible_collections.custodes.security_dr.plugins.module_utils.alerting.errors import AlertingError
from ansible_collections.custodes.security_dr.plugins.module_utils.module import SecurityDrModule
from ansible_collections.custodes.security_dr.plugins.module_utils.owned_files import Change


def _check_config(module: SecurityDrModule, path: str) -> tuple[int, str]:
    amtool = module.params["amtool"]
    try:
        code, out, err = module.run_command([amtool, "check-config", path], handle_exceptions=False)
    except OSError as error:
        raise AlertingError(f"Cannot run {amtool}: {error.strerror}. Install it, or give its path.") from error
    return code, err or out


def main() -> None:
    """Entry point."""
    names = {"type": "list", "elements": "str", "default": []}
    module = SecurityDrModule(
        {
            "receivers": {"type": "dict", "default": {}},
            "default": names,
            "critical": names,
            "watchdog": names,
            "smtp": {"type": "dict", "default": {}},
            "secrets": {"type": "dict", "default": {}, "no_log": True},
            "dest": {"type": "path", "default": "/etc/prometheus/alertmanager.yml"},
            "group": {"type": "str", "default": "prometheus"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "amtool": {"type": "path", "default": "amtool"},
            "reload": {"type": "bool", "default": True},
            "url": {"type": "str", "default": "http://127.0.0.1:9093"},
            "ca_cert": {"type": "path"},
        },
        vault=False,
    )
    module.run(lambda: _configure(module))


def _configure(module: SecurityDrModule) -> dict[str, Any]:
    options = module.params
    if options["state"] == "absent" and not Path(options["dest"]).parent.is_dir():
        return {"changed": False, "changed_files": [], "reloaded": False, "diff": []}
    running = Running(options["url"], options["ca_cert"]) if options["reload"] else None
    files = ConfigFiles(options["dest"], options["group"], lambda path: _check_config(module, path), running)
    if options["state"] == "present":
        secrets = Secrets(options["secrets"], files.secrets_folder)
        config = text_of(configuration(options, secrets))
        differences = files.wanted(config, {name: secrets.value(name, "This") for name in sorted(secrets.used)})
    else:
        differences = files.unwanted()
    files.check(differences)
    # A run that was killed has written the files and reloaded nothing.
    stale = (bool(differences) or options["state"] == "present") and files.stale(differences)
    changed = bool(differences) or stale
    if changed and not module.check_mode:
        files.apply(differences)
    diff = [_told(one, one.path == options["dest"]) for one in differences]
    return {
        "changed": changed,
        "changed_files": [one.path for one in differences],
        "reloaded": changed and running is not None,
        "diff": diff,
    }


def _told(one: Change, config: bool) -> dict[str, str]:
    before, after = (
        (shown(one.before), shown(one.after))
        if config
        else tuple("" if content is None else "(not shown)\n" for content in (one.before, one.after))
    )
    return {"before_header": one.path, "after_header": one.path, "before": before, "after": after}


if __name__ == "__main__":
    main()
