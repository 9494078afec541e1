# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the modules that belong to an operation have in common: its options, who runs it, the states
that it leaves for a while, and how they end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Callable

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.operation_store import (
    OperationStore,
    StoreError,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.temporary_states import (
    TemporaryStates,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._operation import (
    OperationError,
    RunIdentity,
)


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


def temporary_states(module: AnsibleModule) -> TemporaryStates:
    """The temporary states of the operation's project, written for its run."""
    return TemporaryStates(
        OperationStore(module.params["state_dir"]),
        run_identity(module),
        module.params["operation"],
        module.params["project"],
    )


def own_options(
    parameters: Mapping[str, Any], names: Iterable[str], renamed: Mapping[str, str]
) -> dict[str, Any]:
    """A module's options by the names that its work has for them, without those about the run."""
    about_the_run = set(operation_argument_spec()) - {"project"}
    return {
        renamed.get(name, name): parameters[name] for name in names if name not in about_the_run
    }


def finish(
    module: AnsibleModule, work: Callable[[], dict[str, Any]], failures: tuple[type[Exception], ...]
) -> None:
    """Exit with what the work returned, its C{remarks} as warnings; an error is told with its hint.

    ``failures`` are the errors that the work may end with beside those of the lock and journal.
    """
    told: tuple[type[Exception], ...] = (OperationError, StoreError, *failures)
    try:
        answer = work()
    except told as error:
        hint = getattr(error, "hint", "")
        module.fail_json(msg=f"{error}; next: {hint}" if hint else str(error))
    for text in answer.get("remarks", ()):
        module.warn(text)
    module.exit_json(**answer)
