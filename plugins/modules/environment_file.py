#!/usr/bin/python
# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: environment_file
short_description: Keep the secrets of a Compose project in its environment file
version_added: 0.1.0
author:
  - Pynomaly Operations (@pynomaly)
description:
  - Keeps the C(.env) file from which Docker Compose interpolates, so that secrets stand in one
    file and neither in the Compose file nor in a command line.
  - A secret that the user gives is stored, one that nobody gives is generated once on the host and
    never changes again. Values made of secrets, such as connection URLs, are kept true to them.
  - Lines that the module does not know are left as they are. The file is written whole or not at
    all, with mode 0600.
  - No value is returned, logged or shown as a difference.
options:
  path:
    description: The file. Its folder is made where it does not exist, with mode 0750.
    type: path
    required: true
  secrets:
    description: The names that the project needs.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name in the file.
        type: str
        required: true
      variable:
        description: The variable in which the user gives the value, for messages.
        type: str
        default: ""
      sealed:
        description:
          - Why the stored value may not be replaced, as the second half of a sentence. Empty
            where it may.
          - A sealed secret that would change, or that is neither stored nor given, is an error.
        type: str
        default: ""
      volume:
        description:
          - The volume that took the secret when it was made. O(secrets[].sealed) then holds only
            while the volume is one of O(existing_volumes).
        type: str
        default: ""
  given:
    description:
      - The user's own values, by name. A name that is empty or missing here keeps its stored
        value, or gets a generated one.
    type: dict
    default: {}
  settings:
    description:
      - Names with values that are no secrets, which are kept so that a later change can be refused.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name in the file.
        type: str
        required: true
      value:
        description: The value.
        type: str
        required: true
      variable:
        description: The variable in which the user gives the value, for messages.
        type: str
        default: ""
      sealed:
        description: Why the stored value may not be replaced, as a sentence. Empty where it may.
        type: str
        default: ""
      volume:
        description: As for O(secrets[].volume).
        type: str
        default: ""
  existing_volumes:
    description: Volumes that are there already.
    type: list
    elements: str
    default: []
  composed:
    description:
      - Values made of the secrets, as C(NAME=template). In a template C({NAME}) stands for a
        secret and C({quote(NAME)}) for its percent-encoded form, which a URL needs.
    type: dict
    default: {}
attributes:
  check_mode:
    support: full
    description: Can run in check mode and return changed status without changing anything.
  diff_mode:
    support: partial
    description: Shows the names that change, never their values.
  platform:
    support: full
    platforms: posix
    description: Target operating systems.
"""

EXAMPLES = r"""
- name: Keep the project's secrets
  pynomaly.ops.environment_file:
    path: /opt/pynomaly/.env
    secrets:
      - name: POSTGRES_PASSWORD
        variable: postgres_password
    given:
      POSTGRES_PASSWORD: "{{ postgres_password | default('') }}"
    composed:
      DATABASE_URL: postgresql://pynomaly:{quote(POSTGRES_PASSWORD)}@postgres:5432/pynomaly_prod
  no_log: true
"""

RETURN = r"""
generated:
  description: Names of the secrets for which a value was made.
  returned: success
  type: list
  elements: str
  sample: [POSTGRES_PASSWORD]
updated:
  description: Names whose stored value was replaced or added by the user's, or made anew of it.
  returned: success
  type: list
  elements: str
  sample: [DATABASE_URL]
"""

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.files import (
    ensure_directory,
    write_atomically,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._environment_file import (
    EnvironmentFileError,
    Plan,
    Secret,
    plan,
)

MODE = 0o600
#: Hexadecimal digits need no quoting in a URL, in YAML or in a shell. 256 bits.
GENERATED_BYTES = 32


def generate() -> str:
    """A new secret."""
    return secrets.token_hex(GENERATED_BYTES)


def read(path: Path) -> Optional[str]:
    """The file's text, C{None} where there is no file."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def wanted(params: Mapping[str, Any]) -> Sequence[Secret]:
    """The secrets and settings as the options describe them."""

    def sealed(entry: Mapping[str, Any]) -> str:
        holds = not entry["volume"] or entry["volume"] in params["existing_volumes"]
        return str(entry["sealed"]) if holds else ""

    secrets_wanted = [
        Secret(
            entry["name"],
            str(params["given"].get(entry["name"]) or "") or None,
            sealed(entry),
            entry["variable"],
        )
        for entry in params["secrets"]
    ]
    return secrets_wanted + [
        Secret(entry["name"], entry["value"], sealed(entry), entry["variable"], shown=True)
        for entry in params["settings"]
    ]


def difference(path: Path, outcome: Plan) -> dict[str, str]:
    """Names alone: the values are nobody's to read."""
    lines = [f"{name}=(generated)\n" for name in outcome.generated]
    lines += [f"{name}=(changed)\n" for name in outcome.updated]
    return {
        "before_header": str(path),
        "after_header": str(path),
        "before": "",
        "after": "".join(lines),
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "secrets": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "no_log": False,
                "options": {
                    "name": {"type": "str", "required": True},
                    "variable": {"type": "str", "default": ""},
                    "sealed": {"type": "str", "default": ""},
                    "volume": {"type": "str", "default": ""},
                },
            },
            "given": {"type": "dict", "default": {}, "no_log": True},
            "settings": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "value": {"type": "str", "required": True},
                    "variable": {"type": "str", "default": ""},
                    "sealed": {"type": "str", "default": ""},
                    "volume": {"type": "str", "default": ""},
                },
            },
            "existing_volumes": {"type": "list", "elements": "str", "default": []},
            "composed": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    path = Path(module.params["path"])
    try:
        text = read(path)
        outcome = plan(
            text,
            wanted(module.params),
            module.params["composed"],
            generate,
        )
        mode_differs = text is not None and (path.stat().st_mode & 0o7777) != MODE
        changed = outcome.text != text or mode_differs
        if changed and not module.check_mode:
            ensure_directory(path.parent, 0o750)
            write_atomically(path, outcome.text, MODE)
    except EnvironmentFileError as error:
        module.fail_json(msg=f"{path}: {error}")
    except UnicodeDecodeError:
        module.fail_json(msg=f"{path}: is not UTF-8 text, expected NAME=value lines")
    except OSError as error:
        module.fail_json(msg=f"{path}: {error.strerror}")
    result: dict[str, Any] = {
        "changed": changed,
        "generated": list(outcome.generated),
        "updated": list(outcome.updated),
    }
    if module._diff:
        result["diff"] = difference(path, outcome)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
