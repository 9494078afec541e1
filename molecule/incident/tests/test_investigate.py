# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Evidence of a server under attack, and what its logs say of the attacker, by playbook."""

from __future__ import annotations

import json
import os
import re
import subprocess
from typing import Any

import pytest
from conftest import OWN_SETTINGS, Operator, Server, connect, in_whole_matrix

pytestmark = in_whole_matrix

STATE = "/var/lib/pynomaly-ops"
BUNDLES = f"{STATE}/evidence"
LOGIN_SECRET = "canary-login-7d21"

#: What a look at the server may not change.
FINGERPRINTS = (
    "docker inspect --format '{{.Id}} {{.State.StartedAt}} {{.RestartCount}} "
    "{{json .NetworkSettings.Networks}}' $(docker ps --all --quiet) | sort",
    "nft list ruleset | grep -v counter",
    "find /etc /opt /usr/local -xdev -type f -not -name '*.pyc' -printf '%p %s %T@ %m\\n' | sort",
)


def fingerprint(server: Server) -> list[str]:
    return [server.run(f"{command} || true") for command in FINGERPRINTS]


def address(server: Server) -> str:
    """Its address on the lab's network."""
    (found,) = re.findall(r"inet ([0-9.]+)/", server.run("ip -4 -o address show dev eth0"))
    return str(found)


def bundles(server: Server) -> list[str]:
    return server.run(f"ls -d {BUNDLES}/*/ 2>/dev/null || true").split()


def report(operator: Operator) -> dict[str, Any]:
    (entry,) = json.loads((operator.folder / "incident_investigate-latest.json").read_text())[
        "hosts"
    ]
    return dict(entry)


def said(output: str) -> str:
    return " ".join(output.replace('\\"', '"').split())


def verified(node: str, path: str, head: str) -> tuple[int, str]:
    """What module C{incident_evidence} says of a bundle."""
    arguments = {
        "state": "verified",
        "path": path,
        "head": head,
        "operation": "incident_investigate",
        "project": "pynomaly",
        "run": {"run_id": "test", "user": "tester", "controller": "here"},
    }
    done = subprocess.run(
        ["ansible", node, "-m", "pynomaly.ops.incident_evidence", "-a", json.dumps(arguments)],
        env={**os.environ, **OWN_SETTINGS},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def hostile() -> Server:
    return connect("node2")


@pytest.fixture(scope="module")
def attacked(server: Server, hostile: Server) -> str:
    """The address of a client that scans, injects, and guesses passwords."""
    server.wait_until_healthy()
    script = (
        "import ssl, sys, urllib.error, urllib.parse, urllib.request as r\n"
        "context = ssl._create_unverified_context()\n"
        "paths = [f'/admin{n}.php' for n in range(40)] + ['/.env', '/.git/config']\n"
        "paths += ['/api/v1/detect?id=' + urllib.parse.quote(\"1' OR '1'='1\")] * 5\n"
        f"paths += ['/login?password={LOGIN_SECRET}']\n"
        "for path in paths:\n"
        "    try: r.urlopen(f'https://{sys.argv[1]}{path}', timeout=3, context=context).read()\n"
        "    except urllib.error.HTTPError: pass\n"
    )
    hostile.run("python3 -c %s %s", script, address(server))
    return address(hostile)


@pytest.fixture(scope="module")
def told(operator: Operator, server: Server, attacked: str) -> dict[str, Any]:  # noqa: ARG001
    """What the report says of a whole bundle, gathered once, while somebody holds the lock."""
    before = fingerprint(server)
    server.run(f"test -e {STATE}/lock.json || printf x > {STATE}/lock.json")
    try:
        ran = operator.well("incident_investigate", since="1h")
    finally:
        server.run(f"rm {STATE}/lock.json")
    assert LOGIN_SECRET not in ran.output
    assert fingerprint(server) == before
    return report(operator)


@pytest.fixture(scope="module")
def bundle(told: dict[str, Any]) -> str:
    return sealed(told)[0]


def sealed(entry: dict[str, Any]) -> tuple[str, str]:
    """(folder, head of the chain of custody) of the bundle that a report tells of."""
    (result,) = [one for one in entry["results"] if one["id"] == "evidence.bundle"]
    found = re.match(r"(/\S+): .* sealed by ([0-9a-f]{64})$", result["message"])
    assert found is not None, result
    return found.group(1), found.group(2)


def test_the_bundle_is_whole_and_nobody_elses_business(server: Server, bundle: str) -> None:
    server.run(f"cd {bundle} && sha256sum --check --strict --quiet SHA256SUMS")
    assert server.run(f"find {BUNDLES} -type d -not -perm 700 -o -type f -not -perm 600") == ""
    assert server.run(f"find {STATE} -name '.partial-*'") == ""
    index = json.loads(server.run(f"cat {bundle}/evidence.json"))
    left = [one for one in index["sources"] if one["status"] in ("cut", "failed")]
    assert left == []
    services = server.compose("config --services").split()
    for service in services:
        name = server.run(
            "docker inspect --format '{{slice .Name 1}}' " + server.container(service)
        )
        for file in ("inspect.json", "image.json", "processes.json", "diff.txt", "top.txt"):
            server.run(f"test -s {bundle}/containers/{name}/{file}")
    for file in (
        *("postgres/activity.json", "postgres/roles.json", "postgres/role_changes.json"),
        *("redis/clients.txt", "redis/acl.txt", "host/nftables.txt", "host/logged_in.txt"),
        *("host/cron.txt", "host/listening.txt", "host/ssh_log.txt", "docker/events.jsonl"),
    ):
        server.run(f"test -s {bundle}/{file}")
    # The connection that this very test came over.
    listening = server.run(f"cat {bundle}/host/listening.txt")
    assert re.search(r"^tcp\S*\t\S+\t22\t", listening, re.MULTILINE)
    assert "Accepted publickey" in server.run(f"cat {bundle}/host/ssh_log.txt")


def test_no_secret_is_in_it(operator: Operator, server: Server, bundle: str) -> None:
    for secret in (*operator.secrets, LOGIN_SECRET):
        assert server.run(f"grep -rlF -e %s {bundle} || true", secret) == ""
    assert "SCRAM-SHA-256$" not in server.run(f"cat {bundle}/postgres/*")
    assert server.run(f"grep -c '<redacted:' {bundle}/containers/*/inspect.json | grep -v ':0$'")
    told = json.loads(server.run(f"cat {bundle}/redactions.json"))
    assert told["not_known_because_unreadable"] == []


def test_the_logs_tell_who_it_was(
    told: dict[str, Any], server: Server, bundle: str, attacked: str
) -> None:
    log = server.run(f"cat {bundle}/logs/nginx.1.log")
    assert f"{attacked} " in log and "/admin39.php" in log
    assert attacked in json.dumps(told["tables"])
    titles = [one["title"] for one in told["tables"]]
    assert "Files of the evidence" in titles and len(titles) == len(set(titles))
    statuses = {one["id"]: one["status"] for one in told["results"]}
    assert statuses["evidence.bundle"] == "ok", told["results"]


def test_the_summary_can_be_handed_on(operator: Operator, server: Server, attacked: str) -> None:
    ran = operator.well(
        "incident_investigate", evidence="quick", addresses=attacked, services="nginx"
    )
    handed = re.search(r"incident_contain -e block=([0-9a-f.:/,]+)", said(ran.output))
    assert handed is not None, ran.output
    assert attacked in handed.group(1).split(",")
    newest = bundles(server)[-1]
    assert server.run(f"ls {newest}/logs").split() == ["index.json", "nginx.1.log"]


def test_a_flipped_byte_is_found(told: dict[str, Any], server: Server, node: str) -> None:
    bundle, head = sealed(told)
    assert verified(node, bundle, head)[0] == 0
    code, output = verified(node, bundle, "0" * 64)
    assert code and "the chain of custody ends in" in output
    copy = "/root/copied-evidence"
    server.run(f"rm -rf {copy} && cp -a {bundle} {copy}")
    server.run(f"printf x | dd of={copy}/logs/nginx.1.log bs=1 seek=100 conv=notrunc status=none")
    code, output = verified(node, copy, head)
    server.run(f"rm -rf {copy}")
    assert code and "logs/nginx.1.log differs from its SHA-256" in output


def test_check_mode_writes_nothing(operator: Operator, server: Server) -> None:
    known = bundles(server)
    ran = operator.well("incident_investigate", "--check")
    assert "sources would be asked" in said(ran.output)
    assert bundles(server) == known


def test_what_makes_no_sense_is_refused(operator: Operator, server: Server) -> None:
    known = bundles(server)
    for given, expected in (
        ({"incident": "no-such-incident"}, "no-such-incident"),
        ({"evidence": "none"}, "expected: full or quick"),
        ({"since": "soon"}, "soon"),
        ({"services": "no-such-service"}, "no-such-service"),
    ):
        ran = operator.run("incident_investigate", **given)
        assert ran.exit_code == 2 and expected in said(ran.output), ran.output
    assert bundles(server) == known
