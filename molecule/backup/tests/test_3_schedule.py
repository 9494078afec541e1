# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The host's own timers make backups and prove them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from conftest import Operator, Ran, Server, run_playbook
from scenario import ids, journal, new_orders, said, verification, whole_files

if TYPE_CHECKING:
    from pathlib import Path

ROWS = 500
UNIT = "pynomaly-ops-pynomaly-backup"
SETTINGS = {"pynomaly_backup_kinds": ["database", "config"]}


@pytest.fixture(scope="module", autouse=True)
def rows(server: Server) -> None:
    new_orders(server, ROWS)


@pytest.fixture(scope="module")
def scheduled(operator: Operator, server: Server) -> Ran:
    before = ids(server)
    ran = operator.well("backup_schedule", **SETTINGS)
    assert ids(server) == before, "it only waits"
    return ran


def state(server: Server, unit: str, name: str) -> str:
    return server.run(f"systemctl show --property {name} --value {unit}")


def test_the_timers_wait(server: Server, scheduled: Ran) -> None:
    assert scheduled.changed > 0
    for unit in (f"{UNIT}.timer", f"{UNIT}-verify.timer"):
        assert state(server, unit, "ActiveState") == "active"
        assert state(server, unit, "UnitFileState") == "enabled"
        assert state(server, unit, "NextElapseUSecRealtime")
    assert server.run("stat --format %a /etc/pynomaly-ops/pynomaly.backup.json") == "600"


def test_a_second_run_changes_nothing(operator: Operator, scheduled: Ran) -> None:
    assert scheduled.changed
    assert operator.well("backup_schedule", **SETTINGS).changed == 0


def test_the_services_make_a_backup_and_prove_it(server: Server, scheduled: Ran) -> None:
    assert scheduled.changed
    before = ids(server)
    server.run(f"systemctl start {UNIT}.service")
    (made,) = set(ids(server)) - set(before)
    assert "globals.sql" in whole_files(server, f"/backups/database/{made}")
    assert made in ids(server, "config")
    last = journal(server)[-1]
    assert (last["operation"], last["event"], last["user"]) == (
        "backup",
        "finished",
        "the host's timer",
    )

    server.run(f"systemctl start {UNIT}-verify.service")
    full = verification(server, made)["full"]
    assert full["ok"]
    assert full["details"]["restored"]
    assert state(server, f"{UNIT}-verify.service", "ExecMainStatus") == "0"
    assert f"{made}: restored, and found equal" in server.run(
        f"journalctl --no-pager --quiet --unit {UNIT}-verify.service --lines 5"
    )
    metrics = server.run("cat /var/lib/pynomaly-ops/textfile/pynomaly_backup_pynomaly.prom")
    assert 'pynomaly_backup_verification_success{project="pynomaly",kind="database"} 1' in metrics


def test_it_waits_for_nobody(server: Server, scheduled: Ran, tmp_path: Path) -> None:
    """While another operation has the lock, it says so, and ends with the code for that."""
    assert scheduled.changed
    before = ids(server)
    role = "ansible.builtin.include_role"
    of_operation = {"name": "pynomaly.ops.operation"}
    start = {
        "name": "Start the backup",
        "ansible.builtin.command": {"argv": ["systemctl", "start", f"{UNIT}.service"]},
        "register": "started",
        "failed_when": "started.rc == 0",
    }
    play = {
        "hosts": "node1",
        "gather_facts": False,
        "vars": {"operation_name": "deploy"},
        "tasks": [
            {
                "block": [{role: {**of_operation, "tasks_from": "lock"}}, start],
                "always": [{role: {**of_operation, "tasks_from": "unlock"}}],
            }
        ],
    }
    (tmp_path / "play.yml").write_text(json.dumps([play]))
    code, output = run_playbook(str(tmp_path / "play.yml"))
    assert code == 0, output
    assert state(server, f"{UNIT}.service", "ExecMainStatus") == "75"
    assert ids(server) == before
    told = server.run(f"journalctl --no-pager --quiet --unit {UNIT}.service --lines 8")
    assert "deploy" in told
    assert "pynomaly_takeover" in told
    server.run(f"systemctl reset-failed {UNIT}.service")


def test_it_can_be_taken_away(operator: Operator, server: Server, scheduled: Ran) -> None:
    assert scheduled.changed
    ran = operator.well("backup_schedule", backup_schedule_backup="", backup_schedule_verify="")
    assert ran.changed > 0, said(ran)
    for unit in (f"{UNIT}.timer", f"{UNIT}-verify.timer", f"{UNIT}.service"):
        assert state(server, unit, "ActiveState") == "inactive"
        assert state(server, unit, "LoadState") == "not-found"
    assert server.run("systemctl list-timers --all --no-legend 'pynomaly-ops-*'") == ""
