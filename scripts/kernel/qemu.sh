#!/usr/bin/env bash
# qemu.sh TREE OPTION...: the chroot's QEMU, with the chroot's view of files.
set -euo pipefail
# shellcheck source=scripts/kernel/common.sh
source "$(dirname "$0")/common.sh"
tree=$1
shift
in_chroot "$tree" qemu-system-x86_64 "$@"
