#!/usr/bin/env bash
# kernel.sh: builds vexfs.ko for Debian's stock kernel and tests it in a guest (`make kernel`).
#
# tree.sh makes the chroot with the kernel and its compilers, once; module.sh builds the module there; guest.sh boots
# it. All is kept under ${VEXFS_KERNEL_CACHE:-~/.cache/vexfs-kernel}, and nothing in the work tree is written.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)/kernel
# shellcheck source=scripts/kernel/common.sh
source "$here/common.sh"
need_root
alone
tree=$("$here/tree.sh" | tail -n 1)
"$here/module.sh" "$tree"
"$here/guest.sh" "$tree"
