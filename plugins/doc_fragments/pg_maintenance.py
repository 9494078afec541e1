# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """Options shared by the modules that look at, and maintain, the project's database."""

    DOCUMENTATION = r"""
options:
  project_name:
    description: Name of the Compose project, as in the label C(com.docker.compose.project).
    type: str
    required: true
  service_names:
    description: Which service is which component, where the names differ from the runbook's.
    type: dict
    default: {}
  call_timeout_seconds:
    description: How long one call of the container engine may take.
    type: float
    default: 5
  postgres_user:
    description: Role to log in as, where the service's own environment does not say.
    type: str
  postgres_password:
    description: Its password.
    type: str
  postgres_database:
    description: The application's database.
    type: str
  state_dir:
    description: Folder on the host in which C(weekly_db/PROJECT.json) keeps sizes, one sample a
      day and 60 at most.
    type: path
    default: /var/lib/pynomaly-ops
  thresholds:
    description:
      - Limits that replace the defaults, a dictionary of C(warning) and C(critical) for each C(ID),
        or C(ID@WHERE) for one table, index, sequence or setting alone.
      - Those of the daily check's probes are no mistake and have no effect here.
    type: dict
    default: {}
  waivers:
    description: Findings that are known and accepted for a time.
    type: list
    elements: dict
    default: []
    suboptions:
      probe:
        description: The finding, as C(ID) or C(ID@WHERE).
        type: str
        required: true
      reason:
        description: Why it is accepted.
        type: str
        required: true
      until:
        description: The last day on which it holds, C(YYYY-MM-DD).
        type: str
        required: true
  analyze_threshold_rows:
    description: ANALYZE is due when more rows than this changed, and O(analyze_scale_factor) of
      the table's, as C(autovacuum_analyze_threshold) counts for autovacuum.
    type: int
    default: 50
  analyze_scale_factor:
    description: See O(analyze_threshold_rows).
    type: float
    default: 0.05
  vacuum_threshold_rows:
    description: VACUUM is due when there are more dead tuples than this, and
      O(vacuum_scale_factor) of the table's rows, as C(autovacuum_vacuum_threshold) counts for
      autovacuum.
    type: int
    default: 50
  vacuum_scale_factor:
    description: See O(vacuum_threshold_rows).
    type: float
    default: 0.1
  freeze_age_percent:
    description: VACUUM (FREEZE) is due when a table's oldest transaction or multixact id has this
      share of the age at which autovacuum freezes on its own.
    type: float
    default: 75
  bloat_minimum_mib:
    description: What is estimated to waste less is not reported.
    type: float
    default: 64
  unused_index_days:
    description: An index counts as unused when uses have been counted for that long.
    type: float
    default: 30
  statements:
    description: How many of the slowest statements are reported.
    type: int
    default: 10
attributes:
  diff_mode:
    support: none
    description: Will return details on what has changed, or would have.
  platform:
    support: full
    platforms: linux
    description: Target operating systems.
notes:
  - Works with PostgreSQL 13 to 18, as a superuser or as the owner of the tables.
  - Of other people's statements only those that the planner sees are shown, short and with every
    literal masked.
  - Bloat is an estimate from the planner's statistics, by the arithmetic of
    U(https://github.com/ioguix/pgsql-bloat-estimation).
"""
