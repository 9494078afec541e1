#!/usr/bin/python
# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: files_backup
short_description: Back up the configuration, the model artifacts, or Redis
version_added: 0.2.0
author:
  - Pynomaly Operations (@pynomaly)
description:
  - Makes one backup below O(backup_dir)C(/KIND/ID), with a manifest that has the size and SHA-256
    of each file. It gets its name once it is whole and synced to the disk. What is left of one that
    fails is removed.
  - V(config) is what the project is made of. Compose files, C(.env), environment files, files of
    configs and secrets, the C(config) folder, and what is bind-mounted from below the project's
    folder. Services' data, what lies elsewhere, and what is larger than O(path_max_bytes) is left
    out, and the manifest names it.
  - V(models) is read out of one of the API's containers, as a stream.
  - V(redis) is a snapshot. C(BGSAVE) is waited for until it has succeeded, and the copy is checked
    with C(redis-check-rdb) where the server's image has it.
  - An archive holds plain files and folders alone; links are named in the manifest.
  - To be run under the host's lock.
extends_documentation_fragment:
  - pynomaly.ops.operation
options:
  kind:
    description: What is backed up.
    type: str
    choices: [config, models, redis]
    required: true
  id:
    description:
      - Name of the backup, which is the project's name, a hyphen and the time in UTC. All kinds
        that one run makes share it. By default it is made of the host's clock.
    type: str
    default: ""
  backup_dir:
    description: Folder of the backups on the host.
    type: path
    default: /backups
  project_dir:
    description: Folder of the project, where no container's label tells it.
    type: path
    default: ""
  service_names:
    description:
      - Component to service, for those that are not called as in the runbook, for instance
        C(api) to C(web).
    type: dict
    default: {}
  paths:
    description:
      - With O(kind=models), absolute paths in the API's container, by default C(/app/models).
      - With O(kind=config), more absolute paths on the host, wherever they are.
    type: list
    elements: str
    default: []
  path_max_bytes:
    description: With O(kind=config), the size up to which a file or a folder is taken.
    type: int
    default: 16777216
  reserve_bytes:
    description: How much has to stay free beside the backup.
    type: int
    default: 268435456
  recipients:
    description:
      - Public keys for which the backup is encrypted with age. Without any it is not encrypted.
    type: list
    elements: str
    default: []
  redis_username:
    description: User of Redis, where the services' environment does not say.
    type: str
    default: ""
  redis_password:
    description: Its password.
    type: str
    default: ""
  call_timeout_seconds:
    description: Seconds that one call of Compose or Redis may take.
    type: float
    default: 10
  timeout_seconds:
    description: Seconds that the backup may take.
    type: float
    default: 3600
attributes:
  check_mode:
    description: Looks at everything, the free space too, and writes nothing.
    support: full
  diff_mode:
    description: There is no diff to show.
    support: none
requirements:
  - python3-docker (the Docker SDK for Python, 5.0 or newer) on the host
  - age on the host, with O(recipients)
seealso:
  - module: pynomaly.ops.backup_retention
  - module: pynomaly.ops.backup_info
"""

EXAMPLES = r"""
- name: Back up the configuration
  pynomaly.ops.files_backup:
    kind: config
    operation: backup
    project: pynomaly
    run: "{{ lookup('pynomaly.ops.run_identity') }}"

- name: Back up the model artifacts of a project with other paths
  pynomaly.ops.files_backup:
    kind: models
    paths: [/srv/models, /srv/encoders]
    operation: backup
    project: shop
    run: "{{ lookup('pynomaly.ops.run_identity') }}"
"""

RETURN = r"""
made:
  description:
    - Whether there is a backup now, or would be but for check mode. False where the stack has
      nothing of the kind.
  returned: success
  type: bool
reason:
  description: Why there is none; empty otherwise.
  returned: success
  type: str
kind:
  description: The kind.
  returned: success
  type: str
id:
  description: The backup's id.
  returned: success
  type: str
path:
  description: Its folder on the host.
  returned: success
  type: str
size_bytes:
  description: Size of its files; 0 in check mode.
  returned: success
  type: int
duration_seconds:
  description: How long it took.
  returned: success
  type: float
members:
  description: How many files it holds.
  returned: success
  type: int
left_out:
  description: What was seen and is not in it, each with RV(ignore:path) and RV(ignore:reason).
  returned: success
  type: list
  elements: dict
remarks:
  description: What the user should know, which is warned of as well.
  returned: success
  type: list
  elements: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pynomaly.ops.plugins.module_utils._backup import BackupError
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.docker import EngineError
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.files_backup import (
    FILES_KINDS,
    FilesBackupSettings,
    run,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.operation_module import (
    finish,
    operation_argument_spec,
    own_options,
    temporary_states,
)

ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    **operation_argument_spec(),
    "kind": {"type": "str", "choices": list(FILES_KINDS), "required": True},
    "id": {"type": "str", "default": ""},
    "backup_dir": {"type": "path", "default": "/backups"},
    "project_dir": {"type": "path", "default": ""},
    "service_names": {"type": "dict", "default": {}},
    "paths": {"type": "list", "elements": "str", "default": []},
    "path_max_bytes": {"type": "int", "default": 16777216},
    "reserve_bytes": {"type": "int", "default": 268435456},
    "recipients": {"type": "list", "elements": "str", "default": []},
    "redis_username": {"type": "str", "default": ""},
    "redis_password": {"type": "str", "default": "", "no_log": True},
    "call_timeout_seconds": {"type": "float", "default": 10},
    "timeout_seconds": {"type": "float", "default": 3600},
}


def settings_of(parameters: dict[str, Any]) -> FilesBackupSettings:
    """The module's options as the backup takes them."""
    return FilesBackupSettings(**own_options(parameters, ARGUMENT_SPEC, {}))


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    finish(
        module,
        lambda: run(settings_of(module.params), temporary_states(module), module.check_mode),
        (BackupError, EngineError),
    )


if __name__ == "__main__":
    main()
