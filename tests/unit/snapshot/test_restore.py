# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A restore is verified first, sent once, and over when the leader has reloaded, not when the POST returns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.files import StoreError
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.download import SNAPSHOT_API
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.errors import (
    SnapshotCorruptError,
    SnapshotMismatchError,
)
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.manifest import manifest_path, verify
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.restore import (
    Restored,
    inspect_target,
    restore,
)
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.errors import (
    VaultApiError,
    VaultConfigError,
    VaultPermissionError,
    VaultSealedError,
    VaultUnreachableError,
)
from lab import archives
from unit.vault.fake import (
    HEALTH,
    OTHER,
    SEAL,
    URL,
    Answer,
    Clock,
    FakeVault,
    Seen,
    errors,
    node,
    refused,
    reset,
    silent,
)

GOOD = archives.archive()
FORCE = SNAPSHOT_API + "-force"
TOKEN = "hvs.t"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "x.snap"
    path.write_bytes(GOOD)
    return path


@pytest.fixture
def cluster(vault: FakeVault) -> FakeVault:
    """A leader whose Raft index rises with the restore, behind a standby that is asked first."""
    node(vault, URL, 429, leader=OTHER)
    node(vault, OTHER, 200)
    vault.on("GET", "sys/storage/raft/autopilot/state", errors(), 404)
    for api in (SNAPSHOT_API, FORCE):
        vault.on("POST", api, call=lambda _seen: reloaded(vault), at=OTHER)
    return vault


def reloaded(vault: FakeVault) -> Answer:
    leads(vault, 90)
    return Answer(204)


def leads(vault: FakeVault, index: int | None, **said: Any) -> None:
    """Lets the leader tell another Raft index."""
    vault.clear("GET", "sys/leader", OTHER)
    answer = {"ha_enabled": True, "is_self": True, "leader_address": OTHER, "raft_applied_index": index, **said}
    vault.on("GET", "sys/leader", answer, at=OTHER)


def send(
    vault: FakeVault,
    path: Path,
    clock: Clock,
    force: bool = True,
    timeout: float = 5.0,
    cluster_id: str | None = HEALTH["cluster_id"],
) -> Restored:
    return restore(vault.client(token=TOKEN), path, force, 600.0, timeout, clock.sleep, clock.monotonic, cluster_id)


class TestBefore:
    @pytest.mark.parametrize("damage", [b"", GOOD[:-1], GOOD + b"x", b"not a snapshot"])
    def test_what_does_not_verify_is_not_sent(self, vault: FakeVault, path: Path, clock: Clock, damage: bytes) -> None:
        path.write_bytes(damage)
        with pytest.raises(SnapshotCorruptError):
            send(vault, path, clock)
        assert vault.seen == []

    def test_nor_what_is_not_what_its_manifest_says(self, vault: FakeVault, path: Path, clock: Clock) -> None:
        manifest_path(path).write_text('{"sha256": "of another one"}')
        with pytest.raises(SnapshotMismatchError):
            verify(path)
        with pytest.raises(SnapshotMismatchError):
            send(vault, path, clock)
        assert vault.seen == []

    @pytest.mark.parametrize("code", [429, 503, 501])
    def test_nor_to_a_leader_that_is_none(self, vault: FakeVault, path: Path, clock: Clock, code: int) -> None:
        node(vault, URL, code)
        vault.on("GET", "sys/storage/raft/autopilot/state", errors(), 404)
        vault.clear("GET", "sys/leader", URL)
        vault.on("GET", "sys/leader", {"is_self": True})
        with pytest.raises(VaultUnreachableError, match="should be the leader but is"):
            send(vault, path, clock)
        assert not [seen for seen in vault.seen if seen.method != "GET"]

    @pytest.mark.parametrize("reported", ["another-id", None])
    def test_nor_to_another_cluster(self, vault: FakeVault, path: Path, clock: Clock, reported: str | None) -> None:
        node(vault, URL, 200)
        vault.on("GET", "sys/storage/raft/autopilot/state", errors(), 404)
        vault.clear("GET", "sys/health", URL).on("GET", "sys/health", {**HEALTH, "cluster_id": reported}, at=URL)
        vault.clear("GET", "sys/seal-status", URL).on("GET", "sys/seal-status", {**SEAL, "cluster_id": None}, at=URL)
        with pytest.raises(VaultConfigError, match=r"only the data of the cluster the-confirmed may be replaced"):
            send(vault, path, clock, cluster_id="the-confirmed")
        assert not [seen for seen in vault.seen if seen.method != "GET"]

    def test_nor_when_a_check_fails_at_the_last_moment(self, cluster: FakeVault, path: Path, clock: Clock) -> None:
        def check() -> None:
            raise StoreError("the run has ended")

        with pytest.raises(StoreError, match="the run has ended"):
            restore(cluster.client(token=TOKEN), path, True, 600.0, 5.0, clock.sleep, clock.monotonic, check=check)
        assert not [seen for seen in cluster.seen if seen.method != "GET"]

    def test_the_address_that_a_leader_advertises_is_not_followed(
        self, vault: FakeVault, path: Path, clock: Clock
    ) -> None:
        """A copy whose api_addr was taken over from its origin sends everybody to the origin."""
        node(vault, URL, 200, leader=OTHER)
        node(vault, OTHER, 200)
        vault.clear("GET", "sys/leader", URL)
        vault.on("GET", "sys/leader", {"ha_enabled": True, "is_self": False, "leader_address": OTHER}, at=URL)
        vault.on("GET", "sys/storage/raft/autopilot/state", errors(), 404)
        assert inspect_target(vault.client(), HEALTH["cluster_id"], [vault.client()]).url == URL
        assert {seen.node for seen in vault.seen} == {URL}

    def test_nor_to_another_storage(self, vault: FakeVault) -> None:
        node(vault, URL, 200, storage_type="consul")
        with pytest.raises(VaultConfigError, match="stores its data in 'consul'"):
            inspect_target(vault.client())

    def test_a_version_that_does_not_tell_its_storage_is_let_pass(self, vault: FakeVault) -> None:
        node(vault, URL, 200, storage_type=None)
        assert inspect_target(vault.client()).url == URL


class TestSending:
    @pytest.mark.parametrize(("force", "api"), [(True, FORCE), (False, SNAPSHOT_API)])
    def test_once_to_the_leader(self, cluster: FakeVault, path: Path, clock: Clock, force: bool, api: str) -> None:
        done = send(cluster, path, clock, force)
        posts = [seen for seen in cluster.seen if seen.method == "POST"]
        assert [(seen.node, seen.path, seen.body, seen.token) for seen in posts] == [(OTHER, api, GOOD, TOKEN)]
        assert posts[0].options["timeout"][1] == 600.0
        assert (done.leader, done.sealed, done.info.index) == (OTHER, False, 4711)
        assert done.seconds == {"verify": 0, "upload": 0, "reload": 0.2}

    def test_the_token_that_restored_is_not_used_again(self, cluster: FakeVault, path: Path, clock: Clock) -> None:
        send(cluster, path, clock)
        last = [seen.method for seen in cluster.seen].index("POST")
        after = cluster.seen[last + 1 :]
        assert after
        assert {seen.token for seen in after} == {None}

    @pytest.mark.parametrize("failure", [reset, silent, refused])
    def test_never_twice(self, cluster: FakeVault, path: Path, clock: Clock, failure: Any) -> None:
        cluster.clear("POST", FORCE, OTHER).on("POST", FORCE, raises=failure(), at=OTHER)
        with pytest.raises(VaultUnreachableError, match="Whether the snapshot was taken over is not known"):
            send(cluster, path, clock)
        assert len(cluster.sent("POST", FORCE)) == 1

    def test_a_refusal_for_its_seal_says_what_force_is_for(self, cluster: FakeVault, path: Path, clock: Clock) -> None:
        said = "could not verify hash file, use the snapshot-force API to bypass this check"
        cluster.clear("POST", SNAPSHOT_API, OTHER).on("POST", SNAPSHOT_API, errors(said), 400, at=OTHER)
        with pytest.raises(VaultApiError, match=r"The leader refused the snapshot.*set force") as caught:
            send(cluster, path, clock, force=False)
        assert caught.value.status == 400

    def test_another_refusal_does_not(self, cluster: FakeVault, path: Path, clock: Clock) -> None:
        cluster.clear("POST", FORCE, OTHER).on("POST", FORCE, errors("disk on fire"), 500, at=OTHER)
        with pytest.raises(VaultApiError, match="disk on fire") as caught:
            send(cluster, path, clock)
        assert "set force" not in str(caught.value)

    def test_a_token_that_may_not(self, cluster: FakeVault, path: Path, clock: Clock) -> None:
        cluster.clear("POST", FORCE, OTHER).on("POST", FORCE, errors("permission denied"), 403, at=OTHER)
        with pytest.raises(VaultPermissionError):
            send(cluster, path, clock)


class TestReload:
    """What comes back between the POST and the end, look by look."""

    def after(self, cluster: FakeVault, *looks: Any) -> None:
        """Each look changes what the leader says from then on."""
        queue = list(looks)

        def health(_seen: Seen) -> Answer:
            look = queue.pop(0) if len(queue) > 1 else queue[0]
            return look() if callable(look) else Answer(raises=look)

        def post(_seen: Seen) -> Answer:
            cluster.clear("GET", "sys/health", OTHER).on("GET", "sys/health", call=health, at=OTHER)
            return Answer(204)

        cluster.clear("POST", FORCE, OTHER).on("POST", FORCE, call=post, at=OTHER)

    def look(self, cluster: FakeVault, status: int, index: int | None, **said: Any) -> Any:
        def answer() -> Answer:
            leads(cluster, index, **said)
            return Answer(status, {"initialized": True, "sealed": status == 503})

        return answer

    def test_the_answer_to_the_post_is_not_the_end(self, cluster: FakeVault, path: Path, clock: Clock) -> None:
        self.after(
            cluster,
            self.look(cluster, 200, 50),
            refused(),
            self.look(cluster, 429, 50, is_self=False),
            self.look(cluster, 200, 51),
        )
        done = send(cluster, path, clock)
        assert clock.slept == [0.2, *[0.1] * 3]
        assert done.sealed is False
        assert done.seconds["reload"] == pytest.approx(0.5)

    def test_other_shamir_keys_seal_it(self, cluster: FakeVault, path: Path, clock: Clock) -> None:
        self.after(cluster, self.look(cluster, 200, 50), self.look(cluster, 503, None))
        assert send(cluster, path, clock).sealed is True

    def test_an_auto_unseal_that_cannot_open_it_is_told(self, cluster: FakeVault, path: Path, clock: Clock) -> None:
        node(cluster, OTHER, 200, type="awskms")
        self.after(cluster, self.look(cluster, 503, None))
        with pytest.raises(VaultSealedError, match=r"does not report why \(sys/health: 503, seal type awskms\)"):
            send(cluster, path, clock)

    def test_a_node_that_was_removed_from_its_cluster_points_to_a_living_origin(
        self, cluster: FakeVault, path: Path, clock: Clock
    ) -> None:
        node(cluster, OTHER, 200, type="awskms")
        self.after(cluster, self.look(cluster, 530, None))
        with pytest.raises(VaultSealedError, match=r"removed from its cluster \(sys/health: 530\).* origin is alive"):
            send(cluster, path, clock)

    def test_a_version_that_tells_no_index(self, cluster: FakeVault, path: Path, clock: Clock) -> None:
        self.after(cluster, refused(), self.look(cluster, 200, None))
        assert send(cluster, path, clock).sealed is False

    @pytest.mark.parametrize(
        ("last", "said"),
        [(50, "it is active, raft index 50"), (None, "connection refused")],
    )
    def test_not_for_ever(self, cluster: FakeVault, path: Path, clock: Clock, last: int | None, said: str) -> None:
        self.after(cluster, self.look(cluster, 200, last) if last else refused())
        with pytest.raises(VaultUnreachableError, match="has not reloaded after 5 s") as caught:
            send(cluster, path, clock)
        assert said in str(caught.value)
        assert "Do not restore again before you know" in str(caught.value)
        assert sum(clock.slept[1:]) == pytest.approx(5.0, abs=0.11)

    def test_a_leader_that_only_names_itself_is_waited_for(self, cluster: FakeVault, path: Path, clock: Clock) -> None:
        self.after(cluster, self.look(cluster, 429, 50, is_self=False), self.look(cluster, 200, 51))
        assert send(cluster, path, clock).sealed is False

    def test_the_leadership_goes_elsewhere(self, cluster: FakeVault, path: Path, clock: Clock) -> None:
        self.after(cluster, self.look(cluster, 429, 50, is_self=False, leader_address=URL))
        with pytest.raises(VaultUnreachableError, match=f"leadership went from {OTHER} to {URL}"):
            send(cluster, path, clock)
        assert clock.slept == [0.2]
