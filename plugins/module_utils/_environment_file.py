# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The ``.env`` file of a Compose project: read, quoted and completed without losing a line.

The syntax is the one of Docker Compose (documentation, "Syntax for .env files"), checked against
Compose 2.26: single quotes are literal, double quotes and bare values are interpolated.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Optional
from urllib.parse import quote

HEADER = (
    "# Secrets of this Compose project, kept by pynomaly.ops. Mode 0600, not for version control.\n"
    "# Lines that the collection does not know are left as they are.\n"
)

_ASSIGNMENT = re.compile(
    r"[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_.-]*)[ \t]*[=:][ \t]*(.*)\Z", re.S
)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_BARE = re.compile(r"[A-Za-z0-9_.,/:@%+=~^-]+\Z")
_PLACEHOLDER = re.compile(r"\{quote\(([A-Za-z_][A-Za-z0-9_]*)\)\}|\{([A-Za-z_][A-Za-z0-9_]*)\}")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}


class EnvironmentFileError(ValueError):
    """The file, or what is asked of it, cannot be used. Never holds a value."""


@dataclass(frozen=True)
class Entry:
    """One assignment, or one line that is none (``name`` is C{None}); ``raw`` has its line ends."""

    raw: str = field(repr=False)
    name: Optional[str] = None
    value: Optional[str] = field(default=None, repr=False)


@dataclass(frozen=True)
class Secret:
    """A name the project needs. ``value`` is the user's own, C{None} where one is generated.

    ``sealed`` says why the stored value may not be replaced, empty where it may: PostgreSQL, for
    one, reads its password only when the data directory is made. ``shown`` is for what is no
    secret, whose values may stand in a message.
    """

    name: str
    value: Optional[str] = field(default=None, repr=False)
    sealed: str = ""
    variable: str = ""
    shown: bool = False


@dataclass(frozen=True)
class Plan:
    """What the file becomes. ``text`` holds secrets and is kept out of the repr."""

    text: str = field(repr=False)
    generated: Sequence[str] = ()
    updated: Sequence[str] = ()


def parse(text: str) -> Sequence[Entry]:
    """Every line of the file; their ``raw`` joined is the text again.

    Raises L{EnvironmentFileError} with the line's number where a quote is not closed.
    """
    entries = []
    lines = text.splitlines(keepends=True)
    position = 0
    while position < len(lines):
        raw = lines[position]
        start = position
        position += 1
        match = _ASSIGNMENT.match(raw)
        if match is None or raw.lstrip().startswith("#"):
            entries.append(Entry(raw))
            continue
        name, rest = match.group(1), match.group(2)
        while rest[:1] in ("'", '"') and _closing_quote(rest) < 0:
            if position == len(lines):
                raise EnvironmentFileError(
                    f"line {start + 1}: the quote after {name}= is not closed"
                )
            raw += lines[position]
            rest += lines[position]
            position += 1
        entries.append(Entry(raw, name, _decode(rest)))
    return entries


def values(entries: Sequence[Entry]) -> Mapping[str, Optional[str]]:
    """What each name stands for, the last assignment winning; C{None} for a value that is made of
    others by interpolation."""
    return {entry.name: entry.value for entry in entries if entry.name is not None}


def encode(value: str) -> str:
    """A value as Compose reads it back, unchanged.

    Raises L{EnvironmentFileError} for a line end or a NUL, which no secret here needs.
    """
    if any(character in value for character in "\n\r\0"):
        raise EnvironmentFileError("the value has a line end or a NUL in it")
    if _BARE.match(value):
        return value
    if "'" not in value and "\\" not in value:
        return f"'{value}'"
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    return f'"{escaped}"'


def compose(template: str, known: Mapping[str, str]) -> str:
    """A value made of others: ``{NAME}`` as it is, ``{quote(NAME)}`` percent-encoded for a URL.

    Raises L{EnvironmentFileError} for a name that is not known.
    """

    def substitute(match: re.Match[str]) -> str:
        quoted, plain = match.groups()
        name = quoted or plain
        if name not in known:
            raise EnvironmentFileError(f"{name} is used in a composed value but nowhere defined")
        return quote(known[name], safe="") if quoted else known[name]

    return _PLACEHOLDER.sub(substitute, template)


def plan(
    text: Optional[str],
    secrets: Sequence[Secret],
    composed: Mapping[str, str],
    generate: Callable[[], str],
) -> Plan:
    """The file with every secret and every composed value in it.

    ``text`` is what it is now, C{None} for no file. A stored value is kept unless the user gives
    another; a missing one is the user's or ``generate()``. Raises L{EnvironmentFileError} when a
    sealed secret would change, or is missing and cannot be known.
    """
    entries = list(parse(text or ""))
    stored = values(entries)
    wanted: dict[str, str] = {}
    generated = []
    for secret in secrets:
        if not _NAME.match(secret.name):
            raise EnvironmentFileError(f"{secret.name!r} is not a variable's name")
        value, is_new = _settle(secret, stored, generate)
        wanted[secret.name] = value
        if is_new:
            generated.append(secret.name)
    for name, template in composed.items():
        if not _NAME.match(name):
            raise EnvironmentFileError(f"{name!r} is not a variable's name")
        wanted[name] = compose(template, wanted)
    updated = [
        name
        for name, value in wanted.items()
        if name not in generated and stored.get(name) != value
    ]
    changed = {name: wanted[name] for name in wanted if name in generated or name in updated}
    return Plan(_render(entries, changed, text is None), tuple(generated), tuple(updated))


def _settle(
    secret: Secret, stored: Mapping[str, Optional[str]], generate: Callable[[], str]
) -> tuple[str, bool]:
    present = secret.name in stored and stored[secret.name] != ""
    current = stored.get(secret.name)
    source = secret.variable or secret.name.lower()
    if present and current is None:
        raise EnvironmentFileError(
            f"{secret.name} is made of other variables; expected a plain value, in single quotes "
            "where it has a dollar sign"
        )
    if secret.value:
        if secret.sealed and present and current != secret.value and secret.shown:
            raise EnvironmentFileError(
                f"{source}: seen {secret.value}, expected {current}, which {secret.name} has. "
                f"{secret.sealed}, and a name in Compose's file renames nothing. "
                f"Next: set {source} to {current}; or rename it in PostgreSQL, then set "
                f"{secret.name} in the file"
            )
        if secret.sealed and present and current != secret.value:
            raise EnvironmentFileError(
                f"{secret.name} is stored with another value than {source} gives, and "
                f"{secret.sealed}. Leave {source} out, or give the stored value"
            )
        return secret.value, False
    if present and current is not None:
        return current, False
    if secret.sealed:
        raise EnvironmentFileError(
            f"{secret.name} is not stored, and {secret.sealed}. Give the value in use as {source}"
        )
    return generate(), True


def _render(entries: Sequence[Entry], changed: Mapping[str, str], is_new: bool) -> str:
    """Each changed name is written where it is assigned last, or at the end."""
    last = {entry.name: index for index, entry in enumerate(entries) if entry.name is not None}
    lines = [entry.raw for entry in entries]
    if is_new:
        lines.insert(0, HEADER)
        last = {}
    for name, value in changed.items():
        line = f"{name}={encode(value)}\n"
        if name in last:
            lines[last[name]] = line
            continue
        if lines and not lines[-1].endswith("\n"):
            lines[-1] += "\n"
        lines.append(line)
    return "".join(lines)


def _closing_quote(rest: str) -> int:
    """Index of the quote that ends a quoted value; -1 where there is none."""
    kind = rest[0]
    escaped = False
    for index in range(1, len(rest)):
        character = rest[index]
        if escaped:
            escaped = False
        elif character == "\\":
            escaped = True
        elif character == kind:
            return index
    return -1


def _decode(rest: str) -> Optional[str]:
    """What Compose makes of the text after the equals sign; C{None} where it interpolates."""
    if rest[:1] == "'":
        return re.sub(r"\\(.)", _single_escape, rest[1 : _closing_quote(rest)], flags=re.S)
    if rest[:1] == '"':
        return _interpolated(rest[1 : _closing_quote(rest)], escapes=True)
    bare = re.split(r"[ \t]#", rest.rstrip("\r\n"), maxsplit=1)[0].strip(" \t")
    return _interpolated("" if bare.startswith("#") else bare, escapes=False)


def _single_escape(match: re.Match[str]) -> str:
    return "'" if match.group(1) == "'" else match.group(0)


def _interpolated(text: str, escapes: bool) -> Optional[str]:
    """The text with its escapes resolved; C{None} when a variable is used in it."""
    result = []
    position = 0
    while position < len(text):
        character = text[position]
        following = text[position + 1 : position + 2]
        position += 1
        if character == "\\" and escapes and following:
            result.append(_double_escape(following))
            position += 1
        elif character == "$" and following == "$":
            result.append("$")
            position += 1
        elif character == "$" and (following == "{" or following.isalpha() or following == "_"):
            return None
        else:
            result.append(character)
    return "".join(result)


def _double_escape(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    return character if character in '\\"$' else "\\" + character
