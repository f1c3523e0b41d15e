# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is installed in a guest, asked and set on its console: not by way of anything that is tested."""

from __future__ import annotations

from . import console
from .errors import LabError
from .waiting import wait_until

_STATE = "/var/lib/guest-tools"
_PROMPT = "/etc/isolift/prompt"
_AGENT = "/usr/bin/isolift-agent"
_HOLD = f"{_STATE}/hold-install"
_FAIL = f"{_STATE}/fail-install"

_KILL_AGENT = """
found=
for process in /proc/[0-9]*; do
    case $(tr '\\0' ' ' < $process/cmdline) in
        *'isolift-agent.pyz run '*) kill -KILL ${process#/proc/} && found=1 ;;
    esac
done
[ "$found" ]
"""
"""There is no pgrep in a guest of the lab. Fails if no agent runs."""

YES = "exit 0"
NO_ANSWER = "exit 2"
"""What the program that asks a guest's user may do."""


def installed(node: str, domain: str) -> tuple[str, int]:
    """The version of guest-tools in a guest, and how often an installer finished there."""
    version, installs = console.run(node, domain, f"cat {_STATE}/version; {_count('installs')}").split()
    return version, int(installs)


def begun(node: str, domain: str) -> int:
    """How often an installer was begun in a guest, whether it finished, failed or was cut short."""
    return int(console.run(node, domain, _count("begun")))


def _count(name: str) -> str:
    """A shell command that counts the lines of a file of guest-tools, none if there is no such file."""
    return f"if [ -e {_STATE}/{name} ]; then wc -l < {_STATE}/{name}; else echo 0; fi"


def set_back(node: str, domain: str, version: str = "1.0.0") -> None:
    """Make a guest look as if ``version`` were installed and no installer had ever run, nor will be held or fail."""
    traces = f"{_STATE}/begun {_STATE}/installs {_HOLD} {_FAIL}"
    console.run(node, domain, f"rm -f {traces}; echo {version} > {_STATE}/version; sync")


def fail_installer(node: str, domain: str) -> None:
    """Let installers in a guest fail."""
    console.run(node, domain, f"touch {_FAIL}; sync")


def hold_installer(node: str, domain: str) -> None:
    """Let the next installer in a guest take until `let_installer_go`."""
    console.run(node, domain, f"touch {_HOLD}; sync")


def await_installer(node: str, domain: str) -> None:
    """Wait until an installer in a guest has begun, and until its disk knows: then a guest that is cut short shows it.

    :raise LabError: it does not come to that.
    """
    wait_until(
        lambda: begun(node, domain) > 0, what=f"an installer in {domain} on {node}", timeout=90, every=0.5
    )
    console.run(node, domain, "sync")


def let_installer_go(node: str, domain: str) -> None:
    """Let a held installer go on."""
    console.run(node, domain, f"rm -f {_HOLD}; sync")


def answer(node: str, domain: str, word: str) -> None:
    """Let the user of a guest type an answer: confirm or decline.

    :raise CommandFailed: nothing is being asked.
    """
    console.run(node, domain, f"{_AGENT} answer {word}")


def await_state(node: str, domain: str, state: str, timeout: float = 90.0) -> None:
    """Wait until the agent of a guest says that its upgrade, or the one that waits behind it, is in ``state``.

    :raise LabError: it does not come to that.
    """
    await_status(node, domain, f"state={state}", timeout=timeout)


def await_status(node: str, domain: str, *words: str, timeout: float = 90.0) -> None:
    """Wait until the status of the agent of a guest has all of these words.

    :raise LabError: it does not come to that.
    """
    said = ""

    def there() -> bool:
        nonlocal said
        try:
            said = console.run(node, domain, f"{_AGENT} status")
        except LabError as error:
            said = str(error)  # the agent, or the guest, is just being started
        return all(text in said for text in words)

    try:
        wait_until(there, what=f"{domain} on {node} to say {' and '.join(words)}", timeout=timeout, every=0.5)
    except LabError as error:
        raise LabError(f"{error}; the last that was heard: {said}") from error


def kill_agent(node: str, domain: str) -> None:
    """Kill the agent of a guest; its init starts it again. An installer that runs goes on."""
    console.run(node, domain, _KILL_AGENT)


def set_prompt(node: str, domain: str, script: str) -> None:
    """Let the user of a guest be asked by this shell script: exit status 0 is yes, 1 no, any other no answer."""
    lines = f"#!/bin/sh\n{script}\n"
    console.run(
        node,
        domain,
        f"cat > {_PROMPT}.new <<'END'\n{lines}END\nchmod 755 {_PROMPT}.new; mv {_PROMPT}.new {_PROMPT}",
    )
