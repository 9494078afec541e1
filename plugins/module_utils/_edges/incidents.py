# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An incident opened, noted in, closed, and told of, on one host for one project.

All of it raises C{IncidentError}. What writes is to be run under the host's lock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._edges.incident_store import (
    IncidentStore,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.operation_store import (
    OperationStore,
    utc_now,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._incident import (
    CLOSED,
    DONE,
    OPEN,
    Incident,
    Measure,
    choose,
    closed,
    new_identifier,
    new_incident,
    report_tables,
    results_of,
    timeline_entry,
    with_measures,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._operation import (
    RunIdentity,
    open_temporary_states,
)


@dataclass(frozen=True)
class Incidents:
    """The incidents of ``project``, written for the run ``identity``."""

    store: IncidentStore
    identity: RunIdentity
    project: str
    dry_run: bool = False

    def open(
        self, asked: str, reason: str, measures: Sequence[Measure] = (), command: str = ""
    ) -> dict[str, Any]:
        """Find the incident that is asked for or open, or open one, with what is to contain it
        written down before it is done."""
        known, remarks = self.store.read_all()
        now = utc_now()
        incident = choose(known, self.project, asked)
        opened = incident is None
        if incident is None:
            taken = [one.identifier for one in known]
            identifier = new_identifier(now, self.identity.run_id, taken)
            incident = new_incident(identifier, self.project, reason, self.identity, now)
        wanted = with_measures(incident, added=measures)
        changed = opened or wanted != incident
        if changed and not self.dry_run:
            self.store.write(wanted)
        if opened:
            what = f"opened: {reason or 'no reason was given'}"
            self._append(
                wanted, timeline_entry(now, self.identity, "opened", what, command=command)
            )
        return self._answer(wanted, changed, opened=opened, remarks=remarks)

    def note(
        self,
        asked: str,
        event: str,
        what: str,
        *,
        outcome: str = DONE,
        command: str = "",
        released: Iterable[Measure] = (),
    ) -> dict[str, Any]:
        """Write to the timeline what was done, and which measures are undone by it. Where no
        incident is open there is nothing to write to."""
        known, remarks = self.store.read_all()
        now = utc_now()
        entry = timeline_entry(now, self.identity, event, what, outcome=outcome, command=command)
        incident = choose(known, self.project, asked)
        if incident is None:
            return self._answer(None, False, remarks=remarks)
        wanted = with_measures(incident, removed=released)
        if wanted != incident and not self.dry_run:
            self.store.write(wanted)
        self._append(wanted, entry)
        return self._answer(wanted, True, remarks=remarks)

    def close(
        self, asked: str, what: str, *, command: str = "", released: Iterable[Measure] = ()
    ) -> dict[str, Any]:
        """End the incident once nothing contains it any more; one that is closed stays so."""
        known, remarks = self.store.read_all()
        now = utc_now()
        ended = [one for one in known if one.identifier == asked and one.status == CLOSED]
        incident = None if ended else choose(known, self.project, asked)
        if incident is None:
            return self._answer(ended[0] if ended else None, False, remarks=remarks)
        done = closed(with_measures(incident, removed=released), self.identity, now)
        self._append(done, timeline_entry(now, self.identity, "closed", what, command=command))
        if not self.dry_run:
            self.store.write(done)
        return self._answer(done, True, remarks=remarks)

    def _append(self, incident: Incident, entry: dict[str, str]) -> None:
        if not self.dry_run:
            self.store.append(incident.identifier, entry)

    def _answer(
        self,
        incident: Optional[Incident],
        changed: bool,
        *,
        remarks: list[str],
        opened: bool = False,
    ) -> dict[str, Any]:
        return {
            "changed": changed,
            "opened": opened,
            "id": incident.identifier if incident else "",
            "folder": str(self.store.folder(incident.identifier)) if incident else "",
            "incident": asdict(incident) if incident else None,
            "remarks": remarks,
            "lines": [incident.line] if incident else ["no incident is open"],
        }


def describe(
    state_dir: str,
    project: str,
    asked: str,
    *,
    run_id: str = "",
    failure: str = "",
    results: Sequence[Mapping[str, Any]] = (),
    tables: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """All that is known of one incident (the one asked for, or else the newest that is open), and
    of the run C{run_id} in it, as a report takes it; nothing is written.

    ``failure`` is why that run has failed, ``results`` and ``tables`` are what others have to tell.
    """
    store = IncidentStore(state_dir)
    known, remarks = store.read_all()
    own = [one for one in known if one.project == project]
    open_ones = [one for one in own if one.status == OPEN]
    wanted = [one for one in own if one.identifier == asked] if asked else open_ones
    incident = wanted[-1] if wanted else None
    entries, damaged = store.timeline(incident.identifier) if incident else ([], [])
    bundles = store.bundles(incident.identifier) if incident else []
    if incident and damaged:
        remarks.append(f"{store.folder(incident.identifier)}: unreadable timeline lines {damaged}")
    _lock, journal = OperationStore(state_dir).read()
    states = [one for one in open_temporary_states(journal.records) if one["project"] == project]
    told = [*results_of(entries, run_id, failure), *results]
    return {
        "open": [one.identifier for one in open_ones],
        "incidents": [asdict(one) for one in own],
        "incident": asdict(incident) if incident else None,
        "timeline": entries,
        "evidence": [asdict(one) for one in bundles],
        "results": told or [_nothing(incident)],
        "tables": [
            *(report_tables(incident, entries, bundles, states) if incident else ()),
            *tables,
        ],
        "facts": _facts(incident),
        "remarks": remarks,
        "lines": [one.line for one in open_ones] or ["no incident is open"],
    }


def _nothing(incident: Optional[Incident]) -> dict[str, Any]:
    standing = incident.line if incident else "no incident is open"
    return {
        "id": "incident.note",
        "service": "host",
        "title": "What was done",
        "status": "ok",
        "message": f"nothing was to be done; {standing}",
        "hint": "",
        "duration_ms": 0,
    }


def _facts(incident: Optional[Incident]) -> dict[str, str]:
    if incident is None:
        return {}
    return {
        "incident": incident.identifier,
        "status": incident.status,
        "reason": incident.reason,
        "opened": f"{incident.opened_at} by {incident.opened_by}",
        "closed": f"{incident.closed_at} by {incident.closed_by}" if incident.closed_at else "",
        "contained_by": ", ".join(map(str, incident.measures)),
    }
