# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Backups are made whole, listed, proved, thinned out, and encrypted."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from conftest import Check, Operator, Server
from scenario import (
    fingerprint,
    ids,
    journal,
    listening,
    manifest,
    new_orders,
    order,
    said,
    verification,
    whole_files,
)

ROWS = 2000
#: Where a private key would be found, had somebody written it down.
PLACES = "/backups /etc /opt /root /run /tmp /usr/local /var/lib/pynomaly-ops /var/log /var/tmp"


@pytest.fixture(scope="module", autouse=True)
def stack(server: Server) -> None:
    """A database with rows, and an artifact of a model."""
    server.wait_until_healthy()
    server.run("rm -rf /backups/*")
    new_orders(server, ROWS)
    api = server.container("pynomaly-api")
    server.run(f"docker exec {api} sh -c 'echo weights > /app/models/lab.model'")


@pytest.fixture(scope="module")
def first(operator: Operator, server: Server) -> str:
    """The id of a backup of everything."""
    ran = operator.well("backup")
    identifier = ids(server)[0]
    assert identifier in ran.output
    return identifier


def metric(server: Server, name: str) -> dict[str, Any]:
    """What Prometheus knows of a metric of the database's backups."""
    path = f"query?query={name}%7Bkind=%22database%22%7D"
    answer = server.run(f"curl --silent --fail --max-time 10 'http://127.0.0.1:9090/api/v1/{path}'")
    found: list[dict[str, Any]] = json.loads(answer)["data"]["result"]
    return found[0] if found else {}


def backup_probes(check: Check, **variables: Any) -> dict[str, Any]:
    """The statuses of the daily check's probes of backups, by id, with the whole entry."""
    entry = check.run(pynomaly_probes=["backup.*"], **variables)
    statuses = {
        one["id"]: one["status"] for one in entry["results"] if one["id"].startswith("backup.")
    }
    return {**statuses, "entry": entry}


def test_each_kind_is_whole(operator: Operator, server: Server, first: str) -> None:
    for kind in ("database", "config", "models"):
        assert first in ids(server, kind)
    files = whole_files(server, f"/backups/database/{first}")
    assert "globals.sql" in files
    assert "dump/toc.dat" in files
    content = manifest(server, first)["content"]
    assert content["tables"]["shop.orders"]["rows"] == ROWS

    assert whole_files(server, f"/backups/config/{first}") == ["archive.tar.gz"]
    members = server.run(f"tar -tzf /backups/config/{first}/archive.tar.gz")
    for name in ("compose.yaml", ".env", "nginx.conf", "prometheus.yml"):
        assert re.search(rf"/{re.escape(name)}$", members, re.MULTILINE), members
    assert whole_files(server, f"/backups/models/{first}") == ["archive.tar.gz"]
    assert "lab.model" in server.run(f"tar -tzf /backups/models/{first}/archive.tar.gz")

    assert server.run("find /backups -type d -not -perm 0700") == ""
    assert server.run("find /backups -type f -not -perm 0600") == ""
    assert server.run("find /backups -name '.staging-*'") == ""
    assert server.run("docker ps --all --quiet --filter label=ops.pynomaly.helper") == ""

    last = journal(server)[-1]
    assert (last["event"], last["operation"], last["changed"]) == ("finished", "backup", True)
    assert {kind: one["id"] for kind, one in last["details"].items()} == dict.fromkeys(
        ("database", "config", "models"), first
    )
    listed = said(operator.well("backup_list"))
    assert listed.count(first) == 3
    assert "never" in listed
    assert "PostgreSQL 17 and newer" in listed


def test_check_mode_makes_none(operator: Operator, server: Server, first: str) -> None:
    before = fingerprint(server)
    ran = operator.well("backup", "--check")
    assert fingerprint(server) ^ before == set()
    assert ids(server)[0] == first
    assert ran.changed >= 3, "it says what it would do"
    ran = operator.well("backup_verify", "--check")
    assert "would be looked at" in said(ran)
    assert fingerprint(server) ^ before == set()


def test_it_is_proved_by_a_restore(
    operator: Operator, server: Server, check: Check, first: str
) -> None:
    found = backup_probes(check)
    assert found["backup.age"] == "ok"
    assert found["backup.verified"] == "warning", "it was never restored"
    before = fingerprint(server)
    ran = operator.well("backup_verify", "-vvv")
    assert f"database backup {first}: restored, and found equal" in said(ran)
    full = verification(server, first)["full"]
    assert full["ok"]
    assert full["details"]["restored"]
    assert full["details"]["pg_amcheck"] == "ok"
    # The result beside the backup, the metrics, and what was done: no container, no row, no more.
    written = {line.split()[0] for line in fingerprint(server) ^ before}
    assert written <= {
        "/backups",
        f"/backups/database/{first}",
        f"/backups/database/{first}/verification.json",
        "/backups/database",
        "/var/lib/pynomaly-ops",
        "/var/lib/pynomaly-ops/journal.jsonl",
        "/var/lib/pynomaly-ops/textfile",
        "/var/lib/pynomaly-ops/textfile/pynomaly_backup_pynomaly.prom",
    }
    assert f"/backups/database/{first}/verification.json" in written
    listed = said(operator.well("backup_list"))
    assert re.search(rf"{first} [^,]{{,40}} restored PostgreSQL", listed), listed
    found = backup_probes(check)
    assert found["backup.verified"] == "ok"
    assert found["entry"]["exit_code"] == 0


def test_old_ones_go_and_the_newest_verified_one_stays(
    operator: Operator, server: Server, first: str
) -> None:
    order(server, "second")
    database_only: dict[str, Any] = {"pynomaly_backup_kinds": ["database"]}
    operator.well("backup", **database_only)
    second = ids(server)[0]
    assert ids(server) == [second, first]
    others = {"pynomaly_backup_keep_" + name: 0 for name in ("daily", "weekly", "monthly")}
    operator.well("backup", pynomaly_backup_keep_last=1, **others, **database_only)
    third = ids(server)[0]
    assert ids(server) == [third, first], "the newest verified one stays, the one between goes"
    assert ids(server, "config") == [first], "kinds that were not backed up lose nothing"
    whole_files(server, f"/backups/database/{first}")


def test_one_bit_is_found(operator: Operator, server: Server, check: Check, first: str) -> None:
    newest = ids(server)[0]
    assert newest != first
    path = f"/backups/database/{newest}/dump/toc.dat"
    flip = (
        "import sys; file = open(sys.argv[1], 'r+b'); file.seek(100); byte = file.read(1)[0]; "
        "file.seek(100); file.write(bytes([byte ^ 1]))"
    )
    server.run("python3 -c %s %s", flip, path)
    ran = operator.run("backup_verify", backup_verify_method="quick")
    assert ran.exit_code == 2
    assert f"backup {newest} is not good" in said(ran)
    assert "dump/toc.dat" in ran.output
    assert "pynomaly.ops.backup makes another" in said(ran)
    assert journal(server)[-1]["event"] == "failed"

    found = backup_probes(check)
    assert found["backup.damaged"] == "critical"
    assert found["entry"]["exit_code"] == 2
    assert newest in json.dumps(found["entry"]), "it names the one"

    # Nobody takes it from now on; flipped back by the same, another look at it clears the alarm.
    server.run("python3 -c %s %s", flip, path)
    ran = operator.well("backup_verify", backup_verify_method="quick", pynomaly_backup=newest)
    assert f"database backup {newest}: its checksums hold" in said(ran)
    assert backup_probes(check)["backup.damaged"] == "ok"


def test_configuration_is_proved_by_its_checksums(operator: Operator, first: str) -> None:
    ran = operator.well("backup_verify", backup_verify_kind="config", backup_verify_method="quick")
    assert f"config backup {first}: its checksums hold" in said(ran)


def test_encrypted_for_a_key_that_is_never_there(operator: Operator, server: Server) -> None:
    keys = server.run("age-keygen 2>/dev/null")
    (identity,) = re.findall(r"^AGE-SECRET-KEY-\S+$", keys, re.MULTILINE)
    (recipient,) = re.findall(r"\bage1[a-z0-9]+$", keys, re.MULTILINE)
    operator.secrets.add(identity)
    with listening(server) as heard:
        operator.well(
            "backup",
            "-vvv",
            pynomaly_backup_kinds=["database", "config"],
            pynomaly_backup_recipients=[recipient],
        )
        newest = ids(server)[0]
        refused = operator.run("backup_verify")
        operator.well("backup_verify", "-vvv", vault={"pynomaly_backup_identity": identity})
    files = whole_files(server, f"/backups/database/{newest}")
    assert files == ["dump.tar.age", "globals.sql.age"]
    for path in (f"database/{newest}/dump.tar.age", f"config/{newest}/archive.tar.gz.age"):
        assert server.run(f"head -c 18 /backups/{path}") == "age-encryption.org"
    assert manifest(server, newest)["encryption"]["recipients"] == [recipient]

    assert refused.exit_code == 2
    assert "is encrypted, and no private key was given" in said(refused)
    assert "give the key as pynomaly_backup_identity" in said(refused)
    assert verification(server, newest)["full"]["ok"]

    assert any("age" in command.split("/")[-1] for command in heard)
    assert not [command for command in heard if identity in command]
    assert server.run(f"grep -rlF {identity} {PLACES} 2>/dev/null || true") == ""


def test_prometheus_knows_when_a_backup_was_proved(server: Server) -> None:
    text = server.run("cat /var/lib/pynomaly-ops/textfile/pynomaly_backup_pynomaly.prom")
    (proved,) = re.findall(
        r'^pynomaly_backup_verified_timestamp_seconds\{[^}]*kind="database"\} ([0-9.]+)$',
        text,
        re.MULTILINE,
    )
    name = "pynomaly_backup_verified_timestamp_seconds"

    def scraped() -> bool:
        value = metric(server, name).get("value", [0, "0"])[1]
        return abs(float(value) - float(proved)) < 0.01

    server.wait_until("Prometheus knows of the proof", scraped, 60)
    assert metric(server, "pynomaly_backup_count")["value"][1] == str(len(ids(server)))
