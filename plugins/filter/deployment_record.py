# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: deployment_record
short_description: Say what a deployment did and how it is undone
version_added: 0.2.0
author:
  - Pynomaly Operations (@pynomaly)
description:
  - Gives what the journal keeps of a deployment.
positional: _input
options:
  _input:
    description:
      - A dictionary with C(project), C(project_dir) and C(host), and as far as they are known
        C(images_before) and C(images) (by service), C(image_variables) (the variable that sets
        each), C(changed_files), C(actions) (of M(community.docker.docker_compose_v2)) and
        C(reloaded) (services).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Say what was done
  ansible.builtin.debug:
    msg: "{{ ({'project': 'pynomaly', 'project_dir': '/opt/pynomaly', 'host': inventory_hostname,
      'actions': up.actions} | pynomaly.ops.deployment_record).summary }}"
"""

RETURN = r"""
_value:
  description: C(summary), a sentence, and C(undo), a command, empty where nothing was changed.
  type: dict
"""

from dataclasses import fields
from typing import Any, Callable

from ansible.errors import AnsibleFilterError
from ansible_collections.pynomaly.ops.plugins.module_utils._deployment_text import (
    Deployment,
    summary,
    undo,
)

_KNOWN = {field.name for field in fields(Deployment)}
_NEEDED = {"project", "project_dir", "host"}


def deployment_record(facts: Any) -> dict[str, str]:
    """Guards the type; the rest is L{summary} and L{undo}."""
    if not isinstance(facts, dict) or not _NEEDED <= set(facts) <= _KNOWN:
        seen = sorted(facts) if isinstance(facts, dict) else type(facts).__name__
        raise AnsibleFilterError(
            f"deployment_record: seen {seen}, expected a dictionary with {sorted(_NEEDED)} and "
            f"nothing but {sorted(_KNOWN)}"
        )
    deployment = Deployment(**facts)
    return {"summary": summary(deployment), "undo": undo(deployment)}


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"deployment_record": deployment_record}
