# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Log lines: taking the engine's stream apart, telling an error by its format, counting messages.

A level counts where a format puts one. The bare word does not: ``0 ERRORs found`` is good news and
``GET /error HTTP/1.1`` is somebody's URL.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._probe import Measurement, Target

MAX_LINE_BYTES = 65536

#: Distinct messages that are told apart in one log; past that the rarest are forgotten.
MAX_DISTINCT_MESSAGES = 500

_HEADER = struct.Struct(">BxxxL")
_STREAMS = {1: "stdout", 2: "stderr"}

ERROR_LEVELS = frozenset(
    {"error", "err", "severe", "fatal", "critical", "crit", "panic", "dpanic", "alert"}
    | {"emerg", "emergency"}
)


# The engine's stream


def demultiplex(chunks: Iterable[bytes]) -> Iterator[tuple[str, bytes]]:
    """Frames of a stream without a terminal: an 8-byte header (stream, length), then payload.

    See "Stream format" of the Engine API's attach operation.
    """
    buffer = b""
    for chunk in chunks:
        buffer = buffer + chunk if buffer else chunk
        position, end = 0, len(buffer)
        while end - position >= 8:
            stream, length = _HEADER.unpack_from(buffer, position)
            if end - position - 8 < length:
                break
            yield _STREAMS.get(stream, "stdout"), buffer[position + 8 : position + 8 + length]
            position += 8 + length
        buffer = buffer[position:]
    if len(buffer) > 8:  # what was cut off is still worth reading
        yield _STREAMS.get(buffer[0], "stdout"), buffer[8:]


def split_lines(frames: Iterable[tuple[str, bytes]]) -> Iterator[tuple[str, bytes]]:
    """Whole lines, without their end, of frames that may hold several or a part of one.

    A line keeps its first L{MAX_LINE_BYTES}.
    """
    pending: dict[str, bytes] = {}
    for stream, payload in frames:
        held = pending.pop(stream, b"")
        lines = payload.split(b"\n")
        if held:
            lines[0] = held + lines[0]
        rest = lines.pop()
        for line in lines:
            yield stream, line[:MAX_LINE_BYTES].rstrip(b"\r")
        if rest:
            pending[stream] = rest[:MAX_LINE_BYTES]
    for stream, rest in pending.items():
        yield stream, rest.rstrip(b"\r")


# Telling an error

#: A line without any of these cannot be an error in any format below.
_MARKS = tuple(
    b"err eror fatal crit panic alert emerg severe fail can't cannot unable crash \"level"
    b' "severity"'.split()
)
_MARKED_START = re.compile(rb"<\d|[EF]\d{4} ")
#: Bytes of a line that are looked at.
_LOOKED_AT = 4000

_LEVEL = "ERROR|ERR|SEVERE|FATAL|CRITICAL|CRIT|PANIC|ALERT|EMERG|EMERGENCY"
_OTHER = "TRACE|DEBUG|INFO|INFORMATION|NOTICE|LOG|WARN|WARNING|STATEMENT|DETAIL|HINT|CONTEXT"
_TIMESTAMP = (
    r"\[?\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d(?::\d\d)?(?:[.,]\d+)?"
    r"(?: ?(?:Z|UTC|GMT|[A-Z]{2,5}|[+-]\d\d:?(?:\d\d)?))?\]?"
)

_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")

# What a level is not when it stands alone before one of these: "ERROR count 0".
_NOT_PROSE = r"(?!(?:counts?|rates?|lines?|codes?|levels?|logs?|messages?|pages?|s)\b)"

# LEVEL:logger:message (logging.basicConfig), "ERROR:    message" (uvicorn), "[ERROR] message",
# "ERROR message"; also right behind a timestamp.
_LEADING = re.compile(
    rf"(?:{_TIMESTAMP}[ ,|:-]*)?"
    rf"(?:\[(?P<inner>{_LEVEL}|{_OTHER})\]|(?P<level>{_LEVEL}|{_OTHER}))"
    rf"(?::[A-Za-z_][\w.]*:|:\s|\s*[|-]\s|\s+{_NOT_PROSE}|:?$)"
)
# 2024-01-02 03:04:05,678 - my.logger - ERROR - message
# 2024-01-02 03:04:05,678 my.logger ERROR message
# [2024-01-02 03:04:05 +0000] [7] [ERROR] message (gunicorn)
# 2024-01-02 03:04:05.678 [main] ERROR my.Class - message (Java)
_AFTER_FIELDS = re.compile(
    rf"{_TIMESTAMP}"
    rf"(?:(?:\s*\[(?!(?:{_LEVEL}|{_OTHER})\])[^\]]{{1,60}}\]){{1,5}}\s*[-|]?\s*"
    rf"|(?:\s+[-|]\s+(?!(?:{_LEVEL}|{_OTHER})\b)[^\s|]{{1,60}}){{1,5}}\s+[-|]\s+"
    rf"|\s+(?!(?:{_LEVEL}|{_OTHER})\b)[A-Za-z_][\w.$/-]{{3,60}}\s+)"
    rf"(?:\[(?P<inner>{_LEVEL}|{_OTHER})\]|(?P<level>{_LEVEL}|{_OTHER}))"
    rf"(?:\s*[-|:]\s|:\s*|\s+{_NOT_PROSE}|$)"
)
# "error: message", as command-line tools put it
_TOOL = re.compile(r"^(?P<level>error|fatal|panic|critical)(?: error)?: ", re.IGNORECASE)
# 2024-01-02 03:04:05.678 UTC [42] user@database ERROR:  message (PostgreSQL's log_line_prefix)
_POSTGRES = re.compile(
    r"^(?:[^\"']{0,160}?[\s\]>:])?"
    r"(?P<level>ERROR|FATAL|PANIC|LOG|WARNING|NOTICE|INFO|DETAIL|HINT|STATEMENT|CONTEXT|QUERY):  "
)
# 2024/01/02 03:04:05 [error] 42#42: *1 message (nginx); Apache's [core:error]
_BRACKETED = re.compile(
    r"^(?:\d{4}/\d\d/\d\d \d\d:\d\d:\d\d|\[[A-Z][a-z]{2} [A-Z][a-z]{2} [^\]]+\]|nginx:) "
    r"\[(?:\w+:)?(?P<level>\w+)\]"
)
# 42:M 02 Jan 2024 03:04:05.678 # message. "#" is Redis's warning and its highest level, used also
# for the greeting; what it calls an error, it calls so by words.
_REDIS = re.compile(
    r"^\d+:[XCSM] \d{1,2} [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d\.\d{3} (?P<level>[.\-*#]) "
)
_REDIS_ERROR = re.compile(
    r"(?!warning).*?(?:\b(?:errors?|fatal|failed|can't|cannot|unable|crashed)\b"
    r"|REDIS BUG REPORT START)",
    re.IGNORECASE,
)
# E0102 03:04:05.678901   42 file.go:1] message (klog, glog)
_KLOG = re.compile(r"^(?P<level>[IWEF])\d{4} \d\d:\d\d:\d\d\.\d+\s+\d+ [\w./-]+:\d+\] ")
# level=error, lvl=eror (go-kit, logrus, slog, Grafana)
_LOGFMT = re.compile(
    r"(?:^|\s)(?:level|lvl|severity)=\"?(?P<level>[A-Za-z]+)\"?(?=\s|$)", re.IGNORECASE
)
_LOGFMT_PAIR = re.compile(r"(?:^|\s)[A-Za-z_][\w.]*=")
_LOGFMT_MESSAGE = re.compile(r"(?:^|\s)(?:msg|message)=(?:\"((?:[^\"\\]|\\.)*)\"|(\S+))")
_LOGFMT_ERROR = re.compile(r"(?:^|\s)(?:err|error)=(?:\"((?:[^\"\\]|\\.)*)\"|(\S+))")
# Jan  2 03:04:05 host program[42]: ERROR: message (syslog), <3>… (priority)
_SYSLOG = re.compile(
    r"^(?:<(?P<priority>\d{1,3})>)?[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \S+ [^:]+: "
)
_PRIORITY = re.compile(r"^<(?P<priority>\d{1,3})>")

_EXCEPTION = re.compile(r"^(?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*(?::|$)")
_CHAINED = (
    b"During handling of the above exception",
    b"The above exception was the direct cause",
)
_ALARMS = re.compile(r"^(?:\*\*\* FATAL CONFIG FILE ERROR|FATAL CONFIG FILE ERROR)")


@dataclass(frozen=True)
class LogRecord:
    """What a line says of itself. ``level`` is lower case, empty where the format has none;
    ``message`` is the text after timestamp and level."""

    level: str
    message: str

    @property
    def is_error(self) -> bool:
        return self.level in ERROR_LEVELS


def classify(line: str) -> LogRecord:
    """The level and message of one line, by its format; level is empty for an unknown format."""
    text = _ANSI.sub("", line) if "\x1b" in line else line
    for attempt in (
        _json,
        _nginx,
        _redis,
        _klog,
        _logfmt,
        _python,
        _postgres,
        _syslog,
        _tool,
    ):
        record = attempt(text)
        if record is not None:
            return record
    return LogRecord("", text)


def _json(text: str) -> Optional[LogRecord]:
    start = text.find("{")
    if start < 0 or start > 40 or not text.rstrip().endswith("}"):
        return None
    try:
        document = json.loads(text[start:])
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    level = _first(document, ("level", "levelname", "severity", "log.level", "lvl", "loglevel"))
    if isinstance(level, dict):  # loguru's serialised records: {"record": {"level": {"name": …}}}
        level = level.get("name")
    nested = document.get("record")
    if level is None and isinstance(nested, dict):
        return _json(json.dumps(nested))
    if level is None and isinstance(document.get("log"), dict):  # Elastic Common Schema
        level = document["log"].get("level")
    if level is None:
        return None
    message = _first(document, ("message", "msg", "event", "text", "error", "err"))
    return LogRecord(_numbered(level), str(message if message is not None else text))


def _nginx(text: str) -> Optional[LogRecord]:
    match = _BRACKETED.match(text)
    if not match:
        return None
    message = re.sub(r"^\s*\d+#\d+:\s*(?:\*\d+\s)?", "", text[match.end() :])
    return LogRecord(match["level"].lower(), message.strip())


def _redis(text: str) -> Optional[LogRecord]:
    match = _REDIS.match(text)
    if not match:
        return None
    message = text[match.end() :]
    if match["level"] != "#":
        return LogRecord({".": "debug", "-": "verbose", "*": "notice"}[match["level"]], message)
    return LogRecord("error" if _REDIS_ERROR.match(message) else "warning", message)


def _klog(text: str) -> Optional[LogRecord]:
    match = _KLOG.match(text)
    if not match:
        return None
    level = {"I": "info", "W": "warning", "E": "error", "F": "fatal"}[match["level"]]
    return LogRecord(level, text[match.end() :])


def _logfmt(text: str) -> Optional[LogRecord]:
    match = _LOGFMT.search(text)
    if not match or len(_LOGFMT_PAIR.findall(text[:2000])) < 2:
        return None
    level = match["level"].lower()
    found = _LOGFMT_MESSAGE.search(text)
    message = (found[1] or found[2] or "") if found else text
    cause = _LOGFMT_ERROR.search(text) if found else None
    if cause:
        message += f": {cause[1] or cause[2] or ''}"
    return LogRecord("error" if level == "eror" else level, message)


def _python(text: str) -> Optional[LogRecord]:
    match = _LEADING.match(text) or _AFTER_FIELDS.match(text)
    if not match:
        return None
    return LogRecord((match["level"] or match["inner"]).lower(), text[match.end() :].strip())


def _postgres(text: str) -> Optional[LogRecord]:
    match = _POSTGRES.match(text)
    return LogRecord(match["level"].lower(), text[match.end() :].strip()) if match else None


def _syslog(text: str) -> Optional[LogRecord]:
    match = _SYSLOG.match(text) or _PRIORITY.match(text)
    if not match:
        return None
    rest = text[match.end() :]
    if match["priority"]:
        # RFC 5424, 6.2.1: severity is the priority modulo 8, and 3 is error.
        severity = int(match["priority"]) % 8
        return LogRecord("error" if severity <= 3 else "info", rest)
    inner = _python(rest)
    return inner or LogRecord("info", rest)


def _tool(text: str) -> Optional[LogRecord]:
    match = _TOOL.match(text)
    if match:
        return LogRecord(match["level"].lower(), text[match.end() :].strip())
    return LogRecord("fatal", text) if _ALARMS.match(text) else None


def _first(document: dict[str, Any], names: Iterable[str]) -> Any:
    return next((document[name] for name in names if document.get(name) is not None), None)


def _numbered(level: Any) -> str:
    """Levels that are numbers: syslog's and GELF's 0 to 7 (3 is error), else bunyan's and pino's
    10 to 60 (50 is error)."""
    if isinstance(level, (int, float)) and not isinstance(level, bool):
        return "error" if level <= 3 or level >= 50 else "info"
    return str(level).strip().lower()


# Making messages alike, and safe to show

_MASK = "***"
#: Where none of these is, none of the patterns below can match, and they are not tried.
_SECRET_MARKS = (
    *("://", "pass", "pwd", "secret", "token", "key", "credential", "authorization"),
    *("cookie", "bearer", "basic", "eyj"),
)
_SCHEME = r"(\b[a-z][a-z0-9+.-]{0,30}://[^\s:/@'\"]{0,200}:)"
_SECRETS = (
    # scheme://user:password@host, and one whose password has a slash or an at sign
    (re.compile(_SCHEME + r"[^\s/@'\"]{1,500}(?=@)", re.IGNORECASE), r"\1***"),
    (re.compile(_SCHEME + r"[^\s'\"]{1,500}(?=@)", re.IGNORECASE), r"\1***"),
    (re.compile(r"\b(Bearer)\s+[A-Za-z0-9._~+/=-]{4,}", re.IGNORECASE), r"\1 ***"),
    (re.compile(r"\b(Basic)\s+(?=\S{0,500}[\d=])[A-Za-z0-9+/=]{8,}", re.IGNORECASE), r"\1 ***"),
    (
        re.compile(
            r"((?:authorization|x-api-key|cookie|set-cookie)['\"]?\s{0,5}[:=]\s{0,5})"
            r"(?:\"[^\"]*\"|'[^']*'|(?:(?:Bearer|Basic|Digest|Token)\s+)?[^\s,;&]+)",
            re.IGNORECASE,
        ),
        r"\1***",
    ),
    (
        re.compile(
            r"((?:password|passwd|passphrase|pwd|secret|token|api[_-]?key|access[_-]?key"
            r"|private[_-]?key|credentials?)[\w.-]{0,40}['\"]?\s{0,5}(?:[:=]|\bis\b)\s{0,5})"
            r"(?:\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|[^\s,;&)}\]]+)",
            re.IGNORECASE,
        ),
        r"\1***",
    ),
    (re.compile(r"(\bPASSWORD\s+)'(?:[^']|'')*'", re.IGNORECASE), r"\1'***'"),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*)?"), _MASK),
    (re.compile(r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----.*", re.DOTALL), _MASK),
)

_ALIKE = (
    (
        re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", re.I),
        "<uuid>",
    ),
    (re.compile(_TIMESTAMP), "<time>"),
    (re.compile(r"\"(?:[^\"\\]|\\.)*\""), '"…"'),
    (re.compile(r"(?<!\w)'(?:[^'\\]|\\.)*'(?!\w)"), "'…'"),
    (re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b"), "<address>"),
    (
        re.compile(r"\[[0-9a-f:]{3,}\](?::\d+)?|\b(?:[0-9a-f]{1,4}:){3,}[0-9a-f:]*", re.I),
        "<address>",
    ),
    (re.compile(r"\b0x[0-9a-f]+\b", re.I), "<hex>"),
    (re.compile(r"\b(?=[a-f]*\d)[0-9a-f]{8,}\b", re.I), "<hex>"),
    (re.compile(r"\d+(?:\.\d+)?"), "<n>"),
)


def mask_secrets(text: str) -> str:
    """The text with what looks like a password, token, or key replaced by ``***``."""
    lowered = text.lower()
    if not any(mark in lowered for mark in _SECRET_MARKS):
        return text
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


def normalize(message: str) -> str:
    """A message without what differs from one occurrence to the next: numbers, ids, addresses,
    quoted strings, times."""
    text = " ".join(message[:400].split())
    for pattern, replacement in _ALIKE:
        text = pattern.sub(replacement, text)
    return text[:200]


class ErrorCounter:
    """Counts error lines and keeps the most frequent messages, in bounded memory.

    A traceback belongs to the line before it; one that follows no error counts once.
    """

    def __init__(self) -> None:
        self.errors = 0
        self.lines = 0
        self._counts: dict[str, int] = {}
        self._examples: dict[str, str] = {}
        self._after_error: dict[str, bool] = {}
        self._traceback: dict[str, str] = {}

    def add(self, stream: str, line: bytes) -> None:
        """One line of ``stream`` (tracebacks of one do not mix with lines of the other)."""
        self.lines += 1
        if stream in self._traceback and self._continues_traceback(stream, line):
            return
        if line.startswith(b"Traceback (") and line.rstrip().endswith(b"last):"):
            self._traceback[stream] = "attached" if self._after_error.get(stream) else "alone"
            self._after_error[stream] = True
            return
        if not line.strip() or line[:1] in (b" ", b"\t") or line.startswith(_CHAINED):
            return  # goes on with the line before, whatever words it has
        lowered = line[:_LOOKED_AT].lower()
        if not any(mark in lowered for mark in _MARKS) and not _MARKED_START.match(line):
            self._after_error[stream] = False
            return
        text = line[:_LOOKED_AT].decode("utf-8", errors="replace")
        record = classify(text)
        self._after_error[stream] = record.is_error
        if record.is_error:
            self._count(record.message or text, text)

    def finish(self) -> None:
        """The log has ended: count a traceback that it cut off."""
        for stream in list(self._traceback):
            self._end_traceback(stream, "Traceback without its end")

    def top(self, number: int = 3) -> list[dict[str, Any]]:
        """The most frequent messages: C{count}, C{message} (normalised) and one C{example}, each
        at most 200 characters with secrets masked."""
        ranked = sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))
        return [
            {"count": count, "message": key, "example": self._examples[key]}
            for key, count in ranked[:number]
        ]

    def _continues_traceback(self, stream: str, line: bytes) -> bool:
        text = line.decode("utf-8", errors="replace").rstrip()
        if not text or text[:1] in " \t+|":
            return True
        if not classify(text).level and _EXCEPTION.match(text):  # a traceback's last line
            self._end_traceback(stream, text)
            return True
        self._end_traceback(stream, "Traceback without its end")
        return False

    def _end_traceback(self, stream: str, message: str) -> None:
        if self._traceback.pop(stream) == "alone":
            self._count(message, message)

    def _count(self, message: str, example: str) -> None:
        self.errors += 1
        key = normalize(mask_secrets(message[:1000]))
        if key not in self._counts and len(self._counts) >= MAX_DISTINCT_MESSAGES:
            self._forget()
        self._counts[key] = self._counts.get(key, 0) + 1
        if key not in self._examples:
            text = " ".join(mask_secrets(example[:1000]).split())
            self._examples[key] = text if len(text) <= 200 else text[:199] + "…"

    def _forget(self) -> None:
        """Make room: the rarer half goes (their lines stay counted)."""
        kept = sorted(self._counts.items(), key=lambda item: -item[1])[: MAX_DISTINCT_MESSAGES // 2]
        self._counts = dict(kept)
        self._examples = {key: self._examples[key] for key, _count in kept}


def errors_measurement(
    target: Target, counter: ErrorCounter, window_hours: float, remarks: Sequence[str] = ()
) -> Measurement:
    """``logs.errors`` of a service; ``remarks`` say what of its log was not read."""
    top = counter.top()
    lines = "line" if counter.errors == 1 else "lines"
    message = f"{counter.errors} error {lines} of {counter.lines} in {window_hours:g} h"
    if top:
        message += f", most often ({top[0]['count']}x): {top[0]['example'][:120]}"
    if remarks:
        message += f"; {'; '.join(remarks)}"
    return Measurement(target, counter.errors, message, detail=top or None)
