# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Secrets taken out of what is written down, by name, by known value, and by shape.

Each is replaced by C{<redacted:12 hex digits>}, an HMAC of the value with a key of the host's: the
same secret has the same marker everywhere, and without the key no guess at it can be tried.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional
from urllib.parse import quote, quote_plus, unquote

#: Why something was redacted.
BY_VALUE = "known value"
BY_NAME = "name"
BY_SHAPE = "shape"

#: Shorter values are taken out where they stand under their name, and not looked for elsewhere:
#: they would take half of a log with them.
MINIMUM_LENGTH = 6
_MINIMUM_DIGITS = 10
_ORDINARY = frozenset(
    {
        *("default", "enabled", "disabled", "production", "development", "staging", "testing"),
        *("localhost", "password", "postgres", "example"),
    }
)

_SECRET_NAME = re.compile(
    r"passw|passphrase|\bpwd\b|_pwd|secret|token|credential|(?:api|private|secret|access|signing|"
    r"encryption)[_-]?key|_key$|^key$|salt|dsn|cookie|session|webhook|requirepass|masterauth|"
    r"(?:^|_)auth$|jwt|pepper|connection_?string",
    re.IGNORECASE,
)
_HARMLESS_NAME = re.compile(
    r"PATH|HOME|LANG|LANGUAGE|LC_\w+|TZ|TERM|HOSTNAME|USER|PWD|SHELL|SHLVL|PGDATA|ENV|ENVIRONMENT|"
    r"DEBUG|WORKERS|PKG_RELEASE|NODE_ENV|PYTHON\w+|container|"
    r"\w+_(?:VERSION|HOST|HOSTNAME|PORT|USER|USERNAME|DB|DATABASE|FILE|DIR|FOLDER|LEVEL|ENV|"
    r"ENVIRONMENT|TIMEOUT|SECONDS|MS|BYTES|WORKERS|ENABLED|MODE|POLICY)",
)
#: Where a server is, with nobody's name or password.
_PLAIN_URL = re.compile(
    r"(?:postgres\w*|rediss?|amqps?|mysql|mongodb)(?:\+\w+)?://[\w.:\[\]-]+(?:/[\w-]*)?"
)
_URL_PASSWORD = re.compile(r"[a-zA-Z][\w+.-]*://[^\s:/@]*:(?P<password>.+)@", re.DOTALL)
_DSN_PASSWORD = re.compile(r"(?i)\bpassword\s*=\s*(?:'((?:[^'\\]|\\.)*)'|(\S+))")
_OPTION = re.compile(
    r"--?(?:requirepass|masterauth|pass(?:word|wd|phrase)?|token|secret|api-?key|auth|redis\.password)$"
)

_NAME = (
    rb"(?:passw(?:or)?d|passwd|passphrase|secret|token|api[_-]?key|private[_-]?key|"
    rb"credential|requirepass|masterauth)[\w-]{0,60}"
)
_LONG_NAME = rb"[\w.-]{0,60}" + _NAME
_VALUE = rb"[^\s\"'&;,)}\]]+"

#: (what stays in front, the secret) of each shape. Attackers write logs, too: repeats that could
#: take a time that grows with the square of a line's length have an upper bound.
_SHAPES: Sequence[re.Pattern[bytes]] = (
    re.compile(rb"(\w://[^\s:/@\"'<>]*:)([^\s\"'<>/?#]+)(?=@)"),
    re.compile(rb"(?i)(\bpassword\s{0,8}=?\s{0,8}e?')((?:[^']|'')+)"),
    re.compile(rb"()(SCRAM-SHA-256\$[^\s\"',]+)"),
    re.compile(rb"()(\bmd5[0-9a-f]{32}\b)"),
    re.compile(rb"()(\$(?:2[aby]|5|6|y|argon2\w*)\$[./A-Za-z0-9$=,+]{20,})"),
    re.compile(rb"((?:^|[\s\"'])#)([0-9a-f]{64}\b)"),
    re.compile(
        rb"(?i)(\bauthorization[\"']?\s*[:=]\s*[\"']?(?:(?:bearer|basic|token|digest)\s+)?)"
        rb"([^\s\"',;\[\]{}]{6,})"
    ),
    re.compile(rb"(?i)(\bbearer\s+)([A-Za-z0-9._~+/=-]{8,})"),
    re.compile(rb"(?i)(\b(?:set-)?cookie:\s*)([^\r\n\"]+)"),
    re.compile(rb"(?i)(" + _NAME + rb"=[\"']?)(" + _VALUE + rb")"),
    re.compile(rb"(?i)([\"']" + _LONG_NAME + rb"[\"']\s*:\s*[\"'])([^\"']+)"),
    re.compile(rb"(?im)(^[ \t]*(?:- )?" + _LONG_NAME + rb":[ \t]+[\"']?)(" + _VALUE + rb")"),
    re.compile(
        rb"(?i)((?:^|\s)--?(?:requirepass|masterauth|pass(?:word|wd|phrase)?|token|secret|api-?key)"
        rb"[ =\t]+[\"']?)([^\s\"']+)"
    ),
    re.compile(rb"((?:redis-cli|valkey-cli)\b[^\n]{0,200}?\s-a\s{0,8})(\S+)"),
    re.compile(rb"(\bsshpass\s+-p\s*)(\S+)"),
    re.compile(rb"(\bcurl\b[^\n]{0,200}?\s(?:-u|--user)[ =]\s{0,8}[^\s:]+:)(\S+)"),
    re.compile(rb"()(\beyJ[\w-]{6,300}\.[\w-]{6,2000}\.[\w-]*)"),
    re.compile(rb"()(\b(?:gh[pousr]_|xox[baprs]-|sk_live_)[A-Za-z0-9_-]{10,})"),
)
#: A line with neither any of these words, in lower case, nor any of these patterns has none of the
#: shapes. Nearly every line is left at that: looking for a word is a hundred times as fast.
_GATE_WORDS = (
    *(b"pass", b"secret", b"token", b"key", b"cred", b"auth", b"bearer", b"cookie:", b"scram-"),
    *(b"md5", b"setuser", b"-cli", b" -u ", b"--user", b"eyj", b"xox", b"sk_live_", b"$"),
)
_GATE_PATTERNS = (
    re.compile(rb"#[0-9a-f]{64}"),
    re.compile(rb"://[^\s/]*@"),
    re.compile(rb"gh[pousr]_"),
)
_KEY_BEGINS = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----")
_KEY_ENDS = b"PRIVATE KEY-----"
#: Redis' own way to give a user passwords, any number of them.
_ACL_PASSWORD = re.compile(rb"([\s\"'][><])([^\s\"',\\]+)")

#: Lines of a private key that are looked at; what claims to be longer is none.
_KEY_MAX_LINES = 200


@dataclass
class Secrets:
    """What is known of a project's secrets. ``unsearchable`` names those that are too short, or too
    ordinary a word, to be looked for in text; ``unread`` tells what could not be read, so that its
    value is not known; ``names`` are words that are no secrets."""

    names: frozenset[str] = frozenset()
    known: dict[str, str] = field(default_factory=dict, repr=False)
    unsearchable: set[str] = field(default_factory=set)
    unread: list[str] = field(default_factory=list)

    def add(self, value: Optional[str], source: str) -> None:
        """Take a value in; several lines are so many values."""
        for line in (value or "").splitlines():
            text = line.strip()
            if not text:
                continue
            if _is_searchable(text) and text not in self.names:
                self.known.setdefault(text, source)
            else:
                self.unsearchable.add(source)

    def merge(self, other: Secrets) -> None:
        """Take in what another one knows."""
        self.known.update(other.known)
        self.unsearchable.update(other.unsearchable)
        self.unread.extend(other.unread)

    def add_variable(self, name: str, value: str, source: str) -> None:
        """Take in what an environment variable holds, if that looks like a secret."""
        place = f"{source}: {name}"
        password = url_password(value)
        if password:
            self.add(password, place)
            self.add(unquote(password), place)
        elif _names_a_secret(name) or (not is_harmless_name(name) and _looks_random(value)):
            self.add(value, place)


def _is_searchable(text: str) -> bool:
    minimum = _MINIMUM_DIGITS if text.isdigit() else MINIMUM_LENGTH
    return len(text) >= minimum and text.lower() not in _ORDINARY


def _looks_random(value: str) -> bool:
    return (
        len(value) >= 8
        and not re.search(r"[\s/\\]", value)
        and any(one.isdigit() for one in value)
        and any(one.isalpha() for one in value)
    )


def _names_a_file(name: str) -> bool:
    return name.upper().endswith("_FILE")


def _names_a_secret(name: str) -> bool:
    return is_secret_name(name) and not _names_a_file(name)


def is_secret_name(name: str) -> bool:
    """Whether a key or variable of this name holds a secret, by its name."""
    return bool(_SECRET_NAME.search(name))


def is_harmless_name(name: str) -> bool:
    """Whether an environment variable of this name is known to hold none."""
    return bool(_HARMLESS_NAME.fullmatch(name)) and (
        _names_a_file(name) or not is_secret_name(name)
    )


def url_password(value: str) -> str:
    """The password of a URL or of libpq's C{key=value}, as it is written; empty where there is
    none."""
    match = _URL_PASSWORD.match(value.strip())
    if match:
        return match.group("password")
    if re.match(r"\s*\w+\s*=", value):
        found = _DSN_PASSWORD.search(value)
        return (found.group(1) or found.group(2) or "") if found else ""
    return ""


class Redactor:
    """Takes secrets out. Pure but for ``counts``, which tells how many, by reason.

    One redactor belongs to one stream: a private key that begins in one block may end in another.
    """

    def __init__(self, key: bytes, secrets: Secrets) -> None:
        self.counts: Counter[str] = Counter()
        self._key = key
        self._secrets = secrets
        self._key_lines = 0
        forms: dict[bytes, str] = {}
        for value in secrets.known:
            for form in _forms(value):
                forms.setdefault(form, value)
        self._known = [
            (form, self.marker(forms[form]).encode())
            for form in sorted(forms, key=len, reverse=True)
        ]

    def fresh(self) -> Redactor:
        """Another one for another stream, with the same key and secrets."""
        other = Redactor.__new__(Redactor)
        other.__dict__.update(self.__dict__)
        other.counts = Counter()
        other._key_lines = 0
        return other

    def marker(self, value: str) -> str:
        digest = hmac.new(self._key, value.encode("utf-8", "surrogateescape"), hashlib.sha256)
        return f"<redacted:{digest.hexdigest()[:12]}>"

    # Text

    def text(self, block: bytes) -> bytes:
        """A block of whole lines without the secrets in it."""
        for form, marker in self._known:
            if form in block:
                self.counts[BY_VALUE] += block.count(form)
                block = block.replace(form, marker)
        if self._key_lines or b"PRIVATE KEY-----" in block:
            block = b"".join(self._outside_keys(block))
        return self._without_shapes(block)

    def plain(self, text: str) -> str:
        """A short text without the secrets in it."""
        return self.text(text.encode("utf-8", "surrogateescape")).decode("utf-8", "replace")

    def _without_shapes(self, block: bytes) -> bytes:
        parts = []
        position = 0
        for start, end in _suspicious_lines(block):
            parts.append(block[position:start])
            line = block[start:end]
            for shape in _SHAPES:
                line = shape.sub(self._replace_shape, line)
            if b"setuser" in line.lower():
                line = _ACL_PASSWORD.sub(self._replace_shape, line)
            parts.append(line)
            position = end
        if not parts:
            return block
        parts.append(block[position:])
        return b"".join(parts)

    def _replace_shape(self, match: re.Match[bytes]) -> bytes:
        before, secret = match.groups()
        if secret.startswith(b"<redacted:"):
            return match.group()
        self.counts[BY_SHAPE] += 1
        return bytes(before) + self.marker(secret.decode("utf-8", "surrogateescape")).encode()

    def _outside_keys(self, block: bytes) -> Iterable[bytes]:
        for line in block.splitlines(keepends=True):
            if self._key_lines:
                self._key_lines = 0 if _KEY_ENDS in line else self._key_lines - 1
                continue
            begins = _KEY_BEGINS.search(line)
            if begins is None:
                yield line
                continue
            self.counts[BY_SHAPE] += 1
            yield line[: begins.start()] + b"<redacted: a private key>\n"
            if _KEY_ENDS not in line[begins.end() :]:
                self._key_lines = _KEY_MAX_LINES

    # Structures

    def document(self, value: Any, name: str = "") -> Any:
        """A JSON value without the secrets in it: by the keys, by the names of environment
        variables (of which only those known to be harmless stay), and by options of commands."""
        if isinstance(value, Mapping):
            return {key: self.document(inner, str(key)) for key, inner in value.items()}
        if isinstance(value, (list, tuple)):
            if name == "Env":
                return [self._variable(str(one)) for one in value]
            return self._words(value)
        if isinstance(value, str) and value and _names_a_secret(name):
            self.counts[BY_NAME] += 1
            return self.marker(value)
        return value

    def _words(self, values: Sequence[Any]) -> list[Any]:
        found = []
        hide = False
        for one in self._command(values):
            if hide and isinstance(one, str):
                self.counts[BY_NAME] += 1
                found.append(self.marker(one))
            else:
                found.append(self.document(one))
            hide = isinstance(one, str) and bool(_OPTION.match(one))
        return found

    def _command(self, values: Sequence[Any]) -> Sequence[Any]:
        """Words of a command that are a secret by the words around them."""
        if len(values) < 2 or not all(isinstance(one, str) for one in values):
            return values
        # A vertical tab is a blank to the patterns, and is in no word.
        joined = "\v".join(one.replace("\v", " ") for one in values)
        raw = self._without_shapes(joined.encode("utf-8", "surrogateescape"))
        words = raw.decode("utf-8", "surrogateescape").split("\v")
        return words if len(words) == len(values) else [" ".join(words)]

    def _variable(self, text: str) -> str:
        name, separator, value = text.partition("=")
        if not value or is_harmless_name(name):
            return text
        if _PLAIN_URL.fullmatch(value) and not is_secret_name(name):
            return text
        password = url_password(value)
        self.counts[BY_NAME] += 1
        hidden = value.replace(password, self.marker(unquote(password))) if password else None
        return f"{name}{separator}{hidden or self.marker(value)}"


def _suspicious_lines(block: bytes) -> list[tuple[int, int]]:
    """Begin and end of each line that may have a secret's shape in it, in order."""
    lower = block.lower()
    found = set()
    for word in _GATE_WORDS:
        position = lower.find(word)
        while position >= 0:
            start, end = _line_around(block, position)
            found.add((start, end))
            position = lower.find(word, end)
    for pattern in _GATE_PATTERNS:
        found.update(_line_around(block, match.start()) for match in pattern.finditer(block))
    return sorted(found)


def _line_around(block: bytes, position: int) -> tuple[int, int]:
    return block.rfind(b"\n", 0, position) + 1, block.find(b"\n", position) + 1 or len(block)


def _forms(value: str) -> Iterable[bytes]:
    """How a value may be written: as it is, percent-encoded, in JSON, in a Compose file, base64."""
    texts = {
        value,
        quote(value, safe=""),
        quote(value),
        quote_plus(value),
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        value.replace("$", "$$"),
        value.replace("'", "''"),
    }
    data = value.encode("utf-8", "surrogateescape")
    forms = {text.encode("utf-8", "surrogateescape") for text in texts}
    if len(data) >= 8:
        forms.add(base64.b64encode(data).rstrip(b"="))
    return forms


def known_secrets(
    environments: Iterable[tuple[str, Mapping[str, str]]],
    names: Iterable[str],
    read: Callable[[str, str], Optional[str]],
) -> Secrets:
    """What environments tell, each with where it is from. ``read`` gives the content of a file that
    a variable C{NAME_FILE} names, by source and path, or C{None} where it cannot be read."""
    secrets = Secrets(frozenset(names))
    for source, environment in environments:
        for name, value in environment.items():
            secrets.add_variable(name, value, source)
            if _names_a_file(name) and is_secret_name(name) and value.startswith("/"):
                content = read(source, value)
                place = f"{source}: {name}"
                if content is None:
                    secrets.unread.append(f"{place} names {value}, which could not be read")
                password = url_password(content or "")
                secrets.add(unquote(password) if password else content, place)
                secrets.add(password, place)
    return secrets
