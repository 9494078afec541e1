#!/usr/bin/python
# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: incident_log_info
short_description: Tell from the logs who attacks a Docker Compose stack
version_added: 0.2.0
author:
  - Pynomaly Operations (@pynomaly)
description:
  - Reads nginx's access and error logs, the API's, PostgreSQL's and Redis's, and tells of each
    client how often it asked, with what outcome, from when to when, and what of it looks like an
    attack.
  - Looks for scanning, brute force, SQL injection, path traversal, template, JNDI and shell
    injection, cross-site scripting, also percent-encoded more than once, user agents of scanners,
    failed logins at the API and in PostgreSQL, and web requests sent to Redis.
  - The client is the first field of nginx's combined format, the address that nginx itself gives to
    the connection, or what PostgreSQL says of one. What a request says of its origin counts only
    where O(trusted_proxies) names who sent it. IPv6 clients are told apart by their /64.
  - Times are those with which the engine stamped each line, never those in the line.
  - The memory that it takes has a bound, whatever the size of the logs. Where more clients are seen
    than can be kept (20000, and 5000 of them with findings), RV(clients) and RV(remarks) say by how
    much figures can be too low; until then they are exact.
  - Changes nothing.
options:
  path:
    description:
      - A folder of logs on the host, each a file C(SERVICE.log) or C(SERVICE-CONTAINER.log) of
        lines that begin with the engine's RFC 3339 timestamp, or a bundle of evidence that has such
        a folder C(logs).
      - Without it the engine is asked for the logs of O(project_name).
    type: path
  project_name:
    description:
      - Name of the Compose project. With it the services' components are known, and so are the
        engine's networks, of which nobody is to be blocked. Without it no private address is.
    type: str
  service_names:
    description: Services by the component that they play, as for M(pynomaly.ops.stack_health_info).
    type: dict
    default: {}
  since:
    description:
      - From when on the engine's logs are read, as a duration before now such as V(24h) or a time
        such as V(2026-01-31T22:00:00Z). Files of O(path) are read whole.
    type: str
    default: 24h
  addresses:
    description: Addresses or networks to tell of. Without them it is the top offenders.
    type: list
    elements: str
    default: []
  trusted_proxies:
    description:
      - Load balancers in front of nginx, as addresses or networks. Where one is the client and the
        log's last quoted field is the header X-Forwarded-For, as in the C(main) format of nginx's
        images, the client is the last address in it that is no trusted proxy's.
    type: list
    elements: str
    default: []
  allow:
    description: Addresses or networks that RV(block) never has.
    type: list
    elements: str
    default: []
  login_paths:
    description:
      - What the path of a login has in it. Answers 401, 403 and 422 to one are failed logins.
    type: list
    elements: str
    default: [/login, /signin, /sign-in, /auth, /token, /oauth, /session]
  ignore_patterns:
    description: Patterns that do not count here, by their names in RV(patterns).
    type: list
    elements: str
    default: []
  postgres_log_line_prefix:
    description:
      - PostgreSQL's C(log_line_prefix). Without it, what its container's command line sets, else
        PostgreSQL's own default, in which no address is. Addresses are then those of C(connection
        received), which C(log_connections) makes.
    type: str
  top:
    description: How many offenders, and how many of the busiest clients, to tell of.
    type: int
    default: 20
  block_score:
    description:
      - The score from which on an offender is in RV(block). For each pattern there are points for
        one occurrence and more for further ones, up to a limit.
      - JNDI injection 40 (limit 70), other injection and path traversal 20 and 5 more each (50),
        cross-site scripting 15 and 5 (40), forged log lines and web requests to Redis 60, a
        scanner's user agent 40, brute force (10 failed logins, or 5 in a minute) 40, scanning (20
        distinct paths that are not there) 40, requests for what attackers look for 10 each (50), a
        refused PostgreSQL connection 10 each (50), a failed PostgreSQL password 4 each (60),
        requests that are no HTTP or have odd methods 2 each (20), single failed logins 1 each (20),
        requests over nginx's limits 1 each (10).
    type: int
    default: 40
  deadline_seconds:
    description: Seconds after which what has been read so far is told.
    type: float
    default: 300
  max_bytes:
    description: Bytes that are read of each container's log, from O(since) on.
    type: int
    default: 4294967296
  workers:
    description: Processes that read files. V(0) is one for each CPU, eight at most.
    type: int
    default: 0
  call_timeout_seconds:
    description: Seconds that each call to the engine or to Compose may take.
    type: float
    default: 5
requirements:
  - python3-docker (the Docker SDK for Python, 5.0 or newer) on the host, for O(project_name)
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  platform:
    platforms: posix
notes:
  - A line that may have been forged counts for nobody. nginx's error log has what clients send with
    their line breaks; an address that such a request names is told and not in RV(block).
  - Behind nginx, the API's own access log tells of nginx or of a header. It counts where there is
    no nginx.
seealso:
  - module: pynomaly.ops.stack_health_info
"""

EXAMPLES = r"""
- name: Look for attackers in the last two hours
  pynomaly.ops.incident_log_info:
    project_name: pynomaly
    since: 2h
  register: logs

- name: Show whom to block
  ansible.builtin.debug:
    msg: "ansible-playbook pynomaly.ops.incident_contain -e block={{ logs.block }}"
  when: logs.block | length > 0

- name: Look at one address in a bundle of evidence
  pynomaly.ops.incident_log_info:
    path: /var/lib/pynomaly-ops/incidents/20260131-1/evidence/20260131T220000Z-incident_contain
    addresses: [203.0.113.7]
"""

RETURN = r"""
lines:
  description: How many lines were read.
  returned: success
  type: int
bytes:
  description: Their size.
  returned: success
  type: int
first_seen:
  description: The engine's time of the first line, UTC. Null where lines have no timestamp.
  returned: success
  type: str
  sample: "2026-01-31T20:00:00Z"
last_seen:
  description: The engine's time of the last line, UTC.
  returned: success
  type: str
  sample: "2026-01-31T22:00:00Z"
source:
  description: Whose access log tells of requests, V(nginx) or V(api).
  returned: success
  type: str
requests:
  description: How many requests that access log has.
  returned: success
  type: int
statuses:
  description: How many answers there were of each class and of the most telling statuses.
  returned: success
  type: dict
  sample: {"2xx": 1200, "4xx": 40, "404": 30}
clients:
  description: How many clients were told apart.
  returned: success
  type: dict
  contains:
    count:
      description: How many.
      type: int
    is_lower_bound:
      description: Whether there were more.
      type: bool
    requests_too_low_by_at_most:
      description: By how much a client's requests can be too low. V(0) where figures are exact.
      type: int
    suspects_too_low_by_at_most:
      description: The same for what was found of a client.
      type: int
patterns:
  description: What was found in all, each with its name, title, count and number of addresses.
  returned: success
  type: list
  elements: dict
failed_logins:
  description:
    - Failed logins as nginx's and the API's access logs tell them, in messages of the API, which
      count for no address, and in PostgreSQL.
  returned: success
  type: dict
offenders:
  description: Addresses by their score, O(top) at most; all of O(addresses) where those are given.
  returned: success
  type: list
  elements: dict
  contains:
    address:
      description: The address, or the /64 of an IPv6 client.
      type: str
    score:
      description: From 0 to 100, see O(block_score).
      type: int
    requests:
      description: Requests that were counted.
      type: int
    requests_at_most:
      description: The bound above. The same where the figure is exact.
      type: int
    statuses:
      description: Its answers by status.
      type: dict
    bytes:
      description: Bytes sent to it.
      type: int
    first_seen:
      description: When it was first seen, UTC.
      type: str
    last_seen:
      description: When it was last seen, UTC.
      type: str
    patterns:
      description: How often each pattern was seen.
      type: dict
    logins_failed_per_minute:
      description: The most failed logins in a minute, at least.
      type: int
    paths_not_found_at_least:
      description: A lower bound of the distinct paths that were not found, 1024 at most.
      type: int
    sources:
      description: Whose logs tell of it.
      type: list
      elements: str
    reasons:
      description: The patterns in words.
      type: list
      elements: str
    examples:
      description: A line for each of some patterns, printable, without secrets.
      type: list
      elements: dict
    block:
      description: Whether it is in RV(block).
      type: bool
    why_not:
      description: Why it never is, empty otherwise.
      type: str
offenders_count:
  description: How many there are in all.
  returned: success
  type: int
busiest:
  description: Addresses by their requests, as in RV(offenders).
  returned: success
  type: list
  elements: dict
block:
  description: The offenders to block, fit for C(incident_contain -e block=), O(top) at most.
  returned: success
  type: str
  sample: 203.0.113.7,2001:db8:0:1::/64
not_understood:
  description: How many lines of each kind of log were of no known format.
  returned: success
  type: dict
not_believed:
  description: How many lines may be forged and were not counted.
  returned: success
  type: int
nginx_errors:
  description: How many lines nginx's error log has.
  returned: success
  type: int
remarks:
  description: What was not read, what is no exact figure, and who is not to be blocked.
  returned: success
  type: list
  elements: str
tables:
  description: The same for M(pynomaly.ops.health_report), each with its title, columns and rows.
  returned: success
  type: list
  elements: dict
"""

import datetime
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pynomaly.ops.plugins.module_utils._context import (
    DEFAULT_SERVICE_NAMES,
    CheckSettings,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges import log_scan
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.compose import discover
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.docker import EngineError
from ansible_collections.pynomaly.ops.plugins.module_utils._log_patterns import (
    DEFAULT_LOGIN_PATHS,
    PATTERNS,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._log_report import Choice, build
from ansible_collections.pynomaly.ops.plugins.module_utils._log_scan import Settings, parse_networks
from ansible_collections.pynomaly.ops.plugins.module_utils._maintenance import (
    MaintenanceError,
    parse_duration,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._utc import parse_utc

ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    "path": {"type": "path"},
    "project_name": {"type": "str"},
    "service_names": {"type": "dict", "default": {}},
    "since": {"type": "str", "default": "24h"},
    "addresses": {"type": "list", "elements": "str", "default": []},
    "trusted_proxies": {"type": "list", "elements": "str", "default": []},
    "allow": {"type": "list", "elements": "str", "default": []},
    "login_paths": {"type": "list", "elements": "str", "default": list(DEFAULT_LOGIN_PATHS)},
    "ignore_patterns": {"type": "list", "elements": "str", "default": []},
    "postgres_log_line_prefix": {"type": "str"},
    "top": {"type": "int", "default": 20},
    "block_score": {"type": "int", "default": 40},
    "deadline_seconds": {"type": "float", "default": 300},
    "max_bytes": {"type": "int", "default": 4294967296},
    "workers": {"type": "int", "default": 0},
    "call_timeout_seconds": {"type": "float", "default": 5},
}

_PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
_MOST_NETWORKS = 1000


def check(parameters: dict[str, Any]) -> None:
    """Raise ValueError for what cannot be."""
    bounds = {
        "top": (1, 1000),
        "block_score": (1, 100),
        "deadline_seconds": (1, 86400),
        "max_bytes": (1, 2**50),
        "workers": (0, 64),
        "call_timeout_seconds": (0.1, 600),
    }
    for name, (least, most) in bounds.items():
        if not least <= parameters[name] <= most:
            raise ValueError(f"{name}: seen {parameters[name]}, expected {least} to {most}")
    for name, known in (("ignore_patterns", PATTERNS), ("service_names", DEFAULT_SERVICE_NAMES)):
        unknown = sorted(set(parameters[name]) - set(known))
        if unknown:
            raise ValueError(
                f"{name}: seen {', '.join(unknown)}, expected some of {', '.join(known)}"
            )
    for name in ("addresses", "trusted_proxies", "allow"):
        if len(parameters[name]) > _MOST_NETWORKS:
            raise ValueError(
                f"{name}: seen {len(parameters[name])}, expected {_MOST_NETWORKS} at most"
            )


def since_seconds(text: str, now: datetime.datetime) -> float:
    """Seconds since the epoch. Raises ValueError."""
    try:
        return now.timestamp() - parse_duration(text)
    except MaintenanceError:
        try:
            return parse_utc(text).timestamp()
        except ValueError:
            raise ValueError(
                f"since: seen {text!r}, expected a duration such as 24h or a time such as "
                "2026-01-31T22:00:00Z"
            ) from None


def look(parameters: dict[str, Any]) -> dict[str, Any]:
    """What the module returns. Raises ValueError, L{LogScanError} and L{EngineError}."""
    check(parameters)
    wanted = parse_networks(parameters["addresses"], "addresses")
    proxies = parse_networks(parameters["trusted_proxies"], "trusted_proxies")
    allow = parse_networks(parameters["allow"], "allow")
    since = since_seconds(parameters["since"], datetime.datetime.now(datetime.timezone.utc))
    stack = engine = None
    if parameters["project_name"]:
        timeout_seconds = parameters["call_timeout_seconds"]
        engine = log_scan.LogEngine(timeout_seconds)
        stack = discover(
            engine,
            parameters["project_name"],
            CheckSettings(call_timeout_seconds=timeout_seconds),
            parameters["service_names"],
        )
    settings = Settings(
        wanted=wanted,
        trusted_proxies=proxies,
        login_paths=parameters["login_paths"],
        ignored_patterns=parameters["ignore_patterns"],
        postgres_prefix=parameters["postgres_log_line_prefix"] or log_scan.postgres_prefix(stack),
    )
    if parameters["path"]:
        names = {service: component for component, service in DEFAULT_SERVICE_NAMES.items()}
        named = stack.components if stack else parameters["service_names"]
        names.update({service: component for component, service in named.items()})
        scan, remarks = log_scan.scan_files(
            log_scan.find_files(parameters["path"], names),
            settings,
            parameters["deadline_seconds"],
            parameters["workers"],
        )
    else:
        if engine is None or stack is None:
            raise ValueError("expected a path or a project_name")
        if not stack.containers:
            raise log_scan.LogScanError(
                f"the engine has no project {parameters['project_name']!r}; seen "
                f"{', '.join(sorted(engine.projects())) or 'none'}",
                "name the project with -e pynomaly_project_name=NAME",
            )
        scan, remarks = log_scan.scan_engine(
            engine,
            stack,
            settings,
            since=since,
            deadline_seconds=parameters["deadline_seconds"],
            max_bytes=parameters["max_bytes"],
        )
    never = [
        *((one, "a trusted proxy's") for one in proxies),
        *((one, "on the allow-list") for one in allow),
        *((one, "the host's own") for one in log_scan.host_networks(5.0)),
    ]
    if engine is not None:
        never += [(one, "of the engine's networks") for one in engine.subnets()]
    else:
        never += [(one, "private") for one in parse_networks(_PRIVATE, "private")]
    choice = Choice(parameters["top"], parameters["block_score"], wanted, never)
    return build(scan, choice, remarks)


def main() -> None:
    module = AnsibleModule(
        argument_spec=ARGUMENT_SPEC,
        required_one_of=[("path", "project_name")],
        supports_check_mode=True,
    )
    try:
        answer = look(module.params)
    except ValueError as error:
        module.fail_json(msg=str(error))
    except (EngineError, log_scan.LogScanError) as error:
        module.fail_json(msg=f"{error}; next: {error.hint}" if error.hint else str(error))
    module.exit_json(changed=False, **answer)


if __name__ == "__main__":
    main()
