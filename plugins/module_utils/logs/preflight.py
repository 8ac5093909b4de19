# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Refuses a log pipeline that would lose lines and not say so."""

from __future__ import annotations

import ipaddress
import os
import re
import shutil
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Optional

from . import fluent_bit
from .errors import LogsError
from .fluent_bit import PRIMARY, SECONDARY

Resolve = Callable[[str], Sequence[str]]

BOUND_LEAST = 4 * fluent_bit.CHUNK_BYTES
"""Bytes of a queue: of fewer, a chunk that is being written and one that is being sent would be all."""
ALWAYS_SET = ("HOSTNAME",)
"""Variables that Fluent Bit sets itself."""

_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9.])?|[0-9A-Fa-f:.]+")
_LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PRIVATE_NAME = re.compile(r"[^.]+|.*\.(svc|local|localhost|internal|lan|home\.arpa)", re.IGNORECASE)
"""Names that are not resolved on the Internet."""


def addresses(host: str) -> list[str]:
    """The addresses of a host, none where its name is not resolved here."""
    try:
        return sorted({str(one[4][0]) for one in socket.getaddrinfo(host, None)})
    except (OSError, UnicodeError):
        return []


def problems(
    options: Mapping[str, Any],
    environment: Optional[Mapping[str, str]],
    resolve: Resolve = addresses,
    root: Optional[str] = None,
) -> list[str]:
    """What is wrong, a sentence each; empty when nothing is.

    Args:
        options: as fluent_bit.model takes them, and outage_seconds and bytes_per_second, for which the bound has to do.
        environment: the variables that Fluent Bit is going to have; None when that is not known here.
        root: stands for "/" of the host that Fluent Bit runs on, whose CA files and disks are looked at; None when that
            is another than this.

    Raises LogsError: there is no configuration for these options at all.
    """
    sections = fluent_bit.model(options)
    outputs = {alias: fluent_bit.resolved(alias, options["outputs"][alias]) for alias in (PRIMARY, SECONDARY)}
    told = [sentence for alias, given in outputs.items() for sentence in _of_one(alias, given, resolve)]
    told += _independent(outputs, resolve) + list(_bounds(options)) + list(_waiting(options))
    told += list(_variables(sections, environment))
    if root is not None:
        told += [sentence for alias, given in outputs.items() for sentence in _ca_file(alias, given, root)]
        told += _disk(options, root)
    return told


def warnings(outputs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What is taken and yet loses lines, a sentence each. The outputs are those of fluent_bit.model's options."""
    return [
        f"The {alias} output is of type es: lines that are refused one by one, for a field of another type or as the "
        "server has too much to do, are lost, and nothing tells it. The type opensearch sends them again, to "
        "Elasticsearch as well, with a user and a password."
        for alias, given in outputs.items()
        if given.get("type") == "es"
    ]


def refuse(
    options: Mapping[str, Any],
    environment: Optional[Mapping[str, str]],
    root: Optional[str],
    resolve: Resolve = addresses,
) -> None:
    """Raises LogsError with all that problems() finds."""
    told = problems(options, environment, resolve, root)
    if told:
        raise LogsError(" ".join([*told, "Nothing was changed."]))


def _of_one(alias: str, given: Mapping[str, Any], resolve: Resolve) -> Iterator[str]:
    host = str(given["host"])
    if not _HOST.fullmatch(host):
        yield f"The {alias} output's host is {host!r:.60}: give a name or an address, without scheme, port or path."
        return
    if not 0 < int(given["port"]) < 65536:
        yield f"The {alias} output's port is {given['port']}: it takes 1 to 65535."
    if given["type"] == "http" and re.search(r"/loki/api/v\d+/push\b", str(given.get("uri", ""))):
        yield (
            f"The {alias} output is of type http and goes to Loki's push path: Loki answers 400 and every line is "
            "dropped. Use the type loki."
        )
    if not given.get("tls", True):
        known = [_address(one) for one in (host, *resolve(host))]
        if any(one is not None and one.is_global for one in known):
            yield f"The {alias} output goes to {host}, a public address, in clear text. Set tls to true."
        elif not any(known) and not _PRIVATE_NAME.fullmatch(host.rstrip(".")):
            yield (
                f"The {alias} output goes to {host} in clear text, and that name is not resolved here, so that it may "
                "be a public address. Set tls to true, or mend the name."
            )
    for name in given.get("labels") or {}:
        if not _LABEL.fullmatch(name):
            yield f"The {alias} output has a label {name!r:.60}, which Loki refuses: letters, digits and _ only."


def _address(text: str) -> Any:
    """An address in one form, however it is written; None for a name."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _independent(outputs: Mapping[str, Mapping[str, Any]], resolve: Resolve) -> list[str]:
    first, second = (str(outputs[alias]["host"]).lower().rstrip(".") for alias in (PRIMARY, SECONDARY))
    if first == second:
        return [f"Both outputs go to {first}: one failure takes both. Give the secondary another infrastructure."]
    shared = set.intersection(
        *({address for one in (host, *resolve(host)) if (address := _address(one))} for host in (first, second))
    )
    if shared:
        address = min(map(str, shared))
        return [f"{first} and {second} are the same address, {address}: one failure takes both."]
    return []


def _bounds(options: Mapping[str, Any]) -> Iterator[str]:
    seconds, rate = (float(options.get(name) or 0) for name in ("outage_seconds", "bytes_per_second"))
    needed = max(int(seconds * rate), BOUND_LEAST)
    for bound in sorted({_bound(options, alias) for alias in (PRIMARY, SECONDARY)}):
        if bound <= 0:
            yield "The queues on disk have no bound: an outage would fill the disk of the host. Set bound_bytes."
        elif bound < needed:
            yield (
                f"A queue holds {bound} bytes, and an outage of {seconds:g} s at {rate:g} bytes a second needs "
                f"{needed}: the oldest lines would be dropped. Raise bound_bytes."
            )


def _bound(options: Mapping[str, Any], alias: str) -> int:
    return int(options["outputs"][alias].get("bound_bytes") or options.get("bound_bytes") or 0)


def _waiting(options: Mapping[str, Any]) -> Iterator[str]:
    waiting = fluent_bit.waiting_chunks(options, fluent_bit.FLUSH_MOST)
    if waiting >= fluent_bit.WAITING_MOST:
        yield (
            f"By the end of an outage of {options['outage_seconds']} s {waiting} chunks wait, and Fluent Bit has room "
            f"for {fluent_bit.WAITING_MOST}, for all outputs together: it would send to none any more. Give fewer "
            "inputs (one of type files takes several paths, with commas between), or a shorter outage_seconds."
        )


def _variables(sections: Mapping[str, Any], environment: Optional[Mapping[str, str]]) -> Iterator[str]:
    several = [*sections["inputs"], *sections["filters"], *sections["outputs"]]
    used = {name: one["alias"] for one in several for value in one.values() for name in _VARIABLE.findall(str(value))}
    for name, alias in sorted(used.items()):
        if name in ALWAYS_SET or environment is None:
            continue
        value = environment.get(name)
        if not value:
            yield (
                f"The {alias} output's token is to come from {name}, which is unset: Fluent Bit would send an empty "
                "one, and only warn. Put it into the secrets."
            )
        elif not value.isprintable() or value != value.strip():
            yield f"The secret {name} has a line break or a space at its end: it was copied with more than itself."


def _ca_file(alias: str, given: Mapping[str, Any], root: str) -> Iterator[str]:
    file = given.get("ca_file")
    if not file or not given.get("tls", True):
        return
    try:
        store = ssl.create_default_context(cafile=os.path.join(root, str(file).lstrip("/")))
        # Of an empty file not every version of Python says so.
        if not store.cert_store_stats()["x509"]:
            raise ssl.SSLError(0, "it has no certificate")
    except OSError as error:
        reason = "it is no file of certificates in PEM" if isinstance(error, ssl.SSLError) else error.strerror
        yield (
            f"The {alias} output's ca_file is {file}: {reason}. Fluent Bit would not connect, and its dry run says "
            "nothing of it."
        )


def _disk(options: Mapping[str, Any], root: str) -> list[str]:
    """The whole file system counts and not what is free: during an outage it is the queue that fills it."""
    folder = os.path.join(root, str(options.get("storage_path") or fluent_bit.STORAGE).lstrip("/"))
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    needed = max(_bound(options, alias) for alias in (PRIMARY, SECONDARY))
    total = shutil.disk_usage(folder).total
    if needed > total:
        return [
            f"The queues may take {needed} bytes, and the whole file system of {folder} has {total}. Lower bound_bytes."
        ]
    return []
