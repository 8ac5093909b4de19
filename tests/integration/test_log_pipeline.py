# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real Fluent Bit, configured as it is rendered here, and two real Lokis: kill any of them, lose nothing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from ansible_collections.custodes.security_dr.plugins.module_utils.logs import fluent_bit
from lab.fluent_bit import WHERE_FROM, FluentBit, fluent_bit_binary
from lab.loki import Loki
from lab.playbook import ROOT, Finished, Playbook
from lab.processes import free_port, wait_for
from lab.prometheus import Prometheus
from lab.receiver import Receiver

pytestmark = pytest.mark.skipif(fluent_bit_binary() is None, reason=f"there is no Fluent Bit. {WHERE_FROM}")
RATE = 50
"""Lines a second."""
OUTAGE = float(os.environ.get("LOG_PIPELINE_OUTAGE", "30"))
"""Seconds for which both backends are away."""
RULES = ROOT / "roles/monitoring_rules/files/monitoring-health.rules.yml"


class Writer:
    """Writes numbered lines into a file until it is stopped.

    Args:
        padding: bytes that each line is longer.
    """

    def __init__(self, file: Path, padding: int = 0) -> None:
        self.count = 0
        self._file, self._padding = file, "x" * padding
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._thread.start()

    def _write(self) -> None:
        with self._file.open("a", buffering=1) as log:
            while not self._stop.wait(1 / RATE):
                log.write(f"line={self.count} of the test {self._padding}\n")
                self.count += 1

    def stop(self) -> int:
        self._stop.set()
        self._thread.join()
        return self.count


class Pipeline:
    """Two Lokis, a Fluent Bit before them that follows one file, and where its metrics are.

    Args:
        secondary: an output instead of the second Loki.
        changed: options that differ.
    """

    def __init__(self, folder: Path, secondary: dict[str, Any] | None = None, **changed: Any) -> None:
        self.folder = folder
        self.log = folder / "app.log"
        self.primary, self.secondary = Loki(folder / "one"), Loki(folder / "two")
        self.lokis = [self.primary] if secondary else [self.primary, self.secondary]
        self.port = free_port()
        loki = {"type": "loki", "host": "127.0.0.1", "tls": False}
        self.options: dict[str, Any] = {
            "inputs": [{"type": "files", "path": str(self.log)}],
            "outputs": {
                "primary": {**loki, "port": self.primary.port},
                "secondary": secondary or {**loki, "port": self.secondary.port},
            },
            "buffer": {"path": str(folder / "buffer")},
            "bound_bytes": 50_000_000,
            "storage_path": str(folder / "storage"),
            "metrics_port": self.port,
            **changed,
        }
        (folder / "storage").mkdir(parents=True)
        self.log.touch()
        binary = fluent_bit_binary()
        assert binary
        config = fluent_bit.render(self.options, "yaml")
        self.fluent_bit = FluentBit(binary, folder / "fluent-bit", config, self.port, {"TOKEN": "t0ken-of-the-test"})
        self.prometheus = Prometheus(folder / "prometheus")
        self.prometheus.configure({"fluent-bit": self._scrape()}, [RULES])

    def _scrape(self) -> dict[str, Any]:
        return {
            "metrics_path": "/api/v2/metrics/prometheus",
            "static_configs": [{"targets": [f"127.0.0.1:{self.port}"]}],
        }

    def __enter__(self) -> Pipeline:
        for server in (*self.lokis, self.fluent_bit):
            server.start()
        return self

    def __exit__(self, *_error: object) -> None:
        for server in (self.fluent_bit, self.primary, self.secondary, self.prometheus):
            server.kill()

    def write(self, padding: int = 0) -> Writer:
        """Begins to log, and returns once the lines arrive."""
        writer = Writer(self.log, padding)
        wait_for("all have lines", lambda: all(map(self.lines, self.lokis)), 30)
        return writer

    @staticmethod
    def lines(loki: Loki) -> Counter[int]:
        """The numbers of the lines that it returns, and how often it has each."""
        found: Counter[int] = Counter()
        start = time.time_ns() - 3600 * 10**9
        while True:
            # Without the padding: megabytes of it would be what takes the time.
            query = '{job="fluent-bit"} | line_format `{{ regexReplaceAll "x{9,}" __line__ "" }}`'
            parameters: dict[str, Any] = {"query": query, "start": start, "limit": 4000}
            answer = requests.get(
                f"{loki.url}/loki/api/v1/query_range", params={**parameters, "direction": "forward"}, timeout=10
            )
            answer.raise_for_status()
            values = [value for stream in answer.json()["data"]["result"] for value in stream["values"]]
            found.update(int(number) for _time, text in values for number in re.findall(r"line=(\d+) ", text))
            if len(values) < 4000:
                return found
            start = max(int(value[0]) for value in values) + 1

    def wait_complete(self, loki: Loki, count: int, longest: float = 60) -> float:
        """Seconds until it has all of them. Raises LabError."""
        began = time.monotonic()
        wait_for(f"{count} lines in {loki.folder.name}", lambda: len(self.lines(loki)) >= count, longest)
        assert set(self.lines(loki)) == set(range(count))
        return time.monotonic() - began

    def doubled(self) -> list[int]:
        """How many lines each Loki has more than once."""
        return [sum(times - 1 for times in self.lines(loki).values()) for loki in self.lokis]

    def buffered(self) -> Counter[int]:
        """The lines of the local file, and of the files that it was before."""
        texts = (file.read_text() for file in (self.folder / "buffer").iterdir() if file.is_file())
        return Counter(int(number) for text in texts for number in re.findall(r"line=(\d+) ", text))

    def firing(self, name: str) -> set[str]:
        """The outputs for which alerts that begin so fire."""
        rows = self.prometheus.query(f'ALERTS{{alertstate="firing", alertname=~"{name}.*"}}')
        return {row["metric"].get("name", "") for row in rows}

    def stored(self) -> int:
        """Bytes of the chunks on disk."""
        return sum(file.stat().st_size for file in (self.folder / "storage").rglob("*.flb"))


@pytest.fixture
def pipeline(tmp_path: Path) -> Iterator[Pipeline]:
    with Pipeline(tmp_path) as made:
        yield made


def tell(capsys: pytest.CaptureFixture[str], text: str) -> None:
    with capsys.disabled():
        sys.stdout.write(f"\n{text}\n")


@pytest.mark.parametrize("form", ["yaml", "classic"])
@pytest.mark.parametrize("kind", ["loki", "http", "es", "opensearch", "opentelemetry"])
def test_fluent_bit_takes_both_forms_of_every_output(tmp_path: Path, form: str, kind: str) -> None:
    options = {
        "inputs": [{"type": "containers"}, {"type": "journal"}, {"type": "files", "path": "/var/log/x.log"}],
        "outputs": {
            "primary": {"type": "loki", "host": "a.example.com", "port": 3100, "labels": {"cluster": "a"}},
            "secondary": {"type": kind, "host": "b.example.com", "port": 443, "user": "u", "token_env": "TOKEN"},
        },
        "buffer": {"path": "/var/log/fluent-bit-buffer"},
        "bound_bytes": 1_000_000,
    }
    file = tmp_path / ("fluent-bit.yaml" if form == "yaml" else "fluent-bit.conf")
    file.write_text(fluent_bit.render(options, form))
    (tmp_path / fluent_bit.PARSERS_FILE).write_text(fluent_bit.parsers(options))
    done = subprocess.run(
        [str(fluent_bit_binary()), "--dry-run", "-c", str(file)],
        cwd=tmp_path,
        env={"TOKEN": "x"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "configuration test is successful" in done.stdout + done.stderr


@pytest.mark.parametrize("state", ["down", "hung"])
def test_the_primary_goes_and_comes_back(pipeline: Pipeline, state: str, capsys: pytest.CaptureFixture[str]) -> None:
    writer = pipeline.write()
    pipeline.primary.become(state)
    began, gone = time.monotonic(), writer.count
    wait_for("the secondary goes on", lambda: max(pipeline.lines(pipeline.secondary)) > gone, 15)
    fresh = time.monotonic() - began
    time.sleep(15)
    wait_for(
        "the secondary is up to date", lambda: max(pipeline.lines(pipeline.secondary)) > writer.count - 5 * RATE, 1
    )
    pipeline.primary.become("up")
    count = writer.stop()
    complete = pipeline.wait_complete(pipeline.primary, count)
    pipeline.wait_complete(pipeline.secondary, count, 10)
    tell(
        capsys,
        f"primary {state}: secondary has new lines after {fresh:.1f} s, primary is complete {complete:.1f} s after its "
        f"return, doubled {pipeline.doubled()}",
    )
    assert fresh <= 5
    assert complete <= 30


def test_many_files_and_one_backend_that_is_away_for_long(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Fluent Bit has room for 128 chunks in memory: two minutes of one file, or seconds of many."""
    files = [tmp_path / "many" / f"{number}.log" for number in range(60)]
    files[0].parent.mkdir()
    with Pipeline(tmp_path, inputs=[{"type": "files", "path": str(tmp_path / "many" / "*.log")}]) as pipeline:
        pipeline.primary.kill()
        began, count = time.monotonic(), 0
        while time.monotonic() < began + 20:
            for file in files:
                with file.open("a") as log:
                    log.write(f"line={count} of the test\n")
                count += 1
            time.sleep(0.5)
        late = pipeline.wait_complete(pipeline.secondary, count, 5)
        pipeline.primary.start()
        complete = pipeline.wait_complete(pipeline.primary, count, 30)
        tell(
            capsys,
            f"60 files, primary away for 20 s: secondary has all {late:.1f} s after the last of {count} lines, primary "
            f"{complete:.1f} s after its return",
        )


def test_both_are_away_and_nothing_is_lost(pipeline: Pipeline, capsys: pytest.CaptureFixture[str]) -> None:
    writer = pipeline.write()
    for loki in pipeline.lokis:
        loki.kill()
    time.sleep(OUTAGE)
    for loki in pipeline.lokis:
        loki.start()
    count = writer.stop()
    told = [round(pipeline.wait_complete(loki, count), 1) for loki in pipeline.lokis]
    wait_for("the local file has them all", lambda: set(pipeline.buffered()) == set(range(count)), 10)
    doubled = pipeline.doubled()
    tell(capsys, f"both away for {OUTAGE:g} s: {count} lines, complete {told} s after the return, doubled {doubled}")
    assert max(told) <= 30
    # At least once: what was under way when they were killed may come twice, and no more than that.
    assert max(doubled) <= 5 * RATE


def test_fluent_bit_is_killed(pipeline: Pipeline, capsys: pytest.CaptureFixture[str]) -> None:
    writer = pipeline.write()
    pipeline.primary.kill()
    away = writer.count
    # In the middle of a chunk, each time at another place.
    for seconds in (3.1, 2.4, 2.8):
        time.sleep(seconds)
        pipeline.fluent_bit.kill()
        time.sleep(1)
        pipeline.fluent_bit.start()
    back = writer.count
    pipeline.primary.start()
    time.sleep(2)
    count = writer.stop()
    told = [round(pipeline.wait_complete(loki, count), 1) for loki in pipeline.lokis]
    wait_for("the local file has them all", lambda: set(pipeline.buffered()) == set(range(count)), 10)
    doubled = pipeline.doubled()
    tell(capsys, f"Fluent Bit killed three times: {count} lines, complete {told} s after its return, doubled {doubled}")
    # At least once: it does not remember which output had what waits for the primary, at none of its starts.
    assert max(doubled) <= 3 * (back - away + 5 * RATE)


def test_the_disk_bound_is_reached(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bound = 2_000_000
    with Pipeline(tmp_path, bound_bytes=bound) as pipeline:
        pipeline.prometheus.start()
        writer = pipeline.write(padding=2000)
        pipeline.secondary.kill()
        wait_for(
            "lines are dropped",
            lambda: pipeline.fluent_bit.count("fluentbit_output_dropped_records_total", "secondary") > 0,
            90,
        )
        # Longer, so that there would be twice as much.
        most = 0
        for _second in range(20):
            time.sleep(1)
            most = max(most, pipeline.stored())
        wait_for("an alert tells it", lambda: "secondary" in pipeline.firing("LogPipeline.*Dropped"), 60)
        gone = writer.count
        pipeline.secondary.start()
        wait_for("the newest arrive", lambda: max(pipeline.lines(pipeline.secondary)) >= gone, 60)
        count = writer.stop()
        pipeline.wait_complete(pipeline.primary, count)
        has = pipeline.lines(pipeline.secondary)
        lost = sorted(set(range(count)) - set(has))
        tell(
            capsys, f"bound of {bound}: at most {most} bytes on disk, of {count} lines the secondary lacks {len(lost)}"
        )
        assert most <= 1.5 * bound
        assert lost
        # The oldest of what waited, in one piece.
        assert max(lost) < gone - 100


def test_the_secondary_refuses_the_token(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Receiver() as receiver:
        receiver.answer("ingest", 401)
        port = int(receiver.http.rpartition(":")[2])
        secondary = {"type": "http", "host": "127.0.0.1", "port": port, "tls": False, "uri": "/ingest"}
        with Pipeline(tmp_path, {**secondary, "token_env": "TOKEN"}) as pipeline:
            pipeline.prometheus.start()
            writer = pipeline.write()
            began = time.monotonic()
            wait_for("an alert tells it", lambda: "secondary" in pipeline.firing("LogPipelineDown"), 120)
            alerted = time.monotonic() - began
            fresh = max(pipeline.lines(pipeline.primary)) > writer.count - 5 * RATE
            assert pipeline.firing("LogPipelineDown") == {"secondary"}
            # Of this type, Fluent Bit gives up what is answered so.
            wait_for("another tells of the loss", lambda: pipeline.firing("LogPipeline.*Dropped") == {"secondary"}, 60)
            count = writer.stop()
            pipeline.wait_complete(pipeline.primary, count, 10)
            wait_for("the local file has them all", lambda: set(pipeline.buffered()) == set(range(count)), 10)
            asked = receiver.arrived("ingest")
            assert asked
            assert all(arrival.authorization_sha256 for arrival in asked)
        tell(capsys, f"401 from the secondary: LogPipelineDown after {alerted:.0f} s")
        assert fresh


def prove(pipeline: Pipeline, **variables: Any) -> Finished:
    backends = [
        {"name": name, "type": "loki", "url": loki.url}
        for name, loki in (("primary", pipeline.primary), ("secondary", pipeline.secondary))
    ]
    given = {
        "log_pipeline_backends": backends,
        "log_pipeline_marker_file": str(pipeline.log),
        "ansible_python_interpreter": sys.executable,
        "ansible_become": False,
    }
    inventory = pipeline.folder / "hosts.json"
    hosts = {"one": {"ansible_connection": "local"}, "two": {"ansible_connection": "local"}}
    inventory.write_text(json.dumps({"all": {"hosts": hosts}}))
    playbook = Playbook(given, pipeline.folder / "runs", inventory, "playbooks/prove-log-pipeline.yml")
    return playbook.run(**variables)


def test_a_line_of_every_host_is_found_in_both(pipeline: Pipeline, capsys: pytest.CaptureFixture[str]) -> None:
    done = prove(pipeline)
    assert done.rc == 0, done.output
    found = re.findall(r"primary after ([\d.]+) s, secondary after ([\d.]+) s", done.output)
    assert len(found) == 2, done.output
    tell(capsys, f"a line of each host is in both backends after {found} s")

    pipeline.secondary.kill()
    done = prove(pipeline, log_pipeline_wait=5)
    assert done.rc != 0
    assert done.output.count("FAILED! =>") == 2, done.output
    assert "is not in secondary after 5 seconds. secondary (http://127.0.0.1:" in done.words
    assert "does not answer: [Errno 111] Connection refused." in done.words

    done = prove(pipeline, log_pipeline_backends=[{"name": "primary", "type": "loki", "url": pipeline.primary.url}])
    assert done.rc != 0
    assert "a list of at least two backends" in done.words
