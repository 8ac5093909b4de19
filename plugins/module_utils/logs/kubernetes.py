# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fluent Bit's configuration for the pods of a DaemonSet, as a ConfigMap. It is the one that hosts have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import fluent_bit

NAME, NAMESPACE = "fluent-bit-config", "logging"
EVERY_ADDRESS = "0.0.0.0"  # noqa: S104  # of a pod: Prometheus and the probes come from outside


def pod_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """What is another in a pod: the metrics are asked from outside of it, and its host name is not the node's."""
    outputs = options["outputs"]
    named = {alias: {**given, "labels": _labels(given)} for alias, given in outputs.items()}
    return {**options, "metrics_listen": options.get("metrics_listen") or EVERY_ADDRESS, "outputs": named}


def _labels(given: Mapping[str, Any]) -> dict[str, str]:
    return {"host": "${NODE_NAME}", **(given.get("labels") or {})}


def config_map(options: Mapping[str, Any], form: str, name: str = NAME, namespace: str = NAMESPACE) -> str:
    """The manifest, in YAML.

    Args:
        options: as fluent_bit.model takes them.
        form: yaml or classic.

    Raises LogsError.
    """
    data = {f"fluent-bit.{'yaml' if form == 'yaml' else 'conf'}": fluent_bit.render(options, form)}
    if form == "classic":
        data[fluent_bit.PARSERS_FILE] = fluent_bit.parsers(options)
    lines = ["apiVersion: v1", "kind: ConfigMap", "metadata:", f"  name: {name}", f"  namespace: {namespace}", "data:"]
    for key, text in data.items():
        # The first line of a block tells how far all are indented.
        lines += [f"  {key}: |", *(f"    {line}".rstrip() for line in text.splitlines())]
    return "\n".join(lines) + "\n"
