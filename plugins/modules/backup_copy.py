#!/usr/bin/python
# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: backup_copy
short_description: Copy backups to another place, or fetch one from there
version_added: 0.2.0
author:
  - Pynomaly Operations (@pynomaly)
description:
  - Copies the newest whole backup of each kind to a remote of rclone's, such as another host by
    SFTP or an S3-compatible store, and reads every byte back.
  - A copy is whole once the digest of its manifest is there, which comes last. What has none is
    never fetched, and is completed by the next run.
  - A copy that fails leaves the local backup as it is.
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
  state:
    description:
      - With V(copied), the newest whole backup of each kind is in the other place.
      - With V(fetched), the backup O(id) is on the host; it gets its name once its checksums hold.
      - With V(listed), nothing is copied.
    type: str
    choices: [copied, fetched, listed]
    default: copied
  id:
    description: The backup to fetch, of one kind.
    type: str
  remote:
    description:
      - The remote's C(type) and options, named as in rclone's documentation of that type, such as
        C(host) and C(key_file) for C(sftp), or C(endpoint) for C(s3).
      - For C(sftp), C(known_hosts_file) is C(/root/.ssh/known_hosts) where nothing else is said.
    type: dict
    required: true
  remote_secrets:
    description:
      - More options of the remote, which are never shown. They reach rclone by its environment.
    type: dict
    default: {}
  path:
    description: Folder of the remote, or bucket and folder.
    type: str
    required: true
  timeout_seconds:
    description: For each call of rclone.
    type: float
    default: 3600
attributes:
  check_mode:
    description: Says what would be copied or fetched.
    support: full
  diff_mode:
    description: There is no diff to show.
    support: none
requirements:
  - rclone on the host
"""

EXAMPLES = r"""
- name: Copy the newest backups to an S3-compatible store
  pynomaly.ops.backup_copy:
    project_name: pynomaly
    path: backups/server1
    remote:
      type: s3
      provider: Other
      endpoint: https://s3.example.com
    remote_secrets:
      access_key_id: "{{ vault_backup_access_key_id }}"
      secret_access_key: "{{ vault_backup_secret_access_key }}"

- name: Fetch a database backup from another host
  pynomaly.ops.backup_copy:
    project_name: pynomaly
    state: fetched
    kinds: [database]
    id: pynomaly-20261124T030000Z
    path: /srv/backups/server1
    remote: {type: sftp, host: backup.example.com, user: backup, key_file: /root/.ssh/backup}
"""

RETURN = r"""
copied:
  description: What was copied or fetched, as C(KIND/ID).
  returned: success
  type: list
  elements: str
present:
  description: Ids that are whole in the other place, newest first, by kind.
  returned: success
  type: dict
  sample: {database: [pynomaly-20261124T030000Z]}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pynomaly.ops.plugins.module_utils._backup import (
    KINDS,
    BackupError,
    is_id,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.backup_copy import (
    Offsite,
    OffsiteCopy,
    unsent,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.backup_store import BackupStore

ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    "project_name": {"type": "str", "required": True},
    "backup_dir": {"type": "path", "default": "/backups"},
    "kinds": {"type": "list", "elements": "str", "choices": list(KINDS), "default": list(KINDS)},
    "state": {"type": "str", "choices": ["copied", "fetched", "listed"], "default": "copied"},
    "id": {"type": "str"},
    "remote": {"type": "dict", "required": True},
    "remote_secrets": {"type": "dict", "default": {}, "no_log": True},
    "path": {"type": "str", "required": True},
    "timeout_seconds": {"type": "float", "default": 3600},
}


def copy_newest(parameters: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """What the module returns for C{state=copied}. Raises L{BackupError}."""
    store, offsite = _places(parameters)
    waiting = unsent(store, offsite, parameters["kinds"])
    if not check_mode:
        for backup in waiting:
            offsite.push(backup)
    return {
        "changed": bool(waiting),
        "copied": [f"{backup.kind}/{backup.id}" for backup in waiting],
        "present": {kind: offsite.ids(kind) for kind in parameters["kinds"]},
    }


def fetch(parameters: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """What the module returns for C{state=fetched}. Raises L{BackupError}."""
    store, offsite = _places(parameters)
    (kind,), identifier = parameters["kinds"], parameters["id"]
    present = offsite.ids(kind)
    missing = not store.path(kind, identifier).exists()
    if identifier not in present:
        seen = ", ".join(present[:3]) or "none"
        raise BackupError(f"{kind} backup {identifier} is not in the other place: seen {seen}")
    if missing and not check_mode:
        offsite.pull(kind, identifier)
    return {
        "changed": missing,
        "copied": [f"{kind}/{identifier}"] if missing else [],
        "present": {kind: present},
    }


def listed(parameters: dict[str, Any]) -> dict[str, Any]:
    """What the module returns for C{state=listed}. Raises L{BackupError}."""
    _store, offsite = _places(parameters)
    present = {kind: offsite.ids(kind) for kind in parameters["kinds"]}
    return {"changed": False, "copied": [], "present": present}


def _places(parameters: dict[str, Any]) -> tuple[BackupStore, OffsiteCopy]:
    store = BackupStore(parameters["backup_dir"], parameters["project_name"])
    remote = {**parameters["remote"], **parameters["remote_secrets"]}
    where = Offsite(remote, parameters["path"], parameters["timeout_seconds"])
    return store, OffsiteCopy(where, store)


def main() -> None:
    module = AnsibleModule(
        argument_spec=ARGUMENT_SPEC,
        required_if=[("state", "fetched", ("id",))],
        supports_check_mode=True,
    )
    parameters = module.params
    if parameters["state"] == "fetched" and len(parameters["kinds"]) != 1:
        module.fail_json(msg=f"kinds: seen {parameters['kinds']}, expected one kind with an id")
    if parameters["id"] is not None and not is_id(parameters["id"]):
        module.fail_json(
            msg=f"id: seen {parameters['id']!r}, expected one like pynomaly-20261124T030000Z; "
            "next: ansible-playbook pynomaly.ops.backup_list"
        )
    try:
        if parameters["state"] == "copied":
            answer = copy_newest(parameters, module.check_mode)
        elif parameters["state"] == "fetched":
            answer = fetch(parameters, module.check_mode)
        else:
            answer = listed(parameters)
    except BackupError as error:
        module.fail_json(msg=f"{error}; next: {error.hint}" if error.hint else str(error))
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
