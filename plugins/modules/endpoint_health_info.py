#!/usr/bin/python
# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: endpoint_health_info
short_description: Ask addresses by HTTP whether they answer, from wherever the module runs
version_added: 0.2.0
author:
  - Pynomaly Operations (@pynomaly)
description:
  - One GET an address, each within O(call_timeout_seconds), side by side. Delegated to the
    controller it tells what somebody else than the server itself sees.
  - An address is well where it answers with 2xx or redirects. Certificates are not verified, which
    M(pynomaly.ops.stack_health_info) does.
options:
  urls:
    description: The addresses, C(http) or C(https), with their paths.
    type: list
    elements: str
    required: true
  service:
    description: The service that the results name.
    type: str
    default: external
  failure_status:
    description: The status of what does not answer, or answers with an error.
    type: str
    choices: [warning, critical]
    default: critical
  call_timeout_seconds:
    description: How long one address may take.
    type: float
    default: 10
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
  - module: pynomaly.ops.outage_recovery
"""

EXAMPLES = r"""
- name: Ask for the API from here
  pynomaly.ops.endpoint_health_info:
    urls: [https://pynomaly.example.com/health]
  delegate_to: localhost
"""

RETURN = r"""
results:
  description: One entry an address, in the shape of M(pynomaly.ops.stack_health_info).
  returned: success
  type: list
  elements: dict
problems:
  description: What does not answer as it should, as text.
  returned: success
  type: list
  elements: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.docker import side_by_side
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.outage_findings import ask_url

ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    "urls": {"type": "list", "elements": "str", "required": True},
    "service": {"type": "str", "default": "external"},
    "failure_status": {"type": "str", "choices": ["warning", "critical"], "default": "critical"},
    "call_timeout_seconds": {"type": "float", "default": 10},
}


def read(parameters: dict[str, Any]) -> dict[str, Any]:
    """What the module returns. Raises C{ValueError} for an address that cannot be used."""
    seconds, service = parameters["call_timeout_seconds"], parameters["service"]
    results = []
    for url, answer in side_by_side(
        lambda one: ask_url(one, seconds, service, parameters["failure_status"]),
        parameters["urls"],
        seconds * 2,
    ):
        if isinstance(answer, BaseException):
            raise ValueError(f"urls: {url}: {answer}")
        results.append(answer)
    problems = [one["message"] for one in results if one["status"] != "ok"]
    return {"changed": False, "results": results, "problems": problems}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    if not module.params["call_timeout_seconds"] > 0:
        module.fail_json(msg="call_timeout_seconds: expected a number above 0")
    try:
        answer = read(module.params)
    except ValueError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
