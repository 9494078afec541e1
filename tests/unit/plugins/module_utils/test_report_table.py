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
    COMMAND,
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
        whole = re.compile(r".*next: | {18}|    [- ] \S")  # a hint, a step of one, a cell
        assert all(whole.match(line) for line in long), long


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
    copied = r"next: .*|^ {18}.*|^    [- ] (Command|Undo).*"
    rest = re.sub(copied, "", table, flags=re.MULTILINE)
    assert "x" * 200 not in rest
    assert max(map(len, rest.splitlines())) < 350


def told(*columns: str, rows: list[list[object]]) -> list[str]:
    """The lines of one table, without its title."""
    report = sample("incident")
    report["hosts"][0]["tables"] = [{"title": "Told", "columns": list(columns), "rows": rows}]
    lines = [line.text for line in render_table(report)]
    return lines[lines.index("  Told") + 1 :]


def test_a_table_stands_in_columns_where_it_fits() -> None:
    table = text("incident")
    for expected in (
        "\n\n  Blocked addresses\n    Network         Packets\n    203.0.113.7/32    54321\n"
        "    2001:db8::/48         7\n\n  Timeline\n",
        f"  anna@control  blocked 2 networks  {COMMAND}\n",
        "\n  Open temporary states\n    none",
    ):
        assert expected in table, table


def test_the_last_column_is_wrapped_unless_it_is_to_be_copied() -> None:
    words = " ".join(["word"] * 30)
    lines = told("Time", "What", rows=[["now", words], ["then", "x"]])
    assert lines == [
        "    Time  What",
        f"    now   {' '.join(['word'] * 18)}",
        f"          {' '.join(['word'] * 12)}",
        "    then  x",
    ]
    path = f"/{'x' * 120}"
    assert told("Time", "What", rows=[["now", f"in {path}"]])[1:] == [
        "    now   in",
        f"          {path}",
    ]
    assert told("Time", "Command", rows=[["now", words]]) == [
        "    Time  Command",
        f"    now   {words}",
    ]


def test_what_does_not_fit_beside_stands_below() -> None:
    lines = told("Time", "What", "Undo", rows=[["now", "y" * 80, COMMAND], ["then", None, ""]])
    assert lines == [
        "    - Time  now",
        f"      What  {'y' * 80}",
        f"      Undo  {COMMAND}",
        "    - Time  then",
    ]


def test_a_digest_is_told_by_its_beginning() -> None:
    assert told("SHA-256", rows=[["0a" * 32]]) == ["    SHA-256", f"    {'0a' * 8}..."]


def test_a_long_table_is_cut_and_says_so() -> None:
    report = sample("incident")
    report["hosts"][0]["tables"][0]["rows"] = [[f"10.0.0.{n}/32", n] for n in range(33)]
    table = "\n".join(line.text for line in render_table(report))
    assert "10.0.0.19/32" in table
    assert "10.0.0.20/32" not in table
    assert "\n    and 13 more rows; the report's HTML and JSON have them all\n" in table


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
