# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian's real update-ca-certificates, openssl and keytool, in folders of their own: who verifies, who does not."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.tls.errors import TlsError
from ansible_collections.custodes.security_dr.plugins.module_utils.tls.keystore import Keystore
from ansible_collections.custodes.security_dr.plugins.module_utils.tls.roots import certificates, read_roots
from ansible_collections.custodes.security_dr.plugins.module_utils.tls.trust_store import System, TrustStore
from lab.pki import Authority
from lab.receiver import Receiver

UPDATE = shutil.which("update-ca-certificates", path="/usr/sbin:/usr/bin")
KEYTOOL = shutil.which("keytool")

needs_update = pytest.mark.skipif(UPDATE is None, reason="there is no update-ca-certificates: install ca-certificates")
needs_keytool = pytest.mark.skipif(KEYTOOL is None, reason="there is no keytool: install default-jre-headless")

Given = tuple[str, Authority, str]


# Half of keytool's CPU time is for optimizing code that runs once.
JAVA = ("-J-XX:TieredStopAtLevel=1", "-J-XX:+UseSerialGC")


def run(command: Sequence[str]) -> tuple[int, str]:
    program, *arguments = command
    quick = JAVA if program == "keytool" else ()
    done = subprocess.run([program, *quick, *arguments], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Authority]:
    """A CA of this name, a new one each time."""
    return lambda name: Authority(tmp_path_factory.mktemp("pki"), name)


class Debian:
    """The trust store of a Debian in a folder, with one root of a distribution."""

    def __init__(self, folder: Path, distribution: Authority) -> None:
        for name in ("local", "share", "etc", "hooks"):
            (folder / name).mkdir()
        shutil.copy(distribution.ca_file, folder / "share/theirs.crt")
        conf = folder / "ca-certificates.conf"
        conf.write_text("theirs.crt\n")
        self.links = folder / "etc"
        command = (
            *(str(UPDATE), "--certsconf", str(conf), "--certsdir", str(folder / "share")),
            *("--localcertsdir", str(folder / "local"), "--etccertsdir", str(self.links)),
            *("--hooksdir", str(folder / "hooks")),
        )
        self.bundle = self.links / "ca-certificates.crt"
        self.system = System(str(folder / "local"), str(self.bundle), command, str(self.links))
        assert run(command)[0] == 0

    def apply(self, *given: Given) -> bool:
        """Whether something changed, and then nothing does any longer."""
        roots = read_roots(
            [{"name": name, "content": one.ca_file.read_text(), "state": state} for name, one, state in given],
            datetime.now(timezone.utc),
        )
        store = TrustStore(roots, self.system, run)
        plan = store.plan()
        if plan.changed:
            store.apply(plan)
        assert not store.plan().changed
        return plan.changed


@pytest.fixture
def debian(tmp_path: Path, pki: Callable[[str], Authority]) -> Debian:
    return Debian(tmp_path, pki("the distribution's"))


@pytest.fixture
def served(pki: Callable[[str], Authority]) -> Iterator[Callable[[Authority], int]]:
    """The port of an endpoint whose certificate is of this CA."""
    receivers = []

    def serve(authority: Authority) -> int:
        receivers.append(Receiver(certificate=authority.issue("www")))
        return int(receivers[-1].__enter__().https.rpartition(":")[2])

    yield serve
    for one in receivers:
        one.__exit__(None, None, None)


def clients(debian: Debian, port: int) -> dict[str, bool]:
    """Who takes the certificate of that port: by the bundle, and by the links, as Python and openssl do."""
    handshakes = {}
    for name, where in (("cafile", debian.bundle), ("capath", debian.links)):
        context = ssl.create_default_context(**{name: str(where)})  # type: ignore[arg-type]
        try:
            with (
                socket.create_connection(("127.0.0.1", port)) as raw,
                context.wrap_socket(raw, server_hostname="localhost"),
            ):
                handshakes[name] = True
        except ssl.SSLCertVerificationError:
            handshakes[name] = False
    command = [
        "openssl",
        "s_client",
        "-connect",
        f"127.0.0.1:{port}",
        "-CApath",
        str(debian.links),
        "-verify_return_error",
    ]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return {**handshakes, "openssl": done.returncode == 0}


ALL = {"cafile": True, "capath": True, "openssl": True}
NONE = dict.fromkeys(ALL, False)


@needs_update
def test_two_roots_side_by_side_then_one(
    debian: Debian, pki: Callable[[str], Authority], served: Callable[[Authority], int]
) -> None:
    old, new = pki("Old"), pki("New")
    of_old, of_new = served(old), served(new)
    assert (clients(debian, of_old), clients(debian, of_new)) == (NONE, NONE)
    assert debian.apply(("old", old, "present"))
    assert debian.apply(("old", old, "present"), ("new", new, "present"))
    assert (clients(debian, of_old), clients(debian, of_new)) == (ALL, ALL)
    assert debian.apply(("old", old, "absent"), ("new", new, "present"))
    assert (clients(debian, of_old), clients(debian, of_new)) == (NONE, ALL)
    assert len(certificates(debian.bundle.read_bytes(), "it")) == 2


@needs_update
@pytest.mark.parametrize("first", [True, False])
def test_the_new_root_of_a_rebuilt_ca_is_found_when_the_old_one_of_that_name_is_gone(
    debian: Debian, pki: Callable[[str], Authority], served: Callable[[Authority], int], first: bool
) -> None:
    roots = [pki("The CA"), pki("The CA")]
    names = ["a", "b"]
    debian.apply(*((name, root, "present") for name, root in zip(names, roots, strict=True)))
    gone, kept = (0, 1) if first else (1, 0)
    ports = [served(root) for root in roots]
    assert [clients(debian, port) for port in ports] == [ALL, ALL]
    debian.apply((names[gone], roots[gone], "absent"), (names[kept], roots[kept], "present"))
    assert (clients(debian, ports[gone]), clients(debian, ports[kept])) == (NONE, ALL)
    # And comes back.
    debian.apply((names[gone], roots[gone], "present"))
    assert [clients(debian, port) for port in ports] == [ALL, ALL]


@needs_update
def test_an_update_that_fails_leaves_everybody_as_before(
    debian: Debian, pki: Callable[[str], Authority], served: Callable[[Authority], int], tmp_path: Path
) -> None:
    old, new = pki("Old"), pki("New")
    debian.apply(("old", old, "present"))
    of_old, of_new = served(old), served(new)
    # It ends in the middle, as on a full disk.
    broken = tmp_path / "broken"
    broken.write_text(f"#!/bin/sh\n: > {debian.bundle}\nexit 1\n")
    broken.chmod(0o755)
    working = debian.system
    debian.system = working._replace(update=(str(broken),))
    with pytest.raises(TlsError, match="All is as it was before"):
        debian.apply(("old", old, "present"), ("new", new, "present"))
    with pytest.raises(TlsError, match="All is as it was before"):
        debian.apply(("old", old, "absent"))
    assert (clients(debian, of_old), clients(debian, of_new)) == (ALL, NONE)
    debian.system = working
    assert debian.apply(("old", old, "present"), ("new", new, "present"))
    assert (clients(debian, of_old), clients(debian, of_new)) == (ALL, ALL)


@needs_keytool
@pytest.mark.parametrize("kind", ["PKCS12", "JKS"])
def test_a_keystore_of_java(tmp_path: Path, pki: Callable[[str], Authority], kind: str) -> None:
    password, path = tmp_path / "password", tmp_path / "trust"
    password.write_text("changeit\n")
    password.chmod(0o600)
    theirs, old, new = pki("Theirs"), pki("Old"), pki("New")
    made = ["keytool", "-importcert", "-noprompt", "-alias", "theirs", "-storetype", kind, "-keystore", str(path)]
    assert run([*made, "-file", str(theirs.ca_file), "-storepass:file", str(password)])[0] == 0

    def apply(*given: Given) -> bool:
        roots = read_roots(
            [{"name": name, "content": one.ca_file.read_text(), "state": state} for name, one, state in given],
            datetime.now(timezone.utc),
        )
        store = TrustStore(roots, None, run, anchors=False)
        plan = store.plan((), [Keystore(str(path), str(password), run)])
        if plan.changed:
            store.apply(plan)
        return plan.changed

    assert apply(("Old", old, "present"), ("new", new, "present"))
    assert not apply(("Old", old, "present"), ("new", new, "present"))
    assert apply(("Old", old, "absent"))
    told = Keystore(str(path), str(password), run).entries()
    kept = {"theirs": theirs, "new": new}
    assert told == {name: next(iter(certificates(one.ca_file.read_bytes(), name))) for name, one in kept.items()}
    before = path.read_bytes()
    with pytest.raises(TlsError, match="alias theirs has it as well"):
        apply(("mine", theirs, "absent"))
    assert path.read_bytes() == before
    password.write_text("another\n")
    with pytest.raises(TlsError, match="password was incorrect"):
        apply(("Old", old, "present"))
    assert path.read_bytes() == before
