# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Copies in another place: on another server by SFTP, and in an S3-compatible store."""

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from conftest import Operator, Server, connect
from scenario import address, databases, ids, journal, new_orders, said, whole_files

if TYPE_CHECKING:
    from collections.abc import Iterator

ROWS = 500
DATABASE_ONLY: dict[str, Any] = {"pynomaly_backup_kinds": ["database"]}
SECRET = "canary-7e0b52-of-the-store"


@pytest.fixture(scope="module")
def place() -> Server:
    return connect("node2")


@pytest.fixture(scope="module", autouse=True)
def rows(server: Server) -> None:
    new_orders(server, ROWS)


@pytest.fixture(scope="module")
def sftp(server: Server, place: Server) -> dict[str, Any]:
    """The other server, which lets a key of this one in, and is known to it."""
    server.run(
        "rm -f /root/.ssh/backup_copy /root/.ssh/backup_copy.pub && "
        "ssh-keygen -q -t ed25519 -N '' -C backup-copy -f /root/.ssh/backup_copy"
    )
    public = server.run("cat /root/.ssh/backup_copy.pub")
    place.run("sed -i '/ backup-copy$/d' /root/.ssh/authorized_keys")
    place.run("echo %s >> /root/.ssh/authorized_keys", public)
    host_key = " ".join(place.run("cat /etc/ssh/ssh_host_ed25519_key.pub").split()[:2])
    server.run("echo %s > /root/.ssh/known_hosts", f"{address(place)} {host_key}")
    return {
        "type": "sftp",
        "host": address(place),
        "user": "root",
        "key_file": "/root/.ssh/backup_copy",
    }


@pytest.fixture(scope="module")
def store(server: Server) -> Iterator[tuple[str, int]]:
    """An S3-compatible store on this machine: its address, as the server reaches it, and port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as towards:
        towards.connect((address(server), 9))
        host = towards.getsockname()[0]
    with socket.socket() as free:
        free.bind((host, 0))
        port = int(free.getsockname()[1])
    moto = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "--host", host, "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                assert request(host, port, "PUT", "/backups")[0] == 200
                break
            except (OSError, http.client.HTTPException):
                assert moto.poll() is None, "the store has ended"
                assert time.monotonic() < deadline, "the store does not answer"
                time.sleep(0.2)
        yield host, port
    finally:
        moto.kill()
        moto.wait(10)


def request(host: str, port: int, method: str, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(host, port, timeout=10)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_prepare_has_installed_what_copies_need(server: Server) -> None:
    assert server.run("rclone version").startswith("rclone")


def test_on_another_server(
    operator: Operator, server: Server, place: Server, sftp: dict[str, Any]
) -> None:
    ran = operator.well(
        "backup",
        pynomaly_backup_kinds=["database", "config"],
        backup_copy_remote=sftp,
        backup_copy_path="/srv/copies/node1",
    )
    newest = ids(server)[0]
    assert f"database/{newest}, config/{newest}" in said(ran)
    for kind in ("database", "config"):
        copied = whole_files(place, f"/srv/copies/node1/{kind}/{newest}")
        assert copied == whole_files(server, f"/backups/{kind}/{newest}")


def test_a_copy_that_fails_leaves_the_local_one_good(
    operator: Operator, server: Server, sftp: dict[str, Any]
) -> None:
    before = ids(server)
    ran = operator.run(
        "backup",
        backup_copy_remote={**sftp, "port": 9},
        backup_copy_path="/srv/copies/node1",
        **DATABASE_ONLY,
    )
    assert ran.exit_code == 2
    assert "copy" in ran.output
    assert "the local backup is good" in said(ran)
    (newest,) = set(ids(server)) - set(before)
    assert "globals.sql" in whole_files(server, f"/backups/database/{newest}")
    last = journal(server)[-1]
    assert last["event"] == "failed"
    assert last["details"]["database"]["id"] == newest


def test_in_an_s3_compatible_store_and_back(
    operator: Operator, server: Server, store: tuple[str, int]
) -> None:
    host, port = store
    operator.secrets.add(SECRET)
    remote: dict[str, Any] = {
        "backup_copy_remote": {
            "type": "s3",
            "provider": "Other",
            "endpoint": f"http://{host}:{port}",
        },
        "backup_copy_path": "backups/node1",
        "vault": {
            "backup_copy_remote_secrets": {"access_key_id": "lab", "secret_access_key": SECRET}
        },
    }
    ran = operator.well("backup", "-vvv", **remote, **DATABASE_ONLY)
    newest = ids(server)[0]
    assert f"database/{newest}" in said(ran)
    _status, listing = request(host, port, "GET", "/backups?list-type=2")
    assert f"node1/database/{newest}/manifest.sha256" in listing
    local = whole_files(server, f"/backups/database/{newest}")
    for path in local:
        assert f"node1/database/{newest}/{path}" in listing

    # The server loses it; what comes back is the same, and can be restored.
    server.run(f"rm -r /backups/database/{newest}")
    fetched = operator.well("backup_fetch", "-vvv", pynomaly_backup=newest, **remote)
    assert fetched.changed == 1
    assert whole_files(server, f"/backups/database/{newest}") == local
    known = databases(server)
    ran = operator.well(
        "restore",
        confirm="restore:pynomaly",
        pynomaly_backup=newest,
        postgres_restore_dry_run=True,
    )
    assert f"backup {newest}, which had not been verified before: restored and proved" in said(ran)
    assert databases(server) == known, "a dry run leaves no database"
