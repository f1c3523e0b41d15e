# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which VMs an upgrade is for: names and patterns against the domains that the compute nodes have."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Mapping, Sequence

RUNNING = "running"
OFF = ("shut_off", "crashed")


class SelectionError(Exception):
    """The selection cannot be meant so; the text says what matched nothing."""


@dataclass(frozen=True)
class Candidate:
    """A selected VM. ``reason`` says why it cannot be upgraded; empty if nothing is known against it."""

    vm: str
    name: str
    node: str
    reason: str = ""


def select(
    nodes: Mapping[str, Sequence[Mapping[str, Any]]], patterns: Sequence[str], excludes: Sequence[str]
) -> list[Candidate]:
    """The VMs that ``patterns`` name (names, UUIDs or globs) less those that ``excludes`` name, sorted by name.

    :param nodes: by compute node, its domains as the module ``vm_info`` returns them.
    :param patterns: empty means every domain that has the agent's channel.
    :raises SelectionError: a pattern or an exclude matches no domain, or nothing is left.
    """
    everywhere = [(node, domain) for node, found in nodes.items() for domain in found]
    for exclude in excludes:
        if not any(_matches(domain, exclude) for _node, domain in everywhere):
            raise SelectionError(
                f"no domain on {_names(nodes)} matches the exclude {exclude!r}; check the name"
            )
    domains = [(node, domain) for node, domain in everywhere if not _matches_any(domain, excludes)]
    for pattern in patterns:
        if not any(_matches(domain, pattern) for _node, domain in domains):
            raise SelectionError(
                f"no domain on {_names(nodes)} matches {pattern!r}" + _hint(nodes, pattern, excludes)
            )
    chosen = [
        (node, domain)
        for node, domain in domains
        if (_matches_any(domain, patterns) if patterns else domain["has_channel"])
    ]
    if not chosen:
        raise SelectionError(
            f"nothing to upgrade: no domain with the agent's channel is left on {_names(nodes)}; "
            + (
                "exclude fewer of them"
                if excludes
                else "give the domains the channel, see the collection's README"
            )
        )
    return sorted(_one_per_uuid(chosen), key=lambda candidate: (candidate.name, candidate.vm))


def _one_per_uuid(chosen: Sequence[tuple[str, Mapping[str, Any]]]) -> list[Candidate]:
    """The same UUID on two nodes is one VM: the running one, or else one that is not off. Two running ones cannot be told apart."""
    by_uuid: dict[str, list[tuple[str, Mapping[str, Any]]]] = {}
    for node, domain in chosen:
        by_uuid.setdefault(domain["uuid"], []).append((node, domain))
    candidates = []
    for uuid, found in by_uuid.items():
        running = [entry for entry in found if entry[1]["state"] == RUNNING]
        alive = [entry for entry in found if entry[1]["state"] not in OFF]
        node, domain = (running or alive or found)[0]
        reason = "" if domain["has_channel"] else "no_channel"
        if len(running) > 1:
            reason = "duplicate_uuid"
        candidates.append(Candidate(uuid, domain["name"], node, reason))
    return candidates


def matches(name: str, uuid: str, pattern: str) -> bool:
    """Whether ``pattern`` is this VM's name or UUID, or a glob of its name."""
    return name == pattern or fnmatchcase(name, pattern) or uuid == pattern.lower()


def _matches(domain: Mapping[str, Any], pattern: str) -> bool:
    return matches(domain["name"], domain["uuid"], pattern)


def _matches_any(domain: Mapping[str, Any], patterns: Sequence[str]) -> bool:
    return any(_matches(domain, pattern) for pattern in patterns)


def _names(nodes: Mapping[str, Any]) -> str:
    return ", ".join(sorted(nodes)) or "any compute node"


def _hint(nodes: Mapping[str, Sequence[Mapping[str, Any]]], pattern: str, excludes: Sequence[str]) -> str:
    everywhere = (domain for found in nodes.values() for domain in found)
    if excludes and any(_matches(domain, pattern) for domain in everywhere):
        return " that is not excluded"
    return "; check the name, and that its node was reached"


def with_media(vms: Sequence[Candidate], results: Sequence[Mapping[str, Any]]) -> list[Candidate]:
    """``vms`` with the reasons that `cdrom_media` gave per VM, where nothing was known against a VM before."""
    reasons = {result["vm"]: result.get("reason") or "" for result in results}
    return [
        candidate
        if candidate.reason
        else Candidate(candidate.vm, candidate.name, candidate.node, reasons.get(candidate.vm, ""))
        for candidate in vms
    ]
