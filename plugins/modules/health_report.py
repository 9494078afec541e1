# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is documentation: the action plugin of the same name does the work on the controller.

from __future__ import annotations

DOCUMENTATION = r"""
---
module: health_report
short_description: Build, show and write the report of a run
version_added: 0.1.0
author:
  - Pynomaly Operations (@pynomaly)
description:
  - Makes one report object out of what M(pynomaly.ops.stack_health_info) answered on every host,
    prints it as a table, and writes it on the controller as JSON, Markdown and one HTML page.
  - A host's answer may have C(tables), each with C(title), C(columns) and C(rows), which are shown
    in every form. A column called C(Command), C(Next), C(Path), C(SHA-256) or C(Undo) is there to
    be copied.
  - A host that could not be reached or checked is in the report with a C(critical) result
    (C(host.reachable), C(host.check)) and hides none of the others.
  - Does not fail because of what it reports. A task after it does, with RV(failing_hosts), so that
    the table is seen and the files are written first, and only the hosts concerned count as failed.
  - Runs on the controller alone and connects to no host; call it with C(run_once).
options:
  kind:
    description:
      - What was run. It begins the files' names.
      - Lower case letters, digits and underscores.
    type: str
    default: daily_check
  title:
    description: The kind in words, where O(kind) does not make good ones.
    type: str
  variable:
    description:
      - Name of the variable in which the check's result was registered on each host of the play.
      - A host that lacks it appears as not checked.
    type: str
  hosts:
    description:
      - The results themselves, by the host's name, instead of O(variable).
      - V(null) stands for a host that was not checked.
    type: dict
  dir:
    description:
      - The folder on the controller, made with mode 0750 where it does not exist.
      - Files are named C(KIND-TIME-RUN.json), C(.md) and C(.html), have mode 0640, and are never
        overwritten. C(KIND-latest.json), C(.md) and C(.html) are links to the newest.
    type: path
    default: reports
  formats:
    description: Which forms are made.
    type: list
    elements: str
    choices: [table, json, markdown, html]
    default: [table, json, markdown, html]
  fail_on:
    description:
      - The mildest status that makes a host fail. V(warning) fails on warning and critical,
        V(unknown) on unknown, too.
    type: str
    choices: [never, critical, warning, unknown]
    default: critical
  contacts:
    description:
      - Whom to call, shown when something is critical, as C({name, address}).
      - An address is a telephone number, a mail address, a URL or any text.
    type: list
    elements: dict
    default: []
  escalation:
    description:
      - Who comes after whom, shown when something is critical, as C({name}) or C({name, address}),
        the first level first.
    type: list
    elements: dict
    default: []
  links:
    description: Dashboards and documents, as C({title, url}).
    type: list
    elements: dict
    default: []
  run_id:
    description: Name of the run, such as an AWX job's number. Random where nothing is said.
    type: str
  started_at:
    description:
      - When the run began, ISO 8601.
      - Where nothing is said, it is taken to have begun as long ago as the slowest host took.
    type: str
attributes:
  check_mode:
    support: full
    description: Can run in check mode. The report is what is asked for, so it is written then, too.
  diff_mode:
    support: none
    description: Will return details on what has changed, or would have.
  platform:
    support: full
    platforms: linux
    description: Target operating systems.
notes:
  - The JSON form is described by the JSON Schema C(plugins/module_utils/report.schema.json) of this
    collection (draft 2020-12). Its C(schema_version) rises in the second part for a new field, in
    the first for one that went or changed.
  - RV(stats) is also handed to Ansible's statistics, as M(ansible.builtin.set_stats) would, so that
    AWX shows it as artifacts.
seealso:
  - module: pynomaly.ops.stack_health_info
  - module: ansible.builtin.set_stats
"""

EXAMPLES = r"""
- name: Check every host and report
  hosts: pynomaly
  gather_facts: false
  tasks:
    - name: Check the host
      block:
        - name: Measure the stack
          pynomaly.ops.stack_health_info:
            project_name: pynomaly
          register: health
          ignore_unreachable: true
      rescue:
        - name: Leave the failure to the report
          ansible.builtin.debug:
            msg: "{{ ansible_failed_result.msg }}"

    - name: Report
      pynomaly.ops.health_report:
        variable: health
        dir: reports
        contacts:
          - {name: On-call, address: "+1 555 0100"}
      register: report
      run_once: true

    - name: Fail on hosts past the line
      ansible.builtin.fail:
        msg: "{{ report.failing_hosts[inventory_hostname] }}"
      when: inventory_hostname in report.failing_hosts
"""

RETURN = r"""
status:
  description: The worst status of all hosts.
  returned: always
  type: str
  sample: critical
table:
  description: The lines of the table.
  returned: always
  type: list
  elements: str
paths:
  description: The files that were written, by their form.
  returned: always
  type: dict
  sample: {"json": "/home/anna/reports/daily_check-20261124T025703Z-4f3c9a1b.json"}
failing_hosts:
  description: The hosts past the line that O(fail_on) draws, each with a sentence that says why.
  returned: always
  type: dict
  sample:
    node1: "1 critical: postgres.ready (postgres); first: connection refused"
stats:
  description: A summary for other programs.
  returned: always
  type: dict
  contains:
    pynomaly_status:
      description: The worst status of all hosts.
      type: str
    pynomaly_failed:
      description: Whether a host is past the line.
      type: bool
    pynomaly_summary:
      description: How many results have each status.
      type: dict
    pynomaly_critical:
      description: What is critical, as C(HOST:PROBE) or C(HOST:PROBE@INSTANCE).
      type: list
      elements: str
    pynomaly_report_paths:
      description: The same as RV(paths).
      type: dict
"""
