# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Request metrics under the names that prometheus-fastapi-instrumentator gives by default.

The image is built from Debian's packages alone and Debian has no such package, so
its default metrics (names, labels, buckets, grouping) are kept here.
"""

from __future__ import annotations

from time import perf_counter
from typing import Any

from prometheus_client import Counter, Histogram, Summary
from starlette.datastructures import Headers
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

REQUESTS = Counter(
    "http_requests_total",
    "Number of requests by method, status and handler.",
    ("method", "status", "handler"),
)
REQUEST_SIZE = Summary(
    "http_request_size_bytes", "Content length of requests by handler.", ("handler",)
)
RESPONSE_SIZE = Summary(
    "http_response_size_bytes", "Content length of responses by handler.", ("handler",)
)
DURATION_HIGH_RESOLUTION = Histogram(
    "http_request_duration_highr_seconds",
    "Duration of requests in many buckets, without labels.",
    buckets=(
        0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 7.5,
        10, 30, 60,
    ),
)  # fmt: skip
DURATION = Histogram(
    "http_request_duration_seconds",
    "Duration of requests in few buckets, by handler and method.",
    ("method", "handler"),
    buckets=(0.1, 0.5, 1),
)


def _content_length(headers: Headers) -> int:
    text = headers.get("content-length", "0")
    return int(text) if text.isascii() and text.isdigit() else 0


class MetricsMiddleware:
    """Counts and times each HTTP request. Paths without a route share the handler `none`."""

    def __init__(self, app: ASGIApp, routes: list[BaseRoute]) -> None:
        self.app = app
        self.routes = routes

    def _handler(self, scope: Scope) -> str:
        for route in self.routes:
            match, _ = route.matches(scope)
            if match is not Match.NONE:
                return str(getattr(route, "path", "none"))
        return "none"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        answer: dict[str, Any] = {"status": 500, "size": 0}

        async def send_and_look(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer["status"] = message["status"]
                answer["size"] = _content_length(Headers(raw=message["headers"]))
            await send(message)

        handler = self._handler(scope)
        started = perf_counter()
        try:
            await self.app(scope, receive, send_and_look)
        finally:
            seconds = perf_counter() - started
            method = scope["method"]
            REQUESTS.labels(method, f"{answer['status'] // 100}xx", handler).inc()
            REQUEST_SIZE.labels(handler).observe(_content_length(Headers(scope=scope)))
            RESPONSE_SIZE.labels(handler).observe(answer["size"])
            DURATION_HIGH_RESOLUTION.observe(seconds)
            DURATION.labels(method, handler).observe(seconds)
