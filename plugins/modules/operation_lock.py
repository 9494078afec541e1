#!/usr/bin/python
# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: operation_lock
short_description: Take or release the host's lock for an operation
version_added: 0.1.0
author:
  - Pynomaly Operations (@pynomaly)
description:
  - One change at a time on a host. The lock names the operation, the project, who runs it from
    where, since when, and which run it is; it holds these facts from its first instant.
  - The run that holds the lock may take it again, so that one operation can nest another; only
    the operation that took the lock releases it.
  - A lock whose owner has died stays, because its owner is on another machine and its death cannot
    be known from here. Naming the run in O(takeover) takes it over.
  - Taking the lock writes the start of the operation to the journal, releasing it the outcome.
extends_documentation_fragment:
  - pynomaly.ops.operation
options:
  state:
    description: Take the lock, or release it.
    type: str
    choices: [present, absent]
    default: present
  takeover:
    description:
      - Id of the run whose lock is taken over. It must be the one that is there, which proves that
        this very lock has been seen.
      - Without effect where no lock is there.
    type: str
    default: ""
  host:
    description: How messages name the host. The default is the host's own name.
    type: str
  playbook:
    description:
      - The playbook that messages tell to run. The default is C(pynomaly.ops.) and the operation.
    type: str
  outcome:
    description: How the operation ended, with O(state=absent).
    type: str
    choices: [finished, failed]
    default: finished
  changed:
    description: Whether the operation changed something, where that is known.
    type: bool
  summary:
    description: What the operation did, or why it failed, in a sentence. No secrets.
    type: str
    default: ""
  undo:
    description: The command that undoes the operation. No secrets.
    type: str
    default: ""
  details:
    description: More to keep with the outcome. A key that looks like a secret's is refused.
    type: dict
    default: {}
attributes:
  check_mode:
    description: Reads the lock and reports one that another run holds as a warning, writes nothing.
    support: full
  diff_mode:
    description: There is no diff to show.
    support: none
seealso:
  - module: pynomaly.ops.operation_journal
  - module: pynomaly.ops.operation_journal_info
"""

EXAMPLES = r"""
- name: Take the lock for a deployment
  pynomaly.ops.operation_lock:
    operation: deploy
    project: pynomaly
    run: "{{ lookup('pynomaly.ops.run_identity') }}"

- name: Take over the lock of a run that is known to be dead
  pynomaly.ops.operation_lock:
    operation: deploy
    project: pynomaly
    run: "{{ lookup('pynomaly.ops.run_identity') }}"
    takeover: 3f2a8c1e-5b7d-4e6f-9a0b-1c2d3e4f5a6b

- name: Release the lock and record the outcome
  pynomaly.ops.operation_lock:
    state: absent
    operation: deploy
    project: pynomaly
    run: "{{ lookup('pynomaly.ops.run_identity') }}"
    outcome: finished
    changed: true
    undo: ansible-playbook pynomaly.ops.deploy -e api_image=pynomaly:1.4.1
"""

RETURN = r"""
lock:
  description:
    - The lock that is there afterwards, or the one that stood in the way; null where there is none.
    - Has RV(ignore:damaged), RV(ignore:run_id) and, where it can be read, RV(ignore:operation),
      RV(ignore:project), RV(ignore:user), RV(ignore:controller), RV(ignore:awx_job_id),
      RV(ignore:started_at) and RV(ignore:age_seconds).
  returned: always, except when the directory cannot be read or written
  type: dict
taken_over:
  description: The lock that was taken over; null where none was.
  returned: O(state=present), success
  type: dict
recorded:
  description: Whether the outcome was written to the journal.
  returned: O(state=absent), success
  type: bool
"""

import platform
from typing import Any

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
    LockHeldError,
    OperationError,
    lock_to_dict,
)


def take(module: AnsibleModule, store: OperationStore) -> dict[str, Any]:
    """Takes the lock. In check mode one that cannot be had is a warning."""
    parameters = module.params
    try:
        acquisition = store.acquire(
            run_identity(module),
            parameters["operation"],
            parameters["project"],
            host=parameters["host"] or platform.node(),
            playbook=parameters["playbook"] or f"pynomaly.ops.{parameters['operation']}",
            takeover=parameters["takeover"],
            dry_run=module.check_mode,
        )
    except LockHeldError as error:
        if not module.check_mode:
            raise
        module.warn(str(error))
        return {"changed": True, "lock": lock_to_dict(error.lock, utc_now()), "taken_over": None}
    return {
        "changed": acquisition.changed,
        "lock": lock_to_dict(acquisition.lock, utc_now()),
        "taken_over": lock_to_dict(acquisition.taken_over, utc_now()),
    }


def release(module: AnsibleModule, store: OperationStore) -> dict[str, Any]:
    """Records the outcome and releases the lock, where they are this operation's."""
    ending = store.finish(
        run_identity(module),
        module.params["operation"],
        module.params["project"],
        outcome=module.params["outcome"],
        changed=module.params["changed"],
        summary=module.params["summary"],
        undo=module.params["undo"],
        details=module.params["details"],
        dry_run=module.check_mode,
    )
    return {
        "changed": ending.released or ending.recorded,
        "lock": lock_to_dict(ending.lock, utc_now()),
        "recorded": ending.recorded,
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **operation_argument_spec(),
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "takeover": {"type": "str", "default": ""},
            "host": {"type": "str"},
            "playbook": {"type": "str"},
            "outcome": {"type": "str", "choices": ["finished", "failed"], "default": "finished"},
            "changed": {"type": "bool"},
            "summary": {"type": "str", "default": ""},
            "undo": {"type": "str", "default": ""},
            "details": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    store = OperationStore(module.params["state_dir"])
    try:
        answer = (
            take(module, store) if module.params["state"] == "present" else release(module, store)
        )
    except LockHeldError as error:
        module.fail_json(msg=str(error), lock=lock_to_dict(error.lock, utc_now()))
    except (OperationError, StoreError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
