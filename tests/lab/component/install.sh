#!/bin/sh
# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Install the demo component guest-tools, version $ISOLIFT_VERSION, below $GUEST_TOOLS_ROOT (default: /).
set -eu

: "${ISOLIFT_VERSION:?the version to install}"
source=$(dirname "$0")
files=${GUEST_TOOLS_ROOT:-}/opt/guest-tools
state=${GUEST_TOOLS_ROOT:-}/var/lib/guest-tools

# Counted before anything else, and kept whatever comes: an installation that is cut short was one, too.
mkdir -p "$state"
printf '%s\n' "$ISOLIFT_VERSION" >> "$state/begun"
sync

if [ -e "$state/fail-install" ]; then
    echo "guest-tools: $state/fail-install is there, so this installation fails" >&2
    exit 1
fi

# An installer takes its time: here for as long as somebody wants it to.
while [ -e "$state/hold-install" ]; do
    sleep 0.2
done

# Each file appears whole, and the version last: it says that all of them are there.
mkdir -p "$files"
cp "$source/guest-tools.txt" "$files/guest-tools.txt.new"
mv "$files/guest-tools.txt.new" "$files/guest-tools.txt"
printf '%s\n' "$ISOLIFT_VERSION" > "$state/version.new"
sync
mv "$state/version.new" "$state/version"
printf '%s\n' "$ISOLIFT_VERSION" >> "$state/installs"
echo "guest-tools $ISOLIFT_VERSION installed"
