# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A file of ours inside the server blocks of a running nginx: found, tested apart, put in place,
and asked for on nginx's own ports."""

from __future__ import annotations

import contextlib
import io
import socket
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._context import Container
from ansible_collections.pynomaly.ops.plugins.module_utils._edges import nginx_control
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.docker import Engine
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.engine_control import (
    EngineControl,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.files import (
    sync_directory,
    write_atomically,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.helper_container import (
    HELPER_LABEL,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.http import (
    Deadline,
    Response,
    get,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._endpoints import Address, endpoints
from ansible_collections.pynomaly.ops.plugins.module_utils._http import Endpoint
from ansible_collections.pynomaly.ops.plugins.module_utils._nginx import failure_of_test
from ansible_collections.pynomaly.ops.plugins.module_utils._nginx_hook import (
    Front,
    Hook,
    HookError,
    NoHookError,
    find_hook,
)

CALL_SECONDS = 5.0
RELOAD_SECONDS = 5.0
LOOK_SECONDS = 2.0
#: What a file of ours answers comes at once; a request that takes longer has gone on to the API.
LOOK_BEHIND_SECONDS = 1.0

_CONNECT_SECONDS = 1.0
_HELPER_SECONDS = 20.0
_TEST_FOLDER = "/pynomaly-test"
_TEST_CONFIGURATION = f"""\
pid /dev/null;
error_log stderr;
events {{ }}
http {{
    access_log off;
    server {{
        listen 127.0.0.1:8080;
        include {_TEST_FOLDER}/fragment;
    }}
}}
"""

#: Called with a step's name before it is taken.
Step = Callable[[str], None]


def no_step(_name: str) -> None:
    pass


@dataclass(frozen=True)
class Site:
    """A running nginx: where the file belongs, and where nginx is asked. ``dump`` is the output of
    C{nginx -T}."""

    container: Container
    hook: Hook
    fronts: Sequence[tuple[Front, Address]]
    dump: str = ""

    def ask(
        self,
        front: Front,
        address: Address,
        path: str,
        seconds: float,
        headers: Optional[Mapping[str, str]] = None,
    ) -> Response:
        """One request. Raises C{HttpError}."""
        endpoint = Endpoint(
            scheme="https" if front.tls else "http",
            host=address[0],
            port=address[1],
            server_name=front.server_name or None,
        )
        return get(endpoint, path, Deadline(seconds), headers or {})


def find_sites(engine: Engine, running: Sequence[Container], stem: str) -> list[Site]:
    """Where a file whose name has ``stem`` in it belongs, for each of the containers.

    Raises L{NoHookError} where there is no place for it, L{HookError} for a configuration that is
    broken already and for an nginx that cannot be asked, and C{EngineError}.
    """
    sites = []
    for container in running:
        try:
            dump = nginx_control.read_configuration(engine, container, CALL_SECONDS)
        except nginx_control.NginxError as error:
            raise HookError(
                f"nginx's configuration is broken already, nothing was changed: {error}", error.hint
            ) from error
        hook = find_hook(dump, container, stem)
        folder = Path(hook.file).parent
        if not folder.is_dir():
            raise NoHookError(
                f"{folder} is no folder on this host, expected the one that nginx reads"
            )
        fronts = [
            (front, address)
            for front in hook.fronts
            for address in _answering(endpoints(container, front.port))
        ]
        if not fronts:
            ports = ", ".join(str(front.port) for front in hook.fronts) or "none"
            raise HookError(
                f"nginx in {container.name} cannot be asked what it serves: seen ports {ports}, "
                "expected one that accepts connections from this host",
                f"docker logs --tail 20 {container.name}",
            )
        sites.append(Site(container, hook, fronts, dump))
    return sites


def _answering(addresses: Sequence[Address]) -> Iterator[Address]:
    """The first that accepts a connection."""
    for address in addresses:
        try:
            socket.create_connection(address, timeout=_CONNECT_SECONDS).close()
        except OSError:
            continue
        yield address
        return


def files_of(sites: Sequence[Site]) -> list[Path]:
    return list(dict.fromkeys(Path(site.hook.file) for site in sites))


def read_file(file: Path) -> Optional[str]:
    """Its text; C{None} where there is no such file. Raises C{OSError}."""
    with contextlib.suppress(FileNotFoundError):
        return file.read_text()
    return None


def place_file(file: Path, text: Optional[str]) -> None:
    """Write a file as a whole, or with C{None} remove it. Raises C{OSError}."""
    if text is not None:
        write_atomically(file, text, 0o644)
        return
    file.unlink(missing_ok=True)
    sync_directory(file.parent)


def test_apart(engine: EngineControl, project: str, container: Container, text: str) -> str:
    """Let the image's nginx test the text in a container of its own, so that the folder which the
    running one reads never holds a file that it would refuse to start with.

    Returns why nginx refuses it, an empty text where it does not. Raises C{EngineError}.
    """
    identifier = engine.create(
        image=container.image_id,
        entrypoint=["nginx"],
        command=["-t", "-c", f"{_TEST_FOLDER}/nginx.conf"],
        environment={},
        user=container.user,
        labels={HELPER_LABEL: project},
        network_mode="none",
        binds=[],
    )
    try:
        files = {"fragment": text, "nginx.conf": _TEST_CONFIGURATION}
        engine.put_archive(identifier, "/", _archive(files))
        engine.start(identifier)
        exit_code = engine.wait(identifier, _HELPER_SECONDS)
        output = "".join(engine.output(identifier, 65536))
    finally:
        engine.remove(identifier)
    # What else may be missing in a bare container says nothing of the text.
    refused = exit_code != 0 and f"{_TEST_FOLDER}/" in output
    return failure_of_test(output) if refused else ""


def _archive(files: Mapping[str, str]) -> bytes:
    """Files in the folder of the test, as a tar archive from the root."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(f"{_TEST_FOLDER}/{name}".lstrip("/"))
            data = text.encode()
            member.size, member.mode = len(data), 0o644
            tar.addfile(member, io.BytesIO(data))
    return archive.getvalue()
