# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Incidents as folders of the state directory, C{incidents/ID}, readable by root alone.

C{incident.json} is replaced whole, C{timeline.jsonl} only ever grows, C{evidence/} has a folder for
each time that evidence was gathered. A folder without C{incident.json} is one whose maker was
killed, and no incident. Written under the host's lock.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._edges.files import (
    append_line,
    ensure_directory,
    sync_directory,
    write_atomically,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._incident import (
    Bundle,
    Incident,
    IncidentError,
    check_identifier,
    decode_incident,
    decode_timeline,
    encode_entry,
    encode_incident,
)

FOLDER_NAME = "incidents"
INCIDENT_NAME = "incident.json"
TIMELINE_NAME = "timeline.jsonl"
EVIDENCE_NAME = "evidence"
SUMS_NAME = "SHA256SUMS"

_MODE = 0o700


class IncidentStore:
    """The incidents below C{state_dir}. Its methods raise L{IncidentError} for what the filesystem
    refuses, too."""

    def __init__(self, state_dir: str) -> None:
        self.directory = Path(state_dir) / FOLDER_NAME

    def folder(self, identifier: str) -> Path:
        return self.directory / check_identifier(identifier)

    def read_all(self) -> tuple[list[Incident], list[str]]:
        """All incidents, the oldest first, and what is wrong with those that cannot be read."""
        found: list[Incident] = []
        problems: list[str] = []
        with self._errors("the incidents could not be read"):
            for path in sorted(self.directory.glob(f"[!.]*/{INCIDENT_NAME}")):
                try:
                    found.append(decode_incident(path.read_bytes()))
                except ValueError as error:
                    problems.append(f"{path} is no incident: {error}")
        return sorted(found, key=lambda one: (one.opened_at, one.identifier)), problems

    def write(self, incident: Incident) -> None:
        """The incident, with its folder where it has none."""
        folder = self.folder(incident.identifier)
        with self._errors("the incident could not be written"):
            for directory in (self.directory, folder):
                ensure_directory(directory, _MODE)
                directory.chmod(_MODE)
            write_atomically(folder / INCIDENT_NAME, encode_incident(incident), 0o600)
            sync_directory(self.directory)

    def append(self, identifier: str, entry: dict[str, str]) -> None:
        """Add an entry to the timeline, whole, and so that it outlives a power cut."""
        path = self.folder(identifier) / TIMELINE_NAME
        with self._errors("the timeline could not be written"):
            append_line(path, encode_entry(entry))

    def timeline(self, identifier: str) -> tuple[list[dict[str, str]], list[int]]:
        """Its entries, and the numbers of the lines that are none."""
        with self._errors("the timeline could not be read"):
            try:
                with (self.folder(identifier) / TIMELINE_NAME).open("rb") as file:
                    return decode_timeline(file)
            except FileNotFoundError:
                return [], []

    def bundles(self, identifier: str) -> list[Bundle]:
        """The evidence that is whole, the oldest first; a name with a dot is one in the making."""
        with self._errors("the evidence could not be looked at"):
            folders = (self.folder(identifier) / EVIDENCE_NAME).glob("[!.]*/")
            return [_bundle(path) for path in sorted(folders)]

    @contextlib.contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or str(error)
            raise IncidentError(
                f"{what} in {self.directory}: seen: {reason}; expected: a folder that root can "
                "write, with free space",
                f"df -h {self.directory.parent}; ls -la {self.directory.parent}",
            ) from error


def _bundle(folder: Path) -> Bundle:
    """Only what is a file of its own counts; a link leads to nothing that was gathered."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return Bundle(
        path=str(folder),
        files=len(files),
        size_bytes=sum(path.stat().st_size for path in files),
        digest=_digest(folder / SUMS_NAME) or "",
    )


def _digest(path: Path) -> Optional[str]:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        return None
