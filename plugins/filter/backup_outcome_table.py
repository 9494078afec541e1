# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: backup_outcome_table
short_description: Show what a run backed up as a table
version_added: 0.2.0
author:
  - Pynomaly Operations (@pynomaly)
description:
  - Gives the lines of a table with a row for each kind, and below it why one was skipped or failed.
positional: _input
options:
  _input:
    description:
      - A dictionary for each kind, with C(kind) and what M(pynomaly.ops.files_backup) returned,
        with C(removed) and C(withheld) as M(pynomaly.ops.backup_retention) returned them, or with
        C(failure), which is what went wrong.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Show what was backed up
  ansible.builtin.debug:
    msg: "{{ [configuration, models] | pynomaly.ops.backup_outcome_table }}"
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
from ansible_collections.pynomaly.ops.plugins.module_utils._backup_text import outcome_lines


def backup_outcome_table(outcomes: Any) -> list[str]:
    """Guards the type; the rest is L{outcome_lines}."""
    if not isinstance(outcomes, list) or not all(
        isinstance(one, Mapping) and "kind" in one for one in outcomes
    ):
        raise AnsibleFilterError(
            f"backup_outcome_table: seen {type(outcomes).__name__}, "
            "expected a list of dictionaries with kind"
        )
    return outcome_lines(outcomes)


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"backup_outcome_table": backup_outcome_table}
