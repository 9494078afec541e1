#!/usr/bin/python
# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: backup_metrics
short_description: Leave metrics about a project's backups for node_exporter
version_added: 0.2.0
author:
  - Pynomaly Operations (@pynomaly)
description:
  - Writes C(pynomaly_backup_PROJECT.prom) into the folder of node_exporter's textfile collector.
  - It has the number of backups of each kind, when the newest was made and how large it is, how
    many are damaged, and when one was last restored and found equal.
options:
  project_name:
    description: Name of the project whose backups they are.
    type: str
    required: true
  backup_dir:
    description: Folder of the backups on the host.
    type: path
    default: /backups
  textfile_dir:
    description: Folder of the textfile collector. Where it is not there, nothing is written.
    type: path
    required: true
attributes:
  check_mode:
    description: Writes nothing.
    support: full
  diff_mode:
    description: There is no diff to show.
    support: none
"""

EXAMPLES = r"""
- name: Leave metrics about the backups
  pynomaly.ops.backup_metrics:
    project_name: pynomaly
    textfile_dir: /var/lib/pynomaly-ops/textfile
"""

RETURN = r"""
path:
  description: The file that was written. Empty where none was.
  returned: success
  type: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pynomaly.ops.plugins.module_utils._backup import BackupError
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.backup_metrics import (
    write_metrics,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.backup_store import BackupStore

ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    "project_name": {"type": "str", "required": True},
    "backup_dir": {"type": "path", "default": "/backups"},
    "textfile_dir": {"type": "path", "required": True},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    store = BackupStore(module.params["backup_dir"], module.params["project_name"])
    try:
        path = "" if module.check_mode else write_metrics(store, module.params["textfile_dir"])
    except BackupError as error:
        module.fail_json(msg=f"{error}; next: {error.hint}" if error.hint else str(error))
    module.exit_json(changed=bool(path), path=path)


if __name__ == "__main__":
    main()
