#!/usr/bin/python
# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: operation_resume
short_description: Finish or undo what operations have left on a host
version_added: 0.2.0
author:
  - Pynomaly Operations (@pynomaly)
description:
  - Undoes each temporary state that the journal says is still open, the newest first, by its name.
    C(maintenance_page) is taken away, C(database_closed) opened, C(scratch_database) dropped,
    C(backup_staging) removed, and with C(config_restore) the configuration before is put back.
  - A state that is meant to be there stays, such as a maintenance page whose end is still to come
    and whose operation ended well.
  - Removes what dead runs have left beside these, which is their helper containers, unfinished
    backups and password files.
  - One that cannot be undone, or has a name that is not known here, is told with the command that
    undoes it, and the module fails once it has seen to the others.
  - To be run under the host's lock.
extends_documentation_fragment:
  - pynomaly.ops.operation
options:
  all_projects:
    description: See to every project that has something open on the host, and not to O(project)
      alone.
    type: bool
    default: false
  backup_dir:
    description: Folder of the backups on the host.
    type: path
    default: /backups
  service_names:
    description:
      - Component to service, for those that are not called as in the runbook, for instance
        C(postgres) to C(db).
    type: dict
    default: {}
  postgres_user:
    description: Role to log in as, where the service's environment does not say.
    type: str
    default: ""
  postgres_password:
    description: Its password.
    type: str
    default: ""
  call_timeout_seconds:
    description: Seconds that one call of the engine or of Compose may take.
    type: float
    default: 10
  up_timeout_seconds:
    description: Seconds that bringing the project up may take, where its configuration is put back.
    type: float
    default: 600
attributes:
  check_mode:
    description: Says what would be undone and removed, and changes nothing.
    support: full
  diff_mode:
    description: There is no diff to show.
    support: none
requirements:
  - python3-docker (the Docker SDK for Python, 5.0 or newer) on the host
  - python3-psycopg2 on the host, where a database is to be opened or dropped
seealso:
  - module: pynomaly.ops.operation_journal_info
  - module: pynomaly.ops.nginx_maintenance
"""

EXAMPLES = r"""
- name: Undo what was left
  pynomaly.ops.operation_resume:
    operation: resume
    project: pynomaly
    run: "{{ lookup('pynomaly.ops.run_identity') }}"
"""

RETURN = r"""
states:
  description: What became of each temporary state, with RV(ignore:project), RV(ignore:state),
    RV(ignore:outcome) and RV(ignore:text). The outcome is undone, closed (nothing was left to
    undo), kept or failed.
  returned: always
  type: list
  elements: dict
removed:
  description: What else was removed.
  returned: always
  type: list
  elements: str
lines:
  description: The above as text.
  returned: always
  type: list
  elements: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pynomaly.ops.plugins.module_utils._backup import BackupError
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.docker import EngineError
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.engine_control import (
    EngineControl,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.operation_module import (
    operation_argument_spec,
    run_identity,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.operation_store import (
    OperationStore,
    StoreError,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.resume import (
    ResumeSettings,
    run,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._operation import OperationError

ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    **operation_argument_spec(),
    "all_projects": {"type": "bool", "default": False},
    "backup_dir": {"type": "path", "default": "/backups"},
    "service_names": {"type": "dict", "default": {}},
    "postgres_user": {"type": "str", "default": ""},
    "postgres_password": {"type": "str", "default": "", "no_log": True},
    "call_timeout_seconds": {"type": "float", "default": 10},
    "up_timeout_seconds": {"type": "float", "default": 600},
}

_OWN = ("backup_dir", "service_names", "postgres_user", "postgres_password")
_TIMEOUTS = ("call_timeout_seconds", "up_timeout_seconds")


def settings_of(parameters: dict[str, Any]) -> ResumeSettings:
    """The module's options as the work takes them."""
    return ResumeSettings(
        project="" if parameters["all_projects"] else parameters["project"],
        **{name: parameters[name] for name in (*_OWN, *_TIMEOUTS)},
    )


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    parameters = module.params
    try:
        answer = run(
            settings_of(parameters),
            EngineControl(parameters["call_timeout_seconds"]),
            OperationStore(parameters["state_dir"]),
            run_identity(module),
            operation=parameters["operation"],
            dry_run=module.check_mode,
        )
    except (BackupError, EngineError) as error:
        module.fail_json(msg=f"{error}; next: {error.hint}" if error.hint else str(error))
    except (OperationError, StoreError) as error:
        module.fail_json(msg=str(error))
    failure = answer.pop("failed")
    if failure:
        module.fail_json(msg=failure, **answer)
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
