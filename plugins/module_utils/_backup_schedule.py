# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a host's own timer does: its settings, as a file on the host has them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.pynomaly.ops.plugins.module_utils._backup import KINDS, BackupError

_TEXTS = ("project", "backup_dir", "state_dir")
_MAPPINGS = ("service_names", "common", "retention", "copy", *KINDS)


@dataclass(frozen=True)
class ScheduleSettings:
    """``common`` are the settings of each kind's backup, and the kind's own name holds more.

    ``retention`` has the policy's numbers; an empty ``copy`` copies nothing, else it has remote,
    path and timeout_seconds.
    """

    project: str
    backup_dir: str
    state_dir: str
    kinds: Sequence[str]
    textfile_dir: str = ""
    service_names: Mapping[str, str] = field(default_factory=dict)
    common: Mapping[str, Any] = field(default_factory=dict, repr=False)
    retention: Mapping[str, int] = field(default_factory=dict)
    copy: Mapping[str, Any] = field(default_factory=dict, repr=False)
    database: Mapping[str, Any] = field(default_factory=dict, repr=False)
    config: Mapping[str, Any] = field(default_factory=dict, repr=False)
    models: Mapping[str, Any] = field(default_factory=dict, repr=False)
    redis: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def of_kind(self, kind: str) -> dict[str, Any]:
        """The arguments of the kind's own settings, beside project, kind and folder."""
        return {**self.common, **getattr(self, kind)}


def parse_settings(text: str) -> ScheduleSettings:
    """Raises L{BackupError}, which names the setting and repeats no value."""
    try:
        raw = json.loads(text)
    except ValueError as error:
        raise BackupError(f"the settings are not JSON: {error}") from error
    if not isinstance(raw, dict):
        raise BackupError("the settings are no mapping")
    unknown = sorted(set(raw) - set(ScheduleSettings.__dataclass_fields__))
    if unknown:
        raise BackupError(f"the settings have an unknown {unknown[0]}")
    for name in _TEXTS:
        if not isinstance(raw.get(name), str) or not raw[name]:
            raise BackupError(f"the settings' {name} is no text")
    if not isinstance(raw.get("textfile_dir", ""), str):
        raise BackupError("the settings' textfile_dir is no text")
    for name in _MAPPINGS:
        if not isinstance(raw.get(name, {}), dict):
            raise BackupError(f"the settings' {name} is no mapping")
    kinds = raw.get("kinds")
    if not isinstance(kinds, list) or not kinds or any(one not in KINDS for one in kinds):
        raise BackupError(f"the settings' kinds are {kinds!r}, expected some of {', '.join(KINDS)}")
    return ScheduleSettings(**raw)
