# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An incident from the first block to its end, as who is on call runs it and as others see it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from conftest import Check, Operator, Server, connect

STATE = "/var/lib/pynomaly-ops"
INCIDENTS = f"{STATE}/incidents"
REASON = "scanning for a|b `c` <d>"

#: What a refused run may not change, each as one command whose output stays the same.
FINGERPRINTS = (
    "nft list ruleset | grep -v counter | sed -E 's/ expires [0-9a-z]+//g'",
    "iptables-save 2>/dev/null | grep -v '^[#:]'; ip6tables-save 2>/dev/null | grep -v '^[#:]'",
    "docker inspect --format '{{.Id}} {{.State.StartedAt}} {{json .NetworkSettings.Networks}}' "
    "$(docker ps --all --quiet) | sort",
    "find /etc /opt /usr/local /var/lib/pynomaly-ops -xdev -type f -not -name 'journal.jsonl' "
    "-not -name '*.pyc' -not -path '*/textfile/*' -printf '%p %s %T@ %m\\n' | sort",
)


@pytest.fixture(scope="module", autouse=True)
def no_incident_before(server: Server) -> None:
    """The closed ones of other tests."""
    server.run(f"rm -rf {INCIDENTS}")


@pytest.fixture(scope="module")
def hostile() -> Server:
    return connect("node2")


@pytest.fixture(scope="module")
def bystander() -> Server:
    return connect("node3")


def address(server: Server) -> str:
    """Its address on the lab's network."""
    (found,) = re.findall(r"inet ([0-9.]+)/", server.run("ip -4 -o address show dev eth0"))
    return str(found)


def status(client: Server, server: Server, path: str = "/api/v1/detections?limit=1") -> int:
    """HTTP status of the service as a client sees it; 0 where there is no answer in 3 seconds."""
    script = (
        "import ssl, sys, urllib.error, urllib.request as r\n"
        "context = ssl._create_unverified_context()\n"
        "try: print(r.urlopen(sys.argv[1], timeout=3, context=context).status)\n"
        "except urllib.error.HTTPError as error: print(error.code)\n"
        "except OSError: print(0)\n"
    )
    return int(client.run("python3 -c %s %s", script, f"https://{address(server)}{path}"))


def reaches_ssh(client: Server, server: Server) -> bool:
    script = (
        "import socket, sys\n"
        "try: print(socket.create_connection((sys.argv[1], 22), 3).recv(3).decode())\n"
        "except OSError: print('none')\n"
    )
    return client.run("python3 -c %s %s", script, address(server)) == "SSH"


def fingerprint(server: Server) -> list[str]:
    return [server.run(f"{command} || true") for command in FINGERPRINTS]


def incidents(server: Server) -> list[str]:
    return server.run(f"ls {INCIDENTS} 2>/dev/null || true").split()


def incident(server: Server, identifier: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(server.run(f"cat {INCIDENTS}/{identifier}/incident.json"))
    return found


def timeline(server: Server, identifier: str) -> list[dict[str, str]]:
    lines = server.run(f"cat {INCIDENTS}/{identifier}/timeline.jsonl").splitlines()
    return [json.loads(line) for line in lines]


def evidence(server: Server, identifier: str) -> list[str]:
    return server.run(f"ls -d {INCIDENTS}/{identifier}/evidence/*/ || true").split()


def journal(server: Server) -> list[dict[str, Any]]:
    return [json.loads(line) for line in server.run(f"cat {STATE}/journal.jsonl").splitlines()]


def report(operator: Operator, kind: str) -> dict[str, Any]:
    """The one host's entry in the newest report."""
    (entry,) = json.loads((operator.folder / f"{kind}-latest.json").read_text())["hosts"]
    return dict(entry)


def said(output: str) -> str:
    """What was printed, without the quotes and breaks of Ansible's own making."""
    return " ".join(output.replace('\\"', '"').split())


@pytest.fixture(scope="module")
def identifier(server: Server) -> str:
    """The incident that the tests in the middle are about."""
    (found,) = incidents(server)
    return found


def test_1_what_is_refused_changes_nothing_and_opens_nothing(
    operator: Operator, server: Server, hostile: Server
) -> None:
    server.wait_until_healthy()
    before = fingerprint(server)
    own, attacker = address(server), address(hostile)
    client = server.run("echo ${SSH_CONNECTION%% *}")
    refusals: list[tuple[dict[str, Any], list[str]]] = [
        ({}, ["neither block nor maintenance nor isolate"]),
        (
            {"block": f"127.0.0.1,0.0.0.0/0,nonsense,{own},{client},{attacker}"},
            ["127.0.0.1 is loopback", "0.0.0.0/0 is wider", "nonsense", own, client],
        ),
        ({"block": attacker, "isolate": "no-such-service"}, ["no-such-service"]),
        ({"block": attacker, "for": "soon"}, ["soon"]),
        ({"block": attacker, "maintenance": "perhaps"}, ["perhaps"]),
        ({"block": attacker, "incident": "no-such-incident"}, ["no-such-incident"]),
        ({"block": attacker, "incident": "../../etc"}, ["../../etc"]),
    ]
    for given, expected in refusals:
        ran = operator.run("incident_contain", **given)
        assert ran.exit_code == 2, ran.output
        for text in expected:
            assert text in said(ran.output), (given, ran.output)
        assert attacker not in server.run("nft list ruleset")
        assert incidents(server) == []
        (result,) = report(operator, "incident_contain")["results"]
        assert (result["id"], result["status"]) == ("incident.failed", "critical")
        assert expected[0] in result["message"]
        assert journal(server)[-1]["event"] == "failed"
    assert fingerprint(server) == before
    assert status(hostile, server) == 200


def test_2_check_mode_foretells_and_changes_nothing(
    operator: Operator, server: Server, hostile: Server
) -> None:
    before = fingerprint(server)
    ran = operator.well(
        "incident_contain",
        "--check",
        block=address(hostile),
        maintenance=True,
        isolate="prometheus",
    )
    assert f"would be blocked: {address(hostile)}" in said(ran.output)
    assert fingerprint(server) == before
    assert incidents(server) == []


def test_3_it_is_contained_with_evidence_first(
    operator: Operator, server: Server, hostile: Server, bystander: Server
) -> None:
    attacker, friend = address(hostile), address(bystander)
    given = {
        "block": f"{attacker}, 203.0.113.0/24",
        "for": "1h",
        "reason": REASON,
        "maintenance": "true",
        "isolate": "prometheus",
        "allow": friend,
    }
    processes = {name: server.pid(name) for name in ("prometheus", "nginx", "pynomaly-api")}
    assert status(hostile, server) == 200
    ran = operator.well("incident_contain", **given)
    assert ran.changed >= 1

    # From the outside: nothing at all, the page, the service.
    assert status(hostile, server) == 0
    assert not reaches_ssh(hostile, server)
    assert status(bystander, server) == 200
    assert reaches_ssh(bystander, server)
    assert status(server, server) == 503
    assert status(server, server, "/health") == 200
    networks = "docker inspect --format '{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} "
    networks += "{{end}}' " + server.container("prometheus")
    assert server.run(networks) == "none"
    assert {name: server.pid(name) for name in processes} == processes

    # From the inside: one incident, with its evidence sealed before anything was touched.
    (identifier,) = incidents(server)
    told = incident(server, identifier)
    assert (told["status"], told["reason"], told["project"]) == ("open", REASON, "pynomaly")
    assert [(one["kind"], one["target"]) for one in told["measures"]] == [
        ("block", attacker),
        ("block", "203.0.113.0/24"),
        ("isolation", "prometheus"),
        ("maintenance", ""),
    ]
    entries = timeline(server, identifier)
    assert [one["event"] for one in entries] == [
        *("opened", "evidence", "block", "maintenance", "isolation")
    ]
    assert {one["outcome"] for one in entries} == {"done"}
    (folder,) = evidence(server, identifier)
    server.run(f"cd {folder} && sha256sum --check --strict --quiet SHA256SUMS")
    custody = [json.loads(line) for line in server.run(f"cat {folder}/custody.jsonl").splitlines()]
    sealed = max(one["time"] for one in custody)
    blocks = json.loads(server.run(f"cat {STATE}/blocklist.json"))["blocks"]
    opened = [one["time"] for one in journal(server) if one["event"] == "temporary_opened"]
    assert sealed <= min(one["since"] for one in blocks)
    assert sealed <= min(one for one in opened if one >= entries[0]["time"])
    for path in (f"{INCIDENTS}/{identifier}", folder):
        assert server.run(f"stat --format %a {path}") == "700"
    open_to_others = f"find {INCIDENTS} \\( -type f -perm /077 -o -type d -perm /077 \\) -print"
    assert server.run(open_to_others) == ""


def test_4_the_report_tells_all_of_it_in_every_form(
    operator: Operator, server: Server, hostile: Server, identifier: str
) -> None:
    entry = report(operator, "incident_contain")
    assert entry["status"] in ("ok", "warning"), entry["results"]
    tables = {one["title"]: one for one in entry["tables"]}
    for title in (
        "Next steps",
        "Timeline",
        "Commands",
        "Evidence folders",
        "Open temporary states",
    ):
        assert tables[title]["rows"], title
    blocked = [row[0] for row in tables["Blocked addresses"]["rows"]]
    assert address(hostile) in blocked
    (command,) = [row[2] for row in tables["Commands"]["rows"]]
    assert command.startswith("ansible-playbook pynomaly.ops.incident_contain -e ")
    assert f"block={address(hostile)},203.0.113.0/24" in command
    states = [row[0] for row in tables["Open temporary states"]["rows"]]
    assert {"maintenance_page", "container_isolation"} <= set(states)
    assert any("incident_release" in row[1] for row in tables["Next steps"]["rows"])
    markdown = (operator.folder / "incident_contain-latest.md").read_text()
    page = (operator.folder / "incident_contain-latest.html").read_text()
    for text in ("Timeline", "Evidence", identifier, evidence(server, identifier)[0].rstrip("/")):
        assert text in markdown
        assert text in page
    assert "<d>" not in page
    for path in operator.folder.glob("incident_*"):
        assert not [secret for secret in operator.secrets if secret in path.read_text()]


def test_5_the_same_once_more_changes_nothing(
    operator: Operator, server: Server, hostile: Server, bystander: Server, identifier: str
) -> None:
    given = {
        "block": [address(hostile), "203.0.113.0/24"],
        "for": "1h",
        "reason": REASON,
        "maintenance": True,
        "isolate": "prometheus",
        "allow": [address(bystander)],
    }
    before = fingerprint(server)
    ran = operator.well("incident_contain", **given)
    assert ran.changed == 0
    assert fingerprint(server) == before
    assert incidents(server) == [identifier]
    assert len(evidence(server, identifier)) == 1


def test_6_status_and_the_daily_check_tell_of_it(
    operator: Operator, check: Check, hostile: Server, identifier: str
) -> None:
    shown = said(operator.well("status").output)
    assert f"incident {identifier} of pynomaly" in shown
    assert f"incident_release -e incident={identifier}" in shown
    assert f"blocked: {address(hostile)}" in shown or "203.0.113.0/24" in shown
    listed = said(operator.well("blocklist").output)
    assert address(hostile) in listed
    assert identifier in listed
    found = {one["id"]: one for one in check.run()["results"]}
    assert found["operation.incidents"]["status"] == "warning"
    assert identifier in found["operation.incidents"]["message"]
    assert found["operation.temporary_states"]["status"] == "ok"
    left = operator.well("resume")
    assert left.changed == 0


def test_7_a_later_run_adds_to_the_open_incident(
    operator: Operator, server: Server, identifier: str
) -> None:
    ran = operator.well("incident_contain", block="2001:db8::/48", evidence="quick")
    assert ran.changed >= 1
    assert incidents(server) == [identifier]
    targets = [one["target"] for one in incident(server, identifier)["measures"]]
    assert "2001:db8::/48" in targets
    assert len(evidence(server, identifier)) == 2
    blocks = json.loads(server.run(f"cat {STATE}/blocklist.json"))["blocks"]
    assert {one["incident"] for one in blocks} == {identifier}


def test_8_what_is_named_is_released_and_the_rest_stays(
    operator: Operator, server: Server, hostile: Server, identifier: str
) -> None:
    ran = operator.well("incident_release", isolate="prometheus")
    assert ran.changed >= 1
    networks = "docker inspect --format '{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} "
    networks += "{{end}}' " + server.container("prometheus")
    assert server.run(networks) == "pynomaly_back pynomaly_front"
    assert status(hostile, server) == 0
    told = incident(server, identifier)
    assert told["status"] == "open"
    assert "isolation" not in {one["kind"] for one in told["measures"]}
    assert operator.well("incident_release", isolate="prometheus").changed == 0
    refused = operator.run("incident_release", maintenance=False)
    assert refused.exit_code == 2
    assert "to release everything" in said(refused.output)
    assert status(server, server) == 503


def test_9_everything_is_released_and_the_incident_is_over(
    operator: Operator, server: Server, hostile: Server, check: Check, identifier: str
) -> None:
    foretold = operator.well("incident_release", "--check")
    assert f"would be released: {address(hostile)}" in said(foretold.output)
    assert status(hostile, server) == 0
    ran = operator.well("incident_release", reason="false alarm")
    assert ran.changed >= 1
    assert status(hostile, server) == 200
    assert reaches_ssh(hostile, server)
    assert status(server, server) == 200
    assert server.run(f"ls {STATE}/blocklist.json 2>/dev/null || true") == ""
    told = incident(server, identifier)
    assert (told["status"], told["measures"]) == ("closed", [])
    assert told["closed_by"]
    last = timeline(server, identifier)[-1]
    assert (last["event"], last["what"]) == ("closed", "false alarm")
    assert report(operator, "incident_release")["status"] == "ok"
    assert (operator.folder / "incident_release-latest.html").exists()

    assert operator.well("incident_release").changed == 0
    late = operator.run("incident_contain", block="203.0.113.9", incident=identifier)
    assert late.exit_code == 2
    assert "closed at" in said(late.output)
    history = said(operator.well("history", history_limit=50).output)
    for operation in ("incident_contain", "incident_release"):
        assert operation in history
    assert "undo: ansible-playbook pynomaly.ops.incident_release" in history
    server.wait_until_healthy()
    found = {one["id"]: one for one in check.run()["results"]}
    assert found["operation.incidents"]["status"] == "ok"
    assert found["operation.temporary_states"]["status"] == "ok"
