#!/usr/bin/env bash
# try-install.sh: installs vexfs.ko as a user would, by install.sh, without DKMS and with it, and loads it by modprobe.
#
# The machine that it is installed on is an overlay of tree.sh's chroot, whose kernel's build folder has Rust metadata and
# whose rustc built that kernel; QEMU boots that kernel with what lies in /lib/modules there. The chroot stays as it is.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=scripts/kernel/common.sh
source "$here/common.sh"

need_root
alone
tree=$("$here/tree.sh" | tail -n 1)
release=$(basename "$tree")
# An overlay of an overlay's files is not to be had: beside the chroot, not below /tmp.
work=$(mktemp -d "$cache/try.XXXXXX")
machine=$work/machine
bin=$root/target/bin
finish() {
  ! mountpoint -q "$machine" || umount "$machine"
  rm -rf "$work"
}
trap finish EXIT

lay_out_machine() {
  mkdir -p "$machine" "$work/upper" "$work/work"
  mount -t overlay overlay -o "lowerdir=$tree,upperdir=$work/upper,workdir=$work/work" "$machine"
  mkdir -p "$machine/source/scripts"
  cp -r "$root/kernel" "$root/vexfs_core" "$root/Cargo.toml" "$root/Cargo.lock" "$machine/source/"
  cp -r "$root/scripts/kernel" "$machine/source/scripts/"
  # The crates, which cargo would fetch.
  "$here/vendor.sh" "$machine/root/.cache/vexfs-kernel/source" >/dev/null
  ln -sfn /kernel/build "$machine/lib/modules/$release/build"
  cp -L /etc/resolv.conf "$machine/etc/resolv.conf"
}

# install LOG: runs install.sh on that machine.
install() {
  logged "$1" "install.sh fails" in_chroot "$machine" /source/scripts/kernel/install.sh "$release"
  tail -n 1 "$1"
}

# boot NAME: the kernel, with that machine's modules; vexfs.ko comes by modprobe, and mounts a volume.
boot() {
  local at=$work/initramfs log=$cache/try-$1.log path
  rm -rf "$at"
  mkdir -p "$at"/{bin,dev,proc,sys,mnt} "$at/lib/modules/$release"
  cp "$tree/usr/bin/busybox" "$at/bin/"
  cp "$machine/lib/modules/$release"/modules.{dep,alias,symbols,order,builtin} "$at/lib/modules/$release/"
  path=$(cd "$machine/lib/modules/$release" && find updates -name 'vexfs.ko*')
  mkdir -p "$at/lib/modules/$release/$(dirname "$path")"
  cp "$machine/lib/modules/$release/$path" "$at/lib/modules/$release/$path"
  # Debian packs modules; this busybox's modprobe takes plain ones.
  case $path in *.xz) xz -d "$at/lib/modules/$release/$path" && sed -i "s,$path,${path%.xz}," "$at/lib/modules/$release/modules.dep" ;; esac
  xz -dc "$tree/usr/lib/modules/$release/kernel/drivers/block/virtio_blk.ko.xz" >"$at/virtio_blk.ko"
  cat >"$at/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc && mount -t sysfs sys /sys && mount -t devtmpfs dev /dev
insmod /virtio_blk.ko
modprobe vexfs && mount -i -t vexfs /dev/vda /mnt && echo content >/mnt/file && [ "$(cat /mnt/file)" = content ] &&
  grep -q '^vexfs ' /proc/modules && umount /mnt && rmmod vexfs && echo "installed: it works"
poweroff -f
INIT
  chmod 755 "$at/init"
  mkdir -p "$machine/try"
  rm -f "$machine/try/image"
  "$bin/mkfs.vexfs" -q "$machine/try/image" 64M
  (cd "$at" && find .) >"$machine/try/names"
  unshare --mount --propagation private bash -c '
    mkdir -p "$2/try/initramfs"; mount --bind "$1" "$2/try/initramfs"
    chroot "$2" sh -c "cd /try/initramfs && cpio -o -H newc --quiet </try/names | gzip -1 >/try/initramfs.gz"' bind "$at" "$machine"
  timeout 600 "$here/qemu.sh" "$machine" -accel tcg -cpu max -m 768 -nodefaults -no-reboot -display none -serial stdio \
    -kernel "/usr/lib/modules/$release/vmlinuz" -initrd /try/initramfs.gz \
    -append "console=ttyS0 quiet oops=panic panic=-1 no_timer_check" \
    -drive file=/try/image,format=raw,if=virtio </dev/null >"$log" 2>&1 || fail "the guest does not boot ($log)"
  grep -q 'installed: it works' "$log" || { tail -n 20 "$log" >&2; fail "modprobe or mount fails ($log)"; }
  "$bin/fsck.vexfs" -n -f "$machine/try/image" >/dev/null || fail "fsck.vexfs finds damage"
  say "ok: $path, loaded by modprobe in $release, mounts, writes, unmounts and unloads"
}

[ -x "$bin/mkfs.vexfs" ] || fail "$bin/mkfs.vexfs is missing: run 'make build'"
lay_out_machine
install "$cache/try-plain-install.log"
boot plain
rm -rf "$machine/lib/modules/$release/updates"
logged "$cache/try-apt.log" "cannot fetch dkms (no network?)" in_chroot "$machine" sh -ec '
  apt-get update -q; DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends dkms'
install "$cache/try-dkms-install.log"
in_chroot "$machine" dkms status
boot dkms
