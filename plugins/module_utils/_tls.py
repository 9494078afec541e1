# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Certificates: what C{openssl x509} says of one, how long it holds, and for which name."""

from __future__ import annotations

import datetime
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ansible_collections.pynomaly.ops.plugins.module_utils._http import excerpt
from ansible_collections.pynomaly.ops.plugins.module_utils._probe import (
    CRITICAL,
    OK,
    WARNING,
    Measurement,
    Target,
)

#: The options with which L{parse_x509} wants C{openssl x509} to be run; OpenSSL 1.1.1 has all.
X509_OPTIONS = (
    "-noout",
    "-startdate",
    "-enddate",
    "-subject",
    "-nameopt",
    "RFC2253",
    "-fingerprint",
    "-sha256",
    "-ext",
    "subjectAltName",
)

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DATE = re.compile(r"(\w{3})\s+(\d{1,2})\s+(\d\d):(\d\d):(\d\d)\s+(\d{4})\s+GMT")
_PEM = re.compile(
    rb"-----BEGIN (?:TRUSTED |X509 )?CERTIFICATE-----.*?"
    rb"-----END (?:TRUSTED |X509 )?CERTIFICATE-----",
    re.DOTALL,
)


@dataclass(frozen=True)
class Certificate:
    """``names`` and ``addresses`` are those of the subject alternative name; the common name
    counts for nothing (RFC 9525, section 2)."""

    subject: str
    not_before: datetime.datetime
    not_after: datetime.datetime
    sha256: str
    names: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()


def split_pem(content: bytes) -> list[bytes]:
    """The certificates in a PEM file, in its order; keys and comments are left out."""
    return [match[0] + b"\n" for match in _PEM.finditer(content)]


def parse_date(text: str) -> datetime.datetime:
    """C{Nov 24 06:49:00 2026 GMT}, in any locale. Raises L{ValueError}."""
    match = _DATE.search(text)
    if match is None or match[1] not in _MONTHS:
        raise ValueError(f"{text!r} is no date of openssl's")
    day, hour, minute, second, year = (int(match[index]) for index in range(2, 7))
    return datetime.datetime(
        year,
        _MONTHS.index(match[1]) + 1,
        day,
        hour,
        minute,
        second,
        tzinfo=datetime.timezone.utc,
    )


def parse_x509(output: str) -> Certificate:
    """What C{openssl x509} printed under L{X509_OPTIONS}. Raises L{ValueError}."""
    found: dict[str, str] = {}
    alternative = ""
    lines = output.splitlines()
    for index, line in enumerate(lines):
        key, separator, value = line.partition("=")
        if separator and not line.startswith(" "):
            found.setdefault(key.strip().lower(), value.strip())
        if "Subject Alternative Name" in line and index + 1 < len(lines):
            alternative = lines[index + 1].strip()
    fingerprint = next((v for k, v in found.items() if k.endswith("fingerprint")), "")
    if not fingerprint or "notbefore" not in found or "notafter" not in found:
        raise ValueError("openssl x509 gave no dates and fingerprint")
    names, addresses = [], []
    for entry in alternative.split(", "):
        kind, _separator, value = entry.strip().partition(":")
        if kind == "DNS":
            names.append(value.lower())
        elif kind == "IP Address":
            addresses.append(value)
    return Certificate(
        subject=found.get("subject", ""),
        not_before=parse_date(found["notbefore"]),
        not_after=parse_date(found["notafter"]),
        sha256=fingerprint.replace(":", "").lower(),
        names=tuple(names),
        addresses=tuple(addresses),
    )


def matches_name(certificate: Certificate, name: str) -> bool:
    """Whether a client that asked for ``name`` may take the certificate (RFC 9525, section 6.3):
    the same name in any case, or a wildcard as the whole first label, which stands for exactly
    one label. An address must be listed as one."""
    try:
        wanted = ipaddress.ip_address(name)
    except ValueError:
        pass
    else:
        return any(_same_address(entry, wanted) for entry in certificate.addresses)
    asked = _ascii(name).split(".")
    for presented in certificate.names:
        labels = presented.rstrip(".").lower().split(".")
        if labels == asked:
            return True
        if labels[0] == "*" and len(labels) > 2 and labels[1:] == asked[1:] and asked[0]:
            return True
    return False


def _same_address(entry: str, wanted: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    try:
        return ipaddress.ip_address(entry.strip()) == wanted
    except ValueError:
        return False


def _ascii(name: str) -> str:
    name = name.rstrip(".").lower()
    try:
        return name.encode("idna").decode("ascii")
    except UnicodeError:
        return name


def validity(certificate: Certificate, now: datetime.datetime) -> tuple[int, str]:
    """Whole days left (negative: since it expired), and the same in words after "expires" or
    "expired"."""
    left = certificate.not_after - now
    date = certificate.not_after.date().isoformat()
    if left < datetime.timedelta(0):
        days = -left // datetime.timedelta(days=1)
        if days:
            return -days, f"expired {_days(days)} ago ({date})"
        hours = -left // datetime.timedelta(hours=1)
        return 0, f"expired {hours} h ago ({date})" if hours else f"expired just now ({date})"
    days = left // datetime.timedelta(days=1)
    if days:
        return days, f"expires in {_days(days)} ({date})"
    return 0, f"expires in {left // datetime.timedelta(hours=1)} h ({date})"


def _days(count: int) -> str:
    return "1 day" if count == 1 else f"{count} days"


def expiry(
    target: Target, chains: Sequence[tuple[str, Sequence[Certificate]]], now: datetime.datetime
) -> Measurement:
    """How long the leaves hold. ``chains`` are (where it was seen, the leaf and what comes after
    it); the value is that of the leaf which ends first.

    One that has expired, or does not hold yet, is critical whatever the thresholds.
    """
    judged = []
    for place, chain in chains:
        leaf = chain[0]
        days, words = validity(leaf, now)
        status = None
        if leaf.not_after < now:
            status = CRITICAL
        elif leaf.not_before > now:
            status = CRITICAL
            words = f"does not hold before {leaf.not_before.date().isoformat()}"
        message = f"{place}: {words}"
        later = min(chain[1:], key=lambda one: one.not_after, default=None)
        if later is not None and later.not_after < leaf.not_after:
            _days_left, chain_words = validity(later, now)
            message += f"; in its chain {excerpt(later.subject, characters=60)} {chain_words}"
        judged.append((status is None, leaf.not_after, days, status, message))
    judged.sort(key=lambda entry: entry[:2])
    _fine, _end, days, status, message = judged[0]
    detail = [entry[4] for entry in judged] if len(judged) > 1 else None
    if detail:
        message += f" (the first of {len(judged)} to end)"
    return Measurement(target, value=days, status=status, message=message, detail=detail)


def name_check(target: Target, served: Sequence[tuple[str, Certificate]], name: str) -> Measurement:
    """Whether each certificate served is for the name."""
    for place, certificate in served:
        if not matches_name(certificate, name):
            listed = [*certificate.names, *certificate.addresses]
            seen = ", ".join(listed[:5]) if listed else "no name at all"
            if len(listed) > 5:
                seen += f" and {len(listed) - 5} more"
            return Measurement(
                target,
                status=CRITICAL,
                message=f"{place}: the certificate is for {excerpt(seen)}, expected {name}",
                detail=listed[:20] or None,
            )
    return Measurement(target, status=OK, message=f"the certificate is for {name}")


def reload_check(
    target: Target,
    served: Sequence[tuple[str, Certificate]],
    files: Sequence[tuple[str, Certificate]],
) -> Measurement:
    """Whether what is served is in one of the files; a renewed file does nothing until nginx
    reads it."""
    prints = {certificate.sha256 for _path, certificate in files}
    for place, certificate in served:
        if certificate.sha256 not in prints:
            ends = certificate.not_after.date().isoformat()
            in_files = "; ".join(
                f"{path} ends {one.not_after.date().isoformat()}" for path, one in files[:3]
            )
            return Measurement(
                target,
                status=WARNING,
                message=f"{place}: the certificate served (ends {ends}) is in no file of the "
                f"configuration ({in_files})",
            )
    return Measurement(target, status=OK, message="the certificate served is the one in the file")
