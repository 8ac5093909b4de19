# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Delivery: what is sent when, to whom, how often, and what is told when nobody takes it."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.detection import delivery, spool
from ansible_collections.custodes.security_dr.plugins.module_utils.detection.errors import DetectionError
from ansible_collections.custodes.security_dr.plugins.module_utils.detection.transport import Answer
from ansible_collections.custodes.security_dr.plugins.module_utils.files import StoreError
from unit.detection.deliveries import Crashed, World


@pytest.fixture
def world() -> World:
    return World()


def told(world: World) -> list[tuple[str, str]]:
    return [(finding.rule, finding.subject) for finding in world.findings]


def counts(report: dict[str, Any]) -> tuple[int, int, int, int]:
    return report["sent"], report["waiting"], report["rejected"], report["dropped"]


# When


@pytest.mark.parametrize("store", ["unready", "unreachable", "blind", "unconfigured"])
def test_while_the_log_store_is_not_ready_everything_is_sent(world: World, store: str) -> None:
    assert counts(world.run(world.event(), world.event(), store=store)) == (2, 0, 0, 0)
    assert world.took == {"a": ["e1", "e2"], "b": []}


def test_while_the_log_store_is_ready_nothing_is_sent(world: World) -> None:
    assert counts(world.run(world.event(), store="ready")) == (0, 1, 0, 0)
    assert world.calls == []


def test_always_means_always() -> None:
    world = World(when="always")
    assert counts(world.run(world.event(), store="ready")) == (1, 0, 0, 0)


def test_always_waits_for_a_webhook_however_long_the_log_store_is_ready() -> None:
    world = World(when="always")
    world.replies = {"a": 500, "b": 500}
    world.run(world.event(), store="ready")
    for _time in range(20):
        assert world.run(store="ready")["waiting"] == 1


def test_an_event_is_kept_until_the_log_store_had_time_to_take_it(world: World) -> None:
    world.run(world.event(), store="ready")
    assert world.run(store="ready", later=299)["waiting"] == 1
    assert world.run(store="ready")["waiting"] == 1
    assert world.run(store="ready")["waiting"] == 0
    world.run(store="unreachable")
    assert world.took["a"] == []


def test_an_event_whose_log_store_went_away_meanwhile_is_sent_after_all(world: World) -> None:
    world.run(world.event(), store="ready")
    world.run(store="ready")
    world.run(store="unready")
    assert world.took["a"] == ["e1"]


def test_the_hold_begins_anew_when_the_log_store_was_away(world: World) -> None:
    world.replies = {"a": "refuse", "b": "refuse"}
    world.run(world.event(), store="ready")
    world.run(store="unreachable")
    world.run(store="ready")
    assert world.run(store="ready")["waiting"] == 1
    assert world.run(store="ready")["waiting"] == 0


def test_a_clock_that_was_set_back_makes_nothing_wait_for_years(world: World) -> None:
    world.replies = {"a": 500, "b": 500}
    world.run(world.event(), store="ready")
    world.run(store="unready")
    world.now -= 10 * 365 * 86400
    world.replies = {"a": 200, "b": 200}
    world.run(store="unready")
    assert world.took["a"] == ["e1"]
    world.now += 10 * 365 * 86400
    world.run(world.event(), store="ready")
    world.now -= 10 * 365 * 86400
    world.run(store="ready")
    world.run(store="ready")
    assert world.run(store="ready")["waiting"] == 0


@pytest.mark.parametrize(("least", "sent"), [("info", 5), ("medium", 3), ("critical", 1)])
def test_only_what_is_severe_enough_is_sent(least: str, sent: int) -> None:
    world = World(min_severity=least)
    events = [world.event(severity) for severity in ("info", "low", "medium", "high", "critical")]
    assert counts(world.run(*events)) == (sent, 0, 0, 0)


def test_that_alerts_were_lost_is_severe_enough() -> None:
    world = World(min_severity="critical")
    world.run(world.event("medium", rule="delivery.rejected", subject="b"))
    assert world.took["a"] == ["e1"]


def test_without_destinations_nothing_is_kept() -> None:
    world = World(())
    assert counts(world.run(world.event())) == (0, 0, 0, 0)


# To whom


def test_the_next_destination_gets_what_the_one_before_did_not_take(world: World) -> None:
    world.replies["a"] = "refuse"
    assert counts(world.run(world.event())) == (1, 0, 0, 0)
    assert world.took == {"a": [], "b": ["e1"]}
    world.replies["a"] = 200
    world.now += 3600
    world.run()
    assert world.took["a"] == []


def test_all_means_each_of_them_and_none_twice() -> None:
    world = World(to="all")
    world.replies["b"] = 503
    assert counts(world.run(world.event())) == (1, 1, 0, 0)
    world.replies["b"] = 200
    world.now += 3600
    assert counts(world.run()) == (1, 0, 0, 0)
    assert world.took == {"a": ["e1"], "b": ["e1"]}


def test_the_most_severe_goes_first(world: World) -> None:
    world.run(world.event("medium"), world.event("critical"), world.event("high"), world.event("critical"))
    assert world.took["a"] == ["e2", "e4", "e3", "e1"]


def test_a_batch_has_at_most_fifty_events(world: World) -> None:
    world.run(*[world.event() for _number in range(120)])
    assert [len(ids) for _name, ids in world.calls] == [50, 50, 20]


def test_an_event_that_is_too_long_goes_without_its_evidence(world: World) -> None:
    world.run(world.event(evidence={"much": "x" * 100_000}))
    assert world.bodies[0]["events"][0]["evidence"] == {"cut": "too long to be sent, see alerts.log"}


# Ends


def test_an_end_goes_to_who_was_told_of_the_beginning_and_to_nobody_else(world: World) -> None:
    world.replies["a"] = 500
    world.run(world.event(finding="f"))
    world.replies["a"] = 200
    world.now += 3600
    world.run(world.event(state="resolved", finding="f"))
    assert world.took == {"a": [], "b": ["e1", "e2"]}
    world.run(world.event(state="resolved", finding="f"))
    assert world.took["b"] == ["e1", "e2"]


def test_the_end_of_what_nobody_was_told_of_is_not_sent(world: World) -> None:
    assert counts(world.run(world.event(state="resolved", finding="f"))) == (0, 0, 0, 0)
    assert counts(world.run(world.event("low", finding="f"))) == (0, 0, 0, 0)
    assert counts(world.run(world.event("low", state="resolved", finding="f"))) == (0, 0, 0, 0)
    assert world.calls == []


def test_the_end_of_what_is_still_waiting_waits_behind_it(world: World) -> None:
    world.replies = {"a": 500, "b": 500}
    world.run(world.event(finding="f"))
    assert world.run(world.event(state="resolved", finding="f"))["waiting"] == 2
    world.replies["a"] = 200
    world.now += 3600
    world.run()
    assert world.took["a"] == ["e1", "e2"]


def test_the_end_of_what_was_sent_is_sent_although_the_log_store_is_back(world: World) -> None:
    world.run(world.event(finding="f"), world.event())
    world.run(world.event(state="resolved", finding="f"), world.event(), store="ready")
    assert world.took["a"] == ["e1", "e2", "e3"]


def test_the_end_of_what_was_sent_outlives_the_hold(world: World) -> None:
    world.run(world.event(finding="f"))
    world.replies["a"] = 500
    for events in ([world.event(state="resolved", finding="f")], [], [], []):
        world.run(*events, store="ready")
    world.replies["a"] = 200
    world.now += 3600
    world.run(store="ready")
    assert world.took["a"] == ["e1", "e2"]


def test_the_end_of_what_the_log_store_got_is_not_sent(world: World) -> None:
    world.run(world.event(finding="f"), store="ready")
    for _time in range(3):
        world.run(store="ready")
    world.run(world.event(state="resolved", finding="f"))
    assert world.calls == []


def test_an_end_is_not_sent_when_the_finding_is_back_by_then(world: World) -> None:
    world.run(world.event(finding="f"))
    world.replies["a"] = 500
    world.run(world.event(state="resolved", finding="f"))
    world.replies["a"] = 200
    world.now += 3600
    assert world.run(world.event(finding="f"))["waiting"] == 0
    assert world.took["a"] == ["e1", "e3"]


def test_an_end_is_not_sent_before_what_is_held_and_came_before_it(world: World) -> None:
    world.run(world.event(finding="f"))
    world.run(world.event(state="reminded", finding="f"), store="ready", later=1)
    world.run(world.event(state="resolved", finding="f"), store="ready", later=1)
    world.run()
    assert world.took["a"] == ["e1", "e2", "e3"]


def test_ends_reach_pagerduty_as_ends() -> None:
    world = World(("p",))
    world.types["p"] = "pagerduty"
    world.run(world.event(finding="f"))
    world.run(world.event(state="resolved", finding="f"))
    assert [body["event_action"] for body in world.bodies] == ["resolve"]


# Refusals


def test_what_a_destination_refuses_goes_to_the_next_one_and_is_told(world: World) -> None:
    world.replies["a"] = 403
    assert counts(world.run(world.event())) == (1, 0, 1, 0)
    assert world.took["b"] == ["e1"]
    assert told(world) == [("delivery.rejected", "a")]
    assert world.findings[0].summary == "The webhook a refused 1 alert (it answers 403)."
    assert world.report["destinations"]["a"]["problem"] == "It answers 403."


def test_what_everybody_refuses_is_set_aside_and_told(world: World) -> None:
    world.replies = {"a": 401, "b": 404}
    assert counts(world.run(world.event())) == (0, 0, 1, 0)
    assert told(world) == [("delivery.rejected", "a"), ("delivery.rejected", "b")]
    assert world.run()["waiting"] == 0
    assert world.calls == []


def test_one_bad_event_does_not_keep_the_others(world: World) -> None:
    world.replies["a"] = lambda ids: 400 if "e3" in ids else 200
    assert counts(world.run(*[world.event() for _number in range(5)])) == (5, 0, 1, 0)
    assert sorted(world.took["a"]) == ["e1", "e2", "e4", "e5"]
    assert world.took["b"] == ["e3"]
    assert told(world) == [("delivery.rejected", "a")]


def test_a_wrong_token_costs_one_request_a_batch(world: World) -> None:
    world.replies["a"] = 401
    world.run(*[world.event() for _number in range(100)])
    assert [name for name, _ids in world.calls] == ["a", "a", "b", "b"]


def test_a_destination_that_refuses_each_event_alone_is_left_after_some(world: World) -> None:
    world.replies["a"] = 400
    assert counts(world.run(*[world.event() for _number in range(200)]))[:2] == (200, 0)
    assert sum(name == "a" for name, _ids in world.calls) == delivery.MOST_REFUSALS


def test_a_refusal_is_told_until_the_destination_takes_all_again(world: World) -> None:
    world.replies["a"] = 403
    world.run(world.event())
    assert spool.findings(world.disk) == world.findings
    world.run()
    assert told(world) == [("delivery.rejected", "a")]
    world.replies["a"] = 200
    world.run(world.event())
    assert told(world) == []


def test_news_of_a_destination_that_refuses_goes_to_the_others() -> None:
    world = World(to="all")
    world.replies["a"] = 403
    world.run(world.event())
    world.run(world.event("medium", rule="delivery.rejected", subject="a"))
    assert world.calls == [("b", ["e2"])]
    assert world.disk["queue"] == []


def test_news_of_the_only_destination_goes_there() -> None:
    world = World(("a",))
    world.run(world.event("medium", rule="delivery.rejected", subject="a"))
    assert world.took["a"] == ["e1"]


def test_news_of_refusals_that_is_refused_ends_after_one_event_each() -> None:
    world = World()
    world.replies = {"a": 403, "b": 403}
    known: set[str] = set()
    events, total = [world.event()], 0
    for _time in range(20):
        world.run(*events)
        total += len(events)
        fresh = [finding for finding in world.findings if finding.fingerprint not in known]
        known.update(finding.fingerprint for finding in fresh)
        events = [
            world.event("medium", rule=finding.rule, subject=finding.subject, finding=finding.fingerprint)
            for finding in fresh
        ]
    assert total == 3
    assert world.disk["queue"] == []


# Failures


@pytest.mark.parametrize("reply", [408, 429, 500, 503, 301, "hang", "refuse"])
def test_what_fails_for_now_waits_and_backs_off(reply: Any) -> None:
    world = World(("a",))
    world.replies["a"] = reply
    assert counts(world.run(world.event(), later=1)) == (0, 1, 0, 0)
    assert told(world) == []
    world.replies["a"] = 200
    assert counts(world.run(later=58)) == (0, 1, 0, 0)
    assert world.calls == []
    world.now += 3
    assert counts(world.run()) == (1, 0, 0, 0)
    assert world.took["a"] == ["e1"]


def test_the_back_off_doubles_up_to_half_an_hour_and_starts_again_after_a_success() -> None:
    world = World(("a",))
    world.replies["a"] = 500
    waits = []
    world.run(world.event(), later=0)
    for _time in range(8):
        waits.append(world.report["destinations"]["a"]["retry_in"])
        world.now += waits[-1] + 1
        world.run(later=0)
    assert waits == [60, 120, 240, 480, 960, 1800, 1800, 1800]
    world.replies["a"] = 200
    world.now += 1801
    world.run()
    world.replies["a"] = 500
    assert world.run(world.event(), later=0)["destinations"]["a"]["retry_in"] == 60


def test_the_back_off_has_full_jitter() -> None:
    ceilings = []
    world = World(("a",))
    world.replies["a"] = 500

    def jitter(ceiling: float) -> float:
        ceilings.append(ceiling)
        return 0.0

    world.jitter = jitter
    for _time in range(3):
        world.run(world.event())
    assert ceilings == [60, 120, 240]
    assert all(0 <= delivery._uniform(60) <= 60 for _time in range(100))


@pytest.mark.parametrize(("asked", "waited"), [(600, 600), (86400, 3600)])
def test_retry_after_is_honoured_within_an_hour(asked: float, waited: float) -> None:
    world = World(("a",))
    world.replies["a"] = Answer(429, b"", asked)
    world.run(world.event(), later=waited - 10)
    world.replies["a"] = 200
    assert world.run(later=20)["waiting"] == 1
    assert world.run()["waiting"] == 0


def test_a_short_retry_after_is_slept_off() -> None:
    replies = [Answer(429, b"", 1), Answer(429, b"", 2), Answer(200)]
    world = World(("a",))
    world.replies["a"] = lambda _ids: replies.pop(0)
    before = world.now
    assert counts(world.run(world.event(), later=0)) == (1, 0, 0, 0)
    assert 3 <= world.now - before < 4


def test_a_receiver_that_always_says_soon_is_believed_three_times() -> None:
    world = World(("a",))
    world.replies["a"] = Answer(429, b"", 0)
    assert counts(world.run(world.event())) == (0, 1, 0, 0)
    assert len(world.calls) == 4


def test_webhooks_that_hang_do_not_make_the_run_overlap_the_next_one() -> None:
    names = [f"d{number}" for number in range(12)]
    world = World(names)
    world.replies = dict.fromkeys(names, "hang")
    started = world.now
    world.run(world.event(), later=0)
    assert world.now - started <= 60


def test_a_slow_first_destination_leaves_time_for_the_second() -> None:
    world = World(budget=8)
    world.replies["a"] = "hang"
    world.run(world.event())
    assert world.took["b"] == ["e1"]


def test_what_the_budget_does_not_suffice_for_waits() -> None:
    world = World(("a",), budget=10)
    world.types["a"] = "pagerduty"

    def slowly(_ids: list[str]) -> int:
        world.now += 3
        return 202

    world.replies["a"] = slowly
    report = world.run(*[world.event() for _number in range(10)])
    assert report["sent"] + report["waiting"] == 10
    assert 0 < report["sent"] < 5
    world.replies["a"] = 202
    assert world.run()["waiting"] == 0
    assert len(world.took["a"]) == len(set(world.took["a"])) == 10


# The spool


def test_beyond_the_bound_the_least_severe_and_oldest_go_and_it_is_told() -> None:
    world = World(spool_max=3)
    world.replies = {"a": 500, "b": 500}
    severities = ("medium", "high", "medium", "critical", "high")
    assert counts(world.run(*[world.event(severity) for severity in severities])) == (0, 3, 0, 2)
    assert [entry["event"]["id"] for entry in world.disk["queue"]] == ["e2", "e4", "e5"]
    assert world.findings[0].summary == "2 findings dropped: no webhook took them and the spool was full."
    world.run(world.event())
    assert world.findings[0].summary.startswith("3 findings dropped")


def test_how_many_were_dropped_is_kept_until_it_is_told() -> None:
    world = World(spool_max=1)
    world.replies = {"a": 500, "b": 500}
    world.run(*[world.event() for _number in range(3)])
    assert told(world) == [("delivery.dropped", "spool")]
    news = world.event("medium", rule="delivery.dropped", evidence={"dropped": 2})
    world.run(news, world.event())
    assert world.findings[0].evidence == {"dropped": 3}
    world.replies["a"] = 200
    world.now += 3600
    world.run()
    assert news["id"] in world.took["a"]
    assert world.findings[0].evidence == {"dropped": 1}
    world.run(world.event("medium", rule="delivery.dropped", evidence={"dropped": 1}))
    assert told(world) == []


def test_a_crash_between_acknowledgement_and_save_repeats_only_what_was_not_saved() -> None:
    world = World(("a",))
    world.crash_at = 3
    with pytest.raises(Crashed):
        world.run(*[world.event() for _number in range(120)])
    world.run()
    repeated = [name for name in set(world.took["a"]) if world.took["a"].count(name) > 1]
    assert len(set(world.took["a"])) == 120
    assert sorted(repeated, key=lambda name: int(name[1:])) == [f"e{number}" for number in range(51, 101)]


def test_a_crash_after_the_save_repeats_nothing() -> None:
    world = World(("a",))
    world.crash_at, world.crash_saved = 3, True
    with pytest.raises(Crashed):
        world.run(*[world.event() for _number in range(120)])
    world.run()
    assert len(world.took["a"]) == len(set(world.took["a"])) == 120


def test_events_that_are_handed_in_again_are_known(world: World) -> None:
    first, second = world.event(), world.event()
    world.run(first, first)
    world.run(first, second)
    world.run(first, second)
    assert world.took["a"] == ["e1", "e2"]


def test_on_a_full_disk_alerts_go_out_and_the_error_is_told(world: World) -> None:
    world.disk_full = True
    with pytest.raises(StoreError, match="No space left"):
        world.run(world.event())
    assert world.took["a"] == ["e1"]


def test_a_destination_that_is_no_longer_configured_is_forgotten(world: World) -> None:
    world.replies["a"] = 403
    world.run(world.event())
    world.names = ("b",)
    world.run()
    assert told(world) == []
    assert set(world.disk["destinations"]) == {"b"}


def test_the_ends_to_be_told_are_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "MOST_OPEN", 10)
    world.run(*[world.event() for _number in range(15)])
    assert list(world.disk["destinations"]["a"]["open"]) == [f"f{number}" for number in range(6, 16)]


# What is told


def test_no_secret_is_in_report_findings_or_spool(world: World) -> None:
    world.replies = {"a": "refuse", "b": 401}
    world.run(world.event())
    problems = {name: state["problem"] for name, state in world.report["destinations"].items()}
    assert problems == {"a": "a.example:443 is not there.", "b": "It answers 401."}
    assert "secret" not in f"{world.report}{world.findings}{world.disk}{world.options()}"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"when": "never"}, "degraded, always"),
        ({"to": "some"}, "first, all"),
        ({"min_severity": "warning"}, "info, low, medium, high, critical"),
        ({"destinations": [{"name": "a", "url": "https://x/"}] * 2}, "'a' twice"),
        ({"spool_max": 0}, "spool_max"),
        ({"destinations": ["x"]}, r"destinations\[0\]"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(DetectionError, match=message):
        delivery.Options.from_config(config)
