#!/usr/bin/python
# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: pg_database_swap
short_description: Put a restored database in the live one's place, or the one before back
version_added: 0.2.0
author:
  - Pynomaly Operations (@pynomaly)
description:
  - Shows nginx's maintenance page, closes the live database, ends its sessions until there are
    none, changes both names in one transaction, waits until the API is as well as it was, and takes
    the page away. All in one call, which tells how long there was no service.
  - The database before stays as C(NAME_before_YYYYMMDDTHHMMSSZ), and lets nobody in.
  - Where that fails at any point, or the API is not well afterwards, the database before is in its
    place again, open, and the restored one is dropped.
  - Only a database is taken that M(pynomaly.ops.pg_restore) has made and proved, or that this
    module has replaced; both are told by their names and comments.
  - What is closed or shown for a while is written to the journal before, so that
    M(pynomaly.ops.operation_resume) finds it where the run dies.
  - To be run under the host's lock.
extends_documentation_fragment:
  - pynomaly.ops.operation
options:
  mode:
    description:
      - V(swap) puts a restored database in the live one's place, V(rollback) one that was kept.
    type: str
    choices: [swap, rollback]
    default: swap
  incoming:
    description:
      - The database that is to be the live one, as RV(pynomaly.ops.pg_restore#module:restored).
        With O(mode=rollback) by default the newest that was kept.
    type: str
    default: ""
  keep_days:
    description:
      - After a swap the databases of earlier restores are dropped that are older than this.
    type: float
    default: 7
  drain_timeout_seconds:
    description: How long it may take until nobody is in the database.
    type: float
    default: 30
  api_timeout_seconds:
    description: How long the API may take to be as well as before.
    type: float
    default: 60
  api_health_path:
    description: Path of the API's health endpoint.
    type: str
    default: /health
  api_port:
    description: Port of the API in its containers. By default the one that they expose.
    type: int
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
    description: Seconds that one call of the engine, of Compose or of the API may take.
    type: float
    default: 10
attributes:
  check_mode:
    description: Says which database would be replaced by which.
    support: full
  diff_mode:
    description: There is no diff to show.
    support: none
requirements:
  - python3-docker (the Docker SDK for Python, 5.0 or newer) on the host
  - python3-psycopg2 (2.8 or newer) on the host
  - PostgreSQL 13 or newer
seealso:
  - module: pynomaly.ops.pg_restore
  - module: pynomaly.ops.operation_resume
"""

EXAMPLES = r"""
- name: Put the restored database in the live one's place
  pynomaly.ops.pg_database_swap:
    incoming: "{{ restored.restored }}"
    operation: restore
    project: pynomaly
    run: "{{ lookup('pynomaly.ops.run_identity') }}"

- name: Put the database before back
  pynomaly.ops.pg_database_swap:
    mode: rollback
    operation: restore_rollback
    project: pynomaly
    run: "{{ lookup('pynomaly.ops.run_identity') }}"
"""

RETURN = r"""
database:
  description: The live database.
  returned: success
  type: str
incoming:
  description: The database that has become the live one, by its name before.
  returned: success
  type: str
kept:
  description: What the database before is called now.
  returned: success
  type: str
backup:
  description: The backup that the live database, or with O(mode=rollback) the kept one, is from.
  returned: success
  type: str
seconds_without_service:
  description: From before the page was shown until after it was taken away, the API's check within.
  returned: success
  type: float
seconds_closed:
  description: How long the database let nobody in.
  returned: success
  type: float
ended_sessions:
  description: How many sessions were ended.
  returned: success
  type: int
page:
  description: Whether a maintenance page was shown.
  returned: success
  type: bool
asked:
  description: What was well before, and was waited for.
  returned: success
  type: list
  elements: str
dropped:
  description: Databases of earlier restores that were dropped.
  returned: success
  type: list
  elements: str
undo:
  description: The command that puts the database before back.
  returned: success
  type: str
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
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.operation_module import (
    finish,
    operation_argument_spec,
    own_options,
    temporary_states,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.pg_database_swap import (
    MODES,
    SwapSettings,
    run,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.postgres_server import (
    PostgresError,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._scheduler import CollectorError

ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    **operation_argument_spec(),
    "mode": {"type": "str", "choices": list(MODES), "default": "swap"},
    "incoming": {"type": "str", "default": ""},
    "keep_days": {"type": "float", "default": 7},
    "drain_timeout_seconds": {"type": "float", "default": 30},
    "api_timeout_seconds": {"type": "float", "default": 60},
    "api_health_path": {"type": "str", "default": "/health"},
    "api_port": {"type": "int"},
    "service_names": {"type": "dict", "default": {}},
    "database": {"type": "str", "default": ""},
    "user": {"type": "str", "default": ""},
    "password": {"type": "str", "default": "", "no_log": True},
    "call_timeout_seconds": {"type": "float", "default": 10},
}

_RENAMED = {
    "database": "postgres_database",
    "user": "postgres_user",
    "password": "postgres_password",
}


def settings_of(parameters: dict[str, Any]) -> SwapSettings:
    """The module's options as the swap takes them."""
    return SwapSettings(**own_options(parameters, ARGUMENT_SPEC, _RENAMED))


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    finish(
        module,
        lambda: run(settings_of(module.params), temporary_states(module), module.check_mode),
        (PostgresError, CollectorError),
    )


if __name__ == "__main__":
    main()
