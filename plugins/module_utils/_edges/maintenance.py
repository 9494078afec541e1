# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The maintenance page shown and taken away, each with proof from nginx's own ports.

A change is in the journal before it is made, is one file that appears or goes as a whole, and is
taken back where nginx does not serve it.
"""

from __future__ import annotations

import contextlib
import datetime
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._context import Stack
from ansible_collections.pynomaly.ops.plugins.module_utils._edges import nginx_control
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.docker import (
    Engine,
    EngineError,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.engine_control import (
    EngineControl,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.files import write_atomically
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.http import HttpError
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.nginx_control import NginxError
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.nginx_hook import (
    CALL_SECONDS,
    LOOK_BEHIND_SECONDS,
    LOOK_SECONDS,
    RELOAD_SECONDS,
    Site,
    Step,
    files_of,
    find_sites,
    no_step,
    place_file,
    read_file,
    test_apart,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.temporary_states import (
    RESUME,
    TemporaryStates,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._maintenance import (
    FILE_STEM,
    MARKER_HEADER,
    PROBE_HEADER,
    PROBE_VALUE,
    MaintenanceError,
    NoPageError,
    Page,
    describe_fragment,
    fragment,
    is_past,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._nginx_hook import (
    HookError,
    NoHookError,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._utc import parse_utc

STATE = "maintenance_page"
UNDO = "ansible-playbook pynomaly.ops.maintenance -e maintenance=off"

_SHOW = {PROBE_HEADER: PROBE_VALUE}


@dataclass(frozen=True)
class _Site(Site):
    """A running nginx, and the page that it shows."""

    def markers(self, seconds: float) -> set[str]:
        """Whose page is shown, seen on each port; an empty text stands for no page."""
        found = set()
        for front, address in self.fronts:
            marker = ""
            # A request that is not answered at once, or at all, has not met the page.
            with contextlib.suppress(HttpError):
                answer = self.ask(front, address, "/", seconds, _SHOW)
                if answer.status == 503 and "retry-after" in answer.headers:
                    marker = answer.headers.get(MARKER_HEADER.lower(), "")
            found.add(marker)
        return found

    def health(self, path: str) -> tuple[Optional[int], bool]:
        """The best status of the health endpoint, C{None} for no answer, and whether any of its
        answers was the page."""
        statuses, covered = [], False
        for front, address in self.fronts:
            with contextlib.suppress(HttpError):
                answer = self.ask(front, address, path, LOOK_SECONDS)
                statuses.append(answer.status)
                covered = covered or MARKER_HEADER.lower() in answer.headers
        return (min(statuses) if statuses else None), covered


@dataclass
class PreparedPage:
    """A page that nginx would show. What takes its time has been done: L{show} is quick."""

    engine: EngineControl
    project: str
    page: Page
    text: str
    facts: Mapping[str, Any]
    sites: Sequence[_Site]
    health_path: str
    remarks: list[str] = field(default_factory=list)

    @property
    def files(self) -> list[Path]:
        return files_of(self.sites)

    def is_shown(self) -> bool:
        """Whether exactly this page is on disk, and every port shows it."""
        if any(read_file(file) != self.text for file in self.files):
            return False
        return self._seen()

    def _seen(self) -> bool:
        return all(site.markers(LOOK_SECONDS) == {self.facts["marker"]} for site in self.sites)

    def show(
        self, states: Optional[TemporaryStates] = None, step: Step = no_step
    ) -> dict[str, Any]:
        """Show it, proved; what the module returns.

        Raises L{MaintenanceError} with what was there before in its place, C{OperationError} and
        C{StoreError} with nothing changed.
        """
        started = time.monotonic()
        changed = not self.is_shown()
        health_status: Optional[int] = None
        if changed:
            before = {file: read_file(file) for file in self.files}
            opened = _left(states)
            step("journal")
            self._open(states)
            try:
                health_status = self._put_and_prove(step)
            except (NginxError, EngineError, OSError, MaintenanceError) as error:
                self._take_back(before, opened, states, error)
        else:
            self._open(states)
            health_status = self.sites[0].health(self.health_path)[0]
        return {
            "changed": changed,
            "shown": True,
            **self.facts,
            "files": [str(file) for file in self.files],
            "health_status": health_status,
            "remarks": self.remarks,
            "duration_ms": round((time.monotonic() - started) * 1000, 1),
        }

    def _open(self, states: Optional[TemporaryStates]) -> None:
        if states is not None:
            states.open(
                STATE,
                f"maintenance page until {self.facts['until']}",
                {
                    "until": self.facts["until"],
                    "marker": self.facts["marker"],
                    "files": [str(file) for file in self.files],
                },
                UNDO if states.operation == "maintenance" else RESUME,
            )

    def _put_and_prove(self, step: Step) -> Optional[int]:
        step("write")
        for file in self.files:
            write_atomically(file, self.text, 0o644)
        step("test")
        for site in self.sites:
            nginx_control.test_configuration(self.engine, site.container, CALL_SECONDS)
        step("reload")
        for site in self.sites:
            nginx_control.reload(self.engine, site.container, RELOAD_SECONDS, self._shows(site))
        step("prove")
        if self.health_path not in self.page.exempt_paths:
            return None
        status, covered = self.sites[0].health(self.health_path)
        if covered:
            raise MaintenanceError(f"{self.health_path} answers with the page, expected it exempt")
        if status is None:
            self.remarks.append(f"{self.health_path} does not answer, with or without the page")
        return status

    def _shows(self, site: _Site) -> Callable[[], bool]:
        return lambda: site.markers(LOOK_SECONDS) == {self.facts["marker"]}

    def _shows_no_more(self, site: _Site) -> Callable[[], bool]:
        return lambda: self.facts["marker"] not in site.markers(LOOK_BEHIND_SECONDS)

    def _take_back(
        self,
        before: Mapping[Path, Optional[str]],
        opened: Optional[Mapping[str, Any]],
        states: Optional[TemporaryStates],
        error: Exception,
    ) -> None:
        """What was there before, served and in the journal; then the error."""
        hint = str(getattr(error, "hint", ""))
        try:
            for file, text in before.items():
                place_file(file, text)
            for site in self.sites:
                nginx_control.reload(
                    self.engine, site.container, RELOAD_SECONDS, self._shows_no_more(site)
                )
        except (NginxError, EngineError, OSError) as second:
            raise MaintenanceError(
                f"the maintenance page could not be shown ({error}), and it is not certain that "
                f"the configuration before is served: {second}",
                RESUME,
            ) from error
        if states is not None and opened is not None:
            states.open(STATE, opened["summary"], opened["details"], opened["undo"])
        elif states is not None:
            states.close(STATE, "not shown, the configuration before is in place")
        raise MaintenanceError(
            f"the maintenance page was taken back, the configuration before is served: {error}",
            hint,
        ) from error


def prepare(
    engine: EngineControl,
    stack: Stack,
    page: Page,
    *,
    health_path: str = "/health",
    dry_run: bool = False,
    tolerance_seconds: float = 0.0,
) -> PreparedPage:
    """Look where nginx can be told of the page, and let its own binary test the text apart from
    the configuration that is in use. Not tested with ``dry_run``. The end of a page that is there
    stays where it differs by no more than the tolerance.

    Raises L{NoPageError} for a stack that cannot show one, L{MaintenanceError} for a page or a
    configuration that is not right, and C{EngineError}.
    """
    text = fragment(page)
    facts = describe_fragment(text)
    if facts is None:
        raise MaintenanceError("the page's text does not describe itself, expected its facts")
    sites = _sites(engine, stack)
    standing = _standing_end(sites)
    if standing and abs((standing - page.until).total_seconds()) <= tolerance_seconds:
        page = replace(page, until=standing)
        text = fragment(page)
        facts = describe_fragment(text) or facts
    if not dry_run:
        for container in {site.container.image_id: site.container for site in sites}.values():
            refusal = test_apart(engine, stack.project, container, text)
            if refusal:
                raise MaintenanceError(
                    f"nginx refuses the page's text, nothing was changed: {refusal}"
                )
    prepared = PreparedPage(engine, stack.project, page, text, facts, sites, health_path)
    for port in sorted({port for site in sites for port in site.hook.without}):
        prepared.remarks.append(
            f"port {port} is published and its server block does not read "
            f"{sites[0].hook.path}: it shows no page"
        )
    for port in sorted({port for site in sites for port in site.hook.late}):
        prepared.remarks.append(
            f"port {port}: its server block rewrites requests before it reads "
            f"{sites[0].hook.path}, and those get past the page; expected the include in front"
        )
    return prepared


def page_on(
    engine: EngineControl,
    stack: Stack,
    page: Page,
    states: Optional[TemporaryStates] = None,
    *,
    health_path: str = "/health",
    dry_run: bool = False,
    tolerance_seconds: float = 0.0,
    step: Step = no_step,
) -> dict[str, Any]:
    """L{prepare} a page and L{show<PreparedPage.show>} it; what the module returns."""
    prepared = prepare(
        engine,
        stack,
        page,
        health_path=health_path,
        dry_run=dry_run,
        tolerance_seconds=tolerance_seconds,
    )
    if dry_run:
        return {
            "changed": not prepared.is_shown(),
            "shown": prepared.is_shown(),
            **prepared.facts,
            "files": [str(file) for file in prepared.files],
            "health_status": None,
            "remarks": prepared.remarks,
            "duration_ms": 0.0,
        }
    return prepared.show(states, step)


def page_off(
    engine: Engine,
    stack: Stack,
    states: Optional[TemporaryStates] = None,
    *,
    dry_run: bool = False,
    step: Step = no_step,
) -> dict[str, Any]:
    """Take the page away, proved; what the module returns. Nothing to take away is no error.

    Files that the journal names are removed also where nginx does not run. Raises
    L{MaintenanceError} where nginx still shows the page, C{EngineError}, and what
    L{TemporaryStates} raises.
    """
    started = time.monotonic()
    opened = _left(states)
    noted = [Path(one) for one in ((opened or {}).get("details") or {}).get("files") or ()]
    sites, removed = _sites_for_removal(engine, stack, noted, dry_run)
    files = _of_ours([*files_of(sites), *noted])
    shown = any(any(site.markers(LOOK_BEHIND_SECONDS)) for site in sites)
    changed = bool(removed or files) or shown
    if changed and not dry_run:
        try:
            step("remove")
            for file in files:
                place_file(file, None)
            step("reload")
            for site in sites:
                nginx_control.reload(engine, site.container, RELOAD_SECONDS, _shows_none(site))
        except (NginxError, OSError) as error:
            raise MaintenanceError(
                f"the maintenance page is still shown, its file is gone: {error}",
                str(getattr(error, "hint", "")),
            ) from error
    if states is not None and opened is not None and not dry_run:
        step("close")
        states.close(STATE, "taken away")
    return {
        "changed": changed,
        "shown": shown and dry_run,
        "files": [str(file) for file in [*removed, *files]],
        "remarks": [],
        "duration_ms": round((time.monotonic() - started) * 1000, 1),
    }


def page_status(engine: Engine, stack: Stack, now: datetime.datetime) -> dict[str, Any]:
    """Whether a page is shown, as nginx's ports tell it, and what its file says; changes nothing.

    Raises L{MaintenanceError} and C{EngineError}.
    """
    sites = _sites(engine, stack)
    markers = set().union(*(site.markers(LOOK_BEHIND_SECONDS) for site in sites))
    texts = [read_file(file) for file in files_of(sites)]
    facts = next((found for text in texts if (found := describe_fragment(text or ""))), None)
    remarks = []
    if "" in markers and len(markers) > 1:
        remarks.append("only some of nginx's ports show the page")
    if facts is not None and markers == {""} and not is_past(facts, now):
        remarks.append("the page's file is there, and nginx has not read it: reload it or resume")
    if facts is None and any(markers):
        remarks.append("the page's file is gone, and nginx has not noticed: resume")
    return {
        "changed": False,
        "shown": any(markers),
        **({**facts, "expired": is_past(facts, now)} if facts is not None else {}),
        "files": [str(file) for file in files_of(sites) if file.exists()],
        "remarks": remarks,
    }


# Inside


def _left(states: Optional[TemporaryStates]) -> Optional[dict[str, Any]]:
    if states is None:
        return None
    return next((one for one in states.left() if one["temporary_state"] == STATE), None)


def _sites(engine: Engine, stack: Stack) -> list[_Site]:
    running = stack.running("nginx")
    if not running:
        raise NoPageError(*_no_nginx(stack))
    try:
        found = find_sites(engine, running, FILE_STEM)
    except NoHookError as error:
        stop = f"`docker compose -p {stack.project} stop {stack.service_of('api')}`"
        hint = f"{error.hint}; until then, {stop} keeps clients out, with 502 from nginx"
        raise NoPageError(str(error), hint) from error
    except HookError as error:
        raise MaintenanceError(str(error), error.hint) from error
    return [_Site(site.container, site.hook, site.fronts) for site in found]


def _standing_end(sites: Sequence[Site]) -> Optional[datetime.datetime]:
    """When the page ends that is on disk."""
    for file in files_of(sites):
        facts = describe_fragment(read_file(file) or "")
        if facts is not None:
            return parse_utc(facts["until"])
    return None


def _of_ours(files: Sequence[Path]) -> list[Path]:
    return [
        file
        for file in dict.fromkeys(files)
        if describe_fragment(read_file(file) or "") is not None
    ]


def _sites_for_removal(
    engine: Engine, stack: Stack, noted: Sequence[Path], dry_run: bool
) -> tuple[Sequence[_Site], Sequence[Path]]:
    """The running nginx, and what had to go first: what a killed run wrote and did not test may be
    why the configuration is broken."""
    try:
        return _sites(engine, stack), ()
    except NoPageError:
        return (), ()
    except MaintenanceError:
        ours = _of_ours(noted)
        if dry_run or not ours:
            raise
        for file in ours:
            place_file(file, None)
        return _sites(engine, stack), ours


def _no_nginx(stack: Stack) -> tuple[str, str]:
    api = stack.service_of("api")
    stop = f"docker compose -p {stack.project} stop {api}"
    there = stack.component("nginx")
    if not stack.containers:
        return (
            f"project {stack.project} has no containers on this host, expected it running",
            "docker compose ls --all shows the projects of this host",
        )
    if there:
        return (
            f"{there[0].name} is {there[0].state}: nobody gets through it, and it can show no page",
            f"docker compose -p {stack.project} up -d {stack.service_of('nginx')}",
        )
    return (
        f"project {stack.project} has no nginx that could show a page, clients talk to {api}",
        f"to keep clients out without a page: {stop}; or, where its service has another name: "
        '-e \'{"pynomaly_service_names": {"nginx": "SERVICE"}}\'',
    )


def _shows_none(site: _Site) -> Callable[[], bool]:
    return lambda: site.markers(LOOK_BEHIND_SECONDS) == {""}
