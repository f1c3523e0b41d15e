# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tasks of an upgrade that take time. Each runs in the worker's thread and returns the event that it ends with.

This module is imported with the first upgrade: an idle agent does without it, and all that it imports.
"""

from __future__ import annotations

from pathlib import Path
from typing import Callable

from . import component, detect, facts, installer, log, runner
from .config import Config
from .drive import Abandoned, Drive
from .events import Failure, Inspected, Installed, Prepared
from .manifest import Platform
from .memory import Upgrade, is_upgrade_id

IsAbandoned = Callable[[], bool]
"""Says whether nobody wants the task's work any more."""

_ABANDONED = Failure("prepare", "abandoned")


def inspect(config: Config, upgrade: Upgrade, abandoned: IsAbandoned) -> Inspected:
    """Find and check the disc, read the installed version, gather facts."""
    drive = Drive(config.media, config.mount_point)
    try:
        manifest = component.read_manifest(config, drive, upgrade.start.manifest_sha256, abandoned)
        platform = component.platform_of(manifest)
        component.check_space(config, manifest, _directory(config, upgrade.upgrade_id))
        version = detect.read_version(platform.detect)
        gathered = facts.gather(config.work_dir)
    except component.ComponentError as error:
        return Inspected(upgrade.upgrade_id, drive.unmounted, error.failure)
    except detect.DetectError as error:
        return Inspected(upgrade.upgrade_id, drive.unmounted, Failure("detect", error.code, error.detail))
    except OSError as error:
        return Inspected(upgrade.upgrade_id, drive.unmounted, Failure("media", "media_error", str(error)))
    except Abandoned:
        return Inspected(upgrade.upgrade_id, drive.unmounted, _ABANDONED)
    return Inspected(
        upgrade.upgrade_id, drive.unmounted, None, manifest.component, manifest.version, version, gathered
    )


def prepare(config: Config, upgrade: Upgrade, abandoned: IsAbandoned) -> Prepared:
    """Make the private copy and check it."""
    drive = Drive(config.media, config.mount_point)
    directory = _directory(config, upgrade.upgrade_id)
    failure: Failure | None = None
    try:
        component.copy(config, drive, upgrade.start.manifest_sha256, directory, abandoned)
    except component.ComponentError as error:
        failure = error.failure
    except Abandoned:
        failure = _ABANDONED
    return Prepared(upgrade.upgrade_id, drive.unmounted, failure)


def install(config: Config, upgrade: Upgrade) -> Installed:
    """Run the installer from the private copy, wait for it and read the version."""
    directory = _directory(config, upgrade.upgrade_id)
    try:
        manifest = component.copied_manifest(directory)
        platform = component.choose_platform(manifest, directory)
    except component.ComponentError as error:
        return Installed(upgrade.upgrade_id, None, failure=error.failure)
    except OSError as error:
        return Installed(upgrade.upgrade_id, None, failure=Failure("install", "not_started", str(error)))
    tree = str(directory / component.TREE)
    order = runner.Order(platform.install, tree, platform.timeout_s, manifest.component, manifest.version)
    try:
        child = installer.start(directory, _lock(config), order)
    except installer.InstallerError as error:
        return Installed(upgrade.upgrade_id, None, failure=Failure("install", error.code, error.detail))
    ended = _ended(config, upgrade, platform)
    child.wait()
    return ended


def settle(config: Config, upgrade: Upgrade) -> Installed:
    """After a restart of the agent: wait for an installer that still runs and read the version. Nothing is run."""
    directory = _directory(config, upgrade.upgrade_id)
    platform: Platform | None = None
    try:
        platform = component.chosen_platform(component.copied_manifest(directory), directory)
    except (component.ComponentError, OSError) as error:
        log.error(f"it is not known how to read the version of {upgrade.upgrade_id}: {error}")
    return _ended(config, upgrade, platform)


def clean(config: Config, keep: str, only_copies: bool = False) -> None:
    """Unmount, and remove the directories of all upgrades but the one with the ID ``keep``; or ``only_copies`` of discs in them.

    While an installer runs that nobody waits for (in a copy of another VM), everything stays. What cannot be removed now is
    tried again after the next upgrade.
    """
    Drive(config.media, config.mount_point).unmount()
    try:
        if not config.work_dir.is_dir() or installer.running(_lock(config)):
            return
        directories = [one for one in config.work_dir.iterdir() if is_upgrade_id(one.name)]
    except OSError as error:
        log.error(f"cannot clean {config.work_dir}: {error}")
        return
    for directory in directories:
        if directory.name == keep:
            continue
        try:
            component.remove(directory / component.TREE if only_copies else directory)
        except OSError as error:
            log.error(f"cannot remove {directory}: {error}")


def _ended(config: Config, upgrade: Upgrade, platform: Platform | None) -> Installed:
    directory = _directory(config, upgrade.upgrade_id)
    try:
        ending = installer.wait(directory, _lock(config))
    except OSError as error:
        return Installed(upgrade.upgrade_id, None, failure=Failure("install", "not_settled", str(error)))
    version, failure = None, None
    try:
        version = detect.read_version(platform.verify or platform.detect) if platform else None
    except detect.DetectError as error:
        failure = Failure("install", error.code, error.detail) if ending else None
    if ending is None:
        return Installed(upgrade.upgrade_id, version, log_tail=runner.log_tail(directory), failure=failure)
    return Installed(
        upgrade.upgrade_id,
        version,
        ending.exit_code,
        ending.timed_out,
        ending.duration_s,
        ending.log_tail,
        failure,
    )


def _directory(config: Config, upgrade_id: str) -> Path:
    return config.work_dir / upgrade_id


def _lock(config: Config) -> Path:
    return config.state_dir / installer.LOCK
