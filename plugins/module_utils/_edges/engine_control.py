# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What changes the engine's containers. Reading alone is C{docker.Engine}, which cannot."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Mapping, Sequence
from typing import Any, Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._edges.docker import (
    PROJECT_LABEL,
    Engine,
    EngineError,
)

_ARCHIVE_CHUNK_BYTES = 1024 * 1024


class EngineControl(Engine):
    """An engine whose containers are made, started and removed. Raises L{EngineError}."""

    def create(
        self,
        *,
        image: str,
        entrypoint: Sequence[str],
        command: Sequence[str],
        environment: Mapping[str, str],
        user: str,
        labels: Mapping[str, str],
        network_mode: str,
        binds: Sequence[str],
    ) -> str:
        """Make a container that is never restarted; returns its id."""
        with self._calling(f"creating a container of {image}"):
            client = self._client()
            created = client.create_container(
                image=image,
                entrypoint=list(entrypoint),
                command=list(command),
                environment=dict(environment),
                user=user or None,
                labels=dict(labels),
                host_config=client.create_host_config(binds=list(binds), network_mode=network_mode),
            )
        return str(created["Id"])

    def start(self, container_id: str) -> None:
        with self._calling("starting a container"):
            self._client().start(container_id)

    def stop(self, container_id: str, timeout_seconds: int) -> None:
        """Stop it, killed after ``timeout_seconds`` where it has not ended."""
        with self._calling("stopping a container"):
            self._client().stop(container_id, timeout=timeout_seconds)

    def restart(self, container_id: str, timeout_seconds: int) -> None:
        """Stop it, killed after ``timeout_seconds`` where it has not ended, and start it again."""
        with self._calling("restarting a container"):
            self._client().restart(container_id, timeout=timeout_seconds)

    def unpause(self, container_id: str) -> None:
        with self._calling("unpausing a container"):
            self._client().unpause(container_id)

    def inspection(self, container_id: str) -> Mapping[str, Any]:
        """All that the engine says of a container (``GET /containers/ID/json``), secrets too."""
        with self._calling("inspect"):
            return dict(self._client().inspect_container(container_id))

    def events(
        self, project: str, since_seconds: float, until_seconds: float
    ) -> list[Mapping[str, Any]]:
        """What happened to a project's containers between two times (seconds since 1970), oldest
        first, as far as the engine remembers: 256 events, and none from before it was started."""
        filters = {"type": "container", "label": f"{PROJECT_LABEL}={project}"}
        with self._calling("events"):
            return list(
                self._client().events(
                    since=int(since_seconds), until=int(until_seconds), filters=filters, decode=True
                )
            )

    def network_ids(self) -> Mapping[str, str]:
        """Every network's id by its name."""
        with self._calling("network list"):
            return {str(one["Name"]): str(one["Id"]) for one in self._client().networks()}

    def disconnect(self, network: str, container_id: str) -> None:
        """Take a container, running or not, off a network (an id or a name)."""
        with self._calling("disconnecting a container"):
            self._client().disconnect_container_from_network(container_id, network)

    def connect(
        self,
        network: str,
        container_id: str,
        *,
        aliases: Sequence[str] = (),
        ipv4_address: str = "",
        ipv6_address: str = "",
        links: Sequence[str] = (),
        driver_options: Optional[Mapping[str, str]] = None,
    ) -> None:
        """Put a container on a network (an id or a name); empty is the engine's own choice."""
        with self._calling("connecting a container"):
            self._client().connect_container_to_network(
                container_id,
                network,
                aliases=list(aliases) or None,
                ipv4_address=ipv4_address or None,
                ipv6_address=ipv6_address or None,
                links=dict(link.split(":", 1) for link in links if ":" in link) or None,
                driver_opt=dict(driver_options or {}) or None,
            )

    def wait(
        self,
        container_id: str,
        timeout_seconds: float,
        cancelled: Optional[threading.Event] = None,
    ) -> int:
        """The exit code of a container once it has ended.

        Where it does not end in time, or ``cancelled`` is set before, L{EngineError} is raised and
        the container left as it is.
        """
        deadline = time.monotonic() + timeout_seconds
        pause_seconds = 0.02
        while True:
            with self._calling("inspect"):
                state: Mapping[str, Any] = self._client().inspect_container(container_id)["State"]
            if state["Status"] in ("exited", "dead"):
                return int(state["ExitCode"])
            if time.monotonic() >= deadline:
                raise EngineError(f"the command did not end within {timeout_seconds:g} s")
            if cancelled is None:
                time.sleep(pause_seconds)
            elif cancelled.wait(pause_seconds):
                raise EngineError("the command was cancelled")
            pause_seconds = min(pause_seconds * 1.5, 0.5)

    def output(self, container_id: str, max_bytes: int) -> tuple[str, str]:
        """The last lines of a container's standard output and standard error."""
        outputs = []
        for stdout in (True, False):
            with self._calling("reading a container's output"):
                raw: bytes = self._client().logs(
                    container_id, stdout=stdout, stderr=not stdout, tail=2000
                )
            outputs.append(raw[-max_bytes:].decode("utf-8", errors="replace"))
        return outputs[0], outputs[1]

    def remove(self, container_id: str) -> None:
        """Kill and remove a container with its anonymous volumes; one that is gone is well gone."""
        try:
            with self._calling("removing a container"):
                self._client().remove_container(container_id, v=True, force=True)
        except EngineError as error:
            if error.status_code not in (404, 409):  # 409: its removal is under way
                raise

    def containers_with_label(self, label: str) -> Sequence[str]:
        """Ids of all containers, running or not, that have a label (C{NAME} or C{NAME=VALUE})."""
        with self._calling("container list"):
            found = self._client().containers(all=True, filters={"label": label})
        return [str(one["Id"]) for one in found]

    def archive(self, container_id: str, path: str) -> Generator[bytes, None, None]:
        """A tar archive of a path inside a container, running or not, in chunks.

        To be closed where it is not read to its end: until then the engine does nothing else with
        the container (seen with Docker 20.10: exec waits).
        """
        with self._calling(f"reading {path}"):
            stream, _status = self._client().get_archive(
                container_id, path, chunk_size=_ARCHIVE_CHUNK_BYTES
            )
        with self._calling(f"reading {path}"):
            yield from stream

    def put_archive(self, container_id: str, folder: str, archive: bytes) -> None:
        """Unpack a tar archive into a folder inside a container."""
        with self._calling(f"writing to {folder}"):
            self._client().put_archive(container_id, folder, archive)
