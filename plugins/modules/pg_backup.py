#!/usr/bin/python
# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: pg_backup
short_description: Back up a project's PostgreSQL database
version_added: 0.2.0
author:
  - Pynomaly Operations (@pynomaly)
description:
  - Makes one backup below O(backup_dir)C(/database/ID) with the server's own C(pg_dump), in
    directory format, and C(pg_dumpall --globals-only). It gets its name once it is whole and synced
    to the disk. What is left of one that fails is removed, and what is left of a run that died is
    removed by the next one.
  - The manifest has the size and SHA-256 of each file, and what was read in the dump's own snapshot
    while it was written. For each table the number of rows and a checksum; large objects,
    extensions, materialized views, the database's own settings and privileges, and the roles that
    it needs. Sequences, which know no snapshot, are those of the dump, and must not be behind what
    was read when the snapshot was taken.
  - A dump that does not list each table, lacks a table's file, or is suspiciously small is refused,
    whatever C(pg_dump)'s exit code was.
  - The programs run in a short-lived container of the server's own image, so that they are of its
    version. The password reaches them in a file on a memory filesystem.
  - To be run under the host's lock.
extends_documentation_fragment:
  - pynomaly.ops.operation
options:
  id:
    description:
      - Name of the backup, which is the project's name, a hyphen and the time in UTC. All kinds
        that one run makes share it. By default it is made of the host's clock.
    type: str
    default: ""
  backup_dir:
    description: Folder of the backups on the host.
    type: path
    default: /backups
  service_names:
    description:
      - Component to service, for those that are not called as in the runbook, such as C(postgres)
        to C(db).
    type: dict
    default: {}
  database:
    description: The database. By default the one that the application uses.
    type: str
    default: ""
  user:
    description:
      - Role to log in as. By default the server's administrator, as its container says, else the
        application. Only a superuser gets the roles' passwords into the backup.
    type: str
    default: ""
  password:
    description: Its password, where the services' environment does not say.
    type: str
    default: ""
  jobs:
    description:
      - How many sessions dump tables at a time, and how many sum them up meanwhile. With V(0) one
        for each of the host's CPUs, at most four.
    type: int
    default: 0
  compression:
    description:
      - V(auto) is zstd where C(pg_dump) has it (PostgreSQL 16 and newer, as most are built), and
        gzip where not.
    type: str
    choices: [auto, zstd, gzip, none]
    default: auto
  compression_level:
    description:
      - Level of the method, 1 to 22 for zstd and 1 to 9 for gzip. By default 3 and 1.
    type: int
  allow_empty:
    description:
      - Keep a backup without rows where the last one had some, or one that has a tenth of the last
        one's size for as many rows.
    type: bool
    default: false
  reserve_bytes:
    description: How much has to stay free beside the backup.
    type: int
    default: 268435456
  recipients:
    description:
      - Public keys for which the backup is encrypted with age. Without any it is not encrypted.
    type: list
    elements: str
    default: []
  call_timeout_seconds:
    description: Seconds that one call of the engine or of Compose may take.
    type: float
    default: 10
  timeout_seconds:
    description: Seconds that the backup may take.
    type: float
    default: 14400
attributes:
  check_mode:
    description: Looks at everything, the free space too, and writes nothing.
    support: full
  diff_mode:
    description: There is no diff to show.
    support: none
requirements:
  - python3-docker (the Docker SDK for Python, 5.0 or newer) on the host
  - python3-psycopg2 (2.8 or newer) on the host
  - PostgreSQL 13 or newer
  - age on the host, with O(recipients)
seealso:
  - module: pynomaly.ops.files_backup
  - module: pynomaly.ops.backup_retention
  - module: pynomaly.ops.backup_info
"""

EXAMPLES = r"""
- name: Back up the database
  pynomaly.ops.pg_backup:
    operation: backup
    project: pynomaly
    run: "{{ lookup('pynomaly.ops.run_identity') }}"

- name: Back up another database of the server with one session and gzip
  pynomaly.ops.pg_backup:
    database: reports
    jobs: 1
    compression: gzip
    compression_level: 6
    operation: backup
    project: shop
    run: "{{ lookup('pynomaly.ops.run_identity') }}"
"""

RETURN = r"""
made:
  description:
    - Whether there is a backup now, or would be but for check mode. False where the project has no
      PostgreSQL.
  returned: success
  type: bool
reason:
  description: Why there is none; empty otherwise.
  returned: success
  type: str
kind:
  description: V(database).
  returned: success
  type: str
id:
  description: The backup's id.
  returned: success
  type: str
path:
  description: Its folder on the host.
  returned: success
  type: str
size_bytes:
  description: Size of its files; 0 in check mode.
  returned: success
  type: int
duration_seconds:
  description: How long it took.
  returned: success
  type: float
members:
  description: How many files it holds.
  returned: success
  type: int
left_out:
  description: Nothing; as of M(pynomaly.ops.files_backup).
  returned: success
  type: list
  elements: dict
remarks:
  description: What the user should know, which is warned of as well.
  returned: success
  type: list
  elements: str
removed_leftovers:
  description: What runs that died had left, and is removed.
  returned: success
  type: list
  elements: str
summary:
  description: What the manifest says, in figures. Empty in check mode.
  returned: success
  type: dict
  contains:
    database:
      description: The database.
      type: str
    database_size_bytes:
      description: What it takes on the server.
      type: int
    tables:
      description: How many tables with rows of their own it has.
      type: int
    rows:
      description: How many rows all of them have.
      type: int
    sequences:
      description: How many sequences.
      type: int
    large_objects:
      description: How many large objects.
      type: int
    extensions:
      description: The extensions' names.
      type: list
      elements: str
    roles:
      description: The roles that a restored one needs.
      type: list
      elements: str
    snapshot_at:
      description: The moment that the backup shows, in UTC.
      type: str
    compression:
      description: Method and level.
      type: str
      sample: zstd:3
    jobs:
      description: Sessions that dumped.
      type: int
    dump_seconds:
      description: How long C(pg_dump) took.
      type: float
    checksum_seconds:
      description: How long summing up took, which is done at the same time.
      type: float
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pynomaly.ops.plugins.module_utils._backup import BackupError
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.operation_module import (
    finish,
    operation_argument_spec,
    own_options,
    temporary_states,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.pg_backup import (
    PgBackupSettings,
    run,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.postgres_server import (
    PostgresError,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._pg_backup import COMPRESSIONS
from ansible_collections.pynomaly.ops.plugins.module_utils._scheduler import CollectorError

ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    **operation_argument_spec(),
    "id": {"type": "str", "default": ""},
    "backup_dir": {"type": "path", "default": "/backups"},
    "service_names": {"type": "dict", "default": {}},
    "database": {"type": "str", "default": ""},
    "user": {"type": "str", "default": ""},
    "password": {"type": "str", "default": "", "no_log": True},
    "jobs": {"type": "int", "default": 0},
    "compression": {"type": "str", "choices": list(COMPRESSIONS), "default": "auto"},
    "compression_level": {"type": "int"},
    "allow_empty": {"type": "bool", "default": False},
    "reserve_bytes": {"type": "int", "default": 268435456},
    "recipients": {"type": "list", "elements": "str", "default": []},
    "call_timeout_seconds": {"type": "float", "default": 10},
    "timeout_seconds": {"type": "float", "default": 14400},
}

_RENAMED = {
    "database": "postgres_database",
    "user": "postgres_user",
    "password": "postgres_password",
}


def settings_of(parameters: dict[str, Any]) -> PgBackupSettings:
    """The module's options as the backup takes them."""
    return PgBackupSettings(**own_options(parameters, ARGUMENT_SPEC, _RENAMED))


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    finish(
        module,
        lambda: run(settings_of(module.params), temporary_states(module), module.check_mode),
        (BackupError, PostgresError, CollectorError),
    )


if __name__ == "__main__":
    main()
