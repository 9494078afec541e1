# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: backup_outcome
short_description: Sum up what a run did about one kind of backup
version_added: 0.2.0
author:
  - Pynomaly Operations (@pynomaly)
description:
  - Takes what was made and what retention removed, and gives the facts that the journal, AWX and
    P(pynomaly.ops.backup_outcome_table#filter) are told.
positional: _input, retention
options:
  _input:
    description: What M(pynomaly.ops.files_backup) or another module that makes a backup returned.
    type: dict
    required: true
  retention:
    description: What M(pynomaly.ops.backup_retention) returned.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Note what was made
  ansible.builtin.set_fact:
    outcome: "{{ backup | pynomaly.ops.backup_outcome(retention) }}"
"""

RETURN = r"""
_value:
  description:
    - C(kind), C(id), C(path), C(made), C(reason), C(size_bytes), C(duration_seconds), C(remarks),
      C(removed) as a list of ids, and C(withheld).
  type: dict
"""

from collections.abc import Mapping
from typing import Any, Callable

from ansible.errors import AnsibleFilterError
from ansible_collections.pynomaly.ops.plugins.module_utils._backup_text import outcome


def backup_outcome(made: Any, retention: Any) -> dict[str, Any]:
    """Guards the types; the rest is L{outcome}."""
    for name, value in (("what was made", made), ("what retention did", retention)):
        if not isinstance(value, Mapping):
            raise AnsibleFilterError(
                f"backup_outcome: {name} is a {type(value).__name__}, expected a dictionary"
            )
    return outcome(made, retention)


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"backup_outcome": backup_outcome}
