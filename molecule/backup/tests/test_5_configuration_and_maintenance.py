# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The configuration comes back from a backup; the database is maintained, and a second run idle."""

from __future__ import annotations

import json
from typing import Any

import pytest
from conftest import PROJECT_DIR, Operator, Server
from scenario import containers, ids, journal, new_orders, open_states, query, said, whole_files

CONFIRM = {"confirm": "restore_config:pynomaly"}
CHANGED = f"{PROJECT_DIR}/config/prometheus/prometheus.yml"
HOSTILE = "../../etc/pynomaly-hostile"

# Gives a backup's archive one more member, and the backup a manifest that fits: what somebody would
# do who can write where the backups are.
_TAMPER = """
import hashlib, io, json, pathlib, sys, tarfile
folder, name = pathlib.Path(sys.argv[1]), sys.argv[2]
path = folder / "archive.tar.gz"
with tarfile.open(path) as archive:
    members = [(one, archive.extractfile(one).read() if one.isfile() else None) for one in archive]
with tarfile.open(path, "w:gz") as archive:
    for member, data in members:
        archive.addfile(member, None if data is None else io.BytesIO(data))
    hostile = tarfile.TarInfo(name)
    hostile.size = 4
    archive.addfile(hostile, io.BytesIO(b"evil"))
manifest = json.loads((folder / "manifest.json").read_text())
data = path.read_bytes()
for one in manifest["files"]:
    one["sha256"], one["size_bytes"] = hashlib.sha256(data).hexdigest(), len(data)
text = json.dumps(manifest)
(folder / "manifest.json").write_text(text)
digest = hashlib.sha256(text.encode()).hexdigest()
(folder / "manifest.sha256").write_text(digest + "  manifest.json\\n")
"""


@pytest.fixture(scope="module")
def backup(operator: Operator, server: Server) -> str:
    server.wait_until_healthy()
    operator.well("backup", pynomaly_backup_kinds=["config"])
    return ids(server, "config")[0]


def files(server: Server) -> str:
    return server.run(
        f"cd {PROJECT_DIR} && find . -type f -not -name '*.pyc' -exec sha256sum {{}} + "
        "-exec stat --format '%n %a %u' {} + | sort"
    )


def test_a_changed_file_comes_back(operator: Operator, server: Server, backup: str) -> None:
    before, states = files(server), containers(server)
    server.run(f"echo '# changed by hand' >> {CHANGED}")
    assert files(server) != before

    refused = operator.run("restore_config")
    assert refused.exit_code == 2
    assert "-e confirm=restore_config:pynomaly" in said(refused)
    foretold = operator.well("restore_config", "--check", "--diff", **CONFIRM)
    assert "-# changed by hand" in foretold.output
    assert "# changed by hand" in server.run(f"tail -n 1 {CHANGED}")
    assert containers(server) == states

    ran = operator.well("restore_config", "-vvv", **CONFIRM)
    assert ran.changed == 1
    assert files(server) == before
    # Who has the file mounted was started again, so that it is read: Prometheus, and node_exporter,
    # which sees all of the host. The rest go on.
    renewed = {line.split("/")[-1] for line in set(containers(server)) - set(states)}
    assert "pynomaly-prometheus-1" in renewed
    assert renewed <= {"pynomaly-prometheus-1", "pynomaly-node-exporter-1"}
    server.wait_until_healthy(60)
    assert open_states(server) == []
    assert operator.well("restore_config", pynomaly_backup=backup, **CONFIRM).changed == 0


def test_a_hostile_archive_is_refused(operator: Operator, server: Server, backup: str) -> None:
    folder = f"/backups/config/{backup}"
    server.run(f"cp -a {folder} /run/lab-config-backup")
    server.run("python3 -c %s %s %s", _TAMPER, folder, HOSTILE)
    try:
        whole_files(server, folder)
        before, states = files(server), containers(server)
        ran = operator.run("restore_config", pynomaly_backup=backup, **CONFIRM)
        assert ran.exit_code == 2
        assert HOSTILE in ran.output
        assert "cannot be unpacked" in said(ran)
        assert server.run("find / -xdev -name 'pynomaly-hostile*'") == ""
        assert files(server) == before
        assert containers(server) == states
        assert journal(server)[-1]["event"] == "failed"
        assert open_states(server) == []
    finally:
        server.run(f"rm -r {folder} && mv /run/lab-config-backup {folder}")


def test_the_database_is_maintained_once(operator: Operator, server: Server) -> None:
    new_orders(server, 3000)
    # Nobody else is to be quicker.
    query(
        server,
        "ALTER TABLE shop.orders SET (autovacuum_enabled = false); "
        "DELETE FROM shop.orders WHERE id % 2 = 0",
    )
    dead = "SELECT n_dead_tup FROM pg_stat_user_tables WHERE relname = 'orders'"
    server.wait_until("the dead rows are counted", lambda: int(query(server, dead)) >= 1500, 30)
    states = containers(server)

    first = operator.well("weekly_db")
    assert first.changed == 1
    assert int(query(server, dead)) == 0
    analyzed = "SELECT last_analyze IS NOT NULL FROM pg_stat_user_tables WHERE relname = 'orders'"
    assert query(server, analyzed) == "t"
    report: dict[str, Any] = json.loads((operator.folder / "weekly_db-latest.json").read_text())
    (entry,) = report["hosts"]
    probes = {one["id"] for one in entry["results"]}
    assert any(one.startswith("weekly_db.") for one in probes), probes
    assert "shop.orders" in json.dumps(entry)
    assert "weekly_db" in {path.name.partition("-")[0] for path in operator.folder.glob("*.html")}

    second = operator.well("weekly_db")
    assert second.changed == 0
    assert containers(server) == states
    last = journal(server)[-1]
    assert (last["operation"], last["changed"]) == ("weekly_db", False)
