# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The alert rules of one Prometheus, out of the one source that has them all."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from .errors import AlertingError

ALWAYS = "prometheus"
"""The component whose rules every Prometheus has."""

# As in Prometheus' own model.LabelNameRE; a job's name goes into PromQL as it is, between quotes.
_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*\Z")
_JOB_NAME = re.compile(r"[a-zA-Z0-9_.:/-]+\Z")
_JOB_MATCHER = re.compile(r'\bjob(=~?)"([^"]*)"')
# What alerts are told apart, routed and explained by.
_RESERVED = frozenset({"alertname", "severity", "component", "instance", "job", "prometheus"})


def components(source: Mapping[str, Any]) -> set[str]:
    """The components that the source has rules for."""
    return {_component(rule) for group in source["groups"] for rule in group["rules"]}


def _component(rule: Mapping[str, Any]) -> str:
    # The rules of other roles have none: their file is there or not.
    component: str = rule["labels"].get("component", ALWAYS)
    return component


def jobs(source: Mapping[str, Any]) -> set[str]:
    """The names of the jobs that the source's expressions ask for."""
    found = [_JOB_MATCHER.findall(rule["expr"]) for group in source["groups"] for rule in group["rules"]]
    return {name for matchers in found for _operator, names in matchers for name in names.split("|")}


def select(
    source: Mapping[str, Any],
    wanted: Collection[str],
    renamed: Mapping[str, Any],
    prometheus: str,
    labels: Mapping[str, Any],
) -> dict[str, Any]:
    """The rules that one Prometheus gets.

    Args:
        source: a rule file. Rules without a label `component` are always kept.
        wanted: the components that this Prometheus watches; those of the component `prometheus` are always there.
        renamed: names of jobs, by the names that the source has for them.
        prometheus: the name of this Prometheus, for the label `prometheus` of its Watchdog: two of them that send to
            the same Alertmanager have two heartbeats.
        labels: more labels, for every alert.

    Returns:
        A rule file; the source is left as it is.

    Raises:
        AlertingError: a component or a job that the source does not have, a name that is not legal, or one name of two
            jobs.
    """
    _refuse_unknown("component", wanted, components(source))
    _refuse_unknown("job", renamed, jobs(source))
    for name in renamed.values():
        if not isinstance(name, str) or not _JOB_NAME.match(name):
            raise AlertingError(f"{name!r} is no name of a job for rules: letters, digits and _.:/- may be.")
    _refuse_one_name(jobs(source), renamed)
    for name, value in labels.items():
        if not _LABEL_NAME.match(name) or name.startswith("__") or name in _RESERVED:
            raise AlertingError(
                f"{name!r} is no legal label for alerts: letters, digits and _, not first a digit or two _, and none "
                f"of {', '.join(sorted(_RESERVED))}."
            )
        if not isinstance(value, str):
            raise AlertingError(f"The label {name} is {value!r}; it has to be a text, in quotes.")

    kept = {*wanted, ALWAYS}
    groups = []
    for group in source["groups"]:
        rules = [rule for rule in group["rules"] if _component(rule) in kept]
        groups.append({**group, "rules": [_own(rule, renamed, prometheus, labels) for rule in rules]})
    return {"groups": groups}


def _own(
    rule: Mapping[str, Any], renamed: Mapping[str, str], prometheus: str, labels: Mapping[str, str]
) -> dict[str, Any]:
    heartbeat = {"prometheus": prometheus} if rule.get("alert") == "Watchdog" else {}
    added = {**labels, **heartbeat} if "alert" in rule else {}
    return {**rule, "expr": _rename(rule["expr"], renamed), "labels": {**rule["labels"], **added}}


def _rename(expression: str, renamed: Mapping[str, str]) -> str:
    def matcher(found: re.Match[str]) -> str:
        names = [renamed.get(name, name) for name in found[2].split("|")]
        if found[1] == "=~":
            # Of what a name may have, the dot alone means something in a regular expression.
            names = [name.replace(".", "[.]") for name in names]
        return f'job{found[1]}"{"|".join(names)}"'

    return _JOB_MATCHER.sub(matcher, expression)


def _refuse_one_name(known: Collection[str], renamed: Mapping[str, str]) -> None:
    """Of two jobs with one name a rule of the one would ask for the targets of the other as well."""
    named: dict[str, list[str]] = {}
    for job in sorted(known):
        named.setdefault(renamed.get(job, job), []).append(job)
    for name, several in named.items():
        if len(several) > 1:
            raise AlertingError(
                f"The jobs {' and '.join(several)} would both be {name!r}, and the rules of one would be asked of the "
                "other's targets as well. Have Prometheus scrape them as two jobs, and give each its name."
            )


def _refuse_unknown(what: str, given: Collection[str], known: Collection[str]) -> None:
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise AlertingError(
            f"There is no {what} {', '.join(map(repr, unknown))}. Known are {', '.join(sorted(known))}."
        )
