# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Gathering evidence: many sources side by side, each bounded, none able to stop the others."""

from __future__ import annotations

import contextlib
import datetime
import os
import platform
import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._context import (
    CheckSettings,
    Container,
    Stack,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._credentials import (
    CredentialError,
    application_database_credentials,
    application_redis_credentials,
    postgres_server_credentials,
    redis_server_credentials,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges import processes
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.command import (
    CommandError,
    run_command,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.docker import (
    Engine,
    EngineError,
    side_by_side,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.evidence_bundle import (
    Bundle,
    Files,
    SinkClosedError,
    SinkFullError,
    Step,
    free_bytes,
    redaction_key,
    telling,
    unfinished,
    verify,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.evidence_databases import (
    database_sources,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.evidence_engine import (
    EvidenceEngine,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.evidence_sources import (
    Scene,
    SkipSource,
    Source,
    container_sources,
    engine_sources,
    host_sources,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.operation_store import utc_now
from ansible_collections.pynomaly.ops.plugins.module_utils._environment_file import (
    EnvironmentFileError,
    parse,
    values,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._evidence import (
    CUT,
    FAILED,
    LOG_INDEX,
    SKIPPED,
    WHOLE,
    EvidenceError,
    EvidenceFile,
    Outcome,
    bundle_name,
    check_incident_id,
    index_document,
    lines_of,
    problems_of,
    results_of,
    tables_of,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._operation import (
    RunIdentity,
    parse_since,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._redaction import (
    Redactor,
    Secrets,
    is_secret_name,
    known_secrets,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._report_text import format_bytes
from ansible_collections.pynomaly.ops.plugins.module_utils._scheduler import CollectorError
from ansible_collections.pynomaly.ops.plugins.module_utils._utc import utc_text

#: How many sources are asked at the same time.
_WORKERS = 6
#: What all of it may take before a block, with the sealing.
QUICK_SECONDS = 16.0
_QUICK_SOURCE_SECONDS = 7.0
_QUICK_CALL_SECONDS = 3.0
_SECRET_FILE_BYTES = 64 * 1024
_SECRETS_FOLDER = "/run/secrets"
_NOT_FOUND = 404


@dataclass(frozen=True)
class EvidenceSettings:
    """What is gathered. ``path`` is the folder that bundles are put in, by default the incident's,
    or ``STATE_DIR/evidence`` where there is none. No ``services`` are all of them."""

    project: str
    state_dir: str
    incident: str = ""
    path: str = ""
    since: str = "24h"
    services: Sequence[str] = ()
    quick: bool = False
    reason: str = ""
    max_bytes: int = 256 * 1024 * 1024
    timeout_seconds: float = 300.0
    source_timeout_seconds: float = 60.0
    reserve_bytes: int = 64 * 1024 * 1024
    call_timeout_seconds: float = 10.0
    service_names: Mapping[str, str] = field(default_factory=dict)
    postgres_user: Optional[str] = None
    postgres_password: Optional[str] = field(default=None, repr=False)
    redis_username: Optional[str] = None
    redis_password: Optional[str] = field(default=None, repr=False)

    @property
    def parent(self) -> Path:
        if self.path:
            return Path(self.path)
        if self.incident:
            return Path(self.state_dir) / "incidents" / self.incident / "evidence"
        return Path(self.state_dir) / "evidence"

    @property
    def deadline_seconds(self) -> float:
        return min(QUICK_SECONDS, self.timeout_seconds) if self.quick else self.timeout_seconds

    @property
    def source_seconds(self) -> float:
        return (
            min(_QUICK_SOURCE_SECONDS, self.source_timeout_seconds)
            if self.quick
            else self.source_timeout_seconds
        )

    @property
    def check_settings(self) -> CheckSettings:
        return CheckSettings(
            call_timeout_seconds=self.call_seconds,
            postgres_user=self.postgres_user,
            postgres_password=self.postgres_password,
            redis_username=self.redis_username,
            redis_password=self.redis_password,
        )

    @property
    def call_seconds(self) -> float:
        return (
            min(_QUICK_CALL_SECONDS, self.call_timeout_seconds)
            if self.quick
            else self.call_timeout_seconds
        )

    def validate(self) -> None:
        """Raise L{EvidenceError} for what makes no sense."""
        if self.incident:
            check_incident_id(self.incident)
        if self.path and not Path(self.path).is_absolute():
            raise EvidenceError(f"path: seen {self.path}, expected one that begins with a slash")
        for name in ("max_bytes", "timeout_seconds", "source_timeout_seconds"):
            if getattr(self, name) <= 0:
                raise EvidenceError(f"{name}: seen {getattr(self, name)}, expected more than 0")


def _nothing(_what: str) -> None:
    pass


def gather(
    settings: EvidenceSettings,
    identity: RunIdentity,
    operation: str,
    *,
    step: Step = _nothing,
    dry_run: bool = False,
    more_sources: Sequence[Source] = (),
) -> dict[str, Any]:
    """Gather a bundle of evidence; what the module returns.

    A source that fails or hangs is told in ``problems``, and so is an engine that does not answer.
    Raises L{EvidenceError} where no bundle can be made, and C{OperationError} for a ``since`` that
    is none; then nothing is left that could be taken for one.
    """
    settings.validate()
    began = time.monotonic()
    now = utc_now()
    since = parse_since(settings.since, now)
    deadline = began + settings.deadline_seconds
    remarks = [
        f"{path} is of a run that died before it was whole" for path in unfinished(settings.parent)
    ]
    problems: list[Outcome] = []
    scene, secrets = _look(settings, since, problems)
    unread = "; ".join(secrets.unread)
    sources = [*_sources(settings, scene, since), *more_sources]
    if dry_run:
        return _planned(settings, sources, remarks)
    _check_space(settings)
    redactor = Redactor(redaction_key(settings.state_dir), secrets)
    about = {
        "project": settings.project,
        "incident": settings.incident,
        "operation": operation,
        "reason": redactor.plain(settings.reason),
        "run": asdict(identity),
        "host": platform.node(),
        "began_at": utc_text(now),
        "since": utc_text(since),
        "services": list(settings.services),
        "quick": settings.quick,
        "tools": _tools(scene),
    }
    bundle = Bundle(settings.parent, bundle_name(now, operation), about)
    try:
        step("staged")
        gathering = _Gathering(settings, bundle, redactor, deadline, step)
        outcomes = [
            Outcome(
                "redaction",
                "what must not be written: environments, commands, secret files, .env files",
                CUT if unread else WHOLE,
                unread and f"the files may have secrets in them: {unread}",
            ),
            *problems,
        ]
        for outcome in outcomes:
            bundle.note(outcome)
        outcomes += gathering.run(sources)
        if scene is not None and scene.log_files:
            outcomes.append(_log_index(scene, outcomes, bundle, redactor, settings))
            bundle.note(outcomes[-1])
        step("gathered")
        index = index_document({**about, "ended_at": utc_text(utc_now())}, outcomes, remarks)
        files = [file for one in outcomes for file in one.files]
        head, count, size = bundle.seal(files, index, _redactions(secrets, outcomes), step)
    except BaseException:
        bundle.discard()
        raise
    step("published")
    milliseconds = round((time.monotonic() - began) * 1000.0, 1)
    answer = {
        "changed": True,
        "path": str(bundle.path),
        "files": count,
        "bytes": size,
        "complete": not problems_of(outcomes),
        "problems": problems_of(outcomes),
        "head": head,
        "sources": [one.source for one in outcomes],
        "tables": tables_of(outcomes, scene.found_peers if scene is not None else ()),
        "results": results_of(outcomes, str(bundle.path), head, milliseconds),
        "duration_ms": milliseconds,
        "remarks": remarks,
        "project": settings.project,
    }
    return {**answer, "lines": lines_of(answer)}


def verified(path: str, head: str = "") -> dict[str, Any]:
    """Whether a bundle is as it was sealed; what the module returns. Raises L{EvidenceError} where
    it is not."""
    found, files, problems = verify(Path(path), head)
    if problems:
        more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
        raise EvidenceError(
            f"the evidence in {path} does not hold: {problems[0]}{more}",
            f"cd {path} && sha256sum -c SHA256SUMS",
        )
    return {
        "changed": False,
        "path": path,
        "files": files,
        "complete": True,
        "problems": [],
        "head": found,
        "remarks": [],
        "lines": [f"{path}: {files} files are as they were sealed, by {found}"],
    }


def _planned(
    settings: EvidenceSettings, sources: Sequence[Source], remarks: Sequence[str]
) -> dict[str, Any]:
    answer = {
        "changed": True,
        "path": "",
        "files": 0,
        "bytes": 0,
        "complete": False,
        "problems": [],
        "head": "",
        "sources": [one.name for one in sources],
        "tables": [],
        "results": [],
        "duration_ms": 0.0,
        "remarks": list(remarks),
        "project": settings.project,
    }
    return {**answer, "lines": lines_of(answer)}


def _check_space(settings: EvidenceSettings) -> None:
    with telling("the free space could not be read", settings.parent):
        free = free_bytes(settings.parent)
    if free < settings.reserve_bytes:
        raise EvidenceError(
            f"{settings.parent}: seen {format_bytes(free)} free, expected "
            f"{format_bytes(settings.reserve_bytes)} or more: nothing was gathered",
            f"free some space: df -h {settings.state_dir}; docker system df",
        )


# What is looked at


def _look(
    settings: EvidenceSettings, since: datetime.datetime, problems: list[Outcome]
) -> tuple[Optional[Scene], Secrets]:
    """The project as it stands, and its secrets; no scene where the engine does not answer.

    ``problems`` gets what is missing from the first.
    """
    own = [settings.postgres_password, settings.redis_password]
    try:
        engine = EvidenceEngine(settings.call_seconds)
        stack = engine.project_stack(settings.project, settings.service_names)
    except EngineError as error:
        problems.append(
            Outcome(
                "docker", "the engine", FAILED, f"so there is evidence of the host alone: {error}"
            )
        )
        secrets = Secrets()
        for password in own:
            secrets.add(password, "options")
        return None, secrets
    unknown = sorted(set(settings.services) - set(stack.containers))
    if unknown:
        seen = ", ".join(sorted(stack.containers)) or "none"
        raise EvidenceError(
            f"services: seen {', '.join(unknown)}, expected services of project "
            f"{settings.project} that have containers: {seen}",
            f"docker compose -p {settings.project} ps --all",
        )
    if not stack.containers:
        seen = ", ".join(sorted(engine.projects())) or "none"
        problems.append(
            Outcome(
                "containers",
                "docker ps --all",
                FAILED,
                f"project {settings.project} has no containers; projects seen: {seen}",
            )
        )
    secrets = _secrets(stack, engine, settings.call_seconds)
    for password in own:
        secrets.add(password, "options")
    scene = Scene(engine, stack, settings.services, since.timestamp(), settings.check_settings)
    return scene, secrets


def _sources(
    settings: EvidenceSettings, scene: Optional[Scene], since: datetime.datetime
) -> list[Source]:
    """What is wanted, what vanishes first of all."""
    if scene is None:
        found = host_sources(None, since.timestamp())
    else:
        vanishing, staying = _halves(container_sources(scene))
        host, host_staying = _halves(host_sources(scene, since.timestamp()))
        engine, engine_staying = _halves(engine_sources(scene))
        databases, databases_staying = _halves(database_sources(scene))
        found = [
            *(*host, *vanishing, *databases, *engine),
            *(*host_staying, *engine_staying, *databases_staying, *staying),
        ]
    return [one for one in found if one.is_quick or not settings.quick]


def _halves(sources: Iterable[Source]) -> tuple[list[Source], list[Source]]:
    listed = list(sources)
    return [one for one in listed if one.is_quick], [one for one in listed if not one.is_quick]


def _secrets(stack: Stack, engine: Engine, seconds: float) -> Secrets:
    """All that must not be written, from environments, commands, secret files and .env files."""
    containers = [one for members in stack.containers.values() for one in members]
    names = {stack.project, *stack.containers, *stack.components}
    for container in containers:
        names.update(
            value
            for name, value in container.environment.items()
            if name.endswith(("_USER", "_USERNAME", "_DB", "_DATABASE", "_HOST"))
            and not is_secret_name(name)
        )
    readers = {one.name: _reader(engine, one) for one in containers}

    def read(source: str, path: str) -> Optional[str]:
        try:
            return readers[source](path)
        except EngineError as error:
            return "" if error.status_code == _NOT_FOUND else None

    def ask(container: Container) -> Secrets:
        found = known_secrets([(container.name, container.environment)], names, read)
        if container.running and not container.pid:
            found.unread.append(f"{container.name}: {container.error}")
        try:
            for source, value in _logins(readers[container.name], stack, container):
                found.add(value, source)
        except CredentialError as error:
            found.unread.append(f"{container.name}: {error}")
        return found

    secrets = Secrets(frozenset(names))
    for container, answer in side_by_side(ask, containers, seconds * 1.5):
        if isinstance(answer, BaseException):
            secrets.unread.append(f"{container.name}: {type(answer).__name__}: {answer}")
            pairs = [(container.name, container.environment)]
            secrets.merge(known_secrets(pairs, names, lambda _source, _path: None))
        else:
            secrets.merge(answer)
    _add_files(secrets, stack, containers)
    return secrets


def _reader(engine: Engine, container: Container) -> Callable[[str], str]:
    """Reads a file of a container's: from the host where it runs, which does not need the engine to
    be quick, else through the engine."""

    def read(path: str) -> str:
        with contextlib.suppress(OSError):
            if container.running and container.pid:
                return processes.read_inside(container.pid, path, _SECRET_FILE_BYTES)
        return engine.read_file(container.id, path).decode("utf-8", "replace")

    return read


def _logins(
    read: Callable[[str], str], stack: Stack, container: Container
) -> list[tuple[str, Optional[str]]]:
    """Passwords that a container's environment and command lead to, however they are given."""
    component = next(
        (name for name, service in stack.components.items() if service == container.service), ""
    )
    found: list[tuple[str, Optional[str]]] = []
    for login in (
        application_database_credentials(container.environment, read),
        application_redis_credentials(container.environment, read),
    ):
        found += [(f"{container.name}: {login.source}", login.password)] if login else []
    if component == "postgres":
        administrator = postgres_server_credentials(container.environment, read)
        found.append((f"{container.name}: {administrator.source}", administrator.password))
    if component == "redis":
        server = redis_server_credentials(container.environment, container.command, read)
        found.append((f"{container.name}: {server.source}", server.password))
    return found


def _add_files(secrets: Secrets, stack: Stack, containers: Sequence[Container]) -> None:
    paths = list(stack.environment_files)
    if stack.working_dir:
        paths.append(str(Path(stack.working_dir) / ".env"))
    for path in dict.fromkeys(paths):
        try:
            entries = parse(Path(path).read_text("utf-8", errors="replace"))
        except FileNotFoundError:
            continue
        except (OSError, EnvironmentFileError) as error:
            secrets.unread.append(f"{path} could not be read: {error}")
            continue
        for name, value in values(entries).items():
            secrets.add_variable(name, value or "", path)
    mounts = {
        mount.source
        for container in containers
        for mount in container.mounts
        if mount.destination == _SECRETS_FOLDER
        or mount.destination.startswith(f"{_SECRETS_FOLDER}/")
    }
    for source in sorted(mounts):
        root = Path(source)
        for secret in sorted(root.iterdir()) if root.is_dir() else [root]:
            try:
                if secret.is_file():
                    with secret.open("rb") as file:
                        content = file.read(_SECRET_FILE_BYTES)
                    secrets.add(content.decode("utf-8", "replace"), str(secret))
            except OSError as error:
                secrets.unread.append(f"{secret} could not be read: {error.strerror}")


# Gathering


class _Gathering:
    """Sources at work. What does not end in time is cut off, and its thread left alone."""

    def __init__(
        self,
        settings: EvidenceSettings,
        bundle: Bundle,
        redactor: Redactor,
        deadline: float,
        step: Step,
    ) -> None:
        self._settings = settings
        self._bundle = bundle
        self._redactor = redactor
        self._deadline = deadline
        self._step = step
        self._done: queue.Queue[tuple[int, Optional[BaseException]]] = queue.Queue()
        self._running: dict[int, tuple[float, Files]] = {}

    def run(self, sources: Sequence[Source]) -> list[Outcome]:
        """What became of each, in their order."""
        outcomes: dict[int, Outcome] = {}
        waiting = list(enumerate(sources))
        while waiting or self._running:
            while waiting and len(self._running) < _WORKERS and self._left() > 0:
                self._start(*waiting.pop(0))
            if not self._running:
                break
            for number, error in self._ended():
                started, files = self._running.pop(number)
                outcome = self._outcome(sources[number], started, files, error)
                outcomes[number] = outcome
                self._bundle.note(outcome)
                self._step(outcome.source)
        for number, source in waiting:
            reason = f"not asked: {self._settings.deadline_seconds:g} s were over"
            outcomes[number] = Outcome(source.name, source.command, FAILED, reason)
            self._bundle.note(outcomes[number])
        return [outcomes[number] for number in sorted(outcomes)]

    def _left(self) -> float:
        return self._deadline - time.monotonic()

    def _start(self, number: int, source: Source) -> None:
        settings = self._settings
        files = Files(
            self._bundle.staging,
            self._redactor,
            settings.max_bytes,
            settings.reserve_bytes,
            settings.quick,
        )
        seconds = max(0.1, min(settings.source_seconds, self._left()))
        self._running[number] = (time.monotonic(), files)

        def work() -> None:
            try:
                source.run(files, seconds)
            except BaseException as error:  # a thread has no caller to raise to
                self._done.put((number, error))
            else:
                self._done.put((number, None))

        threading.Thread(target=work, name=source.name, daemon=True).start()

    def _ended(self) -> list[tuple[int, Optional[BaseException]]]:
        """Waits for the next that ends, or has had its time."""
        limit = self._settings.source_seconds
        first = min(started for started, _files in self._running.values())
        with contextlib.suppress(queue.Empty):
            wait = min(first + limit - time.monotonic(), self._left())
            number, error = self._done.get(timeout=max(0.0, wait))
            return [(number, error)] if number in self._running else []
        now = time.monotonic()
        return [
            (number, TimeoutError(f"it did not end within {now - started:.0f} s"))
            for number, (started, _files) in self._running.items()
            if now - started >= limit or self._left() <= 0
        ]

    def _outcome(
        self, source: Source, started: float, files: Files, error: Optional[BaseException]
    ) -> Outcome:
        status, reason = WHOLE, ""
        files.stop()
        if isinstance(error, SkipSource):
            status, reason = SKIPPED, str(error)
        elif isinstance(error, SinkFullError):
            status, reason = CUT, str(error)
        elif error is not None:
            status, reason = FAILED, self._explained(error)
        written: list[EvidenceFile] = []
        for sink in files.sinks:
            try:
                file = sink.finish()
            except (OSError, SinkClosedError) as failure:
                status, reason = FAILED, self._explained(failure)
                file = sink.abandon()
            if file is not None:
                written.append(file)
            if sink.remark and status == WHOLE:
                status, reason = CUT, sink.remark
        if written and status == FAILED:
            status = CUT
        return Outcome(
            source.name,
            source.command,
            status,
            self._redactor.plain(reason),
            round((time.monotonic() - started) * 1000.0),
            tuple(written),
        )

    def _explained(self, error: BaseException) -> str:
        told = (EngineError, CollectorError, EvidenceError, TimeoutError)
        text = " ".join(str(error).split())
        return text if isinstance(error, told) and text else f"{type(error).__name__}: {text}"


def _log_index(
    scene: Scene,
    outcomes: Sequence[Outcome],
    bundle: Bundle,
    redactor: Redactor,
    settings: EvidenceSettings,
) -> Outcome:
    """Which file is whose log."""
    entries = []
    for outcome in outcomes:
        for file in outcome.files:
            about = scene.log_files.get(file.path)
            if about is not None:
                facts = {"lines": file.lines, "bytes": file.bytes, "truncated": outcome.reason}
                entries.append({**about, **facts})
    files = Files(bundle.staging, redactor, settings.max_bytes, 0, settings.quick)
    with telling("the evidence could not be finished", bundle.parent):
        sink = files.open(LOG_INDEX)
        sink.document(entries)
        written = sink.finish()
    return Outcome("logs/index", "what is above", WHOLE, "", 0, (written,) if written else ())


def _redactions(secrets: Secrets, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """What was taken out, why, and what could not be looked for. Values are in none of it."""
    return {
        "marker": "<redacted:…> is an HMAC-SHA-256 of the value, its first 12 hex digits, with a "
        "key that stays on the host: the same secret has the same marker in every bundle",
        "rules": {
            "known value": "values known from environments, commands, secret files and .env files, "
            "as they are, percent-encoded, in JSON and in base64",
            "name": "what stands under the name of a secret, and every environment variable that "
            "is not known to hold none",
            "shape": "passwords in URLs, statements and options; hashes of passwords; bearer "
            "tokens, cookies, private keys",
            "not read": "environments of processes, PostgreSQL's password hashes, /etc/shadow",
        },
        "known": sorted(set(secrets.known.values())),
        "not_known_because_unreadable": list(secrets.unread),
        "known_but_too_short_or_too_ordinary_to_look_for": sorted(secrets.unsearchable),
        "counts": {
            file.path: dict(file.redactions)
            for one in outcomes
            for file in one.files
            if file.redactions
        },
    }


def _tools(scene: Optional[Scene]) -> dict[str, str]:
    """What was looked with."""
    found = {
        "python": platform.python_version(),
        "kernel": platform.release(),
        "system": _system(),
        "user": str(os.geteuid()),
    }
    if scene is not None:
        with contextlib.suppress(EngineError):
            version = scene.engine.version()
            found["docker"] = f"{version.get('Version')} (API {version.get('ApiVersion')})"
    for name, argv in (("nft", ["nft", "--version"]), ("iptables", ["iptables", "--version"])):
        with contextlib.suppress(CommandError):
            found[name] = run_command(argv, 2.0).stdout.strip()
    return found


def _system() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/etc/os-release").read_text("utf-8").splitlines():
            if line.startswith("PRETTY_NAME="):
                return line.partition("=")[2].strip('"')
    return platform.system()
