# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One bounded HTTP request, and one bounded TLS handshake.

The standard library's timeouts hold for each read, so that a server which sends a byte a second
is never late. Here one deadline covers resolving, connecting, the TLS handshake, the headers and
the body together. Redirects are told, not followed. Certificates are not verified: the C{tls.*}
probes judge them, and an expired one must not hide whether the API is well.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Optional, cast

from ansible_collections.pynomaly.ops.plugins.module_utils._http import (
    Endpoint,
    build_request,
    is_address,
)

#: How a request failed.
REFUSED = "refused"
TIMEOUT = "timeout"
CLOSED = "closed"
TLS = "tls"
MALFORMED = "malformed"
UNRESOLVED = "unresolved"
UNREACHABLE = "unreachable"

MAX_BODY_BYTES = 256 * 1024


class HttpError(Exception):
    """No answer. ``kind`` is one of this module's constants; the text says what was seen and is
    fit to stand after the address and a colon."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class Response:
    """``body`` is cut at the limit that was asked for, and ``truncated`` then set. Header names
    are in lower case. ``elapsed_ms`` runs from the start of connecting to the body's end."""

    status: int
    reason: str
    headers: Mapping[str, str]
    body: bytes
    elapsed_ms: float
    truncated: bool = False


class Deadline:
    """A point in time that several calls share."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._clock = clock
        self._end = clock() + seconds

    @property
    def remaining(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self._end - self._clock())

    @property
    def passed(self) -> bool:
        return self.remaining <= 0


class _DeadlineReader(io.RawIOBase):
    """Reads from a socket, each time with what is left until the deadline."""

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        super().__init__()
        self._sock = sock
        self._deadline = deadline
        self.received = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        _arm(self._sock, self._deadline)
        count = self._sock.recv_into(buffer)
        self.received = self.received or count > 0
        return count


class _ReaderOnly:
    """As much of a socket as L{http.client.HTTPResponse} wants."""

    def __init__(self, reader: _DeadlineReader) -> None:
        self._reader = reader

    def makefile(self, *_arguments: object, **_options: object) -> io.BufferedReader:
        return io.BufferedReader(self._reader)


def _arm(sock: socket.socket, deadline: Deadline) -> None:
    remaining = deadline.remaining
    if remaining <= 0:
        raise socket.timeout("the deadline has passed")
    sock.settimeout(remaining)


def _resolve(host: str, port: int, deadline: Deadline) -> tuple[Any, ...]:
    """The first address; in a thread of its own, for a resolver's patience has no limit that a
    program could set."""
    if is_address(host):
        return cast("tuple[Any, ...]", _addresses(host, port, socket.AI_NUMERICHOST)[0])
    answers: queue.Queue[Any] = queue.Queue()

    def work() -> None:
        try:
            answers.put(_addresses(host, port, 0))
        except OSError as error:
            answers.put(error)

    threading.Thread(target=work, name=f"resolve {host}", daemon=True).start()
    try:
        answer = answers.get(timeout=deadline.remaining)
    except queue.Empty:
        raise HttpError(
            UNRESOLVED, f"the name {host} was not resolved within {deadline.seconds:g} s"
        ) from None
    if isinstance(answer, OSError):
        raise HttpError(
            UNRESOLVED, f"the name {host} cannot be resolved: {answer.strerror}"
        ) from answer
    return cast("tuple[Any, ...]", answer[0])


def _addresses(host: str, port: int, flags: int) -> list[Any]:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)


def _connect(endpoint: Endpoint, deadline: Deadline) -> socket.socket:
    family, kind, protocol, _name, address = _resolve(endpoint.host, endpoint.port, deadline)
    sock = socket.socket(family, kind, protocol)
    try:
        _arm(sock, deadline)
        sock.connect(address)
    except OSError as error:
        sock.close()
        raise _connection_error(error, deadline) from error
    return sock


def _connection_error(error: OSError, deadline: Deadline) -> HttpError:
    if isinstance(error, socket.timeout):
        return HttpError(TIMEOUT, f"no connection within {deadline.seconds:g} s")
    if isinstance(error, ConnectionRefusedError):
        return HttpError(REFUSED, "connection refused, nothing listens there")
    return HttpError(UNREACHABLE, f"no connection: {error.strerror or error}")


def _handshake(sock: socket.socket, endpoint: Endpoint, deadline: Deadline) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    name = endpoint.server_name or endpoint.host
    secured = context.wrap_socket(
        sock,
        # SNI carries names only (RFC 6066, section 3).
        server_hostname=None if is_address(name) else name,
        do_handshake_on_connect=False,
    )
    try:
        _arm(secured, deadline)
        secured.do_handshake()
    except (OSError, ValueError) as error:
        secured.close()
        raise _handshake_error(error, deadline) from error
    return secured


def _handshake_error(error: Exception, deadline: Deadline) -> HttpError:
    if isinstance(error, socket.timeout):
        return HttpError(
            TIMEOUT,
            f"accepts connections and does not finish the TLS handshake "
            f"within {deadline.seconds:g} s",
        )
    # Before Python 3.10 an end of file has no class of its own.
    if isinstance(error, ssl.SSLEOFError) or (
        isinstance(error, ssl.SSLError) and "EOF" in str(error)
    ):
        return HttpError(CLOSED, "closed the connection during the TLS handshake")
    if isinstance(error, ssl.SSLError):
        reason = (error.reason or str(error)).replace("_", " ").lower()
        if "wrong version number" in reason or "http request" in reason:
            return HttpError(TLS, "does not speak TLS")
        return HttpError(TLS, f"the TLS handshake failed: {reason}")
    if isinstance(error, OSError):
        return HttpError(CLOSED, f"closed the connection during the TLS handshake ({error})")
    return HttpError(TLS, f"the TLS handshake failed: {error}")


def get(
    endpoint: Endpoint,
    path: str,
    deadline: Deadline,
    headers: Optional[Mapping[str, str]] = None,
    max_body_bytes: int = MAX_BODY_BYTES,
) -> Response:
    """One GET on a connection of its own; ends by the deadline, whatever the server does.

    Raises L{HttpError}, and L{ValueError} for a header with a line break in it.
    """
    request = build_request(endpoint, path, headers or {})
    started = time.monotonic()
    sock = _connect(endpoint, deadline)
    try:
        if endpoint.scheme == "https":
            sock = _handshake(sock, endpoint, deadline)
        reader = _DeadlineReader(sock, deadline)
        answer = http.client.HTTPResponse(cast(socket.socket, _ReaderOnly(reader)))
        try:
            # Closed at once, also after an error: left to the garbage collector it complains.
            with contextlib.closing(answer):
                _arm(sock, deadline)
                sock.sendall(request)
                answer.begin()
                body = answer.read(max_body_bytes + 1)
                missing = answer.length
        except (OSError, http.client.HTTPException) as error:
            raise _answer_error(error, reader.received, deadline) from error
        if len(body) <= max_body_bytes and missing:
            # Before Python 3.12 a body that ends early is not told when an amount is read.
            raise HttpError(CLOSED, f"closed the connection {missing} bytes too early")
        return Response(
            status=answer.status,
            reason=answer.reason,
            headers={name.lower(): value for name, value in answer.getheaders()},
            body=body[:max_body_bytes],
            elapsed_ms=(time.monotonic() - started) * 1000.0,
            truncated=len(body) > max_body_bytes,
        )
    finally:
        sock.close()


def _answer_error(error: Exception, received: bool, deadline: Deadline) -> HttpError:
    if isinstance(error, socket.timeout):
        if received:
            return HttpError(
                TIMEOUT, f"began an answer and did not finish it within {deadline.seconds:g} s"
            )
        return HttpError(
            TIMEOUT, f"accepts connections and never answers within {deadline.seconds:g} s"
        )
    if isinstance(error, http.client.RemoteDisconnected):
        return HttpError(CLOSED, "closed the connection without an answer")
    if isinstance(error, http.client.HTTPException) and not isinstance(
        error, http.client.IncompleteRead
    ):
        return HttpError(MALFORMED, f"does not speak HTTP ({type(error).__name__})")
    if received:
        return HttpError(CLOSED, "closed the connection in the middle of its answer")
    return HttpError(CLOSED, "closed the connection without an answer")


def served_chain(endpoint: Endpoint, deadline: Deadline) -> list[bytes]:
    """The certificates that the server sends, DER, the leaf first.

    Before Python 3.13 the library shows the leaf alone. Raises L{HttpError}.
    """
    secured = _handshake(_connect(endpoint, deadline), endpoint, deadline)
    try:
        chain: list[bytes] = getattr(secured, "get_unverified_chain", list)()
        leaf = secured.getpeercert(binary_form=True)
        if leaf is None:
            raise HttpError(TLS, "finished the TLS handshake without a certificate")
        return chain or [leaf]
    finally:
        secured.close()
