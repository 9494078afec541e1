# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Moments as text, and back."""

from __future__ import annotations

import datetime
import re


def utc_text(moment: datetime.datetime) -> str:
    """ISO 8601 in UTC to the millisecond, C{2026-11-24T06:53:29.123Z}."""
    moment = moment.astimezone(datetime.timezone.utc)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def parse_utc(text: object) -> datetime.datetime:
    """The moment that an ISO 8601 text names (UTC where it says no zone); raises ValueError."""
    moment = datetime.datetime.fromisoformat(re.sub(r"[zZ]\Z", "+00:00", str(text)))
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.timezone.utc)
    return moment.astimezone(datetime.timezone.utc)
