# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: status_table
short_description: Show what runs where as a table
version_added: 0.1.0
author:
  - Pynomaly Operations (@pynomaly)
description:
  - Takes RV(pynomaly.ops.stack_status_info#module:status) and gives the lines of one screen of at
    most 100 columns, a row for each service.
  - C(lo:) before a port says that only the host itself reaches it.
positional: _input
options:
  _input:
    description: RV(pynomaly.ops.stack_status_info#module:status).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show what runs where
  ansible.builtin.debug:
    msg: "{{ stack.status | pynomaly.ops.status_table }}"
"""

RETURN = r"""
_value:
  description: The lines.
  type: list
  elements: str
"""

from collections.abc import Mapping
from typing import Any, Callable

from ansible.errors import AnsibleFilterError
from ansible_collections.pynomaly.ops.plugins.module_utils import _status

_NEEDED = {"project", "found", "projects", "working_dir", "compose_error", "services"}


def status_table(status: Any) -> list[str]:
    """Guards the type; the rest is the function of that name."""
    if not isinstance(status, Mapping) or not set(status) >= _NEEDED:
        raise AnsibleFilterError(
            f"status_table: seen {type(status).__name__}, "
            "expected status of what pynomaly.ops.stack_status_info returned"
        )
    return _status.status_table(status)


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"status_table": status_table}
