# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The command line of ``./lab``."""

from __future__ import annotations

import argparse
import os
import sys
import time
from typing import TYPE_CHECKING

from lab import bench, demo, images, nodes, testsuite
from lab.cache import require_good_name
from lab.shell import LabError, say

if TYPE_CHECKING:
    from collections.abc import Sequence

_EXAMPLES = """\
examples:
  ./lab demo                        a server, the stack, the daily check and its report
  ./lab demo --break postgres       the same, and what the check says without PostgreSQL
  ./lab test                        everything that must pass; ./lab test lint unit for parts
  ./lab up 3                        node1, node2 and node3
  ./lab up 1 --debian 12            node1, and debian12 with an older Docker and Python
  ./lab run daily_check             ansible-playbook pynomaly.ops.daily_check on the nodes
  ./lab run deploy --limit node1 -e api_replicas=2
  ./lab shell node1                 a shell on a node
  ./lab shell node1 -- docker ps    one command on a node
  ./lab down                        remove what the lab made

The lab wants Debian or Ubuntu and python3, and root where something has to be
installed or the Docker engine started. It keeps its cache in
${XDG_CACHE_HOME:-~/.cache}/pynomaly-ops-lab. PYNOMALY_LAB_NAME=other-lab in the
environment is another lab beside this one, with the same cache of images.
"""


def main(arguments: Sequence[str]) -> int:
    """Run one command of the lab and return its exit code."""
    parsed, rest = _parser().parse_known_args(arguments)
    if rest and parsed.command != "run":
        _parser().error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        require_good_name()
        code: int = parsed.function(parsed)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("lab: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="./lab",
        description="Real servers on one machine, to try and to test pynomaly.ops on.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    command = commands.add_parser("demo", help="deploy the stack on a server and check it")
    command.add_argument(
        "--break",
        dest="broken",
        metavar="SERVICE",
        help="then stop this service, check again, and start it again",
    )
    command.set_defaults(function=lambda parsed: demo.show(parsed.broken))

    command = commands.add_parser(
        "test",
        help="run everything that must pass, or the named parts",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Run everything that must pass, or the named parts of it.",
        epilog=testsuite.overview(),
    )
    command.add_argument("parts", nargs="*", type=_part, metavar="PART")
    command.set_defaults(function=lambda parsed: testsuite.main(parsed.parts))

    command = commands.add_parser("up", help="start servers node1 to nodeN, mending what is broken")
    command.add_argument("count", nargs="?", type=_count, default=1, metavar="N")
    command.add_argument(
        "--debian",
        type=int,
        choices=sorted(set(images.NODES) - {nodes.DEBIAN}),
        help="one more server, debian12, that runs this release, with its Docker and Python",
    )
    command.add_argument(
        "--images",
        choices=("lab", "official"),
        help="what the nodes pull: the lab's own images (at first), or Docker Hub's",
    )
    command.set_defaults(function=_up)

    command = commands.add_parser("down", help="remove the lab's containers, networks and images")
    command.add_argument("--purge", action="store_true", help="and what is cached of the images")
    command.set_defaults(function=_down)

    command = commands.add_parser(
        "run", help="run the playbook pynomaly.ops.NAME on the nodes", add_help=False
    )
    command.add_argument("name", metavar="NAME")
    command.add_argument("arguments", nargs=argparse.REMAINDER, metavar="ARGUMENT")
    command.set_defaults(function=lambda parsed: demo.playbook(parsed.name, *parsed.arguments))

    command = commands.add_parser("shell", help="a shell, or one command, on a node")
    command.add_argument("node", metavar="NODE")
    command.add_argument("words", nargs=argparse.REMAINDER, metavar="-- COMMAND")
    command.set_defaults(function=_shell)

    command = commands.add_parser(
        "bench", help="measure against rivals: the daily check, a backup, a restore, a scan of logs"
    )
    command.add_argument("arguments", nargs="*", metavar="one|many|backup|restore")
    command.set_defaults(function=_bench)
    return parser


def _count(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 50:
        raise argparse.ArgumentTypeError(f"{text}: expected a number of nodes from 1 to 50")
    return int(text)


def _part(text: str) -> str:
    if text not in testsuite.names():
        raise argparse.ArgumentTypeError(f"{text}: expected {', '.join(testsuite.names())}")
    return text


def _up(parsed: argparse.Namespace) -> int:
    started_at = time.monotonic()
    official = None if parsed.images is None else parsed.images == "official"
    others = () if parsed.debian is None else (parsed.debian,)
    for node in nodes.up(parsed.count, other_debians=others, official=official):
        say(f"{node.name}  {node.address}  ./lab shell {node.name}")
    say(f"up after {time.monotonic() - started_at:.1f} s")
    return 0


def _down(parsed: argparse.Namespace) -> int:
    nodes.down(purge=parsed.purge)
    say("down: nothing of the lab is left on the engine")
    return 0


def _shell(parsed: argparse.Namespace) -> int:
    nodes.require(parsed.node)
    words = parsed.words[1:] if parsed.words[:1] == ["--"] else parsed.words
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    command = [*nodes.ssh_command(parsed.node, terminal=terminal), *nodes.as_remote_command(words)]
    sys.stdout.flush()
    os.execvp(command[0], command)  # noqa: S606  (the person's terminal belongs to ssh from here)


def _bench(parsed: argparse.Namespace) -> int:
    return bench.main(parsed.arguments)
