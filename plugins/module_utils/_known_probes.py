# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every probe of every report.

One policy holds for all of them: a threshold for a weekly probe is no mistake to the daily check,
which takes no notice of it.
"""

from __future__ import annotations

from collections.abc import Mapping

from ansible_collections.pynomaly.ops.plugins.module_utils._catalogue import CATALOGUE
from ansible_collections.pynomaly.ops.plugins.module_utils._pg_maintenance_catalogue import (
    MAINTENANCE_CATALOGUE,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._probe import ProbeDefinition

KNOWN_PROBES: Mapping[str, ProbeDefinition] = {**CATALOGUE, **MAINTENANCE_CATALOGUE}
