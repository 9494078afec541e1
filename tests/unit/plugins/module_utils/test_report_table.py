# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The console table: short, narrow, complete about trouble."""

from __future__ import annotations

import re

from ansible_collections.pynomaly.ops.plugins.module_utils._report_table import (
    WIDTH,
    render_table,
)
from ansible_collections.pynomaly.ops.tests.unit.plugins.module_utils.report_samples import (
    sample,
)


def text(*names: str, **options: object) -> str:
    return "\n".join(line.text for line in render_table(sample(*names, **options)))


def test_a_healthy_host_takes_a_few_lines() -> None:
    lines = text("healthy").splitlines()
    assert lines[0] == "Daily check: OK, all well: 28 ok, 3 skipped on 1 host"
    assert len(lines) <= 10
    assert "healthy  OK  project pynomaly, 28 ok, 3 skipped, 1.3 s" in lines
    assert any("postgres 3" in line for line in lines)
    assert "call" not in text("healthy")


def test_each_trouble_has_its_line_and_what_to_run_next() -> None:
    table = text("troubled")
    for expected in (
        "  CRITICAL  host.disk (/var/lib/docker): 244 GiB of 251 GiB used",
        "            next: du -xh --max-depth=1 /var/lib/docker | sort -h; docker system df",
        "  CRITICAL  postgres.ready (postgres): connection to",
        "            next: docker compose logs --tail 100 postgres; docker compose ps postgres",
        "  WARNING   tls.served (nginx:443): pynomaly.example.org until 2026-12-04",
        "  UNKNOWN   redis.memory (redis-cluster): no answer within the deadline",
        "  waived    logs.errors (prometheus), warning, until 2026-12-31: noise until",
        "  skipped   postgres.connections (not measured: postgres.ready is critical)",
        "  call      On-call +1 555 0100; Operations ops@pynomaly.com",
        "  escalate  1. On-call engineer +1 555 0100; 2. Senior engineer",
    ):
        assert expected in table, expected
    troubles = re.findall(r"^  (CRITICAL|WARNING|UNKNOWN)", table, re.MULTILINE)
    assert troubles == ["CRITICAL", "CRITICAL", "WARNING", "WARNING", "UNKNOWN"]


def test_hosts_in_trouble_come_first_and_hide_no_other() -> None:
    table = text("healthy", "unreachable", "troubled", "failed", "missing")
    heads = re.findall(r"^(\w+)  (?:CRITICAL|OK)", table, re.MULTILINE)
    assert heads == ["unreachable", "troubled", "failed", "missing", "healthy"]
    assert "not reachable by SSH: ssh: connect to host 10.0.0.9 port 22" in table


def test_people_are_called_for_a_critical_only() -> None:
    assert "call" not in text("healthy")
    assert "escalate" in text("unreachable")
    assert "escalate" not in text("unreachable", contacts=[], escalation=[])


def test_lines_fit_but_commands_are_never_broken() -> None:
    for names in (("healthy", "troubled", "unreachable", "failed"), ("hostile",)):
        long = [line.text for line in render_table(sample(*names)) if len(line.text) > WIDTH]
        assert all("next: " in line or line.startswith(" " * 18) for line in long), long


def test_a_long_hint_is_parted_between_its_commands() -> None:
    report = sample("troubled")
    first = "docker compose logs --tail 100 " + "a" * 50
    report["hosts"][0]["results"][0].update(status="critical", hint=f"{first}; docker compose ps")
    lines = [line.text for line in render_table(report)]
    at = lines.index(f"            next: {first}")
    assert lines[at + 1] == "                  docker compose ps"


def test_nothing_can_steer_the_terminal() -> None:
    table = text("hostile")
    assert "\x1b" not in table
    assert "\u202e" not in table
    assert "\\x1b[31mred" in table
    assert "x" * 200 not in re.sub(r"next: .*|^ {18}.*", "", table, flags=re.MULTILINE)


def test_colours_follow_the_status() -> None:
    lines = render_table(sample("troubled"))
    assert lines[0].status == "critical"
    for line in lines:
        head = line.text.strip().split(" ")[0]
        if head in ("WARNING", "UNKNOWN", "CRITICAL"):
            assert line.status == head.lower()
        if "next: " in line.text:
            assert line.status is None


def test_paths_end_the_table_whole() -> None:
    path = "/a" * 80 + "/daily_check.html"
    assert render_table(sample("healthy"), [path])[-1].text == f"  report    {path}"
