#!/usr/bin/python
# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: operation_journal
short_description: Append a record to the host's journal of operations
version_added: 0.1.0
author:
  - Pynomaly Operations (@pynomaly)
description:
  - Writes down what an operation does to the host, so that it outlives a power cut.
  - Anything temporary (a maintenance page, a stopped service, a blocked address) is recorded as
    V(temporary_opened) before it is done, with how to undo it, and as V(temporary_closed) once
    that has been done.
  - Opening a state that is open already with the same O(undo) and O(details), and closing one that
    is not open, change nothing.
extends_documentation_fragment:
  - pynomaly.ops.operation
options:
  event:
    description: What the record is about.
    type: str
    choices: [step, temporary_opened, temporary_closed]
    default: step
  temporary_state:
    description:
      - Name of the temporary state, unique in its project, for instance V(maintenance_page).
      - Needed with O(event=temporary_opened) and O(event=temporary_closed).
    type: str
    default: ""
  changed:
    description: Whether something was changed, where that is known.
    type: bool
  summary:
    description: What is done, in a sentence. No secrets.
    type: str
    default: ""
  undo:
    description:
      - The command that undoes it. No secrets.
      - Needed with O(event=temporary_opened).
    type: str
    default: ""
  details:
    description: More to keep, for instance what the undo needs to know. A key that looks like a
      secret's is refused.
    type: dict
    default: {}
attributes:
  check_mode:
    description: Says whether a record would be written, writes nothing.
    support: full
  diff_mode:
    description: There is no diff to show.
    support: none
seealso:
  - module: pynomaly.ops.operation_lock
  - module: pynomaly.ops.operation_journal_info
"""

EXAMPLES = r"""
- name: Write down the maintenance page before it is shown
  pynomaly.ops.operation_journal:
    operation: maintenance
    project: pynomaly
    run: "{{ lookup('pynomaly.ops.run_identity') }}"
    event: temporary_opened
    temporary_state: maintenance_page
    summary: maintenance page shown
    undo: ansible-playbook pynomaly.ops.maintenance -e maintenance=off
"""

RETURN = r"""
record:
  description: The record as it is in the journal.
  returned: success
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.operation_module import (
    operation_argument_spec,
    run_identity,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.operation_store import (
    OperationStore,
    StoreError,
    utc_now,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._operation import (
    STEP,
    TEMPORARY_CLOSED,
    TEMPORARY_OPENED,
    OperationError,
    journal_record,
)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **operation_argument_spec(),
            "event": {
                "type": "str",
                "choices": [STEP, TEMPORARY_OPENED, TEMPORARY_CLOSED],
                "default": STEP,
            },
            "temporary_state": {"type": "str", "default": ""},
            "changed": {"type": "bool"},
            "summary": {"type": "str", "default": ""},
            "undo": {"type": "str", "default": ""},
            "details": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    parameters = module.params
    try:
        record = journal_record(
            time=utc_now(),
            event=parameters["event"],
            identity=run_identity(module),
            operation=parameters["operation"],
            project=parameters["project"],
            changed=parameters["changed"],
            summary=parameters["summary"],
            undo=parameters["undo"],
            temporary_state=parameters["temporary_state"],
            details=parameters["details"],
        )
        store = OperationStore(parameters["state_dir"])
        changed = store.append(record, dry_run=module.check_mode)
    except (OperationError, StoreError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=changed, record=record)


if __name__ == "__main__":
    main()
