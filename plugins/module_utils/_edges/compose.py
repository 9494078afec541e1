# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Finding a Compose project on the host, by its containers' labels and its own files.

Nothing here calls ``up``, not even with ``--dry-run``, which has been seen to recreate containers.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._compose import (
    ComposeConfig,
    ComposeFileError,
    ComposeFiles,
    active_services,
    compose_arguments,
    error_text,
    files_of,
    hashable_config,
    identify_components,
    image_reference,
    parse_config,
    parse_hashes,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._containers import (
    SERVICE_LABEL,
    by_service,
    container_number,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._context import (
    CheckSettings,
    Container,
    Stack,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.command import (
    CommandError,
    CommandResult,
    run_command,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.docker import (
    Engine,
    EngineError,
    list_project,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._scheduler import CollectorError

#: Where Docker looks for plugins, besides ~/.docker.
_PLUGIN_FOLDERS = (
    "/usr/local/lib/docker/cli-plugins",
    "/usr/local/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/libexec/docker/cli-plugins",
)

#: An engine that takes longer to list containers is not waited for to read ahead.
_AHEAD_SECONDS = 1.0

ONE_OFF_LABEL = "com.docker.compose.oneoff"


@dataclass(frozen=True)
class Project:
    """A project in full: ``config`` is C{None} where its files cannot be read, ``error`` says why.
    ``config`` has the services that count, with image ids and hashes."""

    name: str
    files: ComposeFiles
    config: Optional[ComposeConfig]
    containers: Mapping[str, Sequence[Container]]
    error: str = ""


def discover(
    engine: Engine,
    project_name: str,
    settings: CheckSettings,
    names: Optional[Mapping[str, str]] = None,
    reader: Optional[Reader] = None,
) -> Stack:
    """The stack of a project; without containers where the engine has no such project.

    ``names`` maps components to services, where the user knows better than
    L{identify_components}; ``reader`` is from L{read_ahead}. Raises L{EngineError} where the
    engine does not answer.
    """
    project = load_project(engine, project_name, settings.call_timeout_seconds, reader=reader)
    services = project.config.services if project.config else {}
    return Stack(
        project=project.name,
        working_dir=project.files.working_dir,
        config_files=tuple(project.files.config_files),
        environment_files=tuple(project.files.environment_files),
        services=services,
        containers=project.containers,
        components=identify_components(services, project.containers, names),
        compose_error=project.error,
    )


def load_project(
    engine: Engine,
    project_name: str,
    timeout_seconds: float,
    files: Optional[ComposeFiles] = None,
    reader: Optional[Reader] = None,
) -> Project:
    """Containers from the engine and services from the files, read at the same time.

    ``files`` is for a project that may have no containers yet; otherwise their labels tell.
    ``reader`` is from L{read_ahead}, and counts where what it was told still holds.
    Raises L{EngineError}.
    """
    summaries = _without_one_offs(engine.summaries(project_name))
    if not summaries and files is None:
        return Project(project_name, ComposeFiles(), None, {})
    wanted = _reader(project_name, summaries, timeout_seconds, files)
    if reader is None or reader.question != wanted.question:
        reader = wanted
        reader.start()
    where = reader.files
    containers = by_service(engine.inspect(summaries))
    config, error = reader.result()
    if config is None:
        return Project(project_name, where, None, containers, error)
    profiles = [text.strip() for text in os.environ.get("COMPOSE_PROFILES", "").split(",") if text]
    active = active_services(config.services, containers, profiles)
    references = {name: image_reference(project_name, one) for name, one in active.items()}
    image_ids = engine.image_ids(references.values())
    services = {
        name: replace(one, image_id=image_ids[references[name]]) for name, one in active.items()
    }
    return Project(project_name, where, config.only(services), containers, error)


def read_ahead(project_name: str, timeout_seconds: float) -> Optional[Reader]:
    """Start reading the files of a running project before an engine is opened, since Compose takes
    about as long as the SDK's import. C{None} where there is nothing to read or no engine answers,
    of which L{load_project} tells."""
    try:
        limit_seconds = min(timeout_seconds, _AHEAD_SECONDS)
        summaries = _without_one_offs(list_project(project_name, limit_seconds))
    except EngineError:
        return None
    if not summaries:
        return None
    reader = _reader(project_name, summaries, timeout_seconds)
    reader.start()
    return reader


def _without_one_offs(summaries: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [
        summary
        for summary in summaries
        if str(summary["Labels"].get(ONE_OFF_LABEL, "False")).lower() != "true"
    ]


def _reader(
    project_name: str,
    summaries: Sequence[Mapping[str, Any]],
    timeout_seconds: float,
    files: Optional[ComposeFiles] = None,
) -> Reader:
    newest_first = sorted(summaries, key=lambda one: one.get("Created") or 0, reverse=True)
    where = files or files_of(summary["Labels"] for summary in newest_first)
    first_ids = {
        summary["Labels"].get(SERVICE_LABEL, ""): summary["Id"]
        for summary in sorted(summaries, key=container_number, reverse=True)
    }
    return Reader(project_name, where, first_ids, timeout_seconds)


class Reader(threading.Thread):
    """Reads the project's files while the engine is asked for the containers."""

    def __init__(
        self,
        project: str,
        files: ComposeFiles,
        container_ids: Mapping[str, str],
        timeout_seconds: float,
    ) -> None:
        super().__init__(name=f"compose:{project}", daemon=True)
        self.files = files
        self._project = project
        self._container_ids = container_ids
        self._timeout_seconds = timeout_seconds
        self._answer: tuple[Optional[ComposeConfig], str] = (None, "docker compose did not answer")

    @property
    def question(self) -> tuple[str, ComposeFiles, Mapping[str, str]]:
        """All that the answer depends on, besides the files themselves."""
        return self._project, self.files, self._container_ids

    def run(self) -> None:
        try:
            config = read_config(
                self._project, self.files, self._container_ids, self._timeout_seconds
            )
        except CollectorError as error:
            self._answer = None, str(error)
        else:
            self._answer = config, ""

    def result(self) -> tuple[Optional[ComposeConfig], str]:
        self.join(self._timeout_seconds * 2 + 1.0)
        return self._answer


def read_config(
    project: str, files: ComposeFiles, container_ids: Mapping[str, str], timeout_seconds: float
) -> ComposeConfig:
    """What the project's files say, with each service's hash. Raises L{CollectorError}.

    ``container_ids`` has each service's first container. The environment a project was started
    with is not on record: where the files name variables that nobody sets, hashes would be
    compared in vain, and are left empty.
    """
    _check_files(files)
    command = compose_command()
    arguments = [*compose_arguments(project, files), "config", "--format", "json"]
    answer = _run([*command, *arguments], timeout_seconds)
    try:
        config = parse_config(answer.stdout, answer.stderr)
    except ComposeFileError as error:
        raise CollectorError(str(error)) from error
    if config.unset_variables:
        return config
    resolved = replace(files, config_files=("-",))
    hashed = _run(
        [*command, *compose_arguments(project, resolved), "config", "--hash", "*"],
        timeout_seconds,
        hashable_config(answer.stdout, container_ids),
    )
    hashes = parse_hashes(hashed.stdout)
    return replace(
        config,
        services={
            name: replace(service, config_hash=hashes.get(name, ""))
            for name, service in config.services.items()
        },
    )


def _check_files(files: ComposeFiles) -> None:
    if not files.config_files and not files.working_dir:
        raise CollectorError("the containers' labels name no Compose file")
    for path in files.config_files:
        if path == "-":
            raise CollectorError("the project was read from standard input, there is no file")
        if not Path(path).exists():
            raise CollectorError(f"the Compose file {path} is gone")
    if files.working_dir and not Path(files.working_dir).is_dir():
        raise CollectorError(f"the project's folder {files.working_dir} is gone")
    for path in files.environment_files:
        if not Path(path).exists():
            raise CollectorError(f"the environment file {path} is gone")


def compose_version(timeout_seconds: float) -> str:
    """The version of Compose on this host. Raises L{CollectorError} where there is none."""
    return _run([*compose_command(), "version", "--short"], timeout_seconds).stdout.strip()


def compose_command() -> list[str]:
    """The Compose plugin itself where it can be found, which starts in half the time, or else
    ``docker compose``."""
    home = os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")  # noqa: PTH111
    for folder in (f"{home}/cli-plugins", *_PLUGIN_FOLDERS):
        plugin = f"{folder}/docker-compose"
        if os.access(plugin, os.X_OK):
            return [plugin]
    return ["docker", "compose"]


def _run(argv: Sequence[str], timeout_seconds: float, stdin: Optional[str] = None) -> CommandResult:
    try:
        result = run_command(argv, timeout_seconds, stdin=stdin)
    except CommandError as error:
        if error.missing:
            raise CollectorError(
                "Docker Compose is not installed", "ansible-playbook pynomaly.ops.prepare"
            ) from error
        raise CollectorError(f"docker compose: {error}") from error
    if result.exit_code == 0:
        return result
    if "compose" in result.stderr and (
        "is not a docker command" in result.stderr or "unknown command" in result.stderr
    ):
        raise CollectorError(
            "the Docker Compose plugin is not installed", "ansible-playbook pynomaly.ops.prepare"
        )
    raise CollectorError(error_text(result.stderr))
