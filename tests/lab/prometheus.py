# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real Prometheus of Debian's package, its data in a folder."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import requests

from .debian import debian_program
from .processes import Server, free_port


class Prometheus(Server):
    """One Prometheus on loopback. It is ready when it says so.

    Args:
        folder: for its data, configuration and log.
        name: tells it from another.
        lifecycle: whether it can be reloaded over HTTP.
    """

    def __init__(self, folder: Path, name: str = "prometheus", *, lifecycle: bool = True) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.config_file = folder / f"{name}.json"
        self._config: dict[str, Any] = {"global": {"scrape_interval": "10s", "evaluation_interval": "10s"}}
        command = [
            str(debian_program("prometheus", "prometheus")),
            f"--config.file={self.config_file}",
            f"--storage.tsdb.path={folder / name}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            *(["--web.enable-lifecycle"] if lifecycle else []),
            "--log.level=warn",
        ]
        super().__init__(name, command, folder, ready=self.ready)

    def configure(
        self,
        jobs: Mapping[str, Sequence[str] | Mapping[str, Any]],
        rules: Iterable[Path] = (),
        alertmanagers: Sequence[str] = (),
        **timing: Any,
    ) -> None:
        """What it does from its next start or reload on.

        Args:
            jobs: by name, the addresses of its targets, or a whole scrape_config without job_name.
            rules: files of rules.
            alertmanagers: addresses.
            timing: of the part "global", such as scrape_interval="5s" and external_labels.
        """
        scrapes = [
            {
                "job_name": job,
                **(given if isinstance(given, Mapping) else {"static_configs": [{"targets": list(given)}]}),
            }
            for job, given in jobs.items()
        ]
        self._config = {
            "global": {"scrape_interval": "10s", "evaluation_interval": "10s", **timing},
            "rule_files": [str(file) for file in rules],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": list(alertmanagers)}]}]},
            "scrape_configs": scrapes,
        }

    def launch(self) -> None:
        """Write the configuration, then start the server."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # JSON is YAML.
        self.config_file.write_text(json.dumps(self._config, indent=2))
        super().launch()

    def ready(self) -> bool:
        """Whether ``/-/ready`` answers 200."""
        try:
            return self._get("/-/ready").status_code == 200
        except requests.RequestException:
            return False

    def query(self, expression: str) -> list[dict[str, Any]]:
        """An instant query's vector: each with "metric" and "value"."""
        answer = self._get("/api/v1/query", {"query": expression})
        answer.raise_for_status()
        result: list[dict[str, Any]] = answer.json()["data"]["result"]
        return result

    def rules(self) -> list[dict[str, Any]]:
        """The groups of rules that it has loaded."""
        groups: list[dict[str, Any]] = self._get("/api/v1/rules").json()["data"]["groups"]
        return groups

    def loaded_at(self) -> str:
        """When it last loaded its configuration."""
        return str(self._get("/api/v1/status/runtimeinfo").json()["data"]["lastConfigTime"])

    def firing(self) -> set[str]:
        """The names of the alerts that fire now."""
        return {row["metric"]["alertname"] for row in self.query('ALERTS{alertstate="firing"}')}

    def _get(self, path: str, parameters: Mapping[str, str] | None = None) -> requests.Response:
        with requests.Session() as session:
            session.trust_env = False
            return session.get(self.url + path, params=parameters, timeout=30)
