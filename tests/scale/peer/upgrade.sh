#!/bin/sh
# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# The whole upgrade of the emulated VM in the directory $1 to the version $2: compare, install, read back, report.
before=$(cat "$1/version")
[ "$before" = "$2" ] || sh "$1/install.sh" "$2"
after=$(cat "$1/version")
echo "$before -> $after"
[ "$after" = "$2" ]
