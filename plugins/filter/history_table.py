# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: history_table
short_description: Show what was done on a host as a table
version_added: 0.1.0
author:
  - Pynomaly Operations (@pynomaly)
description:
  - Takes what M(pynomaly.ops.operation_journal_info) returned and gives the lines of a table of at
    most 100 columns, one row for each operation, newest first.
  - Below a row stands what the operation said, and the command that undoes it. That command is
    never cut, because it is there to be copied.
positional: _input
options:
  _input:
    description: What M(pynomaly.ops.operation_journal_info) returned.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show the history
  ansible.builtin.debug:
    msg: "{{ journal | pynomaly.ops.history_table }}"
"""

RETURN = r"""
_value:
  description: The lines; a single one saying so where nothing was recorded.
  type: list
  elements: str
"""

from collections.abc import Mapping
from typing import Any, Callable

from ansible.errors import AnsibleFilterError
from ansible_collections.pynomaly.ops.plugins.module_utils._operation_text import history_lines

_NEEDED = {"operations", "operations_total", "records_total"}


def history_table(info: Any) -> list[str]:
    """Guards the type; the rest is L{history_lines}."""
    if not isinstance(info, Mapping) or not set(info) >= _NEEDED:
        raise AnsibleFilterError(
            f"history_table: seen {type(info).__name__}, "
            "expected what pynomaly.ops.operation_journal_info returned"
        )
    return history_lines(info["operations"], info["operations_total"], info["records_total"])


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"history_table": history_table}
