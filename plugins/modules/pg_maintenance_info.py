#!/usr/bin/python
# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: pg_maintenance_info
short_description: Report on the database of a Docker Compose stack
version_added: 0.1.0
author:
  - Pynomaly Operations (@pynomaly)
description:
  - Looks for what a database collects over the weeks, and says of each finding what to do about
    it. Stale statistics and dead tuples, sizes and their growth since last week, bloat, unused,
    duplicate and invalid indexes, foreign keys without an index, sequences near their end,
    the distance to wraparound, the slowest statements, and settings that do not fit the memory.
  - Reading changes nothing, and waits for no table that somebody has locked.
  - RV(results) has the shape of M(pynomaly.ops.stack_health_info), so that
    M(pynomaly.ops.health_report) makes the same kind of report of it.
extends_documentation_fragment:
  - pynomaly.ops.pg_maintenance
attributes:
  check_mode:
    support: full
    description: Can run in check mode and return changed status prediction without modifying
      target.
seealso:
  - module: pynomaly.ops.pg_maintenance
  - module: pynomaly.ops.health_report
"""

EXAMPLES = r"""
- name: Look at the database
  pynomaly.ops.pg_maintenance_info:
    project_name: pynomaly
    waivers:
      - probe: weekly_db.unused_indexes@public.orders_note_idx
        reason: the yearly report needs it
        until: "2027-01-31"
  register: database
"""

RETURN = r"""
results:
  description: One entry a finding, and one for each kind of which there is none.
  returned: always
  type: list
  elements: dict
  sample:
    - id: weekly_db.unused_indexes
      service: postgres
      instance: public.orders_note_idx
      title: Size of an index that no query has used
      status: warning
      value: 31457280
      unit: bytes
      warning: 1048576
      critical:
      message: 30.0 MiB on public.orders, not used in 92 d, as long as uses have been counted
      hint: see that no rare report needs it, then DROP INDEX CONCURRENTLY public.orders_note_idx
      detail:
      duration_ms: 0
      waiver:
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
actions:
  description: What maintenance is due, with its statement, reason and state (V(planned)); 500
      at most.
  returned: always
  type: list
  elements: dict
done:
  description: The same in a sentence.
  returned: always
  type: str
  sample: nothing was due
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

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pynomaly.ops.plugins.module_utils._edges import pg_maintenance
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.pg_maintenance_module import (
    answer,
    look_argument_spec,
)


def main() -> None:
    module = AnsibleModule(argument_spec=look_argument_spec(), supports_check_mode=True)
    answer(module, pg_maintenance.look)


if __name__ == "__main__":
    main()
