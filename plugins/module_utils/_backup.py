# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Backups as data: their names, their manifests, what was found out about them, which one is meant.

A backup is a folder C{<backup_dir>/<kind>/<id>} that holds C{manifest.json}, C{manifest.sha256} and
the files that the manifest lists. It gets its name once it is whole. C{verification.json} beside
the manifest tells when it was last proved, and how. All times are UTC.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._utc import parse_utc, utc_text

FORMAT = 1

DATABASE = "database"
CONFIG = "config"
MODELS = "models"
REDIS = "redis"
#: The runbook's folders below the backup directory.
KINDS = (DATABASE, CONFIG, MODELS, REDIS)

MANIFEST = "manifest.json"
MANIFEST_DIGEST = "manifest.sha256"
VERIFICATION = "verification.json"
#: A folder with this prefix is being written, or was when its writer died.
STAGING_PREFIX = ".staging-"

#: How a backup was proved: its checksums alone, or by restoring it.
QUICK = "quick"
FULL = "full"

LATEST = "latest"
LATEST_VERIFIED = "latest_verified"
BEFORE = "before="

_ID = re.compile(r"[a-z0-9][a-z0-9_-]*-[0-9]{8}T[0-9]{6}Z\Z")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


class BackupError(Exception):
    """A backup cannot be made, read or chosen. The text says what, seen, expected; ``hint`` is
    what to run next. Neither holds a secret."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True)
class BackupFile:
    """``path`` is relative to the backup's folder, with C{/}."""

    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a backup says of itself.

    ``content`` is the kind's own: for a database what was measured in the dump's snapshot.
    ``encryption`` is empty, or C{{method, recipients}}. ``stored_bytes`` is the size of all backups
    of the kind that were there once this one was, itself among them: how it grows tells when the
    disk will be full, whatever has been removed since.
    """

    id: str
    kind: str
    project: str
    created_at: str
    duration_seconds: float
    files: Sequence[BackupFile]
    content: Mapping[str, Any] = field(default_factory=dict)
    encryption: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    stored_bytes: int = 0
    format: int = FORMAT

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)


@dataclass(frozen=True)
class Verification:
    """The last proof. ``method`` is quick or full; ``problems`` is empty where it held."""

    verified_at: str
    method: str
    ok: bool
    problems: Sequence[str] = ()
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Backup:
    """One folder. Where its manifest cannot be used, ``manifest`` is C{None} and ``problem`` says
    why. ``full`` is the last full verification, ``quick`` the last of checksums alone."""

    kind: str
    id: str
    path: str
    manifest: Optional[Manifest] = None
    problem: str = ""
    full: Optional[Verification] = None
    quick: Optional[Verification] = None

    @property
    def is_whole(self) -> bool:
        return self.manifest is not None

    @property
    def is_verified(self) -> bool:
        """Restored once and found equal, and not found damaged since."""
        if self.full is None or not self.full.ok or not self.is_whole:
            return False
        return self.quick is None or self.quick.ok or self.quick.verified_at < self.full.verified_at

    @property
    def is_refuted(self) -> bool:
        """Found damaged by the latest look at it."""
        return self.last_look is not None and not self.last_look.ok

    @property
    def last_look(self) -> Optional[Verification]:
        """The latest verification, of whichever method."""
        looks = [look for look in (self.full, self.quick) if look is not None]
        return max(looks, key=lambda look: look.verified_at, default=None)

    @property
    def damage(self) -> str:
        """What is wrong with it; empty where nothing is known to be."""
        if not self.is_whole:
            return self.problem or f"{MANIFEST} is missing"
        look = self.last_look
        if look is None or look.ok:
            return ""
        return look.problems[0] if look.problems else f"found damaged at {look.verified_at}"


def new_id(project: str, now: datetime.datetime) -> str:
    """C{pynomaly-20261124T100102Z}. All kinds that one run makes share it."""
    return f"{project}-{now.astimezone(datetime.timezone.utc):%Y%m%dT%H%M%SZ}"


def is_id(text: str) -> bool:
    """Whether it is a name as L{new_id} makes them, of a moment that there is."""
    if not _ID.match(text):
        return False
    try:
        id_time(text)
    except ValueError:
        return False
    return True


def id_time(identifier: str) -> datetime.datetime:
    """The moment in a backup's id; raises C{ValueError} for what is no id."""
    moment = datetime.datetime.strptime(identifier.rpartition("-")[2], "%Y%m%dT%H%M%SZ")
    return moment.replace(tzinfo=datetime.timezone.utc)


def encode_manifest(manifest: Manifest) -> bytes:
    raw = {
        "format": manifest.format,
        "id": manifest.id,
        "kind": manifest.kind,
        "project": manifest.project,
        "created_at": manifest.created_at,
        "duration_seconds": round(manifest.duration_seconds, 3),
        "size_bytes": manifest.size_bytes,
        "stored_bytes": manifest.stored_bytes,
        "versions": dict(manifest.versions),
        "encryption": dict(manifest.encryption),
        "content": dict(manifest.content),
        "files": [
            {"path": one.path, "size_bytes": one.size_bytes, "sha256": one.sha256}
            for one in sorted(manifest.files, key=lambda one: one.path)
        ],
    }
    return (json.dumps(raw, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def decode_manifest(data: bytes) -> Manifest:
    """Raises L{BackupError} for what is no manifest, naming the field."""
    try:
        raw = json.loads(data.decode())
    except ValueError as error:
        raise BackupError(f"{MANIFEST} is not JSON: {error}") from error
    try:
        if raw["format"] != FORMAT:
            raise BackupError(f"{MANIFEST} has format {raw['format']!r}, expected {FORMAT}")
        parse_utc(raw["created_at"])
        manifest = Manifest(
            id=_text(raw, "id"),
            kind=_text(raw, "kind"),
            project=_text(raw, "project"),
            created_at=_text(raw, "created_at"),
            duration_seconds=float(raw["duration_seconds"]),
            files=tuple(_file(one) for one in raw["files"]),
            content=_mapping(raw, "content"),
            encryption=_mapping(raw, "encryption"),
            versions=_mapping(raw, "versions"),
            stored_bytes=int(raw.get("stored_bytes") or 0),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise BackupError(f"{MANIFEST} cannot be used: {type(error).__name__}: {error}") from error
    if manifest.kind not in KINDS:
        raise BackupError(f"{MANIFEST} has kind {manifest.kind!r}, expected one of {KINDS}")
    if not manifest.files:
        raise BackupError(f"{MANIFEST} lists no files, expected at least one")
    return manifest


def _text(raw: Mapping[str, Any], name: str) -> str:
    if not isinstance(raw[name], str) or not raw[name]:
        raise TypeError(f"{name} is {raw[name]!r}, expected a text")
    return str(raw[name])


def _mapping(raw: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    if not isinstance(raw[name], dict):
        raise TypeError(f"{name} is {raw[name]!r}, expected a mapping")
    return dict(raw[name])


def _file(raw: Mapping[str, Any]) -> BackupFile:
    path = _text(raw, "path")
    if path.startswith("/") or ".." in path.split("/"):
        raise ValueError(f"files: {path!r} leads out of the backup")
    if not _SHA256.match(_text(raw, "sha256")):
        raise ValueError(f"files: {path!r} has no SHA-256")
    size = raw["size_bytes"]
    if not isinstance(size, int) or size < 0:
        raise ValueError(f"files: {path!r} has size {size!r}")
    return BackupFile(path, size, raw["sha256"])


def encode_verifications(full: Optional[Verification], quick: Optional[Verification]) -> bytes:
    raw = {
        method: {
            "verified_at": one.verified_at,
            "ok": one.ok,
            "problems": list(one.problems),
            "details": dict(one.details),
        }
        for method, one in ((FULL, full), (QUICK, quick))
        if one is not None
    }
    return (json.dumps(raw, indent=1, sort_keys=True) + "\n").encode()


def decode_verifications(data: bytes) -> tuple[Optional[Verification], Optional[Verification]]:
    """The last full and the last quick one. What cannot be read proves nothing: both C{None}."""
    found: dict[str, Verification] = {}
    try:
        for method, one in json.loads(data.decode()).items():
            parse_utc(one["verified_at"])
            found[method] = Verification(
                verified_at=str(one["verified_at"]),
                method=method,
                ok=one["ok"] is True,
                problems=tuple(str(text) for text in one["problems"]),
                details=dict(one["details"]),
            )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None, None
    return found.get(FULL), found.get(QUICK)


def new_verification(
    now: datetime.datetime,
    method: str,
    problems: Sequence[str],
    details: Optional[Mapping[str, Any]] = None,
) -> Verification:
    return Verification(utc_text(now), method, not problems, tuple(problems), dict(details or {}))


# Which one is meant


def newest_first(backups: Iterable[Backup]) -> list[Backup]:
    return sorted(backups, key=lambda one: one.id.rpartition("-")[2], reverse=True)


def select(
    backups: Iterable[Backup], wanted: str, kind: str = DATABASE, *, again: bool = False
) -> Backup:
    """The backup of a kind that ``wanted`` names: an id, C{latest}, C{latest_verified}, or
    C{before=TIME} (the newest whole one made before it).

    One that is damaged is never chosen, but by its id, and then refused with what is wrong. To look
    ``again``, one that was found damaged is taken by its id. Raises L{BackupError}.
    """
    candidates = newest_first(one for one in backups if one.kind == kind)
    usable = [one for one in candidates if one.is_whole and not one.is_refuted]
    list_them = "ansible-playbook pynomaly.ops.backup_list"
    if is_id(wanted):
        return _by_id(candidates, wanted, list_them, again=again)
    what = wanted
    if wanted == LATEST_VERIFIED:
        usable = [one for one in usable if one.is_verified]
        list_them = "ansible-playbook pynomaly.ops.backup_verify proves the newest backup"
    elif wanted.startswith(BEFORE):
        try:
            moment = parse_utc(wanted[len(BEFORE) :])
        except ValueError as error:
            raise BackupError(
                f"backup: seen {wanted!r}, expected {BEFORE}TIME with an ISO 8601 time (UTC), "
                f"such as {BEFORE}2026-11-24T03:00:00Z"
            ) from error
        usable = [one for one in usable if id_time(one.id) < moment]
        what = f"one from before {utc_text(moment)}"
    elif wanted != LATEST:
        raise BackupError(
            f"backup: seen {wanted!r}, expected an id, {LATEST}, {LATEST_VERIFIED} or {BEFORE}TIME",
            list_them,
        )
    if not usable:
        seen = f"{len(candidates)} {kind} backup{'s' if len(candidates) != 1 else ''}"
        raise BackupError(f"no backup to take: seen {seen}, expected {what}", list_them)
    return usable[0]


def _by_id(candidates: Sequence[Backup], wanted: str, list_them: str, *, again: bool) -> Backup:
    for one in candidates:
        if one.id != wanted:
            continue
        if not one.is_whole:
            raise BackupError(f"backup {wanted} is damaged: {one.problem}", list_them)
        look = one.last_look
        if look is not None and not look.ok and not again:
            raise BackupError(
                f"backup {wanted} was found damaged at {look.verified_at}: {one.damage}", list_them
            )
        return one
    raise BackupError(f"there is no backup {wanted}", list_them)
