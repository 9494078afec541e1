# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A restore: refused, foretold, tried, done under load, rolled back, killed, and done again."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from dataclasses import dataclass
from typing import Any

import pytest
from conftest import OWN_SETTINGS, Operator, Server
from scenario import (
    DATABASE,
    PAGE,
    Load,
    address,
    containers,
    databases,
    fingerprint,
    ids,
    journal,
    listening,
    manifest,
    new_orders,
    now,
    open_states,
    order,
    orders,
    query,
    said,
)

#: 20 MB: long enough for somebody to be in the middle of it.
ROWS = 80000
CONFIRM = {"confirm": "restore:pynomaly"}
#: On a machine that is busy with other tests; the time that the restore tells of is shorter.
WITHOUT_SERVICE_SECONDS = 10.0

# Waits until a restore has come to a point, and stops its module there: nothing goes on, nothing
# is cleaned up. With pipelining the module's Python has no arguments, else it has Ansible's file.
_STOPPER = """
import glob, os, signal, sys, time
def arguments(path):
    try:
        with open(path, "rb") as file:
            return file.read().split(bytes(1))[:-1]
    except OSError:
        return []
def restoring():
    found = [arguments(path) for path in glob.glob("/proc/[0-9]*/cmdline")]
    return any(b"pg_restore" in one[:1] and b"--jobs" in one for one in found)
def closing():
    with open("/var/lib/pynomaly-ops/journal.jsonl") as file:
        file.seek(start)
        return any('"temporary_opened"' in one and '"database_closed"' in one for one in file)
start = os.path.getsize("/var/lib/pynomaly-ops/journal.jsonl")
come = {"restoring": restoring, "closing": closing}[sys.argv[1]]
deadline = time.monotonic() + 120
while not come() and time.monotonic() < deadline:
    time.sleep(0.002)
stopped = []
for path in glob.glob("/proc/[0-9]*/cmdline"):
    one = arguments(path)
    is_python = os.path.basename(one[0]).startswith(b"python3") if one else False
    if is_python and (len(one) == 1 or b"AnsiballZ_" in one[1]):
        number = int(path.split("/")[2])
        os.kill(number, signal.SIGSTOP)
        stopped.append(str(number))
with open("/run/lab-stopped.partial", "w") as file:
    file.write(" ".join(stopped))
os.rename("/run/lab-stopped.partial", "/run/lab-stopped")
"""


@dataclass(frozen=True)
class Backups:
    """``proved`` is older and was restored once; ``newest`` is encrypted and was not."""

    proved: str
    proved_orders: str
    before_newest: str
    """A time between the two."""
    newest: str
    newest_orders: str
    identity: str
    live_orders: str
    """What was written since."""


@pytest.fixture(scope="module")
def backups(operator: Operator, server: Server) -> Backups:
    server.wait_until_healthy()
    server.run("rm -rf /backups/*")
    new_orders(server, ROWS)
    only: dict[str, Any] = {"pynomaly_backup_kinds": ["database"]}
    operator.well("backup", **only)
    operator.well("backup_verify")
    (proved,), proved_orders, between = ids(server), orders(server), now(server)

    query(server, "UPDATE shop.orders SET note = 'changed' WHERE id % 1000 = 0")
    keys = server.run("age-keygen 2>/dev/null")
    (identity,) = re.findall(r"^AGE-SECRET-KEY-\S+$", keys, re.MULTILINE)
    operator.secrets.add(identity)
    recipients = re.findall(r"\bage1[a-z0-9]+$", keys, re.MULTILINE)
    operator.well("backup", pynomaly_backup_recipients=recipients, **only)
    newest, newest_orders = ids(server)[0], orders(server)
    assert newest != proved

    query(server, "DELETE FROM shop.orders WHERE id % 10 = 0")
    order(server, "written since")
    return Backups(proved, proved_orders, between, newest, newest_orders, identity, orders(server))


def kept(server: Server) -> list[str]:
    """The databases that restores have replaced, oldest first."""
    return sorted(name for name in databases(server) if name.startswith(f"{DATABASE}_before_"))


def scratch(server: Server) -> list[str]:
    return sorted(name for name in databases(server) if name.startswith(f"{DATABASE}_restore_"))


def serves(server: Server) -> bool:
    """Whether nginx gives what needs the database, and no page."""
    ask = "curl --silent --insecure --max-time 10 --output /dev/null --write-out '%{http_code}'"
    return server.run(f"{ask} 'https://localhost/api/v1/detections?limit=1'") == "200"


def is_clean(server: Server) -> None:
    """Nothing temporary is left."""
    assert scratch(server) == []
    assert open_states(server) == []
    assert databases(server)[DATABASE], "the live database lets clients in"
    for what in (
        f"ls {PAGE}",
        "ls /var/lib/pynomaly-ops/lock.json",
        "find /backups -name '.staging-*'",
        "docker ps --all --quiet --filter label=ops.pynomaly.helper",
        "find /run /dev/shm -name pgpass",
    ):
        assert server.run(f"{what} 2>/dev/null || true") == "", what


def test_without_the_word_nothing_is_touched(
    operator: Operator, server: Server, backups: Backups
) -> None:
    before = fingerprint(server)
    for name, word in (("restore", ""), ("restore_rollback", "restore:pynomaly")):
        ran = operator.run(name, confirm=word)
        assert ran.exit_code == 2
        assert f"ansible-playbook pynomaly.ops.{name} -e confirm={name}:pynomaly" in said(ran)
    assert fingerprint(server) ^ before == set()
    assert orders(server) == backups.live_orders


def test_check_mode_touches_nothing(operator: Operator, server: Server, backups: Backups) -> None:
    before = fingerprint(server)
    ran = operator.well("restore", "--check", **CONFIRM)
    assert f"backup {backups.proved}: nothing is known that forbids to restore it" in said(ran)
    assert fingerprint(server) ^ before == set()


def test_what_cannot_be_restored_is_told_before_anything_is_done(
    operator: Operator, server: Server, backups: Backups
) -> None:
    known, states = databases(server), containers(server)
    ran = operator.run("restore", pynomaly_backup=backups.newest, **CONFIRM)
    assert ran.exit_code == 2
    assert f"backup {backups.newest} cannot be restored, nothing was touched" in said(ran)
    assert "no private key was given" in said(ran)
    assert (databases(server), containers(server)) == (known, states)
    is_clean(server)


def test_before_a_time_and_dry(operator: Operator, server: Server, backups: Backups) -> None:
    known = databases(server)
    ran = operator.well(
        "restore",
        pynomaly_backup=f"before={backups.before_newest}",
        postgres_restore_dry_run=True,
        **CONFIRM,
    )
    # With what the API has stored in a table of its own.
    tables = manifest(server, backups.proved)["content"]["tables"]
    rows = sum(one["rows"] or 0 for one in tables.values())
    assert tables["shop.orders"]["rows"] == ROWS
    assert f"backup {backups.proved}: restored and proved equal, {rows} rows" in said(ran)
    assert databases(server) == known
    assert orders(server) == backups.live_orders
    is_clean(server)


def test_beside_the_live_one(operator: Operator, server: Server, backups: Backups) -> None:
    ran = operator.well("restore", postgres_restore_target="beside", **CONFIRM)
    assert f"it is database beside, beside {DATABASE}" in said(ran)
    assert orders(server, "beside") == backups.proved_orders
    assert orders(server) == backups.live_orders
    assert kept(server) == []
    query(server, "DROP DATABASE beside", "postgres")
    is_clean(server)


def test_one_table_out_of_an_encrypted_backup(
    operator: Operator, server: Server, backups: Backups
) -> None:
    with listening(server) as heard:
        operator.well(
            "restore",
            "-vvv",
            pynomaly_backup="latest",
            postgres_restore_table="shop.orders",
            vault={"pynomaly_backup_identity": backups.identity},
            **CONFIRM,
        )
    assert not [one for one in heard if backups.identity in one]
    assert any("pg_restore" in one for one in heard)
    side = query(server, "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'restored\\_%'")
    assert orders(server, schema=side) == backups.newest_orders
    assert orders(server) == backups.live_orders
    query(server, f"DROP SCHEMA {side} CASCADE")
    is_clean(server)


def test_it_is_restored_while_clients_ask(
    operator: Operator, server: Server, backups: Backups, capsys: pytest.CaptureFixture[str]
) -> None:
    states, earlier = containers(server), kept(server)
    with Load(address(server)).running() as load:
        ran = operator.well("restore", "-vvv", **CONFIRM)
        # Once more before the end: it is served again.
        server.wait_until("the API serves", lambda: serves(server), 30)
    assert orders(server) == backups.proved_orders
    assert containers(server) == states, "no container was restarted or made anew"
    (before,) = set(kept(server)) - set(earlier)
    assert databases(server)[before] is False, "nobody comes into the one before"
    assert f"the one before is {before} and lets nobody in" in said(ran)
    assert "maintenance page shown" in said(ran)
    is_clean(server)

    told = re.findall(r"without service: ([0-9.]+) s", ran.output)
    lost = load.seconds_without_service
    with capsys.disabled():
        print(
            f"\nrestore under load: {load.failed} of {load.asked} requests failed "
            f"{sorted(load.statuses)}, {lost:.2f} s without service (it says {told[0]} s)"
        )
    assert load.asked > 100
    assert load.statuses <= {0, 200, 500, 502, 503, 504}
    assert 200 in load.statuses
    assert lost <= WITHOUT_SERVICE_SECONDS

    last = journal(server)[-1]
    assert (last["operation"], last["event"], last["changed"]) == ("restore", "finished", True)
    history = said(operator.well("history", history_limit=1))
    assert f"backup {backups.proved}: restored and proved equal" in history
    assert "undo: ansible-playbook pynomaly.ops.restore_rollback" in history


def test_it_is_rolled_back(operator: Operator, server: Server, backups: Backups) -> None:
    """After the one above: what was written since the backup is there again."""
    states = containers(server)
    order(server, "written after the restore")
    after = orders(server)
    before = kept(server)[-1]
    operator.well("restore_rollback", confirm="restore_rollback:pynomaly")
    assert orders(server) == backups.live_orders
    assert before not in kept(server)
    (other,) = kept(server)
    assert databases(server)[other] is False
    assert serves(server)
    assert containers(server) == states
    is_clean(server)
    # It can be rolled back as well: nothing that was written is lost.
    query(server, f'ALTER DATABASE "{other}" ALLOW_CONNECTIONS true', "postgres")
    assert orders(server, other) == after
    query(server, f'ALTER DATABASE "{other}" ALLOW_CONNECTIONS false', "postgres")


def kill_a_restore(operator: Operator, server: Server, moment: str) -> None:
    """The controller dies, and the module on the server with it, at a moment of the restore."""
    server.write("/run/lab-stopper.py", _STOPPER)
    server.run("rm -f /run/lab-stopped")
    server.run(f"setsid python3 /run/lab-stopper.py {moment} </dev/null >/dev/null 2>&1 & echo $!")
    controller = subprocess.Popen(
        ["ansible-playbook", "pynomaly.ops.restore", *operator.arguments(**CONFIRM)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **OWN_SETTINGS},
        start_new_session=True,
    )
    try:
        server.wait_until(
            f"the restore is {moment}", lambda: "lab-stopped" in server.run("ls /run").split(), 150
        )
        assert controller.poll() is None, "it is still at it"
    finally:
        os.killpg(controller.pid, signal.SIGKILL)
        controller.wait(30)
    (module,) = server.run("cat /run/lab-stopped").split()
    server.run(f"kill -KILL {module}")
    server.wait_until(
        "the module is dead", lambda: not server.run(f"ps --no-headers -p {module} || true"), 10
    )


@pytest.mark.parametrize("moment", ["restoring", "closing"])
def test_a_killed_restore_is_resumed(
    operator: Operator, server: Server, backups: Backups, moment: str
) -> None:
    states = containers(server)
    kill_a_restore(operator, server, moment)
    left = open_states(server)
    assert "scratch_database" in left
    assert ("maintenance_page" in left) == (moment == "closing")
    if moment == "restoring":
        assert len(scratch(server)) == 1
        assert orders(server) == backups.live_orders
        assert server.run("find /backups -name '.staging-*'") != ""
        assert server.run("docker ps --all --quiet --filter label=ops.pynomaly.helper") != ""
        assert server.run("find /run /dev/shm -name pgpass") != ""
    else:
        assert "database_closed" in left
        server.run(f"ls {PAGE}")
        assert not serves(server)

    refused = operator.run("restore", **CONFIRM)
    assert refused.exit_code == 2
    (run,) = set(re.findall(r"pynomaly_takeover=([0-9a-f-]{36})", refused.output))
    assert "restore of pynomaly" in said(refused), "it says what holds the lock"

    resumed = operator.well("resume", pynomaly_takeover=run)
    assert resumed.changed == 1
    is_clean(server)
    server.wait_until("the API serves", lambda: serves(server), 30)
    assert orders(server) in (backups.live_orders, backups.proved_orders)
    if moment == "restoring":
        assert orders(server) == backups.live_orders
    # A helper of the dead run is none of the stack's containers.
    assert containers(server) == states
    assert operator.well("resume").changed == 0


def test_after_all_that_it_is_restored(
    operator: Operator, server: Server, backups: Backups
) -> None:
    operator.well("restore", **CONFIRM)
    assert orders(server) == backups.proved_orders
    assert serves(server)
    server.wait_until_healthy(60)
    is_clean(server)
