#!/usr/bin/python
# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: pg_restore
short_description: Restore a backup into a database of its own, and prove it equal
version_added: 0.2.0
author:
  - Pynomaly Operations (@pynomaly)
description:
  - Restores a backup of M(pynomaly.ops.pg_backup) beside the live database, while the application
    goes on. The database that it makes is C(NAME_restore_YYYYMMDDTHHMMSSZ);
    M(pynomaly.ops.pg_database_swap) then puts it in the live one's place.
  - Before anything is done all that forbids it is looked for, and told at once. A damaged backup, a
    server of an older major version, missing extensions, roles or locales, too little space, names
    that are taken; where the live database is to be replaced, its prepared transactions, logical
    replication slots and subscriptions too.
  - What was restored is compared with the manifest. Rows and values of each table, sequences, large
    objects, extensions, the definition of every object, the database's own settings, privileges and
    comment. Where anything differs, or a statement fails, it is dropped.
  - It is analyzed, so that the first queries have good plans.
  - Tablespaces are not restored; all is put into the server's default one.
  - To be run under the host's lock.
extends_documentation_fragment:
  - pynomaly.ops.operation
options:
  backup:
    description:
      - The backup, by its id, V(latest), V(latest_verified) (the newest that was restored once and
        found equal), or V(before=TIME) with an ISO 8601 time in UTC.
    type: str
    default: latest_verified
  backup_dir:
    description: Folder of the backups on the host.
    type: path
    default: /backups
  identity:
    description: The private key of age that opens an encrypted backup.
    type: str
    default: ""
  target:
    description: Name of a new database to restore as. Nothing is to be replaced then.
    type: str
    default: ""
  table:
    description:
      - One table to bring back alone, as C(schema.name), quoted as SQL wants it. Its rows get into
        a new table of that name in a new schema C(restored_yyyymmddthhmmssz) of the live database,
        with the columns' types, without indexes, constraints and defaults.
      - Of a partitioned table the rows of all partitions.
    type: str
    default: ""
  dry_run:
    description: Restore and compare, and drop what was made.
    type: bool
    default: false
  create_roles:
    description:
      - Make the roles that are missing as the backup has them, with passwords, settings and
        memberships. They are dropped again where the restore fails.
    type: bool
    default: false
  space_factor:
    description:
      - So many times the size that the database had has to be free where the server keeps its data,
        and C(max_wal_size) besides.
    type: float
    default: 1.2
  jobs:
    description:
      - How many sessions restore, analyze and compare. With V(0) one for each of the host's CPUs,
        at most four.
    type: int
    default: 0
  service_names:
    description:
      - Component to service, for those that are not called as in the runbook, such as C(postgres)
        to C(db).
    type: dict
    default: {}
  database:
    description: The live database. By default the one that the application uses.
    type: str
    default: ""
  user:
    description: A superuser to log in as. By default the server's administrator.
    type: str
    default: ""
  password:
    description: Its password, where the services' environment does not say.
    type: str
    default: ""
  call_timeout_seconds:
    description: Seconds that one call of the engine or of Compose may take.
    type: float
    default: 10
  timeout_seconds:
    description: Seconds that the restore may take.
    type: float
    default: 14400
attributes:
  check_mode:
    description: Looks for all that forbids it, and makes nothing.
    support: full
  diff_mode:
    description: There is no diff to show.
    support: none
requirements:
  - python3-docker (the Docker SDK for Python, 5.0 or newer) on the host
  - python3-psycopg2 (2.8 or newer) on the host
  - PostgreSQL 13 or newer
  - age on the host, for an encrypted backup
seealso:
  - module: pynomaly.ops.pg_backup
  - module: pynomaly.ops.pg_database_swap
"""

EXAMPLES = r"""
- name: Restore the newest verified backup beside the live database
  pynomaly.ops.pg_restore:
    operation: restore
    project: pynomaly
    run: "{{ lookup('pynomaly.ops.run_identity') }}"
  register: restored

- name: Bring one table back to a schema of its own
  pynomaly.ops.pg_restore:
    table: public.detections
    backup: before=2026-11-24T03:00:00Z
    operation: restore
    project: pynomaly
    run: "{{ lookup('pynomaly.ops.run_identity') }}"
"""

RETURN = r"""
id:
  description: The backup that was taken.
  returned: success
  type: str
verified:
  description: Whether it had been restored and found equal before.
  returned: success
  type: bool
database:
  description: The live database.
  returned: success
  type: str
replaces:
  description: Whether M(pynomaly.ops.pg_database_swap) is to put it in the live one's place.
  returned: success
  type: bool
restored:
  description:
    - The database that was made, empty where none is left. O(target), or one for
      M(pynomaly.ops.pg_database_swap).
  returned: success
  type: str
side_table:
  description: With O(table), the table that has its rows now.
  returned: success
  type: str
  sample: restored_20261124t100102z.detections
rows:
  description: How many rows were restored.
  returned: success
  type: int
tables:
  description: How many tables.
  returned: success
  type: int
created_roles:
  description: Roles that were made.
  returned: success
  type: list
  elements: str
removed_leftovers:
  description: What runs that died had left, and is removed.
  returned: success
  type: list
  elements: str
seconds:
  description: How long each part took, as RV(seconds.restore), RV(seconds.analyze) and so on.
  returned: success
  type: dict
  contains:
    restore:
      description: Making and filling the database.
      type: float
    analyze:
      description: Analyzing it.
      type: float
    proof:
      description: Comparing it with the manifest.
      type: float
    copy:
      description: With O(table), copying the rows.
      type: float
lines:
  description: What came of it, for people.
  returned: success
  type: list
  elements: str
remarks:
  description: What the user should know, which is warned of as well.
  returned: success
  type: list
  elements: str
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
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.pg_restore import (
    RestoreSettings,
    run,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.postgres_server import (
    PostgresError,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._scheduler import CollectorError

ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    **operation_argument_spec(),
    "backup": {"type": "str", "default": "latest_verified"},
    "backup_dir": {"type": "path", "default": "/backups"},
    "identity": {"type": "str", "default": "", "no_log": True},
    "target": {"type": "str", "default": ""},
    "table": {"type": "str", "default": ""},
    "dry_run": {"type": "bool", "default": False},
    "create_roles": {"type": "bool", "default": False},
    "space_factor": {"type": "float", "default": 1.2},
    "jobs": {"type": "int", "default": 0},
    "service_names": {"type": "dict", "default": {}},
    "database": {"type": "str", "default": ""},
    "user": {"type": "str", "default": ""},
    "password": {"type": "str", "default": "", "no_log": True},
    "call_timeout_seconds": {"type": "float", "default": 10},
    "timeout_seconds": {"type": "float", "default": 14400},
}

_RENAMED = {
    "backup": "wanted",
    "database": "postgres_database",
    "user": "postgres_user",
    "password": "postgres_password",
}


def settings_of(parameters: dict[str, Any]) -> RestoreSettings:
    """The module's options as the restore takes them."""
    return RestoreSettings(**own_options(parameters, ARGUMENT_SPEC, _RENAMED))


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    finish(
        module,
        lambda: run(settings_of(module.params), temporary_states(module), module.check_mode),
        (BackupError, PostgresError, CollectorError),
    )


if __name__ == "__main__":
    main()
