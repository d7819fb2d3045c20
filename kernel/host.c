// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * host.c: what the Rust side asks of the kernel: the device, locks, memory, the clock, the log.
 *
 * The device is read and written by requests of its own, past its page cache: bytes of files and rows are read
 * straight into their folios, and no block is cached twice.
 */
#include <linux/blkdev.h>
#include <linux/cred.h>
#include <linux/pagemap.h>
#include <linux/rwsem.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uidgid.h>
#include <linux/vmalloc.h>

#include "vexfs.h"

/* Bytes that go through a buffer of our own at a time. */
#define BOUNCE (16 << 10)
/* Bytes of one request. */
#define REQUEST (1 << 20)

static struct block_device *device_of(void *host)
{
	return ((struct vexfs_super *)host)->sb->s_bdev;
}

/* Bytes at `data` that a request can take as they lie there; 0 if none. */
static size_t direct(struct block_device *device, u64 offset, const void *data, size_t len)
{
	size_t sector = bdev_logical_block_size(device);

	if (is_vmalloc_addr(data) || !virt_addr_valid(data) || offset % sector ||
	    (unsigned long)data & bdev_dma_alignment(device))
		return 0;
	return min_t(size_t, len, REQUEST) / sector * sector;
}

/*
 * Whole sectors through a buffer: what is not aligned, and what lies in vmalloc's memory. The rest of a sector that is
 * written in part is read first; who writes such a part holds the volume, or is the file's only writer.
 */
static ssize_t bounced(struct block_device *device, u64 offset, void *data, size_t len, bool writing, void *buffer)
{
	size_t sector = bdev_logical_block_size(device), skip = offset % sector;
	size_t step = min_t(size_t, len, BOUNCE - skip), span = round_up(skip + step, sector);
	u64 start = offset - skip;
	int error = 0;

	if (!writing || skip || span != skip + step)
		error = bdev_rw_virt(device, start >> SECTOR_SHIFT, buffer, span, REQ_OP_READ);
	if (error)
		return error;
	if (!writing) {
		memcpy(data, buffer + skip, step);
		return step;
	}
	memcpy(buffer + skip, data, step);
	error = bdev_rw_virt(device, start >> SECTOR_SHIFT, buffer, span, REQ_OP_WRITE | REQ_SYNC);
	return error ? error : step;
}

static int transfer(void *host, u64 offset, void *data, size_t len, bool writing)
{
	struct block_device *device = device_of(host);
	void *buffer = NULL;
	int error = 0;

	if (offset > bdev_nr_bytes(device) || len > bdev_nr_bytes(device) - offset)
		return -EIO;
	while (len && !error) {
		ssize_t step = direct(device, offset, data, len);

		if (step) {
			error = bdev_rw_virt(device, offset >> SECTOR_SHIFT, data, step,
					     writing ? REQ_OP_WRITE | REQ_SYNC : REQ_OP_READ);
		} else {
			if (!buffer)
				buffer = kmalloc(BOUNCE, GFP_NOFS);
			step = buffer ? bounced(device, offset, data, len, writing, buffer) : -ENOMEM;
			if (step < 0)
				error = step;
		}
		if (!error) {
			offset += step;
			data += step;
			len -= step;
		}
	}
	kfree(buffer);
	return error;
}

int vexfs_host_read(void *host, u64 offset, void *buffer, size_t len)
{
	return transfer(host, offset, buffer, len, false);
}

int vexfs_host_write(void *host, u64 offset, const void *bytes, size_t len)
{
	return transfer(host, offset, (void *)bytes, len, true);
}

int vexfs_host_zero(void *host, u64 offset, u64 len)
{
	int error = 0;

	while (len && !error) {
		size_t step = min_t(u64, len, PAGE_SIZE);

		error = transfer(host, offset, page_address(ZERO_PAGE(0)), step, true);
		offset += step;
		len -= step;
	}
	return error;
}

int vexfs_host_flush(void *host)
{
	return blkdev_issue_flush(device_of(host));
}

int vexfs_host_discard(void *host, u64 offset, u64 len)
{
	return blkdev_issue_discard(device_of(host), offset >> SECTOR_SHIFT, len >> SECTOR_SHIFT, GFP_NOFS);
}

void vexfs_host_now(s64 *seconds, u32 *nanoseconds)
{
	struct timespec64 now;

	ktime_get_coarse_real_ts64(&now);
	*seconds = now.tv_sec;
	*nanoseconds = now.tv_nsec;
}

void vexfs_host_log(void *host, int level, const char *text, size_t len)
{
	const char *id = ((struct vexfs_super *)host)->sb->s_id;

	if (level <= LOGLEVEL_ERR)
		pr_err("vexfs (%s): %.*s\n", id, (int)len, text);
	else
		pr_notice_ratelimited("vexfs (%s): %.*s\n", id, (int)len, text);
}

/* A pseudo-file changed: its size, and `len` bytes that the page cache and mappings may have. */
void vexfs_host_changed(void *host, u64 ino, u64 offset, u64 len)
{
	struct inode *inode = ilookup(((struct vexfs_super *)host)->sb, ino);

	if (!inode)
		return;
	vexfs_refresh(inode);
	if (len)
		invalidate_inode_pages2_range(inode->i_mapping, offset >> PAGE_SHIFT,
					      (offset + len - 1) >> PAGE_SHIFT);
	iput(inode);
}

/*
 * A file's name means another inode from now on, as after a recode: whoever looks it up finds that one. True while somebody
 * has the old one open or mapped, which holds its dentry and with it the inode.
 */
bool vexfs_host_retire(void *host, u64 ino)
{
	struct inode *inode = ilookup(((struct vexfs_super *)host)->sb, ino);
	struct dentry *dentry;
	bool used;

	if (!inode)
		return false;
	while ((dentry = d_find_alias(inode))) {
		d_drop(dentry);
		dput(dentry);
	}
	/* One is the reference that was just taken. */
	used = icount_read_once(inode) > 1;
	iput(inode);
	return used;
}

void vexfs_host_failed(void *host)
{
	((struct vexfs_super *)host)->sb->s_flags |= SB_RDONLY;
}

bool vexfs_host_in_group(u32 group)
{
	return in_group_p(make_kgid(&init_user_ns, group));
}

bool vexfs_host_abandoned(void)
{
	cond_resched();
	return fatal_signal_pending(current);
}

u32 vexfs_host_nofs_save(void)
{
	return memalloc_nofs_save();
}

void vexfs_host_nofs_restore(u32 flags)
{
	memalloc_nofs_restore(flags);
}

/* As many as src/host.rs has classes: lockdep tells them apart. */
static struct lock_class_key classes[8];
static const char *const class_names[] = { "vexfs_exchange", "vexfs_telling", "vexfs_committing", "vexfs_moving",
					   "vexfs_volume",   "vexfs_cache",   "vexfs_log",        "vexfs_told" };

void *vexfs_lock_new(u32 class)
{
	struct rw_semaphore *lock = kmalloc(sizeof(*lock), GFP_KERNEL);

	if (lock)
		__init_rwsem(lock, class_names[class], &classes[class]);
	return lock;
}

void vexfs_lock_free(void *lock)
{
	kfree(lock);
}

void vexfs_lock_read(void *lock)
{
	down_read(lock);
}

void vexfs_unlock_read(void *lock)
{
	up_read(lock);
}

void vexfs_lock_write(void *lock)
{
	down_write(lock);
}

void vexfs_unlock_write(void *lock)
{
	up_write(lock);
}

void *vexfs_kvmalloc(size_t size)
{
	return kvmalloc(size, GFP_KERNEL | __GFP_NOWARN);
}

void *vexfs_kvrealloc(void *memory, size_t size)
{
	return kvrealloc(memory, size, GFP_KERNEL | __GFP_NOWARN);
}

void vexfs_kvfree(void *memory)
{
	kvfree(memory);
}
