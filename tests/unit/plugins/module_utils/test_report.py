# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report object: its shape, its status, and what becomes of hosts that did not answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils import _report
from ansible_collections.pynomaly.ops.plugins.module_utils._catalogue import CATALOGUE
from ansible_collections.pynomaly.ops.plugins.module_utils._probe import STATUSES
from ansible_collections.pynomaly.ops.plugins.module_utils._report import (
    FAIL_ON,
    ReportError,
    build_report,
    failing_hosts,
    fails,
    file_stem,
    fill_hint,
    first_line,
    headline,
    host_entry,
    plain,
    run_statistics,
)
from ansible_collections.pynomaly.ops.tests.unit.plugins.module_utils.report_samples import (
    FAILED,
    HOSTILE,
    RUN,
    UNREACHABLE,
    healthy,
    probe_result,
    registered,
    sample,
    troubled,
)

SCHEMA = json.loads(Path(_report.__file__).with_name("report.schema.json").read_text("utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$id"].endswith(_report.SCHEMA_VERSION)
    assert tuple(SCHEMA["$defs"]["status"]["enum"]) == STATUSES
    assert sorted(SCHEMA["properties"]["fail_on"]["enum"]) == sorted(FAIL_ON)


@pytest.mark.parametrize(
    "names",
    [
        ("healthy",),
        ("troubled",),
        ("hostile",),
        ("incident",),
        ("healthy", "troubled", "hostile", "incident", "unreachable", "failed", "missing"),
    ],
)
def test_every_report_is_valid_json_of_the_schema(names: tuple[str, ...]) -> None:
    text = json.dumps(sample(*names), allow_nan=False)
    text.encode("utf-8")
    VALIDATOR.validate(json.loads(text))


@pytest.mark.parametrize(
    "path",
    [
        ("status",),
        ("summary", "unknown"),
        ("hosts", 0, "reachable"),
        ("hosts", 0, "results", 0, "hint"),
        ("hosts", 0, "tables"),
    ],
)
def test_the_schema_misses_what_is_missing(path: tuple[Any, ...]) -> None:
    report: Any = sample("troubled")
    holder = report
    for step in path[:-1]:
        holder = holder[step]
    del holder[path[-1]]
    assert not VALIDATOR.is_valid(report)


def test_the_schema_refuses_other_values_and_fields() -> None:
    report = sample("healthy")
    assert not VALIDATOR.is_valid({**report, "status": "fine"})
    assert not VALIDATOR.is_valid({**report, "verdict": "fine"})
    assert not VALIDATOR.is_valid({**report, "hosts": []})
    assert not VALIDATOR.is_valid({**report, "started_at": "yesterday"})


def test_status_and_summary_are_those_of_all_hosts() -> None:
    report = sample("healthy", "troubled")
    assert report["status"] == "critical"
    assert [entry["status"] for entry in report["hosts"]] == ["ok", "critical"]
    assert report["summary"]["critical"] == 2
    assert sum(report["summary"].values()) == sum(len(e["results"]) for e in report["hosts"])
    assert report["duration_ms"] == 3250
    assert (report["started_at"], report["finished_at"]) == (
        "2026-11-24T02:57:03Z",
        "2026-11-24T02:57:06Z",
    )


@pytest.mark.parametrize(
    ("fail_on", "failing"),
    [
        ("never", []),
        ("critical", ["critical"]),
        ("warning", ["warning", "critical"]),
        ("unknown", ["unknown", "warning", "critical"]),
    ],
)
def test_the_line(fail_on: str, failing: list[str]) -> None:
    assert [status for status in STATUSES if fails(status, fail_on)] == failing
    outcomes = {
        status: registered([probe_result("redis.ping", "redis", status=status)])
        for status in STATUSES
    }
    report = build_report("daily_check", "Daily check", RUN, outcomes, fail_on=fail_on)
    assert [entry["name"] for entry in report["hosts"] if entry["failed"]] == failing
    assert report["failed"] is bool(failing)
    assert list(failing_hosts(report)) == failing


def test_an_unreachable_host_is_critical_and_says_why() -> None:
    entry = host_entry("db 1", UNREACHABLE, "critical")
    (result,) = entry["results"]
    assert not entry["reachable"]
    assert entry["failed"]
    assert (result["id"], result["status"]) == ("host.reachable", "critical")
    assert result["message"] == (
        "not reachable by SSH: ssh: connect to host 10.0.0.9 port 22: Connection refused"
    )
    assert result["hint"] == "ssh 'db 1'; ansible 'db 1' -m ansible.builtin.ping"


def test_a_failed_module_is_critical_with_its_message() -> None:
    entry = host_entry("node1", FAILED, "critical")
    (result,) = entry["results"]
    assert entry["reachable"]
    assert (result["id"], result["status"]) == ("host.check", "critical")
    assert "did you mean postgres.connections?" in result["message"]
    assert "--limit node1" in result["hint"]


def test_a_failed_module_shows_no_traceback() -> None:
    traceback = (
        'Traceback (most recent call last):\n  File "<stdin>", line 1, in <module>\n'
        "ValueError: no good\n"
    )
    entry = host_entry("node1", {"failed": True, "msg": traceback}, "critical")
    assert entry["results"][0]["message"] == "the check could not be made: ValueError: no good"


def test_a_module_failure_names_what_stderr_ended_with() -> None:
    outcome = {
        "failed": True,
        "msg": "MODULE FAILURE: No start of json char found\nSee stdout/stderr",
        "module_stderr": "/bin/sh: 1: /usr/bin/python3: not found\n",
    }
    message = host_entry("node1", outcome, "critical")["results"][0]["message"]
    assert message.endswith(
        "MODULE FAILURE: No start of json char found (/bin/sh: 1: /usr/bin/python3: not found)"
    )


@pytest.mark.parametrize("outcome", [None, registered([]), {"failed": True}, {}])
def test_a_host_of_which_nothing_is_known_does_not_look_well(outcome: Any) -> None:
    entry = host_entry("node1", outcome, "critical")
    assert entry["status"] == "critical"
    assert entry["results"][0]["id"] == "host.check"
    assert entry["results"][0]["message"]


def test_a_skipped_host_is_skipped() -> None:
    entry = host_entry(
        "n", {"skipped": True, "skip_reason": "Conditional result was False"}, "never"
    )
    assert entry["status"] == "skipped"
    assert entry["results"][0]["message"] == "Conditional result was False"


def test_results_of_a_module_that_failed_later_are_kept() -> None:
    entry = host_entry("n", {**troubled(), "failed": True, "msg": "disk full"}, "critical")
    assert [result["id"] for result in entry["results"][:2]] == ["host.check", "docker.engine"]


def test_host_results_are_in_the_catalogue() -> None:
    assert {"host.reachable", "host.check"} <= set(CATALOGUE)


def test_the_project_may_be_a_name_or_a_description() -> None:
    described = host_entry("n", healthy(), "critical")
    assert (described["project"], described["working_dir"]) == ("pynomaly", "/opt/pynomaly")
    named = host_entry("n", {**healthy(), "project": "shop"}, "critical")
    assert (named["project"], named["working_dir"]) == ("shop", None)


def test_a_result_of_another_version_is_made_whole() -> None:
    entry = host_entry("n", registered([{"id": "new.probe", "status": "splendid"}]), "critical")
    assert entry["results"][0]["status"] == "unknown"
    assert set(entry["results"][0]) == set(SCHEMA["$defs"]["result"]["required"])


def test_hints_name_what_they_are_about() -> None:
    assert fill_hint("docker compose ps SERVICE", "db", None) == "docker compose ps db"
    assert fill_hint("du MOUNT", "host", "/my disk") == "du '/my disk'"
    assert fill_hint("docker inspect CONTAINER", "db", None) == "docker inspect CONTAINER"
    assert fill_hint("SERVICES", "db", None) == "SERVICES"


def test_first_line() -> None:
    assert first_line("") == "no reason was given"
    assert first_line("Warning: a\n\n  b\nc") == "b"
    assert first_line("Warning: a") == "Warning: a"


def test_plain_makes_what_json_can_say() -> None:
    made = plain({1: (float("nan"), float("inf"), 1.5, True, None), "k": {"b"}, "s": "\udcff"})
    assert made == {"1": ["nan", "inf", 1.5, True, None], "k": ["b"], "s": "\\udcff"}
    json.dumps(made, allow_nan=False)


def test_plain_leaves_no_subclass_behind() -> None:
    class Tagged(str):
        __slots__ = ()

    class Lazy(dict):  # type: ignore[type-arg]
        pass

    made = plain(Lazy(a=Tagged("x")))
    assert type(made) is dict
    assert type(made["a"]) is str


def test_people_need_what_they_are_called_and_where() -> None:
    report = sample("healthy")
    assert [entry["level"] for entry in report["escalation"]] == [1, 2, 3, 4]
    for what, wrong in (
        ("contacts", [{"name": "On-call"}]),
        ("contacts", ["On-call"]),
        ("escalation", [{"address": "1"}]),
        ("links", [{"title": "a", "url": "b", "colour": "c"}]),
    ):
        with pytest.raises(ReportError, match=f"^{what}: seen .* expected a dictionary with"):
            sample("healthy", **{what: wrong})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "../x"}, "kind: seen '../x', expected"),
        ({"fail_on": "sometimes"}, "fail_on: seen 'sometimes', expected one of never"),
        ({"hosts": {}}, "hosts: seen none, expected at least one"),
    ],
)
def test_what_cannot_be_reported(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {
        "kind": "daily_check",
        "title": "Daily check",
        "run": RUN,
        "hosts": {"n": healthy()},
        **change,
    }
    with pytest.raises(ReportError, match=message):
        build_report(**arguments)


def test_headlines() -> None:
    assert headline(sample("healthy")) == "all well: 28 ok, 3 skipped on 1 host"
    assert headline(sample("troubled")).endswith("1 unknown of 33 checks on troubled")
    assert headline(sample("healthy", "failed")) == "1 critical of 32 checks, on 1 of 2 hosts"
    skipped = build_report("k", "K", RUN, {"n": {"skipped": True}})
    assert headline(skipped) == "nothing was measured: 1 skipped on 1 host"


def test_failing_hosts_say_which_and_what_next() -> None:
    failing = failing_hosts(sample("healthy", "troubled", "unreachable"))
    assert list(failing) == ["troubled", "unreachable"]
    assert failing["troubled"].startswith(
        "2 critical: host.disk (/var/lib/docker), postgres.ready (postgres); first: 244 GiB"
    )
    assert "next: du -xh" in failing["troubled"]


def test_failing_hosts_name_no_more_than_five() -> None:
    many = [probe_result("redis.ping", f"redis{n}", status="critical") for n in range(8)]
    report = build_report("k", "K", RUN, {"n": registered(many)})
    assert "redis4) and 3 more; first:" in failing_hosts(report)["n"]


def test_statistics_for_other_programs() -> None:
    statistics = run_statistics(sample("troubled", "unreachable"), {"json": "/r/a.json"})
    assert statistics["pynomaly_status"] == "critical"
    assert statistics["pynomaly_failed"] is True
    assert statistics["pynomaly_critical"] == [
        "troubled:host.disk@/var/lib/docker",
        "troubled:postgres.ready",
        "unreachable:host.reachable",
    ]
    assert statistics["pynomaly_report_paths"] == {"json": "/r/a.json"}


def test_a_file_is_named_for_kind_time_and_run() -> None:
    report = sample("healthy")
    assert file_stem(report) == "daily_check-20261124T025703Z-4f3c9a1b"
    assert file_stem({**report, "run_id": "../4"}) == "daily_check-20261124T025703Z-4"
    assert file_stem({**report, "run_id": "../"}) == "daily_check-20261124T025703Z-run"


def test_hostile_text_is_kept_in_the_object() -> None:
    assert sample("hostile")["hosts"][0]["results"][0]["message"] == HOSTILE


def test_tables_are_kept_with_a_cell_for_every_column() -> None:
    tables = [
        {"title": "Uneven", "columns": ["a", "b"], "rows": [[1], [1, 2, 3], "alone", [{"x": 1}]]},
        {"columns": "none", "rows": None},
        {"title": "Odd", "columns": ["\udcff"], "rows": [["\udcff"], [float("inf")]]},
        "no table",
    ]
    entry = host_entry("node1", registered(healthy()["results"], tables=tables), "critical")
    assert entry["tables"] == [
        {
            "title": "Uneven",
            "columns": ["a", "b", ""],
            "rows": [[1, None, None], [1, 2, 3], ["alone", None, None], ["{'x': 1}", None, None]],
        },
        {"title": "Table", "columns": [""], "rows": []},
        {"title": "Odd", "columns": ["\\udcff"], "rows": [["\\udcff"], ["inf"]]},
    ]
    report = build_report("incident_contain", "Contain", RUN, {"node1": healthy()})
    report["hosts"][0]["tables"] = entry["tables"]
    VALIDATOR.validate(report)
    report["hosts"][0]["tables"][0]["rows"][0] = [{"x": 1}]
    assert not VALIDATOR.is_valid(report)


def test_what_fails_is_run_again_by_its_own_name() -> None:
    report = build_report("incident_contain", "Contain", RUN, {"node1": FAILED})
    (result,) = report["hosts"][0]["results"]
    assert result["hint"] == "ansible-playbook pynomaly.ops.incident_contain --limit node1 -vvv"
