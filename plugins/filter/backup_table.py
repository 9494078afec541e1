# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: backup_table
short_description: Show backups as a table
version_added: 0.2.0
author:
  - Pynomaly Operations (@pynomaly)
description:
  - Takes what M(pynomaly.ops.backup_info) returned and gives the lines of a table for each kind,
    newest first, and of the space that is left. What is wrong with a damaged one stands below.
positional: _input
options:
  _input:
    description: What M(pynomaly.ops.backup_info) returned.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show the backups
  ansible.builtin.debug:
    msg: "{{ backups | pynomaly.ops.backup_table }}"
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
from ansible_collections.pynomaly.ops.plugins.module_utils._backup_text import backup_lines

_NEEDED = {"backups", "storage", "stagings", "backup_dir"}


def backup_table(info: Any) -> list[str]:
    """Guards the type; the rest is L{backup_lines}."""
    if not isinstance(info, Mapping) or not set(info) >= _NEEDED:
        raise AnsibleFilterError(
            f"backup_table: seen {type(info).__name__}, "
            "expected what pynomaly.ops.backup_info returned"
        )
    return backup_lines(info)


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"backup_table": backup_table}
