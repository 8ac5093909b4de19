# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting for what a webhook gets, instead of asking again and again."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from lab.processes import LabError
from lab.receiver import Receiver, control

DOWN = {"status": "firing", "labels": {"alertname": "PrometheusDown"}}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as started:
        yield started


def send(receiver: Receiver, body: Any) -> None:
    request = urllib.request.Request(f"{receiver.http}/hook", json.dumps(body).encode(), method="POST")
    urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10).close()


def alert(name: str, status: str = "firing") -> dict[str, Any]:
    return {"status": "firing", "alerts": [{"status": status, "labels": {"alertname": name, "instance": "mon-1:9090"}}]}


def wait(receiver: Receiver, *holds: Any, **given: Any) -> Any:
    return control(f"{receiver.http}/control", "POST", "hook", {"holds": list(holds), "seconds": 0, **given})


def test_an_object_holds_what_is_in_it(receiver: Receiver) -> None:
    before = time.time()
    send(receiver, alert("PrometheusDown"))
    told = wait(receiver, DOWN, "on-1:90")
    assert told["missing"] == []
    assert before <= told["time"] <= time.time()


@pytest.mark.parametrize(
    "holds",
    [
        {"status": "resolved", "labels": {"alertname": "PrometheusDown"}},
        {"status": "firing", "labels": {"alertname": "AlertmanagerDown"}},
        {"status": "firing", "labels": {"alertname": "PrometheusDown", "instance": "mon-2:9090"}},
        # Each half is in an object of its own.
        {"status": "firing", "alertname": "PrometheusDown"},
        {"labels": "PrometheusDown"},
        "mon-2",
        "alertname",
    ],
)
def test_what_is_in_no_object_is_missing(receiver: Receiver, holds: Any) -> None:
    send(receiver, alert("PrometheusDown"))
    assert wait(receiver, holds, DOWN)["missing"] == [holds]


def test_what_came_before_or_was_refused_does_not_count(receiver: Receiver) -> None:
    send(receiver, alert("PrometheusDown"))
    (arrived,) = receiver.arrived("hook")
    assert wait(receiver, DOWN, since=arrived.time) == {"missing": [DOWN], "time": 0.0}
    receiver.forget("hook")
    receiver.answer("hook", 500)
    with pytest.raises(urllib.error.HTTPError):
        send(receiver, alert("PrometheusDown"))
    assert wait(receiver, DOWN)["missing"] == [DOWN]


def test_the_time_is_that_of_the_last_that_was_needed(receiver: Receiver) -> None:
    for name in ("Watchdog", "PrometheusDown", "PrometheusDown"):
        send(receiver, alert(name))
    assert wait(receiver, DOWN)["time"] == receiver.arrived("hook")[1].time


def test_it_waits_for_the_arrival(receiver: Receiver) -> None:
    waiting = threading.Event()
    told: list[Any] = []

    def ask() -> None:
        waiting.set()
        told.append(wait(receiver, DOWN, seconds=60))

    asking = threading.Thread(target=ask)
    asking.start()
    waiting.wait()
    send(receiver, alert("Watchdog"))
    send(receiver, alert("PrometheusDown"))
    asking.join()
    assert told == [{"missing": [], "time": receiver.arrived("hook")[1].time}]


def test_the_end_of_the_receiver_ends_the_wait(receiver: Receiver) -> None:
    told: list[Any] = []
    asking = threading.Thread(target=lambda: told.append(receiver.wait("hook", [DOWN], seconds=600)))
    asking.start()
    receiver.stop()
    asking.join()
    assert told == [([DOWN], 0.0)]
    receiver.stop = lambda: None  # type: ignore[method-assign] # it is stopped


def test_what_the_receiver_refuses_is_an_error(receiver: Receiver) -> None:
    with pytest.raises(LabError, match=r"PUT http://.*/control/hook .* answered 400: .*neither a status"):
        control(f"{receiver.http}/control", "PUT", "hook", {"status": 42})
    with pytest.raises(LabError, match="answered 400"):
        control(f"{receiver.http}/control", "POST", "hook", {"no": "such option"})
