# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Credentials out of containers' environments, commands and secret files.

Everything here is pure: files are read through a callable that is handed in. Passwords never
appear in a repr or in an error's text.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Optional
from urllib.parse import parse_qsl, quote, unquote

#: Returns the text of a file inside the container; raises whatever it likes where it cannot.
ReadSecret = Callable[[str], str]

POSTGRES_PORT = 5432
REDIS_PORT = 6379

#: Variables that hold an application's whole database URL, most particular first.
DATABASE_URL_NAMES = (
    "DATABASE_URL",
    "DB_URL",
    "SQLALCHEMY_DATABASE_URI",
    "SQLALCHEMY_DATABASE_URL",
    "DATABASE_URI",
    "POSTGRES_DSN",
    "POSTGRES_URL",
    "POSTGRESQL_URL",
    "DATABASE_DSN",
    "DB_DSN",
)
REDIS_URL_NAMES = ("REDIS_URL", "REDIS_DSN", "REDIS_URI", "CACHE_URL", "CELERY_BROKER_URL")

_POSTGRES_SCHEME = re.compile(r"^postgres(?:ql)?(?:\+\w+)?://", re.IGNORECASE)
_REDIS_SCHEME = re.compile(r"^rediss?://", re.IGNORECASE)
_DSN_KEY = re.compile(r"^\s*(?:host|hostaddr|port|user|password|dbname)\s*=", re.IGNORECASE)

#: Prefixes under which the parts of an application's database login are given one by one.
_PART_PREFIXES = ("DB_", "DATABASE_", "POSTGRES_", "POSTGRESQL_", "PG")
_HOST = ("HOST", "HOSTNAME", "SERVER")
_USER = ("USER", "USERNAME")
_PASSWORD = ("PASSWORD", "PASS")
_DATABASE = ("NAME", "DATABASE", "DB", "DBNAME")

MASK = "********"


class CredentialError(ValueError):
    """Credentials are there but cannot be used; the text says which and holds no secret."""


@dataclass(frozen=True)
class DatabaseCredentials:
    """How somebody logs in to PostgreSQL. An empty ``host`` means that none was named.

    ``hosts`` holds every host of a URL that names several, the first being ``host``.
    ``parameters`` are the URL's own (sslmode, say); ``source`` names the variable they came from.
    """

    host: str = ""
    port: int = POSTGRES_PORT
    user: str = ""
    password: Optional[str] = field(default=None, repr=False)
    database: str = ""
    hosts: Sequence[tuple[str, int]] = ()
    parameters: Mapping[str, str] = field(default_factory=dict, repr=False)
    source: str = ""


@dataclass(frozen=True)
class RedisCredentials:
    """How somebody logs in to Redis; an empty ``username`` is the default user."""

    host: str = ""
    port: int = REDIS_PORT
    username: str = ""
    password: Optional[str] = field(default=None, repr=False)
    database: int = 0
    tls: bool = False
    source: str = ""


def scrub(text: str, secrets: Iterable[Optional[str]]) -> str:
    """The text with every secret, plain or percent-encoded, and every URL's password masked."""
    forms: set[str] = set()
    for secret in secrets:
        if secret:
            forms.update((secret, quote(secret, safe=""), quote(secret)))
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, MASK)
    return re.sub(r"(\w://[^\s:/@]*:)[^\s/]+@", rf"\g<1>{MASK}@", text)


# Environments


def environment_value(
    environment: Mapping[str, str], name: str, read_secret: ReadSecret
) -> Optional[str]:
    """The variable's value, or the content of the file that ``<name>_FILE`` names.

    An empty variable counts as unset, as it does in the images' own entry points. Line ends
    around a file's content are taken off. Raises L{CredentialError} when the file cannot be read.
    """
    value = environment.get(name)
    if value:
        return value
    path = environment.get(f"{name}_FILE")
    if not path:
        return None
    return _read(path, f"{name}_FILE", read_secret)


def _read(path: str, what: str, read_secret: ReadSecret) -> str:
    try:
        return read_secret(path).strip("\r\n")
    except Exception as error:
        raise CredentialError(
            f"{what} names {path}, which cannot be read: {type(error).__name__}"
        ) from error


def _first(
    environment: Mapping[str, str], names: Iterable[str], read_secret: ReadSecret
) -> Optional[str]:
    for name in names:
        value = environment_value(environment, name, read_secret)
        if value is not None:
            return value
    return None


def _port(text: Optional[str], default: int) -> int:
    """The port in a variable; links of old give REDIS_PORT=tcp://… which is not one."""
    text = (text or "").strip()
    if text.isascii() and text.isdigit() and 0 < int(text) < 65536:
        return int(text)
    return default


# URLs


def _split_authority(text: str) -> tuple[str, str, str]:
    """User part, hosts, and the rest of a URL without its scheme.

    Passwords with a bare ``/``, ``?``, ``#`` or ``@`` are common where people write URLs by hand,
    and SQLAlchemy takes most of them, so the user part ends at the last ``@`` before the query.
    """
    first = text.find("@")
    user = ""
    if first >= 0:
        query = text.find("?", first)
        last = text.rfind("@", 0, query if query >= 0 else len(text))
        user, text = text[:last], text[last + 1 :]
    ends = [position for position in (text.find("/"), text.find("?")) if position >= 0]
    end = min(ends) if ends else len(text)
    return user, text[:end], text[end:]


def _split_host(text: str, default: int) -> tuple[str, int]:
    match = re.match(r"^(\[[^\]]*\]|[^:]*)(?::(\d*))?$", text)
    if not match:
        raise CredentialError("the URL's host and port cannot be told apart")
    port = match.group(2)
    if port and not 0 < int(port) < 65536:
        raise CredentialError(f"the URL's port is {port}, expected 1 to 65535")
    return unquote(match.group(1).strip("[]")), int(port) if port else default


def _split_user(text: str) -> tuple[str, Optional[str]]:
    user, separator, password = text.partition(":")
    return unquote(user), unquote(password) if separator else None


def parse_database_url(text: str, source: str = "") -> DatabaseCredentials:
    """A PostgreSQL URL as libpq, SQLAlchemy (``postgresql+driver://``) or asyncpg take it, or
    libpq's ``key=value`` form. Raises L{CredentialError} for anything else."""
    text = text.strip()
    if _DSN_KEY.match(text):
        return _parse_dsn(text, source)
    match = _POSTGRES_SCHEME.match(text)
    if not match:
        raise CredentialError("not a PostgreSQL URL: expected postgresql://USER:…@HOST/DATABASE")
    user_part, host_part, rest = _split_authority(text[match.end() :])
    user, password = _split_user(user_part)
    path, _separator, query = rest.partition("?")
    parameters = dict(parse_qsl(query, keep_blank_values=True))
    hosts = [_split_host(item, POSTGRES_PORT) for item in host_part.split(",") if item]
    if "host" in parameters:
        hosts = _zip_hosts(parameters.pop("host"), parameters.get("port", ""))
    elif "port" in parameters and hosts:
        hosts = [(hosts[0][0], _port(parameters["port"], POSTGRES_PORT)), *hosts[1:]]
    parameters.pop("port", None)
    user = parameters.pop("user", user)
    password = parameters.pop("password", password)
    database = parameters.pop("dbname", unquote(path[1:]))
    return _database(hosts, (user, password), database, parameters, source)


def _zip_hosts(hosts: str, ports: str) -> list[tuple[str, int]]:
    """libpq's lists: one port for all hosts or one each; SQLAlchemy's host=NAME:PORT as well."""
    numbers = ports.split(",")
    pairs = []
    for index, host in enumerate(hosts.split(",")):
        number = numbers[index] if index < len(numbers) else numbers[0]
        default = _port(number, POSTGRES_PORT)
        pairs.append((host, default) if host.startswith("/") else _split_host(host, default))
    return pairs


def _parse_dsn(text: str, source: str) -> DatabaseCredentials:
    try:
        words = shlex.split(re.sub(r"\s*=\s*", "=", text))
    except ValueError as error:
        raise CredentialError("the connection string's quotes do not match") from error
    parameters = dict(word.partition("=")[::2] for word in words)
    hosts = parameters.pop("hostaddr", "") or parameters.get("host", "")
    parameters.pop("host", None)
    port = parameters.pop("port", "")
    pairs = _zip_hosts(hosts, port) if hosts else []
    user = parameters.pop("user", "")
    password = parameters.pop("password", None)
    database = parameters.pop("dbname", "")
    return _database(pairs, (user, password), database, parameters, source)


def _database(
    hosts: Sequence[tuple[str, int]],
    login: tuple[str, Optional[str]],
    database: str,
    parameters: Mapping[str, str],
    source: str,
) -> DatabaseCredentials:
    host, port = hosts[0] if hosts else ("", POSTGRES_PORT)
    user, password = login
    return DatabaseCredentials(
        host, port, user, password, database or user, tuple(hosts), parameters, source
    )


def parse_redis_url(text: str, source: str = "") -> RedisCredentials:
    """``redis[s]://[USER][:PASSWORD]@HOST:PORT/DATABASE`` as redis-py takes it; raises
    L{CredentialError} for anything else."""
    text = text.strip()
    match = _REDIS_SCHEME.match(text)
    if not match:
        raise CredentialError("not a Redis URL: expected redis://USER:…@HOST/0")
    user_part, host_part, rest = _split_authority(text[match.end() :])
    user, password = _split_user(user_part)
    path, _separator, query = rest.partition("?")
    parameters = dict(parse_qsl(query))
    host, port = _split_host(host_part, REDIS_PORT)
    number = parameters.get("db", path.strip("/"))
    return RedisCredentials(
        host,
        port,
        parameters.get("username", user),
        parameters.get("password", password) or None,
        int(number) if number.isascii() and number.isdigit() else 0,
        text[:6].lower() == "rediss",
        source,
    )


def _urls(
    environment: Mapping[str, str],
    names: Sequence[str],
    wanted: Callable[[str], bool],
    read_secret: ReadSecret,
) -> Iterator[tuple[str, str]]:
    """(variable, URL): the known names, the same with a prefix, then whatever looks like one."""
    candidates = list(names)
    for variable in sorted(environment):
        base = variable[: -len("_FILE")] if variable.endswith("_FILE") else variable
        if any(base.endswith(f"_{name}") for name in names):
            candidates.append(base)
    candidates.extend(sorted(environment))
    for name in dict.fromkeys(candidates):
        value = environment_value(environment, name, read_secret)
        if value and wanted(value.strip()):
            yield name, value


# PostgreSQL


def postgres_server_port(environment: Mapping[str, str], command: Sequence[str]) -> int:
    """The port that a PostgreSQL container listens on: its command's, PGPORT, or 5432."""
    for index, word in enumerate(command):
        if word in ("-p", "--port") and index + 1 < len(command):
            return _port(command[index + 1], POSTGRES_PORT)
        match = re.match(r"^(?:--port=|-p|(?:-c|--)?port=)(\d+)$", word)
        if match:
            return _port(match.group(1), POSTGRES_PORT)
    return _port(
        environment.get("PGPORT") or environment.get("POSTGRESQL_PORT_NUMBER"), POSTGRES_PORT
    )


def postgres_server_credentials(
    environment: Mapping[str, str], read_secret: ReadSecret
) -> DatabaseCredentials:
    """What a PostgreSQL container's own environment says of its administrator: the official
    image's variables, Bitnami's, then libpq's. The official image's defaults where it is silent.

    Bitnami's image gives the administrator a password of its own; where there is one, it counts.
    """
    administrator = _first(environment, ["POSTGRESQL_POSTGRES_PASSWORD"], read_secret)
    database = _first(
        environment, ["POSTGRES_DB", "POSTGRESQL_DATABASE", "PGDATABASE"], read_secret
    )
    if administrator is not None:
        return DatabaseCredentials(
            user="postgres",
            password=administrator,
            database=database or "postgres",
            source="POSTGRESQL_POSTGRES_PASSWORD",
        )
    user = _first(environment, ["POSTGRES_USER", "POSTGRESQL_USERNAME", "PGUSER"], read_secret)
    password_names = ["POSTGRES_PASSWORD", "POSTGRESQL_PASSWORD", "PGPASSWORD"]
    password = _first(environment, password_names, read_secret)
    source = next(
        (name for name in password_names if environment.get(name) or f"{name}_FILE" in environment),
        "",
    )
    user = user or "postgres"
    return DatabaseCredentials(
        user=user, password=password, database=database or user, source=source
    )


def application_database_credentials(
    environment: Mapping[str, str], read_secret: ReadSecret
) -> Optional[DatabaseCredentials]:
    """How an application logs in to PostgreSQL, by its own environment; C{None} where it does not
    say (or speaks of another kind of database).

    Raises L{CredentialError} for a URL that cannot be used or a secret that cannot be read.
    """

    def wanted(value: str) -> bool:
        return bool(_POSTGRES_SCHEME.match(value))

    for name, value in _urls(environment, DATABASE_URL_NAMES, wanted, read_secret):
        try:
            return _with_password(
                parse_database_url(value, name), environment, _PART_PREFIXES, read_secret
            )
        except CredentialError as error:
            raise CredentialError(f"{name}: {error}") from error
    for name in DATABASE_URL_NAMES:
        value_or_none = environment_value(environment, name, read_secret)
        if value_or_none and _DSN_KEY.match(value_or_none):
            return parse_database_url(value_or_none, name)
    return _database_parts(environment, read_secret)


def _with_password(
    credentials: DatabaseCredentials,
    environment: Mapping[str, str],
    prefixes: Sequence[str],
    read_secret: ReadSecret,
) -> DatabaseCredentials:
    """A URL that leaves the password to a variable of its own (a secret file, most often)."""
    if credentials.password is not None:
        return credentials
    names = [prefix + part for prefix in prefixes for part in _PASSWORD]
    return DatabaseCredentials(
        credentials.host,
        credentials.port,
        credentials.user,
        _first(environment, names, read_secret),
        credentials.database,
        credentials.hosts,
        credentials.parameters,
        credentials.source,
    )


def _database_parts(
    environment: Mapping[str, str], read_secret: ReadSecret
) -> Optional[DatabaseCredentials]:
    for prefix in _PART_PREFIXES:

        def part(names: Sequence[str], prefix: str = prefix) -> Optional[str]:
            return _first(environment, [prefix + name for name in names], read_secret)

        user, password = part(_USER), part(_PASSWORD)
        if user is None or (password is None and part(_HOST) is None):
            continue
        host = part(_HOST) or ""
        port = _port(part(["PORT"]), POSTGRES_PORT)
        return DatabaseCredentials(
            host,
            port,
            user,
            password,
            part(_DATABASE) or user,
            ((host, port),) if host else (),
            {},
            f"{prefix}USER",
        )
    return None


# Redis


def parse_redis_config(text: str) -> Mapping[str, Sequence[str]]:
    """The last words of each directive of a ``redis.conf``, and under ``include`` and ``user``
    one entry a line."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.lstrip().startswith("#"):
            continue
        try:
            words = shlex.split(line)
        except ValueError:
            continue
        if not words:
            continue
        name = words[0].lower()
        if name in ("include", "user"):
            found.setdefault(name, []).append(" ".join(words[1:]))
        else:
            found[name] = words[1:]
    return found


def redis_server_credentials(
    environment: Mapping[str, str], command: Sequence[str], read_secret: ReadSecret
) -> RedisCredentials:
    """How to log in to a Redis container, by its command (``--requirepass``), then its
    configuration file, then its environment (Bitnami's variables, REDISCLI_AUTH).

    A command that is a line of shell is read with its variables and ``$(cat FILE)``. Raises
    L{CredentialError} when a file that it names cannot be read.
    """
    line = " ".join(command)
    port_text = _option(line, "port", environment, read_secret)
    tls_text = _option(line, "tls-port", environment, read_secret)
    password = _option(line, "requirepass", environment, read_secret)
    source = "--requirepass" if password else ""
    username = ""
    path = _config_path(line)
    if path is not None:
        directives = _redis_directives(path, read_secret, depth=3)
        port_text = port_text or _word(directives, "port")
        tls_text = tls_text or _word(directives, "tls-port")
        if not password:
            password = _word(directives, "requirepass")
            source = path if password else ""
        if not password:
            username, password = _redis_user(directives.get("user", ()))
            source = path if password else ""
    for name in ("REDIS_PASSWORD", "REDISCLI_AUTH", "REDIS_REQUIREPASS"):
        if not password:
            password = environment_value(environment, name, read_secret)
            source = name if password else ""
    tls = port_text == "0" and bool(tls_text)
    port = _port(tls_text if tls else port_text or environment.get("REDIS_PORT_NUMBER"), REDIS_PORT)
    return RedisCredentials(
        port=port, username=username, password=password or None, tls=tls, source=source
    )


def _option(
    line: str, name: str, environment: Mapping[str, str], read_secret: ReadSecret
) -> Optional[str]:
    pattern = (
        rf"--{re.escape(name)}[\s=]+"
        r"(\"[^\"]*\"|'[^']*'|\$\([^)]*\)|`[^`]*`|[^\s\"'`]+)"
    )
    found = re.findall(pattern, line)
    return _expand(found[-1], environment, read_secret) if found else None


def _expand(word: str, environment: Mapping[str, str], read_secret: ReadSecret) -> str:
    """A shell word's value: quotes off, variables and ``$(cat FILE)`` in place."""
    if len(word) > 1 and word[0] == word[-1] == "'":
        return word[1:-1]
    word = word[1:-1] if len(word) > 1 and word[0] == word[-1] == '"' else word
    file = re.match(r"^(?:\$\(|`)\s*(?:cat\s+|<\s*)[\"']?([^)`\"']+?)[\"']?\s*(?:\)|`)$", word)
    if file:
        path = _variables(file.group(1), environment)
        return _read(path, "the command", read_secret)
    return _variables(word, environment)


def _variables(text: str, environment: Mapping[str, str]) -> str:
    return re.sub(
        r"\$(?:\{(\w+)(?::?[-?][^}]*)?\}|(\w+))",
        lambda match: environment.get(match.group(1) or match.group(2), ""),
        text,
    )


def _config_path(line: str) -> Optional[str]:
    match = re.search(r"(?:^|\s)[\"']?(/\S+\.conf)\b", line)
    return match.group(1) if match else None


def _redis_directives(
    path: str, read_secret: ReadSecret, depth: int
) -> Mapping[str, Sequence[str]]:
    """A configuration with what it includes; what is included first is overridden by the file,
    which is where Redis' own example puts its includes."""
    directives = dict(parse_redis_config(_read(path, "the command", read_secret)))
    merged: dict[str, Sequence[str]] = {}
    if depth > 0:
        for included in directives.get("include", ()):
            if included.startswith("/") and "*" not in included:
                merged.update(_redis_directives(included, read_secret, depth - 1))
    merged.update(directives)
    return merged


def _word(directives: Mapping[str, Sequence[str]], name: str) -> Optional[str]:
    words = directives.get(name, ())
    return words[0] if words and words[0] else None


def _redis_user(lines: Sequence[str]) -> tuple[str, Optional[str]]:
    """The first enabled user whose password stands in clear in the configuration."""
    for line in lines:
        name, *rules = line.split(" ")
        password = next((rule[1:] for rule in rules if rule.startswith(">")), None)
        if password and "on" in rules:
            return ("" if name == "default" else name), password
    return "", None


def application_redis_credentials(
    environment: Mapping[str, str], read_secret: ReadSecret
) -> Optional[RedisCredentials]:
    """How an application logs in to Redis, by its own environment; C{None} where it does not say.

    Raises L{CredentialError} for a URL that cannot be used or a secret that cannot be read.
    """

    def wanted(value: str) -> bool:
        return bool(_REDIS_SCHEME.match(value))

    password = _first(environment, ["REDIS_PASSWORD", "REDIS_PASS"], read_secret)
    for name, value in _urls(environment, REDIS_URL_NAMES, wanted, read_secret):
        try:
            found = parse_redis_url(value, name)
        except CredentialError as error:
            raise CredentialError(f"{name}: {error}") from error
        if found.password is None and password:
            found = RedisCredentials(
                found.host, found.port, found.username, password, found.database, found.tls, name
            )
        return found
    host = _first(environment, ["REDIS_HOST", "REDIS_HOSTNAME", "REDIS_SERVER"], read_secret)
    if host is None and password is None:
        return None
    return RedisCredentials(
        host or "",
        _port(environment.get("REDIS_PORT"), REDIS_PORT),
        _first(environment, ["REDIS_USERNAME", "REDIS_USER"], read_secret) or "",
        password,
        source="REDIS_HOST" if host else "REDIS_PASSWORD",
    )
