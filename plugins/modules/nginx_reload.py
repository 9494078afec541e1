#!/usr/bin/python
# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: nginx_reload
short_description: Let a project's nginx read its configuration again, and prove that it serves it
version_added: 0.2.0
author:
  - Pynomaly Operations (@pynomaly)
description:
  - Tests the configuration in each running container of nginx, tells the master to read it, and
    polls until none but new workers accept connections. C(nginx -s reload) says 0 also where the
    master then refuses the configuration and goes on with the old one.
  - With O(digest) and O(certificate) it also polls until nginx answers by what was written. Where
    the host does not see the container's processes, these are the whole proof, and one of them is
    needed.
  - A configuration that is refused leaves what was served before served.
  - Works on any Compose project, whoever deployed it.
options:
  project_name:
    description: Name of the Compose project.
    type: str
    required: true
  service_names:
    description: Component to service, where C(nginx) cannot be recognised by its name or image.
    type: dict
    default: {}
  only_if_needed:
    description:
      - Reload only where nginx does not answer by O(digest) and O(certificate). By default it is
        reloaded in any case.
    type: bool
    default: false
  digest:
    description: What the configuration that was written makes nginx answer at O(path).
    type: str
    default: ""
  port:
    description: Port in the container at which it is asked by plain HTTP.
    type: int
    default: 8080
  path:
    description: Path at which it is asked.
    type: str
    default: /configuration
  certificate:
    description: File on the host with the certificate that is to be served.
    type: path
  tls_port:
    description: Port in the container at which it is served.
    type: int
    default: 443
  tls_server_name:
    description: Name for which it is asked.
    type: str
    default: ""
  timeout_seconds:
    description: How long testing may take, and then reloading with its proof, each.
    type: float
    default: 15
requirements:
  - python3-docker (the Docker SDK for Python, 5.0 or newer) on the host
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  platform:
    platforms: posix
"""

EXAMPLES = r"""
- name: Reload nginx, and see that it serves what was written
  pynomaly.ops.nginx_reload:
    project_name: pynomaly
    digest: "{{ nginx_configuration_digest }}"
    certificate: /opt/pynomaly/config/nginx/tls/pynomaly.crt

- name: Reload the nginx of a project that somebody else deployed
  pynomaly.ops.nginx_reload:
    project_name: shop
"""

RETURN = r"""
containers:
  description: The containers of nginx that run.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the container.
      type: str
    reloaded:
      description: Whether it was reloaded, or would have been.
      type: bool
    reason:
      description: Why, or why not.
      type: str
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.docker import Engine, EngineError
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.nginx_control import NginxError
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.nginx_reload import (
    reload,
    running,
    served,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._nginx_reload import (
    Proof,
    leaf_fingerprint,
)

CALL_SECONDS = 10.0
ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    "project_name": {"type": "str", "required": True},
    "service_names": {"type": "dict", "default": {}},
    "only_if_needed": {"type": "bool", "default": False},
    "digest": {"type": "str", "default": ""},
    "port": {"type": "int", "default": 8080},
    "path": {"type": "str", "default": "/configuration"},
    "certificate": {"type": "path"},
    "tls_port": {"type": "int", "default": 443},
    "tls_server_name": {"type": "str", "default": ""},
    "timeout_seconds": {"type": "float", "default": 15},
}


def proof_of(parameters: dict[str, Any]) -> Proof:
    """What the options ask for. Raises L{NginxError} for a file that is no certificate."""
    certificate = ""
    if parameters["certificate"]:
        path = Path(parameters["certificate"])
        try:
            found = leaf_fingerprint(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise NginxError(f"{path}: {getattr(error, 'strerror', '') or error}") from error
        if found is None:
            raise NginxError(f"{path}: seen no certificate in it, expected one in PEM")
        certificate = found
    return Proof(
        parameters["digest"],
        parameters["port"],
        parameters["path"],
        certificate,
        parameters["tls_port"],
        parameters["tls_server_name"],
    )


def run(parameters: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """What the module returns. Raises L{NginxError} and C{EngineError}."""
    proof = proof_of(parameters)
    if parameters["only_if_needed"] and proof.is_empty:
        raise NginxError("only_if_needed: seen no digest and no certificate, expected one of them")
    engine = Engine(CALL_SECONDS)
    containers = []
    for container in running(engine, parameters["project_name"], parameters["service_names"]):
        reason = "asked for"
        if parameters["only_if_needed"]:
            reason = served(container, proof).difference(proof)
        if reason and not check_mode:
            reload(engine, container, proof, parameters["timeout_seconds"])
        containers.append(
            {
                "name": container.name,
                "reloaded": bool(reason),
                "reason": reason or "it serves what was written",
            }
        )
    return {"changed": any(one["reloaded"] for one in containers), "containers": containers}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    if not module.params["timeout_seconds"] > 0:
        module.fail_json(
            msg=f"timeout_seconds: seen {module.params['timeout_seconds']}, expected above 0"
        )
    try:
        answer = run(module.params, module.check_mode)
    except (NginxError, EngineError) as error:
        module.fail_json(msg=f"{error}. Next: {error.hint}" if error.hint else str(error))
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
