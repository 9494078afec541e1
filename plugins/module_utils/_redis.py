# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Redis: its protocol (RESP2), what INFO says, and what that means."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Optional, Union

from ansible_collections.pynomaly.ops.plugins.module_utils._credentials import scrub
from ansible_collections.pynomaly.ops.plugins.module_utils._probe import (
    CRITICAL,
    OK,
    SKIPPED,
    UNKNOWN,
    WARNING,
    Measurement,
    Target,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._report_text import (
    format_bytes,
    format_seconds,
    plural,
)

PING = "redis.ping"
APP_LOGIN = "redis.app_login"
CLIENTS = "redis.clients"
DEPENDANTS = (
    CLIENTS,
    "redis.memory",
    "redis.evictions",
    "redis.rejected_connections",
    "redis.last_save",
    "redis.replication",
)

#: No answer that is asked for comes near this; a server that sends more is not one.
MAX_REPLY_BYTES = 4 * 1024 * 1024

# What an error reply is about
NO_PASSWORD = "NOAUTH"  # noqa: S105
WRONG_PASSWORD = "WRONGPASS"  # noqa: S105
FULL = "FULL"
LOADING = "LOADING"
NO_PERMISSION = "NOPERM"
NO_PASSWORD_NEEDED = "NOPASSWORD"  # noqa: S105
CANNOT_PERSIST = "MISCONF"
PROTECTED = "DENIED"
BUSY = "BUSY"


class ProtocolError(ValueError):
    """The bytes are not what a Redis server sends."""


@dataclass(frozen=True)
class ErrorReply:
    """An error that the server answered: its code and its words."""

    code: str
    text: str


Reply = Union[None, int, bytes, ErrorReply, list["Reply"]]


# Protocol


def encode_command(*words: str) -> bytes:
    """A command as RESP wants it: an array of bulk strings."""
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        data = word.encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(parts)


def parse_reply(data: bytes, start: int = 0) -> Optional[tuple[Reply, int]]:
    """(reply, position after it), or C{None} when more bytes are needed.

    Raises L{ProtocolError} for bytes that are no RESP2 or a reply larger than
    L{MAX_REPLY_BYTES}.
    """
    if len(data) - start > MAX_REPLY_BYTES:
        raise ProtocolError(f"a reply of more than {format_bytes(MAX_REPLY_BYTES)}")
    end = data.find(b"\r\n", start)
    if end < 0:
        if len(data) - start > 65536:
            raise ProtocolError("a line without an end")
        return None
    kind, line, after = data[start : start + 1], data[start + 1 : end], end + 2
    if kind == b"+":
        return line, after
    if kind == b"-":
        return error_reply(line.decode("utf-8", "replace")), after
    if kind not in (b":", b"$", b"*"):
        raise ProtocolError("the bytes are not Redis' protocol")
    number = _integer(line)
    if kind == b":":
        return number, after
    if number < 0:
        return None, after
    return _bulk(data, after, number) if kind == b"$" else _array(data, after, number)


def _integer(line: bytes) -> int:
    if not re.match(rb"^-?\d{1,19}$", line):
        raise ProtocolError("a number was expected")
    return int(line)


def _bulk(data: bytes, start: int, length: int) -> Optional[tuple[Reply, int]]:
    if length > MAX_REPLY_BYTES:
        raise ProtocolError(f"a reply of {format_bytes(length)}")
    end = start + length
    if len(data) < end + 2:
        return None
    if data[end : end + 2] != b"\r\n":
        raise ProtocolError("a string that is longer than it says")
    return data[start:end], end + 2


def _array(data: bytes, start: int, length: int) -> Optional[tuple[Reply, int]]:
    items: list[Reply] = []
    for _index in range(length):
        item = parse_reply(data, start)
        if item is None:
            return None
        value, start = item
        items.append(value)
    return items, start


def error_reply(text: str) -> ErrorReply:
    """An error line, with the code that says what it is about."""
    word = text.partition(" ")[0]
    lowered = text.lower()
    if "max number of clients" in lowered:
        return ErrorReply(FULL, text)
    if "without any password configured" in lowered or "but no password is set" in lowered:
        return ErrorReply(NO_PASSWORD_NEEDED, text)
    if "invalid password" in lowered:  # before Redis 6
        return ErrorReply(WRONG_PASSWORD, text)
    return ErrorReply(word, text)


def parse_info(text: str) -> Mapping[str, str]:
    """INFO's fields, whatever section they are in."""
    fields = {}
    for line in text.splitlines():
        name, separator, value = line.partition(":")
        if separator and not line.startswith("#"):
            fields[name] = value.strip()
    return fields


def config_value(reply: Reply) -> Optional[str]:
    """The value in the answer to ``CONFIG GET name``; C{None} where it is not to be had."""
    if isinstance(reply, list) and len(reply) >= 2 and isinstance(reply[1], bytes):
        return reply[1].decode("utf-8", "replace")
    return None


# Meaning


def ping(target: Target, reply: Reply, info: Mapping[str, str], containers: int) -> Measurement:
    """``redis.ping`` of a server that let the check in."""
    if isinstance(reply, ErrorReply):
        return refused(target, reply, info)
    if reply != b"PONG":
        return Measurement(target, status=CRITICAL, message=f"seen {reply!r}, expected PONG")
    version = info.get("redis_version") or info.get("valkey_version", "")
    uptime = _whole(info, "uptime_in_seconds")
    message = f"Redis {version} answers" if version else "Redis answers"
    if uptime is not None:
        message += f", up for {format_seconds(uptime)}"
    if containers > 1:
        message += f"; looked at the first of {containers} containers"
    return Measurement(target, version or None, message, OK)


def refused(target: Target, error: ErrorReply, info: Mapping[str, str]) -> Measurement:
    """``redis.ping`` of a server that answers with an error."""
    login = "set pynomaly_redis_password, and pynomaly_redis_username where it is not the default"
    if error.code == LOADING:
        left = info.get("loading_eta_seconds", "")
        eta = f", {left} s left by its own estimate" if left else ""
        return Measurement(
            target, status=WARNING, message=f"the server is loading its data from disk{eta}"
        )
    if error.code == FULL:
        return Measurement(
            target, status=OK, message=f"the server answers, but takes no client more: {error.text}"
        )
    messages = {
        NO_PASSWORD: ("the server asks for a password, and none was found", login),
        WRONG_PASSWORD: ("the server answers, but refuses the password that was found", login),
        NO_PERMISSION: (f"the user may not do what the check needs: {error.text}", login),
        PROTECTED: (
            "the server is in protected mode, with neither a password nor an address to listen on",
            "redis-cli CONFIG SET requirepass, and in its configuration",
        ),
        CANNOT_PERSIST: (
            "the server refuses writes, because it cannot save its data to disk",
            "redis-cli INFO persistence; docker compose logs --tail 100 SERVICE; df -h",
        ),
        BUSY: ("a script keeps the server from answering", "redis-cli SCRIPT KILL"),
    }
    message, hint = messages.get(error.code, (f"seen {error.text}, expected PONG", None))
    return Measurement(target, status=CRITICAL, message=message, hint=hint)


def app_login(
    target: Target, username: str, source: str, reply: Reply, secrets: Sequence[Optional[str]]
) -> Measurement:
    """``redis.app_login``, by what the server said to AUTH and PING."""
    who = f'user "{username or "default"}" (from {source} of the API)'
    if not isinstance(reply, ErrorReply):
        return Measurement(target, status=OK, message=f"the server lets in {who}")
    skipped = {
        FULL: f"not measured: {CLIENTS} is critical",
        LOADING: "not measured: the server is loading its data",
        BUSY: f"not measured: {PING} is critical",
    }
    if reply.code in skipped:
        return Measurement(target, status=SKIPPED, message=skipped[reply.code])
    if reply.code in (CANNOT_PERSIST, NO_PERMISSION, "MASTERDOWN"):
        # Checked after the password, so that is right.
        return Measurement(target, status=OK, message=f"the server lets in {who}")
    messages = {
        NO_PASSWORD: "the server asks for a password, and the API's environment has none "
        f"for {who}",
        WRONG_PASSWORD: f"the server refuses the password of {who}",
        NO_PASSWORD_NEEDED: f"the server has no password, and the API gives one: it refuses {who}",
    }
    other = f"the server refuses {who}: {scrub(reply.text, secrets)}"
    return Measurement(target, status=CRITICAL, message=messages.get(reply.code, other))


def _whole(info: Mapping[str, str], name: str) -> Optional[int]:
    text = info.get(name, "")
    return int(text) if re.match(r"^-?\d+$", text) else None


def _skipped(target: Target, reason: str) -> Measurement:
    return Measurement(target, status=SKIPPED, message=reason)


def _missing(target: Target, name: str) -> Measurement:
    return Measurement(target, status=UNKNOWN, message=f"INFO has no {name}")


def memory(target: Target, info: Mapping[str, str], container_limit_bytes: int) -> Measurement:
    """Memory used of ``maxmemory``, else the process' share of its container's limit."""
    used, limit = _whole(info, "used_memory"), _whole(info, "maxmemory")
    if used is None or limit is None:
        return _missing(target, "used_memory and maxmemory")
    policy = info.get("maxmemory_policy", "")
    if limit > 0:
        at_limit = {
            "noeviction": "writes are refused at the limit",
            "": "",
        }.get(policy, f"keys are evicted at the limit ({policy})")
        message = f"{format_bytes(used)} of maxmemory {format_bytes(limit)} used"
        message += f"; {at_limit}" if at_limit else ""
        # A cache that may evict every key fills up and stays full: that is its work.
        status = OK if policy.startswith("allkeys-") else None
        return Measurement(target, round(100.0 * used / limit, 1), message, status)
    resident = _whole(info, "used_memory_rss") or used
    if container_limit_bytes > 0:
        return Measurement(
            target,
            round(100.0 * resident / container_limit_bytes, 1),
            f"{format_bytes(resident)} of the container's {format_bytes(container_limit_bytes)} "
            "used; without maxmemory Redis is killed at that limit",
            hint="set maxmemory and an eviction policy below the container's limit",
        )
    return _skipped(
        target,
        f"{format_bytes(used)} used without a limit: neither maxmemory nor the container has one, "
        "and one should",
    )


def evictions(target: Target, info: Mapping[str, str]) -> Measurement:
    """Keys evicted per hour since the start; an uptime under an hour counts as one."""
    evicted, uptime = _whole(info, "evicted_keys"), _whole(info, "uptime_in_seconds")
    if evicted is None or uptime is None:
        return _missing(target, "evicted_keys and uptime_in_seconds")
    rate = evicted / max(1.0, uptime / 3600.0)
    message = f"{plural(evicted, 'key')} evicted in {format_seconds(max(0, uptime))}"
    return Measurement(target, round(rate, 1), message)


def rejected_connections(target: Target, info: Mapping[str, str]) -> Measurement:
    """Connections refused for ``maxclients`` since the start."""
    rejected = _whole(info, "rejected_connections")
    if rejected is None:
        return _missing(target, "rejected_connections")
    uptime = format_seconds(max(0, _whole(info, "uptime_in_seconds") or 0))
    return Measurement(
        target, rejected, f"{plural(rejected, 'connection')} rejected in {uptime}, expected none"
    )


def clients(
    target: Target, info: Mapping[str, str], configured_maximum: Optional[str]
) -> Measurement:
    """Clients connected, this check left out, of ``maxclients``."""
    connected = _whole(info, "connected_clients")
    maximum = _whole(info, "maxclients")
    if maximum is None and configured_maximum is not None:
        maximum = _whole({"maxclients": configured_maximum}, "maxclients")
    if connected is None:
        return _missing(target, "connected_clients")
    others = max(0, connected - 1)
    if not maximum:
        return Measurement(
            target,
            status=UNKNOWN,
            message=f"{plural(others, 'client')} connected; the limit is not to be had",
            hint="allow the user CONFIG GET maxclients (ACL SETUSER … +config|get)",
        )
    blocked = _whole(info, "blocked_clients") or 0
    message = f"{others} of {maximum} clients connected"
    message += f", {blocked} of them blocked" if blocked else ""
    return Measurement(target, round(100.0 * others / maximum, 2), message)


def clients_exhausted(target: Target, error: ErrorReply) -> Measurement:
    """``redis.clients`` where not even the check was let in."""
    return Measurement(target, 100.0, f"no client more is let in: {error.text}", CRITICAL)


def last_save(
    target: Target, info: Mapping[str, str], save_policy: Optional[str], now: float
) -> Measurement:
    """How long changes have waited for a snapshot; failures of either kind of persistence.

    ``save_policy`` is CONFIG's ``save``, C{None} where it is not to be had; ``now`` in seconds
    since 1970.
    """
    if info.get("rdb_last_bgsave_status", "ok") != "ok":
        return Measurement(
            target, status=CRITICAL, message="the last snapshot (RDB) failed, expected success"
        )
    append_only = info.get("aof_enabled") == "1"
    if append_only and info.get("aof_last_write_status", "ok") != "ok":
        return Measurement(
            target,
            status=CRITICAL,
            message="the last write to the append-only file failed, expected success",
        )
    if append_only and info.get("aof_last_bgrewrite_status", "ok") != "ok":
        return Measurement(
            target,
            status=WARNING,
            message="the last rewrite of the append-only file failed, so it grows",
        )
    return _snapshot_age(target, info, save_policy, now)


def _snapshot_age(
    target: Target, info: Mapping[str, str], save_policy: Optional[str], now: float
) -> Measurement:
    if info.get("aof_enabled") == "1" and not save_policy:
        return Measurement(target, 0.0, "the append-only file is on and its last write succeeded")
    if save_policy is None:
        return _skipped(target, "the user may not read the save policy (CONFIG GET save)")
    if not save_policy:
        return _skipped(target, "persistence is off (no save policy and no append-only file)")
    changes, saved = (
        _whole(info, "rdb_changes_since_last_save"),
        _whole(info, "rdb_last_save_time"),
    )
    if changes is None or saved is None:
        return _missing(target, "rdb_changes_since_last_save and rdb_last_save_time")
    age = max(0.0, now - saved)
    if changes <= 0:
        return Measurement(
            target, 0.0, f"nothing to save since the last save {format_seconds(age)} ago"
        )
    message = f"{plural(changes, 'change')} since the last save {format_seconds(age)} ago"
    return Measurement(target, round(age, 1), message)


def replication(target: Target, info: Mapping[str, str]) -> Measurement:
    """Whether a replica is linked to its master; skipped where there is no replication."""
    if info.get("role") == "slave":
        master = f"{info.get('master_host', '?')}:{info.get('master_port', '?')}"
        if info.get("master_link_status") == "up":
            return Measurement(target, status=OK, message=f"linked to its master {master}")
        down = _whole(info, "master_link_down_since_seconds")
        since = f" for {format_seconds(down)}" if down is not None and down >= 0 else ""
        syncing = ", a full synchronization is under way"
        return Measurement(
            target,
            status=CRITICAL,
            message=f"the link to the master {master} is down{since}"
            + (syncing if info.get("master_sync_in_progress") == "1" else ""),
        )
    replicas = _whole(info, "connected_slaves") or 0
    if not replicas:
        return _skipped(target, "no replica is connected and none is expected")
    offline = [
        name
        for name, value in info.items()
        if re.match(r"^slave\d+$", name) and "state=online" not in value
    ]
    if offline:
        return Measurement(
            target,
            status=WARNING,
            message=f"{len(offline)} of {plural(replicas, 'replica')} not online",
        )
    return Measurement(target, status=OK, message=f"{plural(replicas, 'replica')} online")
