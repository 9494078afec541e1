# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils import (
    _credential_rotation as rotation,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._credential_rotation import (
    API,
    POSTGRES,
    REDIS,
    Rotated,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._environment_file import parse, values

OLD = Rotated(POSTGRES, "pynomaly", "old p@ss/word$1", "ab12" * 16)
CACHE = Rotated(REDIS, "default", "redis-secret", "cd34" * 16)
KEY = Rotated(API, "SECRET_KEY", "k" * 32, "ef56" * 16)
ALL = (OLD, CACHE, KEY)

# RFC 7677, section 3
SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
NONCE = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
AUTH_MESSAGE = (
    f"n=user,r=rOprNGfwEbeRWgbNEkqO,r={NONCE},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r={NONCE}"
).encode()
CLIENT_PROOF = base64.b64decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
SERVER_SIGNATURE = "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def test_the_rfcs_server_signature_comes_of_the_server_key() -> None:
    _stored, server = rotation.scram_keys("pencil", SALT, 4096)
    signature = hmac.digest(server, AUTH_MESSAGE, "sha256")
    assert base64.b64encode(signature).decode() == SERVER_SIGNATURE


def test_the_rfcs_client_proof_is_taken_by_the_stored_key() -> None:
    """As a server checks it: RFC 5802, section 3."""
    stored, _server = rotation.scram_keys("pencil", SALT, 4096)
    signature = hmac.digest(stored, AUTH_MESSAGE, "sha256")
    client_key = bytes(one ^ other for one, other in zip(CLIENT_PROOF, signature, strict=True))
    assert hashlib.sha256(client_key).digest() == stored


def test_a_verifier_is_of_its_password_alone() -> None:
    verifier = rotation.scram_verifier("pencil", SALT)
    assert verifier.startswith("SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$")
    assert rotation.matches_verifier("pencil", verifier)
    assert not rotation.matches_verifier("pencil ", verifier)
    assert "pencil" not in verifier


@pytest.mark.parametrize("other", [None, "", "md5a3c5", "SCRAM-SHA-256$4096"])
def test_what_is_no_verifier_matches_nothing(other: str | None) -> None:
    assert not rotation.matches_verifier("pencil", other)


@pytest.mark.parametrize(
    ("text", "prepared"),
    [
        # RFC 4013, section 3
        ("I\u00adX", "IX"),
        ("user", "user"),
        ("USER", "USER"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        # What it forbids is taken as it is.
        ("\u0007", "\u0007"),
        ("\u0627\u0031", "\u0627\u0031"),
        ("a\u00a0b", "a b"),
        ("\u0221", "\u0221"),
        ("", ""),
    ],
)
def test_saslprep(text: str, prepared: str) -> None:
    assert rotation.saslprep(text) == prepared


def test_an_environment_file_keeps_every_other_line() -> None:
    text = (
        "# by hand\n"
        "export POSTGRES_PASSWORD='old p@ss/word$1'\n"
        "DATABASE_URL='postgresql+asyncpg://u:old%20p%40ss%2Fword%241@db:5432/x?ssl=true'\n"
        "COMPOSED=postgresql://u:${POSTGRES_PASSWORD}@db/x\n"
        'DSN="host=db password=redis-secret user=u"\n'
        "REDIS_URL=redis://:redis-secret@redis:6379/0\n"
        f"SECRET_KEY={KEY.old}\n"
        "POSTGRES_USER=redis-secret # a short text may stand here by chance\n"
        "OTHER=x   # stays\n"
    )
    new, names = rotation.replaced_environment(text, ALL)
    found = values(parse(new))
    assert names == ["POSTGRES_PASSWORD", "DATABASE_URL", "DSN", "REDIS_URL", "SECRET_KEY"]
    assert found["POSTGRES_PASSWORD"] == OLD.new
    assert found["DATABASE_URL"] == f"postgresql+asyncpg://u:{OLD.new}@db:5432/x?ssl=true"
    assert found["DSN"] == f"host=db password={CACHE.new} user=u"
    assert found["REDIS_URL"] == f"redis://:{CACHE.new}@redis:6379/0"
    assert found["SECRET_KEY"] == KEY.new
    assert new.startswith(f"# by hand\nexport POSTGRES_PASSWORD={OLD.new}\n")
    for line in ("COMPOSED=", "POSTGRES_USER=", "OTHER="):
        original = next(one for one in text.splitlines() if one.startswith(line))
        assert original in new.splitlines()
    assert rotation.replaced_environment(new, ALL) == (new, [])


def test_a_given_value_takes_a_names_place() -> None:
    new, names = rotation.replaced_environment("A=1\nB=2\n", (), {"B": "postgres://x:y@z/w"})
    assert (new, names) == ("A=1\nB=postgres://x:y@z/w\n", ["B"])


def test_secret_files_and_users_of_redis() -> None:
    digest = hashlib.sha256(CACHE.old.encode()).hexdigest()
    other = hashlib.sha256(b"other").hexdigest()
    renewed = hashlib.sha256(CACHE.new.encode()).hexdigest()
    assert rotation.replaced_file(f"{OLD.old}\n", ALL) == f"{OLD.new}\n"
    assert rotation.replaced_file(f"about {OLD.old}\n", ALL) == f"about {OLD.old}\n"
    text = (
        f"user default on #{other} #{digest} ~* &* +@all\n"
        "user app on >redis-secret ~app:* +@read\n"
        'requirepass "redis-secret"\n'
        "masterauth redis-secret\n"
        "maxmemory redis-secret\n"
    )
    assert rotation.replaced_file(text, ALL) == (
        f"user default on #{other} #{renewed} ~* &* +@all\n"
        f"user app on >{CACHE.new} ~app:* +@read\n"
        f'requirepass "{CACHE.new}"\n'
        f"masterauth {CACHE.new}\n"
        "maxmemory redis-secret\n"
    )


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("POSTGRES_PASSWORD", "redis-secret", True),
        ("POSTGRES_USER", "redis-secret", False),
        ("URL", "redis://:redis-secret@r/0", True),
        ("command", "redis-server --requirepass redis-secret", True),
        ("command", "redis-server --requirepass other", False),
        ("LABEL", f"x={'k' * 32}", True),
        ("PASSWORD", "old p@ss/word$$1", True),
    ],
)
def test_where_a_secret_is(name: str, value: str, expected: bool) -> None:
    assert rotation.holds(name, value, [one.old for one in ALL]) is expected


def test_places_in_a_definition() -> None:
    document = {
        "services": {
            "api": {"environment": {"SECRET_KEY": "k" * 32, "DEBUG": "no"}},
            "redis": {"command": ["redis-server", "--requirepass", "redis-secret"]},
            "web": {"environment": {"PASSWORD": "another"}},
        }
    }
    assert rotation.places(document, [one.old for one in ALL]) == [
        "api: environment.SECRET_KEY",
        "redis: command",
    ]


def test_a_bridged_url() -> None:
    url = "postgresql+psycopg://pynomaly:a%40b@db:5432/x?sslmode=disable"
    assert rotation.bridged_url(url, "py no", "s/1") == (
        "postgresql+psycopg://py%20no:s%2F1@db:5432/x?sslmode=disable"
    )
    assert rotation.bridged_url("redis://:x@y/0", "r", "s") is None


def test_keys_that_sign_and_not_those_that_encrypt() -> None:
    names = ["SECRET_KEY", "JWT_SECRET", "API_SECRET_KEY_FILE", "ENCRYPTION_KEY", "API_KEY", "KEY"]
    assert rotation.api_key_names(names) == ["API_SECRET_KEY", "JWT_SECRET", "SECRET_KEY"]


def test_two_credentials_with_one_secret_are_told() -> None:
    twin = Rotated(REDIS, "app", KEY.old, "x")
    assert rotation.same_secrets((OLD, KEY, twin)) == ["api SECRET_KEY", "redis app"]
    assert rotation.same_secrets(ALL) == []


def test_the_api_comes_first_and_the_servers_last() -> None:
    services = ["exporter", "redis", "web", "postgres"]
    order = rotation.restart_order(services, {"api": "web"}, ["postgres", "redis"])
    assert order == ["web", "exporter", "postgres", "redis"]


def test_no_secret_is_in_a_repr() -> None:
    for one in ALL:
        assert one.old not in repr(one)
        assert one.new not in repr(one)
