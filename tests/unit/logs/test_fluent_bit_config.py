# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration of Fluent Bit, in both forms, and what preflight refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.custodes.security_dr.plugins.module_utils.logs import fluent_bit, kubernetes, preflight
from ansible_collections.custodes.security_dr.plugins.module_utils.logs.errors import LogsError
from lab.pki import Authority

LOKI = {"type": "loki", "host": "loki.example.com", "port": 3100, "token_env": "PRIMARY_TOKEN"}
HTTP = {"type": "http", "host": "logs.example.net", "port": 443, "uri": "/v1/ingest", "token_env": "SECONDARY_TOKEN"}
TOKENS = {"PRIMARY_TOKEN": "x", "SECONDARY_TOKEN": "y"}


def options(**changed: Any) -> dict[str, Any]:
    return {
        "inputs": [{"type": "containers"}, {"type": "journal"}, {"type": "files", "path": "/var/log/app/*.log"}],
        "outputs": {"primary": LOKI, "secondary": HTTP},
        "buffer": {"path": "/var/log/fluent-bit-buffer"},
        "bound_bytes": 5_000_000_000,
        "outage_seconds": 4 * 3600,
        "bytes_per_second": 100_000,
        **changed,
    }


def with_output(alias: str, **changed: Any) -> dict[str, Any]:
    outputs: dict[str, Any] = {"primary": LOKI, "secondary": HTTP}
    return options(outputs={**outputs, alias: {**outputs[alias], **changed}})


def test_nothing_is_given_up_and_everything_is_bounded() -> None:
    sections = fluent_bit.model(options())
    assert all(one["storage.type"] == "filesystem" for one in sections["inputs"])
    first, second, buffer = sections["outputs"]
    for one in (first, second):
        assert (one["retry_limit"], one["storage.total_limit_size"]) == ("no_limits", "5000000000")
        assert (one["tls"], one["tls.verify"], one["tls.verify_hostname"]) == ("on", "on", "on")
    assert [one["alias"] for one in (first, second, buffer)] == ["primary", "secondary", "buffer"]
    assert (sections["service"]["scheduler.base"], sections["service"]["scheduler.cap"]) == (1, 10)


def test_both_forms_say_the_same() -> None:
    sections = fluent_bit.model(options())
    read = yaml.safe_load(fluent_bit.render(options(), "yaml"))
    assert read["service"] == sections["service"]
    assert read["parsers"] == sections["parsers"]
    assert read["pipeline"] == {name: sections[name] for name in ("inputs", "filters", "outputs")}
    classic = fluent_bit.render(options(), "classic")
    for kind, count in (("[INPUT]", 3), ("[FILTER]", 2), ("[OUTPUT]", 3), ("[SERVICE]", 1)):
        assert classic.count(kind) == count
    pairs = {tuple(line.split(None, 1)) for line in classic.splitlines() if line.startswith("    ")}
    for section in (*sections["inputs"], *sections["outputs"]):
        assert {(name, str(value)) for name, value in section.items()} <= pairs


@pytest.mark.parametrize(
    ("given", "told"), [({}, "off"), ({"read_from_tail": False}, "off"), ({"read_from_tail": True}, "on")]
)
def test_where_the_journal_is_begun(given: dict[str, Any], told: str) -> None:
    (journal,) = fluent_bit.model(options(inputs=[{"type": "journal", **given}]))["inputs"]
    assert journal["read_from_tail"] == told


def test_a_leg_that_is_away_does_not_stop_the_other() -> None:
    """See the head of fluent_bit.py; tests/integration/test_log_pipeline.py has it red and green."""
    for one in fluent_bit.model(options())["inputs"]:
        # Any limit does: without one, chunks that wait stay in memory, where there is room for 128.
        assert one["mem_buf_limit"] == 1
        # A tag with an asterisk is one for each file, and each has a chunk of its own at every flush.
        assert one["tag"] in fluent_bit.INPUTS


@pytest.mark.parametrize(
    ("count", "hours", "flush"), [(1, 4, 1), (2, 4, 2), (3, 4, 3), (1, 8, 2), (1, 0, 1), (4, 12, 4)]
)
def test_the_flush_leaves_room_for_what_waits(count: int, hours: int, flush: int) -> None:
    inputs = [{"type": "files", "path": f"/var/log/{number}.log"} for number in range(count)]
    given = options(inputs=inputs, outage_seconds=hours * 3600, bytes_per_second=1000)
    assert fluent_bit.model(given)["service"]["flush"] == flush


def test_the_local_file_is_bounded_and_not_followed() -> None:
    given = options(buffer={"path": "/var/log/fluent-bit-buffer", "max_bytes": 1000, "keep": 3})
    sections = fluent_bit.model(given)
    buffer = sections["outputs"][2]
    assert (buffer["rotate"], buffer["rotate_max_size"], buffer["rotate_max_files"]) == ("on", "1000", 3)
    assert buffer["storage.total_limit_size"] == "5000000000"
    for one in sections["inputs"]:
        if one["name"] == "tail":
            assert "/var/log/fluent-bit-buffer/*" in one["exclude_path"].split(",")


def test_where_it_has_read_to_is_kept_by_path() -> None:
    """An input that is added before another must not have that read from the start again."""
    one = {"type": "files", "path": "/a"}
    alone, after = (
        fluent_bit.model(options(inputs=inputs))["inputs"][-1]["db"] for inputs in ([one], [{"type": "journal"}, one])
    )
    assert alone == after


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        (
            {"preset": "grafana_cloud", "host": "logs-prod-1.example.com", "user": "123"},
            {"name": "loki", "port": 443, "http_user": "123", "http_passwd": "${T}", "compress": "gzip"},
        ),
        (
            {"preset": "axiom", "dataset": "hosts"},
            {
                "name": "http", "host": "api.axiom.co", "uri": "/v1/datasets/hosts/ingest", "json_date_key": "_time",
                "header": "Authorization Bearer ${T}", "tls.verify_hostname": "on",
            },
        ),
        (
            {"preset": "better_stack", "host": "s1.example.com"},
            {"name": "http", "uri": "/", "json_date_key": "dt", "header": "Authorization Bearer ${T}"},
        ),
        ({"preset": "axiom", "dataset": "hosts", "host": "api.eu.axiom.co"}, {"host": "api.eu.axiom.co"}),
    ],
)  # fmt: skip
def test_presets(preset: dict[str, Any], expected: dict[str, Any]) -> None:
    assert expected.items() <= fluent_bit.output("secondary", {**preset, "token_env": "T"}).items()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"preset": "splunk"}, "has the preset 'splunk': it takes grafana_cloud, axiom, better_stack"),
        ({"preset": "axiom", "token_env": "T"}, "of the preset axiom, lacks its dataset"),
        ({"preset": "better_stack", "host": "x"}, "of the preset better_stack, lacks its token_env"),
        ({"type": "opensearch", "host": "x", "port": 1, "token_env": "T"}, "has a token_env and no user"),
        ({"type": "loki", "host": "x", "port": 1, "labels": {"a": "b,c=d"}}, "label a with a comma"),
    ],
)
def test_an_output_that_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(LogsError, match=message):
        fluent_bit.output("secondary", given)


def test_the_config_map_holds_what_hosts_have() -> None:
    for form, name in (("yaml", "fluent-bit.yaml"), ("classic", "fluent-bit.conf")):
        given = kubernetes.pod_options(options())
        manifest = yaml.safe_load(kubernetes.config_map(given, form))
        assert manifest["metadata"] == {"name": "fluent-bit-config", "namespace": "logging"}
        assert manifest["data"][name] == fluent_bit.render(given, form)
        assert manifest["data"].get(fluent_bit.PARSERS_FILE, "") == (
            fluent_bit.parsers(given) if form == "classic" else ""
        )
    assert "http_listen: '0.0.0.0'" in manifest["data"].get("fluent-bit.yaml", "http_listen: '0.0.0.0'")
    assert "host=${NODE_NAME}" in str(fluent_bit.model(given)["outputs"][0]["labels"])


def test_no_secret_is_in_it() -> None:
    text = fluent_bit.render(options(), "yaml")
    assert "${PRIMARY_TOKEN}" in text
    assert "Authorization Bearer ${SECONDARY_TOKEN}" in text


@pytest.mark.parametrize("kind", ["loki", "http", "es", "opensearch", "opentelemetry"])
def test_every_type_has_a_login(kind: str) -> None:
    given = {"type": kind, "host": "x", "port": 1, "user": "u", "token_env": "T"}
    assert any("${T}" in str(value) for value in fluent_bit.output("secondary", given).values())


def test_a_chunk_that_is_sent_again_is_not_there_twice_nor_sent_for_ever() -> None:
    made = fluent_bit.output("secondary", {"type": "opensearch", "host": "x", "port": 1})
    # With milliseconds, lines of the same words in the same one would be one.
    assert (made["generate_id"], made["time_key_nanos"]) == ("on", "on")
    # For es a chunk of which all is there already has failed.
    assert "generate_id" not in fluent_bit.output("secondary", {"type": "es", "host": "x", "port": 1})


def test_a_type_that_loses_single_lines_is_warned_of() -> None:
    outputs = {"primary": {"type": "opensearch"}, "secondary": {"type": "es"}}
    (warning,) = preflight.warnings(outputs)
    assert warning.startswith("The secondary output is of type es")
    assert "opensearch" in warning


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (with_output("secondary", type="kafka"), "secondary output has the type 'kafka': it takes loki, http"),
        (with_output("primary", host=""), "primary output lacks its host"),
        (options(inputs=[{"type": "files"}]), "lacks its path"),
        (options(inputs=[{"type": "exec"}]), "has the type 'exec': it takes containers, journal or files"),
        (with_output("primary", uri="/x\n[OUTPUT]\nname exec"), "more than one line"),
    ],
)
@pytest.mark.parametrize("form", ["yaml", "classic"])
def test_what_is_refused(changed: dict[str, Any], message: str, form: str) -> None:
    with pytest.raises(LogsError, match=message):
        fluent_bit.render(changed, form)


def told(given: dict[str, Any], environment: dict[str, str] | None = None, **hosts: str) -> list[str]:
    known = {name.replace("_", "."): [address] for name, address in hosts.items()}
    return preflight.problems(given, TOKENS if environment is None else environment, lambda host: known.get(host, []))


def test_what_is_well_is_not_complained_about() -> None:
    assert told(options(), loki_example_com="10.0.0.1", logs_example_net="192.0.2.1") == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (with_output("secondary", uri="/loki/api/v1/push"), "every line is dropped"),
        (with_output("secondary", host="loki.example.com"), "Both outputs go to loki.example.com"),
        (with_output("secondary", host="93.184.216.34", tls=False), "in clear text"),
        (with_output("primary", labels={"app.kubernetes.io/name": "x"}), "which Loki refuses"),
        (options(bound_bytes=0), "no bound"),
        (options(bound_bytes=1_000_000), "needs 1440000000"),
    ],
)
def test_what_would_lose_lines_is_told(given: dict[str, Any], message: str) -> None:
    (sentence,) = told(given)
    assert message in sentence


def test_an_unset_token_and_two_names_of_one_address() -> None:
    (sentence,) = told(options(), {"PRIMARY_TOKEN": "x", "SECONDARY_TOKEN": ""})
    assert "SECONDARY_TOKEN, which is unset" in sentence
    (sentence,) = told(options(), loki_example_com="10.0.0.1", logs_example_net="10.0.0.1")
    assert "are the same address, 10.0.0.1" in sentence


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (with_output("secondary", host="LOKI.example.com."), "Both outputs go to loki.example.com"),
        (with_output("secondary", host="https://logs.example.net/x"), "without scheme, port or path"),
        (with_output("secondary", port=70000), "it takes 1 to 65535"),
        (with_output("secondary", bound_bytes=9_000_000), "A queue holds 9000000 bytes"),
        (options(bound_bytes=100, outage_seconds=0), "needs 8000000"),
        (options(outage_seconds=24 * 3600, bytes_per_second=1), "would send to none any more"),
        (with_output("primary", labels={"team": "${TEAM}"}), "TEAM, which is unset"),
        (with_output("secondary", host="logs.example.net", tls=False), "not resolved here"),
    ],
)
def test_more_of_what_would_lose_lines(given: dict[str, Any], message: str) -> None:
    (sentence,) = told(given)
    assert message in sentence


@pytest.mark.parametrize(
    ("first", "second"),
    [("::1", "0:0:0:0:0:0:0:1"), ("::ffff:10.0.0.1", "10.0.0.1"), ("FE80::1", "fe80:0::1")],
)
def test_one_address_in_two_spellings(first: str, second: str) -> None:
    outputs = {"primary": {**LOKI, "host": first}, "secondary": {**HTTP, "host": second}}
    (sentence,) = told(options(outputs=outputs))
    assert "one failure takes both" in sentence


def test_clear_text_within_a_private_network_is_allowed() -> None:
    for host in ("10.1.2.3", "loki", "loki.logging.svc", "127.0.0.2"):
        assert told(with_output("secondary", host=host, tls=False)) == []


@pytest.mark.parametrize("value", ["abc\n", "abc ", " abc", "a\nb"])
def test_a_secret_that_was_copied_with_more_than_itself(value: str) -> None:
    (sentence,) = told(options(), {**TOKENS, "PRIMARY_TOKEN": value})
    assert "The secret PRIMARY_TOKEN has a line break or a space at its end" in sentence
    assert "abc" not in sentence


def nowhere(_host: str) -> list[str]:
    return []


def test_the_variables_of_a_pod_are_not_known_here() -> None:
    assert preflight.problems(options(), None, nowhere) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "No such file or directory"), (b"", "no file of certificates"), (b"nonsense", "no file of cert")],
)
def test_a_bad_ca_file(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "ca.pem").write_bytes(content)
    given = with_output("primary", ca_file="/ca.pem")
    (sentence,) = preflight.problems({**given, "bound_bytes": 2_000_000_000}, TOKENS, nowhere, str(tmp_path))
    assert message in sentence


def test_a_good_ca_file(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    given = with_output("primary", ca_file=str(authority.ca_file))
    assert preflight.problems({**given, "bound_bytes": 2_000_000_000}, TOKENS, nowhere, "/") == []


def test_queues_that_are_larger_than_the_disk(tmp_path: Path) -> None:
    (sentence,) = preflight.problems(options(bound_bytes=10**18), TOKENS, nowhere, str(tmp_path))
    assert "the whole file system" in sentence
