# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an operation leaves for a while, such as a maintenance page: in the journal before it is
done, with how to undo it, so that C{resume} finds it after a power cut."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._edges.operation_store import (
    OperationStore,
    StoreError,
    utc_now,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._operation import (
    TEMPORARY_CLOSED,
    TEMPORARY_OPENED,
    RunIdentity,
    journal_record,
    open_temporary_states,
    summarize_operations,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._probe import Measurement, Target
from ansible_collections.pynomaly.ops.plugins.module_utils._resume import temporary_states
from ansible_collections.pynomaly.ops.plugins.module_utils._scheduler import CollectorError

RESUME = "ansible-playbook pynomaly.ops.resume"


@dataclass(frozen=True)
class TemporaryStates:
    """The temporary states of one project, written for one operation of one run.

    A state is told apart by its name. Raises C{OperationError} and C{StoreError}.
    """

    store: OperationStore
    identity: RunIdentity
    operation: str
    project: str

    def open(
        self,
        name: str,
        summary: str,
        details: Optional[Mapping[str, Any]] = None,
        undo: str = RESUME,
    ) -> None:
        """Write down what is about to be done; ``details`` are all that undoing it needs."""
        self._append(TEMPORARY_OPENED, name, summary, undo, details)

    def close(self, name: str, summary: str = "") -> None:
        """Write down that it has been undone, or has become what it should be."""
        self._append(TEMPORARY_CLOSED, name, summary, "", None)

    @contextlib.contextmanager
    def during(
        self, name: str, summary: str, details: Optional[Mapping[str, Any]] = None
    ) -> Iterator[None]:
        """Open around a block which undoes the state itself, also where it fails.

        Where the block raises, the state stays open: whoever could not undo it leaves that to
        C{resume}.
        """
        self.open(name, summary, details)
        yield
        self.close(name)

    def left(self) -> list[dict[str, Any]]:
        """The project's open states, oldest first, whoever opened them."""
        _lock, journal = self.store.read()
        return [
            record
            for record in open_temporary_states(journal.records)
            if record["project"] == self.project
        ]

    def _append(
        self,
        event: str,
        name: str,
        summary: str,
        undo: str,
        details: Optional[Mapping[str, Any]],
    ) -> None:
        self.store.append(
            journal_record(
                time=utc_now(),
                event=event,
                identity=self.identity,
                operation=self.operation,
                project=self.project,
                summary=summary,
                undo=undo,
                temporary_state=name,
                details=details,
            )
        )


def measure(target: Target, state_dir: str, project: str) -> Measurement:
    """How many of a project's states were left open. Raises L{CollectorError} where the journal
    cannot be read."""
    try:
        lock, journal = OperationStore(state_dir).read()
    except StoreError as error:
        raise CollectorError(str(error)) from error
    left = [
        record for record in open_temporary_states(journal.records) if record["project"] == project
    ]
    operations = summarize_operations(journal.records, lock)
    return temporary_states(target, left, operations, lock, utc_now())
