# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real Fluent Bit, where there is one: no package registry has it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import requests

from .processes import LabError, Server

WHERE_FROM = "Name one in FLUENT_BIT_BIN or have it on PATH."


def fluent_bit_binary() -> Path | None:
    """That of FLUENT_BIT_BIN, or the one on PATH; None without one."""
    found = os.environ.get("FLUENT_BIT_BIN") or shutil.which("fluent-bit")
    return Path(found) if found else None


def portable_fluent_bit(folder: Path) -> Path:
    """A folder with `fluent-bit` and all that it loads, for hosts that have other libraries. Raises LabError."""
    binary = fluent_bit_binary()
    if binary is None:
        raise LabError(f"There is no Fluent Bit. {WHERE_FROM}")
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    told = subprocess.run(["ldd", str(binary)], capture_output=True, text=True, check=False).stdout
    # The loader stands in it as a path of its own, what it loads behind an arrow.
    for library in re.findall(r"^\s*(?:\S+ => )?(/\S+)", told, re.MULTILINE):
        shutil.copy2(library, folder / Path(library).name)
    shutil.copy2(binary, folder / "fluent-bit.bin")
    loader = next((file.name for file in folder.glob("ld-linux*")), None)
    run = f'"$here/{loader}" --library-path "$here" "$here/fluent-bit.bin"' if loader else '"$here/fluent-bit.bin"'
    wrapper = folder / "fluent-bit"
    wrapper.write_text(f'#!/bin/sh\nhere="$(dirname "$(readlink -f "$0")")"\nexec {run} "$@"\n')
    wrapper.chmod(0o755)
    return folder


class FluentBit(Server):
    """One Fluent Bit with this configuration. It is ready when its metrics answer.

    Args:
        binary: of fluent_bit_binary().
        folder: for its configuration and log.
        config: in YAML.
        port: where the configuration has its metrics.
        env: what the configuration's variables are.
    """

    def __init__(
        self, binary: Path, folder: Path, config: str, port: int, env: Mapping[str, str] | None = None
    ) -> None:
        self.config_file = folder / "fluent-bit.yaml"
        self._config = config
        self.metrics = f"http://127.0.0.1:{port}/api/v2/metrics/prometheus"
        super().__init__("fluent-bit", [str(binary), "-c", str(self.config_file)], folder, ready=self.ready, env=env)

    def launch(self) -> None:
        """Write the configuration, then start it."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.config_file.write_text(self._config)
        super().launch()

    def count(self, metric: str, name: str) -> float:
        """What a counter says of the input or output of this name; 0 where it has none."""
        with requests.Session() as session:
            session.trust_env = False
            lines = session.get(self.metrics, timeout=5).text.splitlines()
        values = [line.split() for line in lines if line.startswith(f"{metric}{{") and f'name="{name}"' in line]
        return sum(float(value[1]) for value in values)

    def ready(self) -> bool:
        """Whether the metrics answer 200."""
        with requests.Session() as session:
            session.trust_env = False
            try:
                return session.get(self.metrics, timeout=2).status_code == 200
            except requests.RequestException:
                return False
