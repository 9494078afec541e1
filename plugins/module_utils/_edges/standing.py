# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What incidents leave standing, read from the state directory; nothing is written."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.pynomaly.ops.plugins.module_utils._probe import Measurement, Target
from ansible_collections.pynomaly.ops.plugins.module_utils._scheduler import CollectorError
from ansible_collections.pynomaly.ops.plugins.module_utils._standing import (
    measure_incidents,
    open_incident,
    standing_blocks,
)


@dataclass
class Standing:
    """Incidents that are open, the oldest first, blocks that have not ended, and what could not be
    read."""

    incidents: list[dict[str, Any]] = field(default_factory=list)
    blocks: list[dict[str, str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def read_standing(state_dir: str, now: datetime.datetime) -> Standing:
    """Raises C{OSError} where the directory cannot be read; one that is not there has nothing."""
    root = Path(state_dir)
    found = Standing()
    for path in root.glob("incidents/[!.]*/incident.json"):
        try:
            incident = open_incident(path.read_bytes())
        except ValueError as error:
            found.problems.append(f"{path}: {error}")
            continue
        if incident is not None:
            found.incidents.append(incident)
    found.incidents.sort(key=lambda one: (one["since"], one["id"]))
    blocklist = root / "blocklist.json"
    try:
        found.blocks = standing_blocks(blocklist.read_bytes(), now)
    except FileNotFoundError:
        pass
    except ValueError as error:
        found.problems.append(f"{blocklist}: {error}")
    return found


def measure(target: Target, state_dir: str, project: str) -> Measurement:
    """The incidents of a project that are open, and the host's blocks. Raises C{CollectorError}."""
    try:
        standing = read_standing(state_dir, datetime.datetime.now(datetime.timezone.utc))
    except OSError as error:
        raise CollectorError(f"{error.filename}: {error.strerror}") from error
    own = [one for one in standing.incidents if one["project"] == project]
    return measure_incidents(target, own, standing.blocks, standing.problems)
