#!/usr/bin/python
# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: config_restore
short_description: Bring a project's configuration back from a backup
version_added: 0.2.0
author:
  - Pynomaly Operations (@pynomaly)
description:
  - Unpacks a configuration backup aside, member by member; an absolute path, C(..), a link or a
    device is refused, and nothing is written.
  - Has C(docker compose config), C(nginx -t), C(promtool check config) and C(amtool check-config)
    read the copy, where the project has these.
  - Then puts each file in its place by a rename, brings the project up, restarts what has a changed
    file mounted, and waits until all is running and healthy.
  - Where that does not come about, the configuration before is put back.
  - Files that the backup does not have are left alone.
extends_documentation_fragment:
  - pynomaly.ops.operation
options:
  backup_dir:
    description: Folder of the backups on the host.
    type: path
    default: /backups
  backup:
    description:
      - The configuration backup, by its id, V(latest), V(latest_verified), or V(before=TIME) with
        an ISO 8601 time in UTC.
    type: str
    default: latest
  identity:
    description: The private key of age that opens an encrypted backup.
    type: str
    default: ""
  healthy_timeout_seconds:
    description: How long the project may take to be well again.
    type: float
    default: 180
  up_timeout_seconds:
    description: How long C(docker compose up) may take, images that are pulled included.
    type: float
    default: 600
  call_timeout_seconds:
    description: For each call of the engine.
    type: float
    default: 10
attributes:
  check_mode:
    description: Tests the backup's files and says which would be replaced.
    support: full
  diff_mode:
    description:
      - Shows each file that is replaced. Environment files, files that only their owner may read,
        and values named like a secret's are not shown.
    support: full
seealso:
  - module: pynomaly.ops.files_backup
"""

EXAMPLES = r"""
- name: Bring the newest configuration back
  pynomaly.ops.config_restore:
    operation: restore_config
    project: pynomaly
    run: "{{ lookup('pynomaly.ops.run_identity') }}"
"""

RETURN = r"""
id:
  description: The backup that was taken.
  returned: success
  type: str
replaced:
  description: Files that were replaced.
  returned: success
  type: list
  elements: str
created:
  description: Files that were not there.
  returned: success
  type: list
  elements: str
restarted:
  description: Services that were recreated or restarted.
  returned: success
  type: list
  elements: str
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pynomaly.ops.plugins.module_utils._backup import BackupError
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.config_restore import (
    ConfigRestore,
    run,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.docker import EngineError
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.engine_control import (
    EngineControl,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.operation_module import (
    finish,
    operation_argument_spec,
    temporary_states,
)

ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    "backup_dir": {"type": "path", "default": "/backups"},
    "backup": {"type": "str", "default": "latest"},
    "identity": {"type": "str", "default": "", "no_log": True},
    "healthy_timeout_seconds": {"type": "float", "default": 180},
    "up_timeout_seconds": {"type": "float", "default": 600},
    "call_timeout_seconds": {"type": "float", "default": 10},
}


def restore(module: AnsibleModule) -> dict[str, Any]:
    """What the module returns. Raises L{BackupError}, L{EngineError} and the store's errors."""
    parameters = module.params
    settings = ConfigRestore(
        project=parameters["project"],
        backup_dir=parameters["backup_dir"],
        work_dir=str(Path(parameters["state_dir"]) / "config_restore"),
        wanted=parameters["backup"],
        identity=parameters["identity"],
        up_timeout_seconds=parameters["up_timeout_seconds"],
        healthy_timeout_seconds=parameters["healthy_timeout_seconds"],
        call_timeout_seconds=parameters["call_timeout_seconds"],
    )
    return run(
        settings,
        EngineControl(parameters["call_timeout_seconds"]),
        temporary_states(module),
        module.check_mode,
    )


def main() -> None:
    module = AnsibleModule(
        argument_spec={**operation_argument_spec(), **ARGUMENT_SPEC}, supports_check_mode=True
    )
    finish(module, lambda: restore(module), (BackupError, EngineError))


if __name__ == "__main__":
    main()
