#!/usr/bin/python
# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: backup_retention
short_description: Remove the backups that a policy does not keep, once a new one has succeeded
version_added: 0.2.0
author:
  - Pynomaly Operations (@pynomaly)
description:
  - Keeps the newest backups of a kind, and the newest of each of the last days, ISO weeks and
    months that have backups. These are counted where there are backups, and never from now, so that
    a clock that is a year off removes nothing more.
  - Never removes the newest verified backup, nor the one that this run made, nor what is dated in
    the future, which takes nobody's place either.
  - Removes nothing while the newest backup is damaged, or where this run's own O(made) is not
    there.
  - A damaged backup takes nobody's place. It stays to be looked at for as long as a whole one would
    by O(keep_last), and at least until a newer one is whole.
  - A backup loses its name before its files are removed, so that none is ever half there.
  - To be run under the host's lock.
options:
  project_name:
    description: Name of the project whose backups they are.
    type: str
    required: true
  backup_dir:
    description: Folder of the backups on the host.
    type: path
    default: /backups
  kind:
    description: The kind of backups.
    type: str
    choices: [database, config, models, redis]
    required: true
  made:
    description:
      - Id of the backup of this kind that this run has made. In check mode it need not be there.
    type: str
    required: true
  keep_last:
    description: How many of the newest backups to keep.
    type: int
    default: 7
  keep_daily:
    description: How many days with backups to keep the newest backup of.
    type: int
    default: 7
  keep_weekly:
    description: The same for ISO weeks.
    type: int
    default: 4
  keep_monthly:
    description: The same for months.
    type: int
    default: 6
attributes:
  check_mode:
    description: Says what would be removed.
    support: full
  diff_mode:
    description: Shows the names before and after.
    support: full
seealso:
  - module: pynomaly.ops.backup_info
"""

EXAMPLES = r"""
- name: Keep two weeks of configurations, and a year of months
  pynomaly.ops.backup_retention:
    project_name: pynomaly
    kind: config
    made: "{{ backup.id }}"
    keep_daily: 14
    keep_monthly: 12
"""

RETURN = r"""
kept:
  description: What is kept, newest first, and which rules keep it.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: The backup.
      type: str
    reasons:
      description: Why.
      type: list
      elements: str
  sample:
    - id: pynomaly-20261124T030000Z
      reasons: [last, day 2026-11-24, made by this run]
removed:
  description: What was removed, newest first, and why.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: The backup.
      type: str
    reasons:
      description: Why.
      type: list
      elements: str
withheld:
  description: Why nothing is removed whatever the policy says; empty where it was applied.
  returned: success
  type: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pynomaly.ops.plugins.module_utils._backup import KINDS, BackupError
from ansible_collections.pynomaly.ops.plugins.module_utils._backup_retention import (
    RetentionPolicy,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.backup_retention import (
    RetentionSettings,
    run,
)

ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    "project_name": {"type": "str", "required": True},
    "backup_dir": {"type": "path", "default": "/backups"},
    "kind": {"type": "str", "choices": list(KINDS), "required": True},
    "made": {"type": "str", "required": True},
    "keep_last": {"type": "int", "default": 7},
    "keep_daily": {"type": "int", "default": 7},
    "keep_weekly": {"type": "int", "default": 4},
    "keep_monthly": {"type": "int", "default": 6},
}


def settings_of(parameters: dict[str, Any]) -> RetentionSettings:
    """The module's options as retention takes them."""
    return RetentionSettings(
        project=parameters["project_name"],
        kind=parameters["kind"],
        backup_dir=parameters["backup_dir"],
        made=parameters["made"],
        policy=RetentionPolicy(
            **{name: value for name, value in parameters.items() if name.startswith("keep_")}
        ),
    )


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    try:
        answer = run(settings_of(module.params), dry_run=module.check_mode)
    except BackupError as error:
        module.fail_json(msg=f"{error}; next: {error.hint}" if error.hint else str(error))
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
