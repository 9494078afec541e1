# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: run_identity
short_description: Tell which run of ansible-playbook this is and who is behind it
version_added: 0.1.0
author:
  - Pynomaly Operations (@pynomaly)
description:
  - The id is the same for each host, play, batch and fork of one C(ansible-playbook), and another
    one for each run. Nothing has to be set beforehand, so that it serves in AWX as well.
  - The user is AWX's where AWX tells (C(awx_user_name), C(tower_user_name), or the schedule's
    name), else who called C(sudo), else who is logged in on the controller.
options: {}
"""

EXAMPLES = r"""
- name: Show the run
  ansible.builtin.debug:
    msg: "{{ lookup('pynomaly.ops.run_identity') }}"
"""

RETURN = r"""
_raw:
  description: One dictionary with C(run_id), C(user), C(controller), C(ansible_version) and
    C(awx_job_id), which is empty outside of AWX.
  type: list
  elements: dict
"""

import getpass
import multiprocessing
import os
import socket
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Optional

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase
from ansible.release import __version__ as ansible_version
from ansible_collections.pynomaly.ops.plugins.module_utils._operation import (
    RunIdentity,
    identify_user,
    run_id_from,
)


def login_name() -> str:
    """The login on the controller; in a container the user id may have no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


class LookupModule(LookupBase):  # type: ignore[misc]
    def run(
        self, terms: list[Any], variables: Optional[Mapping[str, Any]] = None, **kwargs: Any
    ) -> list[dict[str, str]]:
        """One dictionary; see RETURN. Raises AnsibleLookupError for any term."""
        if terms:
            raise AnsibleLookupError(f"run_identity: seen {terms!r}, expected no terms")
        self.set_options(var_options=variables, direct=kwargs)
        known = variables or {}
        # Random for each process tree, and inherited by every worker that Ansible forks.
        run_id = run_id_from(bytes(multiprocessing.current_process().authkey))
        identity = RunIdentity(
            run_id=run_id,
            user=identify_user(login_name(), os.environ, known),
            controller=socket.gethostname(),
            ansible_version=ansible_version,
            awx_job_id=str(known.get("awx_job_id") or known.get("tower_job_id") or ""),
        )
        return [asdict(identity)]
