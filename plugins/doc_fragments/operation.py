# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """Options shared by the modules that write the lock or the journal of operations."""

    DOCUMENTATION = r"""
options:
  state_dir:
    description:
      - Directory on the host that keeps the lock and the journal of operations.
      - It is made with mode C(0700) where it lacks, and must belong to the user who runs the
        module.
    type: path
    default: /var/lib/pynomaly-ops
  operation:
    description: The operation, which is the playbook's verb, for instance V(deploy).
    type: str
    required: true
  project:
    description: Name of the Compose project that the operation is on.
    type: str
    required: true
  run:
    description:
      - Which run of C(ansible-playbook) this is and who is behind it, as given by
        P(pynomaly.ops.run_identity#lookup).
    type: dict
    required: true
    suboptions:
      run_id:
        description: Id of the run, the same for each host and play of it.
        type: str
        required: true
      user:
        description: Who is behind the run.
        type: str
        required: true
      controller:
        description: Name of the machine that C(ansible-playbook) runs on.
        type: str
        required: true
      ansible_version:
        description: Version of ansible-core on the controller.
        type: str
        default: ""
      awx_job_id:
        description: Id of the AWX job, empty outside of AWX.
        type: str
        default: ""
"""
