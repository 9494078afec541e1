# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults on order, for a test bed: nothing here runs unless PYNOMALY_LAB_FAULTS=1."""

from __future__ import annotations

import asyncio
import json
import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

logger = logging.getLogger("pynomaly.faults")

MIB = 1024 * 1024


@dataclass(frozen=True)
class Faults:
    """What is broken: every request starting with one of `paths` suffers it."""

    latency_ms: float = 0.0
    error_share: float = 0.0
    allocate_mib: int = 0
    paths: tuple[str, ...] = ("/health", "/api/")


def _number(content: dict[str, Any], name: str, highest: float) -> float:
    value = content.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{name} must be a number")
    if not math.isfinite(value) or not 0 <= value <= highest:
        raise ValueError(f"{name} must be between 0 and {highest:g}")
    return float(value)


def parse_faults(text: str) -> Faults:
    """Faults from the file's JSON; raises ValueError saying what is wrong with it."""
    content = json.loads(text)
    if not isinstance(content, dict):
        raise ValueError("expected one JSON object")
    known = {"latency_ms", "error_share", "allocate_mib", "paths"}
    if set(content) - known:
        unknown = ", ".join(sorted(set(content) - known))
        raise ValueError(f"unknown names: {unknown}; known are {', '.join(sorted(known))}")
    paths = content.get("paths", list(Faults.paths))
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        raise ValueError("paths must be a list of path beginnings")
    return Faults(
        latency_ms=_number(content, "latency_ms", 600_000),
        error_share=_number(content, "error_share", 1),
        allocate_mib=int(_number(content, "allocate_mib", 65_536)),
        paths=tuple(paths),
    )


class FaultsMiddleware:
    """Reads the faults file at each request, so that a fault starts and ends at once."""

    def __init__(self, app: ASGIApp, path: Path) -> None:
        self.app = app
        self.path = path
        self._text: str | None = None
        self._faults = Faults()
        self._errors_due = 0.0
        self._ballast = b""

    def _current(self) -> Faults:
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            text = "{}"
        except (OSError, UnicodeDecodeError) as error:
            logger.error("%s cannot be read: %s", self.path, error)
            return self._faults
        if text != self._text:
            self._text = text
            try:
                self._faults = parse_faults(text)
            except ValueError as error:
                logger.error("%s is not understood, no faults now: %s", self.path, error)
                self._faults = Faults()
            self._errors_due = 0.0
        return self._faults

    def _hold(self, mib: int) -> None:
        if len(self._ballast) != mib * MIB:
            self._ballast = b""
            # Written to, not only reserved: untouched pages count for nothing.
            self._ballast = b"\1" * (mib * MIB)

    def _fails_now(self, share: float) -> bool:
        """True for exactly `share` of the calls, spread evenly; chance would make flaky tests."""
        self._errors_due += share
        if self._errors_due < 1 - 1e-9:
            return False
        self._errors_due -= 1
        return True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        faults = self._current() if scope["type"] == "http" else Faults()
        if scope["type"] != "http" or not scope["path"].startswith(faults.paths):
            await self.app(scope, receive, send)
            return
        self._hold(faults.allocate_mib)
        if faults.latency_ms:
            await asyncio.sleep(faults.latency_ms / 1000)
        if self._fails_now(faults.error_share):
            logger.error("fault on order: %s %s answered 500", scope["method"], scope["path"])
            answer = JSONResponse({"detail": "fault on order"}, status_code=500)
            await answer(scope, receive, send)
            return
        await self.app(scope, receive, send)
