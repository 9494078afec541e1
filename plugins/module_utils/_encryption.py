# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who may read an encrypted backup, and which members of an archive may be unpacked."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Sequence

METHOD = "age"
SUFFIX = ".age"
TAR_SUFFIX = ".tar" + SUFFIX

#: Native keys, plugins' keys, and the SSH keys that age takes: age(1), RECIPIENTS AND IDENTITIES.
_RECIPIENT = re.compile(
    r"(age1[a-z0-9]{20,}|ssh-ed25519 [A-Za-z0-9+/=]+( .*)?|ssh-rsa [A-Za-z0-9+/=]+( .*)?)\Z"
)
_SECRET = re.compile(r"AGE-SECRET-KEY-|PRIVATE KEY", re.IGNORECASE)


class UnsafeMemberError(ValueError):
    """An archive's member would be written somewhere else, or is no plain file or folder."""


def recipient_problems(recipients: Sequence[str]) -> list[str]:
    """What is wrong with a list of public keys. A private key is never repeated in the text."""
    problems = []
    for number, recipient in enumerate(recipients, start=1):
        if _SECRET.search(recipient):
            problems.append(
                f"recipient {number} is a private key, expected a public one: the private key "
                "must never be on the server that makes the backups"
            )
        elif not _RECIPIENT.match(recipient.strip()):
            problems.append(
                f"recipient {number} is {recipient[:20]!r}…, expected age1… or an SSH public key"
            )
    return problems


def check_member(name: str, is_plain: bool) -> str:
    """The path of an archive's member, as it may be unpacked below a folder.

    ``is_plain`` says whether it is a file or folder, and no link, device or pipe. Raises
    L{UnsafeMemberError} for any other, for an absolute path, and for one that leads out.
    """
    if not is_plain:
        raise UnsafeMemberError(f"{name!r} is a link or a device, expected files and folders alone")
    if name.startswith("/") or "\\" in name or "\0" in name:
        raise UnsafeMemberError(f"{name!r} is not a relative path")
    if ".." in name.split("/"):
        raise UnsafeMemberError(f"{name!r} leads out of the folder that it is unpacked to")
    return posixpath.normpath(name)


def encrypted_names(names: Iterable[str]) -> list[str]:
    """The encrypted ones among file names."""
    return [name for name in names if name.endswith(SUFFIX)]
