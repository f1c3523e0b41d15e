# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A campaign's results as data and as a plain table, for the callback, `upgrade_info` and the playbooks."""

from __future__ import annotations

import posixpath
import time
from enum import Enum
from typing import Any, Iterable, Mapping, Sequence

from .campaign import Campaign
from .states import State
from .text import printable
from .upgrade import Upgrade

LISTED_MOST = 200
"""Most upgrades that are listed one by one where nobody asked for all of them."""

_COLUMNS = ("UPGRADE ID", "VM", "NODE", "OUTCOME", "VERSION", "TIME", "REASON")
_CAMPAIGN_COLUMNS = ("CAMPAIGN ID", "COMPONENT", "VERSION", "STATE", "OPENED", "BY", "OUTCOMES")


class _Detail(Enum):
    """What the detail that follows a reason's code is to the code's sentence."""

    INSTEAD = "says the same with more knowledge, and stands for it"
    AFTER = "is somebody else's error text, and follows it"
    NONE = "says less to a person, and is left out"


REASONS: Mapping[str, tuple[str, _Detail]] = {
    # From the selection, from libvirt and from the relay.
    "no_channel": ("the domain has no channel for the agent", _Detail.INSTEAD),
    "duplicate_uuid": ("several running domains have this UUID", _Detail.INSTEAD),
    "no_domain": ("its node has no such domain any more", _Detail.INSTEAD),
    "no_drive": ("the domain has no CD-ROM drive", _Detail.INSTEAD),
    "drive_ambiguous": (
        "the domain has several CD-ROM drives and none is marked as the one to use",
        _Detail.INSTEAD,
    ),
    "drive_in_use": ("the drive holds a disc of somebody else", _Detail.INSTEAD),
    "drive_taken": ("the drive holds the disc of another campaign", _Detail.INSTEAD),
    "no_media": ("the ISO is not on the VM's node", _Detail.INSTEAD),
    "tray_locked": ("the guest holds the drive's tray locked", _Detail.INSTEAD),
    "media_error": ("the disc could not be changed or read", _Detail.AFTER),
    "shut_off": ("the VM is shut off, or no relay runs on its node", _Detail.NONE),
    "not_here": (
        "the VM does not run on the node on which it was found: it is shut off, or has moved",
        _Detail.NONE,
    ),
    "no_agent": ("no agent answers in the VM", _Detail.INSTEAD),
    "expired": ("the leave to install ran out on its way", _Detail.INSTEAD),
    "refused": ("the agent refused what it was told", _Detail.AFTER),
    # From the agent.
    "no_disc": ("the guest sees no disc of a component in its drives", _Detail.INSTEAD),
    "disc_lost": ("the disc left the drive again and again", _Detail.INSTEAD),
    "other_manifest": ("the disc in the guest is not the campaign's", _Detail.INSTEAD),
    "mount_stuck": ("the disc cannot be mounted or unmounted", _Detail.INSTEAD),
    "unsigned": ("the disc is not signed", _Detail.INSTEAD),
    "wrong_key": ("the disc is not signed with a key that the agent trusts", _Detail.AFTER),
    "no_keys": ("the agent trusts no key", _Detail.INSTEAD),
    "bad_key": ("a key of the agent cannot be read", _Detail.AFTER),
    "bad_manifest": ("the manifest on the disc is not valid", _Detail.AFTER),
    "file_absent": ("a file of the component is not on the disc", _Detail.INSTEAD),
    "file_differs": ("a file of the component is not what its manifest says", _Detail.AFTER),
    "wrong_component": ("the disc carries another component", _Detail.INSTEAD),
    "wrong_version": ("the disc carries another version", _Detail.INSTEAD),
    "detect_failed": ("the installed version cannot be read", _Detail.AFTER),
    "detect_timeout": ("the installed version could not be read in time", _Detail.AFTER),
    "no_space": ("the guest has too little free space", _Detail.INSTEAD),
    "copy_failed": ("the component could not be copied from the disc", _Detail.AFTER),
    "copy_lost": ("the copy of the component is gone", _Detail.AFTER),
    "journal_unwritable": ("the agent cannot write its journal", _Detail.AFTER),
    "not_started": ("the installer could not be started", _Detail.INSTEAD),
    "not_settled": ("how the installer ended cannot be told", _Detail.AFTER),
    "installer_running": ("another installer runs in the guest", _Detail.INSTEAD),
    "timeout": ("the installer was stopped at its time limit", _Detail.INSTEAD),
    "exit_code": ("the installer failed", _Detail.INSTEAD),
    "interrupted": ("nobody saw the installer end", _Detail.INSTEAD),
    "version_unchanged": ("the installed version is the one from before", _Detail.INSTEAD),
    "version_mismatch": ("the installed version is neither the old one nor the target", _Detail.INSTEAD),
}
"""By code, what the table says in its place. Codes are for programs and stay in the data; one that is not here is shown as it is."""

_STAGES: Mapping[str, str] = {
    "selection": "",
    "media": "",
    "conditions": "",
    "turn": "",
    "protocol": "",
    "state_lost": "",
    "start": "not reached",
    "request": "it did not ask for the upgrade",
    "notification": "it got no leave to install",
    "confirmation": "its user did not answer",
    "cancel": "cancelled",
}
"""By stage, what the table says before the reason; nothing where the reason says it all. Others are shown as they are."""

_UNSEALED = "the campaign was never sealed: no VM was told to start, and none will be"

_NAMED_MOST = 10

_WELL = (State.SUCCEEDED.value, State.UP_TO_DATE.value)

_TOLD = (*_WELL, State.DECLINED.value)
"""Outcomes that only an agent tells; its relay ejects the disc when it does."""

_PLAIN_REASONS = {State.DECLINED: "the user said no"}


def result_of(upgrade: Upgrade, log: bool = True) -> dict[str, Any]:
    """One upgrade as plain data, guest text made safe to show. ``duration_s`` is from selection to outcome, in seconds.

    :param log: whether to include what the installer printed.
    """
    result = upgrade.result
    log_tail = result.log_tail.splitlines()[-40:] if result and log else []
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
        "log_tail": [printable(line) for line in log_tail],
        "duration_s": round(upgrade.ended_at - upgrade.began_at, 1) if upgrade.final else 0.0,
        "late_outcome": printable(upgrade.late_result.outcome, 64) if upgrade.late_result else "",
    }


def summary_of(campaign: Campaign, every_log: bool = True) -> dict[str, Any]:
    """The whole campaign as plain data: what it is, the counts by state, and every upgrade.

    :param every_log: whether to include also what the installers printed whose upgrades went well.
    """
    opened = campaign.opened
    return {
        "campaign_id": campaign.campaign_id,
        "component": opened.component if opened else "",
        "target_version": opened.target_version if opened else "",
        "deadline": opened.deadline if opened else 0.0,
        "media_dir": posixpath.dirname(posixpath.dirname(opened.media_path)) if opened else "",
        "selected": len(campaign.upgrades),
        "finished": campaign.finished,
        "closed": campaign.closed,
        "problem": campaign.problem or ("" if campaign.sealed else _UNSEALED),
        "counts": campaign.counts(),
        "failures": campaign.failures if opened else 0,
        "results": [
            result_of(upgrade, every_log or upgrade.state.value not in _WELL)
            for upgrade in campaign.upgrades.values()
        ],
    }


def lines_of(summary: Mapping[str, Any]) -> list[str]:
    """The whole table of a campaign: its upgrades, and the counts as the last line."""
    return [*table(summary["results"]), *_notes(summary), sum_line(summary["counts"])]


def closing_lines(summary: Mapping[str, Any]) -> list[str]:
    """What is shown of a campaign at its end: the whole table, or of a large one what did not go well, and the counts as the last line."""
    results = summary["results"]
    if len(results) <= LISTED_MOST:
        return lines_of(summary)
    odd = [result for result in results if result["state"] not in _WELL]
    listed = odd[:LISTED_MOST]
    rest = f"{len(results) - len(listed)} more are not listed here, {len(odd) - len(listed)} of which did not succeed"
    everything = f"status.yml -e campaign_id={summary['campaign_id']} lists all"
    return [
        *(table(listed) if listed else []),
        f"{rest}: {everything}",
        *_notes(summary),
        sum_line(summary["counts"]),
    ]


def _notes(summary: Mapping[str, Any]) -> list[str]:
    late = sum(bool(result["late_outcome"]) for result in summary["results"])
    notes = [f"{late} of them reported another outcome later"] if late else []
    return [*notes, *([summary["problem"]] if summary["problem"] else [])]


def line(result: Mapping[str, Any]) -> str:
    """One upgrade on one line, for live output."""
    return " ".join(_cells(result)).rstrip()


def sum_line(counts: Mapping[str, int]) -> str:
    """``5 selected = 4 succeeded + 1 declined``."""
    parts = " + ".join(f"{count} {state}" for state, count in counts.items())
    return f"{sum(counts.values())} selected = {parts or '0'}"


def table(results: Iterable[Mapping[str, Any]]) -> list[str]:
    """The upgrades as a table of plain text lines, the header first."""
    return _aligned([_COLUMNS, *(_cells(result) for result in results)])


def campaign_table(campaigns: Iterable[Mapping[str, Any]], now: float) -> list[str]:
    """Campaigns, as `campaigns_of` lists them, as a table of plain text lines, the header first. ``now`` is in Unix seconds."""
    return _aligned([_CAMPAIGN_COLUMNS, *(_campaign_cells(campaign, now) for campaign in campaigns)])


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]


def _campaign_cells(campaign: Mapping[str, Any], now: float) -> Sequence[str]:
    state = "closed" if campaign["closed"] else "open" if campaign["deadline"] > now else "overdue"
    opened_at = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(campaign["opened_at"]))
    return (
        printable(campaign["campaign_id"], 64),
        printable(campaign["component"], 64),
        printable(campaign["target_version"], 64),
        state,
        opened_at,
        printable(campaign["opened_by"], 64) or "-",
        sum_line(campaign["counts"]) if campaign["closed"] else "-",
    )


def _cells(result: Mapping[str, Any]) -> Sequence[str]:
    before, after = result["version_before"], result["version_after"]
    versions = before if not after or after == before else f"{before or 'none'} -> {after}"
    late = f"later: {result['late_outcome']}" if result["late_outcome"] else ""
    stage = result["stage"]
    return (
        result["upgrade_id"],
        result["name"],
        result["node"],
        result["state"],
        versions or "-",
        f"{result['duration_s']:.1f} s" if result["final"] else "-",
        ": ".join(part for part in (_STAGES.get(stage, stage), _sentence(result["reason"]), late) if part),
    )


def discs_left(results: Sequence[Mapping[str, Any]], ejections: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Which VMs may still have the campaign's disc in their drive, a line for each reason.

    :param results: the campaign's upgrades, as `summary_of` gives them.
    :param ejections: by node that could be asked, what `cdrom_media` returned that ejected it from every domain that holds it.
    """
    skipped: dict[str, Mapping[str, Any]] = {}
    for one in (one for found in ejections.values() for one in found["results"]):
        if one["status"] == "skipped":
            skipped.setdefault(one["vm"], one)
    seen = {vm for found in ejections.values() for vm in found["domains"]}
    left: dict[str, list[str]] = {}
    for result in results:
        is_there = result["vm"] in seen
        reason = _left(result, skipped.get(result["vm"]), is_there, result["node"] in ejections)
        if reason:
            left.setdefault(reason, []).append(result["name"])
    selected = {result["vm"] for result in results}
    for vm, one in skipped.items():
        # Such as a copy of a VM, made with the disc.
        if vm not in selected and one["reason"] == "tray_locked":
            left.setdefault(_sentence(one["reason"]), []).append(printable(one["name"], 256))
    return [f"{_named(names)}: {reason}" for reason, names in left.items()]


def _left(
    result: Mapping[str, Any], skipped: Mapping[str, Any] | None, is_there: bool, is_node_asked: bool
) -> str:
    """Why the VM may have its disc. It may have moved, so every node counts: ``skipped`` is where ejecting failed, ``is_there`` whether one
    of those that were asked has the VM."""
    if result["state"] == State.TIMED_OUT.value:
        return "timed out, and may still use its disc"
    if skipped is not None:
        return _sentence(skipped["reason"])
    if is_there:
        return ""
    if not is_node_asked:
        return f"its node {result['node']} was not asked to eject"
    return "" if result["state"] in _TOLD else "it is on none of the nodes that were asked to eject"


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED_MOST} more" if len(names) > _NAMED_MOST else ""
    return ", ".join(names[:_NAMED_MOST]) + more


def _sentence(reason: str) -> str:
    """A reason, ``code`` or ``code: detail``, as the table tells it."""
    code, _colon, detail = reason.partition(": ")
    if code not in REASONS:
        return reason
    sentence, place = REASONS[code]
    if not detail or place is _Detail.NONE:
        return sentence
    return detail if place is _Detail.INSTEAD else f"{sentence}: {detail}"
