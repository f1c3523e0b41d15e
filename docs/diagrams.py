# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Draw the state machines: write docs/states.md from their transition tables, or check that it is what they say."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Iterable, Mapping
from enum import Enum
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "states.md"
TABLES = {
    "upgrade": "plugins/module_utils/states.py",
    "channel": "roles/compute_relay/files/isolift_relay/sessions.py",
    "agent": "roles/guest_agent/files/isolift_agent/states.py",
}

INTRODUCTION = """\
# State machines

`python docs/diagrams.py` writes this page from the transition tables in the code; a test compares the two. Arrows that share their
ends are drawn once, with all their events.
"""

UPGRADE = """
## An upgrade, as the controller sees it

The table is in `{upgrade}`.

An agent's result moves every state of this diagram to the outcome that it names: {guest}.
The coordinator does the same where it decides the outcome itself: at the campaign's deadline as the first table says (a notification that
never arrived ends as unreachable; an upgrade that was to be cancelled, or is held and may have used an earlier permit, as timed_out), and
past a state's own limit as the second one says, if the agent acknowledged the question why it does not go on. Nothing leaves an outcome.
"""

CHANNEL = """
## A VM's channel, as the relay sees it

The table is in `{channel}`.
"""

AGENT = """
## An upgrade, as the guest agent sees it

The table is in `{agent}`.
"""

Transitions = Mapping[tuple[Enum, Enum], Enum]


def words(members: Iterable[Enum]) -> list[str]:
    """The members' values."""
    return [str(member.value) for member in members]


def diagram(initial: Enum, transitions: Transitions, final: Iterable[Enum] = ()) -> list[str]:
    """A state machine as a Mermaid diagram in a Markdown block."""
    labels: dict[tuple[str, str], list[str]] = {}
    for (state, event), target in transitions.items():
        labels.setdefault((str(state.value), str(target.value)), []).append(str(event.value))
    arrows = [f"    {start} --> {end} : {' / '.join(events)}" for (start, end), events in labels.items()]
    ends = [f"    {state} --> [*]" for state in words(final)]
    return ["", "```mermaid", "stateDiagram-v2", f"    [*] --> {initial.value}", *arrows, *ends, "```"]


def deadline_table(outcomes: Mapping[Enum, tuple[Enum, str]]) -> list[str]:
    """What the deadline makes of each state, as a Markdown table."""
    rows = [f"| {state.value} | {outcome.value} | {stage} |" for state, (outcome, stage) in outcomes.items()]
    return ["", "| at the deadline | outcome | stage |", "|---|---|---|", *rows]


def limit_table(limited: Mapping[Enum, tuple[str, str]]) -> list[str]:
    """Which option limits which state, and the stage in which it times out, as a Markdown table."""
    rows = [
        f"| {state.value} | `{option}` | timed_out | {stage} |" for state, (option, stage) in limited.items()
    ]
    return ["", "| past its limit | option | outcome | stage |", "|---|---|---|---|", *rows]


def load(path: str) -> ModuleType:
    """The module in the file ``path`` of the checkout; what it imports from its own package is found beside it."""
    file = ROOT / path
    package = file.parent.name if (file.parent / "__init__.py").exists() else ""
    if package:
        sys.path.insert(0, str(file.parents[1]))
        return importlib.import_module(f"{package}.{file.stem}")
    spec = spec_from_file_location(f"upgrade_{file.stem}", file)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def render() -> str:
    """The whole page."""
    upgrade, channel, agent = (load(path) for path in TABLES.values())
    guest = ", ".join(word for word in words(upgrade.OUTCOME_ORDER) if word in words(upgrade.GUEST_OUTCOMES))
    parts = [
        INTRODUCTION,
        UPGRADE.format(guest=guest, **TABLES),
        *diagram(upgrade.State.PENDING, upgrade.TRANSITIONS),
        *deadline_table(upgrade.DEADLINE_OUTCOME),
        *limit_table(upgrade.LIMITED),
        CHANNEL.format(**TABLES),
        *diagram(channel.State.ABSENT, channel.TRANSITIONS),
        AGENT.format(**TABLES),
        *diagram(agent.State.IDLE, agent.TRANSITIONS, [agent.State.DONE]),
    ]
    return "\n".join(part.rstrip("\n") for part in parts) + "\n"


def main(arguments: list[str]) -> int:
    """Write or check the page; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="change nothing; fail if the page is not up to date"
    )
    page = render()
    if not parser.parse_args(arguments).check:
        PAGE.write_text(page, encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != page:
        print(f"{PAGE.name} is not what the tables say; run: python docs/diagrams.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
