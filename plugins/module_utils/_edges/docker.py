# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Docker Engine, through the SDK's low-level client.

The SDK is imported when an engine is opened, so that a host without it can load everything else.
Plain calls go through the SDK; the two that stream (logs, exec) use a socket of their own, since
the SDK bounds each read but not the whole, and asks for one HTTP chunk a log line.
"""

from __future__ import annotations

import contextlib
import errno
import getpass
import io
import json
import os
import shutil
import signal
import socket
import ssl
import tarfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, Optional, TypeVar
from urllib.parse import quote, urlencode, urlsplit

from ansible_collections.pynomaly.ops.plugins.module_utils._containers import (
    container_from_inspect,
    container_from_summary,
    share_addresses,
    start_allowance_seconds,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._context import Container
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.importing import IMPORTING
from ansible_collections.pynomaly.ops.plugins.module_utils._log_lines import (
    demultiplex,
    split_lines,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._probe import CRITICAL, UNKNOWN
from ansible_collections.pynomaly.ops.plugins.module_utils._scheduler import CollectorError

DEFAULT_HOST = "unix:///var/run/docker.sock"
PROJECT_LABEL = "com.docker.compose.project"
PREPARE_HINT = "ansible-playbook pynomaly.ops.prepare"
ENGINE_HINT = "systemctl status docker; journalctl -u docker -n 50"

_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_WORKERS = 8
_READ_SIZE = 262144

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class EngineError(CollectorError):
    """The engine refused or failed a call. The text is fit to be shown.

    ``status_code`` is the HTTP status of a refusal, C{None} where there was no answer.
    """

    def __init__(
        self,
        message: str,
        hint: str = "",
        status: str = UNKNOWN,
        status_code: Optional[int] = None,
    ) -> None:
        super().__init__(message, hint, status)
        self.status_code = status_code


class EngineUnavailable(EngineError):  # noqa: N818  # the name says what there is none of
    """No engine can be talked to at all.

    ``reason`` is C{sdk_missing}, C{not_installed}, C{not_running}, C{permission_denied},
    C{timeout} or C{unusable}.
    """

    def __init__(self, message: str, hint: str, reason: str) -> None:
        broken = reason in ("not_installed", "not_running", "timeout")
        super().__init__(message, hint, CRITICAL if broken else UNKNOWN)
        self.reason = reason


class LogLines(Iterator[tuple[str, bytes]]):
    """Lines of a container's log, oldest first, as (C{stdout} or C{stderr}, line without its end).

    Once exhausted, ``truncated`` says why lines of the window are missing, empty where none are.
    """

    def __init__(
        self, lines: Callable[[LogLines], Iterator[tuple[str, bytes]]], close: Callable[[], None]
    ) -> None:
        self.truncated = ""
        self.bytes_read = 0
        self._lines = lines(self)
        self._close = close

    def __next__(self) -> tuple[str, bytes]:
        try:
            return next(self._lines)
        except BaseException:
            self._close()
            raise

    def close(self) -> None:
        self._close()


class Engine:
    """A connection to the engine that C{DOCKER_HOST} names, by default the local socket.

    Every call is bounded by ``timeout_seconds``. Raises L{EngineUnavailable} on opening and
    L{EngineError} from the calls. Safe to share between threads.
    """

    def __init__(self, timeout_seconds: float = 5.0, base_url: Optional[str] = None) -> None:
        self.timeout_seconds = timeout_seconds
        self.base_url = base_url or os.environ.get("DOCKER_HOST") or DEFAULT_HOST
        self._threads = threading.local()
        self._terminals: dict[str, bool] = {}
        self._start_allowances: dict[str, float] = {}
        check_socket(self.base_url, timeout_seconds)
        with IMPORTING:
            self._client_class, self._sdk_errors, self._arguments = _load_sdk(self.base_url)
        self._api_version = "auto"
        with self._calling("version"):
            self._api_version = self._client().api_version

    # Plain calls

    def info(self) -> Mapping[str, Any]:
        """The engine's own description of itself (``docker info``)."""
        with self._calling("info"):
            return dict(self._client().info())

    def version(self) -> Mapping[str, Any]:
        """``docker version``, the server's half: Version, ApiVersion, and others."""
        with self._calling("version"):
            return dict(self._client().version(api_version=False))

    def projects(self) -> Mapping[str, int]:
        """Every Compose project that has containers, with how many, running or not."""
        counts: dict[str, int] = {}
        with self._calling("list"):
            for summary in self._client().containers(all=True, filters={"label": PROJECT_LABEL}):
                name = summary["Labels"][PROJECT_LABEL]
                counts[name] = counts.get(name, 0) + 1
        return counts

    def summaries(self, project: str) -> Sequence[Mapping[str, Any]]:
        """What the engine lists of a project's containers: one cheap call."""
        with self._calling("list"):
            found: list[Mapping[str, Any]] = self._client().containers(
                all=True, filters={"label": f"{PROJECT_LABEL}={project}"}
            )
        return found

    def inspect(self, summaries: Iterable[Mapping[str, Any]]) -> Sequence[Container]:
        """The listed containers in full, side by side.

        One that is gone by now is left out; one whose inspection fails or hangs is described by
        what the list said, with ``error`` telling so.
        """

        def one(summary: Mapping[str, Any]) -> Optional[Container]:
            try:
                with self._calling("inspect"):
                    data = self._client().inspect_container(summary["Id"])
            except EngineError as error:
                if error.status_code == 404:
                    return None
                return container_from_summary(summary, str(error))
            config = data.get("Config") or {}
            self._terminals[data["Id"]] = bool(config.get("Tty"))
            self._start_allowances[data["Id"]] = start_allowance_seconds(config.get("Healthcheck"))
            return container_from_inspect(data)

        answers = side_by_side(one, list(summaries), self.timeout_seconds * 2)
        containers = []
        for summary, answer in answers:
            if isinstance(answer, BaseException):
                containers.append(container_from_summary(summary, f"inspect failed: {answer}"))
            elif answer is not None:
                containers.append(answer)
        return share_addresses(containers)

    def list_project_containers(self, project: str) -> Sequence[Container]:
        """The project's containers, running or not, without one-off ones (``compose run``)."""
        return [
            container
            for container in self.inspect(self.summaries(project))
            if container.labels.get("com.docker.compose.oneoff", "False").lower() != "true"
        ]

    def start_allowance_seconds(self, container_id: str) -> float:
        """How long a container that was inspected may be "starting" before that is odd."""
        return self._start_allowances.get(container_id, 0.0)

    def image_id(self, reference: str) -> str:
        """The id of what the engine has under a reference; empty where it has nothing."""
        image = self.image(reference)
        return str(image["Id"]) if image else ""

    def image(self, reference: str) -> Optional[Mapping[str, Any]]:
        """``docker image inspect``, or None where the engine has no such image."""
        try:
            with self._calling("image inspect"):
                return dict(self._client().inspect_image(reference))
        except EngineError as error:
            if error.status_code == 404:
                return None
            raise

    def image_ids(self, references: Iterable[str]) -> Mapping[str, str]:
        """L{image_id} of many, side by side; an image that fails to answer counts as absent."""
        answers = side_by_side(self.image_id, sorted(set(references)), self.timeout_seconds)
        return {
            reference: answer if isinstance(answer, str) else "" for reference, answer in answers
        }

    def networks(self) -> Sequence[Mapping[str, Any]]:
        """Every network as the engine lists it, with its driver and its address ranges."""
        with self._calling("network list"):
            return list(self._client().networks())

    def network_labels(self) -> Mapping[str, Mapping[str, str]]:
        """Every network's labels by its name."""
        with self._calling("network list"):
            return {
                network["Name"]: dict(network.get("Labels") or {})
                for network in self._client().networks()
            }

    def volume_labels(self) -> Mapping[str, Mapping[str, str]]:
        """Every named volume's labels by its name."""
        with self._calling("volume list"):
            return {
                volume["Name"]: dict(volume.get("Labels") or {})
                for volume in self._client().volumes()["Volumes"] or ()
            }

    def read_file(self, container_id: str, path: str, max_bytes: int = 65536) -> bytes:
        """A file inside a container, running or not, symbolic links followed.

        Raises L{EngineError} where there is none or it is larger than ``max_bytes``.
        """
        for _hop in range(8):
            with self._calling(f"reading {path}"):
                stream, _stat = self._client().get_archive(container_id, path)
                limit = max_bytes + 65536
                raw = _read_at_most(stream, limit, time.monotonic() + self.timeout_seconds)
            member, content = _first_member(raw)
            if member is None:
                raise EngineError(f"{path}: the engine gave no file")
            if member.issym():
                path = os.path.normpath(os.path.join(os.path.dirname(path), member.linkname))  # noqa: PTH118, PTH120
                continue
            if not member.isfile():
                raise EngineError(f"{path} is not a file")
            if member.size > max_bytes or content is None:
                raise EngineError(f"{path} has {member.size} bytes, expected {max_bytes} at most")
            return content
        raise EngineError(f"{path}: too many symbolic links")

    # Streams

    def run(
        self,
        container_id: str,
        argv: Sequence[str],
        timeout_seconds: float,
        *,
        environment: Optional[Mapping[str, str]] = None,
        user: str = "",
        max_bytes: int = 65536,
    ) -> tuple[int, str]:
        """Run a command in a container: its exit code and output, both streams as they came.

        Output past ``max_bytes`` is read and dropped. On a timeout the command is killed and
        L{EngineError} raised. Secrets go into ``environment``, never into ``argv``.
        """
        deadline = time.monotonic() + timeout_seconds
        with self._calling(f"exec {argv[0]}"):
            created = self._client().exec_create(
                container_id,
                list(argv),
                environment=dict(environment) if environment else None,
                user=user,
            )
        identifier = created["Id"]
        output = bytearray()
        try:
            with contextlib.closing(
                self._stream(
                    "POST",
                    f"/exec/{identifier}/start",
                    deadline,
                    body={"Detach": False, "Tty": False},
                )
            ) as chunks:
                for _stream, payload in demultiplex(chunks):
                    output += payload[: max(0, max_bytes - len(output))]
        except TimeoutError as error:
            self._kill_exec(identifier)
            raise EngineError(
                f"{argv[0]} did not finish within {timeout_seconds:g} s in the container"
            ) from error
        with self._calling(f"exec {argv[0]}"):
            exit_code = self._client().exec_inspect(identifier)["ExitCode"]
        return (
            int(exit_code) if exit_code is not None else -1,
            output.decode("utf-8", errors="replace"),
        )

    def logs(
        self,
        container_id: str,
        since_seconds: float,
        max_bytes: int,
        *,
        timeout_seconds: Optional[float] = None,
        tail_lines: int = 400_000,
    ) -> LogLines:
        """A container's log of the last ``since_seconds``, streamed.

        Of a long log the newest ``tail_lines`` are read, and of those at most ``max_bytes``
        within ``timeout_seconds`` (the engine's own by default); L{LogLines.truncated} says when
        that left something out.
        """
        limit_seconds = self.timeout_seconds if timeout_seconds is None else timeout_seconds
        deadline = time.monotonic() + limit_seconds
        terminal = self._has_terminal(container_id)
        query = urlencode(
            {
                "stdout": 1,
                "stderr": 1,
                "since": f"{time.time() - since_seconds:.3f}",
                "tail": tail_lines,
            }
        )
        chunks = self._stream("GET", f"/containers/{quote(container_id)}/logs?{query}", deadline)

        def lines(state: LogLines) -> Iterator[tuple[str, bytes]]:
            def bounded() -> Iterator[bytes]:
                try:
                    for chunk in chunks:
                        state.bytes_read += len(chunk)
                        yield chunk
                        if state.bytes_read >= max_bytes:
                            state.truncated = f"only {max_bytes // 1048576} MiB were read"
                            return
                except TimeoutError:
                    state.truncated = f"reading stopped after {limit_seconds:g} s"

            frames: Iterable[tuple[str, bytes]]
            if terminal:
                frames = (("stdout", chunk) for chunk in bounded())
            else:
                frames = demultiplex(bounded())
            count = 0
            for stream, line in split_lines(frames):
                count += 1
                yield stream, line
            if not state.truncated and count >= tail_lines:
                state.truncated = f"only the last {tail_lines} lines were read"

        # The first chunk is fetched by _stream itself, so a refusal is raised here and not later.
        return LogLines(lines, chunks.close)

    # Inside

    def _client(self) -> Any:
        """One SDK client a thread: a requests session is not made for sharing."""
        client = getattr(self._threads, "client", None)
        if client is None:
            client = self._client_class(
                **self._arguments, version=self._api_version, timeout=self.timeout_seconds
            )
            self._threads.client = client
        return client

    @contextlib.contextmanager
    def _calling(self, what: str) -> Iterator[None]:
        try:
            yield
        except (EngineError, GeneratorExit):
            raise
        except self._sdk_errors as error:
            self._fail(what, error)

    def _fail(self, what: str, error: BaseException) -> NoReturn:
        response = getattr(error, "response", None)
        status_code = getattr(response, "status_code", None)
        if status_code is not None:
            text = str(getattr(error, "explanation", "") or error)
            raise EngineError(
                f"the engine refused {what}: {_one_line(text)}", status_code=status_code
            ) from error
        if _is_timeout(error):
            raise EngineUnavailable(
                f"the engine did not answer ({what}) within {self.timeout_seconds:g} s",
                ENGINE_HINT,
                "timeout",
            ) from error
        check_socket(self.base_url, self.timeout_seconds)
        raise EngineUnavailable(
            f"the engine cannot be used ({what}): {_one_line(str(error))}", ENGINE_HINT, "unusable"
        ) from error

    def _has_terminal(self, container_id: str) -> bool:
        if container_id not in self._terminals:
            with self._calling("inspect"):
                data = self._client().inspect_container(container_id)
            self._terminals[container_id] = bool((data.get("Config") or {}).get("Tty"))
        return self._terminals[container_id]

    def _kill_exec(self, identifier: str) -> None:
        """The API cannot end an exec; its process is ours, seen from the engine's own host."""
        with contextlib.suppress(EngineError, OSError, ValueError):
            with self._calling("exec inspect"):
                state = self._client().exec_inspect(identifier)
            if self.base_url.startswith("unix://") and state["Running"] and state["Pid"] > 0:
                os.kill(state["Pid"], signal.SIGKILL)

    def _stream(
        self, method: str, path: str, deadline: float, body: Optional[Mapping[str, Any]] = None
    ) -> _Stream:
        return _Stream(self.base_url, method, f"/v{self._api_version}{path}", deadline, body)


class _Stream(Iterator[bytes]):
    """The body of one request as it comes; TimeoutError once the deadline has passed.

    HTTP/1.0, so that the engine sends bytes and not a chunk for each line.
    """

    def __init__(
        self,
        base_url: str,
        method: str,
        path: str,
        deadline: float,
        body: Optional[Mapping[str, Any]],
    ) -> None:
        self._deadline = deadline
        content = b"" if body is None else json.dumps(body).encode()
        head = (
            f"{method} {path} HTTP/1.0\r\nHost: docker\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        try:
            self._socket = _connect(base_url, self._remaining())
            self._socket.sendall(head.encode() + content)
            self._pending = self._read_head()
        except TimeoutError:
            self.close()
            raise EngineUnavailable(
                f"the engine did not answer ({path.partition('?')[0]}) in time",
                ENGINE_HINT,
                "timeout",
            ) from None
        except OSError as error:
            self.close()
            raise EngineError(f"the engine closed the connection: {error}", ENGINE_HINT) from error

    def __next__(self) -> bytes:
        if self._pending:
            chunk, self._pending = self._pending, b""
            return chunk
        chunk = self._receive()
        if not chunk:
            self.close()
            raise StopIteration
        return chunk

    def close(self) -> None:
        connection = getattr(self, "_socket", None)
        if connection is not None:
            connection.close()

    def _remaining(self) -> float:
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError
        return remaining

    def _receive(self) -> bytes:
        try:
            self._socket.settimeout(self._remaining())
            return self._socket.recv(_READ_SIZE)
        except (socket.timeout, TimeoutError):  # two classes before Python 3.10
            self.close()
            raise TimeoutError from None

    def _read_head(self) -> bytes:
        received = b""
        while b"\r\n\r\n" not in received:
            chunk = self._receive()
            if not chunk or len(received) > 65536:
                raise EngineError("the engine's answer was not HTTP", ENGINE_HINT)
            received += chunk
        head, _separator, rest = received.partition(b"\r\n\r\n")
        status_code = int(head.split(None, 2)[1])
        if status_code < 300:
            return rest
        while len(rest) < 65536:
            chunk = self._receive()
            if not chunk:
                break
            rest += chunk
        self.close()
        try:
            text = str(json.loads(rest)["message"])
        except (ValueError, KeyError, TypeError):
            text = rest.decode("utf-8", errors="replace")
        raise EngineError(f"the engine refused: {_one_line(text)}", status_code=status_code)


def list_project(
    project: str, timeout_seconds: float, base_url: Optional[str] = None
) -> Sequence[Mapping[str, Any]]:
    """L{Engine.summaries} without the SDK, for what can be done while that is being imported.

    Raises L{EngineError}.
    """
    url = base_url or os.environ.get("DOCKER_HOST") or DEFAULT_HOST
    filters = json.dumps({"label": [f"{PROJECT_LABEL}={project}"]})
    path = f"/containers/json?{urlencode({'all': 1, 'filters': filters})}"
    deadline = time.monotonic() + timeout_seconds
    try:
        with contextlib.closing(_Stream(url, "GET", path, deadline, None)) as chunks:
            answer = json.loads(b"".join(chunks))
    except (TimeoutError, ValueError, LookupError) as error:
        raise EngineError(f"the engine's list of containers cannot be read: {error}") from error
    if not isinstance(answer, list):
        raise EngineError("the engine's list of containers is none")
    return answer


def side_by_side(
    function: Callable[[Item], Answer], items: Sequence[Item], deadline_seconds: float
) -> list[tuple[Item, Answer | BaseException]]:
    """``function`` of each item on a few daemon threads, in the items' order.

    What raises is answered by its exception; what is not done by the deadline, by TimeoutError.
    """
    answers: list[Answer | BaseException] = [TimeoutError("no answer in time") for _item in items]
    positions = iter(range(len(items)))
    lock = threading.Lock()

    def work() -> None:
        while True:
            with lock:
                position = next(positions, None)
            if position is None:
                return
            try:
                answers[position] = function(items[position])
            except BaseException as error:  # a thread has no caller to raise to
                answers[position] = error

    threads = [
        threading.Thread(target=work, daemon=True) for _number in range(min(_WORKERS, len(items)))
    ]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + deadline_seconds
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return list(zip(items, list(answers)))


def check_socket(base_url: str, timeout_seconds: float) -> None:
    """Raise L{EngineUnavailable}, saying which kind, unless somebody listens at ``base_url``."""
    try:
        _connect(base_url, timeout_seconds).close()
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise _nobody_listens(base_url) from error
    except PermissionError as error:
        raise EngineUnavailable(
            f"user {_user()} may not use {base_url}, expected root or a member of group docker",
            "run the play with become: true",
            "permission_denied",
        ) from error
    except (socket.timeout, TimeoutError) as error:  # two classes before Python 3.10
        raise EngineUnavailable(
            f"nobody accepted a connection to {base_url} within {timeout_seconds:g} s",
            ENGINE_HINT,
            "timeout",
        ) from error
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno == errno.EAGAIN:
            raise EngineUnavailable(
                f"the engine's queue at {base_url} is full, it accepts no connections",
                ENGINE_HINT,
                "timeout",
            ) from error
        raise EngineUnavailable(
            f"{base_url} cannot be connected to: {error}", "check DOCKER_HOST", "unusable"
        ) from error


def _nobody_listens(base_url: str) -> EngineUnavailable:
    if not base_url.startswith("unix://"):
        return EngineUnavailable(
            f"nobody listens at {base_url}, which DOCKER_HOST names", ENGINE_HINT, "not_running"
        )
    path = os.environ.get("PATH", "") + os.pathsep + _SYSTEM_PATH
    socket_path = base_url[len("unix://") :]
    if shutil.which("dockerd", path=path):
        seen = "nobody listens on" if Path(socket_path).exists() else "there is no socket"
        return EngineUnavailable(
            f"Docker is installed but not running: {seen} {socket_path}",
            f"systemctl start docker; {ENGINE_HINT}",
            "not_running",
        )
    if shutil.which("docker", path=path):
        return EngineUnavailable(
            f"only Docker's client is installed: there is no dockerd and no socket {socket_path}",
            PREPARE_HINT,
            "not_installed",
        )
    return EngineUnavailable(
        f"Docker is not installed: there is no dockerd and no socket {socket_path}",
        PREPARE_HINT,
        "not_installed",
    )


def _load_sdk(base_url: str) -> tuple[Any, tuple[type[BaseException], ...], dict[str, Any]]:
    try:
        import docker.errors  # noqa: PLC0415
        import docker.utils  # noqa: PLC0415
        import requests.exceptions  # noqa: PLC0415
        from docker.api.client import APIClient  # noqa: PLC0415
    except ImportError as error:
        raise EngineUnavailable(
            f"the Docker SDK for Python cannot be imported ({error})",
            f"install python3-docker: {PREPARE_HINT}",
            "sdk_missing",
        ) from error
    arguments: dict[str, Any] = {"base_url": base_url}
    with contextlib.suppress(docker.errors.TLSParameterError):
        tls = docker.utils.kwargs_from_env().get("tls")
        if tls and not base_url.startswith("unix://"):
            arguments = {"base_url": base_url.replace("tcp://", "https://"), "tls": tls}
    errors = (docker.errors.DockerException, requests.exceptions.RequestException, OSError)
    return APIClient, errors, arguments


def _connect(base_url: str, timeout_seconds: float) -> socket.socket:
    parts = urlsplit(base_url)
    if parts.scheme in ("unix", "http+unix"):
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(timeout_seconds)
        try:
            connection.connect((parts.netloc + parts.path) or "/var/run/docker.sock")
        except BaseException:
            connection.close()
            raise
        return connection
    if parts.scheme not in ("tcp", "http", "https") or not parts.hostname:
        raise ValueError("expected unix:// or tcp://")
    secure = parts.scheme == "https" or bool(os.environ.get("DOCKER_TLS_VERIFY"))
    port = parts.port or (2376 if secure else 2375)
    connection = socket.create_connection((parts.hostname, port), timeout=timeout_seconds)
    if not secure:
        return connection
    folder = Path(os.environ.get("DOCKER_CERT_PATH") or "~/.docker").expanduser()
    context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    context.load_cert_chain(str(folder / "cert.pem"), str(folder / "key.pem"))
    return context.wrap_socket(connection, server_hostname=parts.hostname)


def _read_at_most(stream: Iterable[bytes], limit: int, deadline: float) -> bytes:
    raw = bytearray()
    for chunk in stream:
        raw += chunk
        if len(raw) >= limit:
            break
        if time.monotonic() > deadline:
            raise EngineError("the engine did not send the file in time", ENGINE_HINT)
    return bytes(raw)


def _first_member(raw: bytes) -> tuple[Optional[tarfile.TarInfo], Optional[bytes]]:
    """The archive's first entry, and its content where all of it is there."""
    try:
        with tarfile.open(fileobj=io.BytesIO(raw), mode="r|") as archive:
            member = archive.next()
            if member is None:
                return None, None
            opened = archive.extractfile(member) if member.isfile() else None
            try:
                content = opened.read() if opened else None
            except (tarfile.TarError, OSError, EOFError):
                return member, None
            whole = content is not None and len(content) == member.size
            return member, content if whole else None
    except tarfile.TarError as error:
        raise EngineError(f"the engine's answer was no archive: {error}") from error


def _is_timeout(error: BaseException) -> bool:
    """SDK, requests and urllib3 wrap a timeout in several ways; the innermost one tells."""
    seen: set[int] = set()
    queue: list[Any] = [error]
    while queue:
        current = queue.pop()
        if id(current) in seen or not isinstance(current, BaseException):
            continue
        seen.add(id(current))
        if isinstance(current, (TimeoutError, socket.timeout)):
            return True
        if type(current).__name__ in ("ReadTimeout", "ConnectTimeout", "ReadTimeoutError"):
            return True
        queue += [current.__cause__, current.__context__, *current.args]
    return False


def _one_line(text: str, limit: int = 200) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
