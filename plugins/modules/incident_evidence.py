#!/usr/bin/python
# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: incident_evidence
short_description: Gather evidence of a host and its stack, or tell whether a bundle is as it was
version_added: 0.2.0
author:
  - Pynomaly Operations (@pynomaly)
description:
  - Writes a bundle, a folder of mode 0700 with files of mode 0600. In it are the logs of each
    service with timestamps, what C(docker inspect), C(docker top) and C(docker diff) say, the
    images' digests, processes and connections of each container, the sessions, roles and recent
    role changes of PostgreSQL, the clients and ACLs of Redis, and of the host the firewall, who is
    logged in, logins, cron, timers, listening ports and connections.
  - Containers are looked at from outside, through the engine and the host's C(/proc). Nothing is
    run in them and nothing about them changes. PostgreSQL and Redis are asked over the network, in
    sessions that cannot write.
  - What fails, hangs or is too large is told in RV(problems), and stops nothing else.
  - Secrets are redacted as the files are written, by name, by known value and by shape.
    C(redactions.json) in the bundle tells how many and why, and for which known values no text
    could be searched. Environments of processes, hashes of passwords and C(/etc/shadow) are not
    read.
  - C(SHA256SUMS) can be given to C(sha256sum -c). C(custody.jsonl) tells who gathered what, when,
    by which command, and the hash of each file; each line has the hash of the line before.
    RV(head) is the hash of the last, to be kept somewhere else than on the host.
  - The bundle has its name only once it is whole and on the disk. A folder C(.partial-…) is of a
    run that died.
extends_documentation_fragment:
  - pynomaly.ops.operation
options:
  state:
    description:
      - With V(gathered) a bundle is made, with V(verified) the one in O(path) is compared with its
        checksums and its chain of custody, and the module fails where it differs.
    type: str
    choices: [gathered, verified]
    default: gathered
  incident:
    description: Id of the incident, in whose folder the bundle is made.
    type: str
    default: ""
  path:
    description:
      - The folder that the bundle is made in, in place of the incident's. By default, where no
        incident is named either, C(evidence) in O(state_dir).
      - With O(state=verified), the bundle itself.
    type: path
    default: ""
  head:
    description: With O(state=verified), what RV(head) was when the bundle was made.
    type: str
    default: ""
  since:
    description: Since when logs are wanted, a period such as V(24h) or a time (ISO 8601, UTC).
    type: str
    default: 24h
  services:
    description: Services whose containers are wanted; with none, all of them.
    type: list
    elements: str
    default: []
  quick:
    description:
      - Gather only what vanishes first, and of logs only the newest lines, within 20 seconds. For
        when something has to be stopped.
    type: bool
    default: false
  reason:
    description: Why, for the chain of custody.
    type: str
    default: ""
  max_bytes:
    description: Of each file, so many bytes are kept; of a log, the newest.
    type: int
    default: 268435456
  timeout_seconds:
    description: How long all of it may take.
    type: float
    default: 300
  source_timeout_seconds:
    description: How long one source may take.
    type: float
    default: 60
  reserve_bytes:
    description: What has to stay free on the filesystem of the bundle.
    type: int
    default: 67108864
  call_timeout_seconds:
    description: How long one call of the container engine may take.
    type: float
    default: 10
  service_names:
    description: Which service is which component, where the names differ from the runbook's.
    type: dict
    default: {}
  postgres_user:
    description: Who to ask PostgreSQL as, in place of what the services' environment says.
    type: str
  postgres_password:
    description: Their password.
    type: str
  redis_username:
    description: Who to ask Redis as, in place of what the services' environment says.
    type: str
  redis_password:
    description: Their password.
    type: str
attributes:
  check_mode:
    description: Tells which sources would be asked, and writes nothing.
    support: full
  diff_mode:
    description: There is no diff to show.
    support: none
requirements:
  - python3-docker (the Docker SDK for Python, 5.0 or newer) on the host; without it, or without an
    engine, there is evidence of the host alone
  - python3-psycopg2 on the host, for PostgreSQL
notes:
  - Takes no lock, so that it can be used while an operation is stuck.
  - PostgreSQL does not tell when a role was changed unless it logs statements or keeps the times of
    commits. C(postgres/role_changes.json) says what cannot be known.
"""

EXAMPLES = r"""
- name: Gather what there is, before anything is touched
  pynomaly.ops.incident_evidence:
    incident: 20261124-1405-7c1f
    since: 24h
    reason: requests from 203.0.113.7
    operation: incident_investigate
    project: pynomaly
    run: "{{ lookup('pynomaly.ops.run_identity') }}"
  register: evidence

- name: See that nobody has changed it
  pynomaly.ops.incident_evidence:
    state: verified
    path: "{{ evidence.path }}"
    head: "{{ evidence.head }}"
    operation: incident_investigate
    project: pynomaly
    run: "{{ lookup('pynomaly.ops.run_identity') }}"
"""

RETURN = r"""
path:
  description: The bundle; empty in check mode.
  returned: success
  type: str
files:
  description: How many files it has.
  returned: success
  type: int
bytes:
  description: How large they are together.
  returned: with O(state=gathered)
  type: int
complete:
  description: Whether every source is there and whole, apart from those that the host lacks.
  returned: success
  type: bool
problems:
  description: What is not, each with C(source), C(status) (V(cut) or V(failed)) and C(reason).
  returned: success
  type: list
  elements: dict
head:
  description: Hash of the last line of the chain of custody.
  returned: success
  type: str
sources:
  description: What was asked, or would be.
  returned: with O(state=gathered)
  type: list
  elements: str
results:
  description: A result for each group of sources, in the shape of the daily check's.
  returned: with O(state=gathered)
  type: list
  elements: dict
tables:
  description: For the report, each with C(title), C(columns) and C(rows).
  returned: with O(state=gathered)
  type: list
  elements: dict
duration_ms:
  description: How long it took.
  returned: with O(state=gathered)
  type: float
remarks:
  description: What the user should know, which is warned of as well.
  returned: success
  type: list
  elements: str
lines:
  description: The above as text.
  returned: success
  type: list
  elements: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.evidence import (
    EvidenceSettings,
    gather,
    verified,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.operation_module import (
    finish,
    operation_argument_spec,
    own_options,
    run_identity,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._evidence import EvidenceError

GATHERED = "gathered"
VERIFIED = "verified"

ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    **operation_argument_spec(),
    "state": {"type": "str", "choices": [GATHERED, VERIFIED], "default": GATHERED},
    "incident": {"type": "str", "default": ""},
    "path": {"type": "path", "default": ""},
    "head": {"type": "str", "default": ""},
    "since": {"type": "str", "default": "24h"},
    "services": {"type": "list", "elements": "str", "default": []},
    "quick": {"type": "bool", "default": False},
    "reason": {"type": "str", "default": ""},
    "max_bytes": {"type": "int", "default": 268435456},
    "timeout_seconds": {"type": "float", "default": 300},
    "source_timeout_seconds": {"type": "float", "default": 60},
    "reserve_bytes": {"type": "int", "default": 67108864},
    "call_timeout_seconds": {"type": "float", "default": 10},
    "service_names": {"type": "dict", "default": {}},
    "postgres_user": {"type": "str"},
    "postgres_password": {"type": "str", "no_log": True},
    "redis_username": {"type": "str"},
    "redis_password": {"type": "str", "no_log": True},
}


def answer_of(module: AnsibleModule) -> dict[str, Any]:
    """What the module returns. Raises L{EvidenceError} and C{OperationError}."""
    parameters = module.params
    if parameters["state"] == VERIFIED:
        return verified(parameters["path"], parameters["head"])
    names = set(ARGUMENT_SPEC) - {"state", "head"}
    options = {**own_options(parameters, names, {}), "state_dir": parameters["state_dir"]}
    return gather(
        EvidenceSettings(**options),
        run_identity(module),
        parameters["operation"],
        dry_run=module.check_mode,
    )


def main() -> None:
    module = AnsibleModule(
        argument_spec=ARGUMENT_SPEC,
        required_if=[("state", VERIFIED, ("path",))],
        supports_check_mode=True,
    )
    finish(module, lambda: answer_of(module), (EvidenceError,))


if __name__ == "__main__":
    main()
