# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The API: health, metrics, detection."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import asdict
from time import perf_counter
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from .cache import Cache, CacheUnreachableError, content_key
from .database import Database, DatabaseUnreachableError
from .faults import FaultsMiddleware
from .metrics import MetricsMiddleware
from .scoring import DEFAULT_THRESHOLD, find_anomalies, modified_z_scores
from .settings import Settings

logger = logging.getLogger("pynomaly.api")

# Both checks run side by side, so /health answers well within two seconds.
CHECK_SECONDS = 1.2
PREPARE_AGAIN_SECONDS = 1.0


class DetectRequest(BaseModel):
    """Values in the order in which they were measured."""

    model_config = ConfigDict(extra="forbid")

    values: Annotated[list[FiniteFloat], Field(min_length=1, max_length=100_000)]
    threshold: Annotated[FiniteFloat, Field(gt=0)] = DEFAULT_THRESHOLD
    dataset: Annotated[str | None, Field(max_length=200)] = None


class Dependency:
    """Asks whether a dependency answers, and logs when that changes, not at each request."""

    def __init__(self, name: str, level: int) -> None:
        self.name = name
        self.level = level
        self.failing = False

    async def check(self, ping: Awaitable[None]) -> dict[str, Any]:
        """`{"status": "ok"}` or `"unreachable"`, with `duration_ms`. Never raises."""
        started = perf_counter()
        try:
            await ping
        except (DatabaseUnreachableError, CacheUnreachableError) as error:
            self.note(error)
        else:
            self.note(None)
        return {
            "status": "unreachable" if self.failing else "ok",
            "duration_ms": round((perf_counter() - started) * 1000, 1),
        }

    def note(self, error: Exception | None) -> None:
        """Remember the outcome of a call; the first of a kind is logged."""
        if error is not None and not self.failing:
            logger.log(self.level, "%s is unreachable: %s", self.name, error)
        if error is None and self.failing:
            logger.info("%s is reachable again", self.name)
        self.failing = error is not None


class Api:
    """What the endpoints share."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.database = Database(
            settings.database_url, settings.database_pool_size, f"pynomaly-api/{settings.version}"
        )
        self.cache = (
            Cache(settings.redis_url, settings.cache_seconds) if settings.redis_url else None
        )
        self.database_state = Dependency("database", logging.ERROR)
        self.redis_state = Dependency("redis", logging.WARNING)

    async def _prepare_database(self) -> None:
        """Try until the schema is there: the API may well start before its database."""
        while True:
            try:
                await self.database.prepare()
            except DatabaseUnreachableError as error:
                self.database_state.note(error)
            else:
                self.database_state.note(None)
                return
            await asyncio.sleep(PREPARE_AGAIN_SECONDS)

    @asynccontextmanager
    async def lifespan(self, _app: FastAPI) -> AsyncIterator[None]:
        await self.database.open()
        preparation = asyncio.create_task(self._prepare_database())
        logger.info(
            "version %s starts, environment %s", self.settings.version, self.settings.environment
        )
        yield
        preparation.cancel()
        await self.database.close()
        if self.cache is not None:
            try:
                await self.cache.close()
            except CacheUnreachableError as error:
                logger.warning("redis did not take leave: %s", error)
        logger.info("stopped")

    async def _redis_check(self) -> dict[str, Any]:
        if self.cache is None:
            return {"status": "not configured"}
        return await self.redis_state.check(self.cache.ping(CHECK_SECONDS))

    async def health(self) -> JSONResponse:
        database, redis = await asyncio.gather(
            self.database_state.check(self.database.ping(CHECK_SECONDS)), self._redis_check()
        )
        status = "healthy"
        if redis["status"] == "unreachable":
            status = "degraded"
        if database["status"] == "unreachable" or self.settings.always_unhealthy:
            status = "unhealthy"
        return JSONResponse(
            {
                "status": status,
                "version": self.settings.version,
                "environment": self.settings.environment,
                "checks": {"database": database, "redis": redis},
            },
            status_code=503 if status == "unhealthy" else 200,
        )

    async def _cached(self, key: str) -> dict[str, Any] | None:
        if self.cache is None:
            return None
        try:
            found = await self.cache.get(key)
        except CacheUnreachableError as error:
            self.redis_state.note(error)
            return None
        self.redis_state.note(None)
        return found

    async def _keep(self, key: str, result: dict[str, Any]) -> None:
        if self.cache is None or self.redis_state.failing:
            return
        try:
            await self.cache.put(key, result)
        except CacheUnreachableError as error:
            self.redis_state.note(error)

    async def detect(self, request: DetectRequest) -> dict[str, Any]:
        key = content_key(self.settings.secret_key, request.model_dump())
        found = await self._cached(key)
        if found is not None:
            return {**found, "cached": True}
        scores = modified_z_scores(request.values)
        anomalies = find_anomalies(request.values, scores, request.threshold)
        result: dict[str, Any] = {
            "method": "modified_z_score",
            "dataset": request.dataset,
            "threshold": request.threshold,
            "count": len(request.values),
            "median": scores.center,
            "scale": scores.scale,
            "anomalies": [asdict(anomaly) for anomaly in anomalies],
        }
        identity, created_at = await self.database.insert_detection(
            {
                "dataset": request.dataset,
                "content_hash": key.rpartition(":")[2],
                "value_count": len(request.values),
                "anomaly_count": len(anomalies),
                "threshold": request.threshold,
                "result": result,
                "api_version": self.settings.version,
            }
        )
        self.database_state.note(None)
        result = {"id": identity, "created_at": created_at, **result}
        await self._keep(key, result)
        return {**result, "cached": False}

    async def detections(self, limit: int) -> dict[str, Any]:
        rows = await self.database.latest_detections(limit)
        self.database_state.note(None)
        return {"count": len(rows), "detections": rows}

    def database_failed(self, error: DatabaseUnreachableError) -> HTTPException:
        self.database_state.note(error)
        logger.error("request failed for want of the database: %s", error)
        return HTTPException(503, "the database is unreachable")


def make_app(settings: Settings) -> FastAPI:
    """The ASGI application for `settings`."""
    api = Api(settings)
    app = FastAPI(title="Pynomaly", version=settings.version, lifespan=api.lifespan)

    @app.get("/health")
    async def health() -> JSONResponse:
        return await api.health()

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    @app.post("/api/v1/detect")
    async def detect(request: DetectRequest) -> dict[str, Any]:
        try:
            return await api.detect(request)
        except DatabaseUnreachableError as error:
            raise api.database_failed(error) from error

    @app.get("/api/v1/detections")
    async def detections(limit: Annotated[int, Query(ge=1, le=1000)] = 20) -> dict[str, Any]:
        try:
            return await api.detections(limit)
        except DatabaseUnreachableError as error:
            raise api.database_failed(error) from error

    # The one added last is outermost: faults are counted and timed like anything else.
    if settings.faults_file is not None:
        app.add_middleware(FaultsMiddleware, path=settings.faults_file)
    app.add_middleware(MetricsMiddleware, routes=app.router.routes)
    return app
