#!/usr/bin/python
# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: backup_verify
short_description: Prove a backup by restoring it into a server that is thrown away
version_added: 0.2.0
author:
  - Pynomaly Operations (@pynomaly)
description:
  - Compares every file of a backup with the SHA-256 in its manifest.
  - With O(method=full), restores a database into a throw-away server of the image that the project
    runs, on no network, compares each table's rows and values, the sequences, large objects,
    extensions, and the definition of every object with the manifest, and runs C(pg_amcheck).
    Archives are read to their end, member by member.
  - What came of it is written beside the backup, and as metrics for node_exporter.
  - A backup that is found damaged is no failure of the module; RV(ok) says so.
extends_documentation_fragment:
  - pynomaly.ops.operation
options:
  service_names:
    description: Names of services by component, where they are not found.
    type: dict
    default: {}
  backup_dir:
    description: Folder of the backups on the host.
    type: path
    default: /backups
  kind:
    description: The kind of backup.
    type: str
    choices: [database, config, models, redis]
    default: database
  backup:
    description:
      - The backup, by its id, V(latest), V(latest_verified), or V(before=TIME) with an ISO 8601
        time in UTC.
    type: str
    default: latest
  method:
    description: Whether it is restored, or its checksums alone are looked at.
    type: str
    choices: [full, quick]
    default: full
  image:
    description:
      - Image of PostgreSQL to restore into, for a backup of another major version than the one that
        the project runs. It must be on the host.
    type: str
    default: ""
  identity:
    description: The private key of age that opens an encrypted backup.
    type: str
    default: ""
  textfile_dir:
    description: Folder of node_exporter's textfile collector. Without one nothing is written there.
    type: path
    default: ""
  jobs:
    description: Sessions side by side.
    type: int
    default: 2
  timeout_seconds:
    description: For all of it.
    type: float
    default: 14400
attributes:
  check_mode:
    description: Says which backup would be verified.
    support: full
  diff_mode:
    description: There is no diff to show.
    support: none
"""

EXAMPLES = r"""
- name: Prove the newest database backup
  pynomaly.ops.backup_verify:
    operation: backup_verify
    project: pynomaly
    run: "{{ lookup('pynomaly.ops.run_identity') }}"

- name: Compare the checksums of the newest configuration backup
  pynomaly.ops.backup_verify:
    operation: backup_verify
    project: pynomaly
    run: "{{ lookup('pynomaly.ops.run_identity') }}"
    kind: config
    method: quick
"""

RETURN = r"""
id:
  description: The backup that was looked at.
  returned: success
  type: str
kind:
  description: Its kind.
  returned: success
  type: str
method:
  description: How it was looked at.
  returned: success
  type: str
ok:
  description: Whether it is what its manifest says.
  returned: success
  type: bool
problems:
  description: What is not, each with what was seen and expected.
  returned: success
  type: list
  elements: str
duration_seconds:
  description: How long it took.
  returned: success
  type: float
details:
  description:
    - RV(ignore:restored), RV(ignore:restore_seconds), RV(ignore:tables), RV(ignore:server) and
      RV(ignore:pg_amcheck), as far as it came.
  returned: success
  type: dict
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pynomaly.ops.plugins.module_utils._backup import (
    FULL,
    KINDS,
    LATEST,
    QUICK,
    BackupError,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.backup_verify import (
    VerifySettings,
    run,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.operation_module import (
    finish,
    operation_argument_spec,
    own_options,
    temporary_states,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.postgres_server import (
    PostgresError,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._scheduler import CollectorError

ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    **operation_argument_spec(),
    "service_names": {"type": "dict", "default": {}},
    "backup_dir": {"type": "path", "default": "/backups"},
    "kind": {"type": "str", "choices": list(KINDS), "default": "database"},
    "backup": {"type": "str", "default": LATEST},
    "method": {"type": "str", "choices": [FULL, QUICK], "default": FULL},
    "image": {"type": "str", "default": ""},
    "identity": {"type": "str", "default": "", "no_log": True},
    "textfile_dir": {"type": "path", "default": ""},
    "jobs": {"type": "int", "default": 2},
    "timeout_seconds": {"type": "float", "default": 14400},
}


_RENAMED = {"backup": "wanted"}


def settings_of(parameters: dict[str, Any]) -> VerifySettings:
    """The module's options as the proof takes them. Raises L{BackupError}."""
    for name in ("jobs", "timeout_seconds"):
        if parameters[name] <= 0:
            raise BackupError(f"{name}: seen {parameters[name]}, expected a number above 0")
    return VerifySettings(**own_options(parameters, ARGUMENT_SPEC, _RENAMED))


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    finish(
        module,
        lambda: run(settings_of(module.params), temporary_states(module), module.check_mode),
        (BackupError, PostgresError, CollectorError),
    )


if __name__ == "__main__":
    main()
