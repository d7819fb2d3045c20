#!/bin/busybox sh
# The guest's init: loads the module, runs the tests, puts what FUSE is to see on the disk `results`, powers off.
#
# A line "ok NAME" or "FAILED NAME" a test, and "guest: N passed, M failed" at the end. A disk's serial number is its
# name; /parameters says how much to do.
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /results
. /parameters
echo 4 >/proc/sys/kernel/printk

passed=0
failed=0

# check NAME COMMAND...: the command succeeds.
check() {
  name=$1
  shift
  if [ -n "$only" ] && ! echo "$name" | grep -qE "load|$only"; then return; fi
  if "$@" >/tmp.log 2>&1; then
    passed=$((passed + 1))
    grep '^exercise' /tmp.log
    echo "ok $name"
  else
    failed=$((failed + 1))
    echo "FAILED $name: $*"
    sed 's/^/# /' /tmp.log | tail -n 20
  fi
}

refused() { ! "$@"; }

disk() {
  name=$(grep -lx "$1" /sys/block/*/serial)
  name=${name#/sys/block/}
  echo "/dev/${name%/serial}"
}

# The kernel shows an image as FUSE did.
same() {
  vexfs-guest manifest /mnt >/seen || return 1
  cmp /seen "/expected/$1" && return
  diff /seen "/expected/$1" | head -n 12
  return 1
}

tell() { vexfs-guest manifest /mnt >"/results/$1"; }

on() {
  options=$1
  image=$2
  shift 2
  case $image in /*) place=$image ;; *) place=$(disk "$image") ;; esac
  mount -i -t vexfs -o "$options" "$place" /mnt || return 1
  "$@"
  status=$?
  umount /mnt || return 1
  return $status
}

for module in virtio_blk vexfs; do
  # A kernel may have it built in.
  [ ! -e "/modules/$module.ko" ] || check "load $module" insmod "/modules/$module.ko"
done

for image in golden-v1-4k golden-v1-journal-4k made-by-fuse; do
  check "read $image as FUSE does" on ro "$image" same "$image"
  # Without a commit by time: it would blank the rows that FUSE left freed, which a reader can see.
  check "read $image again, read-write" on rw,commit=3600 "$image" same "$image"
done
# Nearness is reckoned without floats here, and gives what FUSE reckons with them.
answers() {
  vexfs-guest ask /mnt >/answered || return 1
  echo "exercise answers: $(grep -c '^[^ ]' /answered) questions"
  cmp /answered "/answers/$1" && return
  diff /answered "/answers/$1" | head -n 12
  return 1
}
for image in golden-v1-4k made-by-fuse sample-by-fuse; do
  check "answer as FUSE does in $image" on rw,commit=3600 "$image" answers "$image"
done
check "read the sample that FUSE wrote" on ro sample-by-fuse vexfs-guest loaded /sample.npy /mnt
check "write the sample" on noatime sample-by-kernel vexfs-guest load /sample.npy /mnt
check "read it back" on ro sample-by-kernel vexfs-guest loaded /sample.npy /mnt
ask_and_tell() { vexfs-guest ask /mnt >"/results/$1.answers"; }
check "answer in what the kernel wrote" on rw sample-by-kernel ask_and_tell sample-by-kernel
check "refuse blocks of 8 KiB" refused on ro golden-v1-8k true
check "refuse a disk that is not ours" refused on ro not-ours true
check "refuse an unknown option" refused on bogus=1 made-by-fuse true
listed() { ls -a /mnt | grep -qx .vexfs; }
check "list the control directory with ctldir" on ro,ctldir made-by-fuse listed
check "hide it without" on ro made-by-fuse refused listed
statfs() { [ "$(stat -f -c '%t %s' /mnt)" = "56454354 4096" ]; }
check "statfs" on ro made-by-fuse statfs
written() { echo x >/mnt/new; }
check "refuse writing on a read-only mount" on ro made-by-fuse refused written

check "populate" on noatime made-by-kernel vexfs-guest populate /mnt
check "exercise" on rw made-by-kernel vexfs-guest exercise /mnt
check "answer in what the kernel made" on rw made-by-kernel ask_and_tell made-by-kernel
check "exercise what FUSE made" on rw made-by-fuse vexfs-guest exercise /mnt
check "tell what the kernel made" on ro made-by-kernel tell made-by-kernel
check "tell what both made" on ro made-by-fuse tell made-by-fuse
check "tell the sample" on ro sample-by-kernel tell sample-by-kernel

full() {
  dd if=/dev/zero of=/mnt/big bs=1M 2>/dev/null && return 1
  size=$(stat -c %s /mnt/big)
  sync
  [ "$size" -gt 8000000 ] && [ "$(wc -c </mnt/big)" = "$size" ] || return 1
  rm /mnt/big && sync
  dd if=/dev/zero of=/mnt/again bs=1M count=8 2>/dev/null && sync
}
check "fill the volume, and free it" on rw small full
remounted() {
  mount -i -o remount,ro /mnt || return 1
  if echo x 2>/dev/null >/mnt/refused; then return 1; fi
  mount -i -o remount,rw /mnt && echo x >/mnt/taken
}
check "remount" on rw small remounted
# While it is frozen a writer waits, and then goes on.
frozen() {
  fsfreeze --freeze /mnt || return 1
  (echo thawed >/mnt/frozen) &
  sleep 1
  if [ -e /mnt/frozen ]; then early=1; else early=0; fi
  fsfreeze --unfreeze /mnt && wait $! && [ $early = 0 ] && [ "$(cat /mnt/frozen)" = thawed ]
}
check "freeze and thaw" on rw small frozen
busy() { exec 9</mnt/taken; ! umount /mnt; status=$?; exec 9<&-; return $status; }
check "an open file keeps the mount" on rw small busy
check "tell the small one" on ro small tell small

# Four at a time, with vectors for the same collections, and commits meanwhile.
parallel() {
  processes=
  for number in 1 2 3 4; do
    mkdir "/mnt/$number"
    vexfs-guest populate "/mnt/$number" &
    processes="$processes $!"
  done
  for process in $processes; do wait "$process" || return 1; done
}
check "populate four trees at a time" on rw,commit=1 parallel parallel
check "tell them" on ro parallel tell parallel

# Two workers on a disk that is recorded, told behind the volume; dirty bytes do not wait long.
recorded_run() {
  device=$(disk recorded)
  vexfs-guest partition "$device" 1 0 "$recorded" || return 1
  vexfs-guest partition "$device" 2 "$recorded" $((8 << 20)) || return 1
  echo 30 >/proc/sys/vm/dirty_expire_centisecs
  echo 20 >/proc/sys/vm/dirty_writeback_centisecs
  on rw,commit=1,discard "${device}1" vexfs-guest workload /mnt "${device}2" 2 "$acts" 1
  status=$?
  echo 3000 >/proc/sys/vm/dirty_expire_centisecs
  echo 500 >/proc/sys/vm/dirty_writeback_centisecs
  vexfs-guest partition "$device" 1 0 0 && vexfs-guest partition "$device" 2 0 0 && return $status
}
check "change a recorded disk" recorded_run

check "write until the disk fails" on rw failing vexfs-guest failing /mnt /count
check "what was synced before is whole" on ro failing vexfs-guest failed /mnt /count
check "shut down" on rw shutdown vexfs-guest shutdown /mnt /count
check "what was synced before is whole, too" on rw shutdown vexfs-guest failed /mnt /count

stressed() {
  vexfs-guest stress /mnt 8 "$stress_seconds" 1
}
check "eight processes against the model" on rw,commit=1 stress stressed
check "tell what they left" on ro stress tell stress
check "damaged images" vexfs-guest damaged "$(disk damaged)" /damaged.index /mnt 300

beside_ext4() {
  mount -t ext4 "$(disk ext4)" /other || return 1
  vexfs-guest bench /mnt /other
  status=$?
  umount /other && return $status
}
[ "$bench" = 0 ] || check "speed beside ext4" on rw suites beside_ext4

# pjdfstest_run CONFIGURATION PATTERN SKIPS: the suite; what it skips must match SKIPS.
pjdfstest_run() {
  mount -t tmpfs tmpfs /other
  NO_COLOR=1 RUST_BACKTRACE=0 pjdfstest -c "$1" -p /mnt -s /other "$2" >/pjdfstest.log 2>&1
  status=$?
  umount /other
  skipped=$(awk '$2 == "skipped" { print $1 }' /pjdfstest.log)
  more=$(echo "$skipped" | grep -vE "$3")
  echo "exercise pjdfstest $2: $(grep -c ' ok$' /pjdfstest.log) passed, $(echo "$skipped" | grep -c .) skipped"
  [ $status = 0 ] || grep -A 4 -E 'FAILED|^Error|panicked' /pjdfstest.log | head -n 60
  [ -z "$more" ] || echo "skipped without a reason: $more"
  [ $status = 0 ] && [ -z "$more" ]
}
chmod 755 /mnt
check "pjdfstest" on rw suites pjdfstest_run /pjdfstest.toml :: \
  '::erofs_|^link::link_count_max$|^$'
check "pjdfstest of read-only filesystems" on rw suites pjdfstest_run /pjdfstest-remount.toml ::erofs_ '^$'
fsx_run() {
  fsx -q -f /fsx.toml -S "$1" -N 10000 -P /tmp /mnt/fsx >/fsx.log 2>&1 && echo "exercise fsx: 10000 operations, seed $1" && return
  tail -n 20 /fsx.log
  return 1
}
check "fsx" on rw suites fsx_run 1
check "tell what the suites left" on ro suites tell suites

check "unload" rmmod vexfs
check "load it again" insmod /modules/vexfs.ko
check "mount after that" on ro made-by-fuse true
check "unload again" rmmod vexfs

tar -C /results -cf "$(disk results)" .
sync
dmesg | grep -E '] vexfs \(|BUG|WARN' | tail -n 12 | sed 's/^/# /'
echo "guest: $passed passed, $failed failed"
poweroff -f
