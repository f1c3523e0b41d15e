# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A campaign's results as data and as a plain table, for the callback, `upgrade_info` and the playbooks."""

from __future__ import annotations

from typing import Any, Iterable, Mapping, Sequence

from .campaign import Campaign
from .states import State
from .text import printable
from .upgrade import Upgrade

_COLUMNS = ("UPGRADE ID", "VM", "NODE", "OUTCOME", "VERSION", "TIME", "REASON")


_PLAIN_REASONS = {State.DECLINED: "the user said no"}


def result_of(upgrade: Upgrade) -> dict[str, Any]:
    """One upgrade as plain data, guest text made safe to show. ``duration_s`` is from selection to outcome, in seconds."""
    result = upgrade.result
    return {
        "upgrade_id": upgrade.upgrade_id,
        "vm": upgrade.vm,
        "name": printable(upgrade.name),
        "node": printable(upgrade.node),
        "state": upgrade.state.value,
        "final": upgrade.final,
        "stage": printable(upgrade.stage),
        "reason": printable(upgrade.reason or _PLAIN_REASONS.get(upgrade.state, "")),
        "permit": upgrade.permit,
        "version_before": printable(result.version_before if result else upgrade.installed_version, 64),
        "version_after": printable(result.version_after, 64) if result else "",
        "exit_code": result.exit_code if result else -1,
        "install_s": round(result.duration_s, 1) if result else 0.0,
        "log_tail": [printable(line) for line in result.log_tail.splitlines()[-40:]] if result else [],
        "duration_s": round(upgrade.ended_at - upgrade.began_at, 1) if upgrade.final else 0.0,
        "late_outcome": printable(upgrade.late_result.outcome, 64) if upgrade.late_result else "",
    }


def summary_of(campaign: Campaign) -> dict[str, Any]:
    """The whole campaign as plain data: what it is, the counts by state, and every upgrade."""
    opened = campaign.opened
    return {
        "campaign_id": campaign.campaign_id,
        "component": opened.component if opened else "",
        "target_version": opened.target_version if opened else "",
        "deadline": opened.deadline if opened else 0.0,
        "selected": len(campaign.upgrades),
        "finished": campaign.finished,
        "closed": campaign.closed,
        "problem": campaign.problem,
        "counts": campaign.counts(),
        "results": [result_of(upgrade) for upgrade in campaign.upgrades.values()],
    }


def lines_of(summary: Mapping[str, Any]) -> list[str]:
    """The closing table of a campaign: its upgrades, and the counts as the last line."""
    late = sum(bool(result["late_outcome"]) for result in summary["results"])
    note = [f"{late} of them reported another outcome later"] if late else []
    return [*table(summary["results"]), *note, sum_line(summary["counts"])]


def line(result: Mapping[str, Any]) -> str:
    """One upgrade on one line, for live output."""
    return " ".join(_cells(result)).rstrip()


def sum_line(counts: Mapping[str, int]) -> str:
    """``5 selected = 4 succeeded + 1 declined``."""
    parts = " + ".join(f"{count} {state}" for state, count in counts.items())
    return f"{sum(counts.values())} selected = {parts or '0'}"


def table(results: Iterable[Mapping[str, Any]]) -> list[str]:
    """The upgrades as a table of plain text lines, the header first."""
    rows = [_COLUMNS, *(_cells(result) for result in results)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]


def _cells(result: Mapping[str, Any]) -> Sequence[str]:
    before, after = result["version_before"], result["version_after"]
    versions = before if not after or after == before else f"{before or 'none'} -> {after}"
    late = f"later: {result['late_outcome']}" if result["late_outcome"] else ""
    return (
        result["upgrade_id"],
        result["name"],
        result["node"],
        result["state"],
        versions or "-",
        f"{result['duration_s']:.1f} s" if result["final"] else "-",
        ": ".join(part for part in (result["stage"], result["reason"], late) if part),
    )
