# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a deployment did, and how it is undone, for the journal."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

#: What Compose says of containers, by what became of them. Starting follows each of the others.
_VERBS = (
    ("recreated", ("Recreate", "Recreating", "Recreated")),
    ("created", ("Creating", "Created")),
    ("removed", ("Removing", "Removed")),
    ("stopped", ("Stopping", "Stopped")),
    ("started", ("Starting", "Started", "Restarting")),
)
_FILES_SHOWN = 4
_DEFAULT_PROJECT = "pynomaly"


@dataclass(frozen=True)
class Deployment:
    """``images_before`` has the image of each service that had a container, ``images`` those of
    the file, and ``image_variables`` the variable that each is set with. ``actions`` is what
    C{community.docker.docker_compose_v2} returned."""

    project: str
    project_dir: str
    host: str
    images_before: Mapping[str, str] = field(default_factory=dict)
    images: Mapping[str, str] = field(default_factory=dict)
    image_variables: Mapping[str, str] = field(default_factory=dict)
    changed_files: Sequence[str] = ()
    actions: Sequence[Mapping[str, Any]] = ()
    reloaded: Sequence[str] = ()


def summary(deployment: Deployment) -> str:
    """What was changed, in a sentence."""
    parts = [
        f"{verb} {', '.join(services)}"
        for verb, services in _by_verb(deployment).items()
        if services
    ]
    files = deployment.changed_files
    if files:
        more = f" and {len(files) - _FILES_SHOWN} more" if len(files) > _FILES_SHOWN else ""
        parts.append(f"wrote {', '.join(files[:_FILES_SHOWN])}{more}")
    if deployment.reloaded:
        parts.append(f"reloaded {', '.join(deployment.reloaded)}")
    return "; ".join(parts) or "nothing to do"


def undo(deployment: Deployment) -> str:
    """The command that brings back what was there before; empty where nothing was changed.

    Of the variables of before only the images are known here; a comment says so of the others.
    """
    if not (deployment.changed_files or any(_by_verb(deployment).values())):
        return ""
    if not deployment.images_before:
        return f"docker compose --project-directory {deployment.project_dir} down"
    words = ["ansible-playbook", "pynomaly.ops.deploy", "-l", deployment.host]
    if deployment.project != _DEFAULT_PROJECT:
        words += ["-e", f"pynomaly_project_name={deployment.project}"]
    for service, variable in sorted(deployment.image_variables.items()):
        before = deployment.images_before.get(service)
        if before and before != deployment.images.get(service):
            words += ["-e", f"{variable}={before}"]
    return f"{' '.join(words)}  # with all other variables as they were before"


def _by_verb(deployment: Deployment) -> dict[str, list[str]]:
    """The services by what became of their containers, each once, under the first that holds."""
    found: dict[str, list[str]] = {verb: [] for verb, _statuses in _VERBS}
    seen: set[str] = set()
    for verb, statuses in _VERBS:
        services = {
            _service(str(action.get("id", "")), deployment.project)
            for action in deployment.actions
            if action.get("what") == "container" and action.get("status") in statuses
        }
        found[verb] = sorted(services - seen)
        seen |= services
    return found


def _service(container: str, project: str) -> str:
    """The service of a container by its name; while Compose recreates it, the name has a prefix."""
    name = re.sub(r"^[0-9a-f]{12}_", "", container)
    match = re.match(rf"{re.escape(project)}-(.+)-\d+\Z", name)
    return match.group(1) if match else name
