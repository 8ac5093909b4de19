# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real Loki: all of it in one process, its data in a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import requests

from .binaries import loki_binary
from .pki import Authority
from .processes import LabError, Server, free_port

STATES = ("up", "hung", "down")


class Loki(Server):
    """One Loki, of loopback unless told otherwise. It is ready when it says so.

    Args:
        folder: for its data, configuration and log.
        address: where it listens.
        authority: gives it a certificate; without one it serves plain HTTP.
    """

    def __init__(self, folder: Path, address: str = "127.0.0.1", authority: Authority | None = None) -> None:
        self.port, grpc_port = free_port(), free_port()
        self.address = address
        self.url = f"{'https' if authority else 'http'}://{address}:{self.port}"
        self._verify = str(authority.ca_file) if authority else False
        self._config_file = folder / "loki.json"
        self._config = loki_config(folder / "data", address, self.port, grpc_port)
        if authority:
            cert_file, key_file = authority.issue("loki", [address, "localhost"])
            self._config["server"]["http_tls_config"] = {"cert_file": str(cert_file), "key_file": str(key_file)}
        command = [str(loki_binary()), f"-config.file={self._config_file}"]
        super().__init__("loki", command, folder, ready=self.ready)

    def launch(self) -> None:
        """Write the configuration, then start the server."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # JSON is YAML.
        self._config_file.write_text(json.dumps(self._config, indent=2))
        super().launch()

    def ready(self) -> bool:
        """Whether ``/ready`` answers 200."""
        with requests.Session() as session:
            session.trust_env = False
            try:
                return session.get(f"{self.url}/ready", timeout=2, verify=self._verify).status_code == 200
            except requests.RequestException:
                return False

    def become(self, state: str) -> None:
        """Bring it up, or have it hang (connections open and nothing answers), or kill it. Raises LabError."""
        if state not in STATES:
            raise LabError(f"{state} is none of {', '.join(STATES)}")
        if state == "up":
            self.resume()
            self.start()
        elif state == "hung":
            self.pause()
        else:
            self.kill()


def loki_config(data: Path, address: str, port: int, grpc_port: int) -> dict[str, Any]:
    """Plain HTTP, of Loki's documentation, "Grafana Loki configuration parameters"."""
    schema = {
        "from": "2024-01-01",
        "store": "tsdb",
        "object_store": "filesystem",
        "schema": "v13",
        "index": {"prefix": "index_", "period": "24h"},
    }
    return {
        "auth_enabled": False,
        "server": {
            "http_listen_address": address,
            "http_listen_port": port,
            "grpc_listen_address": "127.0.0.1",
            "grpc_listen_port": grpc_port,
            "log_level": "warn",
        },
        "common": {
            "instance_addr": "127.0.0.1",
            "path_prefix": str(data),
            "replication_factor": 1,
            "ring": {"instance_addr": "127.0.0.1", "kvstore": {"store": "inmemory"}},
            "storage": {
                "filesystem": {"chunks_directory": str(data / "chunks"), "rules_directory": str(data / "rules")}
            },
        },
        "schema_config": {"configs": [schema]},
        # Alone, it has no other to wait for; by default it is not ready for the first 15 s.
        "ingester": {"lifecycler": {"min_ready_duration": "0s", "final_sleep": "0s"}},
        # It looks for itself every 10 s by default, and is not ready before it has found itself.
        "frontend": {"scheduler_dns_lookup_period": "100ms"},
        "frontend_worker": {"dns_lookup_duration": "100ms"},
        "analytics": {"reporting_enabled": False},
    }
