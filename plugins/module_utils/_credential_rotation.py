# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""New secrets in the place of old ones: SCRAM verifiers, and where a secret stands in environment
files, in configuration files and in what Compose prints. No secret is in a repr or an error."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import stringprep
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional
from urllib.parse import quote, unquote

from ansible_collections.pynomaly.ops.plugins.module_utils._environment_file import (
    encode,
    parse,
)

POSTGRES = "postgres"
REDIS = "redis"
API = "api"
GRAFANA = "grafana"
#: In the order in which they are told of.
CREDENTIALS = (POSTGRES, REDIS, API, GRAFANA)

#: PostgreSQL's default, https://www.postgresql.org/docs/current/runtime-config-connection.html
SCRAM_ITERATIONS = 4096
SCRAM_SALT_BYTES = 16

#: So long a text stands nowhere by chance.
_LONG_CHARACTERS = 16

_SECRET_NAME = re.compile(r"PASS|PWD|SECRET|TOKEN|KEY|AUTH|CREDENTIAL", re.IGNORECASE)
#: Keys that sign; one that encrypts is left alone, since what it has encrypted would be lost.
_API_KEY = re.compile(
    r"(?:^|_)(?:SECRET_KEY|(?:JWT|API|APP|SESSION)_SECRET(?:_KEY)?|(?:JWT|SIGNING)_KEY)$"
)
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://[^\s:/@]*:)(.*)@([^@]*)\Z", re.S)
_DSN_PASSWORD = re.compile(r"(\bpassword\s*=\s*)('[^']*'|[^\s']+)")
_VERIFIER = re.compile(r"SCRAM-SHA-256\$(\d+):([^$]+)\$([^:]+):(.+)\Z")
#: Directives of redis.conf and of an ACL file that hold a password, or the digest of one.
_REDIS_SECRET = re.compile(
    r"(?m)(^[ \t]*(?:requirepass|masterauth)[ \t]+[\"']?|^[ \t]*user[ \t][^\n]*?[ \t][>#])"
    r"([^\s\"']+)"
)
_REDIS_USER = re.compile(r"([ \t][>#])(\S+)")
_COMMAND_SECRET = re.compile(r"(--(?:requirepass|masterauth|pass(?:word)?)[\s=]+[\"']?)([^\s\"']+)")


class RotationError(Exception):
    """A credential cannot be rotated. The text says what was seen and expected, and holds no
    secret; ``hint`` is what to run next."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True)
class Rotated:
    """One secret and what takes its place. ``name`` is the role's, the user's or the variable's."""

    credential: str
    name: str
    old: str = field(repr=False)
    new: str = field(repr=False)

    @property
    def label(self) -> str:
        return f"{self.credential} {self.name}"


# SCRAM


def saslprep(text: str) -> str:
    """A password as RFC 4013 prepares it; as it is where that forbids a character in it, which is
    what PostgreSQL does (src/common/saslprep.c, and pg_be_scram_build_secret)."""
    mapped = "".join(
        " " if stringprep.in_table_c12(character) else character
        for character in text
        if not stringprep.in_table_b1(character)
    )
    prepared = unicodedata.ucd_3_2_0.normalize("NFKC", mapped)
    if not prepared or any(_is_prohibited(character) for character in prepared):
        return text
    right_to_left = [stringprep.in_table_d1(character) for character in prepared]
    if any(right_to_left) and (
        any(stringprep.in_table_d2(character) for character in prepared)
        or not (right_to_left[0] and right_to_left[-1])
    ):
        return text
    return prepared


def _is_prohibited(character: str) -> bool:
    return any(
        table(character)
        for table in (
            stringprep.in_table_a1,
            stringprep.in_table_c12,
            stringprep.in_table_c21_c22,
            stringprep.in_table_c3,
            stringprep.in_table_c4,
            stringprep.in_table_c5,
            stringprep.in_table_c6,
            stringprep.in_table_c7,
            stringprep.in_table_c8,
            stringprep.in_table_c9,
        )
    )


def scram_keys(password: str, salt: bytes, iterations: int) -> tuple[bytes, bytes]:
    """StoredKey and ServerKey (RFC 5802, section 3, with the hash of RFC 7677)."""
    salted = hashlib.pbkdf2_hmac("sha256", saslprep(password).encode(), salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    return hashlib.sha256(client_key).digest(), hmac.digest(salted, b"Server Key", "sha256")


def scram_verifier(password: str, salt: bytes, iterations: int = SCRAM_ITERATIONS) -> str:
    """What PostgreSQL keeps of a password in C{pg_authid}, which tells nobody the password:
    https://www.postgresql.org/docs/current/catalog-pg-authid.html"""
    stored, server = (
        base64.b64encode(key).decode() for key in scram_keys(password, salt, iterations)
    )
    return f"SCRAM-SHA-256${iterations}:{base64.b64encode(salt).decode()}${stored}:{server}"


def matches_verifier(password: str, verifier: Optional[str]) -> bool:
    """Whether a verifier is that of a password; never where it is none (an MD5 hash, say)."""
    found = _VERIFIER.match(verifier or "")
    if found is None:
        return False
    iterations, salt = int(found.group(1)), base64.b64decode(found.group(2))
    return hmac.compare_digest(scram_verifier(password, salt, iterations), found.group(0))


# Where a secret stands


def api_key_names(names: Iterable[str]) -> list[str]:
    """The variables of an application's environment that hold a key that it signs with, without
    the C{_FILE} that says that it is in a file."""
    bases = (name[: -len("_FILE")] if name.endswith("_FILE") else name for name in names)
    return sorted({base for base in bases if _API_KEY.search(base.upper())})


def replaced_value(name: str, value: str, rotated: Sequence[Rotated]) -> str:
    """A variable's value with each old secret replaced: where it is the whole, the password of a
    URL, or that of a connection string."""
    for one in rotated:
        if value == one.old and (_SECRET_NAME.search(name) or len(one.old) >= _LONG_CHARACTERS):
            return one.new
    url = _URL.match(value)
    if url is not None:
        for one in rotated:
            if one.old in (url.group(2), unquote(url.group(2))):
                return f"{url.group(1)}{quote(one.new, safe='')}@{url.group(3)}"
        return value

    def substitute(match: re.Match[str]) -> str:
        for one in rotated:
            if match.group(2).strip("'") == one.old:
                return match.group(1) + one.new
        return match.group(0)

    return _DSN_PASSWORD.sub(substitute, value)


def replaced_environment(
    text: str, rotated: Sequence[Rotated], given: Optional[Mapping[str, str]] = None
) -> tuple[str, list[str]]:
    """An environment file with the new secrets, every other line as it was, and the names that
    changed. ``given`` are values that take a name's place whatever it holds.

    Raises C{EnvironmentFileError}.
    """
    lines, names = [], []
    for entry in parse(text):
        if entry.name is None or (entry.value is None and entry.name not in (given or {})):
            lines.append(entry.raw)  # no assignment, or a value made of others, which follows them
            continue
        wanted = (given or {}).get(entry.name)
        if wanted is None:
            wanted = replaced_value(entry.name, entry.value or "", rotated)
        if wanted == entry.value:
            lines.append(entry.raw)
            continue
        exported = "export " if entry.raw.lstrip().startswith("export") else ""
        lines.append(f"{exported}{entry.name}={encode(wanted)}\n")
        names.append(entry.name)
    return "".join(lines), names


def replaced_file(text: str, rotated: Sequence[Rotated]) -> str:
    """A file that is a secret and nothing else, or a configuration of Redis, with the new ones."""
    content = text.strip("\r\n")
    for one in rotated:
        if content == one.old:
            return text.replace(content, one.new)

    def renew(secret: str) -> str:
        for one in rotated:
            if secret == one.old:
                return one.new
            if secret == _digest(one.old):
                return _digest(one.new)
        return secret

    def line(match: re.Match[str]) -> str:
        return match.group(1) + renew(match.group(2))

    if not _REDIS_SECRET.search(text):
        return text
    lines = []
    for raw in text.splitlines(keepends=True):
        pattern = _REDIS_USER if raw.lstrip().startswith("user") else _REDIS_SECRET
        lines.append(pattern.sub(line, raw))
    return "".join(lines)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def holds(name: str, value: str, secrets: Iterable[str]) -> bool:
    """Whether a value, of a variable or a command, has one of the secrets in it."""
    plain = value.replace("$$", "$")  # as Compose prints a dollar sign
    return any(_holds(name, plain, secret) for secret in secrets)


def _holds(name: str, value: str, secret: str) -> bool:
    if replaced_value(name, value, [Rotated("", "", secret, "")]) != value:
        return True
    if any(found == secret for _option, found in _COMMAND_SECRET.findall(value)):
        return True
    long = len(secret) >= _LONG_CHARACTERS
    return long and (secret in value or quote(secret, safe="") in value)


def places(document: Mapping[str, Any], secrets: Sequence[str]) -> list[str]:
    """Where a Compose project's definition has one of the secrets: C{SERVICE: PATH}."""
    found = []
    for service, definition in (document.get("services") or {}).items():
        for path, name, value in _texts(definition, "", ""):
            if holds(name, value, secrets):
                found.append(f"{service}: {path}")
    return found


def _texts(value: Any, path: str, name: str) -> Iterator[tuple[str, str, str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _texts(inner, f"{path}.{key}" if path else str(key), str(key))
    elif isinstance(value, list):
        if all(isinstance(item, str) for item in value) and value:
            yield path, name, " ".join(value)
        for inner in value:
            yield from _texts(inner, path, name)
    elif isinstance(value, str):
        yield path, name, value


def bridged_url(value: str, role: str, password: str) -> Optional[str]:
    """A PostgreSQL URL with another login; C{None} for what is no such URL."""
    match = re.match(r"(postgres(?:ql)?(?:\+\w+)?://)[^\s:/@]*:.*(@[^@]*)\Z", value, re.I | re.S)
    if match is None:
        return None
    return f"{match.group(1)}{quote(role, safe='')}:{quote(password, safe='')}{match.group(2)}"


def same_secrets(rotated: Sequence[Rotated]) -> list[str]:
    """Labels of credentials that have one and the same secret, and could not be told apart."""
    by_secret: dict[str, list[str]] = {}
    for one in rotated:
        by_secret.setdefault(one.old, []).append(one.label)
    return [label for labels in by_secret.values() if len(labels) > 1 for label in labels]


def restart_order(
    services: Iterable[str], components: Mapping[str, str], last: Sequence[str]
) -> list[str]:
    """Services in the order in which they are recreated: the API first, which clients wait for,
    then the others by name, then those of ``last``."""
    api = components.get(API)
    names = set(services)
    first = [name for name in (api,) if name in names]
    tail = [name for name in last if name in names and name not in first]
    return [*first, *sorted(names - set(first) - set(tail)), *tail]
