# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils import _redis as redis
from ansible_collections.pynomaly.ops.plugins.module_utils._catalogue import CATALOGUE
from ansible_collections.pynomaly.ops.plugins.module_utils._probe import Target
from ansible_collections.pynomaly.ops.plugins.module_utils._redis import (
    ErrorReply,
    ProtocolError,
    Reply,
    error_reply,
    parse_reply,
)

TARGET = Target("redis.ping", "redis-cluster")
MIB = 1024 * 1024


def test_every_probe_is_in_the_catalogue() -> None:
    ids = {redis.PING, redis.APP_LOGIN, *redis.DEPENDANTS}
    assert ids == {identifier for identifier in CATALOGUE if identifier.startswith("redis.")}


# Protocol


def test_encode_command() -> None:
    assert redis.encode_command("AUTH", "pä") == b"*2\r\n$4\r\nAUTH\r\n$3\r\np\xc3\xa4\r\n"


@pytest.mark.parametrize(
    ("data", "reply"),
    [
        (b"+PONG\r\n", b"PONG"),
        (b"-NOAUTH no\r\n", ErrorReply("NOAUTH", "NOAUTH no")),
        (b":-7\r\n", -7),
        (b"$3\r\na\r\n\r\n"[:7] + b"\r\n", b"a\r\n"),
        (b"$0\r\n\r\n", b""),
        (b"$-1\r\n", None),
        (b"*-1\r\n", None),
        (b"*0\r\n", []),
        (b"*2\r\n$1\r\na\r\n*1\r\n:1\r\n", [b"a", [1]]),
    ],
)
def test_replies_are_read_whole_and_asked_for_more_until_then(data: bytes, reply: Reply) -> None:
    assert parse_reply(data + b"rest") == (reply, len(data))
    for length in range(len(data)):
        assert parse_reply(data[:length]) is None


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        b"$x\r\n",
        b"$99999999\r\n",
        b"$1\r\nabc",
        b"+" + b"x" * 70000,
        b"+" + b"x" * (5 * MIB),
    ],
)
def test_what_is_not_the_protocol_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_reply(data)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("NOAUTH Authentication required.", redis.NO_PASSWORD),
        ("WRONGPASS invalid username-password pair", redis.WRONG_PASSWORD),
        ("ERR invalid password", redis.WRONG_PASSWORD),
        ("ERR max number of clients reached", redis.FULL),
        ("ERR AUTH <password> called without any password configured", redis.NO_PASSWORD_NEEDED),
        ("ERR Client sent AUTH, but no password is set", redis.NO_PASSWORD_NEEDED),
        ("LOADING Redis is loading", redis.LOADING),
        ("ERR other", "ERR"),
    ],
)
def test_error_reply(text: str, code: str) -> None:
    assert error_reply(text) == ErrorReply(code, text)


def test_parse_info() -> None:
    text = "# Server\r\nredis_version:8.0.2\r\n\r\n# Stats\r\nodd\r\nslave0:ip=1,state=online\r\n"
    assert redis.parse_info(text) == {"redis_version": "8.0.2", "slave0": "ip=1,state=online"}


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        ([b"save", b"3600 1"], "3600 1"),
        ([b"save", b""], ""),
        ([], None),
        ([b"save", 1], None),
        (ErrorReply("NOPERM", "NOPERM"), None),
    ],
)
def test_config_value(reply: Reply, value: str | None) -> None:
    assert redis.config_value(reply) == value


# Meaning


def test_ping() -> None:
    info = {"redis_version": "8.0.2", "uptime_in_seconds": "120"}
    seen = redis.ping(TARGET, b"PONG", info, 2)
    assert (seen.status, seen.value) == ("ok", "8.0.2")
    assert seen.message == (
        "Redis 8.0.2 answers, up for 2 min; looked at the first of 2 containers"
    )
    assert redis.ping(TARGET, b"PONG", {}, 1).message == "Redis answers"
    assert redis.ping(TARGET, b"PANG", {}, 1).status == "critical"


@pytest.mark.parametrize(
    ("text", "status", "words"),
    [
        ("LOADING x", "warning", "12 s left"),
        ("ERR max number of clients reached", "ok", "takes no client more"),
        ("NOAUTH x", "critical", "asks for a password"),
        ("WRONGPASS x", "critical", "refuses the password"),
        ("NOPERM x", "critical", "may not"),
        ("DENIED x", "critical", "protected mode"),
        ("MISCONF x", "critical", "refuses writes"),
        ("BUSY x", "critical", "a script"),
        ("MASTERDOWN x", "critical", "MASTERDOWN x, expected PONG"),
    ],
)
def test_a_ping_that_is_refused(text: str, status: str, words: str) -> None:
    seen = redis.ping(TARGET, error_reply(text), {"loading_eta_seconds": "12"}, 1)
    assert seen.status == status
    assert words in seen.message


def test_loading_without_an_estimate() -> None:
    assert redis.refused(TARGET, error_reply("LOADING"), {}).message.endswith("from disk")


@pytest.mark.parametrize(
    ("reply", "status", "words"),
    [
        (b"PONG", "ok", "lets in"),
        (error_reply("MISCONF x"), "ok", "lets in"),
        (error_reply("NOPERM x"), "ok", "lets in"),
        (error_reply("ERR max number of clients reached"), "skipped", "redis.clients"),
        (error_reply("LOADING"), "skipped", "loading"),
        (error_reply("BUSY"), "skipped", "redis.ping"),
        (error_reply("NOAUTH"), "critical", "asks for a password"),
        (error_reply("WRONGPASS"), "critical", "refuses the password"),
        (error_reply("ERR called without any password configured"), "critical", "has no password"),
        (error_reply("ERR odd hunter2"), "critical", "odd ********"),
    ],
)
def test_app_login(reply: Reply, status: str, words: str) -> None:
    seen = redis.app_login(TARGET, "", "REDIS_URL", reply, ["hunter2"])
    assert seen.status == status
    assert words in seen.message
    assert "hunter2" not in seen.message
    if status in ("ok", "critical"):
        assert 'user "default" (from REDIS_URL of the API)' in seen.message


def test_memory() -> None:
    info = {"used_memory": str(48 * MIB), "maxmemory": str(64 * MIB)}
    seen = redis.memory(TARGET, {**info, "maxmemory_policy": "noeviction"}, 0)
    assert seen.value == 75
    assert seen.message == ("48.0 MiB of maxmemory 64.0 MiB used; writes are refused at the limit")
    assert redis.memory(TARGET, info, 0).message.endswith("used")
    lru = redis.memory(TARGET, {**info, "maxmemory_policy": "allkeys-lru"}, 0)
    assert lru.message.endswith("keys are evicted at the limit (allkeys-lru)")
    assert (seen.status, lru.status) == (None, "ok"), "a full cache that may evict is no trouble"
    assert redis.memory(TARGET, {**info, "maxmemory_policy": "volatile-lru"}, 0).status is None
    unlimited = {"used_memory": str(MIB), "used_memory_rss": str(2 * MIB), "maxmemory": "0"}
    contained = redis.memory(TARGET, unlimited, 4 * MIB)
    assert contained.value == 50
    assert "container's" in contained.message
    without_rss = redis.memory(TARGET, {"used_memory": str(MIB), "maxmemory": "0"}, 4 * MIB)
    assert without_rss.value == 25
    assert redis.memory(TARGET, unlimited, 0).status == "skipped"
    assert redis.memory(TARGET, {}, 0).status == "unknown"


@pytest.mark.parametrize(
    ("evicted", "uptime", "value"), [("50", "60", 50), ("100", "7200", 50), ("0", "1", 0)]
)
def test_evictions(evicted: str, uptime: str, value: float) -> None:
    info = {"evicted_keys": evicted, "uptime_in_seconds": uptime}
    assert redis.evictions(TARGET, info).value == value


def test_evictions_and_rejections_that_are_not_told() -> None:
    assert redis.evictions(TARGET, {"evicted_keys": "x"}).status == "unknown"
    assert redis.rejected_connections(TARGET, {}).status == "unknown"
    seen = redis.rejected_connections(TARGET, {"rejected_connections": "2"})
    assert seen.value == 2


def test_clients() -> None:
    info = {"connected_clients": "6", "maxclients": "10", "blocked_clients": "2"}
    seen = redis.clients(TARGET, info, None)
    assert (seen.value, seen.message) == (50, "5 of 10 clients connected, 2 of them blocked")
    assert redis.clients(TARGET, {"connected_clients": "6"}, "20").value == 25
    assert redis.clients(TARGET, {"connected_clients": "6"}, None).status == "unknown"
    assert redis.clients(TARGET, {}, "20").status == "unknown"
    assert redis.clients_exhausted(TARGET, error_reply("ERR x")).status == "critical"


SAVED = {"rdb_changes_since_last_save": "5", "rdb_last_save_time": "1000"}


@pytest.mark.parametrize(
    ("info", "policy", "status", "value", "words"),
    [
        ({"rdb_last_bgsave_status": "err"}, "", "critical", None, "snapshot"),
        (
            {"aof_enabled": "1", "aof_last_write_status": "err"},
            "",
            "critical",
            None,
            "append-only file failed",
        ),
        (
            {"aof_enabled": "1", "aof_last_bgrewrite_status": "err"},
            "",
            "warning",
            None,
            "rewrite",
        ),
        ({"aof_enabled": "1"}, "", None, 0.0, "is on"),
        ({"aof_enabled": "1"}, None, None, 0.0, "is on"),
        ({**SAVED, "aof_enabled": "1"}, "60 1", None, 200.0, "5 changes"),
        (SAVED, None, "skipped", None, "may not read"),
        (SAVED, "", "skipped", None, "persistence is off"),
        ({}, "60 1", "unknown", None, "INFO has no"),
        (SAVED, "60 1", None, 200.0, "5 changes since the last save 3 min 20 s ago"),
        ({**SAVED, "rdb_changes_since_last_save": "0"}, "60 1", None, 0.0, "nothing to save"),
    ],
)
def test_last_save(
    info: dict[str, str], policy: str | None, status: str | None, value: float | None, words: str
) -> None:
    seen = redis.last_save(TARGET, info, policy, 1200.0)
    assert (seen.status, seen.value) == (status, value)
    assert words in seen.message


@pytest.mark.parametrize(
    ("info", "status", "words"),
    [
        ({"role": "master", "connected_slaves": "0"}, "skipped", "no replica"),
        ({"connected_slaves": "1", "slave0": "ip=1,state=online,lag=0"}, "ok", "1 replica online"),
        (
            {"connected_slaves": "2", "slave0": "state=online", "slave1": "state=wait_bgsave"},
            "warning",
            "1 of 2 replicas",
        ),
        ({"role": "slave", "master_link_status": "up", "master_host": "m"}, "ok", "m:?"),
        (
            {"role": "slave", "master_link_down_since_seconds": "60"},
            "critical",
            "is down for 1 min",
        ),
        (
            {"role": "slave", "master_link_status": "down", "master_sync_in_progress": "1"},
            "critical",
            "synchronization",
        ),
    ],
)
def test_replication(info: dict[str, str], status: str, words: str) -> None:
    seen = redis.replication(TARGET, info)
    assert seen.status == status
    assert words in seen.message
