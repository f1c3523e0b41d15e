#!/bin/sh
# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# The installer of an emulated VM, in whose directory it is: makes $1 the installed version.
echo "$1" > "$(dirname "$0")/version"
