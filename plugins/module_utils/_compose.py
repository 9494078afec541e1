# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a Compose project declares, which service is which component, and what ``up`` would do."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._containers import (
    CONFIG_HASH_LABEL,
    IMAGE_LABEL,
    excerpt,
    image_difference,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._context import (
    DEFAULT_SERVICE_NAMES,
    ComposeService,
    Container,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._log_lines import mask_secrets

WORKING_DIR_LABEL = "com.docker.compose.project.working_dir"
CONFIG_FILES_LABEL = "com.docker.compose.project.config_files"
ENVIRONMENT_FILE_LABEL = "com.docker.compose.project.environment_file"
ONE_SHOT_LABEL = "pynomaly.ops.one_shot"

NONE = "none"
CREATE = "create"
RECREATE = "recreate"
START = "start"
RESTART = "restart"
SCALE = "scale"
REMOVE_ORPHAN = "remove_orphan"


class ComposeFileError(ValueError):
    """What Compose printed is not what this module understands."""


@dataclass(frozen=True)
class ComposeFiles:
    """Where a project comes from; paths as the containers' labels give them."""

    working_dir: str = ""
    config_files: Sequence[str] = ()
    environment_files: Sequence[str] = ()


@dataclass(frozen=True)
class Need:
    """How a service needs another: by sharing a namespace with it, or by C{depends_on}, with or
    without its C{restart}."""

    shares: bool = False
    restart: bool = False


@dataclass(frozen=True)
class ComposeConfig:
    """The parts of ``docker compose config`` that are used; nothing in it is secret.

    ``networks`` and ``volumes`` have the real names of those the project makes itself, by key, and
    ``networks_of`` and ``volumes_of`` the keys that each service uses; ``needs`` has the services
    that each one needs; ``unset_variables`` are the names that were interpolated as nothing.
    """

    services: Mapping[str, ComposeService] = field(default_factory=dict)
    networks: Mapping[str, str] = field(default_factory=dict)
    volumes: Mapping[str, str] = field(default_factory=dict)
    networks_of: Mapping[str, Collection[str]] = field(default_factory=dict)
    volumes_of: Mapping[str, Collection[str]] = field(default_factory=dict)
    needs: Mapping[str, Mapping[str, Need]] = field(default_factory=dict)
    unset_variables: Sequence[str] = ()

    def only(self, services: Mapping[str, ComposeService]) -> ComposeConfig:
        """The same with these services alone, and what they use."""

        def used(section: Mapping[str, str], by: Mapping[str, Collection[str]]) -> dict[str, str]:
            keys = {key for name in services for key in by.get(name, ())}
            return {key: name for key, name in section.items() if key in keys}

        return replace(
            self,
            services=services,
            networks=used(self.networks, self.networks_of),
            volumes=used(self.volumes, self.volumes_of),
        )


# Finding the files


def files_of(containers: Iterable[Mapping[str, str]]) -> ComposeFiles:
    """The project's files, from the labels of its containers, the newest first.

    Labels are comma-separated lists; a relative path is relative to the working directory.
    """
    for labels in containers:
        if CONFIG_FILES_LABEL not in labels and WORKING_DIR_LABEL not in labels:
            continue
        working_dir = labels.get(WORKING_DIR_LABEL, "")
        return ComposeFiles(
            working_dir,
            _paths(labels.get(CONFIG_FILES_LABEL, ""), working_dir),
            _paths(labels.get(ENVIRONMENT_FILE_LABEL, ""), working_dir),
        )
    return ComposeFiles()


def compose_arguments(project: str, files: ComposeFiles) -> list[str]:
    """Arguments that make Compose read the project as it was read when it was started, with every
    profile switched on: which of them is in use is told by the containers."""
    arguments = ["--project-name", project, "--profile", "*"]
    if files.working_dir:
        arguments += ["--project-directory", files.working_dir]
    for path in files.config_files:
        arguments += ["--file", path]
    for path in files.environment_files:
        arguments += ["--env-file", path]
    return arguments


def _paths(text: str, working_dir: str) -> list[str]:
    return [
        path if path.startswith("/") or path == "-" else posixpath.join(working_dir, path)
        for path in text.split(",")
        if path
    ]


# Reading what Compose printed


def parse_config(text: str, stderr: str = "") -> ComposeConfig:
    """What ``docker compose config --format json`` printed. Raises L{ComposeFileError}."""
    try:
        document = json.loads(text)
        services = document["services"] or {}
        jobs = {
            needed
            for definition in services.values()
            for needed, condition in _dependencies(definition)
            if condition == "service_completed_successfully"
        }
        return ComposeConfig(
            services={
                name: _service(name, definition, name in jobs)
                for name, definition in services.items()
            },
            networks=_own(document.get("networks")),
            volumes=_own(document.get("volumes")),
            networks_of={name: set(one.get("networks") or ()) for name, one in services.items()},
            volumes_of={
                name: {
                    mount.get("source")
                    for mount in one.get("volumes") or ()
                    if mount.get("type") == "volume" and mount.get("source")
                }
                for name, one in services.items()
            },
            needs={name: _needs(definition) for name, definition in services.items()},
            unset_variables=unset_variables(stderr),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ComposeFileError(
            f"docker compose config printed something else than a project ({type(error).__name__})"
        ) from error


def _service(name: str, definition: Mapping[str, Any], job: bool) -> ComposeService:
    deploy = definition.get("deploy") or {}
    replicas = definition.get("scale", deploy.get("replicas"))
    labels = definition.get("labels") or {}
    return ComposeService(
        name=name,
        image=str(definition.get("image") or ""),
        replicas=1 if replicas is None else int(replicas),
        one_shot=job or str(labels.get(ONE_SHOT_LABEL, "")).lower() == "true",
        profiles=tuple(definition.get("profiles") or ()),
    )


def _dependencies(definition: Mapping[str, Any]) -> list[tuple[str, str]]:
    needs = definition.get("depends_on") or {}
    if isinstance(needs, Mapping):
        return [(name, str((how or {}).get("condition") or "")) for name, how in needs.items()]
    return [(str(name), "") for name in needs]


def _needs(definition: Mapping[str, Any]) -> dict[str, Need]:
    depends_on = definition.get("depends_on") or {}
    if not isinstance(depends_on, Mapping):
        depends_on = {str(name): {} for name in depends_on}
    found = {
        name: Need(restart=bool((how or {}).get("restart"))) for name, how in depends_on.items()
    }
    for key in ("network_mode", "ipc", "pid"):
        value = str(definition.get(key) or "")
        if value.startswith("service:"):
            found[value[len("service:") :]] = Need(shares=True, restart=True)
    return found


def _own(section: Optional[Mapping[str, Any]]) -> dict[str, str]:
    return {
        key: str((value or {}).get("name") or key)
        for key, value in (section or {}).items()
        if not (value or {}).get("external")
    }


def hashable_config(text: str, container_ids: Mapping[str, str]) -> str:
    """The printed configuration as ``up`` hashes it, to be given back to ``config --hash``.

    Hashing the file itself misses what ``up`` resolves first: env_file becomes environment, and
    a namespace shared with a service becomes one shared with that service's first container
    (measured with Compose 2.26: with this, hashes equal the containers' labels).
    """
    document = json.loads(text)
    for definition in document["services"].values():
        for key in ("network_mode", "ipc", "pid"):
            value = str(definition.get(key) or "")
            shared = container_ids.get(value[len("service:") :])
            if value.startswith("service:") and shared:
                definition[key] = f"container:{shared}"
    return json.dumps(document)


def parse_hashes(text: str) -> dict[str, str]:
    """``docker compose config --hash '*'``: a service and its hash on each line."""
    pairs = (line.split() for line in text.splitlines())
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}


def unset_variables(stderr: str) -> list[str]:
    """Names of the variables Compose warned about."""
    found = re.findall(r'The \\?"(\w+)\\?" variable is not set', stderr)
    return sorted(set(found))


def error_text(stderr: str) -> str:
    """The first line of Compose's complaint that says something, fit to be shown: an
    interpolation error would quote the value."""
    for line in stderr.splitlines():
        text = line.strip()
        if not text or re.match(r"time=\S+ level=(?:warning|info|debug) ", text):
            continue
        text = re.sub(r"(invalid interpolation format for [^:]+:).*", r"\1 the value", text)
        return excerpt(mask_secrets(text), 300)
    return "docker compose config failed and said nothing"


def active_services(
    services: Mapping[str, ComposeService], present: Collection[str], profiles: Collection[str] = ()
) -> dict[str, ComposeService]:
    """The services that count: without profiles, with one that is on, or with a container."""
    return {
        name: service
        for name, service in services.items()
        if not service.profiles
        or name in present
        or any(profile in profiles or "*" in profiles for profile in service.profiles)
    }


def image_reference(project: str, service: ComposeService) -> str:
    """The image of a service; one that is only built gets ``PROJECT-SERVICE`` from Compose."""
    return service.image or f"{project}-{service.name}"


# Which service is which component

_IMAGES: Mapping[str, re.Pattern[str]] = {
    "postgres": re.compile(
        r"postgres|postgresql|timescaledb(-ha)?|postgis|(postgres-)?pgvector|postgresql-repmgr"
        r"|crunchy-postgres(-gis)?|citus|spilo(-\d+)?|paradedb"
    ),
    "redis": re.compile(
        r"redis|redis-cluster|redis-stack(-server)?|valkey(-cluster|-bundle)?|keydb|dragonfly"
        r"|redict"
    ),
    "nginx": re.compile(r"nginx|nginx-unprivileged|nginx-plus|openresty|angie|freenginx|tengine"),
    "prometheus": re.compile(r"prometheus"),
    "alertmanager": re.compile(r"alertmanager"),
    "grafana": re.compile(r"grafana(-oss|-enterprise)?"),
}
#: What the official images' environment and exposed ports give away, for images built on them.
_MARKS: Mapping[str, tuple[str, int]] = {
    "postgres": ("PGDATA", 5432),
    "redis": ("REDIS_VERSION", 6379),
    "nginx": ("NGINX_VERSION", 80),
    "grafana": ("GF_PATHS_CONFIG", 3000),
}
_SIDEKICK = re.compile(
    r"exporter|backup|replica|standby|slave|sentinel|admin|commander|insight|bouncer|migrat"
    r"|worker|beat|scheduler|cron|flower|init\b|seed|renderer"
)
_API_NAME = re.compile(r"(^|[-_])(api|app|web|backend)($|[-_\d])|api")


def image_component(reference: str) -> Optional[str]:
    """The component that an image is of, by the last part of its repository."""
    base = reference.partition("@")[0].rpartition("/")[2].partition(":")[0].lower()
    return next((name for name, known in _IMAGES.items() if known.fullmatch(base)), None)


def identify_components(
    services: Mapping[str, ComposeService],
    containers: Mapping[str, Sequence[Container]],
    names: Optional[Mapping[str, str]] = None,
) -> dict[str, str]:
    """Which service plays which component.

    ``names`` (component to service) wins where the project has such a service, then the runbook's
    names, then the image, then what the official image leaves in a container's environment. The
    API has an image of its own and is told by its service's name, or by having a DATABASE_URL.
    """
    project = sorted(set(services) | set(containers))
    found: dict[str, str] = {}
    for component, name in (names or {}).items():
        if name in project:
            found[component] = name
    by_image = {name: _component_of(name, services, containers) for name in project}
    for component, default in DEFAULT_SERVICE_NAMES.items():
        if component in found:
            continue
        free = [name for name in project if name not in found.values()]
        if component == "api":
            candidates = [name for name in free if by_image[name] is None]
            candidates = _api_candidates(candidates, services, containers)
        else:
            candidates = [name for name in free if by_image[name] == component]
            candidates.sort(key=lambda name: (bool(_SIDEKICK.search(name)), component not in name))
        if default in free and by_image[default] in (None, component):
            candidates.insert(0, default)
        if candidates:
            found[component] = candidates[0]
    return found


def _component_of(
    name: str,
    services: Mapping[str, ComposeService],
    containers: Mapping[str, Sequence[Container]],
) -> Optional[str]:
    references = [services[name].image] if name in services else []
    references += [container.image for container in containers.get(name, ())]
    for reference in references:
        component = image_component(reference)
        if component:
            return component
    if any(_SIDEKICK.search(text) for text in (name, *references)):
        return None
    for container in containers.get(name, ()):
        for component, (variable, port) in _MARKS.items():
            if variable in container.environment and port in container.exposed_ports:
                return component
    return None


def _api_candidates(
    names: Iterable[str],
    services: Mapping[str, ComposeService],
    containers: Mapping[str, Sequence[Container]],
) -> list[str]:
    ranked = []
    for name in names:
        service = services.get(name)
        if _SIDEKICK.search(name) or (service is not None and service.one_shot):
            continue
        images = [service.image if service else ""]
        images += [container.image for container in containers.get(name, ())]
        if any(_SIDEKICK.search(image) for image in images):
            continue
        named = bool(_API_NAME.search(name))
        database = any(
            variable in container.environment
            for container in containers.get(name, ())
            for variable in ("DATABASE_URL", "DATABASE_URL_FILE")
        )
        if named or database:
            rank = (not database, not named, "api" not in name, name)
            ranked.append((rank, name))
    return [name for _rank, name in sorted(ranked)]


# What `up` would do


#: What ``up`` does to a service that needs a recreated one, from which version of Compose on:
#: docker/compose#12122 (2.29.3) restarts what was recreated until then, #12649 (2.35.0) only where
#: ``depends_on`` says ``restart: true``. That 2.26.1 recreates, and what that needs in turn, was
#: measured.
_DEPENDENTS = (((2, 35, 0), NONE), ((2, 29, 3), RESTART), ((0, 0, 0), RECREATE))


def action_on_dependents(compose_version: str) -> str:
    """Recreate, restart, or none but for those that ask for a restart; that of the newest Compose
    for a version that is none."""
    match = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?", compose_version)
    if match is None:
        return _DEPENDENTS[0][1]
    version = tuple(int(number or 0) for number in match.groups())
    return next(action for since, action in _DEPENDENTS if version >= since)


@dataclass(frozen=True)
class PlanStep:
    """One service's part: ``action`` is none, create, recreate, start, restart, scale or
    remove_orphan."""

    service: str
    action: str
    reason: str


def plan(
    config: ComposeConfig,
    containers: Mapping[str, Sequence[Container]],
    networks: Collection[str],
    volumes: Collection[str],
    *,
    remove_orphans: bool = False,
    on_dependents: str = NONE,
) -> list[PlanStep]:
    """What ``docker compose up --detach`` would do, a step for each service in its file's order,
    then networks and volumes to be created, then orphans (none without ``remove_orphans``).

    Follows Compose's own rule of divergence: the hash of the configuration in the container's
    label against the file's, and the image's id in the label against what the reference names.
    ``on_dependents`` is from L{action_on_dependents}.
    """
    steps = [
        PlanStep(f"network {key}", CREATE, f"network {name} does not exist")
        for key, name in config.networks.items()
        if name not in networks
    ]
    steps += [
        PlanStep(f"volume {key}", CREATE, f"volume {name} does not exist")
        for key, name in config.volumes.items()
        if name not in volumes
    ]
    own = {
        name: _service_step(service, containers.get(name, ()))
        for name, service in config.services.items()
    }
    present = {name for name, members in containers.items() if members}
    steps += _with_dependents(own, config.needs, present, on_dependents)
    for name in sorted(set(containers) - set(config.services)):
        members = ", ".join(container.name for container in containers[name])
        steps.append(
            PlanStep(
                name,
                REMOVE_ORPHAN if remove_orphans else NONE,
                f"{members}: the Compose file has no such service"
                + ("" if remove_orphans else ", orphans are kept"),
            )
        )
    return steps


def changes(steps: Iterable[PlanStep]) -> bool:
    """Whether any step does something."""
    return any(step.action != NONE for step in steps)


def _with_dependents(
    own: Mapping[str, PlanStep],
    needs: Mapping[str, Mapping[str, Need]],
    present: Collection[str],
    on_dependents: str,
) -> list[PlanStep]:
    """The steps, with what the recreation of one does to those that need it and have containers."""
    steps = dict(own)
    pending = [name for name, step in own.items() if step.action == RECREATE]
    while pending:
        recreated = pending.pop(0)
        for name, step in list(steps.items()):
            need = needs.get(name, {}).get(recreated)
            if need is None or name not in present or step.action == RECREATE:
                continue
            reason = f"it needs {recreated}, which is recreated"
            if need.shares or on_dependents == RECREATE:
                steps[name] = PlanStep(name, RECREATE, reason)
                pending.append(name)
            elif step.action == NONE and (need.restart or on_dependents == RESTART):
                steps[name] = PlanStep(name, RESTART, reason)
    return list(steps.values())


def _service_step(service: ComposeService, containers: Sequence[Container]) -> PlanStep:
    # Compose removes what is too much first, and does not recreate that.
    kept = sorted(containers, key=lambda one: one.number)[: max(service.replicas, 0)]
    reasons = [reason for reason in (divergence(service, one) for one in kept) if reason]
    idle = [one for one in kept if one.state in ("created", "exited", "dead", "paused")]
    if not containers and service.replicas:
        action, reason = CREATE, "it has no container"
    elif reasons:
        action, reason = RECREATE, reasons[0]
    elif len(containers) != service.replicas:
        action = SCALE
        reason = f"{len(containers)} containers, expected {service.replicas}"
    elif idle:
        action, reason = START, f"{idle[0].name} is {idle[0].state}"
        if service.one_shot and idle[0].state == "exited":
            reason += ", and up runs a one-off job again"
    else:
        action, reason = NONE, "as the Compose file says"
    return PlanStep(service.name, action, reason)


def divergence(service: ComposeService, container: Container) -> str:
    """Why Compose would recreate a container, empty where it would not."""
    made_of = container.labels.get(CONFIG_HASH_LABEL, "")
    difference = image_difference(service, replace(container, image_id=""))
    if difference:
        return difference
    if service.config_hash and made_of != service.config_hash:
        return f"{container.name}: its configuration changed"
    image_id = container.labels.get(IMAGE_LABEL) or container.image_id
    if service.image_id and image_id != service.image_id:
        return (
            f"{container.name}: its image changed from {_short(image_id)} "
            f"to {_short(service.image_id)}"
        )
    if service.image and not service.image_id:
        return f"{container.name}: {service.image} is not on this host and would be pulled"
    return ""


def _short(image_id: str) -> str:
    return image_id.rpartition(":")[2][:12]
