# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: confirmation_problem
short_description: Say why a word does not confirm an operation
version_added: 0.1.0
author:
  - Pynomaly Operations (@pynomaly)
description:
  - A playbook that destroys something needs the word C(OPERATION:PROJECT). Gives an empty text
    where the word is right, else what was seen, what was expected and the line to run.
positional: _input, operation, project, playbook
options:
  _input:
    description: The word that the user gave, empty for none.
    type: str
    required: true
  operation:
    description: The operation, for instance V(restore).
    type: str
    required: true
  project:
    description: Name of the Compose project.
    type: str
    required: true
  playbook:
    description: The playbook to run.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Stop without the word
  ansible.builtin.assert:
    that: problem == ''
    fail_msg: "{{ problem }}"
  vars:
    problem: >-
      {{ word | pynomaly.ops.confirmation_problem('restore', 'pynomaly', 'pynomaly.ops.restore') }}
"""

RETURN = r"""
_value:
  description: Why the operation is not confirmed; empty where it is.
  type: str
"""

from typing import Any, Callable

from ansible.errors import AnsibleFilterError
from ansible_collections.pynomaly.ops.plugins.module_utils import _operation_text


def confirmation_problem(confirm: Any, operation: Any, project: Any, playbook: Any) -> str:
    """Guards the types; the rest is the function of that name."""
    for name, value in (("operation", operation), ("project", project), ("playbook", playbook)):
        if not isinstance(value, str) or not value:
            raise AnsibleFilterError(
                f"confirmation_problem: {name} is {value!r}, expected a text that is not empty"
            )
    return _operation_text.confirmation_problem(str(confirm), operation, project, playbook)


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"confirmation_problem": confirmation_problem}
