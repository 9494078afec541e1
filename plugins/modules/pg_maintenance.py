#!/usr/bin/python
# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: pg_maintenance
short_description: Analyze and vacuum the database of a Docker Compose stack where that is due
version_added: 0.1.0
author:
  - Pynomaly Operations (@pynomaly)
description:
  - Runs ANALYZE where statistics are stale, on partitioned tables too, which autovacuum leaves
    out, and VACUUM (ANALYZE), never FULL, where there are many dead tuples or old rows are to be
    frozen. Then reports as M(pynomaly.ops.pg_maintenance_info) does.
  - Changes nothing but statistics and dead tuples, unless O(reindex_invalid) names an index.
  - Waits for no lock longer than O(lock_timeout_seconds), so that nobody queues up behind it.
    What could not be done is a warning in RV(results); the other tables are still done.
  - Keeps the sizes of the day in O(state_dir), from which growth is told a week later.
extends_documentation_fragment:
  - pynomaly.ops.pg_maintenance
options:
  analyze:
    description: Whether ANALYZE is run where it is due.
    type: bool
    default: true
  vacuum:
    description: Whether VACUUM is run where it is due.
    type: bool
    default: true
  lock_timeout_seconds:
    description: How long to wait for a table's lock.
    type: float
    default: 5
  statement_timeout_seconds:
    description: How long one table may take.
    type: float
    default: 900
  budget_seconds:
    description: How long all of it may take. What was not reached is reported.
    type: float
    default: 3600
  cost_delay_ms:
    description: How long VACUUM rests after each piece of work, as C(vacuum_cost_delay). 0 is at
      full speed.
    type: float
    default: 2
  reindex_invalid:
    description:
      - Invalid indexes to rebuild with REINDEX INDEX CONCURRENTLY, as C(schema.index). A valid one
        is left alone, a name that no index has stops before anything is done.
      - What a failed rebuild leaves is dropped again.
    type: list
    elements: str
    default: []
  fail_on_incomplete:
    description: Whether what could not be done is C(critical) in RV(results), instead of a
      warning.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
    description: Can run in check mode and return changed status prediction without modifying
      target.
seealso:
  - module: pynomaly.ops.pg_maintenance_info
  - module: pynomaly.ops.health_report
"""

EXAMPLES = r"""
- name: Maintain the database, for half an hour at most
  pynomaly.ops.pg_maintenance:
    project_name: pynomaly
    budget_seconds: 1800
  register: maintenance

- name: Rebuild an index that was left invalid
  pynomaly.ops.pg_maintenance:
    project_name: pynomaly
    reindex_invalid: [public.orders_number_key]
"""

RETURN = r"""
actions:
  description: What was due or asked for, and what became of it; 500 at most, what was not done
      first.
  returned: always
  type: list
  elements: dict
  contains:
    action:
      description: V(analyze), V(vacuum) or V(reindex).
      type: str
    name:
      description: The quoted name of the table or index.
      type: str
    statement:
      description: The statement.
      type: str
    reason:
      description: Why it is due.
      type: str
    state:
      description: V(done), V(planned) (in check mode, or not enabled), V(failed), V(not_reached)
        or V(unnecessary) (the index is valid).
      type: str
    message:
      description: Why it was not done.
      type: str
    duration_ms:
      description: How long it took.
      type: float
done:
  description: What was done, in a sentence.
  returned: always
  type: str
  sample: 2 vacuumed, 1 analyzed
results:
  description: As M(pynomaly.ops.pg_maintenance_info) returns them, after the work.
  returned: always
  type: list
  elements: dict
status:
  description: The worst status of all results.
  returned: always
  type: str
  sample: warning
summary:
  description: How many results have each status.
  returned: always
  type: dict
  sample: {"ok": 22, "warning": 3, "critical": 0, "unknown": 0, "skipped": 1}
project:
  description: The project that was looked at.
  returned: always
  type: dict
facts:
  description: Which server and database were looked at, and as whom.
  returned: always
  type: dict
started_at:
  description: When it began, in UTC.
  returned: always
  type: str
  sample: "2026-11-24T06:37:15Z"
duration_ms:
  description: How long it took on the host.
  returned: always
  type: float
"""

from functools import partial

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pynomaly.ops.plugins.module_utils._edges import pg_maintenance
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.pg_maintenance_module import (
    answer,
    maintain_argument_spec,
)


def main() -> None:
    module = AnsibleModule(argument_spec=maintain_argument_spec(), supports_check_mode=True)
    answer(module, partial(pg_maintenance.maintain, dry_run=module.check_mode))


if __name__ == "__main__":
    main()
