# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the options of one log pipeline to its files, on a host or as a manifest."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from . import fluent_bit, kubernetes, preflight
from .errors import LogsError
from .install import UNITS_FOLDER, Change, File, Installation, Run, environment_file, metrics_ready

BUFFER_FOLDER = "/var/log/fluent-bit-buffer"
_OPTIONS = {
    "input": {"type", "path", "exclude", "read_from_tail"},
    "output": {
        "preset", "type", "host", "port", "tls", "ca_file", "user", "token_env", "uri", "compress", "bound_bytes",
        "labels", "tenant", "index", "time_key", "dataset",
    },
    "buffer": {"path", "max_bytes", "keep"},
}  # fmt: skip
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_COPIED = ("bound_bytes", "outage_seconds", "bytes_per_second", "storage_path", "metrics_listen", "metrics_port")


def configure(given: Mapping[str, Any], run: Run, *, check: bool, root: str = "/") -> dict[str, Any]:
    """Does what the module fluent_bit_config is asked for; gives what it returns.

    Args:
        given: its options.
        run: runs a program.
        check: whether nothing may be changed.
        root: stands for "/".

    Raises LogsError.
    """
    absent, manifest = given["state"] == "absent", given["manifest"]
    secrets = _secrets(given["secrets"])
    service = fluent_bit.UNIT if given["unit"] is not None else None
    options = {} if absent else _options(given)
    if not absent:
        preflight.refuse(options, None if manifest else secrets, None if manifest else root)
    config = [] if absent else _config(given, options)
    files = _files(given, options, config, secrets)
    url = f"http://{_own_address(options)}:{given['metrics_port']}/api/v2/metrics/prometheus"
    # Of a pod's variables only the names are known.
    known = dict.fromkeys([*_tokens(options), "NODE_NAME"], "x") if manifest else secrets
    units = [file for file in files if file.path.endswith(".service")]
    one = Installation(files, [*config, *units], given["binary"], known, service, run, lambda: metrics_ready(url), root)
    changes = one.changes()
    judged = not absent and one.judge(check)
    restart = not absent and service is not None and (bool(changes) or one.stale())
    if not check and (changes or restart):
        one.absent(changes) if absent else one.present(changes)
    warnings = preflight.warnings(options.get("outputs", {}))
    done = {"changed": bool(changes) or restart, "judged": judged, "restarted": restart}
    return {**_told(changes), **done, "doubts": warnings}


def _told(changes: Iterable[Change]) -> dict[str, Any]:
    return {"changed_files": [one.wanted.path for one in changes], "diff": [one.diff for one in changes]}


def _options(given: Mapping[str, Any]) -> dict[str, Any]:
    for number, one in enumerate(given["inputs"]):
        _refuse_unknown(f"Input {number}", one, "input")
    for alias in (fluent_bit.PRIMARY, fluent_bit.SECONDARY):
        _refuse_unknown(f"The {alias} output", given[alias], "output")
    _refuse_unknown("The buffer", given["buffer"], "buffer")
    inputs = [_typed_input(number, one) for number, one in enumerate(given["inputs"])]
    outputs = {alias: _typed(alias, given[alias]) for alias in (fluent_bit.PRIMARY, fluent_bit.SECONDARY)}
    buffer = {"path": BUFFER_FOLDER, **given["buffer"]}
    options = {"inputs": inputs, "outputs": outputs, "buffer": buffer, **{n: given[n] for n in _COPIED}}
    return kubernetes.pod_options(options) if given["manifest"] else options


def _refuse_unknown(whose: str, given: Mapping[str, Any], kind: str) -> None:
    unknown = sorted(set(given) - _OPTIONS[kind])
    if unknown:
        raise LogsError(f"{whose} has no option {', '.join(unknown)}. It has {', '.join(sorted(_OPTIONS[kind]))}.")


def _boolean(what: str, value: Any) -> bool:
    text = str(value).lower()
    if text not in ("true", "false", "yes", "no", "on", "off"):
        raise LogsError(f"{what} is neither true nor false: {value!r:.40}.")
    return text in ("true", "yes", "on")


def _typed_input(number: int, given: Mapping[str, Any]) -> dict[str, Any]:
    typed = dict(given)
    if typed.get("read_from_tail") is not None:
        if typed.get("type") != "journal":
            raise LogsError(f"Input {number} has read_from_tail, which is of the type journal alone.")
        typed["read_from_tail"] = _boolean(f"Input {number}'s read_from_tail", typed["read_from_tail"])
    return typed


def _typed(alias: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options with the types that they have to have: Ansible's templates make texts of them all."""
    typed = dict(given)
    for name in ("port", "bound_bytes"):
        if typed.get(name) is not None:
            try:
                typed[name] = int(typed[name])
            except ValueError:
                raise LogsError(f"The {alias} output's {name} is no number: {typed[name]!r:.40}.") from None
    for name in ("tls", "compress"):
        if typed.get(name) is not None:
            typed[name] = _boolean(f"The {alias} output's {name}", typed[name])
    if typed.get("token_env") and not _NAME.fullmatch(str(typed["token_env"])):
        raise LogsError(
            f"The {alias} output's token_env is the name of a variable, such as LOKI_TOKEN, and not a token."
        )
    if typed.get("labels") is not None and not isinstance(typed["labels"], dict):
        raise LogsError(f"The {alias} output's labels are no dictionary.")
    return typed


def _secrets(given: Mapping[str, Any]) -> dict[str, str]:
    for name in given:
        if not _NAME.fullmatch(name):
            raise LogsError(f"The secret {name!r:.40} has no name of a variable: letters, digits and _ only.")
    return {name: str(value) for name, value in given.items() if value is not None}


def _tokens(options: Mapping[str, Any]) -> list[str]:
    return [str(one["token_env"]) for one in options.get("outputs", {}).values() if one.get("token_env")]


def _config(given: Mapping[str, Any], options: Mapping[str, Any]) -> list[File]:
    """What Fluent Bit reads, in the order that it reads it."""
    folder, form = given["folder"], given["form"]
    text = fluent_bit.render(options, form)
    if form == "yaml":
        return [File(f"{folder}/custodes.yaml", text)]
    return [
        File(f"{folder}/custodes.conf", text),
        File(f"{folder}/{fluent_bit.PARSERS_FILE}", fluent_bit.parsers(options)),
    ]


def _files(
    given: Mapping[str, Any], options: Mapping[str, Any], config: list[File], secrets: Mapping[str, str]
) -> list[File]:
    """All that is to be there, and what is to be gone: everything, or what the other form has."""
    if given["manifest"]:
        absent = given["state"] == "absent"
        return [File(given["manifest"], None if absent else kubernetes.config_map(options, given["form"]))]
    folder = given["folder"]
    # The variables first: a configuration without them would send nothing.
    wanted = [File(f"{folder}/custodes.env", environment_file(secrets), 0o600, secret=True), *config] if config else []
    if config and given["unit"] is not None:
        wanted.append(File(f"{UNITS_FOLDER}/{fluent_bit.UNIT}", given["unit"]))
    there = {file.path for file in wanted}
    known = [f"{folder}/{name}" for name in ("custodes.yaml", "custodes.conf", fluent_bit.PARSERS_FILE)]
    if not config:
        known += [
            f"{folder}/custodes.env",
            *([f"{UNITS_FOLDER}/{fluent_bit.UNIT}"] if given["unit"] is not None else []),
        ]
    return [*wanted, *(File(path, None, secret=path.endswith(".env")) for path in known if path not in there)]


def _own_address(options: Mapping[str, Any]) -> str:
    listen = str(options.get("metrics_listen") or "127.0.0.1")
    listen = {kubernetes.EVERY_ADDRESS: "127.0.0.1", "::": "::1"}.get(listen, listen)
    return f"[{listen}]" if ":" in listen else listen
