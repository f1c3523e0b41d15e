#!/bin/sh
# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Turn a fresh Debian tree ($1) into the template of all nodes: nothing in it may be the same on two nodes,
# and what the project's roles are to start must not run by itself.
set -eu
root=$1

for unit in rabbitmq-server.service libvirt-guests.service; do
    chroot "$root" systemctl --quiet disable "$unit"
done
# Timers and consoles that have no work in a namespace.
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer \
    logrotate.timer console-getty.service; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done

: > "$root/etc/machine-id"
: > "$root/etc/fstab"
# Nodes have no way out: without sources an `apt-get update` succeeds and does nothing.
: > "$root/etc/apt/sources.list"
rm -f "$root"/etc/apt/sources.list.d/* "$root"/etc/ssh/ssh_host_* "$root/var/lib/rabbitmq/.erlang.cookie"
rm -rf "$root"/var/lib/rabbitmq/mnesia/* "$root"/var/log/rabbitmq/*
