# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the modules that write the lock or the journal have in common."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pynomaly.ops.plugins.module_utils._operation import RunIdentity


def operation_argument_spec() -> dict[str, Any]:
    """The options of the documentation fragment C{pynomaly.ops.operation}."""
    return {
        "state_dir": {"type": "path", "default": "/var/lib/pynomaly-ops"},
        "operation": {"type": "str", "required": True},
        "project": {"type": "str", "required": True},
        "run": {
            "type": "dict",
            "required": True,
            "options": {
                "run_id": {"type": "str", "required": True},
                "user": {"type": "str", "required": True},
                "controller": {"type": "str", "required": True},
                "ansible_version": {"type": "str", "default": ""},
                "awx_job_id": {"type": "str", "default": ""},
            },
        },
    }


def run_identity(module: AnsibleModule) -> RunIdentity:
    """The run that the module was called by."""
    return RunIdentity(**module.params["run"])
