# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: failure_text
short_description: Say what a failed task said
version_added: 0.1.0
author:
  - Pynomaly Operations (@pynomaly)
description:
  - The failed task's name and its message, for a loop the messages of the items that failed. For
    use in a C(rescue).
  - Nothing is repeated of a task with C(no_log).
positional: _input, task
options:
  _input:
    description: C(ansible_failed_result).
    type: dict
    required: true
  task:
    description: C(ansible_failed_task).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Stop with the error that was met
  ansible.builtin.fail:
    msg: "{{ ansible_failed_result | pynomaly.ops.failure_text(ansible_failed_task) }}"
"""

RETURN = r"""
_value:
  description: The task's name and what it said.
  type: str
"""

from collections.abc import Mapping
from typing import Any, Callable

from ansible.errors import AnsibleFilterError
from ansible_collections.pynomaly.ops.plugins.module_utils import _operation_text


def failure_text(result: Any, task: Any) -> str:
    """Guards the types; the rest is the function of that name."""
    for name, value in (("the result", result), ("the task", task)):
        if not isinstance(value, Mapping):
            raise AnsibleFilterError(
                f"failure_text: {name} is a {type(value).__name__}, expected a dictionary"
            )
    return _operation_text.failure_text(result, task)


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"failure_text": failure_text}
