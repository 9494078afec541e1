# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Blocked addresses kept by the host itself: put back at its start, before its network is there,
and every minute, since whoever loads a firewall's configuration anew flushes everybody's rules; and
forgotten once they have ended."""

from __future__ import annotations

import platform
import sys
import uuid
from collections.abc import Sequence

from ansible_collections.pynomaly.ops.plugins.module_utils._blocklist import BlocklistError
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.blocklist import keep
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.operation_store import StoreError
from ansible_collections.pynomaly.ops.plugins.module_utils._operation import (
    OperationError,
    RunIdentity,
)

OK = 0
PROBLEM = 1
USAGE = 2
#: What systemd takes for the level of a line, as in sd-daemon(3).
_ERROR, _NOTICE = "<3>", "<5>"


def main(arguments: Sequence[str]) -> int:
    """C{STATE_DIR}; returns the exit code: 0, 1 where the blocks could not be put back, 2 for other
    arguments."""
    if len(arguments) != 1:
        sys.stderr.write("usage: the folder of the list of blocked addresses\n")
        return USAGE
    identity = RunIdentity(
        run_id=str(uuid.uuid4()), user="the host itself", controller=platform.node()
    )
    try:
        answer = keep(arguments[0], identity)
    except (BlocklistError, OperationError, StoreError, OSError) as error:
        hint = getattr(error, "hint", "")
        sys.stderr.write(f"{_ERROR}{error}{'; next: ' + hint if hint else ''}\n")
        return PROBLEM
    if answer["changed"]:
        sys.stdout.write("".join(f"{_NOTICE}{line}\n" for line in answer["lines"]))
    return OK
