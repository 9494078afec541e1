# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What gives an attacker away in a log: patterns in requests and user agents, and their weights.

The patterns are of the kind that the OWASP Core Rule Set's paranoia level 1 looks for. They tell
who tries, not who succeeds, and are no web application firewall.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes


@dataclass(frozen=True)
class Pattern:
    """How a pattern counts: ``first`` points for one occurrence, ``further`` for each other one,
    ``most`` in all."""

    title: str
    first: int
    further: int
    most: int

    def points(self, count: int) -> int:
        return min(self.most, self.first + self.further * (count - 1)) if count > 0 else 0


#: With 40 points an address is one to block, unless told otherwise.
PATTERNS: Mapping[str, Pattern] = {
    "jndi_injection": Pattern("JNDI lookups (Log4Shell)", 40, 10, 70),
    "sql_injection": Pattern("SQL injection", 20, 5, 50),
    "path_traversal": Pattern("path traversal", 20, 5, 50),
    "shell_injection": Pattern("shell injection", 20, 5, 50),
    "template_injection": Pattern("template injection", 20, 5, 50),
    "cross_site_scripting": Pattern("cross-site scripting", 15, 5, 40),
    "log_forging": Pattern("line breaks that forge log lines", 60, 0, 60),
    "scanner_agent": Pattern("user agents of scanners", 40, 0, 40),
    "probe_path": Pattern("requests for what attackers look for", 10, 10, 50),
    "malformed_request": Pattern("requests that are no HTTP", 2, 2, 20),
    "unusual_method": Pattern("methods that no client of an API uses", 2, 2, 20),
    "rate_limited": Pattern("requests over nginx's limits", 1, 1, 10),
    "failed_login": Pattern("failed logins", 1, 1, 20),
    "brute_force": Pattern("failed logins in numbers", 40, 0, 40),
    "scanning": Pattern("many paths that do not exist", 40, 0, 40),
    "postgres_password": Pattern("failed PostgreSQL passwords", 4, 4, 60),
    "postgres_no_entry": Pattern("PostgreSQL connections that pg_hba.conf refuses", 10, 10, 50),
    "redis_protocol": Pattern("web requests sent to Redis", 60, 0, 60),
}

#: Failed logins of one address, in all or within a minute, that are called brute force.
BRUTE_FORCE_LOGINS = 10
BRUTE_FORCE_LOGINS_PER_MINUTE = 5
#: Distinct paths of one address that were not found, from which on it scans.
SCANNING_PATHS = 20

#: Statuses of a login that failed.
LOGIN_STATUSES = (b"401", b"403", b"422")
DEFAULT_LOGIN_PATHS = ("/login", "/signin", "/sign-in", "/auth", "/token", "/oauth", "/session")

# First segments of paths, of programs that an API's server does not have. All letters are small.
_PROBE_HEADS = (
    rb"wp-|wordpress|phpmyadmin|pma\b|myadmin|mysql|adminer|cgi-bin|boaform|hnap1|actuator"
    rb"|solr\b|jenkins|_ignition|telescope|vendor/phpunit|server-status|server-info|owa\b|ecp\b"
    rb"|autodiscover|geoserver|druid|nacos|sdk\b|evox|portal/redlion|remote/fgt|dana-na"
    rb"|manager/html|invoker/|struts|xmlrpc|_profiler|debug/default|goform|setup\.cgi"
)
_FIRST_SEGMENT = re.compile(rb"/+(?:" + _PROBE_HEADS + rb")")
_PROBES = re.compile(
    rb"/\.(?!well-known(?:/|\Z))[a-z0-9_]"
    rb"|/(?:wp-(?:login|config|cron)|xmlrpc|phpinfo|eval-stdin|shell|c99|r57|alfa|webshell|adminer)"
    rb"[\w.-]*\.(?:php|bak|old|txt|zip)"
    rb"|/(?:docker-compose|composer|package-lock|appsettings|web\.config|id_rsa|id_dsa|credentials"
    rb"|database|dump|backup|db|secrets?|config)\.(?:ya?ml|json|xml|sql|sql\.gz|zip|tar|tar\.gz|tgz"
    rb"|bak|old|php|ini|env)"
    rb"|/\+cscoe\+|\.(?:env|git|aws|ssh)(?:/|\Z)|/web\.config"
)

_WORDS = rb"[\s(+]+"
_SQL = re.compile(
    rb"\bunion" + _WORDS + rb"(?:all" + _WORDS + rb"|distinct" + _WORDS + rb")?select\b"
    rb"|['\"`)]\s*(?:or|and|\|\||&&)\s+['\"(]*\w+['\"]?\s*(?:=|like\b|<|>|is\b)"
    rb"|\b(?:or|and)\s+['\"(]*(\w{1,20})['\"]*\s*=\s*['\"(]*\1\b"
    rb"|\b(?:pg_sleep|sleep|benchmark|extractvalue|updatexml|load_file|dbms_pipe\.\w+)\s*\("
    rb"|\bwaitfor\s+delay\b|\bxp_cmdshell\s*['\"(]|\bexec\s+(?:master\.\.)?xp_cmdshell\b"
    rb"|\b(?:information_schema|pg_catalog)\.\w|\bfrom\s+sqlite_master\b"
    rb"|\binto\s+(?:out|dump)file\b|['\"]\s*(?:--|#|/\*)"
    rb"|;\s*(?:drop|delete|insert|update|alter|create|truncate|exec|declare|copy)\s"
    rb"|\border\s+by\s+\d+\s*(?:--|#)"
)
_TRAVERSAL = re.compile(
    rb"(?:\A|[/\\=])\.\.(?:[/\\;]|\Z)|/etc/(?:passwd|shadow|hosts|group|issue)\b|/proc/self/"
    rb"|[/\\]windows[/\\](?:win\.ini|system32)|\bboot\.ini\b"
    rb"|\b(?:php|phar|zip|expect|file|glob|dict|gopher)://|\x00"
)
_JNDI = re.compile(rb"\$\{[^}]{0,40}(?:jndi|lower:|upper:|env:|sys:|::-)|\bjndi:(?:ldap|rmi|dns)")
_TEMPLATE = re.compile(rb"\$\{|\{\{|#\{|<%|\{%|%\{")
_COMMANDS = (
    rb"(?:cat|ls|id|whoami|uname|wget|curl|nc|ncat|bash|sh|python\d?|perl|ping|sleep|echo|rm|chmod"
    rb"|busybox|powershell|tftp|ifconfig|nslookup)\b"
)
_SHELL = re.compile(
    rb"(?:[;|`]\s*|\$\(\s*|&&\s+)(?:/(?:usr/)?bin/)?"
    + _COMMANDS
    + rb"|\(\)\s*\{|/bin/(?:ba|da|z|k)?sh\b"
    rb"|\bcmd\.exe\b|\$\{ifs\}|\$ifs\b"
)
_XSS = re.compile(
    rb"<\s*/?\s*(?:script|img|svg|iframe|body|object|embed|video|details|math|input|style)\b"
    rb"|[\s\"'/<]on(?:error|load|mouseover|mouseenter|focus|click|toggle|start|begin)\s*="
    rb"|\bjavascript:\s*[a-z(\[/'\"]|\bdocument\.(?:cookie|location|domain)\b|\balert\s*\("
)
_FORGED = re.compile(rb"[\r\n]\s*\S")

# A user agent has brackets, semicolons and words of all kinds: only what is never in a true one.
_AGENT_SQL = re.compile(
    rb"\bunion\s+(?:all\s+)?select\b|\b(?:pg_)?sleep\s*\(|'\s*(?:or|and)\s+['\d]"
)
_AGENT_SHELL = re.compile(rb"\(\)\s*\{|/bin/(?:ba|da|z|k)?sh\b|\$\(|[;|]\s*(?:wget|curl|bash)\s")
_AGENT_XSS = re.compile(rb"<\s*/?\s*(?:script|img|svg|iframe)\b")
_AGENT_TRAVERSAL = re.compile(rb"\.\./\.\./|/etc/passwd\b")
_SCANNERS = re.compile(
    rb"sqlmap|nikto|\bnmap\b|masscan|zgrab|nuclei|gobuster|dirbuster|\bdirb\b|\bffuf\b|fuzz faster"
    rb"|feroxbuster|wfuzz|wpscan|acunetix|nessus|openvas|qualys|burp ?suite|zaproxy|owasp|hydra"
    rb"|\bmedusa\b|w3af|arachni|skipfish|whatweb|jaeles|projectdiscovery|httpx - |censys|shodan"
    rb"|l9explore|l9tcpid|netsparker|zmap|commix|xsser|webinspect|appscan|joomscan|droopescan"
    rb"|cmsmap|interactsh|expanse|internet-?measurement|morfeus|zmeu|jorgee|muieblackcat"
)

_ESCAPED = re.compile(rb"\\x([0-9A-Fa-f]{2})")
_WIDE_PERCENT = re.compile(rb"%u00([0-9A-Fa-f]{2})")
_OVERLONG = ((b"\xc0\xae", b"."), (b"\xc0\xaf", b"/"), (b"\xc1\x9c", b"\\"))
_COMMENT = re.compile(rb"/\*.{0,40}?\*/", re.DOTALL)
_DECODINGS = 3
#: Bytes that an injection may have, and that alone are none: the others, but for these words.
_NO_MARKS = bytes(range(128, 256)) + b"abcdefghijklmnopqrstuvwxyz0123456789 /_=&?,~@-:%+"
_MARKS = re.compile(
    rb"union|waitfor|xp_cmd|sqlite_|order\s|into\s|or\s|and\s|/etc/|/proc/|/bin/|/windows/|://"
    rb"|jndi:|javascript:|[ /]on[a-z]+ *="
)
#: Of a request or a user agent so much is looked at.
LOOKED_AT_BYTES = 8192

_METHODS = rb"(?:GET|POST|HEAD|PUT|PATCH|DELETE|OPTIONS)"
_METHOD = re.compile(rb"[A-Z][A-Z-]{1,19}\Z")
_USUAL_METHOD = re.compile(_METHODS + rb"\Z")

_PLAIN_PATH = (
    rb"/[A-Za-z0-9/_~@,-]*(?:(?<=[a-z0-9_-])(?:\.[0-9a-f]{1,32})?"
    rb"\.(?:js|css|png|svg|jpe?g|gif|ico|webp|woff2?|map))?"
)
_PLAIN = re.compile(_PLAIN_PATH)

#: The beginning of a request, without its protocol, in which none of the patterns can be where it
#: was served: what a log is nearly made of. Tests hold it against L{request_patterns}.
PLAIN_REQUEST = (
    _METHODS + rb" " + _PLAIN_PATH + rb"(?:\?[A-Za-z0-9_=&,~@-]*"
    rb"(?:(?:\.|:|%3A)[0-9][A-Za-z0-9_=&,~@-]*)*)?"
)
#: A referrer in which none can be.
PLAIN_REFERRER = rb"[A-Za-z0-9:/?&=._~#+,@-]*"


def _hex(match: re.Match[bytes]) -> bytes:
    return bytes((int(match[1], 16),))


def _unescaped(field: bytes) -> bytes:
    """As it was before nginx wrote it with C{\\xHH} for quotes, backslashes and control bytes."""
    if b"\\x" not in field:
        return field
    return _ESCAPED.sub(_hex, field)


def decoded(text: bytes) -> bytes:
    """Without percent-encoding, were it threefold, without SQL comments, and in small letters."""
    for _round in range(_DECODINGS):
        if b"%" not in text:
            break
        before, text = text, unquote_to_bytes(_WIDE_PERCENT.sub(_hex, text))
        if text == before:
            break
    for overlong, plain in _OVERLONG:
        if overlong in text:
            text = text.replace(overlong, plain)
    if b"/*" in text:
        text = _COMMENT.sub(b" ", text)
    return text.lower()


def request_patterns(request: bytes, *, served: bool) -> tuple[str, ...]:
    """Names of the patterns in a request line, as nginx logs it, with or without its protocol.

    Where the answer was of class 2xx the request was ``served``: a path such as /actuator, of which
    others would only be suspected, is then the service's own.
    """
    method, _space, target = _unescaped(request[:LOOKED_AT_BYTES]).partition(b" ")
    if _METHOD.match(method) is None or not target:
        return ("malformed_request",)
    before, protocol, version = target.rpartition(b" HTTP/")
    if protocol and len(version) <= 3:
        target = before
    return tuple(_in_request(method, target, served))


def _in_request(method: bytes, target: bytes, served: bool) -> Iterator[str]:
    if not _USUAL_METHOD.match(method):
        yield "unusual_method"
    path, _mark, query = target.partition(b"?")
    plain_path = decoded(path)
    is_own = served and _PLAIN.fullmatch(path) is not None
    # A plus sign is a space in a query alone.
    text = (b"" if is_own else plain_path) + b"?" + decoded(query.replace(b"+", b" "))
    yield from _injections(text)
    if _PROBES.search(plain_path) or (not served and _FIRST_SEGMENT.match(plain_path)):
        yield "probe_path"
    if (b"\n" in text or b"\r" in text) and _FORGED.search(text):
        yield "log_forging"


def _may_inject(text: bytes) -> bool:
    """Whether any of the injections can be in a text, for a fraction of what looking for each
    costs."""
    return bool(text.translate(None, _NO_MARKS)) or _MARKS.search(text) is not None


def _injections(text: bytes) -> Iterator[str]:
    if not _may_inject(text):
        return
    if _SQL.search(text):
        yield "sql_injection"
    if _TRAVERSAL.search(text):
        yield "path_traversal"
    if _JNDI.search(text):
        yield "jndi_injection"
    elif _TEMPLATE.search(text):
        yield "template_injection"
    if _SHELL.search(text):
        yield "shell_injection"
    if _XSS.search(text):
        yield "cross_site_scripting"


def agent_patterns(agent: bytes) -> tuple[str, ...]:
    """Names of the patterns in a user agent or a referrer."""
    text = decoded(_unescaped(agent[:LOOKED_AT_BYTES]))
    found = []
    if _SCANNERS.search(text):
        found.append("scanner_agent")
    for name, pattern in (
        ("jndi_injection", _JNDI),
        ("sql_injection", _AGENT_SQL),
        ("shell_injection", _AGENT_SHELL),
        ("cross_site_scripting", _AGENT_XSS),
        ("path_traversal", _AGENT_TRAVERSAL),
    ):
        if pattern.search(text):
            found.append(name)
    return tuple(found)


def named_in_forged(request: bytes) -> bytes:
    """What follows the first line break that a request has encoded; empty where it has none."""
    match = _FORGED.search(decoded(_unescaped(request[:LOOKED_AT_BYTES])))
    return b"" if match is None else decoded(_unescaped(request))[match.start() :]
