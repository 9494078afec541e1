#!/usr/bin/python
# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: config_files
short_description: Write a project's configuration files, proved before they replace the old ones
version_added: 0.1.0
author:
  - Pynomaly Operations (@pynomaly)
description:
  - Writes a set of rendered files below one folder in one call. Each file is whole or not there.
  - Validations run on a candidate, a copy of the file or folder with the new content in it. When
    one fails, no file is touched.
  - C(@sha256(NAME)@) in a file stands for the SHA-256 digest of a secret in O(environment_file), in
    hexadecimal. It is filled in on the host, so that the digest appears in no output.
  - Files that are not named stay as they are.
options:
  root:
    description: The folder. It is made where it does not exist, with mode 0750.
    type: path
    required: true
  environment_file:
    description: A Compose C(.env) file with the secrets whose digests are used.
    type: path
  pending_variables:
    description:
      - Names that O(environment_file) will have, or have another value for, once it is no longer
        only a check. In check mode a validation sees a stand-in for each, in its environment.
    type: list
    elements: str
    default: []
  directories:
    description: Folders to make, with their mode.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Relative to O(root), or absolute.
        type: str
        required: true
      mode:
        description: Octal digits.
        type: str
        default: "0755"
      owner:
        description: User id.
        type: int
      group:
        description: Group id.
        type: int
  keep_existing_directories:
    description: Leave a folder that exists already with the mode and owner that it has.
    type: bool
    default: false
  files:
    description: Files to write. Their folders are made with mode 0755.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Relative to O(root).
        type: str
        required: true
      content:
        description: The text.
        type: str
      secret_content:
        description: The text of a file that is a secret, such as a private key. Shown nowhere.
        type: str
      mode:
        description: Octal digits.
        type: str
        default: "0644"
      owner:
        description: User id.
        type: int
      group:
        description: Group id.
        type: int
  reloads:
    description:
      - Services that read their files again only when told to. Which of them have to is written
        down in C(.reload-pending) below O(root) before a file is touched, and stays there until
        O(reloaded) says it was done, so that a run that is cut short forgets nothing.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the service.
        type: str
        required: true
      path:
        description: A file or a folder, relative to O(root).
        type: str
        required: true
  reloaded:
    description: Services that have read their files again.
    type: list
    elements: str
    default: []
  validations:
    description: Commands that judge a candidate, run when something in its path changes.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: What is judged, for messages.
        type: str
        required: true
      path:
        description: A file or a folder, relative to O(root).
        type: str
        required: true
      argv:
        description: The command. C({candidate}) in it stands for the candidate's path.
        type: list
        elements: str
        required: true
      check_mode:
        description: Whether it runs in check mode too. It must not, where it starts a container.
        type: bool
        default: false
      timeout_seconds:
        description: How long it may take.
        type: int
        default: 120
attributes:
  check_mode:
    support: full
    description: Can run in check mode and return changed status without changing anything.
  diff_mode:
    support: full
    description: Will return details on what has changed, or would have.
  platform:
    support: full
    platforms: posix
    description: Target operating systems.
"""

EXAMPLES = r"""
- name: Write the configuration
  pynomaly.ops.config_files:
    root: /opt/pynomaly
    environment_file: /opt/pynomaly/.env
    files:
      - path: config/redis/users.acl
        content: |
          user default on #@sha256(REDIS_PASSWORD)@ ~* &* +@all
        mode: "0640"
        group: 999
      - path: compose.yaml
        content: "{{ lookup('ansible.builtin.template', 'compose.yaml.j2') }}"
    validations:
      - name: Compose file
        path: compose.yaml
        argv: [docker, compose, --project-directory, /opt/pynomaly, -f, "{candidate}", config, -q]
        check_mode: true
"""

RETURN = r"""
changed_files:
  description: Files that were written, or would have been, relative to O(root).
  returned: success
  type: list
  elements: str
  sample: [config/nginx/nginx.conf]
changed_directories:
  description: Folders that were made or whose mode or owner was set, as they were given.
  returned: success
  type: list
  elements: str
  sample: []
reload_pending:
  description: Services that have to read their files again, from this run or an earlier one.
  returned: success
  type: list
  elements: str
  sample: [nginx]
validated:
  description: Names of the validations that passed.
  returned: success
  type: list
  elements: str
  sample: [Compose file]
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pynomaly.ops.plugins.module_utils._config_files import (
    ConfigFilesError,
    Item,
    candidate_argv,
    fill_digests,
    is_below,
    item,
    last_lines,
    mask_digests,
    needs_digest,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.files import (
    ensure_directory,
    write_atomically,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._environment_file import (
    EnvironmentFileError,
    parse,
    values,
)

RELOAD_PENDING = ".reload-pending"
STAND_IN = "not-made-yet"
OWNERSHIP = {
    "owner": {"type": "int"},
    "group": {"type": "int"},
}
ARGUMENT_SPEC: dict[str, Any] = {
    "root": {"type": "path", "required": True},
    "environment_file": {"type": "path"},
    "pending_variables": {"type": "list", "elements": "str", "default": []},
    "directories": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "path": {"type": "str", "required": True},
            "mode": {"type": "str", "default": "0755"},
            **OWNERSHIP,
        },
    },
    "keep_existing_directories": {"type": "bool", "default": False},
    "files": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "path": {"type": "str", "required": True},
            "content": {"type": "str"},
            "secret_content": {"type": "str", "no_log": True},
            "mode": {"type": "str", "default": "0644"},
            **OWNERSHIP,
        },
        "required_one_of": [("content", "secret_content")],
        "mutually_exclusive": [("content", "secret_content")],
    },
    "reloads": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": {"type": "str", "required": True},
            "path": {"type": "str", "required": True},
        },
    },
    "reloaded": {"type": "list", "elements": "str", "default": []},
    "validations": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": {"type": "str", "required": True},
            "path": {"type": "str", "required": True},
            "argv": {"type": "list", "elements": "str", "required": True},
            "check_mode": {"type": "bool", "default": False},
            "timeout_seconds": {"type": "int", "default": 120},
        },
    },
}


def read(path: Path) -> Optional[str]:
    """The file's text, undecodable bytes kept apart; C{None} where there is no file."""
    try:
        return path.read_bytes().decode("utf-8", errors="surrogateescape")
    except FileNotFoundError:
        return None


def attributes_differ(path: Path, wanted: Item) -> bool:
    """Whether mode, owner or group are others than wanted; also where nothing is there."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return True
    return (
        (status.st_mode & 0o7777) != wanted.mode
        or (wanted.owner is not None and status.st_uid != wanted.owner)
        or (wanted.group is not None and status.st_gid != wanted.group)
    )


def ownership(wanted: Item) -> tuple[int, int]:
    """User and group id for chown; -1 changes nothing."""
    return (
        -1 if wanted.owner is None else wanted.owner,
        -1 if wanted.group is None else wanted.group,
    )


def write(path: Path, wanted: Item) -> None:
    """The file with its mode and owner."""
    for parent in reversed(path.parents):
        ensure_directory(parent, 0o755)
    write_atomically(path, wanted.content or "", wanted.mode, ownership(wanted))


def make_directory(path: Path, wanted: Item) -> None:
    """The folder with its mode and owner."""
    ensure_directory(path, wanted.mode)
    path.chmod(wanted.mode)
    os.chown(path, *ownership(wanted))


def note_reloads(path: Path, names: set[str]) -> None:
    """Write down who has to read its files again; no file means nobody."""
    if names:
        write_atomically(path, "".join(f"{name}\n" for name in sorted(names)), 0o644)
    else:
        path.unlink()


def validate(
    root: Path,
    validation: Mapping[str, Any],
    files: Sequence[Item],
    stage_dir: Optional[Path],
    environment: Mapping[str, str],
) -> None:
    """Judge a candidate, with ``environment`` added to this process's own; raises
    L{ConfigFilesError} with what the command said."""
    with tempfile.TemporaryDirectory(prefix=".candidate-", dir=stage_dir) as name:
        stage = Path(name)
        candidate = stage / validation["path"]
        live = root / validation["path"]
        if live.is_dir():
            candidate.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(live, candidate, symlinks=True)
        for wanted in files:
            if is_below(wanted.path, validation["path"]):
                write(stage / wanted.path, wanted)
        argv = list(candidate_argv(validation["argv"], str(candidate)))
        try:
            done = subprocess.run(
                argv,
                check=False,
                cwd=root,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=validation["timeout_seconds"],
            )
        except subprocess.TimeoutExpired:
            raise ConfigFilesError(
                f"{validation['name']}: {argv[0]} did not answer within "
                f"{validation['timeout_seconds']} s"
            ) from None
        except OSError as error:
            raise ConfigFilesError(f"{validation['name']}: {argv[0]}: {error.strerror}") from None
        if done.returncode != 0:
            said = done.stdout.decode("utf-8", errors="replace").replace(str(candidate), str(live))
            raise ConfigFilesError(
                f"{validation['name']} is not valid, nothing was changed. {argv[0]} answered "
                f"{done.returncode}, expected 0: {last_lines(said)}"
            )


def difference(root: Path, wanted: Item, rendered: str) -> dict[str, str]:
    """One file's entry for diff mode; ``rendered`` is the content before digests are filled in."""
    path = root / wanted.path
    before = read(path)
    after: Optional[str] = rendered
    if wanted.secret:
        before, after = hide(before), "(secret, changed)\n"
    elif needs_digest(rendered):
        before, after = before and mask_digests(before), mask_digests(rendered)
    return {
        "before_header": str(path) if before is not None else "(no such file)",
        "after_header": str(path),
        "before": before or "",
        "after": after or "",
    }


def hide(content: Optional[str]) -> Optional[str]:
    """For showing in place of a secret; C{None} where there is none."""
    return None if content is None else "(secret)\n"


def may_validate(module: AnsibleModule, root: Path, validation: Mapping[str, Any]) -> bool:
    """Whether there is what a validation needs; in check mode nothing may have been made yet."""
    if not module.check_mode:
        return True
    environment_file = module.params["environment_file"]
    made = root.is_dir() and (environment_file is None or Path(environment_file).is_file())
    return made and bool(validation["check_mode"])


def apply(module: AnsibleModule) -> dict[str, Any]:
    """Everything that the module does; raises L{ConfigFilesError} and C{OSError}."""
    root = Path(module.params["root"])
    directories = [item(entry, True) for entry in module.params["directories"]]
    rendered = [item(entry, False) for entry in module.params["files"]]
    files = fill(rendered, module.params["environment_file"], module.check_mode)
    kept = module.params["keep_existing_directories"]
    changed_directories = [
        wanted
        for wanted in directories
        if attributes_differ(root / wanted.path, wanted)
        and not (kept and (root / wanted.path).is_dir())
    ]
    changed = [
        wanted
        for wanted in files
        if read(root / wanted.path) != wanted.content
        or attributes_differ(root / wanted.path, wanted)
    ]
    if not module.check_mode:
        ensure_directory(root, 0o750)
    names = module.params["pending_variables"] if module.check_mode else ()
    pending_variables = dict.fromkeys(names, STAND_IN)
    validated = []
    for validation in module.params["validations"]:
        touched = any(is_below(wanted.path, validation["path"]) for wanted in changed)
        if touched and may_validate(module, root, validation):
            # Check mode leaves the root alone, its time stamp too.
            stage_dir = None if module.check_mode else root
            validate(root, validation, files, stage_dir, pending_variables)
            validated.append(validation["name"])
    noted = set((read(root / RELOAD_PENDING) or "").split())
    pending = noted | {
        service["name"]
        for service in module.params["reloads"]
        if any(is_below(wanted.path, service["path"]) for wanted in changed)
    }
    pending -= set(module.params["reloaded"])
    contents = {one.path: one.content or "" for one in rendered}
    result = {
        "changed": bool(changed or changed_directories),
        "changed_files": [wanted.path for wanted in changed],
        "changed_directories": [wanted.path for wanted in changed_directories],
        "reload_pending": sorted(pending),
        "validated": validated,
    }
    if module._diff:
        result["diff"] = [difference(root, wanted, contents[wanted.path]) for wanted in changed]
    if not module.check_mode:
        if pending != noted:
            note_reloads(root / RELOAD_PENDING, pending)
        for wanted in changed_directories:
            make_directory(root / wanted.path, wanted)
        for wanted in changed:
            write(root / wanted.path, wanted)
    return result


def fill(
    rendered: Sequence[Item], environment_file: Optional[str], lenient: bool
) -> Sequence[Item]:
    """The files with digests in them. In check mode the secrets may not have been made yet."""
    secrets: Mapping[str, Optional[str]] = {}
    if environment_file is not None:
        secrets = values(parse(read(Path(environment_file)) or ""))
    filled = []
    for one in rendered:
        content, missing = fill_digests(one.content or "", secrets)
        if missing and not lenient:
            raise ConfigFilesError(
                f"{one.path} needs the digest of {missing[0]}, which {environment_file} lacks"
            )
        filled.append(replace(one, content=content))
    return filled


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    try:
        result = apply(module)
    except (ConfigFilesError, EnvironmentFileError) as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.filename or module.params['root']}: {error.strerror}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
