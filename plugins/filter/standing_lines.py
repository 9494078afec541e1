# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: standing_lines
short_description: Show the lock and what was left open on a host
version_added: 0.1.0
author:
  - Pynomaly Operations (@pynomaly)
description:
  - Takes what M(pynomaly.ops.operation_journal_info) returned and gives a line for the lock, one
    for each incident that is open, one for the addresses that are blocked, one for each temporary
    state that nothing has closed, and one for damaged lines of the journal.
positional: _input
options:
  _input:
    description: What M(pynomaly.ops.operation_journal_info) returned.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show what stands
  ansible.builtin.debug:
    msg: "{{ journal | pynomaly.ops.standing_lines }}"
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
from ansible_collections.pynomaly.ops.plugins.module_utils import _operation_text

_NEEDED = {"lock", "open_temporary_states", "damaged_lines", "journal_path", "host_time"}


def standing_lines(info: Any) -> list[str]:
    """Guards the type; the rest is the function of that name."""
    if not isinstance(info, Mapping) or not set(info) >= _NEEDED:
        raise AnsibleFilterError(
            f"standing_lines: seen {type(info).__name__}, "
            "expected what pynomaly.ops.operation_journal_info returned"
        )
    return _operation_text.standing_lines(info)


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"standing_lines": standing_lines}
