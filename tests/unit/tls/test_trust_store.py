# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Roots are trusted whole or not at all, nothing is dropped that was not named, and none goes that is still needed."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.tls import keystore as java
from ansible_collections.custodes.security_dr.plugins.module_utils.tls import trust_store
from ansible_collections.custodes.security_dr.plugins.module_utils.tls.errors import TlsError
from ansible_collections.custodes.security_dr.plugins.module_utils.tls.keystore import Keystore
from ansible_collections.custodes.security_dr.plugins.module_utils.tls.roots import (
    certificates,
    check_census,
    read_roots,
)
from ansible_collections.custodes.security_dr.plugins.module_utils.tls.store_files import BundleFile
from ansible_collections.custodes.security_dr.plugins.module_utils.tls.trust_store import System, TrustStore
from cryptography.hazmat.primitives import hashes
from hypothesis import given
from hypothesis import strategies as st
from unit.modules.runner import Runner
from unit.tls.test_chain import DAY, NOW, Made, make

OLD, NEW, DISTRIBUTION = (make(name, ca=True) for name in ("Old", "New", "Distribution"))
REBUILT = make("Old", ca=True)
ENDED = make("Ended", ca=True, begins=-9 * DAY, ends=-DAY)
Options = dict[str, Any]


def one(name: str, made: Made, state: str = "present") -> Options:
    return {"name": name, "content": made.pem.decode(), "state": state}


def fingerprint(made: Made) -> str:
    return next(iter(certificates(made.pem, "it")))


class Host:
    """A Debian in a folder, with an update that does as the real one does where it matters here."""

    def __init__(self, folder: Path) -> None:
        self.anchors = folder / "usr/local/share/ca-certificates"
        self.links = folder / "etc/ssl/certs"
        self.bundle = self.links / "ca-certificates.crt"
        for made in (self.anchors, self.links):
            made.mkdir(parents=True)
        self.ran: list[str] = []
        self.breaks: list[Callable[[], int]] = []
        self.update()

    def update(self) -> None:
        for file in self.anchors.glob("*.crt"):
            link = self.links / f"{file.stem}.pem"
            if not link.is_symlink():
                link.symlink_to(file)
        self.bundle.write_bytes(
            DISTRIBUTION.pem + b"".join(file.read_bytes() for file in sorted(self.anchors.iterdir()))
        )

    def run(self, command: Sequence[str]) -> tuple[int, str]:
        self.ran.append(command[0])
        if command[0] == "update-ca-certificates":
            if self.breaks:
                return self.breaks.pop(0)(), "no space left"
            self.update()
        return 0, ""

    @property
    def system(self) -> System:
        return System(str(self.anchors), str(self.bundle), ("update-ca-certificates",), str(self.links))

    def store(self, *roots: Options, **more: Any) -> TrustStore:
        return TrustStore(read_roots(roots, NOW), self.system, self.run, **more)

    def apply(self, *roots: Options, bundles: Sequence[BundleFile] = ()) -> None:
        store = self.store(*roots)
        store.apply(store.plan(bundles))

    @property
    def held(self) -> set[str]:
        return set(certificates(self.bundle.read_bytes(), "it"))

    def state(self) -> dict[str, tuple[bytes, int]]:
        files = [*self.anchors.rglob("*"), *self.links.rglob("*")]
        return {str(path): (path.read_bytes(), path.stat().st_mode) for path in files}


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


class TestRoots:
    def test_a_root(self) -> None:
        (root,) = read_roots([one("example-2026", OLD)], NOW)
        assert (root.subject, root.fingerprint) == ("CN=Old", OLD.certificate.fingerprint(hashes.SHA256()).hex())
        assert root.not_after == OLD.certificate.not_valid_after_utc
        assert root.pem == OLD.pem

    @pytest.mark.parametrize(
        ("content", "why"),
        [
            (make("leaf").pem, "is no CA's"),
            (make("leaf", OLD).pem, "is no CA's"),
            (make("middle", OLD, ca=True).pem, "is no root: CN=Old has signed it"),
            (make("early", ca=True, begins=DAY).pem, "begins only on"),
            (OLD.pem + NEW.pem, "and has 2"),
            (OLD.pem + OLD.pem, "and has 2"),
            (OLD.pem + OLD.key_pem, "has a private key in it"),
            (b"", "and has 0"),
            (b"https://example.com/ca.pem", "and has 0"),
            (OLD.pem.replace(b"BEGIN CERT", b"BEGIN TRUSTED CERT"), "one certificate in PEM"),
            (OLD.pem.replace(b"MII", b"MI*", 1), "is damaged"),
            (OLD.pem.replace(b"MII", b"MAA", 1), "is damaged"),
        ],
    )
    def test_what_is_none(self, content: bytes, why: str) -> None:
        with pytest.raises(TlsError, match=why) as caught:
            read_roots([{"name": "x", "content": content.decode(), "state": "present"}], NOW)
        assert "PRIVATE" not in str(caught.value)

    def test_one_that_has_ended_can_be_removed(self) -> None:
        ended = make("ended", ca=True, begins=-9 * DAY, ends=-DAY)
        assert not read_roots([one("x", ended, "absent")], NOW)[0].present

    def test_one_that_has_ended_is_known(self) -> None:
        assert [root.ended for root in read_roots([one("x", ENDED), one("y", OLD)], NOW)] == [True, False]

    @pytest.mark.parametrize("name", ["", "../x", "a b", "-x", "a/b", "x\n", "ü", "x" * 101])
    def test_names_that_are_none(self, name: str) -> None:
        with pytest.raises(TlsError, match="is no name of a root"):
            read_roots([one(name, OLD)], NOW)

    def test_two_that_are_one(self) -> None:
        with pytest.raises(TlsError, match="Two roots have the name Old"):
            read_roots([one("old", OLD), one("Old", NEW)], NOW)
        with pytest.raises(TlsError, match="old and new are the same certificate"):
            read_roots([one("old", OLD), one("new", OLD, "absent")], NOW)

    @given(st.text() | st.text().map(lambda text: f"-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n"))
    def test_whatever_it_is_it_is_refused(self, content: str) -> None:
        with pytest.raises(TlsError):
            read_roots([{"name": "x", "content": content, "state": "present"}], NOW)

    @given(st.binary(max_size=60), st.lists(st.sampled_from([OLD, NEW, DISTRIBUTION]), max_size=5))
    def test_what_is_around_certificates_does_not_matter(self, noise: bytes, given: list[Made]) -> None:
        noise = noise.replace(b"-", b"")
        found = certificates(noise.join([b"", *(made.pem for made in given), b""]), "it")
        assert found == {fingerprint(made): made.pem for made in given}


class TestCensus:
    leaving = read_roots([one("old", OLD, "absent")], NOW)

    def seen(self, made: Made | None, **more: Any) -> Options:
        anchor = {"subject": "CN=it", "fingerprint_sha256": fingerprint(made)} if made else None
        return {"name": "www:443", "anchor": anchor, "looked_at": NOW.isoformat(), "why": "", **more}

    def check(self, *census: Options, max_age: float = 3600) -> None:
        check_census(self.leaving, census, max_age, NOW)

    def test_nothing_leads_to_it(self) -> None:
        self.check(self.seen(NEW), self.seen(DISTRIBUTION))

    def test_when_nothing_leaves_no_census_is_needed(self) -> None:
        check_census([], [], 3600, NOW)

    @pytest.mark.parametrize(
        ("more", "why"),
        [
            ({"anchor": {"fingerprint_sha256": fingerprint(OLD)}}, "www:443 still leads to old"),
            ({"anchor": None, "why": "It cannot be reached."}, "leads to: It cannot be reached. So old stays"),
            ({"looked_at": (NOW - dt.timedelta(hours=2)).isoformat()}, "7200 s away"),
            ({"looked_at": (NOW + dt.timedelta(hours=2)).isoformat()}, "7200 s away"),
            ({"looked_at": "yesterday"}, "is none of tls_endpoint_info"),
            ({"looked_at": "2026-11-27T09:00:00"}, "is none of tls_endpoint_info"),
            ({"looked_at": None}, "is none of tls_endpoint_info"),
            ({"anchor": {}, "why": ""}, "leads to: it gives no reason"),
            ({"anchor": {"subject": "x"}}, "is none of tls_endpoint_info"),
            ({"anchor": "x"}, "is none of tls_endpoint_info"),
        ],
    )
    def test_it_stays(self, more: Options, why: str) -> None:
        with pytest.raises(TlsError, match=why):
            self.check(self.seen(NEW), self.seen(NEW, **more))

    def test_an_empty_one_proves_nothing(self) -> None:
        with pytest.raises(TlsError, match="with no census"):
            self.check()

    def test_one_without_times_proves_nothing(self) -> None:
        seen = self.seen(NEW)
        del seen["looked_at"]
        with pytest.raises(TlsError, match="looked_at"):
            self.check(seen)


class TestSystem:
    def test_two_side_by_side_and_then_one(self, host: Host) -> None:
        host.apply(one("old", OLD))
        host.apply(one("old", OLD), one("new", NEW))
        assert host.held == {fingerprint(made) for made in (DISTRIBUTION, OLD, NEW)}
        host.apply(one("old", OLD, "absent"), one("new", NEW))
        assert host.held == {fingerprint(made) for made in (DISTRIBUTION, NEW)}
        assert not (host.links / "old.pem").is_symlink()
        assert host.ran[-1] == "openssl"
        assert not host.store(one("old", OLD, "absent"), one("new", NEW)).plan().changed

    def test_a_file_is_for_everybody_to_read(self, host: Host) -> None:
        host.apply(one("old", OLD))
        assert (host.anchors / "old.crt").stat().st_mode & 0o777 == 0o644

    def test_what_leaves_is_told(self, host: Host) -> None:
        absent = one("old", OLD, "absent")
        assert host.store(absent).plan().leaving == []
        host.apply(one("old", OLD))
        assert [root.name for root in host.store(absent).plan().leaving] == ["old"]
        # Killed before the update.
        (host.anchors / "old.crt").unlink()
        assert [root.name for root in host.store(absent).plan().leaving] == ["old"]

    @pytest.mark.parametrize("state", ["present", "absent"])
    def test_a_run_that_was_killed_before_the_update_is_ended_by_the_next(self, host: Host, state: str) -> None:
        if state == "present":
            (host.anchors / "old.crt").write_bytes(OLD.pem)
        else:
            host.apply(one("old", OLD))
            (host.anchors / "old.crt").unlink()
        plan = host.store(one("old", OLD, state)).plan()
        assert (plan.changed, plan.update) == (True, True)
        host.apply(one("old", OLD, state))
        assert (fingerprint(OLD) in host.held) is (state == "present")
        assert not host.store(one("old", OLD, state)).plan().changed

    def test_killed_before_the_links_were_made(self, host: Host) -> None:
        host.apply(one("old", OLD))
        (host.anchors / "old.crt").unlink()
        host.update()
        host.apply(one("old", OLD, "absent"))
        assert host.ran[-1] == "openssl"

    @pytest.mark.parametrize("state", ["present", "absent"])
    def test_another_certificate_of_that_name_stays(self, host: Host, state: str) -> None:
        host.apply(one("root", OLD))
        with pytest.raises(TlsError, match=f"fingerprint {fingerprint(REBUILT)}|fingerprint {fingerprint(OLD)}"):
            host.store(one("root", REBUILT, state)).plan()

    @pytest.mark.parametrize("leaves_it", [True, False])
    def test_an_update_that_fails(self, host: Host, leaves_it: bool) -> None:
        host.apply(one("old", OLD))
        before = host.state()

        def half() -> int:
            host.bundle.write_bytes(b"")
            return 1

        host.breaks = [half] if leaves_it else [half, half]
        with pytest.raises(TlsError, match="ended with 1: no space left All is as it was before") as caught:
            host.apply(one("old", OLD), one("new", NEW))
        assert ("on the way back" in str(caught.value)) is not leaves_it
        assert host.state() == before

    def test_an_update_that_fails_when_one_is_removed(self, host: Host) -> None:
        host.apply(one("old", OLD))
        before = host.state()
        host.breaks = [lambda: 1]
        with pytest.raises(TlsError, match="All is as it was before"):
            host.apply(one("old", OLD, "absent"))
        assert host.state() == before

    def test_an_update_that_does_nothing_is_not_believed(self, host: Host) -> None:
        before = host.state()
        host.breaks = [lambda: 0]
        with pytest.raises(TlsError, match=r"was content, and yet .* has no new. All is as it was"):
            host.apply(one("new", NEW))
        assert host.state() == before

    def test_what_another_file_brings_stays_and_is_named(self, host: Host) -> None:
        (host.anchors / "theirs.crt").write_bytes(OLD.pem)
        host.update()
        with pytest.raises(TlsError, match=r"still has old: .*theirs\.crt has it as well"):
            host.apply(one("old", OLD, "absent"))
        with pytest.raises(TlsError, match="still has x: the distribution brings it"):
            host.apply(one("x", DISTRIBUTION, "absent"))

    def test_no_update_program(self, host: Host) -> None:
        host.breaks = [lambda: 127, lambda: 127]
        with pytest.raises(TlsError, match="There is no update-ca-certificates here: install it"):
            host.apply(one("new", NEW))
        assert not list(host.anchors.iterdir())

    @pytest.mark.parametrize("number", [0, 1, 2])
    def test_it_is_found_by_what_is_there(self, tmp_path: Path, number: int) -> None:
        known = trust_store.SYSTEMS[number]
        assert trust_store.find_system(str(tmp_path)) is None
        Path(str(tmp_path) + known.anchors).mkdir(parents=True)
        found = trust_store.find_system(str(tmp_path))
        assert found
        assert (found.anchors, found.update) == (str(tmp_path) + known.anchors, known.update)
        assert bool(found.links) is (number == 2)

    def test_there_is_none(self, host: Host) -> None:
        with pytest.raises(TlsError, match="no trust store of a system here"):
            TrustStore([], None, host.run)


class TestEnded:
    """A root that has ended is added nowhere, and stays where it is until it is absent."""

    def test_the_system(self, host: Host) -> None:
        with pytest.raises(TlsError, match=r"The root x has ended on .* not put into .*local/share/ca-certificates"):
            host.store(one("x", ENDED)).plan()
        (host.anchors / "x.crt").write_bytes(ENDED.pem)
        host.update()
        assert not host.store(one("x", ENDED)).plan().changed
        host.apply(one("x", ENDED), one("new", NEW))
        assert {fingerprint(ENDED), fingerprint(NEW)} < host.held
        host.apply(one("x", ENDED, "absent"), one("new", NEW))
        assert fingerprint(ENDED) not in host.held

    def test_a_bundle(self, host: Host, tmp_path: Path) -> None:
        file = BundleFile(str(tmp_path / "app.pem"))
        store = TrustStore(read_roots([one("x", ENDED), one("new", NEW)], NOW), None, host.run, anchors=False)
        with pytest.raises(TlsError, match=r"not put into .*app\.pem"):
            store.plan([file])
        Path(file.path).write_bytes(ENDED.pem)
        store.apply(store.plan([file]))
        assert list(certificates(Path(file.path).read_bytes(), "it")) == [fingerprint(ENDED), fingerprint(NEW)]

    def test_elsewhere(self, host: Host) -> None:
        with pytest.raises(TlsError, match="not put into what is trusted elsewhere"):
            host.store(one("x", ENDED), one("new", NEW), anchors=False, elsewhere=NEW.pem.decode()).plan()
        host.store(one("x", ENDED), anchors=False, elsewhere=ENDED.pem.decode()).plan()

    def test_a_keystore(self, tmp_path: Path) -> None:
        (tmp_path / "password").write_text("changeit\n")
        keystore = Keystore(str(tmp_path / "trust.p12"), str(tmp_path / "password"), Keytool().run)
        store = TrustStore(read_roots([one("x", ENDED)], NOW), None, Keytool().run, anchors=False)
        with pytest.raises(TlsError, match=r"not put into .*trust\.p12"):
            store.plan((), [keystore])
        Path(keystore.path).write_text(f"Alias name: x\n\n{ENDED.pem.decode()}\n")
        assert not store.plan((), [keystore]).changed


class TestBundles:
    def test_these_roots(self, host: Host, tmp_path: Path) -> None:
        file = BundleFile(str(tmp_path / "app.pem"), mode=0o640)
        host.apply(one("old", OLD), one("new", NEW), bundles=[file])
        written = Path(file.path)
        assert list(certificates(written.read_bytes(), "it")) == [fingerprint(OLD), fingerprint(NEW)]
        assert written.stat().st_mode & 0o777 == 0o640
        assert not host.store(one("old", OLD), one("new", NEW)).plan([file]).changed

    def test_and_those_of_the_system(self, host: Host, tmp_path: Path) -> None:
        file = BundleFile(str(tmp_path / "app.pem"), system=True)
        foreseen = host.store(one("old", OLD)).plan([file]).bundles[0].after
        host.apply(one("old", OLD), bundles=[file])
        assert foreseen
        assert foreseen.data == Path(file.path).read_bytes()
        assert set(certificates(foreseen.data, "it")) == {fingerprint(OLD), fingerprint(DISTRIBUTION)}
        assert not host.store(one("old", OLD)).plan([file]).changed
        # The distribution drops one.
        host.bundle.write_bytes(OLD.pem)
        host.apply(one("old", OLD), bundles=[file])
        assert set(certificates(Path(file.path).read_bytes(), "it")) == {fingerprint(OLD)}

    def test_one_that_holds_what_was_not_named(self, host: Host, tmp_path: Path) -> None:
        file = BundleFile(str(tmp_path / "app.pem"))
        Path(file.path).write_bytes(OLD.pem)
        for wanted in (file, file._replace(system=True)):
            with pytest.raises(TlsError, match=f"dropped and was not named, with the fingerprint {fingerprint(OLD)}"):
                host.store(one("new", NEW)).plan([wanted])
        assert [root.name for root in host.store(one("x", OLD, "absent")).plan([file]).leaving] == ["x"]

    def test_without_a_root_it_goes(self, host: Host, tmp_path: Path) -> None:
        file = BundleFile(str(tmp_path / "app.pem"))
        host.apply(one("old", OLD), bundles=[file])
        host.apply(one("old", OLD, "absent"), bundles=[file])
        assert not Path(file.path).exists()

    def test_a_link_stays_one(self, host: Host, tmp_path: Path) -> None:
        (tmp_path / "link.pem").symlink_to(tmp_path / "app.pem")
        host.apply(one("old", OLD), bundles=[BundleFile(str(tmp_path / "link.pem"))])
        assert (tmp_path / "link.pem").is_symlink()
        assert b"# old\n" in (tmp_path / "app.pem").read_bytes()

    def test_one_that_cannot_be_written_takes_all_back(self, host: Host, tmp_path: Path) -> None:
        before = host.state()
        with pytest.raises(TlsError, match=r"Create the folder.* All is as it was before"):
            host.apply(
                one("old", OLD), bundles=[BundleFile(str(tmp_path / "a.pem")), BundleFile(str(tmp_path / "no/b.pem"))]
            )
        assert host.state() == before
        assert not (tmp_path / "a.pem").exists()

    def test_without_the_system(self, host: Host, tmp_path: Path) -> None:
        store = TrustStore(read_roots([one("old", OLD)], NOW), host.system, host.run, anchors=False)
        store.apply(store.plan([BundleFile(str(tmp_path / "app.pem"))]))
        assert host.ran == []
        assert fingerprint(OLD) not in host.held

    def test_elsewhere(self, host: Host) -> None:
        told = OLD.pem.decode()
        assert [root.name for root in host.store(one("x", OLD, "absent"), elsewhere=told).plan().leaving] == ["x"]
        with pytest.raises(TlsError, match="elsewhere has a certificate that would be dropped"):
            host.store(one("new", NEW), elsewhere=told).plan()

    @pytest.mark.parametrize(("mode", "is_"), [("0640", 0o640), ("640", 0o640), (0o640, 0o640)])
    def test_permissions(self, mode: Any, is_: int) -> None:
        given = {"path": "x", "system": False, "owner": None, "group": None, "mode": mode}
        assert BundleFile.from_options(given).mode == is_

    @pytest.mark.parametrize(
        ("more", "why"),
        [({"mode": "rw"}, "no octal"), ({"owner": "no-such"}, "not known"), ({"group": "no-such"}, "not known")],
    )
    def test_permissions_that_are_none(self, more: Options, why: str) -> None:
        with pytest.raises(TlsError, match=why):
            BundleFile.from_options(
                {"path": "x", "system": False, "owner": None, "group": None, "mode": "0644", **more}
            )


class Keytool:
    """Keeps a keystore as lines of alias and PEM."""

    def __init__(self) -> None:
        self.commands: list[Sequence[str]] = []
        self.answer: tuple[int, str] | None = None

    def run(self, command: Sequence[str]) -> tuple[int, str]:
        self.commands.append(command)
        if self.answer:
            return self.answer
        said = dict(zip(command, command[1:], strict=False))
        path = Path(said["-keystore"])
        text = path.read_text() if path.exists() else ""
        if "-importcert" in command:
            pem = Path(said["-file"]).read_text()
            text += f"Alias name: {said['-alias'].lower()}\nEntry type: trustedCertEntry\n\n{pem}\n"
        elif "-delete" in command:
            text = "".join(
                f"Alias name: {part}"
                for part in text.split("Alias name: ")[1:]
                if not part.startswith(said["-alias"].lower())
            )
        else:
            return 0, f"Your keystore contains entries\n\n{text}"
        path.write_text(text)
        return 0, ""


class TestKeystores:
    @pytest.fixture
    def keytool(self) -> Keytool:
        return Keytool()

    @pytest.fixture
    def keystore(self, keytool: Keytool, tmp_path: Path) -> Keystore:
        (tmp_path / "password").write_text("changeit\n")
        return Keystore(str(tmp_path / "trust.p12"), str(tmp_path / "password"), keytool.run)

    def store(self, *roots: Options) -> TrustStore:
        return TrustStore(read_roots(roots, NOW), None, lambda _command: (127, ""), anchors=False)

    def apply(self, keystore: Keystore, *roots: Options) -> None:
        store = self.store(*roots)
        store.apply(store.plan((), [keystore]))

    def test_roots_come_and_go(self, keystore: Keystore, keytool: Keytool) -> None:
        self.apply(keystore, one("Old", OLD))
        self.apply(keystore, one("Old", OLD), one("new", NEW))
        assert keystore.entries() == {"old": fingerprint(OLD), "new": fingerprint(NEW)}
        plan = self.store(one("Old", OLD, "absent"), one("new", NEW)).plan((), [keystore])
        assert [root.name for root in plan.leaving] == ["Old"]
        assert plan.diff()[0]["before"].startswith(f"Old {fingerprint(OLD)}\n")
        self.apply(keystore, one("Old", OLD, "absent"), one("new", NEW))
        assert keystore.entries() == {"new": fingerprint(NEW)}
        assert not self.store(one("Old", OLD, "absent"), one("new", NEW)).plan((), [keystore]).changed
        assert not any("changeit" in part for command in keytool.commands for part in command)

    def test_the_keystore_itself_is_never_worked_on(self, keystore: Keystore, keytool: Keytool) -> None:
        Path(keystore.path).write_text("")
        Path(keystore.path).chmod(0o640)
        self.apply(keystore, one("old", OLD))
        for command in keytool.commands:
            assert ("-list" in command) or keystore.path not in command
            # The user of an application may own its folder, and put a link in the place of what root writes there.
            worked_on = Path(command[command.index("-keystore") + 1])
            assert "-list" in command or worked_on.parent.parent != Path(keystore.path).parent
        assert Path(keystore.path).stat().st_mode & 0o777 == 0o640
        assert sorted(file.name for file in Path(keystore.path).parent.iterdir()) == ["password", "trust.p12"]

    def test_what_else_is_in_it_stays(self, keystore: Keystore) -> None:
        Path(keystore.path).write_text(f"Alias name: theirs\n\n{DISTRIBUTION.pem.decode()}\n")
        self.apply(keystore, one("old", OLD))
        self.apply(keystore, one("old", OLD, "absent"))
        assert keystore.entries() == {"theirs": fingerprint(DISTRIBUTION)}

    def test_another_certificate_of_that_alias_stays(self, keystore: Keystore) -> None:
        self.apply(keystore, one("root", OLD))
        with pytest.raises(TlsError, match=r"Alias root of .* dropped and was not named"):
            self.store(one("root", NEW)).plan((), [keystore])

    def test_one_that_stays_under_another_alias(self, keystore: Keystore) -> None:
        Path(keystore.path).write_text(f"Alias name: theirs\n\n{OLD.pem.decode()}\n")
        gone = one("old", OLD, "absent")
        assert [root.name for root in self.store(gone).plan((), [keystore]).leaving] == ["old"]
        before = Path(keystore.path).read_bytes()
        with pytest.raises(TlsError, match=r"still has old: alias theirs has it as well\. Remove that"):
            self.apply(keystore, gone)
        assert Path(keystore.path).read_bytes() == before
        # And as itself besides.
        Path(keystore.path).write_bytes(before + f"Alias name: old\n\n{OLD.pem.decode()}\n".encode())
        with pytest.raises(TlsError, match="alias theirs has it as well"):
            self.apply(keystore, gone)
        # One that is present may have as many as it likes.
        assert not self.store(one("old", OLD)).plan((), [keystore]).changed

    def test_keytool_refuses(self, keystore: Keystore, keytool: Keytool) -> None:
        Path(keystore.path).write_text("")
        keytool.answer = (1, "keytool error: java.io.IOException: keystore password was incorrect")
        with pytest.raises(TlsError, match="password was incorrect Nothing was changed"):
            self.store(one("old", OLD)).plan((), [keystore])

    def test_there_is_no_keytool(self, keystore: Keystore, keytool: Keytool) -> None:
        keytool.answer = (127, "")
        with pytest.raises(TlsError, match="There is no keytool"):
            self.apply(keystore, one("old", OLD))
        assert not Path(keystore.path).exists()

    def test_a_keytool_that_does_nothing_is_not_believed(self, keystore: Keystore, keytool: Keytool) -> None:
        Path(keystore.path).write_text("")
        keytool.answer = (0, "")
        with pytest.raises(TlsError, match="was content, and yet old is not present"):
            self.apply(keystore, one("old", OLD))

    def test_there_is_no_password(self, keytool: Keytool, tmp_path: Path) -> None:
        with pytest.raises(TlsError, match="no password_file"):
            Keystore(str(tmp_path / "x"), str(tmp_path / "none"), keytool.run)

    def test_keys_have_aliases_as_well(self) -> None:
        chain = (OLD.pem + NEW.pem).decode()
        told = java.listed(f"Alias name: Key\nEntry type: PrivateKeyEntry\n{chain}\nAlias name: s\nEntry\n")
        assert told == {"key": fingerprint(OLD), "s": ""}


class TestModule:
    @pytest.fixture
    def module(
        self, host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> Runner:
        (tmp_path / "bin").mkdir()
        program = tmp_path / "bin/update-ca-certificates"
        program.write_text(f"#!/bin/sh\ncat {host.anchors}/*.crt > {host.bundle} 2>/dev/null\nexit 0\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
        runner = Runner(capsys, "trust_store")
        monkeypatch.setattr(runner.module, "ROOT", str(tmp_path))
        return runner

    def test_four_runs(self, module: Runner, host: Host, tmp_path: Path) -> None:
        bundles = [{"path": str(tmp_path / "app.pem"), "mode": "0600"}]
        _check, done, _again, _last = module.four_runs(roots=[one("old", OLD)], bundles=bundles)
        assert done["changed_files"] == [str(host.anchors / "old.crt"), str(tmp_path / "app.pem")]
        assert done["roots"][0]["fingerprint_sha256"] == fingerprint(OLD)
        assert (done["diff"][0]["before"], done["diff"][0]["after"]) == ("", OLD.pem.decode())

    def test_a_marker_stays_until_somebody_removes_it(self, module: Runner, tmp_path: Path) -> None:
        marker = tmp_path / "reload"
        given = {"roots": [one("old", OLD)], "reload_marker": str(marker)}
        assert module(**given, check=True)["reload_pending"]
        assert not marker.exists()
        assert module(**given)["reload_pending"]
        assert (marker.read_bytes(), marker.stat().st_mode & 0o777) == (b"", 0o600)
        again = module(**given)
        assert (again["changed"], again["reload_pending"]) == (False, True)
        assert module(**given, check=True)["reload_pending"]
        marker.unlink()
        assert not module(**given)["reload_pending"]
        assert not marker.exists()
        assert not module(roots=[one("old", OLD, "present"), one("new", NEW)])["reload_pending"]

    def test_the_marker_is_made_before_anything_is_changed(self, module: Runner, host: Host, tmp_path: Path) -> None:
        told = module.fails(roots=[one("old", OLD)], reload_marker=str(tmp_path / "none/reload"))
        assert "none" in told["msg"]
        assert not list(host.anchors.iterdir())
        broken = [{"path": str(tmp_path / "no/b.pem")}]
        module.fails(roots=[one("old", OLD)], bundles=broken, reload_marker=str(tmp_path / "reload"))
        assert (tmp_path / "reload").exists()

    def test_a_removal_needs_a_census(self, module: Runner, host: Host) -> None:
        module(roots=[one("old", OLD)])
        told = module.fails(roots=[one("old", OLD, "absent")], check=True)
        assert "with no census" in told["msg"]
        now = dt.datetime.now(dt.timezone.utc).isoformat()
        seen = {"name": "www:443", "anchor": {"fingerprint_sha256": fingerprint(NEW)}, "looked_at": now}
        module.four_runs(roots=[one("old", OLD, "absent")], census=[seen])
        # It is gone: no census is needed any longer.
        assert not module(roots=[one("old", OLD, "absent")])["changed"]
        assert not list(host.anchors.iterdir())
