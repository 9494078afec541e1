# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lab's images: which there are, when one is stale, and how each comes to be."""

from __future__ import annotations

import io
import json
import re
import shutil
import tarfile
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from lab import registry
from lab.cache import DEFAULT_NAME, NAME, ROOT, folder, hash_of_directory, short_hash, state
from lab.engine import LABEL, docker, inspect
from lab.packages import need
from lab.shell import LabError, run, say

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DIRECTORY = ROOT / "tests" / "lab" / "images"

BASE = "base:trixie"
REGISTRY = "registry:lab"
NODES = {13: "node:lab", 12: "node-debian12:lab"}
"""The image of a server for each release of Debian; the first is what servers run by default."""

_HASH_LABEL = f"{LABEL}.hash"
_IMAGE_LABEL = f"{LABEL}.image"
_ORIGIN = re.compile(r"^[ \t]*(?:FROM[ \t]+|COPY[ \t]+--from=)(\S+)", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True)
class Image:
    """One image: its directory, its variant, and the content hash that it should have."""

    key: str
    """``directory:variant``; the engine knows it as ``pynomaly-lab/directory:variant``."""
    directory: Path
    hash: str
    parents: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    arguments: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The engine's own name for it."""
        return f"{NAME}/{self.key}"

    @property
    def stored_name(self) -> str:
        """The name, unique for this content, under which every lab's registry keeps it."""
        return f"{DEFAULT_NAME}/{self.key.partition(':')[0]}:{self.hash}"


def load(directory: Path = DIRECTORY) -> dict[str, Image]:
    """Read all images' descriptions, parents before their children.

    Raises LabError when a description cannot be read or a parent is missing.
    """
    settings = json.loads((directory / "base" / "base.json").read_text())
    base_hash = hash_of_directory(directory / "base")
    images = {
        f"base:{suite}": Image(f"base:{suite}", directory / "base", short_hash(suite, base_hash))
        for suite in settings["suites"]
    }
    waiting = [
        image
        for dockerfile in sorted(directory.glob("*/Dockerfile"))
        for image in _described(dockerfile)
    ]
    while waiting:
        ready = [image for image in waiting if all(parent in images for parent in image.parents)]
        if not ready:
            raise LabError(
                "These images stand on one that does not exist: "
                + ", ".join(f"{image.key} on {' and '.join(image.parents)}" for image in waiting)
            )
        for image in ready:
            content = short_hash(
                hash_of_directory(image.directory),
                json.dumps(image.arguments, sort_keys=True),
                *([images[parent].hash for parent in image.parents] or [""]),
            )
            images[image.key] = replace(image, hash=content)
        waiting = [image for image in waiting if image not in ready]
    return images


def _described(dockerfile: Path) -> list[Image]:
    """Read one directory's ``image.json``, if any: its variants, not hashed yet."""
    directory = dockerfile.parent
    path = directory / "image.json"
    try:
        settings = json.loads(path.read_text()) if path.exists() else {"tags": []}
    except ValueError as error:
        raise LabError(f"{path} is not JSON: {error}.") from error
    origins = _ORIGIN.findall(dockerfile.read_text())
    if not origins:
        raise LabError(f"{dockerfile} has no FROM line.")
    found = []
    for variant in settings.get("variants", [settings]):
        arguments = {name: str(value) for name, value in variant.get("args", {}).items()}
        # FROM may name an argument, given in image.json; a default in the Dockerfile is not read.
        stands_on = (Template(origin).safe_substitute(arguments) for origin in origins)
        # Each once, in the order in which they stand there.
        parents = tuple(
            dict.fromkeys(
                origin[len(DEFAULT_NAME) + 1 :]
                for origin in stands_on
                if origin.startswith(f"{DEFAULT_NAME}/")
            )
        )
        key = f"{directory.name}:{variant.get('name', 'lab')}"
        found.append(Image(key, directory, "", parents, tuple(variant["tags"]), arguments))
    return found


def ensure_in_engine(image: Image, images: Mapping[str, Image]) -> None:
    """See to it that the engine has this image with this content: from the cache, or built."""
    found = inspect("image", image.name)
    labels = (found["Config"]["Labels"] or {}) if found is not None else {}
    if labels.get(_HASH_LABEL) == image.hash:
        return
    if found is not None and _IMAGE_LABEL not in labels:
        raise LabError(
            f"An image named {image.name} exists and the lab did not make it. "
            f"Give it another name first: docker tag {image.name} NAME, docker rmi {image.name}"
        )
    started_at = time.monotonic()
    how = _obtain(image, images)
    say(f"{time.monotonic() - started_at:7.1f} s  {how} image {image.key}")
    if found is not None:
        _remove_or_remember([found["Id"]])


def _obtain(image: Image, images: Mapping[str, Image]) -> str:
    archive = folder("archives") / f"{image.directory.name}-{image.hash}.tar"
    if image.key == REGISTRY and archive.exists():
        docker("load", "--quiet", "--input", str(archive), timeout_seconds=300)
        docker("tag", image.stored_name, image.name)
        docker("rmi", image.stored_name)
        return "loaded"
    if registry.is_running() and registry.digest(image.stored_name) is not None:
        registry.pull(image.stored_name, image.name)
        return "fetched"
    for parent in image.parents:
        ensure_in_engine(images[parent], images)
    if image.directory.name == "base":
        _build_base(image)
    else:
        _build(image)
    if image.key == REGISTRY:
        _archive(image, archive)
    return "built"


def publish(image: Image, images: Mapping[str, Image]) -> None:
    """See to it that the registry has this image, under its official names too."""
    stored = registry.digest(image.stored_name)
    if stored is None:
        ensure_in_engine(image, images)
        registry.push(image.name, image.stored_name)
        stored = registry.digest(image.stored_name)
    for tag in image.tags:
        if registry.digest(tag) != stored:
            ensure_in_engine(image, images)
            registry.push(image.name, tag)
            say(f"           {tag} is image {image.key}")


def publish_all(images: Mapping[str, Image], nodes: Sequence[str], *, services: bool) -> None:
    """Bring the nodes' images into the engine, and with ``services`` theirs into the registry.

    The services are built one after another: their first layers are the same, and the
    builder makes them once. The nodes are built beside them.
    """
    others = [image for image in images.values() if image.tags]

    def prepare_nodes() -> None:
        for key in nodes:
            publish(images[key], images)
            ensure_in_engine(images[key], images)

    def prepare_services() -> None:
        for image in others:
            publish(image, images)

    publish(images[BASE], images)
    with ThreadPoolExecutor(max_workers=2) as workers:
        running = [workers.submit(prepare_nodes)]
        if services:
            running.append(workers.submit(prepare_services))
        for work in running:
            work.result()


def forget() -> list[str]:
    """Remove the lab's images from the engine; return those that something else still uses."""
    names = docker(
        "images",
        f"--filter=reference={NAME}/*",
        f"--filter=label={_IMAGE_LABEL}",
        "--format={{.Repository}}:{{.Tag}}",
    ).split()
    kept = []
    for name in names:
        completed = run(["docker", "rmi", name], timeout_seconds=120, check=False)
        if completed.returncode != 0:
            kept.append(f"{name} ({completed.stderr.strip()})")
    if _leftovers().exists():
        remembered = _leftovers().read_text().split()
        _leftovers().unlink()
        _remove_or_remember(list(reversed(remembered)))
    return kept


def _leftovers() -> Path:
    """Give the file with the ids of nameless images that could not be removed yet."""
    return state() / "nameless-images"


def _remove_or_remember(image_ids: list[str]) -> None:
    """Remove nameless images of ours; those that something still uses are tried again later."""
    for image_id in image_ids:
        found = inspect("image", image_id)
        if found is None or found["RepoTags"]:  # a lab of another name has it under that name
            continue
        if run(["docker", "rmi", image_id], timeout_seconds=120, check=False).returncode != 0:
            with _leftovers().open("a") as leftovers:
                leftovers.write(f"{image_id}\n")


def _build(image: Image) -> None:
    """Build from the Dockerfile, whose ``pynomaly-lab/`` is the lab of this name."""
    command = ["docker", "build", "--force-rm", "--file=-", f"--tag={image.name}"]
    command += [f"--label={_IMAGE_LABEL}={image.key}", f"--label={_HASH_LABEL}={image.hash}"]
    command += [f"--build-arg={name}={value}" for name, value in image.arguments.items()]
    completed = run(
        [*command, str(image.directory)],
        timeout_seconds=1200,
        check=False,
        stdin_text=_ORIGIN.sub(
            lambda origin: origin.group().replace(f"{DEFAULT_NAME}/", f"{NAME}/"),
            (image.directory / "Dockerfile").read_text(),
        ),
        environment={"DOCKER_BUILDKIT": "0"},
    )
    if completed.returncode != 0:
        layers = re.findall(r"^ ---> ([0-9a-f]{12})$", completed.stdout, re.MULTILINE)
        with _leftovers().open("a") as leftovers:
            leftovers.writelines(f"{layer}\n" for layer in layers)
        last_lines = "\n".join(completed.stdout.splitlines()[-30:])
        raise LabError(
            f"The image {image.key} could not be built. The builder's last lines:\n{last_lines}\n"
            f"{completed.stderr.strip()}\nTo see it all: docker build {image.directory}"
        )


def _build_base(image: Image) -> None:
    """Make a Debian system with mmdebstrap and import it."""
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    need({"mmdebstrap": "mmdebstrap", keyring: "debian-archive-keyring"})
    settings = json.loads((image.directory / "base.json").read_text())
    suite = image.key.partition(":")[2]
    with tempfile.TemporaryDirectory(dir=folder("temporary")) as temporary:
        archive = Path(temporary) / "base.tar"
        command = ["mmdebstrap", f"--variant={settings['variant']}", "--format=tar"]
        command += [f"--include={','.join(settings['include'])}"]
        command += [f"--dpkgopt=path-exclude={pattern}" for pattern in settings["path_exclude"]]
        run([*command, suite, str(archive)], timeout_seconds=900)
        # mmdebstrap removes its own policy-rc.d last, so ours can only be added behind it.
        with tarfile.open(archive, "a") as tar:
            for name, destination, mode in settings["files"]:
                content = (image.directory / name).read_bytes()
                member = tarfile.TarInfo(f".{destination}")
                member.mode, member.size = int(mode, 8), len(content)
                tar.addfile(member, io.BytesIO(content))
        docker(
            "import",
            f"--change=LABEL {_IMAGE_LABEL}={image.key} {_HASH_LABEL}={image.hash}",
            '--change=CMD ["/bin/bash"]',
            str(archive),
            image.name,
            timeout_seconds=300,
        )


def _archive(image: Image, archive: Path) -> None:
    """Keep the registry's own image as a file: it cannot be fetched from itself."""
    for old in archive.parent.glob(f"{image.directory.name}-*.tar"):
        old.unlink()
    unfinished = archive.with_suffix(".unfinished")
    docker("tag", image.name, image.stored_name)
    try:
        docker("save", "--output", str(unfinished), image.stored_name, timeout_seconds=300)
    finally:
        docker("rmi", image.stored_name)
    shutil.move(str(unfinished), archive)
