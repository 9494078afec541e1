# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A stack of somebody else's, without nginx: it takes its project's name and the word, no more."""

from __future__ import annotations

import pytest
from conftest import CANARY, Operator, Server, connect
from scenario import (
    containers,
    databases,
    ids,
    journal,
    new_orders,
    order,
    orders,
    said,
    whole_files,
)

CONTAINER = "pynomaly-postgres"
NAME = "somebody"


@pytest.fixture(scope="module")
def theirs() -> Server:
    server = connect("node2")
    new_orders(server, 500, CONTAINER)
    return server


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory, theirs: Server) -> Operator:
    """Who runs playbooks on it, and looks for its secrets in all that is printed."""
    assert CANARY in theirs.run("cat /srv/somebody/.env")
    folder = tmp_path_factory.mktemp("stranger")
    return Operator(folder, "node2", [CANARY], pynomaly_project_name=NAME)


def files(server: Server) -> str:
    return server.run("find /srv/somebody -printf '%p %m %u %s %T@\\n' | sort")


def test_backed_up_proved_restored_and_rolled_back(theirs: Server, stranger: Operator) -> None:
    before, states = files(theirs), containers(theirs)
    assert CONTAINER in "".join(states)
    first = orders(theirs, container=CONTAINER)

    stranger.well("backup", "-vvv")
    newest = ids(theirs)[0]
    assert newest.startswith(f"{NAME}-")
    assert "globals.sql" in whole_files(theirs, f"/backups/database/{newest}")
    members = theirs.run(f"tar -tzf /backups/config/{newest}/archive.tar.gz")
    for name in ("docker-compose.simple.yml", ".env", "prometheus.yml"):
        assert name in members
    proved = stranger.well("backup_verify", "-vvv")
    assert f"database backup {newest}: restored, and found equal" in said(proved)

    order(theirs, "since", CONTAINER)
    since = orders(theirs, container=CONTAINER)
    ran = stranger.well("restore", "-vvv", confirm=f"restore:{NAME}")
    assert orders(theirs, container=CONTAINER) == first
    assert "maintenance page not shown" in said(ran)
    assert "no maintenance page:" in said(ran)
    assert "nginx" in said(ran)
    assert theirs.run(
        "curl --silent --fail --max-time 10 http://127.0.0.1:8000/api/v1/detections?limit=1"
    )
    stranger.well("restore_rollback", confirm=f"restore_rollback:{NAME}")
    assert orders(theirs, container=CONTAINER) == since
    assert len([one for one in databases(theirs, CONTAINER) if "_before_" in one]) == 1

    assert files(theirs) == before, "its files are theirs"
    assert containers(theirs) == states
    told = [(one["operation"], one["event"]) for one in journal(theirs) if one["project"] == NAME]
    assert told[-1] == ("restore_rollback", "finished")
    assert ("restore", "finished") in told
    assert CANARY not in theirs.run("cat /var/lib/pynomaly-ops/journal.jsonl")
