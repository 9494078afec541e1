#!/usr/bin/python
# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: backup_info
short_description: Tell which backups there are, and what they take
version_added: 0.2.0
author:
  - Pynomaly Operations (@pynomaly)
description:
  - Reads the manifests of a project's backups, and how each was last verified. Reads no other file
    of a backup, and changes nothing. M(pynomaly.ops.backup_verify) proves them.
options:
  project_name:
    description: Name of the project whose backups they are.
    type: str
    required: true
  backup_dir:
    description: Folder of the backups on the host.
    type: path
    default: /backups
  kinds:
    description: Kinds of backups.
    type: list
    elements: str
    choices: [database, config, models, redis]
    default: [database, config, models, redis]
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
  - plugin: pynomaly.ops.backup_table
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Read which backups there are
  pynomaly.ops.backup_info:
    project_name: pynomaly
  register: backups

- name: Show them
  ansible.builtin.debug:
    msg: "{{ backups | pynomaly.ops.backup_table }}"
"""

RETURN = r"""
backups:
  description: The backups, newest first.
  returned: success
  type: list
  elements: dict
  contains:
    kind:
      description: The kind.
      type: str
    id:
      description: The id.
      type: str
    path:
      description: Its folder.
      type: str
    created_at:
      description: When it was made, in UTC.
      type: str
    age_seconds:
      description: How long ago.
      type: int
    size_bytes:
      description: Size of its files; null where its manifest cannot be used.
      type: int
    duration_seconds:
      description: How long it took.
      type: float
    what:
      description: What is in it, in a few words.
      type: str
    encrypted:
      description: Whether it is encrypted.
      type: bool
    whole:
      description: Whether its manifest is as it was written.
      type: bool
    verified:
      description: Whether it was restored and found equal, and not found damaged since.
      type: bool
    verified_at:
      description: When it was last verified; null for never.
      type: str
    verified_by:
      description: How, V(full) by restoring it or V(quick) by its checksums.
      type: str
    restorable_by:
      description: Which versions of the server can take it.
      type: str
    problem:
      description: What is wrong with it; empty where nothing is.
      type: str
storage:
  description: What the backups take.
  returned: success
  type: dict
  contains:
    kinds:
      description:
        - By kind, RV(ignore:count), RV(ignore:used_bytes) and RV(ignore:growth_bytes_per_day).
          The last is null where the last month has no two backups a day apart.
      type: dict
    free_bytes:
      description: What the filesystem has left.
      type: int
    next_bytes:
      description: What the next backup of every kind takes, if each is as large as the last.
      type: int
    growth_bytes_per_day:
      description: Growth of all kinds, retention counted; null where it is not known.
      type: int
    days_left:
      description: How long the free space does at that growth; null where there is none.
      type: float
stagings:
  description: Folders of backups that were never finished. None of them is counted.
  returned: success
  type: list
  elements: str
new_id:
  description: The id that a backup made now would have.
  returned: success
  type: str
backup_dir:
  description: The folder of the backups.
  returned: success
  type: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pynomaly.ops.plugins.module_utils._backup import KINDS, BackupError
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.backup_info import run
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.backup_store import BackupStore

ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    "project_name": {"type": "str", "required": True},
    "backup_dir": {"type": "path", "default": "/backups"},
    "kinds": {"type": "list", "elements": "str", "choices": list(KINDS), "default": list(KINDS)},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    try:
        store = BackupStore(module.params["backup_dir"], module.params["project_name"])
        answer = run(store, module.params["kinds"])
    except BackupError as error:
        module.fail_json(msg=f"{error}; next: {error.hint}" if error.hint else str(error))
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
