# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Credentials of a running project replaced by new ones: made once, kept until they are proved,
brought to whatever uses them, and the old ones seen to be dead.

Every step looks at what is so before it does anything, so that a run goes on where another one was
killed. Nothing goes back: the old secrets are taken to be known to somebody.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import re
import secrets as random
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._compose import (
    ComposeFiles,
    compose_arguments,
    error_text,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._config_restore import not_up
from ansible_collections.pynomaly.ops.plugins.module_utils._containers import (
    CONFIG_HASH_LABEL,
    by_service,
    parse_time,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._context import (
    CheckSettings,
    Container,
    Stack,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._credential_rotation import (
    API,
    CREDENTIALS,
    GRAFANA,
    POSTGRES,
    REDIS,
    SCRAM_SALT_BYTES,
    Rotated,
    RotationError,
    api_key_names,
    bridged_url,
    holds,
    matches_verifier,
    places,
    replaced_environment,
    replaced_file,
    replaced_value,
    restart_order,
    same_secrets,
    scram_verifier,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._credentials import (
    CredentialError,
    environment_value,
    scrub,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.command import (
    CommandError,
    run_command,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.compose import (
    Project,
    compose_command,
    discover,
    load_project,
    read_config,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.credential_servers import (
    GrafanaLogin,
    PostgresLogins,
    RedisLogins,
    Witness,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.endpoints import secret_reader
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.engine_control import (
    EngineControl,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.files import (
    ensure_directory,
    sync_directory,
    write_atomically,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.nginx_control import (
    NginxError,
    read_configuration,
    reload,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.operation_store import utc_now
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.postgres_server import (
    PostgresError,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.postgres_tools import (
    secrets_folder,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.temporary_states import (
    TemporaryStates,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._environment_file import (
    EnvironmentFileError,
    parse,
    values,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._scheduler import CollectorError
from ansible_collections.pynomaly.ops.plugins.module_utils._utc import utc_text

STATE = "credential_rotation"
#: Below the folder of the journal; one folder for each project.
FOLDER = "credential-rotation"
_RECORD = "secrets.json"
_AGAIN = "run the same playbook again: it goes on where it stopped, with the same secrets"
_GENERATED_BYTES = 32
_POLL_SECONDS = 0.25
_STOP_SECONDS = 30
_DRAIN_COMMAND_SECONDS = 10.0
#: Until requests that are short have ended; a server that is told to stop ends the others itself.
_DRAIN_SECONDS = 2.0
#: Refused, and not dropped: who connects then goes elsewhere at once.
_DRAIN_NFT = """\
table inet pynomaly_drain {
    chain input {
        type filter hook input priority 0;
        iifname != "lo" tcp flags & (fin | syn | rst | ack) == syn reject with tcp reset
    }
}
"""
_DRAIN_IPTABLES = (
    *("--insert", "INPUT", "!", "--in-interface", "lo", "--protocol", "tcp", "--syn"),
    *("--jump", "REJECT", "--reject-with", "tcp-reset"),
)
_FILE_MAX_BYTES = 256 * 1024
_FILES_MAX = 2000
#: Longest C{resolver … valid=} that is waited for; nginx is reloaded where it is longer.
_RESOLVER_MAX_SECONDS = 15.0


@dataclass(frozen=True)
class Rotation:
    """What is asked for. ``credentials`` are some of C{CREDENTIALS}; with ``all_there``, one that
    the project lacks is passed over and told of, and otherwise an error."""

    project: str
    state_dir: str
    credentials: Sequence[str] = CREDENTIALS
    all_there: bool = True
    service_names: Mapping[str, str] = field(default_factory=dict)
    api_key_variables: Sequence[str] = ()
    recreate_server: bool = False
    check: CheckSettings = field(default_factory=CheckSettings)
    up_timeout_seconds: float = 300.0
    healthy_timeout_seconds: float = 180.0

    @property
    def folder(self) -> Path:
        return Path(self.state_dir) / FOLDER / self.project


@dataclass
class Record:
    """What is kept until all is proved, mode 0600. ``bridge`` is a second role that the API uses
    while the first one changes its password: its name, its password, and for each variable that
    has its URL the value that follows."""

    rotated: list[Rotated]
    begun: str
    dependents: list[str]
    server: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    bridge: dict[str, Any] = field(default_factory=dict, repr=False)
    files_at: str = ""
    flipped_at: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    def encode(self) -> str:
        document = {**vars(self), "rotated": [vars(one) for one in self.rotated]}
        return json.dumps(document)

    @classmethod
    def decode(cls, text: str) -> Record:
        document = json.loads(text)
        rotated = [Rotated(**one) for one in document.pop("rotated")]
        return cls(rotated=rotated, **document)


Step = Callable[[str], None]

#: What a rotation may end with before it has begun; afterwards all is told as L{RotationError}.
FAILURES = (RotationError, PostgresError, CredentialError, CollectorError)


def run(
    settings: Rotation,
    engine: EngineControl,
    states: TemporaryStates,
    *,
    dry_run: bool = False,
    step: Step = lambda _name: None,
) -> dict[str, Any]:
    """Rotate; what the module returns. Under the host's lock.

    ``step`` is told what is about to be done. Raises L{RotationError} with nothing changed where
    something forbids it, and with the temporary state left open where a step has failed.
    """
    work = _Work(settings, engine, states, step)
    record = work.load()
    resumed = record is not None
    if record is None:
        record = work.plan()
    left_out = set(settings.credentials) - {one.credential for one in record.rotated}
    if resumed and left_out and not settings.all_there:
        record.remarks.append(
            f"{', '.join(sorted(left_out))}: not rotated by this run, which goes on with another; "
            "run it once more"
        )
    if dry_run or not record.rotated:
        return work.answer(record, changed=bool(record.rotated), resumed=resumed, planned=True)
    work.go(record)
    return work.answer(record, changed=True, resumed=resumed)


def resume(settings: Rotation, engine: EngineControl, states: TemporaryStates) -> tuple[bool, str]:
    """Finish a rotation that was begun; whether there was one, and what became of it.

    The temporary state is left to the caller to close. Raises L{RotationError}.
    """
    work = _Work(settings, engine, states, lambda _name: None)
    record = work.load()
    if record is None:
        return False, "no secret had been made yet"
    work.go(record, close=False)
    return True, f"new and proved: {', '.join(one.label for one in record.rotated)}"


class _Work:
    """One run."""

    def __init__(
        self, settings: Rotation, engine: EngineControl, states: TemporaryStates, step: Step
    ) -> None:
        self.settings = settings
        self.engine = engine
        self.states = states
        self.step = step
        self.timings: list[tuple[str, float]] = []
        self.recreated: list[str] = []
        self.proofs: list[tuple[str, str, str]] = []
        self.ended_sessions = 0
        self._record_path = settings.folder / _RECORD

    # What there is

    def stack(self) -> Stack:
        return discover(
            self.engine, self.settings.project, self.settings.check, self.settings.service_names
        )

    def project(self) -> Project:
        found = load_project(
            self.engine, self.settings.project, self.settings.check.call_timeout_seconds
        )
        if found.config is None:
            raise RotationError(f"the project's files cannot be read: {found.error}")
        return found

    def load(self) -> Optional[Record]:
        """What a run has kept that did not come to its end."""
        try:
            text = self._record_path.read_text()
        except FileNotFoundError:
            return None
        try:
            return Record.decode(text)
        except (ValueError, TypeError, KeyError) as error:
            raise RotationError(
                f"{self._record_path} cannot be read ({type(error).__name__}), expected the "
                "secrets of a rotation that was begun",
                "look at what .env and the servers have, then remove the file",
            ) from error

    def save(self, record: Record) -> None:
        ensure_directory(self.settings.folder.parent, 0o700)
        ensure_directory(self.settings.folder, 0o700)
        write_atomically(self._record_path, record.encode(), 0o600)

    # Planning

    def plan(self) -> Record:
        """Everything that could forbid it is looked for here. Changes nothing."""
        stack = self.stack()
        if not stack.containers:
            raise RotationError(
                f"project {self.settings.project} has no containers on this host",
                "ansible-playbook pynomaly.ops.status",
            )
        project = self.project()
        self._refuse_unset(project)
        rotated, remarks = self._find(stack)
        if not rotated:
            return Record([], utc_text(utc_now()), [], remarks=remarks)
        alike = same_secrets(rotated)
        if alike:
            raise RotationError(
                f"{' and '.join(alike)} have one and the same secret, which could not be told "
                "apart in the files",
                "rotate one of them by hand first",
            )
        environment = self._new_environment(project.files, rotated)
        files = self._files_with(project, rotated)
        self._refuse_literals(project, rotated, environment, files)
        dependents = self._dependents(project, environment, files)
        self._refuse_lost(stack, rotated, dependents, files)
        record = Record(rotated, utc_text(utc_now()), sorted(dependents), remarks=remarks)
        record.files = [str(path) for path in files]
        self._plan_server(stack, record)
        self._plan_bridge(stack, project, record)
        drifted = _drifted(project)
        if drifted:
            record.remarks.append(
                f"{', '.join(drifted)}: the files say something else than what runs, apart from "
                "the secrets; what is recreated takes that up as well"
            )
        return record

    def _refuse_unset(self, project: Project) -> None:
        unset = project.config.unset_variables if project.config else ()
        if unset:
            raise RotationError(
                f"the Compose files use {', '.join(unset)}, which nothing sets: a container that "
                "is recreated would get nothing in their place",
                "put them into .env beside the Compose file",
            )

    def _find(self, stack: Stack) -> tuple[list[Rotated], list[str]]:
        """The secrets that are in use now, each with a new one."""
        finders: Mapping[str, Callable[[Stack], list[tuple[str, str]]]] = {
            POSTGRES: self._find_postgres,
            REDIS: self._find_redis,
            API: self._find_api,
            GRAFANA: self._find_grafana,
        }
        rotated: list[Rotated] = []
        remarks = []
        for credential in self.settings.credentials:
            try:
                found = finders[credential](stack)
                if not found:
                    raise RotationError(f"the project has no {credential} credential")
            except CredentialError as error:
                raise RotationError(f"{credential}: {error}") from error
            except RotationError as error:
                if not self.settings.all_there or error.hint:
                    raise
                remarks.append(f"{credential}: not rotated, {error}")
                continue
            rotated += [
                Rotated(credential, name, old, random.token_hex(_GENERATED_BYTES))
                for name, old in found
            ]
        return rotated, remarks

    def _find_postgres(self, stack: Stack) -> list[tuple[str, str]]:
        if not stack.component("postgres"):
            raise RotationError("the project has no PostgreSQL")
        logins = self.postgres(stack, [])
        found = logins.in_use()
        logins.refuse_trust(found[0][0])
        return found

    def _find_redis(self, stack: Stack) -> list[tuple[str, str]]:
        if not stack.component("redis"):
            raise RotationError("the project has no Redis")
        return self.redis(stack).in_use()

    def _find_api(self, stack: Stack) -> list[tuple[str, str]]:
        containers = stack.component("api")
        if not containers:
            raise RotationError("the project has no API")
        found: dict[str, str] = {}
        for container in containers:
            names = self.settings.api_key_variables or api_key_names(container.environment)
            reader = secret_reader(self.engine, container)
            for name in names:
                value = environment_value(container.environment, name, reader)
                if value and found.setdefault(name, value) != value:
                    raise RotationError(
                        f"the API's containers have different values of {name}",
                        f"docker compose -p {stack.project} up -d {container.service}",
                    )
        if not found:
            raise RotationError("the API's environment has no key that it signs with")
        return sorted(found.items())

    def _find_grafana(self, stack: Stack) -> list[tuple[str, str]]:
        if not stack.component("grafana"):
            raise RotationError("the project has no Grafana")
        return self.grafana(stack).in_use()

    def postgres(self, stack: Stack, rotated: Sequence[Rotated]) -> PostgresLogins:
        known = [(one.name, one.new, one.old) for one in rotated if one.credential == POSTGRES]
        return PostgresLogins(self.engine, stack, self.settings.check, known)

    def redis(self, stack: Stack) -> RedisLogins:
        return RedisLogins(self.engine, stack, self.settings.check)

    def grafana(self, stack: Stack) -> GrafanaLogin:
        return GrafanaLogin(self.engine, stack, self.settings.check.call_timeout_seconds)

    # Files

    def _new_environment(
        self,
        files: ComposeFiles,
        rotated: Sequence[Rotated],
        given: Optional[Mapping[str, str]] = None,
    ) -> dict[Path, str]:
        """Environment files that change, with the text that they get."""
        changed = {}
        for path in environment_files(files):
            try:
                text = path.read_text(encoding="utf-8")
                new, names = replaced_environment(text, rotated, given)
            except FileNotFoundError:
                continue
            except (EnvironmentFileError, UnicodeDecodeError, OSError) as error:
                raise RotationError(f"{path}: {error}") from error
            if names:
                changed[path] = new
        return changed

    def _files_with(self, project: Project, rotated: Sequence[Rotated]) -> list[Path]:
        """Files of the host that containers have mounted and that hold one of the secrets."""
        roots = {
            Path(source)
            for containers in project.containers.values()
            for container in containers
            for source in _own_mounts(container, project)
        }
        found = []
        for path in _small_files(sorted(roots)):
            with contextlib.suppress(OSError, UnicodeDecodeError):
                text = path.read_text(encoding="utf-8")
                if replaced_file(text, rotated) != text:
                    found.append(path)
        return found

    def _refuse_literals(
        self,
        project: Project,
        rotated: Sequence[Rotated],
        environment: Mapping[Path, str],
        files: Sequence[Path],
    ) -> None:
        """A secret that the Compose files themselves hold cannot be replaced here."""
        document = self._document(self._candidate(project.files, environment))
        left = places(document, [one.old for one in rotated])
        own = {
            "env_file" in Path(path).read_text(encoding="utf-8", errors="replace")
            for path in project.files.config_files
        }
        if True in own:  # these read the file itself, which is still as it was
            left = [place for place in left if ": environment." not in place]
        if left:
            raise RotationError(
                f"a secret is written in the Compose file itself ({'; '.join(left[:5])}), "
                "expected it in .env",
                "put NAME=… into .env beside the Compose file, write ${NAME} in its place, and "
                f"docker compose -p {self.settings.project} up -d",
            )
        del files

    @contextlib.contextmanager
    def _candidates(
        self, files: ComposeFiles, environment: Mapping[Path, str]
    ) -> Iterator[ComposeFiles]:
        folder = secrets_folder(self.settings.project)
        try:
            paths = []
            for number, path in enumerate(environment_files(files)):
                text = environment.get(path)
                if text is None:
                    paths += [str(path)] if path.exists() else []
                    continue
                candidate = folder / f"{number}.env"
                write_atomically(candidate, text, 0o600)
                paths.append(str(candidate))
            yield replace(files, environment_files=tuple(paths))
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _candidate(self, files: ComposeFiles, environment: Mapping[Path, str]) -> str:
        with self._candidates(files, environment) as candidate:
            return self._compose(candidate, ["config", "--format", "json"], 30.0)

    def _document(self, text: str) -> Mapping[str, Any]:
        document: Mapping[str, Any] = json.loads(text)
        return document

    def _dependents(
        self, project: Project, environment: Mapping[Path, str], files: Sequence[Path]
    ) -> set[str]:
        """Services whose definition is another one with the new environment, and those that have
        one of the files mounted."""
        hashes = self._hashes(project, project.files)
        with self._candidates(project.files, environment) as candidate:
            after = self._hashes(project, candidate)
        changed = {name for name, value in after.items() if hashes.get(name) != value}
        changed |= {
            service
            for service, containers in project.containers.items()
            if any(_has_mounted(container, files, project) for container in containers)
        }
        needs = project.config.needs if project.config else {}
        changed |= {
            name
            for name, needed in needs.items()
            if any(need.shares and other in changed for other, need in needed.items())
        }
        return changed & set(project.containers)

    def _hashes(self, project: Project, files: ComposeFiles) -> dict[str, str]:
        first = {name: ones[0].id for name, ones in project.containers.items() if ones}
        try:
            config = read_config(
                self.settings.project, files, first, self.settings.check.call_timeout_seconds
            )
        except CollectorError as error:
            raise RotationError(f"the project's files cannot be read: {error}") from error
        return {name: service.config_hash for name, service in config.services.items()}

    def _refuse_lost(
        self,
        stack: Stack,
        rotated: Sequence[Rotated],
        dependents: set[str],
        files: Sequence[Path],
    ) -> None:
        """A secret that stands in no file that is kept here could not be changed for good."""
        del files
        for one in rotated:
            service = stack.service_of(one.credential)
            users = {
                name
                for name, containers in stack.containers.items()
                for container in containers
                if any(holds(key, value, [one.old]) for key, value in container.environment.items())
            }
            if one.credential != POSTGRES:
                users.add(service)
            missing = sorted(users - dependents)
            if missing:
                raise RotationError(
                    f"{one.label}: {', '.join(missing)} would go on with the old secret, which is "
                    f"in no environment file of the project and in no file below its folder",
                    "put it into .env beside the Compose file and use ${NAME} in its place",
                )

    def _plan_server(self, stack: Stack, record: Record) -> None:
        """PostgreSQL reads the password of its environment only when its data directory is made.
        It is recreated where nothing but that environment tells the administrator's."""
        service = stack.service_of("postgres")
        if service not in record.dependents:
            return
        if not any(one.credential == POSTGRES for one in record.rotated):
            return
        logins = self.postgres(stack, record.rotated)
        if self.settings.recreate_server or not logins.application_is_administrator():
            record.server = [service]
            return
        record.dependents.remove(service)
        record.remarks.append(
            f"{service} is not recreated, so that no request fails: its container still has the "
            "old password, which is dead and which PostgreSQL does not read again. The next "
            "deployment recreates it"
        )

    def _plan_bridge(self, stack: Stack, project: Project, record: Record) -> None:
        """A second role, where the API's replicas can be led over it one after the other."""
        api = stack.components.get("api", "")
        if len(stack.running("api")) < 2 or api not in record.dependents:
            return
        own = [one for one in record.rotated if one.credential == POSTGRES]
        logins = self.postgres(stack, record.rotated)
        role = logins.application_role()
        rotated = next((one for one in own if one.name == role), None)
        if rotated is None or not logins.may_make_roles():
            return
        variables: dict[str, str] = {}
        for path in environment_files(project.files):
            with contextlib.suppress(FileNotFoundError):
                for name, value in values(parse(path.read_text(encoding="utf-8"))).items():
                    if not value or bridged_url(value, "", "") is None:
                        continue
                    renewed = replaced_value(name, value, [rotated])
                    if renewed != value:
                        variables[name] = renewed
        if not variables:
            return
        bridge = {
            "role": f"{role[:40]}_rotation",
            "of": role,
            "password": random.token_hex(_GENERATED_BYTES),
            "values": variables,
        }
        given = _bridged(bridge)
        environment = self._new_environment(project.files, [], given)
        if api in self._dependents(project, environment, []):
            record.bridge = bridge

    # Doing

    def go(self, record: Record, close: bool = True) -> None:
        """All the steps; each looks whether it is done already."""
        try:
            self._go(record)
        except (*FAILURES, OSError, EnvironmentFileError) as error:
            hint = getattr(error, "hint", "")
            raise RotationError(
                f"the rotation stopped on its way: {error}", f"{hint}; {_AGAIN}" if hint else _AGAIN
            ) from error
        self.step("forget")
        self._forget()
        if close:
            labels = ", ".join(one.label for one in record.rotated)
            self.states.close(STATE, f"new and proved: {labels}")

    def _go(self, record: Record) -> None:
        self._keep(record)
        self._both_passwords(record)
        if record.bridge and not self._flipped(record):
            self._over_the_bridge(record)
        self._flip(record)
        self._write_files(record)
        self._recreate(record)
        self._grafana(record)
        self._redis_alone(record)
        self._end_sessions(record)
        self._prove(record)

    def _begin(self, name: str) -> None:
        self.timings.append((name, time.monotonic()))
        self.step(name)

    def _keep(self, record: Record) -> None:
        self._begin("keep")
        if not self._record_path.exists():
            self.save(record)
        if not any(one["temporary_state"] == STATE for one in self.states.left()):
            labels = ", ".join(one.label for one in record.rotated)
            self.states.open(
                STATE,
                f"credentials are being rotated: {labels}",
                {"folder": str(self.settings.folder)},
            )

    def _of(self, record: Record, credential: str) -> list[Rotated]:
        return [one for one in record.rotated if one.credential == credential]

    def _both_passwords(self, record: Record) -> None:
        """Redis takes the new password beside the old one until all have moved."""
        rotated = self._of(record, REDIS)
        if rotated:
            self._begin("redis_both")
            self.redis(self.stack()).add(rotated)

    def _flipped(self, record: Record) -> bool:
        rotated = self._of(record, POSTGRES)
        return all(self._has_new(rotated))

    def _has_new(self, rotated: Sequence[Rotated]) -> list[bool]:
        logins = self.postgres(self.stack(), rotated)
        found = logins.verifiers([one.name for one in rotated])
        return [matches_verifier(one.new, found.get(one.name)) for one in rotated]

    def _over_the_bridge(self, record: Record) -> None:
        self._begin("bridge_role")
        stack = self.stack()
        bridge = record.bridge
        verifier = scram_verifier(bridge["password"], random.token_bytes(SCRAM_SALT_BYTES))
        self.postgres(stack, record.rotated).make_bridge(bridge["role"], bridge["of"], verifier)
        self._begin("bridge_environment")
        project = self.project()
        self._place(self._new_environment(project.files, [], _bridged(bridge)))
        self._begin("bridge_recreate")
        self._renew([stack.components["api"]], record)

    def _flip(self, record: Record) -> None:
        rotated = self._of(record, POSTGRES)
        if not rotated:
            return
        self._begin("verifier")
        logins = self.postgres(self.stack(), rotated)
        for one, has_new in zip(rotated, self._has_new(rotated)):
            if not has_new:
                verifier = scram_verifier(one.new, random.token_bytes(SCRAM_SALT_BYTES))
                logins.set_verifier(one.name, verifier)
                self.step("verifier_set")
            if one.name not in record.flipped_at:
                record.flipped_at[one.name] = logins.now()
                self.save(record)

    def _write_files(self, record: Record) -> None:
        self._begin("environment")
        project = self.project()
        given = record.bridge.get("values") or {}
        self._place(self._new_environment(project.files, record.rotated, given))
        self._begin("files")
        for name in record.files:
            path = Path(name)
            text = path.read_text(encoding="utf-8")
            new = replaced_file(text, record.rotated)
            if new != text:
                _replace(path, new, keep_mode=True)
        if not record.files_at:
            record.files_at = utc_text(utc_now())
            self.save(record)
        document = self._document(
            self._compose(project.files, ["config", "--format", "json"], 30.0)
        )
        left = places(document, [one.old for one in record.rotated])
        if left:
            raise RotationError(
                f"an old secret is still in the project's definition: {'; '.join(left[:5])}",
                "move it into .env beside the Compose file",
            )

    def _place(self, environment: Mapping[Path, str]) -> None:
        for path, text in environment.items():
            _replace(path, text, keep_mode=False)

    def _recreate(self, record: Record) -> None:
        self._begin("recreate")
        stack = self.stack()
        last = [*record.server, stack.service_of("redis")]
        self._renew(restart_order(record.dependents, stack.components, last), record)

    def _renew(self, services: Sequence[str], record: Record) -> None:
        """Recreate what does not yet run by the files, one container at a time, each once."""
        fresh: set[str] = set()
        for service in services:
            while True:
                project = self.project()
                present = {one.id for one in project.containers.get(service, ())}
                stale = [
                    one for one in self._stale(project, service, record) if one.id not in fresh
                ]
                wanted = project.config.services[service].replicas if project.config else 1
                if not stale and len(present) >= wanted:
                    break
                self.step(f"renew_{service}")
                self._renew_one(project, service, stale, max(len(present), wanted))
                now = self.engine.list_project_containers(self.settings.project)
                fresh |= {one.id for one in now if one.service == service} - present
            self._wait(service)

    def _stale(self, project: Project, service: str, record: Record) -> list[Container]:
        if project.config is None or service not in project.config.services:
            return []
        wanted = project.config.services[service].config_hash
        files = [Path(path) for path in record.files]
        has_files = record.files_at and any(
            _has_mounted(container, files, project)
            for container in project.containers.get(service, ())
        )
        written = parse_time(record.files_at) if has_files else None
        return [
            container
            for container in project.containers.get(service, ())
            if container.labels.get(CONFIG_HASH_LABEL) != wanted
            or (written is not None and (parse_time(container.created_at) or written) < written)
        ]

    def _renew_one(
        self, project: Project, service: str, stale: Sequence[Container], count: int
    ) -> None:
        up = ["up", "--detach", "--no-deps", "--no-build", "--quiet-pull"]
        up += ["--scale", f"{service}={count}"]
        if count == 1:
            up.append("--force-recreate")
        else:
            up.append("--no-recreate")
            for container in stale[:1]:
                if container.running:
                    drain(container)
                self.engine.stop(container.id, _STOP_SECONDS)
                self.engine.remove(container.id)
                self.step(f"removed_{service}")
        self._compose(project.files, [*up, service], self.settings.up_timeout_seconds)
        self._wait(service)
        if count > 1:
            self._settle()
        self.recreated.append(service)

    def _wait(self, service: str) -> None:
        """Until each container of a service runs and is healthy."""
        deadline = time.monotonic() + self.settings.healthy_timeout_seconds
        project = self.project()
        services = project.config.services if project.config else {}
        while True:
            containers = by_service(self.engine.list_project_containers(self.settings.project))
            now = utc_now()
            ages = {one.id: _age_seconds(one, now) for ones in containers.values() for one in ones}
            problems = not_up({service: services[service]}, containers, ages)
            if not problems:
                return
            if time.monotonic() >= deadline:
                raise RotationError(
                    f"{service} is not well after {self.settings.healthy_timeout_seconds:g} s "
                    f"with the new secrets: {'; '.join(problems[:3])}",
                    f"docker compose -p {self.settings.project} logs --tail 50 {service}",
                )
            time.sleep(_POLL_SECONDS)

    def _settle(self) -> None:
        """Until nginx knows the new container's address, so that the next one may go: after as
        long as it keeps what its resolver says, or after a reload where it resolves but once."""
        stack = self.stack()
        for nginx in stack.running("nginx"):
            timeout_seconds = self.settings.check.call_timeout_seconds
            try:
                text = read_configuration(self.engine, nginx, timeout_seconds)
                kept = resolver_seconds(text)
                if kept is None:
                    reload(self.engine, nginx, 15.0)
                else:
                    time.sleep(kept + 0.5)
            except NginxError as error:
                raise RotationError(str(error), error.hint) from error

    def _grafana(self, record: Record) -> None:
        rotated = self._of(record, GRAFANA)
        if rotated:
            self._begin("grafana")
            self.grafana(self.stack()).change(rotated)

    def _redis_alone(self, record: Record) -> None:
        rotated = self._of(record, REDIS)
        if rotated:
            self._begin("redis_alone")
            self.ended_sessions += self.redis(self.stack()).keep_only(rotated)

    def _end_sessions(self, record: Record) -> None:
        rotated = self._of(record, POSTGRES)
        if not rotated:
            return
        self._begin("sessions")
        logins = self.postgres(self.stack(), rotated)
        for one in rotated:
            self.ended_sessions += logins.end_sessions(one.name, record.flipped_at[one.name])
        if record.bridge:
            self._begin("bridge_drop")
            left = logins.drop_bridge(record.bridge["role"], record.bridge["of"])
            if left:
                record.remarks.append(left)

    # Proof

    def _prove(self, record: Record) -> None:
        self._begin("prove")
        stack = self.stack()
        self._prove_environments(stack, record)
        with Witness(self.engine, stack, self.settings.check) as witness:
            for one in record.rotated:
                for what in ("new", "old"):
                    self._prove_one(witness, stack, one, what)

    def _prove_one(self, witness: Witness, stack: Stack, one: Rotated, what: str) -> None:
        expected = what == "new"
        secret = one.new if expected else one.old
        if one.credential == API:
            where = "in each of the API's containers" if expected else "in no container"
            self.proofs.append((one.label, what, where))
            return
        if one.credential == POSTGRES:
            let_in, seen_from = witness.postgres(one.name, secret)
        elif one.credential == REDIS:
            let_in, seen_from = witness.redis(one.name, secret)
        else:
            let_in, seen_from = self.grafana(stack).logs_in(one.name, secret)
        if let_in != expected:
            raise RotationError(
                f"the {what} secret of {one.label} is {'let in' if let_in else 'refused'} from "
                f"{seen_from}, expected it {'let in' if expected else 'refused'}"
            )
        self.proofs.append((one.label, what, f"{'let in' if let_in else 'refused'}, {seen_from}"))

    def _prove_environments(self, stack: Stack, record: Record) -> None:
        """No container of the project has an old secret any more, and the API has the new key."""
        server = stack.service_of("postgres") if not record.server else ""
        old = [one.old for one in record.rotated]
        for service, containers in stack.containers.items():
            for container in containers:
                texts = {**container.environment, "": " ".join(container.command)}
                left = [key for key, value in texts.items() if holds(key, value, old)]
                if left and service != server:
                    raise RotationError(
                        f"{container.name} still has an old secret in its "
                        f"{', '.join(key or 'command' for key in left)}",
                        f"docker compose -p {stack.project} up -d {service}",
                    )
        for one in self._of(record, API):
            for container in stack.component("api"):
                reader = secret_reader(self.engine, container)
                if environment_value(container.environment, one.name, reader) != one.new:
                    raise RotationError(
                        f"{container.name} has another {one.name} than the new one",
                        f"docker compose -p {stack.project} up -d {container.service}",
                    )

    def _forget(self) -> None:
        shutil.rmtree(self.settings.folder, ignore_errors=True)
        if self.settings.folder.parent.is_dir():
            sync_directory(self.settings.folder.parent)
        if self._record_path.exists():
            raise RotationError(f"{self._record_path} cannot be removed")

    # Compose

    def _compose(self, files: ComposeFiles, words: Sequence[str], timeout_seconds: float) -> str:
        argv = [*compose_command(), *compose_arguments(self.settings.project, files), *words]
        try:
            result = run_command(argv, timeout_seconds)
        except CommandError as error:
            raise RotationError(f"docker compose {words[0]}: {error}") from error
        if result.exit_code != 0:
            text = scrub(error_text(result.stderr), self._known())
            raise RotationError(f"docker compose {words[0]}: {text}")
        return result.stdout

    def _known(self) -> list[str]:
        record = self.load()
        return [one for pair in record.rotated for one in (pair.old, pair.new)] if record else []

    def answer(
        self, record: Record, *, changed: bool, resumed: bool, planned: bool = False
    ) -> dict[str, Any]:
        """What the module returns; no secret is in it."""
        labels = [one.label for one in record.rotated]
        lines = []
        if not labels:
            lines.append("no credential to rotate")
        elif planned:
            lines.append(f"would be rotated: {', '.join(labels)}")
            lines.append(f"would be recreated: {', '.join(record.dependents) or 'nothing'}")
        else:
            lines.append(f"new and proved, the old ones refused: {', '.join(labels)}")
            lines.append(f"recreated: {', '.join(self.recreated) or 'nothing'}")
            lines.append(f"sessions ended: {self.ended_sessions}")
        if resumed and not planned:
            lines.append("went on with the secrets of a run that had not come to its end")
        return {
            "changed": changed,
            "rotated": labels,
            "dependents": list(record.dependents),
            "recreated": list(self.recreated),
            "two_roles": bool(record.bridge),
            "resumed": resumed,
            "ended_sessions": self.ended_sessions,
            "proofs": [
                {"credential": label, "secret": what, "seen": seen}
                for label, what, seen in self.proofs
            ],
            "remarks": list(record.remarks),
            "lines": lines,
            "tables": self._tables(),
        }

    def _tables(self) -> list[dict[str, Any]]:
        if not self.proofs:
            return []
        return [
            {
                "title": "Credentials",
                "columns": ["Credential", "Secret", "Seen"],
                "rows": [list(proof) for proof in self.proofs],
            }
        ]


def environment_files(files: ComposeFiles) -> list[Path]:
    """The files that Compose interpolates from."""
    if files.environment_files:
        return [Path(path) for path in files.environment_files]
    return [Path(files.working_dir) / ".env"]


def drain(container: Container) -> bool:
    """Have a container refuse new connections, and wait until those that are open have ended; so
    that a proxy passes it over, and no request is in it when it is told to stop. Whether that
    could be done: its network namespace needs nft or iptables on the host.

    The rule goes with the container, which is removed next.
    """
    within = ["nsenter", "--target", str(container.pid), "--net"]
    for argv, stdin in (
        (["nft", "--file", "-"], _DRAIN_NFT),
        (["iptables", "--wait", "5", *_DRAIN_IPTABLES], None),
    ):
        with contextlib.suppress(CommandError):
            done = run_command([*within, *argv], _DRAIN_COMMAND_SECONDS, stdin=stdin)
            if done.exit_code == 0:
                break
    else:
        return False
    deadline = time.monotonic() + _DRAIN_SECONDS
    while open_connections(container) and time.monotonic() < deadline:
        time.sleep(0.05)
    return True


def open_connections(container: Container) -> int:
    """Connections that others have opened to the container's exposed ports."""
    ports = {f"{port:04X}" for port in container.exposed_ports}
    count = 0
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{container.pid}/net/{name}").read_text().splitlines()[1:]
            for words in map(str.split, lines):
                # local_address, rem_address, st; 01 is established: Documentation/networking
                count += words[3] == "01" and words[1].rpartition(":")[2] in ports
    return count


def resolver_seconds(text: str) -> Optional[float]:
    """How long nginx keeps an address by its C{resolver}'s C{valid}; C{None} where it has none, or
    keeps one for long. ``text`` is C{nginx -T}."""
    found = [
        match.group(1)
        for match in re.finditer(r"^\s*resolver\s[^;#]*\bvalid=(\d+)s?\b", text, re.MULTILINE)
    ]
    if not found or not re.search(r"^\s*proxy_pass\s+\w+://\$", text, re.MULTILINE):
        return None
    longest = max(float(one) for one in found)
    return longest if longest <= _RESOLVER_MAX_SECONDS else None


def _bridged(bridge: Mapping[str, Any]) -> dict[str, str]:
    urls = {
        name: bridged_url(value, bridge["role"], bridge["password"])
        for name, value in bridge["values"].items()
    }
    return {name: url for name, url in urls.items() if url is not None}


def _drifted(project: Project) -> list[str]:
    services = project.config.services if project.config else {}
    return sorted(
        name
        for name, service in services.items()
        if service.config_hash
        and any(
            one.labels.get(CONFIG_HASH_LABEL) != service.config_hash
            for one in project.containers.get(name, ())
        )
    )


def _age_seconds(container: Container, now: datetime.datetime) -> float:
    started = parse_time(container.started_at)
    return (now - started).total_seconds() if started is not None else 0.0


def _own_mounts(container: Container, project: Project) -> list[str]:
    """What a container has mounted of the project's folder; one that sees the whole host does not
    read its configuration there."""
    return [
        mount.source
        for mount in container.mounts
        if mount.kind == "bind" and _is_own(mount.source, project.files.working_dir)
    ]


def _has_mounted(container: Container, files: Sequence[Path], project: Project) -> bool:
    sources = _own_mounts(container, project)
    return any(_is_own(str(path), source) for path in files for source in sources)


def _is_own(path: str, folder: str) -> bool:
    return bool(folder) and f"{path}/".startswith(folder.rstrip("/") + "/")


def _small_files(roots: Sequence[Path]) -> Iterator[Path]:
    """Regular files of the roots, links not followed, so many and so large at most."""
    count = 0
    for root in roots:
        for path in [root] if root.is_file() else sorted(root.rglob("*")):
            count += 1
            if count > _FILES_MAX:
                return
            if path.is_symlink() or not path.is_file():
                continue
            with contextlib.suppress(OSError):
                if path.stat().st_size <= _FILE_MAX_BYTES:
                    yield path


def _replace(path: Path, text: str, keep_mode: bool) -> None:
    """In one rename, with the same owner; 0600 for what Compose reads, or as it was for what a
    container reads."""
    status = path.stat()
    mode = status.st_mode & 0o777 if keep_mode else 0o600
    write_atomically(path, text, mode, (status.st_uid, status.st_gid))
