# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: host_program
short_description: Make the program that a host runs by itself
version_added: 0.2.0
author:
  - Pynomaly Operations (@pynomaly)
description:
  - Packs this collection's own logic into one file that the host's Python runs, so that what a
    timer of the host does is what the modules do.
  - The file is the same, byte for byte, wherever and whenever it is made from the same collection.
options:
  _terms:
    description:
      - Names of modules of the collection, each of which has a function C(main) that takes the
        arguments after its own name, as in C(python3 FILE scheduled_backup SETTINGS).
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Install the program that makes backups
  ansible.builtin.copy:
    src: "{{ lookup('pynomaly.ops.host_program', 'scheduled_backup') }}"
    dest: /usr/local/lib/pynomaly-ops/pynomaly-ops.pyz
    mode: "0755"
"""

RETURN = r"""
_raw:
  description: Path of the file on the controller. It is gone when the run ends.
  type: list
  elements: str
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

from ansible import constants
from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase
from ansible_collections.pynomaly.ops.plugins.module_utils import _host_program as host_program

_NAME = "pynomaly-ops.pyz"


class LookupModule(LookupBase):  # type: ignore[misc]
    """One path, whatever the number of names."""

    def run(
        self, terms: list[str], variables: Optional[Mapping[str, Any]] = None, **kwargs: Any
    ) -> list[str]:
        self.set_options(var_options=variables, direct=kwargs)
        root = Path(host_program.__file__).parent
        sources = {
            path.relative_to(root).as_posix(): path.read_bytes()
            for path in sorted(root.rglob("*.py"))
        }
        try:
            data = host_program.pack(sources, terms)
        except host_program.HostProgramError as error:
            raise AnsibleError(str(error)) from error
        folder = tempfile.mkdtemp(prefix="host-program-", dir=constants.DEFAULT_LOCAL_TMP)
        path = Path(folder) / _NAME
        path.write_bytes(data)
        return [str(path)]
