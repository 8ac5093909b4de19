# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules log_marker and log_marker_info: two real Lokis, a file, and Elasticsearch's answer as documented."""

from __future__ import annotations

import json
import re
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
from ansible_collections.custodes.security_dr.plugins.module_utils.logs.backends import pattern
from integration.run_ansible import Ansible, Task, task
from lab.loki import Loki
from lab.pki import Authority
from lab.playbook import Playbook
from lab.processes import wait_for
from lab.receiver import Receiver


@pytest.fixture(scope="module")
def lokis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Loki, Loki, str]]:
    folder = tmp_path_factory.mktemp("lokis")
    authority = Authority(folder / "pki")
    pair = Loki(folder / "one", authority=authority), Loki(folder / "two", authority=authority)
    for loki in pair:
        loki.start()
    yield (*pair, str(authority.ca_file))
    for loki in pair:
        loki.kill()


def push(loki: Loki, ca_file: str, line: str, job: str = "fluent-bit") -> None:
    body = {"streams": [{"stream": {"job": job}, "values": [[str(time.time_ns()), line]]}]}
    requests.post(f"{loki.url}/loki/api/v1/push", json=body, verify=ca_file, timeout=5).raise_for_status()


def questions(loki: Loki, ca_file: str) -> float:
    """How many queries for lines it has answered."""
    told = requests.get(f"{loki.url}/metrics", verify=ca_file, timeout=5).text
    counted = r'^loki_request_duration_seconds_count\{[^}]*route="loki_api_v1_query_range"[^}]*\} (\S+)$'
    return sum(float(count) for count in re.findall(counted, told, re.MULTILINE))


def backend(name: str, loki: Loki, ca_file: str) -> dict[str, Any]:
    return {"name": name, "type": "loki", "url": loki.url, "ca_cert": ca_file}


def test_a_pipeline_that_is_removed_needs_no_proof(tmp_path: Path) -> None:
    inventory = tmp_path / "hosts.json"
    inventory.write_text(json.dumps({"all": {"hosts": {"one": {"ansible_connection": "local"}}}}))
    given = {
        "ansible_python_interpreter": sys.executable,
        "ansible_become": False,
        "fluent_bit_config_directory": str(tmp_path / "etc"),
    }
    playbook = Playbook(given, tmp_path / "run", inventory, "playbooks/deploy-log-pipeline.yml")
    removed = playbook.run("--check", fluent_bit_state="absent")
    assert removed.rc == 0, removed.output
    assert "Find it in every backend" in removed.output
    assert "changed=0" in removed.output
    refused = playbook.run("--check", "-e", "fluent_bit_outage_hours=0.5")
    assert refused.rc != 0
    assert "Give log_pipeline_backends" in refused.words
    backends = [{"name": name, "type": "loki", "url": "http://127.0.0.1:1"} for name in ("one", "two")]
    legs = {
        f"fluent_bit_{name}": {"type": "http", "host": host, "port": 1, "tls": False}
        for name, host in (("primary", "10.0.0.1"), ("secondary", "10.0.0.2"))
    }
    # What -e gives is a text; half an hour of it is 180 MB.
    done = playbook.run(
        "--check", "-e", "fluent_bit_outage_hours=0.5", "-e", "fluent_bit_install=false",
        log_pipeline_backends=backends, fluent_bit_bound_bytes=170_000_000, **legs,
    )  # fmt: skip
    assert "an outage of 1800 s at 100000 bytes a second needs 180000000" in done.words


def test_a_line_that_comes_late_is_waited_for(lokis: tuple[Loki, Loki, str], ansible: Ansible) -> None:
    one, two, ca_file = lokis
    marker = f"drill-{uuid.uuid4()}"
    push(one, ca_file, f"a line with {marker} in it")
    before = questions(two, ca_file)

    def push_once_it_was_asked_for() -> None:
        wait_for("a question that finds nothing", lambda: questions(two, ca_file) > before)
        push(two, ca_file, marker)

    later = threading.Thread(target=push_once_it_was_asked_for)
    later.start()
    (result,) = ansible.run(
        [task("log_marker_info", marker=marker, backends=[backend("one", one, ca_file), backend("two", two, ca_file)])]
    )
    later.join()
    assert {name: seen["found"] for name, seen in result["backends"].items()} == {"one": True, "two": True}
    assert questions(two, ca_file) >= before + 2


def test_a_line_that_is_not_there_and_a_backend_that_is_down(lokis: tuple[Loki, Loki, str], ansible: Ansible) -> None:
    one, _two, ca_file = lokis
    down = {"name": "down", "type": "loki", "url": "https://127.0.0.1:1", "ca_cert": ca_file}
    marker = f"drill-{uuid.uuid4()}"
    failed, told = ansible.run(
        [
            task("log_marker_info", marker=marker, wait=0, backends=[backend("one", one, ca_file), down]),
            task("log_marker_info", marker=marker, wait=0, required=False, backends=[down]),
        ]
    )
    assert (
        f"The line {marker} is not in one, down after 0 seconds. one answers and has no such line. down "
        in (failed["msg"])
    )
    assert "Connection refused" in told["backends"]["down"]["problem"]
    assert told["summary"].startswith("down not after ")


def test_a_backend_that_hangs_holds_up_no_other(lokis: tuple[Loki, Loki, str], ansible: Ansible) -> None:
    one, two, ca_file = lokis
    marker = f"drill-{uuid.uuid4()}"
    push(one, ca_file, marker)
    two.pause()
    both = [backend("two", two, ca_file), backend("one", one, ca_file)]
    (seen,) = ansible.run([task("log_marker_info", marker=marker, wait=8, required=False, backends=both)])
    two.resume()
    assert seen["backends"]["one"]["found"]
    assert not seen["backends"]["two"]["found"]
    assert "timed out" in seen["backends"]["two"]["problem"]


def test_a_logged_question_is_not_the_line(lokis: tuple[Loki, Loki, str], ansible: Ansible) -> None:
    """Loki logs what it is asked, and its own log is shipped to it."""
    one, _two, ca_file = lokis
    marker = f"drill-{uuid.uuid4()}"
    asked = f'level=info msg=query query="{{job=\\"fluent-bit\\"}} |~ `{pattern(marker)}`"'
    push(one, ca_file, asked)
    given = backend("one", one, ca_file)
    (first,) = ansible.run([task("log_marker_info", marker=marker, wait=0, required=False, backends=[given])])
    push(one, ca_file, marker, job="other")
    (second,) = ansible.run([task("log_marker_info", marker=marker, wait=0, required=False, backends=[given])])
    given["query"] = '{job="other"}'
    (third,) = ansible.run([task("log_marker_info", marker=marker, wait=10, backends=[given])])
    assert [run["backends"]["one"]["found"] for run in (first, second, third)] == [False, False, True]


def test_a_certificate_of_another_authority_and_a_wrong_address(
    lokis: tuple[Loki, Loki, str], ansible: Ansible
) -> None:
    one, _two, ca_file = lokis
    marker, token = f"drill-{uuid.uuid4()}", "t0ken-of-the-test"
    unknown = {**backend("one", one, ca_file), "token": token}
    del unknown["ca_cert"]
    elsewhere = {**backend("one", one, ca_file), "url": f"{one.url}/elsewhere", "token": token}
    search = {**backend("one", one, ca_file), "type": "elasticsearch", "token": token}
    runs = ansible.run(
        [task("log_marker_info", marker=marker, wait=0, backends=[given]) for given in (unknown, elsewhere, search)]
    )
    told = [run["msg"] for run in runs]
    assert "certificate verify failed" in told[0]
    assert "answers 404. Is this its address?" in told[1]
    assert "answers 404. Is this its address?" in told[2]


def test_answers_that_prove_nothing(ansible: Ansible) -> None:
    marker = f"drill-{uuid.uuid4()}"

    def own(**changed: Any) -> Task:
        given = {
            "name": "own",
            "type": "http",
            "url": f"{receiver.http}/own?q={{marker}}",
            "token": "t0ken-x",
            **changed,
        }
        return task("log_marker_info", marker=marker, wait=0, backends=[given])

    class Echo(BaseHTTPRequestHandler):
        """Repeats what it is asked, as many query interfaces do."""

        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(self.path.encode())

        def log_message(self, *_arguments: object) -> None:
            pass

    echo = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    threading.Thread(target=echo.serve_forever, args=(0.05,), daemon=True).start()
    with Receiver() as receiver:
        runs = ansible.run([own(url=f"http://127.0.0.1:{echo.server_port}/?q={{marker}}")])
        for answer in (302, 401, 429, 503, "close"):
            receiver.answer("own", answer)
            runs += ansible.run([own()])
    echo.shutdown()
    echo.server_close()
    for run, message in zip(
        runs,
        (
            "repeats in its answer what it is asked, so the answer proves no line",
            "answers 302. Is this its address?",
            "answers 401. Check its credentials.",
            "answers 429. It is there and cannot answer now.",
            "answers 503. It is there and cannot answer now.",
            "does not answer: Remote end closed connection without response",
        ),
    ):
        assert run["failed"]
        assert message in run["msg"]


def test_a_line_is_logged_into_a_file(tmp_path: Path, ansible: Ansible) -> None:
    file = tmp_path / "app.log"
    began = time.time()
    checked, sent, again, refused = ansible.run(
        [
            task("log_marker", check=True, file=str(file)),
            task("log_marker", file=str(file)),
            task("log_marker", file=str(file), format="cri"),
            task("log_marker", file=str(tmp_path / "none" / "app.log")),
        ]
    )
    assert checked["changed"]
    assert "marker" not in checked
    first, second = file.read_text().splitlines()
    assert first.endswith(f" {sent['marker']}")
    assert second.endswith(f" {again['marker']}")
    assert began <= sent["time"] <= time.time()
    assert "Give a file in a folder that exists" in refused["msg"]
    given = {"name": "file", "type": "file", "url": str(file)}
    (seen,) = ansible.run([task("log_marker_info", marker=sent["marker"], since=sent["time"], backends=[given])])
    assert seen["summary"].startswith("file after ")


def test_what_is_no_marker_is_refused(ansible: Ansible) -> None:
    given = {"name": "x", "type": "file", "url": "/none"}
    (result,) = ansible.run([task("log_marker_info", marker="a` or `", backends=[given])])
    assert "is no marker" in result["msg"]


def test_a_file_a_search_and_a_query_of_ones_own(tmp_path: Path, ansible: Ansible) -> None:
    marker = f"drill-{uuid.uuid4()}"
    (tmp_path / "all.log").write_text(f"one\n{json.dumps({'log': marker})}\n")
    with Receiver() as receiver:
        receiver.answer("logs/_search", body={"hits": {"total": {"value": 1, "relation": "eq"}, "hits": []}})
        receiver.answer("query", body={"matches": [{"message": marker}]})
        (result,) = ansible.run(
            [
                task(
                    "log_marker_info",
                    marker=marker,
                    wait=0,
                    backends=[
                        {"name": "file", "type": "file", "url": str(tmp_path / "all.log")},
                        {
                            "name": "search",
                            "type": "opensearch",
                            "url": receiver.http,
                            "query": "logs",
                            "token": "t0ken-x",
                        },
                        {"name": "own", "type": "http", "url": f"{receiver.http}/query", "query": '{"q": "{marker}"}'},
                    ],
                )
            ]
        )
        assert all(seen["found"] for seen in result["backends"].values()), result
        (asked,) = receiver.arrived("logs/_search")
        assert asked.body["query"] == {"query_string": {"query": f'"{marker}"'}}
        assert receiver.arrived("query")[0].body == {"q": marker}
