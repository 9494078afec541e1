# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The blocks that nginx keeps, put in force as a whole and proved on nginx's own ports.

All blocks are one file. It is computed from those that are wanted, so that after a kill at any
step the same call again finishes what was begun.
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._context import Container, Stack
from ansible_collections.pynomaly.ops.plugins.module_utils._edges import nginx_control
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.docker import (
    Engine,
    EngineError,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.engine_control import (
    EngineControl,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.http import HttpError
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.nginx_control import NginxError
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.nginx_hook import (
    CALL_SECONDS,
    LOOK_BEHIND_SECONDS,
    LOOK_SECONDS,
    RELOAD_SECONDS,
    Site,
    Step,
    files_of,
    find_sites,
    no_step,
    place_file,
    read_file,
    test_apart,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._nginx_blocklist import (
    FILE_STEM,
    PROBE_HEADER,
    PROBE_VALUE,
    AddressSource,
    BlockedNetwork,
    NginxBlocklistError,
    address_source,
    as_facts,
    blocklist_fragment,
    describe_blocklist,
    marker_in,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._nginx_hook import (
    HookError,
    NoHookError,
)

_SHOW = {PROBE_HEADER: PROBE_VALUE}
#: How long requests of before are waited for, until it is said that they still run.
_DRAIN_SECONDS = 1.0
_NEXT = "ansible-playbook pynomaly.ops.resume"

_Texts = Mapping[Path, Optional[str]]


def apply(
    engine: EngineControl,
    stack: Stack,
    blocks: Sequence[BlockedNetwork],
    now: datetime.datetime,
    *,
    dry_run: bool = False,
    step: Step = no_step,
) -> dict[str, Any]:
    """Have nginx block these networks until their ends, and no others.

    ``blocks`` are all that are wanted; those that are past count for nothing, and with none the
    file goes. Returns C{changed}, C{files} (on the host), C{in_force} (whether nginx serves these
    blocks, seen on each of its ports), C{skipped} (why this stack's nginx cannot block, empty where
    it can), C{blocks}, C{marker}, C{address_header} and C{trusted_proxies} (whose header names a
    client's address), and C{remarks}. Called twice it changes nothing. Steps: C{write}, C{test},
    C{reload}, C{prove}.

    Raises L{NginxBlocklistError} with what was there before in its place, and C{EngineError} and
    C{OSError} with nothing changed.
    """
    wanted = [block for block in blocks if block.until > now]
    text = blocklist_fragment(wanted) if wanted else None
    answer = _Answer(wanted, text)
    running = stack.running("nginx")
    if not running:
        return _apply_stopped(engine, stack, answer, dry_run=dry_run, step=step)
    try:
        sites = _sites(engine, stack, running, text, dry_run)
    except NoHookError as error:
        return answer.of(skipped=f"{error}; next: {error.hint}" if error.hint else str(error))
    answer.learn(sites)
    texts = {file: read_file(file) for file in files_of(sites)}
    served = all(_serves(site, text) for site in sites)
    if served and all(there == text for there in texts.values()):
        return answer.of(in_force=text is not None)
    if dry_run:
        return answer.of(changed=True)
    _refuse_untested(engine, stack.project, running, text)
    _put(engine, sites, texts, text, step)
    answer.remark_on_draining(running)
    return answer.of(changed=True, in_force=text is not None)


def status(engine: Engine, stack: Stack, now: datetime.datetime) -> dict[str, Any]:
    """What nginx blocks now, as its file says; C{in_force} is whether each port serves the file.

    The same keys as L{apply} returns; changes nothing. Raises L{NginxBlocklistError} and
    C{EngineError}.
    """
    answer = _Answer([], None)
    running = stack.running("nginx")
    if not running:
        return answer.of(skipped=_no_nginx(stack))
    try:
        sites = find_sites(engine, running, FILE_STEM)
    except NoHookError as error:
        return answer.of(skipped=f"{error}; next: {error.hint}" if error.hint else str(error))
    except HookError as error:
        raise NginxBlocklistError(str(error), error.hint) from error
    answer.learn(sites)
    text = next((text for file in files_of(sites) if (text := read_file(file))), None)
    facts = describe_blocklist(text or "")
    answer.blocks = [one for one in facts.blocks if one.until > now] if facts is not None else []
    answer.text = text
    served = all(_serves(site, text) for site in sites)
    if not served:
        answer.remarks.append(f"nginx serves other blocks than its file has; next: {_NEXT}")
    return answer.of(in_force=served and bool(answer.blocks))


# Inside


class _Answer:
    """What is returned, as far as it is known."""

    def __init__(self, blocks: Sequence[BlockedNetwork], text: Optional[str]) -> None:
        self.blocks = blocks
        self.text = text
        self.files: list[str] = []
        self.source = AddressSource()
        self.remarks: list[str] = []

    def learn(self, sites: Sequence[Site]) -> None:
        self.files = [str(file) for file in files_of(sites)]
        self.source = address_source("\n".join(dict.fromkeys(site.dump for site in sites)))
        self.remarks += self.source.remarks
        path = sites[0].hook.path
        for port in sorted({port for site in sites for port in site.hook.without}):
            self.remarks.append(
                f"port {port} is published and its server block does not read {path}: nginx blocks "
                "nobody there"
            )
        for port in sorted({port for site in sites for port in site.hook.late}):
            self.remarks.append(
                f"port {port}: its server block rewrites requests before it reads {path}, and "
                "those get past it; expected the include in front of the rewriting"
            )

    def remark_on_draining(self, running: Sequence[Container]) -> None:
        draining = sum(nginx_control.draining(one, _DRAIN_SECONDS) for one in running)
        if draining:
            self.remarks.append(
                f"{draining} of nginx's former workers finish requests that were under way, a "
                "download or a WebSocket perhaps: nginx does not cut those"
            )

    def of(
        self, *, changed: bool = False, in_force: bool = False, skipped: str = ""
    ) -> dict[str, Any]:
        facts = describe_blocklist(self.text or "")
        return {
            "changed": changed,
            "files": self.files,
            "in_force": in_force,
            "skipped": skipped,
            "blocks": as_facts(self.blocks),
            "marker": facts.marker if facts is not None else "",
            "address_header": self.source.header,
            "trusted_proxies": [str(network) for network in self.source.proxies],
            "remarks": self.remarks,
        }


def _no_nginx(stack: Stack) -> str:
    there = stack.component("nginx")
    if there:
        return f"{there[0].name} is {there[0].state}: nobody gets through it"
    return f"project {stack.project} has no nginx that could look into headers"


def _sites(
    engine: EngineControl,
    stack: Stack,
    running: Sequence[Container],
    text: Optional[str],
    dry_run: bool,
) -> list[Site]:
    """Where nginx is. Where its configuration is broken, a damaged file of ours may be why: what is
    wanted then takes its place first. Raises L{NoHookError} and L{NginxBlocklistError}."""
    try:
        return find_sites(engine, running, FILE_STEM)
    except NoHookError:
        raise
    except HookError as error:
        before = {file: read_file(file) for file in _mounted_files(running)}
        if dry_run or all(there == text for there in before.values()):
            raise NginxBlocklistError(str(error), error.hint) from error
        _refuse_untested(engine, stack.project, running, text)
        _place(before, text)
        try:
            return find_sites(engine, running, FILE_STEM)
        except HookError:
            for file, there in before.items():
                place_file(file, there)
            raise NginxBlocklistError(str(error), error.hint) from error


def _serves(site: Site, text: Optional[str], seconds: float = LOOK_SECONDS) -> bool:
    """Whether every port answers as it does with this text; C{None} stands for no file."""
    facts = describe_blocklist(text or "")
    if text is not None and facts is None:
        return False
    return _markers(site, seconds) == {facts.marker if facts is not None else ""}


def _markers(site: Site, seconds: float) -> set[str]:
    """Whose blocks are in force, seen on each port; an empty text stands for none."""
    found = set()
    for front, address in site.fronts:
        marker = ""
        # A request that is not answered at once, or at all, has not met the file.
        with contextlib.suppress(HttpError):
            answer = site.ask(front, address, "/", seconds, _SHOW)
            if answer.status == 403:
                marker = marker_in(answer.body.decode("utf-8", "replace"))
        found.add(marker)
    return found


def _refuse_untested(
    engine: EngineControl, project: str, containers: Sequence[Container], text: Optional[str]
) -> None:
    if text is None:
        return
    for container in {one.image_id: one for one in containers}.values():
        refusal = test_apart(engine, project, container, text)
        if refusal:
            raise NginxBlocklistError(f"nginx refuses its blocks, nothing was changed: {refusal}")


def _place(files: Mapping[Path, object], text: Optional[str]) -> None:
    for file in files:
        place_file(file, text)


def _put(
    engine: EngineControl, sites: Sequence[Site], before: _Texts, text: Optional[str], step: Step
) -> None:
    try:
        step("write")
        _place(before, text)
        step("test")
        for site in sites:
            nginx_control.test_configuration(engine, site.container, CALL_SECONDS)
        step("reload")
        for site in sites:
            nginx_control.reload(engine, site.container, RELOAD_SECONDS, _is_served(site, text))
        step("prove")
        if not all(_serves(site, text) for site in sites):
            raise NginxError("not every port of nginx answers as it does with these blocks")
    except (NginxError, EngineError, OSError) as error:
        _take_back(engine, sites, before, text, error)


def _is_served(site: Site, text: Optional[str]) -> Callable[[], bool]:
    return lambda: _serves(site, text)


def _take_back(
    engine: EngineControl,
    sites: Sequence[Site],
    before: _Texts,
    text: Optional[str],
    error: Exception,
) -> None:
    """What was there before, served again; then the error."""
    refused = describe_blocklist(text or "")

    def is_gone_from(site: Site) -> Callable[[], bool]:
        return lambda: refused is None or refused.marker not in _markers(site, LOOK_BEHIND_SECONDS)

    try:
        for file, there in before.items():
            place_file(file, there)
        for site in sites:
            nginx_control.reload(engine, site.container, RELOAD_SECONDS, is_gone_from(site))
    except (NginxError, EngineError, OSError) as second:
        raise NginxBlocklistError(
            f"nginx does not take its blocks ({error}), and it is not certain that the "
            f"configuration before is served: {second}",
            _NEXT,
        ) from error
    raise NginxBlocklistError(
        f"nginx does not take its blocks, the configuration before is served: {error}",
        str(getattr(error, "hint", "")),
    ) from error


# An nginx that does not run


def _mounted_files(containers: Sequence[Container]) -> list[Path]:
    """Files of ours in the folders that are mounted into containers, and one folder below."""
    found: dict[Path, None] = {}
    for container in containers:
        for mount in container.mounts:
            folder = Path(mount.source)
            if mount.kind in ("bind", "volume") and mount.source and folder.is_dir():
                for pattern in (f"*{FILE_STEM}*", f"*/*{FILE_STEM}*"):
                    found.update(dict.fromkeys(sorted(folder.glob(pattern))))
    return [file for file in found if file.is_file() and not file.name.startswith(".")]


def _apply_stopped(
    engine: EngineControl, stack: Stack, answer: _Answer, *, dry_run: bool, step: Step
) -> dict[str, Any]:
    """Have the file of before say what is wanted, for the time when nginx starts. Without one there
    is nobody who could be asked where it belongs."""
    containers, text = stack.component("nginx"), answer.text
    skipped = _no_nginx(stack)
    before = {file: read_file(file) for file in _mounted_files(containers)}
    answer.files = [str(file) for file in before]
    if containers and text is not None:
        skipped += "; run it again once nginx runs" if not before else ""
    if all(there == text for there in before.values()):
        return answer.of(skipped=skipped)
    if not dry_run:
        _refuse_untested(engine, stack.project, containers, text)
        step("write")
        _place(before, text)
    return answer.of(changed=True, skipped=skipped)
