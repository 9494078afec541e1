# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How large a database was at earlier looks: one sample a day, so many of them, and no more."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

SCHEMA_VERSION = 1

#: What bounds the file: with 60 samples of 200 tables it has about a megabyte. Weekly samples
#: then reach back for more than a year.
MOST_SAMPLES = 60
MOST_TABLES = 200

WEEK_SECONDS = 7 * 86400.0
#: A sample younger than this says nothing about growth.
YOUNGEST_SECONDS = 86400.0


class HistoryError(ValueError):
    """The text is no history; it says why."""


@dataclass(frozen=True)
class Sample:
    """``tables`` has by quoted name the bytes of a table (with its TOAST) and of its indexes."""

    at: datetime.datetime
    database: str
    database_bytes: int
    tables: Mapping[str, tuple[int, int]]


def decode_history(text: str) -> list[Sample]:
    """The samples, oldest first. Raises L{HistoryError}."""
    try:
        raw = json.loads(text)
        if raw["schema_version"] != SCHEMA_VERSION:
            raise HistoryError(
                f"seen schema_version {raw['schema_version']}, expected {SCHEMA_VERSION}"
            )
        samples = [_sample(entry) for entry in raw["samples"]]
    except HistoryError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise HistoryError(f"it is no history of sizes: {type(error).__name__}") from error
    return sorted(samples, key=lambda one: one.at)


def _sample(entry: Mapping[str, Any]) -> Sample:
    at = datetime.datetime.fromisoformat(str(entry["at"]).replace("Z", "+00:00"))
    if at.tzinfo is None:
        raise HistoryError(f"seen the time {entry['at']!r}, expected one with its zone")
    return Sample(
        at,
        str(entry["database"]),
        int(entry["database_bytes"]),
        {str(name): (int(sizes[0]), int(sizes[1])) for name, sizes in entry["tables"].items()},
    )


def encode_history(samples: Sequence[Sample]) -> str:
    """What L{decode_history} reads."""
    entries = [
        {
            "at": one.at.astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "database": one.database,
            "database_bytes": one.database_bytes,
            "tables": {name: list(sizes) for name, sizes in one.tables.items()},
        }
        for one in samples
    ]
    return json.dumps({"schema_version": SCHEMA_VERSION, "samples": entries}) + "\n"


def with_sample(samples: Sequence[Sample], new: Sample) -> list[Sample]:
    """The history with one more. Of one database and day the newest stays, so that many runs on one
    day don't drive last week's sample out."""

    def same_day(one: Sample) -> bool:
        utc = datetime.timezone.utc
        return (one.database, one.at.astimezone(utc).date()) == (
            new.database,
            new.at.astimezone(utc).date(),
        )

    largest = sorted(new.tables.items(), key=lambda item: -sum(item[1]))[:MOST_TABLES]
    kept = [one for one in samples if not same_day(one)]
    bounded = Sample(new.at, new.database, new.database_bytes, dict(largest))
    return sorted([*kept, bounded], key=lambda one: one.at)[-MOST_SAMPLES:]


def baseline(samples: Sequence[Sample], database: str, now: datetime.datetime) -> Optional[Sample]:
    """The sample that is nearest to a week old, of those that are a day old or more."""

    def age_seconds(one: Sample) -> float:
        return (now - one.at).total_seconds()

    fitting = [
        one for one in samples if one.database == database and age_seconds(one) >= YOUNGEST_SECONDS
    ]
    return min(fitting, key=lambda one: abs(age_seconds(one) - WEEK_SECONDS), default=None)
