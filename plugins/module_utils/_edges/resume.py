# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What operations have left on a host, finished or undone: the journal's open temporary states,
each by its name, and what dead runs have left beside them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._backup import (
    STAGING_PREFIX,
    BackupError,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._blocklist import BlocklistError
from ansible_collections.pynomaly.ops.plugins.module_utils._context import CheckSettings, Stack
from ansible_collections.pynomaly.ops.plugins.module_utils._credential_rotation import (
    RotationError,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges import (
    blocklist,
    config_restore,
    credential_rotation,
    database_administration,
    isolation,
    maintenance,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.backup_staging import (
    STAGING_STATE,
    remove_leftovers,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.backup_store import BackupStore
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.blocklist_stack import look
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.compose import discover
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.engine_control import (
    EngineControl,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.helper_container import (
    left_helpers,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.operation_store import (
    OperationStore,
    utc_now,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.postgres_server import (
    PostgresError,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.postgres_tools import (
    remove_left_secrets,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.temporary_states import (
    TemporaryStates,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._isolation import ISOLATION_STATE
from ansible_collections.pynomaly.ops.plugins.module_utils._maintenance import MaintenanceError
from ansible_collections.pynomaly.ops.plugins.module_utils._operation import (
    RunIdentity,
    open_temporary_states,
    summarize_operations,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._report_text import plural
from ansible_collections.pynomaly.ops.plugins.module_utils._resume import (
    CLOSED,
    FAILED,
    KEPT,
    UNDONE,
    Resumed,
    end_of,
    failure_text,
    is_standing,
    resume_lines,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._scheduler import CollectorError

Record = Mapping[str, Any]

#: What undoing a state may raise; each has a ``hint``, or says in its text what to run.
_ERRORS = (
    BlocklistError,
    MaintenanceError,
    PostgresError,
    BackupError,
    CollectorError,
    OSError,
    RotationError,
)


@dataclass(frozen=True)
class ResumeSettings:
    """``project`` may be empty for every project that has something open on the host."""

    project: str
    backup_dir: str
    service_names: Mapping[str, str] = field(default_factory=dict)
    postgres_user: str = ""
    postgres_password: str = field(default="", repr=False)
    call_timeout_seconds: float = 10.0
    up_timeout_seconds: float = 600.0

    @property
    def check_settings(self) -> CheckSettings:
        return CheckSettings(
            call_timeout_seconds=self.call_timeout_seconds,
            postgres_user=self.postgres_user or None,
            postgres_password=self.postgres_password or None,
        )


@dataclass
class _Work:
    """One project's. ``stack`` looks for it once it is needed."""

    settings: ResumeSettings
    engine: EngineControl
    states: TemporaryStates
    dry_run: bool
    found: Optional[Stack] = None

    @property
    def stack(self) -> Stack:
        if self.found is None:
            self.found = discover(
                self.engine,
                self.states.project,
                self.settings.check_settings,
                self.settings.service_names,
            )
        return self.found


def run(
    settings: ResumeSettings,
    engine: EngineControl,
    store: OperationStore,
    identity: RunIdentity,
    *,
    operation: str = "resume",
    dry_run: bool = False,
) -> dict[str, Any]:
    """Undo what was left, the newest first; what the module returns. Under the host's lock.

    One state that cannot be undone does not keep the others from it: C{failed} then says why the
    whole has failed, and is empty otherwise. Raises C{EngineError}, C{OperationError} and
    C{StoreError}.
    """
    lock, journal = store.read()
    operations = summarize_operations(journal.records, lock)
    left = list(reversed(open_temporary_states(journal.records)))
    projects = [settings.project] if settings.project else []
    projects += [] if settings.project else sorted({str(record["project"]) for record in left})
    resumed: list[Resumed] = []
    removed: list[str] = []
    for project in projects:
        states = TemporaryStates(store, identity, operation, project)
        work = _Work(settings, engine, states, dry_run)
        for record in left:
            if record["project"] != project or record["temporary_state"] == STAGING_STATE:
                continue
            standing = is_standing(record, operations, utc_now())
            if record["temporary_state"] == blocklist.STATE:
                resumed.append(_blocked_addresses(work, record, standing))
            elif standing:
                resumed.append(_kept(record))
            else:
                resumed.append(_undo(work, record))
        if (project, blocklist.STATE) not in [(one.project, one.state) for one in resumed]:
            resumed += _blocked_by_nginx_alone(work)
        try:
            removed += _leftovers(work, [one for one in left if _is_staging(one, project)])
        except BackupError as error:
            resumed.append(Resumed(project, STAGING_STATE, FAILED, f"{error}; next: {error.hint}"))
    return {
        "changed": any(one.outcome in (UNDONE, CLOSED) for one in resumed) or bool(removed),
        "failed": failure_text(resumed),
        "states": [vars(one) for one in resumed],
        "removed": removed,
        "lines": resume_lines(resumed, removed, check_mode=dry_run),
    }


def _is_staging(record: Record, project: str) -> bool:
    return (record["temporary_state"], record["project"]) == (STAGING_STATE, project)


def _kept(record: Record) -> Resumed:
    end = end_of(record)
    text = str(record["undo"])
    if end is not None:
        text = f"{end:%Y-%m-%d %H:%M:%S} UTC; sooner: {text}"
    return Resumed(
        str(record["project"]),
        str(record["temporary_state"]),
        KEPT,
        f"it is meant to be there until {text}",
    )


def _undo(work: _Work, record: Record) -> Resumed:
    project, name = str(record["project"]), str(record["temporary_state"])
    handler = _HANDLERS.get(name)
    if handler is None:
        text = f"nothing here knows how to undo it; next: {record['undo']}"
        return Resumed(project, name, FAILED, text)
    if work.dry_run:
        return Resumed(project, name, UNDONE, f"would be ({record['summary']})")
    try:
        changed, text = handler(work, record.get("details") or {})
        work.states.close(name, text)
    except _ERRORS as error:
        hint = str(getattr(error, "hint", ""))
        return Resumed(project, name, FAILED, f"{error}; next: {hint}" if hint else str(error))
    except KeyError as error:
        text = f"the journal does not say its {error}; next: {record['undo']}"
        return Resumed(project, name, FAILED, text)
    return Resumed(project, name, UNDONE if changed else CLOSED, text)


def _blocked_addresses(work: _Work, record: Record, standing: bool) -> Resumed:
    """What is on disk is wanted, whoever died: the kernel is brought to it, and what is blocked
    until later stays open in the journal, from now on in the name of this run."""
    project, name = str(record["project"]), blocklist.STATE
    store = blocklist.BlocklistStore(str(work.states.store.directory))
    blocks = blocklist.Blocklist(store, work.states, work.states.identity, dry_run=work.dry_run)
    try:
        answer = blocks.reconcile()
        by_nginx = _in_nginx(work, store)
        if not work.dry_run and not standing:
            blocks.note()
        if not work.dry_run and not answer["blocked"]:
            work.states.close(name, "none is blocked any more")
    except _ERRORS as error:
        hint = str(getattr(error, "hint", ""))
        return Resumed(project, name, FAILED, f"{error}; next: {hint}" if hint else str(error))
    if not answer["blocked"]:
        return Resumed(project, name, CLOSED, "no address is blocked any more")
    count = plural(len(answer["blocked"]), "network")
    text = f"{count} blocked, as is wanted; sooner: {record['undo']}"
    changed = answer["changed"] or by_nginx["changed"]
    return Resumed(project, name, UNDONE if changed else KEPT, text)


def _in_nginx(work: _Work, store: blocklist.BlocklistStore) -> Mapping[str, Any]:
    """The same inside nginx, whichever way it was cut off there. Raises L{BlocklistError}."""
    side = look(
        work.states.project, work.settings.service_names, work.settings.call_timeout_seconds
    )
    return side.apply(store.read().blocks, utc_now(), dry_run=work.dry_run)


def _blocked_by_nginx_alone(work: _Work) -> list[Resumed]:
    """A run that released the last block may have died before it told nginx; the journal has
    nothing of it any more."""
    store = blocklist.BlocklistStore(str(work.states.store.directory))
    try:
        changed = _in_nginx(work, store)["changed"]
    except BlocklistError:
        return []  # nothing says that there is anything to be undone
    text = "nginx blocks what is to be blocked, and no more"
    text = f"would be told: {text}" if work.dry_run else text
    return [Resumed(work.states.project, blocklist.STATE, UNDONE, text)] if changed else []


def _maintenance_page(work: _Work, _details: Record) -> tuple[bool, str]:
    answer = maintenance.page_off(work.engine, work.stack, work.states)
    changed = bool(answer["changed"])
    return changed, "the page is taken away" if changed else "no page was there"


def _database_closed(work: _Work, details: Record) -> tuple[bool, str]:
    name = str(details["database"])
    server = database_administration.find_administrator(
        work.stack, work.engine, work.settings.check_settings
    )
    opened = database_administration.reopen_database(server, name)
    return opened, f'database "{name}" is open' + ("" if opened else " already")


def _scratch_database(work: _Work, details: Record) -> tuple[bool, str]:
    server = database_administration.find_administrator(
        work.stack, work.engine, work.settings.check_settings
    )
    dropped = database_administration.drop_scratch(server, details)
    name = details["database"]
    return dropped, f'database "{name}" is dropped' if dropped else f'no "{name}" was there'


def _config_restore(work: _Work, details: Record) -> tuple[bool, str]:
    folder = Path(str(details["folder"]))
    settings = config_restore.ConfigRestore(
        project=work.states.project,
        backup_dir=work.settings.backup_dir,
        work_dir=str(folder.parent),
        up_timeout_seconds=work.settings.up_timeout_seconds,
        call_timeout_seconds=work.settings.call_timeout_seconds,
    )
    changed = config_restore.put_back(settings, work.engine, folder)
    shutil.rmtree(folder, ignore_errors=True)
    return changed, (
        "the configuration before is back" if changed else "nothing had been replaced yet"
    )


def _container_isolation(work: _Work, details: Record) -> tuple[bool, str]:
    return isolation.undo(work.engine, details)


def _credential_rotation(work: _Work, _details: Record) -> tuple[bool, str]:
    settings = credential_rotation.Rotation(
        project=work.states.project,
        state_dir=str(work.states.store.directory),
        service_names=work.settings.service_names,
        check=work.settings.check_settings,
        up_timeout_seconds=work.settings.up_timeout_seconds,
    )
    return credential_rotation.resume(settings, work.engine, work.states)


_HANDLERS: Mapping[str, Callable[[_Work, Record], tuple[bool, str]]] = {
    maintenance.STATE: _maintenance_page,
    database_administration.CLOSED_STATE: _database_closed,
    database_administration.SCRATCH_STATE: _scratch_database,
    config_restore.STATE: _config_restore,
    credential_rotation.STATE: _credential_rotation,
    ISOLATION_STATE: _container_isolation,
}


def _leftovers(work: _Work, records: list[Record]) -> list[str]:
    """Helper containers, password files, and unfinished backups wherever the journal or the folder
    says."""
    project = work.states.project
    store = BackupStore(work.settings.backup_dir, project)
    noted = [Path(str((record.get("details") or {}).get("path", ""))) for record in records]
    elsewhere = [
        path
        for path in noted
        if path.name.startswith(STAGING_PREFIX) and path.is_dir() and path not in store.stagings()
    ]
    if work.dry_run:
        removed = [f"container {one[:12]}" for one in left_helpers(work.engine, project)]
        return removed + [str(path) for path in [*store.stagings(), *elsewhere]]
    for path in elsewhere:
        store.discard(path)
    removed = [*remove_leftovers(work.engine, store, work.states), *map(str, elsewhere)]
    secrets = remove_left_secrets(project)
    return [*removed, plural(secrets, "password file")] if secrets else removed
