# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime
from dataclasses import replace

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._probe import Target
from ansible_collections.pynomaly.ops.plugins.module_utils._tls import (
    Certificate,
    expiry,
    matches_name,
    name_check,
    parse_date,
    parse_x509,
    reload_check,
    split_pem,
    validity,
)

UTC = datetime.timezone.utc
NOW = datetime.datetime(2026, 6, 15, 12, tzinfo=UTC)
TARGET = Target("tls.served", "nginx")
OUTPUT = """notBefore=Jan  1 00:00:00 2026 GMT
notAfter=Dec 31 23:59:59 2026 GMT
subject=CN=api.example.org,O=A\\, B
sha256 Fingerprint=AB:CD:EF
X509v3 Subject Alternative Name:
    DNS:API.example.org, DNS:*.example.net, IP Address:10.0.0.1, email:a@b
"""


def certificate(days: float = 100, **fields: object) -> Certificate:
    base = Certificate(
        "CN=api",
        NOW - datetime.timedelta(days=10),
        NOW + datetime.timedelta(days=days),
        "aa",
        ("api.example.org",),
    )
    return replace(base, **fields)  # type: ignore[arg-type]


def test_parse_x509() -> None:
    parsed = parse_x509(OUTPUT)
    assert parsed == Certificate(
        "CN=api.example.org,O=A\\, B",
        datetime.datetime(2026, 1, 1, tzinfo=UTC),
        datetime.datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC),
        "abcdef",
        ("api.example.org", "*.example.net"),
        ("10.0.0.1",),
    )


def test_parse_x509_without_alternative_names() -> None:
    output = OUTPUT.split("X509v3", maxsplit=1)[0]
    assert parse_x509(output).names == ()
    assert parse_x509(output + "X509v3 Subject Alternative Name:").names == ()


@pytest.mark.parametrize("output", ["", "sha256 Fingerprint=AB", OUTPUT.replace("Dec", "Dez")])
def test_parse_x509_refuses(output: str) -> None:
    with pytest.raises(ValueError, match="openssl"):
        parse_x509(output)


def test_parse_date_with_one_digit() -> None:
    assert parse_date("Feb  3 04:05:06 2027 GMT") == datetime.datetime(
        2027, 2, 3, 4, 5, 6, tzinfo=UTC
    )


def test_split_pem_leaves_keys_out() -> None:
    block = b"-----BEGIN CERTIFICATE-----\nQQ==\n-----END CERTIFICATE-----"
    key = b"-----BEGIN PRIVATE KEY-----\nQQ==\n-----END PRIVATE KEY-----"
    assert split_pem(b"text\n" + block + b"\n" + key + b"\n" + block) == [block + b"\n"] * 2
    assert split_pem(key) == []


@pytest.mark.parametrize(
    ("names", "name", "expected"),
    [
        (("api.example.org",), "API.example.org.", True),
        (("api.example.org",), "example.org", False),
        (("*.example.org",), "api.example.org", True),
        (("*.example.org",), "a.b.example.org", False),
        (("*.example.org",), "example.org", False),
        (("*.example.org",), ".example.org", False),
        (("*.org",), "example.org", False),
        (("a*.example.org",), "api.example.org", False),
        (("api.*.org",), "api.example.org", False),
        (("xn--bcher-kva.example",), "bücher.example", True),
        ((), "api.example.org", False),
        (("10.0.0.1",), "10.0.0.1", False),
        (("a",), "a" * 70 + ".example", False),
    ],
)
def test_matches_name(names: tuple[str, ...], name: str, expected: bool) -> None:
    assert matches_name(certificate(names=names), name) is expected


def test_matches_an_address_only_as_an_address() -> None:
    shown = certificate(addresses=("nonsense", "10.0.0.1", "0:0:0:0:0:0:0:1"))
    assert matches_name(shown, "10.0.0.1")
    assert matches_name(shown, "::1")
    assert not matches_name(shown, "10.0.0.2")


@pytest.mark.parametrize(
    ("days", "value", "words"),
    [
        (10.99, 10, "expires in 10 days (2026-06-26)"),
        (1, 1, "expires in 1 day (2026-06-16)"),
        (0.5, 0, "expires in 12 h (2026-06-16)"),
        (-0.01, 0, "expired just now (2026-06-15)"),
        (-0.25, 0, "expired 6 h ago (2026-06-15)"),
        (-3.5, -3, "expired 3 days ago (2026-06-12)"),
    ],
)
def test_validity(days: float, value: int, words: str) -> None:
    assert validity(certificate(days), NOW) == (value, words)


def test_expiry_is_judged_by_thresholds_while_it_holds() -> None:
    measured = expiry(TARGET, [("port 443", [certificate(10.5)])], NOW)
    assert (measured.value, measured.status) == (10, None)
    assert measured.message == "port 443: expires in 10 days (2026-06-26)"
    assert measured.detail is None


def test_expired_or_not_yet_valid_is_critical_whatever_the_thresholds() -> None:
    expired = expiry(TARGET, [("port 443", [certificate(-0.25)])], NOW)
    assert (expired.value, expired.status) == (0, "critical")
    early = certificate(90, not_before=NOW + datetime.timedelta(days=2))
    measured = expiry(TARGET, [("port 443", [early])], NOW)
    assert measured.status == "critical"
    assert "does not hold before 2026-06-17" in measured.message


def test_expiry_tells_the_worst_of_several_and_an_earlier_end_in_the_chain() -> None:
    fine = [certificate(90), certificate(400)]
    chained = [certificate(50), certificate(20, subject="CN=Intermediate")]
    early = [certificate(300, not_before=NOW + datetime.timedelta(days=2))]
    measured = expiry(TARGET, [("/a.pem", fine), ("/b.pem", chained)], NOW)
    assert (measured.value, measured.status) == (50, None)
    assert measured.message == (
        "/b.pem: expires in 50 days (2026-08-04); in its chain CN=Intermediate "
        "expires in 20 days (2026-07-05) (the first of 2 to end)"
    )
    assert len(measured.detail) == 2
    assert expiry(TARGET, [("/a.pem", fine), ("/c.pem", early)], NOW).status == "critical"


def test_name_check() -> None:
    served = [("port 443", certificate(names=("*.example.org",)))]
    assert name_check(TARGET, served, "api.example.org").status == "ok"
    wrong = name_check(TARGET, served, "api.example.net")
    assert (wrong.status, wrong.message) == (
        "critical",
        "port 443: the certificate is for *.example.org, expected api.example.net",
    )
    nameless = name_check(TARGET, [("port 443", certificate(names=()))], "a.example")
    assert "is for no name at all" in nameless.message
    assert nameless.detail is None
    many = certificate(names=tuple(f"n{index}.example" for index in range(7)))
    assert "n4.example and 2 more" in name_check(TARGET, [("p", many)], "a.example").message


def test_reload_check() -> None:
    served = [("port 443", certificate(5, sha256="aa"))]
    assert reload_check(TARGET, served, [("/a.pem", certificate(sha256="aa"))]).status == "ok"
    stale = reload_check(TARGET, served, [("/a.pem", certificate(90, sha256="bb"))])
    assert stale.status == "warning"
    assert stale.message == (
        "port 443: the certificate served (ends 2026-06-20) is in no file of the configuration "
        "(/a.pem ends 2026-09-13)"
    )
