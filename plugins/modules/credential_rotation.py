#!/usr/bin/python
# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: credential_rotation
short_description: Replace a running project's credentials, and prove that the old ones are dead
version_added: 0.2.0
author:
  - Pynomaly Operations (@pynomaly)
description:
  - New secrets are made once, on the host, and kept in a file of mode 0600 below O(state_dir) until
    they are proved. A run that is killed goes on with them when it is run again. Nothing goes back
    to an old secret, which is taken to be known to somebody.
  - PostgreSQL gets a SCRAM verifier that is computed here, and never the password. Redis takes the
    new password beside the old one until everything has moved. Grafana's is changed by its API. The
    API's signing keys are in its environment alone.
  - The project's environment files, and files below its folder that its containers have mounted
    (secret files, Redis's configuration and users), get the new secrets by a rename. What is
    recreated are the services whose definition is another one with them, as C(docker compose
    config) tells, and those that have such a file mounted. Several containers of a service go one
    at a time, each waited for.
  - Where the API has two replicas or more and the whole database URL is in the environment file,
    the replicas go over a second role while the first one changes its password, so that none of
    them is ever refused.
  - PostgreSQL's own container is not recreated where it needs not be, since that would cost
    requests. Its environment, which it reads only when its data directory is made, then has the
    dead password until the next deployment.
  - At the end each new secret is tried from a container of its own on the project's network, and
    each old one is seen to be refused there. Sessions that were begun with an old one are ended.
  - To be run under the host's lock.
extends_documentation_fragment:
  - pynomaly.ops.operation
options:
  credentials:
    description:
      - Which ones. Empty for all that the project has; one that is named and not there is an error.
    type: list
    elements: str
    choices: [postgres, redis, api, grafana]
    default: []
  api_key_variables:
    description:
      - Variables of the API's environment that hold a signing key. By default those called so, such
        as C(SECRET_KEY) and C(JWT_SECRET). A key that encrypts what is kept does not belong here.
    type: list
    elements: str
    default: []
  recreate_server:
    description: Recreate PostgreSQL's container as well, while which no request is served.
    type: bool
    default: false
  healthy_timeout_seconds:
    description: How long a recreated container may take to be healthy.
    type: float
    default: 180
  service_names:
    description: Component to service, for those that are not called as in the runbook.
    type: dict
    default: {}
  postgres_user:
    description: Who to change roles as, where the containers' own credentials do not do.
    type: str
    default: ""
  postgres_password:
    description: Their password.
    type: str
    default: ""
  call_timeout_seconds:
    description: Seconds that one call of the engine or of Compose may take.
    type: float
    default: 10
attributes:
  check_mode:
    description: Looks for everything that forbids it, and says what would be rotated and recreated.
    support: full
  diff_mode:
    description: There is no diff to show; a difference would be a secret.
    support: none
requirements:
  - python3-docker (the Docker SDK for Python, 5.0 or newer) on the host
  - python3-psycopg2 on the host
seealso:
  - module: pynomaly.ops.operation_resume
"""

EXAMPLES = r"""
- name: Replace every credential
  pynomaly.ops.credential_rotation:
    operation: incident_recover
    project: pynomaly
    run: "{{ lookup('pynomaly.ops.run_identity') }}"

- name: Replace the database's password
  pynomaly.ops.credential_rotation:
    credentials: [postgres]
    operation: incident_recover
    project: pynomaly
    run: "{{ lookup('pynomaly.ops.run_identity') }}"
"""

RETURN = r"""
rotated:
  description: What has a new secret, or would have; the credential and the role, user or variable.
  returned: success
  type: list
  elements: str
  sample: [postgres pynomaly, redis default, api SECRET_KEY]
dependents:
  description: Services that are recreated for it.
  returned: success
  type: list
  elements: str
recreated:
  description: Services of which a container was recreated, in that order, by this run.
  returned: success
  type: list
  elements: str
two_roles:
  description: Whether the API's replicas go over a second role.
  returned: success
  type: bool
resumed:
  description: Whether a run before had begun it.
  returned: success
  type: bool
ended_sessions:
  description: Sessions begun with an old secret that were ended.
  returned: success
  type: int
proofs:
  description: What was seen of each secret.
  returned: success
  type: list
  elements: dict
  contains:
    credential:
      description: The credential.
      type: str
    secret:
      description: Which of them, V(new) or V(old).
      type: str
    seen:
      description: Whether it was let in, and from where.
      type: str
remarks:
  description: What the user should know, which is warned of as well.
  returned: success
  type: list
  elements: str
tables:
  description: The proofs, for a report.
  returned: success
  type: list
  elements: dict
lines:
  description: The above as text.
  returned: success
  type: list
  elements: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pynomaly.ops.plugins.module_utils._context import CheckSettings
from ansible_collections.pynomaly.ops.plugins.module_utils._credential_rotation import (
    CREDENTIALS,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.credential_rotation import (
    FAILURES,
    Rotation,
    run,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.engine_control import (
    EngineControl,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.operation_module import (
    finish,
    operation_argument_spec,
    temporary_states,
)

ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    **operation_argument_spec(),
    "credentials": {
        "type": "list",
        "elements": "str",
        "choices": list(CREDENTIALS),
        "default": [],
        "no_log": False,
    },
    "api_key_variables": {"type": "list", "elements": "str", "default": [], "no_log": False},
    "recreate_server": {"type": "bool", "default": False},
    "healthy_timeout_seconds": {"type": "float", "default": 180},
    "service_names": {"type": "dict", "default": {}},
    "postgres_user": {"type": "str", "default": ""},
    "postgres_password": {"type": "str", "default": "", "no_log": True},
    "call_timeout_seconds": {"type": "float", "default": 10},
}


def rotation_of(parameters: dict[str, Any]) -> Rotation:
    """What is asked for."""
    return Rotation(
        project=parameters["project"],
        state_dir=parameters["state_dir"],
        credentials=tuple(parameters["credentials"]) or CREDENTIALS,
        all_there=not parameters["credentials"],
        service_names=parameters["service_names"],
        api_key_variables=tuple(parameters["api_key_variables"]),
        recreate_server=parameters["recreate_server"],
        healthy_timeout_seconds=parameters["healthy_timeout_seconds"],
        check=CheckSettings(
            call_timeout_seconds=parameters["call_timeout_seconds"],
            postgres_user=parameters["postgres_user"] or None,
            postgres_password=parameters["postgres_password"] or None,
        ),
    )


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)

    def work() -> dict[str, Any]:
        return run(
            rotation_of(module.params),
            EngineControl(module.params["call_timeout_seconds"]),
            temporary_states(module),
            dry_run=module.check_mode,
        )

    finish(module, work, FAILURES)


if __name__ == "__main__":
    main()
