# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stood on this host when somebody last said that it is right, and what has changed since."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Optional, cast

from ..files import Name, explain, new_file
from . import accounts
from .errors import DetectionError
from .findings import Finding, found
from .inventory import Inventory, Item, Reader
from .rules import RULES

VERSION = 1
LARGEST = 64 * 2**20
"""Bytes that are read of a baseline; one of 400 items has 60 kB."""

_FILE = re.compile(rb'\{"sha256":"([0-9a-f]{64})","baseline":(\{.*\})\}\n\Z', re.DOTALL)
_SHAPE = (str, str, str, int, int, int, str)
_EMPTY = hashlib.sha256(b"").hexdigest()
_MEND = "Keep it, look at what changed, then take a new one: custodes detect --rebaseline"


class BaselineMissing(DetectionError):  # noqa: N818 - names the state, as the report does
    """There is none at that path."""


class BaselineDamaged(DetectionError):  # noqa: N818
    """There is one that cannot be trusted or read."""


class Baseline(NamedTuple):
    """Attributes: items by path; host, the name it had then; written, ISO 8601 in UTC."""

    items: Mapping[str, Item]
    host: str
    written: str


class Change(NamedTuple):
    """One difference.

    Attributes:
        path: as in an inventory.
        before, after: None for what was not there; one of them is an item.
        what: ("added",), ("deleted",), or of content, target, owner, mode and kind those that differ.
    """

    path: str
    before: Optional[Item]
    after: Optional[Item]
    what: tuple[str, ...]

    @property
    def item(self) -> Item:
        """What is there, or what was."""
        return cast("Item", self.after or self.before)


def write(path: Name, items: Mapping[str, Item], now: float, host: Optional[str] = None) -> Baseline:
    """Replaces the baseline, mode 0600, and gives it.

    The file is one JSON object of "sha256" and "baseline"; the checksum is that of the bytes of the second, so that no
    byte of the file can change unnoticed. It is no signature: who is root can write another.

    Args:
        now: seconds since 1970.
        host: this one's name by default.

    Raises StoreError.
    """
    written = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
    baseline = Baseline(dict(items), os.uname().nodename if host is None else host, written)
    content = {"version": VERSION, "host": baseline.host, "written": written, "items": baseline.items}
    # Lone surrogates, which stand for bytes outside UTF-8 in a name, come back from their escapes as they were.
    text = json.dumps(content, ensure_ascii=True, sort_keys=True, separators=(",", ":")).encode()
    with new_file(path) as file:
        file.write(b'{"sha256":"%s","baseline":%s}\n' % (hashlib.sha256(text).hexdigest().encode(), text))
    return baseline


def load(path: Name) -> Baseline:
    """The baseline in a file.

    Raises:
        BaselineMissing: it is not there.
        BaselineDamaged: it cannot be read, is not what was written, is of another version of this format, belongs to
            somebody else, or others can write it.
    """
    try:
        text = _read(path)
    except FileNotFoundError as error:
        raise BaselineMissing(f"There is no baseline at {path}. If there was one, ask who removed it.") from error
    except OSError as error:
        raise BaselineDamaged(f"{path} cannot be read: {explain(error)}. {_MEND}") from error
    parts = _FILE.match(text)
    if parts is None or hashlib.sha256(parts[2]).hexdigest().encode() != parts[1]:
        raise BaselineDamaged(f"{path} is not what was written there: its checksum is wrong. {_MEND}")
    try:
        content = json.loads(parts[2])
        if content["version"] != VERSION:
            raise BaselineDamaged(f"{path} has version {content['version']!r:.20}, and {VERSION} is read. {_MEND}")
        items = {name: _item(fields) for name, fields in content["items"].items()}
        return Baseline(items, str(content["host"]), str(content["written"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BaselineDamaged(f"{path} holds no baseline: {error!r:.80}. {_MEND}") from error


def _read(path: Name) -> bytes:
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise BaselineDamaged(f"{path} is no file. {_MEND}")
        if status.st_uid not in (0, os.geteuid()):
            raise BaselineDamaged(f"{path} belongs to user {status.st_uid}, who could have changed it. {_MEND}")
        if status.st_mode & 0o022:
            raise BaselineDamaged(f"{path} can be written by others (mode {status.st_mode & 0o7777:04o}). {_MEND}")
        return file.read(LARGEST)


def _item(fields: Sequence[Any]) -> Item:
    if tuple(map(type, fields)) != _SHAPE or fields[0] not in RULES:
        raise ValueError("an item is not in order")
    return Item._make(fields)


def changes(old: Mapping[str, Item], new: Mapping[str, Item]) -> list[Change]:
    """Every difference, by path. The rule of an item is none: a unit that a timer begins to start stays what it is."""
    told = []
    for path in sorted(old.keys() | new.keys()):
        before, after = old.get(path), new.get(path)
        if before is None or after is None:
            told.append(Change(path, before, after, ("added",) if before is None else ("deleted",)))
        elif before[1:] != after[1:]:
            told.append(Change(path, before, after, _differences(before, after)))
    return told


def _differences(before: Item, after: Item) -> tuple[str, ...]:
    noted = "target" if "link" in (before.kind, after.kind) else "content"
    pairs = {
        "kind": before.kind != after.kind,
        "content": before.sha256 != after.sha256,
        "owner": (before.uid, before.gid) != (after.uid, after.gid),
        "mode": before.mode != after.mode,
    }
    if before.note != after.note:
        pairs[noted] = True
    return tuple(name for name, differs in pairs.items() if differs)


def renewed(old: Optional[Baseline], inventory: Inventory) -> dict[str, Item]:
    """The items of a new baseline: what was seen, and what the old one had where nothing could be seen now."""
    kept = {path: item for path, item in (old.items if old else {}).items() if inventory.is_unseen(path)}
    return {**kept, **inventory.items}


def pending(old: Baseline, inventory: Inventory) -> list[Change]:
    """The differences that count.

    That a job of at, or what lies in /run, is gone is no finding: the one ends by itself, the other with a restart. A
    folder is watched for its owner and mode alone.
    """
    return [change for change in changes(old.items, inventory.items) if _counts(change, inventory)]


def _counts(change: Change, inventory: Inventory) -> bool:
    if change.item.kind == "folder" and (change.before is None or change.after is None):
        return False
    if change.after is None:
        vanishes = change.item.rule == "schedule.at" or change.path.startswith("/run/")
        return not vanishes and not inventory.is_unseen(change.path)
    return True


def compare(
    old: Optional[Baseline], inventory: Inventory, reader: Reader, *, accept_package_changes: bool = True
) -> list[Finding]:
    """What has changed, and what is a finding even on the first day: preloaded libraries, a second account of uid 0.

    A change that a package has made is a finding of package.changed instead. It stays one until the next baseline,
    because the file matches the package's checksum at each run; nothing is added to the baseline by itself.

    Args:
        old: None before there is one.
        inventory: of all scanners, merged: what is in none of them counts as deleted.
        reader: of the same run, for what is shown of a file.
    """
    told = pending(old, inventory) if old else []
    explained = {}
    if accept_package_changes and told:
        from . import packages  # noqa: PLC0415 - on most runs nothing has changed

        explained = packages.explain(reader, told)
    findings = [
        _accepted(change, explained[change.path]) if change.path in explained else _finding(change, reader)
        for change in told
    ]
    seen = {change.path for change in told}
    return findings + [
        _standing(path, item, reader)
        for path, item in inventory.items.items()
        if path not in seen and _is_always_told(path, item)
    ]


def _is_always_told(path: str, item: Item) -> bool:
    if item.rule == "persistence.uid0":
        return path != f"{accounts.PASSWD}:root"
    return item.rule == "persistence.ld_preload" and item.sha256 != _EMPTY


def sentence(change: Change, reader: Reader) -> str:
    """What has changed, in a line: "A cron job was added: /etc/cron.d/x (root, 0644)"."""
    item = change.item
    noun = "A folder" if item.kind == "folder" else _NOUNS[item.rule]
    done = change.what[0] if change.after is None or change.before is None else f"changed ({', '.join(change.what)})"
    return f"{noun} was {done}: {_described(change.path, item, reader)}"


def _described(path: str, item: Item, reader: Reader) -> str:
    if item.kind == "account":
        return path.rpartition(":")[2]
    if item.kind == "link":
        return f"{path} -> {item.note}"
    return f"{path} ({_owner(item, reader)}, {item.mode:04o})"


def _owner(item: Item, reader: Reader) -> str:
    known = (account.name for account in reader.once(accounts.read).accounts if account.uid == item.uid)
    return next(known, str(item.uid))


def _finding(change: Change, reader: Reader) -> Finding:
    gone = change.after is None
    severity = _DELETED.get(change.item.rule) if gone else None
    evidence: dict[str, Any] = {"what": list(change.what)}
    if change.before is not None:
        evidence["before"] = _facts(change.before, reader)
    if change.after is not None:
        evidence["after"] = _facts(change.after, reader)
        evidence.update(_content(change.path, change.after, reader))
    key = _key(change.path, change.item, "deleted" if gone else "")
    return found(change.item.rule, change.path, sentence(change, reader), evidence, key, severity)


def _standing(path: str, item: Item, reader: Reader) -> Finding:
    noun = "Libraries are preloaded into every program" if item.kind != "account" else "An account of uid 0 beside root"
    evidence = {"after": _facts(item, reader), **_content(path, item, reader)}
    return found(item.rule, path, f"{noun}: {_described(path, item, reader)}", evidence, _key(path, item, ""))


def _accepted(change: Change, package: str) -> Finding:
    summary = f"Package {package} has {'added' if change.before is None else 'changed'} {change.path}"
    evidence = {"package": package, "sha256": change.item.sha256, "rule": change.item.rule}
    return found("package.changed", change.path, summary, evidence, _key(change.path, change.item, ""))


def _facts(item: Item, reader: Reader) -> dict[str, Any]:
    facts = {
        "kind": item.kind,
        "sha256": item.sha256,
        "owner": _owner(item, reader),
        "uid": item.uid,
        "gid": item.gid,
        "mode": f"{item.mode:04o}",
        "target" if item.kind == "link" else "note": item.note,
    }
    return {name: value for name, value in facts.items() if value != ""}


def _content(path: str, item: Item, reader: Reader) -> dict[str, Any]:
    if not item.sha256:
        return {}
    try:
        from . import excerpt  # noqa: PLC0415 - the same

        shown = excerpt.lines(item.rule, os.fsdecode(reader.content(path)))
    except OSError:
        return {}
    return {"lines": shown} if shown else {}


def _key(path: str, item: Item, state: str) -> tuple[str, ...]:
    # Two names that print alike are two findings.
    name = hashlib.sha256(os.fsencode(path)).hexdigest()
    return (path, name, state, item.kind, item.sha256, f"{item.uid}:{item.gid}", f"{item.mode:o}", item.note)


_NOUNS = {
    "schedule.cron": "A cron job",
    "schedule.at": "A job of at",
    "schedule.timer": "A timer or what it starts",
    "persistence.authorized_keys": "A file of SSH keys or settings",
    "persistence.ld_preload": "The list of preloaded libraries",
    "persistence.sudoers": "A file of sudo rules",
    "persistence.setuid": "A setuid or setgid file",
    "persistence.unit": "A systemd unit or start script",
    "persistence.profile": "A start script of shells",
    "persistence.uid0": "An account of uid 0",
}
_DELETED = {
    **dict.fromkeys(_NOUNS, "medium"),
    **dict.fromkeys(("persistence.ld_preload", "persistence.setuid", "persistence.uid0"), "low"),
    "persistence.profile": "low",
}
"""Less than an appearance: nothing new can run. But a job that is gone may be the one that made backups."""
