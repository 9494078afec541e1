# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a backup can be restored on a server, what the databases around it are called, and which
of them may be dropped.

Beside a database C{shop} there may be C{shop_restore_20261124T100102Z}, which a backup is being
restored into, and C{shop_before_20261124T100102Z}, the one that a restore has replaced. What is
known of these two is in their comment (L{Mark}), with the comment that they have in truth.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._backup import Manifest
from ansible_collections.pynomaly.ops.plugins.module_utils._database_restore import (
    role_name,
    role_statements,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._utc import parse_utc, utc_text

#: NAMEDATALEN - 1: https://www.postgresql.org/docs/current/limits.html
NAME_MAX_BYTES = 63

SCRATCH = "restore"
KEPT = "before"
SIDE_SCHEMA = "restored"

#: To be logged in to while the application's own database is renamed.
MAINTENANCE_DATABASES = ("postgres", "template1")

_MARK_PREFIX = "pynomaly.ops "
_STAMP = r"\d{8}T\d{6}Z"
_MEMBERSHIP = re.compile(
    r'GRANT ("(?:[^"]|"")+"|[^\s;"]+) TO ("(?:[^"]|"")+"|[^\s;"]+)(?: WITH ([A-Z, ]+?))?'
    r'(?: GRANTED BY (?:"(?:[^"]|"")+"|[^\s;"]+))?;\s*\Z'
)
_ROLE_SETTING = re.compile(r'ALTER ROLE ("(?:[^"]|"")+"|[^\s;"]+) SET .*;\s*\Z')


# Names


def _cut(text: str, max_bytes: int) -> str:
    return text.encode()[:max_bytes].decode(errors="ignore")


def dated_name(database: str, what: str, now: datetime.datetime) -> str:
    """C{shop_before_20261124T100102Z}; the database's name is cut so that it fits."""
    ending = f"_{what}_{now.astimezone(datetime.timezone.utc):%Y%m%dT%H%M%SZ}"
    return _cut(database, NAME_MAX_BYTES - len(ending)) + ending


def free_dated_name(
    database: str, what: str, now: datetime.datetime, taken: Collection[str]
) -> str:
    """L{dated_name}, of a later second where it is taken: a swap and its rollback may take less."""
    while dated_name(database, what, now) in taken:
        now += datetime.timedelta(seconds=1)
    return dated_name(database, what, now)


def is_dated_name(name: str, what: str) -> bool:
    """Whether L{dated_name} could have made it, of whichever database."""
    return re.fullmatch(rf".+_{what}_{_STAMP}", name, re.DOTALL) is not None


def side_schema(now: datetime.datetime) -> str:
    """C{restored_20261124t100102z}, which need not be quoted."""
    return f"{SIDE_SCHEMA}_{now.astimezone(datetime.timezone.utc):%Y%m%dt%H%M%Sz}"


def maintenance_database(database: str) -> str:
    """Where to log in while a database is renamed, which cannot be done from inside."""
    return next(name for name in MAINTENANCE_DATABASES if name != database)


# Marks


@dataclass(frozen=True)
class Mark:
    """What a database's comment says of it while it is not the application's.

    ``kind`` is L{SCRATCH} for one that has been restored and proved, or L{KEPT}; ``database`` the
    application's database that it is to become, or was until ``made_at``. ``comment`` is its own.
    """

    kind: str
    project: str
    database: str
    made_at: str
    backup: str = ""
    comment: str = ""


def encode_mark(mark: Mark) -> str:
    return _MARK_PREFIX + json.dumps(vars(mark), sort_keys=True)


def decode_mark(comment: Optional[str]) -> Optional[Mark]:
    """C{None} for a comment that is somebody else's."""
    if not comment or not comment.startswith(_MARK_PREFIX):
        return None
    try:
        raw = json.loads(comment[len(_MARK_PREFIX) :])
        mark = Mark(**{name: str(raw[name]) for name in Mark.__dataclass_fields__})
        parse_utc(mark.made_at)
    except (ValueError, KeyError, TypeError):
        return None
    return mark if mark.kind in (SCRATCH, KEPT) else None


def new_mark(
    kind: str, project: str, database: str, now: datetime.datetime, *, backup: str, comment: str
) -> Mark:
    return Mark(kind, project, database, utc_text(now), backup, comment)


def marked(comments: Mapping[str, str], kind: str, project: str, database: str) -> dict[str, Mark]:
    """The databases of a kind that belong to a project's database, newest first, by their names.

    ``comments`` has each database's. Both the name and the mark have to be ours.
    """
    found = {}
    for name, comment in comments.items():
        mark = decode_mark(comment)
        if (
            mark is not None
            and is_dated_name(name, kind)
            and (mark.kind, mark.project, mark.database) == (kind, project, database)
        ):
            found[name] = mark
    return dict(sorted(found.items(), key=lambda item: (item[1].made_at, item[0]), reverse=True))


def expired(
    kept: Mapping[str, Mark], keep_days: float, now: datetime.datetime, just_kept: str
) -> list[str]:
    """Which of the kept databases may go: older than so many days, and not the one just kept."""
    limit = now - datetime.timedelta(days=keep_days)
    return [
        name for name, mark in kept.items() if name != just_kept and parse_utc(mark.made_at) < limit
    ]


# What came of it


def undo_command(project: str) -> str:
    """What puts the database before back."""
    return (
        "ansible-playbook pynomaly.ops.restore_rollback "
        f"-e confirm=restore_rollback:{project} -e pynomaly_project_name={project}"
    )


def restored_lines(answer: Mapping[str, Any], *, check_mode: bool) -> list[str]:
    """What C{pg_restore} returns, for people."""
    tables = f"{answer['tables']} table{'' if answer['tables'] == 1 else 's'}"
    what = f"{answer['rows']} rows in {tables}"
    proved = "" if answer["verified"] else ", which had not been verified before"
    if check_mode:
        return [f"backup {answer['id']}{proved}: nothing is known that forbids to restore it"]
    lines = [f"backup {answer['id']}{proved}: restored and proved equal, {what}"]
    seconds = "; ".join(f"{name} {value:.1f} s" for name, value in answer["seconds"].items())
    if seconds:
        lines.append(f"took: {seconds}")
    if answer["created_roles"]:
        lines.append(f"roles made: {', '.join(answer['created_roles'])}")
    if answer["side_table"]:
        lines.append(f"its rows are in {answer['side_table']} of database {answer['database']}")
    elif answer["restored"] and not answer["replaces"]:
        lines.append(f"it is database {answer['restored']}, beside {answer['database']}")
    elif not answer["restored"]:
        lines.append(f"dropped again, database {answer['database']} is as it was")
    return lines


def swapped_lines(answer: Mapping[str, Any], *, check_mode: bool) -> list[str]:
    """What C{pg_database_swap} returns, for people."""
    if check_mode:
        return [
            f"database {answer['incoming']} would be {answer['database']}, and the one before "
            f"{answer['kept']}"
        ]
    lines = [
        f"database {answer['incoming']} is {answer['database']} now, the one before is "
        f"{answer['kept']} and lets nobody in",
        f"without service: {answer['seconds_without_service']:.2f} s (the database closed: "
        f"{answer['seconds_closed']:.2f} s; {answer['ended_sessions']} sessions ended; maintenance "
        f"page {'shown' if answer['page'] else 'not shown'})",
    ]
    if answer["dropped"]:
        lines.append(f"kept long enough, and dropped: {', '.join(answer['dropped'])}")
    return [*lines, f"undo: {answer['undo']}"]


# What has to be so before anything is done


@dataclass(frozen=True)
class ServerFacts:
    """What was seen of a server and of the application's database there.

    ``extensions`` leads to the version that the server installs where none is asked for.
    ``locales`` are those that the server's system is known to have, C{None} where that cannot be
    told. ``free_bytes`` is what the data directory's filesystem has left, C{None} where that cannot
    be told; ``wal_max_bytes`` how far the write-ahead log may grow. ``prepared_transactions``,
    ``logical_slots`` and ``subscriptions`` are those of the application's database.
    """

    version: str
    major: int
    user: str
    is_superuser: bool
    databases: Collection[str]
    roles: Collection[str]
    extensions: Mapping[str, str]
    locales: Optional[Collection[str]]
    has_icu: bool
    free_bytes: Optional[int]
    wal_max_bytes: int
    data_directory: str = ""
    prepared_transactions: Sequence[str] = ()
    logical_slots: Sequence[str] = ()
    subscriptions: Sequence[str] = ()


@dataclass(frozen=True)
class Plan:
    """What is to become of a backup: ``database`` is the application's, ``scratch`` the one that is
    restored into, and ``target`` a name to keep it under, where it does not replace anything.
    ``replaces`` is whether it is to take the application's place."""

    database: str
    scratch: str
    replaces: bool
    target: str = ""
    create_roles: bool = False
    space_factor: float = 1.2


def problems(manifest: Manifest, facts: ServerFacts, plan: Plan) -> list[str]:
    """Everything that forbids restoring; empty where nothing does."""
    found = content_problems(manifest)
    if found:
        return found
    found += version_problems(manifest, facts)
    found += privilege_problems(facts)
    found += role_problems(manifest, facts, plan.create_roles)
    found += extension_problems(manifest, facts)
    found += locale_problems(manifest, facts)
    found += space_problems(manifest, facts, plan.space_factor)
    found += name_problems(facts, plan)
    if plan.replaces:
        found += busy_problems(facts)
    return found


def content_problems(manifest: Manifest) -> list[str]:
    """Whether there is a dump, and a manifest that says what it should hold."""
    found = []
    names = [one.path for one in manifest.files]
    if not any(name.startswith("dump/") or name == "dump.tar.age" for name in names):
        found.append("the backup holds no dump")
    database = manifest.content.get("database")
    if not isinstance(database, Mapping) or not isinstance(manifest.content.get("tables"), Mapping):
        found.append("the manifest does not say what the database held, expected tables")
        return found
    lacking = [
        name
        for name in ("encoding", "collate", "ctype", "owner", "connection_limit", "size_bytes")
        if name not in database
    ]
    if lacking:
        found.append(f"the manifest says nothing of the database's {', '.join(lacking)}")
    return found


def server_major(manifest: Manifest) -> int:
    """The major version of the server that was backed up, 0 where that is not known."""
    match = re.match(r"\d+", str(manifest.versions.get("server", "")))
    return int(match.group()) if match else 0


def version_problems(manifest: Manifest, facts: ServerFacts) -> list[str]:
    """A dump goes into a server of the same or a newer major version, never into an older one."""
    major = server_major(manifest)
    if not major:
        return [
            f"the manifest says {manifest.versions.get('server', '')!r} of the server's version, "
            "expected a number"
        ]
    if major > facts.major:
        return [
            f"the backup is of PostgreSQL {manifest.versions['server']}: seen a server of "
            f"{facts.version}, expected {major} or newer"
        ]
    return []


def privilege_problems(facts: ServerFacts) -> list[str]:
    if facts.is_superuser:
        return []
    return [
        f'role "{facts.user}" is no superuser, expected one: it has to make databases and '
        "to end everybody's sessions"
    ]


def missing_roles(manifest: Manifest, facts: ServerFacts) -> list[str]:
    return sorted(set(manifest.content.get("roles") or ()) - set(facts.roles))


def role_problems(manifest: Manifest, facts: ServerFacts, create: bool) -> list[str]:
    missing = missing_roles(manifest, facts)
    if not missing or create:
        return []
    many = "s" if len(missing) > 1 else ""
    names = ", ".join(f'"{name}"' for name in missing)
    return [
        f"role{many} {names}: seen none, expected what the backup's objects belong to or are "
        "granted to (-e postgres_restore_create_roles=true makes them as the backup has them)"
    ]


def _version_key(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version))


def extension_problems(manifest: Manifest, facts: ServerFacts) -> list[str]:
    """A dump does not hold an extension's version: it comes as the server has it by default."""
    found = []
    for name, version in sorted((manifest.content.get("extensions") or {}).items()):
        offered = facts.extensions.get(name)
        if offered is None:
            found.append(
                f"extension {name}: the server has none to install, expected version {version}"
            )
        elif _version_key(offered) < _version_key(str(version)):
            found.append(
                f"extension {name}: the server installs version {offered}, expected "
                f"{version} or newer"
            )
    return found


def extension_remarks(manifest: Manifest, facts: ServerFacts) -> list[str]:
    """Extensions that come in another version than the backup had them in."""
    return [
        f"extension {name} is restored in version {facts.extensions[name]}, "
        f"the backup had {version}"
        for name, version in sorted((manifest.content.get("extensions") or {}).items())
        if name in facts.extensions and facts.extensions[name] != version
    ]


def locale_key(name: str) -> str:
    """C{en_US.UTF-8} and C{en_US.utf8} are one locale to the system."""
    language, point, encoding = name.partition(".")
    return language + point + re.sub(r"[^a-z0-9@]", "", encoding.lower())


def locale_problems(manifest: Manifest, facts: ServerFacts) -> list[str]:
    database = manifest.content["database"]
    provider = str(database.get("locale_provider") or "libc")
    if provider == "icu" and not facts.has_icu:
        return ["the backup's locale provider is icu: seen a server that is built without it"]
    if provider == "builtin" and facts.major < 17:
        return [
            f"the backup's locale provider is builtin: seen PostgreSQL {facts.version}, expected "
            "17 or newer"
        ]
    if facts.locales is None:
        return []
    known = {locale_key(name) for name in facts.locales} | {"C", "POSIX"}
    return [
        f"locale {name}: seen none on the server's system, expected it for the database's {what}"
        for what, name in (
            ("collation", str(database["collate"])),
            ("character types", str(database["ctype"])),
        )
        if locale_key(name) not in known
    ]


def needed_bytes(manifest: Manifest, facts: ServerFacts, factor: float) -> int:
    """What a second copy of the database takes, and the write-ahead log of writing it."""
    return round(int(manifest.content["database"]["size_bytes"]) * factor) + facts.wal_max_bytes


def space_problems(manifest: Manifest, facts: ServerFacts, factor: float) -> list[str]:
    needed = needed_bytes(manifest, facts, factor)
    if facts.free_bytes is None:
        return ["the free space of the server's data directory cannot be told"]
    if facts.free_bytes >= needed:
        return []
    size = _mib(manifest.content["database"]["size_bytes"])
    return [
        f"{facts.data_directory or 'the data directory'}: seen {_mib(facts.free_bytes)} free, "
        f"expected {_mib(needed)} (the database of {size} times {factor:g}, and "
        f"{_mib(facts.wal_max_bytes)} of write-ahead log)"
    ]


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / 1048576:.0f} MiB"


def name_problems(facts: ServerFacts, plan: Plan) -> list[str]:
    found = []
    if plan.database not in facts.databases:
        found.append(f'database "{plan.database}": seen none of that name, expected the live one')
    if plan.target:
        if len(plan.target.encode()) > NAME_MAX_BYTES:
            found.append(
                f'target "{plan.target}": seen {len(plan.target.encode())} bytes, expected at most '
                f"{NAME_MAX_BYTES}"
            )
        if plan.target in facts.databases:
            found.append(f'target "{plan.target}": seen a database of that name, expected none')
    return found


def busy_problems(facts: ServerFacts) -> list[str]:
    """What would be lost with a database that is renamed, or keeps it from being renamed."""
    found = []
    for what, names, mend in (
        (
            "prepared transaction",
            facts.prepared_transactions,
            "COMMIT PREPARED or ROLLBACK PREPARED",
        ),
        ("logical replication slot", facts.logical_slots, "pg_drop_replication_slot"),
        ("subscription", facts.subscriptions, "DROP SUBSCRIPTION"),
    ):
        if names:
            shown = ", ".join(f'"{name}"' for name in names[:5])
            found.append(
                f"the live database has {len(names)} {what}{'s' if len(names) > 1 else ''} "
                f"({shown}), expected none: {mend}"
            )
    return found


# Roles


def missing_role_statements(globals_sql: Iterable[str], missing: Sequence[str]) -> list[str]:
    """What makes the missing roles, with their settings and memberships, out of
    C{pg_dumpall --globals-only}.

    They hold password hashes and are not to be shown. Raises C{ValueError} naming a role that is
    not there.
    """
    lines = list(globals_sql)
    made = role_statements(lines, missing)
    absent = sorted(set(missing) - set(made))
    if absent:
        raise ValueError(", ".join(f'"{name}"' for name in absent))
    statements = [statement for name in missing for statement in made[name]]
    for line in lines:
        setting = _ROLE_SETTING.match(line)
        if setting and role_name(setting[1]) in missing:
            statements.append(line.strip())
    return statements


def memberships(
    globals_sql: Iterable[str], missing: Sequence[str], roles: Collection[str]
) -> list[str]:
    """Which of the missing roles are members of which, or have members, among the roles that there
    are then. Who had granted it is left out."""
    there = {*roles, *missing}
    found = []
    for line in globals_sql:
        match = _MEMBERSHIP.match(line)
        if match is None:
            continue
        group, member = role_name(match[1]), role_name(match[2])
        if {group, member} & set(missing) and {group, member} <= there:
            options = f" WITH {match[3]}" if match[3] else ""
            found.append(f"GRANT {match[1]} TO {match[2]}{options}")
    return found
