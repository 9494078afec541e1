# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime
import re
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._catalogue import CATALOGUE
from ansible_collections.pynomaly.ops.plugins.module_utils._probe import (
    ABOVE,
    BELOW,
    CRITICAL,
    OK,
    SKIPPED,
    UNKNOWN,
    WARNING,
    Measurement,
    Policy,
    PolicyError,
    Selector,
    Target,
    Threshold,
    judge,
    parse_selectors,
    parse_thresholds,
    parse_waivers,
    result,
    summarize,
    worst,
)

TODAY = datetime.date(2026, 11, 24)
DISK = Target("host.disk", "host", "/var")


def policy(thresholds: dict[str, Any] | None = None, waivers: Any = ()) -> Policy:
    return Policy(
        CATALOGUE,
        parse_thresholds(thresholds or {}, CATALOGUE),
        parse_waivers(waivers, CATALOGUE),
    )


def test_the_catalogue_is_sound() -> None:
    for identifier, definition in CATALOGUE.items():
        assert identifier == definition.id
        assert definition.title
        assert definition.hint, f"{identifier} says nothing to do"
        if definition.direction is None:
            assert (definition.warning, definition.critical) == (None, None), identifier
        else:
            assert definition.unit and definition.source, identifier
            levels = {"warning": definition.warning, "critical": definition.critical}
            parse_thresholds({identifier: levels}, CATALOGUE)


@pytest.mark.parametrize(
    ("value", "expected"), [(80, OK), (80.1, WARNING), (95, WARNING), (95.5, CRITICAL)]
)
def test_the_runbooks_disk_numbers_hold(value: float, expected: str) -> None:
    assert result(Measurement(DISK, value), policy(), TODAY)["status"] == expected


@pytest.mark.parametrize(
    ("seconds", "expected"), [(900, OK), (901, WARNING), (3600, WARNING), (3601, CRITICAL)]
)
def test_a_transaction_open_for_an_hour_is_critical(seconds: int, expected: str) -> None:
    target = Target("postgres.longest_transaction", "postgres")
    assert result(Measurement(target, seconds), policy(), TODAY)["status"] == expected


def test_every_playbook_that_a_hint_names_exists() -> None:
    playbooks = Path(__file__).parents[4] / "playbooks"
    for definition in CATALOGUE.values():
        for name in re.findall(r"pynomaly\.ops\.(\w+)", definition.hint):
            assert (playbooks / f"{name}.yml").exists(), definition.id


@pytest.mark.parametrize(("days", "expected"), [(30, OK), (29, WARNING), (6, CRITICAL)])
def test_below_is_trouble_for_a_certificate(days: int, expected: str) -> None:
    target = Target("tls.served", "nginx", "443")
    assert result(Measurement(target, days), policy(), TODAY)["status"] == expected


def test_judge_without_limits_is_ok() -> None:
    assert judge(10**9, Threshold(None, None), ABOVE) == OK
    assert judge(-1, Threshold(None, 0), BELOW) == CRITICAL


def test_the_most_particular_threshold_wins() -> None:
    rules = policy(
        {
            "host.disk@/var": {"warning": 50},
            "host.disk": {"warning": 10, "critical": 20},
        }
    )
    assert rules.threshold(DISK) == Threshold(50, 95)
    assert rules.threshold(Target("host.disk", "host", "/")) == Threshold(10, 20)
    assert rules.threshold(Target("host.inodes", "host", "/")) == Threshold(80, 95)


def test_null_switches_a_level_off() -> None:
    assert policy({"host.disk": {"critical": None}}).threshold(DISK) == Threshold(80, None)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ({"host.dsik": {"warning": 1}}, "unknown probe id 'host.dsik'; did you mean host.disk"),
        ({"xyzzy": {"warning": 1}}, "unknown probe id 'xyzzy'"),
        ({"host.disk": {"warning": "lots"}}, "warning is 'lots', expected a number"),
        ({"host.disk": {"warning": True}}, "warning is True, expected a number"),
        ({"host.disk": {"warning": "nan"}}, "expected a finite number"),
        (
            {"host.disk": {"warning": 97}},
            "warning 97 and critical 95, expected warning at or below",
        ),
        ({"tls.served": {"warning": 3}}, "warning 3 and critical 7, expected warning at or above"),
        ({"host.disk": 80}, "seen 80, expected {warning: N, critical: N}"),
        ({"host.disk": {"warn": 80}}, "expected {warning: N, critical: N}"),
        ({"host.disk": {}}, "expected {warning: N, critical: N}"),
        ({"host.*": {"warning": 80}}, "expected one probe id, not a pattern"),
        ({"redis.ping": {"warning": 80}}, "this probe answers yes or no"),
        ({"host.disk@": {"warning": 80}}, "is not a probe id, a pattern, or ID@SERVICE"),
    ],
)
def test_bad_thresholds_are_named(raw: dict[str, Any], text: str) -> None:
    with pytest.raises(PolicyError) as error:
        parse_thresholds(raw, CATALOGUE)
    assert text in str(error.value)


def test_numbers_may_come_as_text_from_a_survey() -> None:
    (entry,) = parse_thresholds({"host.disk": {"warning": "70", "critical": "90.5"}}, CATALOGUE)
    assert entry[1] == Threshold(70, 90.5)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ({"probe": "host.disk", "reason": "x"}, "expected exactly probe, reason and until"),
        ("host.disk", "expected exactly probe, reason and until"),
        ({"probe": "host.disk", "reason": " ", "until": "2027-01-01"}, "a reason is needed"),
        ({"probe": "host.disk", "reason": "x", "until": "soon"}, "expected YYYY-MM-DD"),
        ({"probe": "nope.*", "reason": "x", "until": "2027-01-01"}, "unknown probe id 'nope.*'"),
    ],
)
def test_bad_waivers_are_named(raw: Any, text: str) -> None:
    with pytest.raises(PolicyError) as error:
        parse_waivers([raw], CATALOGUE)
    assert text in str(error.value)


@pytest.mark.parametrize(("until", "status"), [("2026-11-24", SKIPPED), ("2026-11-23", WARNING)])
def test_a_waiver_ends(until: str, status: str) -> None:
    rules = policy(waivers=[{"probe": "host.*@/var", "reason": "being moved", "until": until}])
    entry = result(Measurement(DISK, 90), rules, TODAY)
    assert entry["status"] == status
    if status == SKIPPED:
        assert entry["waiver"] == {"reason": "being moved", "until": until, "status": WARNING}
        assert entry["hint"] == ""
    else:
        assert entry["waiver"] is None
        assert entry["hint"]


def test_a_waiver_says_nothing_of_what_is_well() -> None:
    rules = policy(waivers=[{"probe": "host.disk", "reason": "x", "until": "2027-01-01"}])
    assert result(Measurement(DISK, 10), rules, TODAY)["waiver"] is None


def test_a_result_has_the_promised_shape() -> None:
    entry = result(
        Measurement(DISK, 96.0, "96.0 % used", hint="clean up", detail=["x"], duration_ms=1.234),
        policy(),
        TODAY,
    )
    assert entry == {
        "id": "host.disk",
        "service": "host",
        "instance": "/var",
        "title": "Disk used",
        "status": CRITICAL,
        "value": 96.0,
        "unit": "percent",
        "warning": 80,
        "critical": 95,
        "message": "96.0 % used",
        "hint": "clean up",
        "detail": ["x"],
        "duration_ms": 1.2,
        "waiver": None,
    }


def test_a_measurement_without_a_number_is_ok_unless_it_says_otherwise() -> None:
    ping = Target("redis.ping", "redis-cluster")
    assert result(Measurement(ping), policy(), TODAY)["status"] == OK
    said = result(Measurement(ping, status=UNKNOWN), policy(), TODAY)
    assert (said["status"], said["warning"], said["critical"]) == (UNKNOWN, None, None)


def test_selectors() -> None:
    assert Selector.parse("host.*").matches(DISK)
    assert Selector.parse("host.disk@/v*").matches(DISK)
    assert Selector.parse("host.disk@host").matches(DISK)
    assert not Selector.parse("host.disk@/srv").matches(DISK)
    assert not Selector.parse("redis.*").matches(DISK)
    assert parse_selectors(["host.*"], CATALOGUE, "probes") == [Selector("host.*")]
    with pytest.raises(PolicyError, match="probes: unknown probe id 'hots"):
        parse_selectors(["hots.disk"], CATALOGUE, "probes")


def test_worst_and_counts() -> None:
    assert worst([]) == OK
    assert worst([SKIPPED, OK]) == OK
    assert worst([UNKNOWN, WARNING]) == WARNING
    assert worst([CRITICAL, WARNING]) == CRITICAL
    counts = summarize([{"status": OK}, {"status": OK}, {"status": SKIPPED}])
    assert counts == {OK: 2, WARNING: 0, CRITICAL: 0, UNKNOWN: 0, SKIPPED: 1}
