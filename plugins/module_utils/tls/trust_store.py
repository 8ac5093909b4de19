# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts roots into what a host trusts and takes them out: all of it and read back, or nothing.

Nothing that is trusted is dropped unless it was named: a file that holds another certificate is refused.
Sources: update-ca-certificates(8) of Debian and of SUSE, update-ca-trust(8) of Fedora, openssl-rehash(1).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple, Optional

from ..files import StoreError
from ..owned_files import Change, Content, put, read
from .errors import TlsError
from .keystore import Keystore, Run
from .roots import Root, certificates
from .store_files import LONGEST, BundleFile, owned

_NUMBERED = re.compile(r"[0-9a-f]{8}\.[0-9]+")
"""Name of a link that OpenSSL looks for: the hash of a subject, and a number."""

HEADER = b"# Written by custodes.security_dr.trust_store, which replaces it whole.\n"


class System(NamedTuple):
    """A distribution's trust store.

    Attributes:
        anchors: the folder of the operator's roots, one a file.
        bundle: what is made of it.
        update: makes it.
        links: folder of the links by which OpenSSL finds a root; the update has to be helped to forget them.
    """

    anchors: str
    bundle: str
    update: tuple[str, ...]
    links: str = ""


SYSTEMS = (
    System(
        "/etc/pki/ca-trust/source/anchors",
        "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
        ("update-ca-trust", "extract"),
    ),
    System("/etc/pki/trust/anchors", "/var/lib/ca-certificates/ca-bundle.pem", ("update-ca-certificates",)),
    System(
        "/usr/local/share/ca-certificates",
        "/etc/ssl/certs/ca-certificates.crt",
        ("update-ca-certificates",),
        "/etc/ssl/certs",
    ),
)
"""Of RHEL, SUSE and Debian, in the order in which they are looked for."""


class Plan(NamedTuple):
    """What has to change.

    Attributes:
        anchors: files of the system's trust store.
        update: whether its update has to run.
        bundles: files that are bundles.
        keystores: with the roots by alias that they have, and will have.
        leaving: roots that are trusted somewhere, and will not be.
    """

    anchors: list[Change]
    update: bool
    bundles: list[Change]
    keystores: list[tuple[Keystore, dict[str, str], dict[str, str]]]
    leaving: list[Root]

    @property
    def changed(self) -> bool:
        return bool(self.anchors or self.update or self.bundles or self.keystores)

    @property
    def paths(self) -> list[str]:
        """What is written or removed."""
        return [one.path for one in (*self.anchors, *self.bundles)] + [one.path for one, _now, _then in self.keystores]

    def diff(self) -> list[dict[str, str]]:
        """For people: files in PEM as they are, of a keystore the aliases."""
        files = [(one.path, _shown(one.before), _shown(one.after)) for one in (*self.anchors, *self.bundles)]
        stores = [(one.path, _aliases(now), _aliases(then)) for one, now, then in self.keystores]
        return [
            {"before_header": path, "after_header": path, "before": before, "after": after}
            for path, before, after in (*files, *stores)
        ]


def find_system(root: str = "/") -> Optional[System]:
    """The trust store of this host, by what is there. `root` stands for "/"."""
    for one in SYSTEMS:
        anchors, bundle, links = (
            os.path.join(root, path.lstrip("/")) if path else "" for path in (one.anchors, one.bundle, one.links)
        )
        if os.path.isdir(anchors):
            return System(anchors, bundle, one.update, links)
    return None


class TrustStore:
    """The trust of one host in these roots.

    Args:
        roots: present and absent ones.
        system: its trust store; None where there is none.
        run: runs a command.
        anchors: whether the system's trust store is to have them.
        elsewhere: PEM that is trusted somewhere else, such as a ConfigMap's: it counts as what is trusted here.

    Raises TlsError, as all of its methods, and StoreError where a file cannot be read or written.
    """

    def __init__(
        self, roots: Sequence[Root], system: Optional[System], run: Run, anchors: bool = True, elsewhere: str = ""
    ) -> None:
        self._roots = roots
        self._run = run
        self._system = system
        self._anchors = system if anchors else None
        self._elsewhere = certificates(elsewhere.encode(), "what is trusted elsewhere")
        if anchors and system is None:
            folders = ", ".join(one.anchors for one in SYSTEMS)
            raise TlsError(
                f"There is no trust store of a system here, none of {folders}: install ca-certificates, or set "
                "'system' to false."
            )
        self._named = {one.fingerprint for one in roots}

    def plan(self, bundles: Sequence[BundleFile] = (), keystores: Sequence[Keystore] = ()) -> Plan:
        """What has to change; nothing is changed."""
        _refuse_unnamed("What is trusted elsewhere", self._elsewhere, self._named)
        if self._elsewhere:
            _refuse_ended(self._roots, self._elsewhere, "what is trusted elsewhere")
        trusted = set(self._elsewhere)
        anchors, update = self._plan_system(trusted)
        files = [self._plan_bundle(one, trusted) for one in bundles]
        stores = [(one, *self._plan_keystore(one, trusted)) for one in keystores]
        return Plan(
            anchors=anchors,
            update=update,
            bundles=[one for one in files if one.before != one.after],
            keystores=[one for one in stores if one[1] != one[2]],
            leaving=[one for one in self._roots if not one.present and one.fingerprint in trusted],
        )

    def apply(self, plan: Plan, marker: str = "") -> None:
        """Does it, and reads back what the system's trust store then holds; else all is as it was.

        Args:
            marker: an empty file, mode 0600, that is made before anything is changed and stays; none if empty. It tells
                the next run of services that have not read the change, should this one end before they do.
        """
        # Keystores first: keytool works on copies, and refuses before anything is changed.
        changes = [*plan.bundles, *(self._keystore_change(one) for one, _now, _then in plan.keystores)]
        if marker:
            put(marker, Content(b"", 0o600, os.geteuid(), os.getegid()))
        made = self._anchors and read(self._anchors.bundle, LONGEST)
        try:
            for one in plan.anchors:
                put(one.path, one.after)
            if plan.update and self._anchors:
                self._call(self._anchors.update)
                self._read_back()
                self._forget_links(one.name for one in self._roots if not one.present)
            for one in changes:
                put(one.path, one.after)
        except (TlsError, StoreError) as error:
            raise TlsError(f"{error} {self._undo(plan, changes, made)}") from error

    def bundle(self) -> bytes:
        """The roots that are present, in PEM."""
        return b"".join(b"# " + one.name.encode() + b"\n" + one.pem for one in self._roots if one.present)

    def _plan_system(self, trusted: set[str]) -> tuple[list[Change], bool]:
        if self._anchors is None:
            return [], False
        held, changes = self._held(), []
        for one in self._roots:
            path = os.path.join(self._anchors.anchors, f"{one.name}.crt")
            before = read(path, LONGEST)
            there = certificates(before.data, path) if before else {}
            _refuse_unnamed(path, there, {one.fingerprint})
            _refuse_ended([one], {*there, *held}, self._anchors.anchors)
            after = owned(one.pem, before) if one.present else None
            changes.append(Change(path, before, after))
        trusted.update(held)
        changes = [one for one in changes if one.before != one.after]
        # A run that was killed has written files, and made nothing of them.
        stale = any(
            one.present != (one.fingerprint in held) or (not one.present and os.path.islink(self._link(one.name)))
            for one in self._roots
        )
        return changes, bool(changes) or stale

    def _plan_bundle(self, file: BundleFile, trusted: set[str]) -> Change:
        path = os.path.realpath(file.path)
        before = read(path, LONGEST)
        there = certificates(before.data, path) if before else {}
        system: Mapping[str, bytes] = {}
        if file.system:
            if self._system is None:
                raise TlsError(
                    f"{file.path} is to have the system's roots, and there is no trust store of a system here."
                )
            system = {key: pem for key, pem in self._held().items() if key not in self._named}
        if not (before and file.system and before.data.startswith(HEADER)):
            # Else it is what the distribution has dropped.
            _refuse_unnamed(path, there, self._named | set(system))
        _refuse_ended(self._roots, there, path)
        trusted.update(there)
        data = self.bundle() + b"".join(system.values())
        if not data:
            return Change(path, before, None)
        content = owned(HEADER + data, before)
        uid, gid = (
            mine if given is None else given for given, mine in ((file.uid, content.uid), (file.gid, content.gid))
        )
        return Change(path, before, Content(content.data, file.mode, uid, gid))

    def _plan_keystore(self, keystore: Keystore, trusted: set[str]) -> tuple[dict[str, str], dict[str, str]]:
        entries = keystore.entries()
        now = {one.name: entries[one.name.lower()] for one in self._roots if one.name.lower() in entries}
        for one in self._roots:
            _refuse_unnamed(
                f"Alias {one.name} of {keystore.path}", [now[one.name]] if one.name in now else [], {one.fingerprint}
            )
        _refuse_ended(self._roots, now.values(), keystore.path)
        trusted.update(entries.values())
        # Under another alias it would stay trusted: keytool's copy says so when the keystore is changed.
        absent = {one.fingerprint for one in self._roots if not one.present}
        known = {one.name.lower() for one in self._roots}
        now.update({alias: held for alias, held in entries.items() if held in absent and alias not in known})
        return now, {one.name: one.fingerprint for one in self._roots if one.present}

    def _keystore_change(self, keystore: Keystore) -> Change:
        before = read(keystore.path, LONGEST)
        return Change(keystore.path, before, owned(keystore.changed(self._roots), before))

    def _held(self) -> dict[str, bytes]:
        """What the system trusts, by fingerprint."""
        now = self._system and read(self._system.bundle, LONGEST)
        return certificates(now.data, self._system.bundle) if now and self._system else {}

    def _forget_links(self, names: Iterable[str]) -> None:
        # Debian's update leaves them when nothing was added as well. OpenSSL numbers the links of roots of one subject,
        # and all but its latest patch releases stop at the first that leads nowhere (crypto/x509/by_dir.c): they would
        # not find a rebuilt CA's new root behind the old one's. `openssl rehash` keeps such a link while its number is
        # below the count of the roots that are left, so it is removed here (apps/rehash.c; tried with 3.0.19).
        stale = [self._link(name) for name in names if os.path.islink(self._link(name))]
        if stale and self._anchors:
            folder = self._anchors.links
            numbered = [os.path.join(folder, name) for name in os.listdir(folder) if _NUMBERED.fullmatch(name)]
            targets = {os.path.basename(link) for link in stale}
            for link in [*(one for one in numbered if os.path.islink(one) and os.readlink(one) in targets), *stale]:
                put(link, None)
            self._call(("openssl", "rehash", folder))

    def _link(self, name: str) -> str:
        return os.path.join(self._anchors.links, f"{name}.pem") if self._anchors and self._anchors.links else ""

    def _call(self, command: Sequence[str]) -> None:
        code, said = self._run(command)
        if code == 127:
            raise TlsError(f"There is no {command[0]} here: install it.")
        if code != 0:
            raise TlsError(f"{' '.join(command)} ended with {code}: {said.strip()[-1000:]}")

    def _read_back(self) -> None:
        held = self._held()
        for one in self._roots:
            if one.present == (one.fingerprint in held) or self._anchors is None:
                continue
            if one.present:
                raise TlsError(
                    f"{self._anchors.update[0]} was content, and yet {self._anchors.bundle} has no {one.name}."
                )
            others = [path for path in _files(self._anchors.anchors) if one.fingerprint in _fingerprints(path)]
            raise TlsError(
                f"{self._anchors.bundle} still has {one.name}: "
                + (f"{', '.join(others)} has it as well. Remove that." if others else "the distribution brings it.")
            )

    def _undo(self, plan: Plan, changes: Sequence[Change], made: Optional[Content]) -> str:
        """Puts everything back; tells what came of it."""
        try:
            for one in [*plan.anchors, *changes]:
                put(one.path, one.before)
            if self._anchors is None or not plan.update:
                return "All is as it was before."
            created = [os.path.basename(one.path)[: -len(".crt")] for one in plan.anchors if one.before is None]
            broken = ""
            try:
                self._call(self._anchors.update)
            except (TlsError, StoreError) as error:
                broken = f" The same once more on the way back: {error} Mend it."
            self._forget_links(created)
            if made != read(self._anchors.bundle, LONGEST):
                put(self._anchors.bundle, made)
        except (TlsError, StoreError) as error:
            return f"Nor could all be put back: {error} Look at it by hand."
        return f"All is as it was before.{broken}"


def _refuse_unnamed(title: str, there: Iterable[str], named: set[str]) -> None:
    unknown = [one for one in there if one not in named]
    if unknown:
        raise TlsError(
            f"{title} has a certificate that would be dropped and was not named, with the fingerprint {unknown[0]}. "
            "Give it as a root with a name of its own, present or absent, so that nobody loses it unaware."
        )


def _refuse_ended(roots: Iterable[Root], there: Iterable[str], where: str) -> None:
    """One that has ended stays where it is, until it is absent, and is put nowhere else."""
    for one in roots:
        if one.present and one.ended and one.fingerprint not in there:
            raise TlsError(
                f"The root {one.name} has ended on {one.not_after:%Y-%m-%d %H:%M} UTC: no chain leads to it, so it is "
                f"not put into {where}. Give the new one."
            )


def _shown(content: Optional[Content]) -> str:
    return content.data.decode("utf-8", "replace") if content else ""


def _aliases(entries: Mapping[str, str]) -> str:
    return "".join(f"{name} {fingerprint}\n" for name, fingerprint in sorted(entries.items()))


def _files(folder: str) -> list[str]:
    return [os.path.join(at, name) for at, _folders, names in os.walk(folder) for name in sorted(names)]


def _fingerprints(path: str) -> Iterable[str]:
    with suppress(TlsError, StoreError):
        found = read(path, LONGEST)
        return certificates(found.data, path) if found else ()
    return ()
