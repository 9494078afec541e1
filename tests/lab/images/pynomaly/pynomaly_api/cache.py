# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Results in Redis. The API works without it; it only works twice as often."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import Awaitable
from typing import Any, TypeVar, cast

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

ANSWER_SECONDS = 1.0
UNREACHABLE = (OSError, asyncio.TimeoutError, RedisError)

Answer = TypeVar("Answer")


class CacheUnreachableError(Exception):
    """Redis did not answer in time, refused, or failed. Its message names the cause."""


def content_key(secret_key: str, content: dict[str, Any]) -> str:
    """The cache key of a request: a keyed hash, so that nobody can guess at others' data."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    digest = hmac.new(secret_key.encode(), canonical.encode(), hashlib.sha256)
    return f"pynomaly:detect:{digest.hexdigest()}"


class Cache:
    """JSON objects under keys that expire."""

    def __init__(self, url: str, keep_seconds: int) -> None:
        self._keep_seconds = keep_seconds
        self._redis = Redis.from_url(
            url,
            socket_connect_timeout=ANSWER_SECONDS,
            socket_timeout=ANSWER_SECONDS,
            # One more try: a pooled connection may date from before a restart.
            retry=Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
        )

    async def _bounded(self, call: Awaitable[Answer], seconds: float) -> Answer:
        try:
            return await asyncio.wait_for(call, seconds)
        except UNREACHABLE as error:
            text = " ".join(str(error).split())
            raise CacheUnreachableError(f"{type(error).__name__}: {text}".rstrip(": ")) from error

    async def ping(self, seconds: float) -> None:
        """Send PING; raises CacheUnreachableError, after `seconds` at the latest."""
        await self._bounded(cast("Awaitable[bool]", self._redis.ping()), seconds)

    async def get(self, key: str) -> dict[str, Any] | None:
        """The object under `key`, or None. Raises CacheUnreachableError."""
        text = await self._bounded(self._redis.get(key), ANSWER_SECONDS)
        return None if text is None else cast("dict[str, Any]", json.loads(text))

    async def put(self, key: str, value: dict[str, Any]) -> None:
        """Keep `value` under `key` for the cache's time. Raises CacheUnreachableError."""
        text = json.dumps(value)
        await self._bounded(self._redis.set(key, text, ex=self._keep_seconds), ANSWER_SECONDS)

    async def close(self) -> None:
        """Give the connections back."""
        await self._bounded(self._redis.aclose(), ANSWER_SECONDS)
