#!/usr/bin/python
# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: operation_journal_info
short_description: Read the host's lock and journal of operations
version_added: 0.1.0
author:
  - Pynomaly Operations (@pynomaly)
description:
  - Tells which operation holds the host's lock, what was done on the host, and which temporary
    states nothing has closed. A host on which nothing was recorded gives empty answers.
  - Changes nothing, and makes nothing.
options:
  state_dir:
    description: Directory on the host that keeps the lock and the journal of operations.
    type: path
    default: /var/lib/pynomaly-ops
  limit:
    description: At most so many records, and so many operations, the newest; V(0) for all.
    type: int
    default: 20
  since:
    description:
      - Only what was written since then. A period such as V(24h), V(7d) or V(2w), or a date or
        time in ISO 8601, taken as UTC where it names no zone.
    type: str
    default: ""
  operation:
    description: Only this operation.
    type: str
    default: ""
  project:
    description: Only operations on this project.
    type: str
    default: ""
  run_id:
    description: Only the run with this id, or whose id starts so.
    type: str
    default: ""
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  platform:
    platforms: posix
seealso:
  - module: pynomaly.ops.operation_lock
  - module: pynomaly.ops.operation_journal
"""

EXAMPLES = r"""
- name: Read what was done on the host this week
  pynomaly.ops.operation_journal_info:
    since: 7d
    limit: 0
  register: journal
"""

RETURN = r"""
lock:
  description:
    - The lock that is there; null where there is none.
    - Has RV(ignore:damaged), RV(ignore:run_id) and, where it can be read, RV(ignore:operation),
      RV(ignore:project), RV(ignore:user), RV(ignore:controller), RV(ignore:awx_job_id),
      RV(ignore:started_at) and RV(ignore:age_seconds).
  returned: success
  type: dict
records:
  description: The records that match, newest first.
  returned: success
  type: list
  elements: dict
operations:
  description:
    - One entry for each operation that matches, newest first, with RV(ignore:time),
      RV(ignore:outcome) (finished, failed, running, unfinished, taken over or noted),
      RV(ignore:duration_seconds), RV(ignore:changed), RV(ignore:summary) and RV(ignore:undo).
  returned: success
  type: list
  elements: dict
operations_total:
  description: How many operations match, also beyond the limit.
  returned: success
  type: int
records_total:
  description: How many records the journal has, whatever the selection.
  returned: success
  type: int
open_temporary_states:
  description: Records of temporary states, oldest first, that nothing has closed, whatever the
    selection.
  returned: success
  type: list
  elements: dict
open_incidents:
  description: Incidents that are open on the host, the oldest first, each with RV(ignore:id),
    RV(ignore:project), RV(ignore:since), RV(ignore:reason) and RV(ignore:contained_by).
  returned: success
  type: list
  elements: dict
blocks:
  description: Blocked networks that have not ended, each with RV(ignore:network),
    RV(ignore:until) and RV(ignore:reason).
  returned: success
  type: list
  elements: dict
unreadable:
  description: What cannot be read of incidents and blocks, and why.
  returned: success
  type: list
  elements: str
damaged_lines:
  description: Lines of the journal that cannot be read, with RV(ignore:line), RV(ignore:problem)
    and RV(ignore:text).
  returned: success
  type: list
  elements: dict
journal_path:
  description: Where the journal is.
  returned: success
  type: str
host_time:
  description: The host's time, ISO 8601 in UTC.
  returned: success
  type: str
"""

from dataclasses import asdict
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.operation_store import (
    OperationStore,
    StoreError,
    utc_now,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.standing import read_standing
from ansible_collections.pynomaly.ops.plugins.module_utils._operation import (
    OperationError,
    lock_to_dict,
    newest_first,
    open_temporary_states,
    parse_since,
    select_operations,
    select_records,
    summarize_operations,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._utc import utc_text


def read(parameters: dict[str, Any]) -> dict[str, Any]:
    """What the module returns."""
    now = utc_now()
    since = parse_since(parameters["since"], now) if parameters["since"] else None
    if parameters["limit"] < 0:
        raise OperationError(f"limit is {parameters['limit']}, expected 0 (for all) or more")
    store = OperationStore(parameters["state_dir"])
    lock, journal = store.read()
    wanted = {name: parameters[name] for name in ("operation", "project", "run_id")}
    selected = select_records(journal.records, since=since, **wanted)
    operations = select_operations(
        summarize_operations(journal.records, lock), since=since, **wanted
    )
    try:
        standing = read_standing(parameters["state_dir"], now)
    except OSError as error:
        raise StoreError(f"the incidents could not be read: {error}") from error
    return {
        "open_incidents": standing.incidents,
        "blocks": standing.blocks,
        "unreadable": standing.problems,
        "lock": lock_to_dict(lock, now),
        "records": newest_first(selected, parameters["limit"]),
        "operations": [asdict(entry) for entry in newest_first(operations, parameters["limit"])],
        "operations_total": len(operations),
        "records_total": len(journal.records),
        "open_temporary_states": open_temporary_states(journal.records),
        "damaged_lines": list(journal.damaged_lines),
        "journal_path": str(store.journal_path),
        "host_time": utc_text(now),
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state_dir": {"type": "path", "default": "/var/lib/pynomaly-ops"},
            "limit": {"type": "int", "default": 20},
            "since": {"type": "str", "default": ""},
            "operation": {"type": "str", "default": ""},
            "project": {"type": "str", "default": ""},
            "run_id": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    try:
        answer = read(module.params)
    except (OperationError, StoreError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **answer)


if __name__ == "__main__":
    main()
