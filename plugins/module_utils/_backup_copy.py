# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Copies of backups in another place, kept by rclone: what it is told, and what it answers.

A remote is rclone's own: its type and its options (https://rclone.org/sftp/, https://rclone.org/s3/),
given to rclone in its environment, so that no secret is an argument or a file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.pynomaly.ops.plugins.module_utils._backup import (
    MANIFEST_DIGEST,
    BackupError,
    is_id,
)

#: The name under which rclone's environment describes the remote.
REMOTE = "offsite"
_OPTION = re.compile(r"[a-z][a-z0-9_]*\Z")
#: Options that rclone wants obscured by ``rclone obscure``, which hides and does not protect.
OBSCURED = ("pass", "key_file_pass")
#: Without it rclone's sftp trusts any host: https://rclone.org/sftp/#sftp-known-hosts-file
_KNOWN_HOSTS = "known_hosts_file"
KNOWN_HOSTS = "/root/.ssh/known_hosts"
_SECRET_OPTION = re.compile(
    r"pass|secret|token|key\Z|key_pem|key_base64|access_key_id|credential|sas_url"
)


def remote_problems(remote: Mapping[str, Any], path: str) -> list[str]:
    """What is wrong with a remote's description. No value is repeated in the text."""
    problems = []
    if not remote.get("type"):
        problems.append("the remote has no type, expected one of rclone's, such as sftp or s3")
    if remote.get("type") == "local" and not path.startswith("/"):
        problems.append(
            f"the path is {path!r}, expected an absolute one for a remote of type local"
        )
    if not path.strip("/"):
        problems.append("the path is empty, expected a folder or a bucket of the remote")
    if ".." in path.split("/"):
        problems.append(f"the path is {path!r}, expected one without ..")
    for name, value in remote.items():
        if not _OPTION.match(name):
            problems.append(f"{name!r} is no option of rclone's, expected names such as host")
        elif isinstance(value, (dict, list)):
            problems.append(f"option {name} is a list or a mapping, expected one value")
    return problems


def remote_environment(remote: Mapping[str, Any], obscured: Mapping[str, str]) -> dict[str, str]:
    """rclone's environment for the remote. ``obscured`` has the options of L{OBSCURED} as rclone
    itself made them unreadable."""
    options = dict(remote)
    if options.get("type") == "sftp":
        options.setdefault(_KNOWN_HOSTS, KNOWN_HOSTS)
    environment = {
        "RCLONE_CONFIG": "/dev/null",
        "RCLONE_ASK_PASSWORD": "false",
        # rclone's S3 fails where it is set: it has --ca-cert for that.
        "AWS_CA_BUNDLE": "",
    }
    for name, value in {**options, **obscured}.items():
        text = str(value).lower() if isinstance(value, bool) else str(value)
        environment[f"RCLONE_CONFIG_{REMOTE.upper()}_{name.upper()}"] = text
    return environment


def remote_secrets(remote: Mapping[str, Any]) -> list[str]:
    """The values of options that look like they hold a secret, to be kept out of messages."""
    return [
        str(value) for name, value in remote.items() if value and _SECRET_OPTION.search(str(name))
    ]


def place(path: str, kind: str = "", identifier: str = "") -> str:
    """Where a kind's backups, or one of them, are on the remote, as rclone names it."""
    inner = "/".join(part for part in (kind, identifier) if part)
    return f"{REMOTE}:{path.rstrip('/')}" + (f"/{inner}" if inner else "")


def copied_ids(listing: str, project: str) -> list[str]:
    """The whole backups in a listing by C{rclone lsjson --recursive}, newest first.

    One is whole when the digest of its manifest is there, which is copied last. Raises
    L{BackupError} for what is no such listing.
    """
    try:
        entries: Sequence[Mapping[str, Any]] = json.loads(listing)
        paths = [str(entry["Path"]) for entry in entries]
    except (ValueError, KeyError, TypeError) as error:
        raise BackupError(f"rclone's listing cannot be read: {error}") from error
    found = []
    for path in paths:
        identifier, _separator, name = path.partition("/")
        is_own = is_id(identifier) and identifier.rpartition("-")[0] == project
        if name == MANIFEST_DIGEST and is_own:
            found.append(identifier)
    return sorted(found, key=lambda one: one.rpartition("-")[2], reverse=True)


def failure_text(stderr: str) -> str:
    """The last that rclone said of its failure, with its causes, without the time of day."""
    lines = [
        re.sub(r"^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d ", "", line).strip()
        for line in stderr.splitlines()
        if line.strip()
    ]
    starts = [
        number for number, line in enumerate(lines) if re.search(r"ERROR|CRITICAL|Failed", line)
    ]
    return " ".join(lines[starts[-1] if starts else -2 :])[:500] or "it said nothing"
