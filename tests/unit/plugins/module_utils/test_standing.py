# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What status and the daily check tell of incidents and blocks."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._blocklist import Block, Wanted, encode
from ansible_collections.pynomaly.ops.plugins.module_utils._catalogue import CATALOGUE
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.incident_store import (
    IncidentStore,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.incidents import Incidents
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.standing import (
    measure,
    read_standing,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._incident import BLOCK, Measure
from ansible_collections.pynomaly.ops.plugins.module_utils._operation import RunIdentity
from ansible_collections.pynomaly.ops.plugins.module_utils._operation_text import standing_lines
from ansible_collections.pynomaly.ops.plugins.module_utils._probe import Policy, Target, result
from ansible_collections.pynomaly.ops.plugins.module_utils._utc import utc_text

NOW = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
HOUR = datetime.timedelta(hours=1)
TARGET = Target("operation.incidents", "project")


def status_of(state_dir: Path) -> tuple[str, str]:
    measurement = measure(TARGET, str(state_dir), "pynomaly")
    told = result(measurement, Policy(CATALOGUE), NOW.date())
    return str(told["status"]), str(told["message"])


def open_one(state_dir: Path, project: str = "pynomaly") -> str:
    identity = RunIdentity("4f3c9a1b", "anna", "control")
    incidents = Incidents(IncidentStore(str(state_dir)), identity, project)
    return str(incidents.open("", "scanning", [Measure(BLOCK, "203.0.113.7")])["id"])


def block_some(state_dir: Path, *ends: datetime.timedelta) -> None:
    networks = [ipaddress.ip_network(f"203.0.113.{number}") for number in range(len(ends))]
    blocks = [
        Block(network, until=NOW + end, since=NOW, reason="x")
        for network, end in zip(networks, ends)
    ]
    (state_dir / "blocklist.json").write_text(encode(Wanted(blocks, "nftables")))


def test_an_open_incident_warns_until_it_is_closed(tmp_path: Path) -> None:
    assert status_of(tmp_path) == ("ok", "no incident is open")
    identifier = open_one(tmp_path)
    open_one(tmp_path, "somebody")
    status, message = status_of(tmp_path)
    assert status == "warning"
    assert message.startswith(f"open: incident {identifier} of pynomaly since ")
    assert message.endswith("(scanning), contained by block 203.0.113.7")
    assert "somebody" not in message
    incidents = Incidents(
        IncidentStore(str(tmp_path)), RunIdentity("b", "ben", "control"), "pynomaly"
    )
    incidents.close("", "over", released=[Measure(BLOCK, "203.0.113.7")])
    assert status_of(tmp_path) == ("ok", "no incident is open")


def test_blocks_are_told_while_they_last(tmp_path: Path) -> None:
    block_some(tmp_path, HOUR, -HOUR, 3 * HOUR, 2 * HOUR, HOUR, HOUR)
    status, message = status_of(tmp_path)
    assert status == "ok"
    last = f"{NOW + 3 * HOUR:%Y-%m-%d %H:%M:%S} UTC"
    assert message == (
        "no incident is open; blocked: 203.0.113.0, 203.0.113.2, 203.0.113.3 and 2 more until "
        + last
    )


def test_one_that_awaits_its_confirmation_ends_with_it(tmp_path: Path) -> None:
    network = ipaddress.ip_network("203.0.113.7")
    block = Block(network, until=NOW + HOUR, since=NOW, confirm_by=NOW - HOUR)
    (tmp_path / "blocklist.json").write_text(encode(Wanted([block], "nftables")))
    assert read_standing(str(tmp_path), NOW).blocks == []


@pytest.mark.parametrize("text", ["{", "[]", '{"status": "open"}', '{"blocks": [{"network": 1}]}'])
def test_what_cannot_be_read_is_told(tmp_path: Path, text: str) -> None:
    folder = tmp_path / "incidents" / "x"
    folder.mkdir(parents=True)
    (folder / "incident.json").write_text(text)
    (tmp_path / "blocklist.json").write_text(text)
    standing = read_standing(str(tmp_path), NOW)
    assert [one.partition(":")[0] for one in standing.problems] == [
        str(folder / "incident.json"),
        str(tmp_path / "blocklist.json"),
    ]
    status, message = status_of(tmp_path)
    assert status == "unknown"
    assert "blocklist.json" in message


def test_the_status_says_how_to_release(tmp_path: Path) -> None:
    identifier = open_one(tmp_path)
    block_some(tmp_path, HOUR)
    standing = read_standing(str(tmp_path), NOW)
    lines = standing_lines(
        {
            "lock": None,
            "open_temporary_states": [],
            "damaged_lines": [],
            "journal_path": "",
            "host_time": utc_text(NOW),
            "open_incidents": standing.incidents,
            "blocks": standing.blocks,
            "unreadable": ["x: no incident"],
        }
    )
    assert lines[1].endswith(
        f"release: ansible-playbook pynomaly.ops.incident_release -e incident={identifier}"
    )
    assert lines[2].startswith("blocked: 203.0.113.0 until ")
    assert lines[2].endswith("all of them: ansible-playbook pynomaly.ops.blocklist")
    assert lines[3] == "cannot be read: x: no incident"
