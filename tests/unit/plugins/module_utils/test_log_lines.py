# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import struct
import time

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils import _log_lines
from ansible_collections.pynomaly.ops.plugins.module_utils._log_lines import (
    ErrorCounter,
    classify,
    demultiplex,
    errors_measurement,
    mask_secrets,
    normalize,
    split_lines,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._probe import Target

ERRORS = [
    ("ERROR:app.detect:model is gone", "model is gone"),
    ("CRITICAL:root:out of disk", "out of disk"),
    ("ERROR:    Exception in ASGI application", "Exception in ASGI application"),
    ("[ERROR] boom", "boom"),
    ("ERROR boom", "boom"),
    ("ERROR - boom", "boom"),
    ("\x1b[31mERROR\x1b[0m: boom", "boom"),
    ("2024-01-02 03:04:05,678 ERROR boom", "boom"),
    ("2024-01-02 03:04:05,678 - my.logger - ERROR - boom", "boom"),
    ("2024-01-02 03:04:05,678 my.logger ERROR boom", "boom"),
    ("2024-01-02 03:04:05,678 [ERROR] my.logger: boom", "my.logger: boom"),
    ("[2024-01-02 03:04:05 +0000] [7] [ERROR] boom", "boom"),
    ("2024-01-02 03:04:05.678 [http-nio-80] ERROR my.Class - boom", "my.Class - boom"),
    ("2024-01-02 03:04:05.678 | ERROR    | app:run:1 - boom", "app:run:1 - boom"),
    ("2024-01-02T03:04:05.678Z ERROR boom", "boom"),
    ('{"level": "error", "message": "boom"}', "boom"),
    ('{"levelname": "ERROR", "msg": "boom"}', "boom"),
    ('{"severity": "CRITICAL", "message": "boom"}', "boom"),
    ('{"level": 50, "msg": "boom"}', "boom"),
    ('{"level": 3, "short_message": "boom"}', '{"level": 3, "short_message": "boom"}'),
    ('{"text": "x", "record": {"level": {"name": "ERROR"}, "message": "boom"}}', "boom"),
    ('{"log": {"level": "error"}, "message": "boom"}', "boom"),
    (
        'ts=2024-01-02T03:04:05Z caller=a.go:1 level=error msg="boom now" err="no disk"',
        "boom now: no disk",
    ),
    ('time="2024-01-02T03:04:05Z" level=error msg="boom"', "boom"),
    ("logger=sqlstore t=2024-01-02T03:04:05Z lvl=eror msg=boom", "boom"),
    ("level=error component=tsdb", "level=error component=tsdb"),
    (
        '2024-01-02 03:04:05.678 UTC [42] ERROR:  relation "x" does not exist',
        'relation "x" does not exist',
    ),
    (
        "2024-01-02 03:04:05.678 UTC [42] app@prod FATAL:  too many connections",
        "too many connections",
    ),
    ("2024-01-02 03:04:05.678 CET [42] PANIC:  could not write", "could not write"),
    ("FATAL:  the database system is starting up", "the database system is starting up"),
    (
        "1:M 02 Jan 2024 03:04:05.678 # Error writing to the AOF file: no space",
        "Error writing to the AOF file: no space",
    ),
    (
        "1:M 02 Jan 2024 03:04:05.678 # Can't save in background: fork: no memory",
        "Can't save in background: fork: no memory",
    ),
    ("1:M 02 Jan 2024 03:04:05.678 # Background saving error", "Background saving error"),
    ("*** FATAL CONFIG FILE ERROR (Redis 7.0) ***", "*** FATAL CONFIG FILE ERROR (Redis 7.0) ***"),
    ("2024/01/02 03:04:05 [error] 42#42: *1 open() failed", "open() failed"),
    ("2024/01/02 03:04:05 [crit] 42#42: no disk", "no disk"),
    ("2024/01/02 03:04:05 [alert] 42#42: worker died", "worker died"),
    ("nginx: [emerg] bind() to 0.0.0.0:80 failed", "bind() to 0.0.0.0:80 failed"),
    ("[Tue Jan 02 03:04:05.678 2024] [core:error] [pid 1] boom", "[pid 1] boom"),
    ("E0102 03:04:05.678901       1 server.go:12] boom", "boom"),
    ("F0102 03:04:05.678901       1 server.go:12] boom", "boom"),
    ("<3>boom", "boom"),
    ("<11>Jan  2 03:04:05 host app[1]: boom", "boom"),
    ("Jan  2 03:04:05 host app[1]: ERROR: boom", "boom"),
    ("Error: Cannot find module 'x'", "Cannot find module 'x'"),
    ("panic: runtime error", "runtime error"),
]

FINE = [
    "",
    "0 ERRORs found",
    "no error",
    "error_count=0",
    "errors: 0, level of errors: none",
    "ERROR count 0",
    "ERRORS 0",
    "2024-01-02 03:04:05 Found 0 ERROR lines",
    "2024-01-02 03:04:05 no ERROR lines",
    'INFO:     127.0.0.1:1234 - "GET /error HTTP/1.1" 200 OK',
    '127.0.0.1 - - [02/Jan/2024:03:04:05 +0000] "GET /error HTTP/1.1" 404 1 "-" "x"',
    "INFO:app:recovered from ERROR: old",
    "WARNING:app:FATAL was near",
    "2024-01-02 03:04:05,678 - app - WARNING - an ERROR - maybe",
    '{"level": "info", "message": "error: none"}',
    '{"level": 30, "msg": "fatal"}',
    '{"message": "error"}',
    '["error"]',
    '{"level": broken error}',
    'level=warn msg="an error" err=x',
    "2024-01-02 03:04:05.678 UTC [42] LOG:  statement: select 'ERROR:  x'",
    "2024-01-02 03:04:05.678 UTC [42] STATEMENT:  select error",
    "2024-01-02 03:04:05.678 UTC [42] WARNING:  error ahead",
    "1:M 02 Jan 2024 03:04:05.678 # WARNING Memory overcommit must be enabled! It may fail to save",
    "1:M 02 Jan 2024 03:04:05.678 # Server initialized",
    "1:M 02 Jan 2024 03:04:05.678 * Ready, no error",
    "1:M 02 Jan 2024 03:04:05.678 - error",
    "1:M 02 Jan 2024 03:04:05.678 . error",
    "2024/01/02 03:04:05 [notice] 42#42: exiting on error",
    "2024/01/02 03:04:05 [warn] 42#42: error_log is odd",
    "I0102 03:04:05.678901       1 server.go:12] error budget is fine",
    "W0102 03:04:05.678901       1 server.go:12] error",
    "<6>error budget is fine",
    "Jan  2 03:04:05 host app[1]: the error is over",
    "Jan  2 03:04:05 host app[1]: INFO: the error is over",
    "the error is over",
    "terror alert",
]


@pytest.mark.parametrize(("line", "message"), ERRORS)
def test_an_error_is_told_by_its_format(line: str, message: str) -> None:
    record = classify(line)
    assert record.is_error, record
    assert record.message == message


@pytest.mark.parametrize("line", FINE)
def test_the_bare_word_is_no_error(line: str) -> None:
    assert not classify(line).is_error


@pytest.mark.parametrize("line", [line for line, _message in ERRORS])
def test_the_counter_sees_every_format_through_its_first_filter(line: str) -> None:
    counter = ErrorCounter()
    counter.add("stdout", line.encode())
    assert counter.errors == 1


def counted(*lines: str) -> ErrorCounter:
    counter = ErrorCounter()
    for line in lines:
        counter.add("stderr", line.encode())
    counter.finish()
    return counter


TRACEBACK = (
    "Traceback (most recent call last):",
    '  File "a.py", line 1, in <module>',
    "    raise ValueError('ERROR')",
    "ValueError: ERROR",
)


def test_a_traceback_belongs_to_the_line_before() -> None:
    counter = counted("ERROR:app:boom", *TRACEBACK, "INFO:app:on we go")
    assert counter.errors == 1
    assert counter.lines == 6
    assert counter.top()[0]["message"] == "boom"


def test_a_traceback_alone_counts_once_under_its_exception() -> None:
    counter = counted("INFO:app:fine", *TRACEBACK)
    assert counter.errors == 1
    assert counter.top()[0]["message"] == "ValueError: ERROR"


def test_chained_tracebacks_count_once() -> None:
    chained = "During handling of the above exception, another exception occurred:"
    assert counted(*TRACEBACK, "", chained, "", *TRACEBACK).errors == 1
    assert counted("ERROR:app:boom", *TRACEBACK, "", chained, "", *TRACEBACK).errors == 1


def test_a_traceback_that_is_cut_off_counts() -> None:
    counter = counted(*TRACEBACK[:2])
    assert counter.errors == 1
    assert counted(*TRACEBACK[:2], "ERROR:app:next").errors == 2


def test_streams_do_not_mix() -> None:
    counter = ErrorCounter()
    counter.add("stderr", b"ERROR:app:boom")
    counter.add("stdout", b"INFO:app:fine")
    for line in TRACEBACK:
        counter.add("stderr", line.encode())
    assert counter.errors == 1


def test_an_indented_line_goes_on_with_the_one_before() -> None:
    assert counted("ERROR:app:boom", "  ERROR: more of it", "\tERROR: and more").errors == 1


def test_the_most_frequent_messages_come_first_with_an_example_each() -> None:
    lines = [f"ERROR:app:user {number} has no model" for number in range(5)]
    lines += ["ERROR:app:disk full"] * 3 + ["ERROR:app:a", "ERROR:app:b"]
    top = counted(*lines).top()
    assert [entry["count"] for entry in top] == [5, 3, 1]
    assert top[0]["message"] == "user <n> has no model"
    assert top[0]["example"] == "ERROR:app:user 0 has no model"


def test_memory_is_bounded_and_the_frequent_survive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_log_lines, "MAX_DISTINCT_MESSAGES", 10)
    words = [chr(97 + number // 26) + chr(97 + number % 26) for number in range(100)]
    counter = counted(*["ERROR:app:often"] * 5, *[f"ERROR:app:{word}" for word in words])
    assert counter.errors == 105
    assert len(counter._counts) <= 10
    assert counter.top(1) == [{"count": 5, "message": "often", "example": "ERROR:app:often"}]


def test_a_long_example_is_cut_and_undecodable_bytes_are_kept() -> None:
    counter = ErrorCounter()
    counter.add("stdout", b"ERROR:app:" + b"x" * 500)
    counter.add("stdout", b"ERROR:app:\xff\xfe")
    assert all(len(entry["example"]) <= 200 for entry in counter.top())
    assert counter.errors == 2


@pytest.mark.parametrize(
    ("text", "gone"),
    [
        ("cannot connect to postgresql://app:s3cret@db/x", "s3cret"),
        ("cannot connect to postgresql+asyncpg://app:s3/cr@t@db/x", "cr@t"),
        ("redis://:s3cret@redis:6379/0 refused", "s3cret"),
        ("password=s3cret", "s3cret"),
        ("PGPASSWORD: 's3 cret'", "s3 cret"),
        ('{"password": "s3cret"}', "s3cret"),
        ('{"api_key": "s3\\"cret"}', "cret"),
        ("secret_key=s3cret&x=1", "s3cret"),
        ("Authorization: Bearer abc.def-ghi", "abc.def"),
        ("authorization='Basic YWJjOmRlZg=='", "YWJj"),
        ("token Bearer abcdefgh", "abcdefgh"),
        ("x-api-key: k123", "k123"),
        ("ALTER ROLE x PASSWORD 's3''cret'", "cret"),
        ("jwt eyJhbGciOiJIUzI1.eyJzdWIiOiIx.sig", "eyJzdWI"),
        ("-----BEGIN RSA PRIVATE KEY-----MIIE", "MIIE"),
    ],
)
def test_secrets_are_masked(text: str, gone: str) -> None:
    assert gone not in mask_secrets(text)
    assert "***" in mask_secrets(text)


def test_what_is_no_secret_is_kept() -> None:
    text = "GET http://host:80/tokens took 3 ms for user@example.org"
    assert mask_secrets(text) == text


def test_secrets_do_not_get_into_messages_or_examples() -> None:
    counter = counted("ERROR:app:login with password=hunter2 to redis://:hunter2@x/ failed")
    assert "hunter2" not in str(counter.top())


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("took 12 ms", "took 7.5 ms"),
        ("id 9f8b1c2d-0000-4000-8000-1234567890ab", "id 00000000-0000-4000-8000-000000000000"),
        ("at 0xdeadbeef", "at 0x1"),
        ("object 5f2b9cde1a", "object 0011223344"),
        ("from 10.0.0.1:80", "from 192.168.7.9:8080"),
        ("from [fe80::1]:80", "from [::1]:9"),
        ('relation "a" is gone', 'relation "b" is gone'),
        ("key 'a' is gone", "key 'b' is gone"),
        ("at 2024-01-02 03:04:05.6 it", "at 2025-11-12T13:14:15Z it"),
    ],
)
def test_messages_that_differ_in_particulars_are_alike(first: str, second: str) -> None:
    assert normalize(first) == normalize(second)


def test_messages_that_differ_in_words_are_not_alike() -> None:
    assert normalize("can't open") != normalize("can't close")


def frame(stream: int, payload: bytes) -> bytes:
    return struct.pack(">BxxxL", stream, len(payload)) + payload


@pytest.mark.parametrize("size", [1, 3, 8, 9, 1000])
def test_frames_are_taken_apart_however_they_arrive(size: int) -> None:
    raw = frame(1, b"one\n") + frame(2, b"") + frame(2, b"two\nthr") + frame(2, b"ee\n")
    chunks = [raw[start : start + size] for start in range(0, len(raw), size)]
    expected = [("stdout", b"one\n"), ("stderr", b""), ("stderr", b"two\nthr"), ("stderr", b"ee\n")]
    assert list(demultiplex(chunks)) == expected
    lines = list(split_lines(demultiplex(chunks)))
    assert lines == [("stdout", b"one"), ("stderr", b"two"), ("stderr", b"three")]


def test_a_frame_that_is_cut_off_is_still_read() -> None:
    assert list(demultiplex([frame(1, b"abcdef")[:-3]])) == [("stdout", b"abc")]
    assert list(demultiplex([b"\x01\x00\x00"])) == []


def test_long_lines_are_cut_and_line_ends_of_terminals_removed() -> None:
    long = b"x" * (_log_lines.MAX_LINE_BYTES + 10)
    lines = list(split_lines([("stdout", long), ("stdout", b"y\nshort\r\nrest")]))
    assert [len(line) for _stream, line in lines] == [_log_lines.MAX_LINE_BYTES, 5, 4]


def test_the_measurement_says_how_many_and_what_and_what_was_not_read() -> None:
    target = Target("logs.errors", "api")
    quiet = errors_measurement(target, counted("INFO:app:fine"), 24)
    assert (quiet.value, quiet.detail) == (0, None)
    assert quiet.message == "0 error lines of 1 in 24 h"
    loud = errors_measurement(target, counted("ERROR:app:boom"), 24, ["only half was read"])
    assert loud.value == 1
    assert loud.message == (
        "1 error line of 1 in 24 h, most often (1x): ERROR:app:boom; only half was read"
    )
    assert loud.detail == [{"count": 1, "message": "boom", "example": "ERROR:app:boom"}]


@pytest.mark.parametrize(
    "line",
    [
        b"ERROR:a:" + b"password" * 8000,
        b"ERROR:a:" + b"a:b" * 20000,
        b"ERROR:a:" + b'"\\' * 20000,
        b"error postgres://a:b" * 4000,
        b"2024-01-02 03:04:05 " + b"[a] " * 10000 + b"error",
        b"error" + b" " * 60000,
    ],
)
def test_no_line_takes_long(line: bytes) -> None:
    started = time.process_time()
    ErrorCounter().add("stdout", line)
    assert time.process_time() - started < 0.5
