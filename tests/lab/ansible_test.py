# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Let ansible-test work from package indexes alone.

It fetches a script that installs pip; a stand-in in its cache, which installs the same
version of pip from a wheel, makes that needless. Its cache is in the home directory, so it
gets one of its own.
"""

from __future__ import annotations

import re
from pathlib import Path

from lab.cache import folder
from lab.shell import LabError, run

_STAND_IN = '''\
"""Install pip from a wheel that pip itself has fetched; made by the lab."""
import glob
import runpy
import sys

directory = {directory!r}
sys.path[:0] = glob.glob(directory + "/pip-*.whl")
options = [word for word in sys.argv[1:] if word not in ("--no-setuptools", "--no-wheel")]
sys.argv = ["pip", "install", "--find-links", directory, *options]
runpy.run_module("pip", run_name="__main__", alter_sys=True)
'''


_PIP_SETTINGS = (".config/pip", ".pip", ".netrc")
"""What pip reads in a home directory, and ansible-test in no environment variable."""


def home() -> Path:
    """Give ansible-test's home directory in the lab's cache, with the user's settings of pip."""
    directory = folder("ansible-test")
    for name in _PIP_SETTINGS:
        theirs, link = Path.home() / name, directory / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        if theirs.exists():
            link.symlink_to(theirs)
    return directory


def prepare(environment: Path) -> str:
    """Put the stand-in where it is missing, and return the environment's Python version.

    Raises LabError when ansible-test does not say which pip it wants.
    """
    python = str(environment / "bin" / "python")
    asked = (
        "import sys, ansible_test\nprint('%d.%d' % sys.version_info[:2], *ansible_test.__path__)"
    )
    version, package = run([python, "-c", asked], timeout_seconds=30).stdout.split(maxsplit=1)
    source = Path(package.strip()) / "_internal" / "python_requirements.py"
    wanted = re.search(r"\bpip='([\d.]+)'", source.read_text())
    if wanted is None:
        raise LabError(f"{source} does not say which version of pip it wants (pip='…').")
    pip_version = wanted.group(1)
    script_name = f"get_pip_{pip_version.replace('.', '_')}.py"
    script = home() / ".ansible" / "test" / "cache" / script_name
    if script.exists():
        return version
    wheels = folder("wheels")
    download = [python, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    run(
        [*download, "--no-deps", "--dest", str(wheels), f"pip=={pip_version}"],
        timeout_seconds=300,
    )
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text(_STAND_IN.format(directory=str(wheels)))
    return version
