# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an incident leaves standing on a host: that it is open, and which addresses are blocked.

Small, because the daily check and C{status} import it; what writes these files is in C{_incident}
and C{_blocklist}.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from typing import Any, Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._probe import (
    UNKNOWN,
    Measurement,
    Target,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._utc import parse_utc

_MOST_SHOWN = 3


def open_incident(data: bytes) -> Optional[dict[str, Any]]:
    """An C{incident.json} as C{{id, project, since, reason, contained_by}}; C{None} for one that is
    closed. Raises C{ValueError} for what is none."""
    try:
        raw = json.loads(data.decode())
        if raw["status"] != "open":
            return None
        parse_utc(raw["opened_at"])
        return {
            "id": str(raw["identifier"]),
            "project": str(raw["project"]),
            "since": str(raw["opened_at"]),
            "reason": str(raw["reason"]),
            "contained_by": [
                f"{one['kind']} {one['target']}".strip() for one in raw.get("measures") or ()
            ],
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no incident: {error!r}") from error


def standing_blocks(data: bytes, now: datetime.datetime) -> list[dict[str, str]]:
    """A C{blocklist.json} as C{{network, until, reason}} of what has not ended. Raises
    C{ValueError} for what is none."""
    try:
        blocks = [
            {
                "network": str(one["network"]),
                "until": str(one.get("confirm_by") or one["until"]),
                "reason": str(one.get("reason") or ""),
            }
            for one in json.loads(data.decode())["blocks"]
        ]
        return [one for one in blocks if parse_utc(one["until"]) > now]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no list of blocks: {error!r}") from error


def incident_line(incident: Mapping[str, Any]) -> str:
    since = parse_utc(incident["since"])
    text = f"incident {incident['id']} of {incident['project']} since {since:%Y-%m-%d %H:%M:%S} UTC"
    if incident["reason"]:
        text += f" ({incident['reason']})"
    if incident["contained_by"]:
        text += f", contained by {', '.join(incident['contained_by'])}"
    return text


def blocks_line(blocks: Sequence[Mapping[str, str]]) -> str:
    """How many networks are blocked, the first few of them, and until when the last one is."""
    names = ", ".join(one["network"] for one in blocks[:_MOST_SHOWN])
    more = f" and {len(blocks) - _MOST_SHOWN} more" if len(blocks) > _MOST_SHOWN else ""
    last = max(parse_utc(one["until"]) for one in blocks)
    return f"{names}{more} until {last:%Y-%m-%d %H:%M:%S} UTC"


def measure_incidents(
    target: Target,
    incidents: Sequence[Mapping[str, Any]],
    blocks: Sequence[Mapping[str, str]],
    problems: Sequence[str],
) -> Measurement:
    """How many incidents are open. What is blocked without one is told, and is no trouble; what
    cannot be read may be an incident."""
    lines = [incident_line(one) for one in incidents]
    blocked = [f"blocked: {blocks_line(blocks)}"] if blocks else []
    if not incidents:
        if problems:
            return Measurement(target, None, "; ".join(problems), status=UNKNOWN)
        return Measurement(target, 0, "; ".join(["no incident is open", *blocked]))
    message = f"open: {'; '.join([*lines, *blocked, *problems])}"
    return Measurement(target, len(incidents), message, detail=[*lines, *blocked, *problems])
