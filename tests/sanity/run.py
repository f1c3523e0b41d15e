# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run ansible-test's sanity tests on this checkout, wherever it was cloned.

ansible-test insists on a working directory that ends in ansible_collections/isolift/vm, so the sources are copied
into such a tree first. The results are left as JUnit files in .cache/reports/sanity.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TREE = ROOT / ".cache" / "sanity" / "ansible_collections" / "isolift" / "vm"
REPORTS = ROOT / ".cache" / "reports" / "sanity"

# ansible-test keeps its virtual environments below the home directory; this one goes away with the checkout.
HOME = ROOT / ".cache" / "ansible-test"

# ansible-test would download this installer of pip from a host of its own. Python brings one along that serves as well.
PIP_INSTALLER = """\
import subprocess
import sys

subprocess.run([sys.executable, "-m", "ensurepip", "--upgrade"], check=True, stdout=subprocess.DEVNULL)
"""

HOME_FILES = {
    ".ansible/test/cache/get_pip_24_2.py": PIP_INSTALLER,
    ".config/pip/pip.conf": "[global]\nquiet = 2\n",
}


def sources() -> list[Path]:
    """The files of the checkout, relative to its root: tracked ones and new ones that are not ignored."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listing = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    files = (Path(name) for name in listing.split("\0") if name)
    return [file for file in files if os.path.lexists(ROOT / file)]


def copy_sources() -> None:
    """Make TREE a fresh copy of the sources, as a git repository because ansible-test asks git for the files."""
    shutil.rmtree(TREE, ignore_errors=True)
    for file in sources():
        target = TREE / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / file, target, follow_symlinks=False)
    subprocess.run(["git", "init", "--quiet", "."], cwd=TREE, check=True)


def make_home() -> None:
    """Write the files that ansible-test and pip look for in the home directory."""
    for name, text in HOME_FILES.items():
        file = HOME / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


def ansible_test(*options: str) -> int:
    """Run the sanity tests with the Python that runs this file; return the exit status."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    command = ["ansible-test", "sanity", "--local", "--python", version, "--color", "no", *options]
    return subprocess.run(command, cwd=TREE, env={**os.environ, "HOME": str(HOME)}, check=False).returncode


def main() -> int:
    """Run the tests on a copy of the sources. Arguments are passed on, such as ``--test pylint``."""
    if shutil.which("shellcheck") is None:
        # ansible-test would leave the test out without failing.
        print("shellcheck is not installed: run `make setup`", file=sys.stderr)
        return 1
    copy_sources()
    make_home()
    status = ansible_test("--junit", *sys.argv[1:])
    shutil.rmtree(REPORTS, ignore_errors=True)
    shutil.copytree(TREE / "tests" / "output" / "junit", REPORTS)
    return status


if __name__ == "__main__":
    sys.exit(main())
