# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real Alertmanager of Debian's package, alone, its data in a folder."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import requests

from .debian import debian_program
from .processes import Server, free_port

PACKAGE = "prometheus-alertmanager"

# Debian's looks for its template in /usr/share and nowhere else; where the package is only unpacked, it is put there
# for this process alone.
_SHARED = 'mount -t overlay overlay -o "lowerdir=$1:/usr/share" /usr/share && shift && exec "$@"'


class Alertmanager(Server):
    """One Alertmanager on loopback, which sends what it gets to a webhook.

    Args:
        folder: for its data, configuration and log.
        webhook: where everything goes.
        config: the whole configuration in the place of that.
    """

    def __init__(self, folder: Path, webhook: str, config: Mapping[str, Any] | None = None) -> None:
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.url = f"http://{self.address}"
        self.config_file = folder / "alertmanager.json"
        self._config = config or {
            # Alertmanager's defaults, said: they are a part of the time that an alert takes.
            "route": {"receiver": "webhook", "group_by": ["alertname"], "group_wait": "30s", "group_interval": "5m"},
            "receivers": [{"name": "webhook", "webhook_configs": [{"url": webhook}]}],
        }
        program = debian_program(PACKAGE, "prometheus-alertmanager")
        command = [
            *_with_template(program),
            str(program),
            f"--config.file={self.config_file}",
            f"--storage.path={folder / 'alertmanager'}",
            f"--web.listen-address={self.address}",
            "--cluster.listen-address=",
            "--log.level=warn",
        ]
        super().__init__("alertmanager", command, folder, ready=self.ready)

    def launch(self) -> None:
        """Write the configuration, then start the server."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # JSON is YAML.
        self.config_file.write_text(json.dumps(self._config, indent=2))
        super().launch()

    def ready(self) -> bool:
        """Whether ``/-/ready`` answers 200."""
        with requests.Session() as session:
            session.trust_env = False
            try:
                return session.get(f"{self.url}/-/ready", timeout=2).status_code == 200
            except requests.RequestException:
                return False


def _with_template(program: Path) -> list[str]:
    if Path("/usr/share/prometheus/alertmanager/default.tmpl").exists():
        return []
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    return ["unshare", *user, "--mount", "sh", "-c", _SHARED, "sh", str(program.parents[1] / "share")]
