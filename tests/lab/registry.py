# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lab's registry: the nodes pull from it, and it keeps what was built between two runs."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

from lab import network
from lab.cache import NAME, folder, short_hash
from lab.engine import LABEL, MARK, docker, inspect, refuse_foreign
from lab.shell import LabError, step, wait_until

if TYPE_CHECKING:
    import ipaddress

CONTAINER = f"{NAME}-registry"
PORT = 5000
MIRROR = f"{CONTAINER}:{PORT}"
"""How the nodes' engines call it."""

_MANIFEST_TYPES = ", ".join(
    (
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.oci.image.index.v1+json",
    )
)
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def start(image: str, image_hash: str, subnet: ipaddress.IPv4Network) -> None:
    """Run the registry from ``image``; its storage is in the cache and outlives it."""
    arguments = [
        f"--name={CONTAINER}",
        f"--hostname={CONTAINER}",
        f"--label={MARK}",
        f"--network={NAME}",
        f"--ip={network.registry_address(subnet)}",
        f"--publish=127.0.0.1::{PORT}",
        f"--volume={folder('registry')}:/var/lib/registry",
        f"--user={os.getuid()}:{os.getgid()}",
    ]
    wanted = short_hash(image_hash, *arguments)
    found = refuse_foreign("container", CONTAINER)
    if found is not None and found["Config"]["Labels"].get(f"{LABEL}.made-from") != wanted:
        docker("rm", "--force", "--volumes", CONTAINER)
        found = None
    if found is None:
        with step("started the registry"):
            docker("run", "--detach", *arguments, f"--label={LABEL}.made-from={wanted}", image)
    elif not found["State"]["Running"]:
        with step("started the registry again"):
            docker("start", CONTAINER)
    wait_until(
        _answers,
        what="The lab's registry",
        deadline_seconds=30,
        hint=f"See: docker logs {CONTAINER}",
    )


def is_running() -> bool:
    """Say whether the registry's container runs."""
    found = inspect("container", CONTAINER)
    return found is not None and bool(found["State"]["Running"])


def host() -> str:
    """Return ``address:port`` of the registry for this machine's engine."""
    return docker("port", CONTAINER, str(PORT)).splitlines()[0]


def digest(name: str) -> str | None:
    """Return the digest of ``repository:tag`` in the registry, or None where it has none."""
    repository, tag = name.rsplit(":", 1)
    request = urllib.request.Request(
        f"http://{host()}/v2/{repository}/manifests/{tag}",
        method="HEAD",
        headers={"Accept": _MANIFEST_TYPES},
    )
    try:
        with _opener.open(request, timeout=10) as answer:
            found: str | None = answer.headers["Docker-Content-Digest"]
            return found
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise LabError(f"The lab's registry answered {error.code} for {name}.") from error
    except OSError as error:
        raise LabError(f"The lab's registry does not answer for {name}: {error}.") from error


def push(image: str, name: str) -> None:
    """Store the engine's ``image`` in the registry as ``repository:tag``."""
    full_name = f"{host()}/{name}"
    docker("tag", image, full_name)
    try:
        docker("push", "--quiet", full_name, timeout_seconds=600)
    finally:
        docker("rmi", full_name, check=False)


def pull(name: str, image: str) -> None:
    """Fetch ``repository:tag`` from the registry and give it the engine's name ``image``."""
    full_name = f"{host()}/{name}"
    docker("pull", "--quiet", full_name, timeout_seconds=600)
    try:
        docker("tag", full_name, image)
    finally:
        docker("rmi", full_name, check=False)


def _answers() -> bool:
    try:
        with _opener.open(f"http://{host()}/v2/", timeout=5) as answer:
            return bool(answer.status == 200)
    except (OSError, LabError):
        return False
