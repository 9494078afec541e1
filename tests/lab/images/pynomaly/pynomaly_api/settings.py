# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of the API, read from the environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


class SettingsError(ValueError):
    """A setting is missing or cannot be used. The message never holds its value."""


@dataclass(frozen=True)
class Settings:
    """What the API was told; see the image's README for each variable."""

    version: str
    environment: str
    log_level: str
    database_url: str = field(repr=False)
    redis_url: str | None = field(repr=False)
    secret_key: str = field(repr=False)
    database_pool_size: int = 10
    cache_seconds: int = 300
    always_unhealthy: bool = False
    faults_file: Path | None = None


def _text(environ: Mapping[str, str], name: str, default: str = "") -> str:
    """`NAME`, or what the file named by `NAME_FILE` holds; raises SettingsError on both."""
    path = environ.get(f"{name}_FILE", "")
    if not path:
        return environ.get(name, "") or default
    if environ.get(name):
        raise SettingsError(f"both {name} and {name}_FILE are set; give one of them")
    try:
        return Path(path).read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise SettingsError(
            f"{name}_FILE names {path}, which cannot be read: {error.strerror}"
        ) from None


def _url(environ: Mapping[str, str], name: str, schemes: tuple[str, ...]) -> str:
    url = _text(environ, name)
    if not url:
        return url
    # SQLAlchemy's way to name a driver says nothing to the driver itself.
    scheme, separator, rest = url.partition("://")
    url = scheme.partition("+")[0] + separator + rest
    try:
        parts = urlsplit(url)
        usable = parts.scheme in schemes and bool(parts.hostname)
        _ = parts.port
    except ValueError:
        usable = False
    if not usable:
        wanted = " or ".join(f"{scheme}://USER:PASSWORD@HOST:PORT/NAME" for scheme in schemes)
        raise SettingsError(f"{name} is not an address that can be used; expected {wanted}")
    return url


def _whole_number(environ: Mapping[str, str], name: str, default: int) -> int:
    text = _text(environ, name, str(default))
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise SettingsError(f"{name} must be a whole number above 0")
    return int(text)


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Settings from `environ`; raises SettingsError, naming the first variable at fault."""
    environment = _text(environ, "ENVIRONMENT", "production")
    log_level = _text(environ, "LOG_LEVEL", "INFO").upper()
    if log_level not in LOG_LEVELS:
        raise SettingsError(f"LOG_LEVEL must be one of {', '.join(LOG_LEVELS)}")
    database_url = _url(environ, "DATABASE_URL", ("postgresql", "postgres"))
    if not database_url:
        raise SettingsError("DATABASE_URL is not set; it says which PostgreSQL to use")
    secret_key = _text(environ, "SECRET_KEY")
    if environment == "production" and not secret_key:
        raise SettingsError("SECRET_KEY is not set; ENVIRONMENT=production needs one")
    faults = environ.get("PYNOMALY_LAB_FAULTS") == "1"
    return Settings(
        version=environ.get("PYNOMALY_VERSION") or "0.0.0",
        environment=environment,
        log_level=log_level,
        database_url=database_url,
        redis_url=_url(environ, "REDIS_URL", ("redis", "rediss")) or None,
        secret_key=secret_key,
        database_pool_size=_whole_number(environ, "DATABASE_POOL_SIZE", 10),
        cache_seconds=_whole_number(environ, "CACHE_SECONDS", 300),
        always_unhealthy=environ.get("PYNOMALY_ALWAYS_UNHEALTHY") == "1",
        faults_file=Path("/app/config/faults.json") if faults else None,
    )
