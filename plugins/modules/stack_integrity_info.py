#!/usr/bin/python
# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: stack_integrity_info
short_description: Whether what runs is what was deployed
version_added: 0.2.0
author:
  - Pynomaly Operations (@pynomaly)
description:
  - Compares each container's image with what its name and digest stand for, and lists the files
    that it has changed, beside those that services write as they run.
  - Looks at the database. Its page checksums, whether its catalogs agree with each other and their
    files are there, and which roles are superusers. Where the extension C(amcheck) is there,
    C(pg_amcheck) from the server's own image looks at tables and indexes.
  - Changes nothing.
options:
  project_name:
    description: Name of the Compose project.
    type: str
    default: pynomaly
  service_names:
    description: Component to service, for those that are not called as in the runbook.
    type: dict
    default: {}
  expected_paths:
    description:
      - By service, paths in its containers that may change, with what is below them.
    type: dict
    default: {}
  thresholds:
    description: Thresholds in place of the default ones, as those of the daily check.
    type: dict
    default: {}
  waivers:
    description: What is known and accepted, as for the daily check.
    type: list
    elements: dict
    default: []
  postgres_user:
    description: Who to look at the database as, where the containers' own credentials do not do.
    type: str
    default: ""
  postgres_password:
    description: Their password.
    type: str
    default: ""
  call_timeout_seconds:
    description: Seconds that one call of the engine may take, which compares whole filesystems.
    type: float
    default: 60
attributes:
  check_mode:
    description: It changes nothing.
    support: full
  diff_mode:
    description: It changes nothing.
    support: none
  facts:
    description: It returns no facts.
    support: none
  platform:
    description: Target operating systems.
    support: full
    platforms: posix
requirements:
  - python3-docker (the Docker SDK for Python, 5.0 or newer) on the host
  - python3-psycopg2 on the host
"""

EXAMPLES = r"""
- name: Look at what runs
  pynomaly.ops.stack_integrity_info:
    project_name: pynomaly
    expected_paths:
      pynomaly-api: [/app/cache]
  register: integrity
"""

RETURN = r"""
results:
  description: One answer for each image, container and check of the database.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: What was looked at.
      type: str
      sample: integrity.files
    service:
      description: The service.
      type: str
    instance:
      description: The container.
      type: str
    status:
      description: V(ok), V(warning), V(critical), V(unknown) or V(skipped).
      type: str
    message:
      description: What was seen.
      type: str
    hint:
      description: What to do about it.
      type: str
lines:
  description: What is not well, as text.
  returned: success
  type: list
  elements: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pynomaly.ops.plugins.module_utils._context import CheckSettings
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.compose import discover
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.integrity import (
    IntegrityEngine,
    check,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._integrity import CATALOGUE
from ansible_collections.pynomaly.ops.plugins.module_utils._probe import (
    OK,
    SKIPPED,
    Policy,
    PolicyError,
    parse_thresholds,
    parse_waivers,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._scheduler import CollectorError

ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    "project_name": {"type": "str", "default": "pynomaly"},
    "service_names": {"type": "dict", "default": {}},
    "expected_paths": {"type": "dict", "default": {}},
    "thresholds": {"type": "dict", "default": {}},
    "waivers": {"type": "list", "elements": "dict", "default": []},
    "postgres_user": {"type": "str", "default": ""},
    "postgres_password": {"type": "str", "default": "", "no_log": True},
    "call_timeout_seconds": {"type": "float", "default": 60},
}


def answer_of(parameters: dict[str, Any]) -> dict[str, Any]:
    """What the module returns. Raises L{PolicyError} and L{CollectorError}."""
    policy = Policy(
        CATALOGUE,
        parse_thresholds(parameters["thresholds"], CATALOGUE),
        parse_waivers(parameters["waivers"], CATALOGUE),
    )
    settings = CheckSettings(
        call_timeout_seconds=parameters["call_timeout_seconds"],
        postgres_user=parameters["postgres_user"] or None,
        postgres_password=parameters["postgres_password"] or None,
    )
    engine = IntegrityEngine(parameters["call_timeout_seconds"])
    stack = discover(engine, parameters["project_name"], settings, parameters["service_names"])
    results = check(stack, engine, settings, policy, parameters["expected_paths"])
    lines = [
        f"{one['instance'] or one['service']}: {one['status']}, {one['title']}: {one['message']}"
        for one in results
        if one["status"] not in (OK, SKIPPED)
    ]
    return {"results": results, "lines": lines or ["what runs is what was deployed"]}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    try:
        module.exit_json(changed=False, **answer_of(module.params))
    except (PolicyError, CollectorError) as error:
        hint = getattr(error, "hint", "")
        module.fail_json(msg=f"{error}; next: {hint}" if hint else str(error))


if __name__ == "__main__":
    main()
