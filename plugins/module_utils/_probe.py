# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Probes: what one is, how its measurement is judged, and what a result looks like.

A collector measures and yields L{Measurement}s. Policy (thresholds, waivers) is applied here,
apart from measuring, so that the same measurement can be judged by anybody's numbers.
"""

from __future__ import annotations

import datetime
import difflib
import fnmatch
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional, Union

OK = "ok"
WARNING = "warning"
CRITICAL = "critical"
UNKNOWN = "unknown"
SKIPPED = "skipped"

#: From best to worst; ``skipped`` says nothing about health.
STATUSES = (SKIPPED, OK, UNKNOWN, WARNING, CRITICAL)

ABOVE = "above"
BELOW = "below"

Number = Union[int, float]


class PolicyError(ValueError):
    """A threshold, waiver or selection that a user wrote cannot be used; the text says why."""


@dataclass(frozen=True)
class ProbeDefinition:
    """One thing that can be looked at.

    ``direction`` says on which side of a threshold trouble lies: C{above} (disk usage) or
    C{below} (days until a certificate expires); C{None} for probes that answer a plain yes or no.
    ``source`` names where the default numbers come from.
    """

    id: str
    component: str
    title: str
    unit: Optional[str] = None
    direction: Optional[str] = None
    warning: Optional[Number] = None
    critical: Optional[Number] = None
    hint: str = ""
    source: str = ""


@dataclass(frozen=True)
class Target:
    """What a collector promises to answer: a probe, the service, and where there are several of
    them the instance (a mount point, a container's name, a certificate file)."""

    id: str
    service: str
    instance: Optional[str] = None


@dataclass(frozen=True)
class Measurement:
    """What was seen for one target.

    With ``status`` unset the value is judged by the thresholds; a collector sets it where the
    answer is not a matter of degree. ``hint`` replaces the definition's own.
    ``detail`` is a small JSON-able value for the report (the three most frequent messages, say).
    """

    target: Target
    value: Union[Number, str, None] = None
    message: str = ""
    status: Optional[str] = None
    hint: Optional[str] = None
    detail: Any = None
    duration_ms: float = 0.0


@dataclass(frozen=True)
class Selector:
    """C{ID}, C{GLOB} or C{ID@WHERE}, WHERE being a service or an instance."""

    id: str
    where: Optional[str] = None

    @classmethod
    def parse(cls, text: str) -> Selector:
        identifier, separator, where = str(text).partition("@")
        if not identifier or (separator and not where):
            raise PolicyError(f"{text!r} is not a probe id, a pattern, or ID@SERVICE")
        return cls(identifier, where or None)

    def matches(self, target: Target) -> bool:
        """Whether the target is meant; both halves may be shell patterns."""
        if not fnmatch.fnmatchcase(target.id, self.id):
            return False
        if self.where is None:
            return True
        places = [target.service] + ([target.instance] if target.instance is not None else [])
        return any(fnmatch.fnmatchcase(place, self.where) for place in places)

    def known(self, ids: Iterable[str]) -> bool:
        return any(fnmatch.fnmatchcase(identifier, self.id) for identifier in ids)


@dataclass(frozen=True)
class Threshold:
    warning: Optional[Number]
    critical: Optional[Number]


@dataclass(frozen=True)
class Waiver:
    selector: Selector
    reason: str
    until: datetime.date


@dataclass(frozen=True)
class Policy:
    """Thresholds and waivers, already checked against the known probes."""

    definitions: Mapping[str, ProbeDefinition]
    thresholds: Sequence[tuple[Selector, Threshold]] = field(default_factory=tuple)
    waivers: Sequence[Waiver] = field(default_factory=tuple)

    def threshold(self, target: Target) -> Threshold:
        """The most particular rule wins: ID@WHERE, then ID, then the definition's default."""
        best: Optional[Threshold] = None
        best_rank = -1
        for selector, threshold in self.thresholds:
            rank = 1 if selector.where is not None else 0
            if rank > best_rank and selector.matches(target):
                best, best_rank = threshold, rank
        if best is not None:
            return best
        definition = self.definitions[target.id]
        return Threshold(definition.warning, definition.critical)

    def waiver(self, target: Target, today: datetime.date) -> Optional[Waiver]:
        """The waiver in force today, if any; one that has ended no longer counts."""
        for waiver in self.waivers:
            if waiver.until >= today and waiver.selector.matches(target):
                return waiver
        return None


def _number(key: str, name: str, value: object) -> Optional[Number]:
    if value is None:
        return None
    if isinstance(value, bool):
        raise PolicyError(f"threshold {key}: {name} is {value!r}, expected a number")
    if isinstance(value, (int, float)):
        number: Number = value
    else:
        try:
            number = float(str(value))
        except ValueError as error:
            raise PolicyError(f"threshold {key}: {name} is {value!r}, expected a number") from error
    if not math.isfinite(number):
        raise PolicyError(f"threshold {key}: {name} is {value!r}, expected a finite number")
    return int(number) if number == int(number) else number


def _closest(identifier: str, ids: Iterable[str]) -> str:
    near = difflib.get_close_matches(identifier, list(ids), n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def parse_selectors(
    texts: Iterable[str], definitions: Mapping[str, ProbeDefinition], what: str
) -> list[Selector]:
    """Selections as a user writes them; raises L{PolicyError} on one that names no probe."""
    selectors = []
    for text in texts:
        selector = Selector.parse(text)
        if not selector.known(definitions):
            raise PolicyError(
                f"{what}: unknown probe id {selector.id!r}{_closest(selector.id, definitions)}"
            )
        selectors.append(selector)
    return selectors


def parse_thresholds(
    raw: Mapping[str, Any], definitions: Mapping[str, ProbeDefinition]
) -> list[tuple[Selector, Threshold]]:
    """``{ID[@WHERE]: {warning: N, critical: N}}`` checked against the known probes.

    A half that is left out keeps the definition's default; C{null} switches it off.
    Raises L{PolicyError} for an unknown id, a probe without thresholds, a value that is not a
    number, and a warning on the wrong side of the critical value.
    """
    parsed = []
    for key, levels in raw.items():
        (selector,) = parse_selectors([key], definitions, "thresholds")
        if not isinstance(levels, Mapping) or not levels or set(levels) - {"warning", "critical"}:
            raise PolicyError(
                f"threshold {key}: seen {levels!r}, expected {{warning: N, critical: N}}"
            )
        definition = definitions.get(selector.id)
        if definition is None:
            raise PolicyError(f"threshold {key}: expected one probe id, not a pattern")
        if definition.direction is None:
            raise PolicyError(f"threshold {key}: this probe answers yes or no, it has no threshold")
        warning = _number(key, "warning", levels.get("warning", definition.warning))
        critical = _number(key, "critical", levels.get("critical", definition.critical))
        if warning is not None and critical is not None:
            wrong = warning > critical if definition.direction == ABOVE else warning < critical
            if wrong:
                side = "at or below" if definition.direction == ABOVE else "at or above"
                raise PolicyError(
                    f"threshold {key}: warning {warning} and critical {critical}, "
                    f"expected warning {side} critical"
                )
        parsed.append((selector, Threshold(warning, critical)))
    return parsed


def parse_waivers(
    raw: Iterable[Mapping[str, Any]], definitions: Mapping[str, ProbeDefinition]
) -> list[Waiver]:
    """``[{probe: ID[@WHERE], reason: TEXT, until: YYYY-MM-DD}]``; all three are needed, because
    an exception that nobody explained or ended is how a warning becomes furniture."""
    parsed = []
    for entry in raw:
        if not isinstance(entry, Mapping) or set(entry) != {"probe", "reason", "until"}:
            raise PolicyError(f"waiver {entry!r}: expected exactly probe, reason and until")
        (selector,) = parse_selectors([str(entry["probe"])], definitions, "waivers")
        reason = str(entry["reason"] or "").strip()
        if not reason:
            raise PolicyError(f"waiver {entry['probe']}: a reason is needed")
        try:
            until = datetime.date.fromisoformat(str(entry["until"]))
        except ValueError as error:
            raise PolicyError(
                f"waiver {entry['probe']}: until is {entry['until']!r}, expected YYYY-MM-DD"
            ) from error
        parsed.append(Waiver(selector, reason, until))
    return parsed


def judge(value: Number, threshold: Threshold, direction: str) -> str:
    """Strictly past a threshold is trouble: the runbook says "> 95%" and "< 30 days"."""

    def past(limit: Optional[Number]) -> bool:
        if limit is None:
            return False
        return value > limit if direction == ABOVE else value < limit

    if past(threshold.critical):
        return CRITICAL
    return WARNING if past(threshold.warning) else OK


def result(measurement: Measurement, policy: Policy, today: datetime.date) -> dict[str, Any]:
    """One entry of a report's ``results``.

    Keys: id, service, instance, title, status, value, unit, warning, critical, message, hint,
    detail, duration_ms, waiver ({reason, until, status}, the status being the one waived, or
    null). A waived warning, critical or unknown becomes ``skipped``.
    """
    target = measurement.target
    definition = policy.definitions[target.id]
    threshold = policy.threshold(target)
    status = measurement.status
    if status is None:
        if isinstance(measurement.value, (int, float)) and definition.direction is not None:
            status = judge(measurement.value, threshold, definition.direction)
        else:
            status = OK
    waived = None
    waiver = policy.waiver(target, today)
    if waiver is not None and status in (WARNING, CRITICAL, UNKNOWN):
        waived = {"reason": waiver.reason, "until": waiver.until.isoformat(), "status": status}
        status = SKIPPED
    hint = measurement.hint if measurement.hint is not None else definition.hint
    return {
        "id": target.id,
        "service": target.service,
        "instance": target.instance,
        "title": definition.title,
        "status": status,
        "value": measurement.value,
        "unit": definition.unit,
        "warning": threshold.warning if definition.direction else None,
        "critical": threshold.critical if definition.direction else None,
        "message": measurement.message,
        "hint": hint if status in (WARNING, CRITICAL, UNKNOWN) else "",
        "detail": measurement.detail,
        "duration_ms": round(measurement.duration_ms, 1),
        "waiver": waived,
    }


def worst(statuses: Iterable[str]) -> str:
    """The worst of them; C{ok} for none at all."""
    return max(statuses, key=STATUSES.index, default=OK)


def summarize(results: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """How many results have each status; every status is present."""
    counts = dict.fromkeys((OK, WARNING, CRITICAL, UNKNOWN, SKIPPED), 0)
    for entry in results:
        counts[entry["status"]] += 1
    return counts
