# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A configuration of Fluent Bit that ships every line to two backends and to a local file, and loses none.

Sources: Fluent Bit's manual and source, 5.1.1, and trials with it. What matters:

- It gives up after one retry by default. Here it retries without end, with a short pause, and each output's queue on
  disk has a bound of its own.
- Chunks that wait for one output stay in memory, of which it has 128 for all: with one backend away the *other* gets
  nothing any more, after seconds or minutes (tried; its issue 11370). With a `mem_buf_limit` they go to disk at once.
- At most WAITING_MOST chunks wait, for all outputs together; then nothing is sent to any. One is made at each flush for
  each tag: so an input has one tag, however many files it follows, and flush_seconds() reckons with the outage.
- A 4xx of `http` drops lines for good, but for 408 and 429; `opentelemetry` drops on all but 429, 502, 503 and 504;
  `loki` on 400 alone; `es` and `opensearch` on none that is the answer to all of a bulk.
- Of a bulk of which single lines are refused `es` takes all for delivered once one is in: the others are lost, and
  nobody is told. `opensearch` sends the whole chunk again until all are in, for ever where one never is.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from .errors import LogsError

PRIMARY, SECONDARY, BUFFER = "primary", "secondary", "buffer"
"""The outputs' aliases, which the metrics are labelled with."""
STORAGE = "/var/lib/fluent-bit/storage"
METRICS_PORT = 2020
UNIT = "fluent-bit.service"
PARSERS_FILE = "custodes-parsers.conf"
"""Beside the classic form. The package has a parsers.conf of its own."""
CONTAINERS = "/var/log/containers/*.log"
INPUTS = ("containers", "journal", "files")

WAITING_MOST = 16384
"""Chunks: FLB_CONFIG_DEFAULT_TASK_MAP_SIZE_LIMIT of its source."""
CHUNK_BYTES = 2_000_000
"""A chunk that has as much is closed, and another begun."""
FLUSH_MOST = 4
"""Seconds; a line is to be in the other backend within five."""
LINE_MOST = "192K"
"""Longer lines are cut: Loki refuses those of more than 256 KiB."""

PRESETS: dict[str, dict[str, Any]] = {
    "grafana_cloud": {"type": "loki", "port": 443, "compress": True},
    "axiom": {
        "type": "http", "host": "api.axiom.co", "port": 443, "compress": True, "time_key": "_time",
        "uri": "/v1/datasets/{dataset}/ingest",
    },
    "better_stack": {"type": "http", "port": 443, "uri": "/", "compress": True, "time_key": "dt"},
}  # fmt: skip
"""What their documentation asks for. Each needs `token_env`; grafana_cloud also `host` and `user`, axiom `dataset`,
better_stack `host`."""

_CONTAINER = {
    "name": "custodes-container",
    "format": "regex",
    # As the kubelet names the links in /var/log/containers: the API server, which may be what is down, is not asked.
    "regex": r"^.*/(?<pod>[^_/]+)_(?<namespace>[^_/]+)_(?<container>.+)-(?<container_id>[0-9a-f]{64})\.log$",
}
_IN_LABELS = re.compile(r"[^,\"]+")

Section = dict[str, Any]


def model(options: Mapping[str, Any]) -> dict[str, Any]:
    """The sections, in Fluent Bit's own terms; values are texts and numbers.

    Args:
        options: inputs, a list, each with `type` (INPUTS), `path`, `exclude`, and of the journal `read_from_tail`, a
            bool; outputs, by PRIMARY and SECONDARY, as output() takes them; buffer: `path`, `max_bytes` of a file,
            `keep`, a number of older files; bound_bytes, of each output's queue; outage_seconds and bytes_per_second,
            for which it has to do; storage_path; metrics_listen; metrics_port.

    Raises LogsError.
    """
    kinds = [one.get("type") for one in options["inputs"]]
    outputs = [_leg(alias, options) for alias in (PRIMARY, SECONDARY)]
    return {
        "service": {
            "flush": flush_seconds(options),
            "log_level": "warn",
            # Else the parts of a container's long line are put together beyond LINE_MOST.
            "multiline_buffer_limit": LINE_MOST,
            # Others on the host may read how much is logged, and from outside nobody.
            "http_server": "on",
            "http_listen": options.get("metrics_listen") or "127.0.0.1",
            "http_port": int(options.get("metrics_port") or METRICS_PORT),
            "storage.path": _storage(options),
            "storage.sync": "normal",
            # With checksums, a chunk that was being written when Fluent Bit was killed is refused at its next start,
            # with all its lines (tried with 5.1.1): the sum is written last.
            "storage.checksum": "off",
            "storage.metrics": "on",
            "storage.backlog.mem_limit": "16M",
            # Seconds: with the default cap, 2000, a backend that is back waits half an hour for its lines.
            "scheduler.base": 1,
            "scheduler.cap": 10,
        },
        "parsers": [dict(_CONTAINER)] if "containers" in kinds else [],
        "inputs": _inputs(options),
        "filters": _filters(kinds),
        "outputs": [*outputs, _buffer(options["buffer"], int(options["bound_bytes"]))],
    }


def flush_seconds(options: Mapping[str, Any]) -> int:
    """As often as the outage allows: by its end fewer than WAITING_MOST chunks wait. FLUSH_MOST at most."""
    for seconds in range(1, FLUSH_MOST):
        if waiting_chunks(options, seconds) < WAITING_MOST:
            return seconds
    return FLUSH_MOST


def waiting_chunks(options: Mapping[str, Any], flush: int) -> int:
    """How many chunks wait after an outage of outage_seconds."""
    outage = float(options.get("outage_seconds") or 0)
    volume = float(options.get("bytes_per_second") or 0) / CHUNK_BYTES
    return math.ceil(outage * (len(options["inputs"]) / flush + volume))


def _storage(options: Mapping[str, Any]) -> str:
    return str(options.get("storage_path") or STORAGE)


def _leg(alias: str, options: Mapping[str, Any]) -> Section:
    given = options["outputs"][alias]
    labels: dict[str, str] = {}
    if any(one.get("type") == "containers" for one in options["inputs"]):
        labels = {name: f"${name}" for name in ("namespace", "pod", "container")}
    bound = int(given.get("bound_bytes") or options["bound_bytes"])
    return {**output(alias, given, labels), **_lasting(alias, bound)}


def _lasting(alias: str, bound: int) -> Section:
    return {"alias": alias, "retry_limit": "no_limits", "storage.total_limit_size": str(bound)}


def _inputs(options: Mapping[str, Any]) -> list[Section]:
    every = [_input(number, given, options) for number, given in enumerate(options["inputs"])]
    if not every:
        raise LogsError("There is no input. Give one at least: containers, journal or files.")
    places = [one["db"] for one in every]
    for number, place in enumerate(places):
        if place in places[:number]:
            raise LogsError(f"Input {number} follows what another follows already: every line would be there twice.")
    return every


def _input(number: int, given: Mapping[str, Any], options: Mapping[str, Any]) -> Section:
    kind = given.get("type")
    # Any limit has the chunks that wait put on disk; with this type of storage it does not hold up the input.
    common = {"alias": f"{kind}.{number}", "storage.type": "filesystem", "mem_buf_limit": 1}
    if kind == "journal":
        return {
            # Its place is in the database from then on: this is of the first start alone.
            "name": "systemd", "tag": "journal", "db": f"{_storage(options)}/journal.db",
            "read_from_tail": "on" if given.get("read_from_tail") else "off",
            "strip_underscores": "on", **common,
        }  # fmt: skip
    if kind not in INPUTS:
        raise LogsError(f"Input {number} has the type {kind!r:.40}: it takes containers, journal or files.")
    path = given.get("path") or (CONTAINERS if kind == "containers" else "")
    if not path:
        raise LogsError(f"Input {number}, of type files, lacks its path.")
    # By the path and not by the number, which is another once somebody adds an input before.
    name = hashlib.sha256(str(path).encode()).hexdigest()[:12]
    # Its own lines about an outage would be lines that wait.
    exclude = [f"{options['buffer']['path']}/*", *(["*_fluent-bit-*.log"] if kind == "containers" else [])]
    exclude += [str(given["exclude"])] if given.get("exclude") else []
    cri = {"multiline.parser": "cri"} if kind == "containers" else {}
    return {
        "name": "tail", "tag": kind, "path": path, "exclude_path": ",".join(exclude), "path_key": "file", **cri,
        "db": f"{_storage(options)}/tail-{name}.db", "buffer_max_size": LINE_MOST, "truncate_long_lines": "on",
        "refresh_interval": 5, "read_from_head": "true", **common,
    }  # fmt: skip


def _filters(kinds: Iterable[Any]) -> list[Section]:
    several: list[Section] = []
    if "containers" in kinds:
        parsed = {"key_name": "file", "parser": _CONTAINER["name"], "reserve_data": "on", "preserve_key": "on"}
        several.append({"name": "parser", "match": "containers", **parsed})
    if "journal" in kinds:
        # As above.
        unit = re.escape(UNIT)
        several.append({"name": "grep", "match": "journal", "exclude": f"SYSTEMD_UNIT ^{unit}$"})
    return several


def _buffer(given: Mapping[str, Any], bound: int) -> Section:
    return {
        "name": "file", "match": "*", "path": given["path"], "file": "all.log", "mkdir": "true",
        "rotate": "on", "rotate_max_size": str(int(given.get("max_bytes") or 100_000_000)),
        "rotate_max_files": int(given.get("keep") or 10), "rotate_gzip": "off", **_lasting(BUFFER, bound),
    }  # fmt: skip


def resolved(alias: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """What is told of an output, with its preset's values where it tells nothing. Raises LogsError."""
    told = {name: value for name, value in given.items() if value is not None}
    preset = told.get("preset")
    if preset is None:
        return told
    if preset not in PRESETS:
        raise LogsError(f"The {alias} output has the preset {preset!r:.40}: it takes {', '.join(PRESETS)}.")
    needed = {"grafana_cloud": ("host", "user"), "axiom": ("dataset",), "better_stack": ("host",)}[preset]
    for name in (*needed, "token_env"):
        if not told.get(name):
            raise LogsError(f"The {alias} output, of the preset {preset}, lacks its {name}.")
    made = {**PRESETS[preset], **told}
    if "uri" in made:
        made["uri"] = made["uri"].replace("{dataset}", str(told.get("dataset", "")))
    return made


def output(alias: str, given: Mapping[str, Any], labels: Mapping[str, str] | None = None) -> Section:
    """One backend's section, without what makes it last.

    Args:
        alias: of the backend, for messages.
        given: preset, of PRESETS, or type; host; port; tls (true); ca_file; user; token_env, the name of the variable
            that has the token or password; uri; compress; tenant and labels, of Loki; index, of es and opensearch;
            time_key, of http.
        labels: of Loki, those that come from the record.

    Raises LogsError.
    """
    given = resolved(alias, given)
    kind = given.get("type")
    if kind not in _KINDS:
        raise LogsError(f"The {alias} output has the type {kind!r:.40}: it takes {', '.join(_KINDS)}.")
    for name in ("host", "port"):
        if not given.get(name):
            raise LogsError(f"The {alias} output lacks its {name}.")
    if kind == "loki":
        given["labels"] = {"job": "fluent-bit", "host": "${HOSTNAME}", **(labels or {}), **(given.get("labels") or {})}
    try:
        section = {"name": kind, "match": "*", "host": given["host"], "port": int(given["port"])}
        gzip = {"compress": "gzip"} if given.get("compress") else {}
        return {**section, **_tls(given), **_KINDS[kind](given), **gzip}
    except LogsError as error:
        raise LogsError(f"The {alias} output {error}") from error


def _tls(given: Mapping[str, Any]) -> Section:
    if not given.get("tls", True):
        return {"tls": "off"}
    ca = {"tls.ca_file": given["ca_file"]} if given.get("ca_file") else {}
    # Off by default: any certificate of any name would do.
    return {"tls": "on", "tls.verify": "on", "tls.verify_hostname": "on", **ca}


def _variable(given: Mapping[str, Any]) -> str:
    return f"${{{given['token_env']}}}"


def _login(given: Mapping[str, Any], without_user: str) -> Section:
    """Basic with a user; without one, what the type has for a token alone."""
    if not given.get("token_env"):
        return {}
    if given.get("user"):
        return {"http_user": given["user"], "http_passwd": _variable(given)}
    if not without_user:
        raise LogsError(f"has a token_env and no user, whom the type {given['type']} asks for.")
    return {without_user: f"Authorization Bearer {_variable(given)}" if without_user == "header" else _variable(given)}


def _loki(given: Mapping[str, Any]) -> Section:
    for name, value in given["labels"].items():
        if not _IN_LABELS.fullmatch(str(value)):
            raise LogsError(f"has a label {name} with a comma, a quote or nothing in it: {value!r:.60}.")
    labels = ", ".join(f"{name}={value}" for name, value in given["labels"].items())
    tenant = {"tenant_id": given["tenant"]} if given.get("tenant") else {}
    uri = given.get("uri") or "/loki/api/v1/push"
    return {"uri": uri, "labels": labels, "line_format": "json", **tenant, **_login(given, "bearer_token")}


def _http(given: Mapping[str, Any]) -> Section:
    time = {"json_date_key": given["time_key"]} if given.get("time_key") else {}
    form = {"format": "json", "json_date_format": "iso8601", **time}
    return {"uri": given.get("uri") or "/", **form, **_login(given, "header")}


def _es(given: Mapping[str, Any]) -> Section:
    return {**_index(given), **_login(given, "http_api_key")}


def _opensearch(given: Mapping[str, Any]) -> Section:
    # A chunk that is sent again is not there twice: a line's id is a hash of it and of its time, which therefore has to
    # be exact, or a line that comes twice within a millisecond would be one. Not of `es`, which would send a chunk
    # whose answer was lost again for ever: that all of it is there already is a failure to it.
    ids = {"generate_id": "on", "time_key_nanos": "on"}
    return {**_index(given), **ids, **_login(given, "")}


def _index(given: Mapping[str, Any]) -> Section:
    return {"index": given.get("index") or "logs", "suppress_type_name": "on", "replace_dots": "on"}


def _opentelemetry(given: Mapping[str, Any]) -> Section:
    return {"logs_uri": given.get("uri") or "/v1/logs", **_login(given, "header")}


_KINDS = {"loki": _loki, "http": _http, "es": _es, "opensearch": _opensearch, "opentelemetry": _opentelemetry}
TYPES = tuple(_KINDS)


def render(options: Mapping[str, Any], form: str) -> str:
    """The configuration as text, for the same behaviour in either form.

    Args:
        form: yaml or classic.

    Raises LogsError.
    """
    sections = model(options)
    if form == "yaml":
        return _yaml(sections)
    if form == "classic":
        return _classic(sections)
    raise LogsError(f"The form {form!r:.40} is none: yaml or classic.")


def parsers(options: Mapping[str, Any]) -> str:
    """The file PARSERS_FILE that the classic form needs beside it; empty when it needs none."""
    return "\n".join(_block("PARSER", one) for one in model(options)["parsers"])


def _scalar(value: Any) -> str:
    if isinstance(value, int):
        return str(value)
    text = str(value)
    if "\n" in text or "\0" in text:
        raise LogsError(f"A value of the log pipeline has more than one line: {text!r:.60}.")
    return "'" + text.replace("'", "''") + "'"


def _yaml(sections: Mapping[str, Any]) -> str:
    def entries(several: Iterable[Section], indent: str) -> list[str]:
        lines = []
        for section in several:
            first, *rest = (f"{name}: {_scalar(value)}" for name, value in section.items())
            lines += [f"{indent}- {first}", *(f"{indent}  {line}" for line in rest)]
        return lines

    lines = ["service:", *(f"  {name}: {_scalar(value)}" for name, value in sections["service"].items())]
    if sections["parsers"]:
        lines += ["parsers:", *entries(sections["parsers"], "  ")]
    lines.append("pipeline:")
    for name in ("inputs", "filters", "outputs"):
        if sections[name]:
            lines += [f"  {name}:", *entries(sections[name], "    ")]
    return "\n".join(lines) + "\n"


def _block(name: str, section: Section) -> str:
    for value in section.values():
        _scalar(value)
    width = max(map(len, section))
    return "\n".join([f"[{name}]", *(f"    {key.ljust(width)} {value}" for key, value in section.items())]) + "\n"


def _classic(sections: Mapping[str, Any]) -> str:
    parsers_file = {"parsers_file": PARSERS_FILE} if sections["parsers"] else {}
    blocks = [_block("SERVICE", {**sections["service"], **parsers_file})]
    for kind, name in (("inputs", "INPUT"), ("filters", "FILTER"), ("outputs", "OUTPUT")):
        blocks += [_block(name, section) for section in sections[kind]]
    return "\n".join(blocks)
