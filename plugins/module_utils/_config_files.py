# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rendered configuration: what is to be written where, and digests filled in on the host."""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

_DIGEST = re.compile(r"@sha256\(([A-Za-z_][A-Za-z0-9_]*)\)@")
_HEXADECIMAL_DIGEST = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_MODE = re.compile(r"0?[0-7]{3}\Z")


class ConfigFilesError(ValueError):
    """What is asked for cannot be written."""


@dataclass(frozen=True)
class Item:
    """A file, or a folder where ``content`` is C{None}.

    ``path`` is relative to the root, absolute for folders elsewhere. ``owner`` and ``group`` are
    ids, C{None} for whoever writes.
    """

    path: str
    content: Optional[str] = field(repr=False)
    mode: int
    owner: Optional[int] = None
    group: Optional[int] = None
    secret: bool = False


def item(entry: Mapping[str, Any], is_directory: bool) -> Item:
    """An L{Item} of one entry of the module's options; raises L{ConfigFilesError}."""
    path = posixpath.normpath(entry["path"])
    outside = path.startswith(("/", "..")) or path == "."
    if outside and not (is_directory and path.startswith("/")):
        raise ConfigFilesError(f"path {entry['path']!r} is not below the root")
    if not _MODE.match(entry["mode"]):
        raise ConfigFilesError(
            f"{path}: mode {entry['mode']!r}, expected octal digits such as 0644"
        )
    secret = None if is_directory else entry["secret_content"]
    content = None if is_directory else entry["content"] if secret is None else secret
    mode = int(entry["mode"], 8)
    return Item(path, content, mode, entry["owner"], entry["group"], secret is not None)


def needs_digest(content: str) -> bool:
    """Whether the content has an C{@sha256(NAME)@} in it."""
    return _DIGEST.search(content) is not None


def fill_digests(content: str, secrets: Mapping[str, Optional[str]]) -> tuple[str, Sequence[str]]:
    """The content with each C{@sha256(NAME)@} replaced by the secret's digest in hexadecimal.

    Also the names that have no value; their places are left as they are.
    """
    missing: list[str] = []

    def substitute(match: re.Match[str]) -> str:
        value = secrets.get(match.group(1))
        if not value:
            missing.append(match.group(1))
            return match.group(0)
        return hashlib.sha256(value.encode("utf-8")).hexdigest()

    return _DIGEST.sub(substitute, content), missing


def mask_digests(content: str) -> str:
    """For showing: digests of secrets are no secrets, but weak secrets can be guessed from them."""
    return _HEXADECIMAL_DIGEST.sub("(digest)", _DIGEST.sub("(digest)", content))


def is_below(path: str, folder_or_file: str) -> bool:
    """Whether a relative path is that file, or lies in that folder."""
    target = posixpath.normpath(folder_or_file)
    return path == target or path.startswith(target.rstrip("/") + "/")


def candidate_argv(argv: Sequence[str], candidate: str) -> Sequence[str]:
    """The command with C{{candidate}} replaced; raises L{ConfigFilesError} where it has none."""
    if not any("{candidate}" in argument for argument in argv):
        raise ConfigFilesError(f"validation {argv!r} does not say {{candidate}} anywhere")
    return [argument.replace("{candidate}", candidate) for argument in argv]


def last_lines(text: str, count: int = 8, limit: int = 1500) -> str:
    """The end of a program's output, which is where it says what is wrong."""
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    return "\n".join(lines[-count:])[-limit:]
