// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * file.c: the bytes of files, through the page cache.
 *
 * iomap keeps the state of folios; where their bytes lie is for the volume to know, so every range is "mapped", as it
 * is for a network filesystem: reads ask the volume, writeback hands it folios in a row. Blocks are allocated when they
 * are written back, and linked after that.
 */
#include <linux/backing-dev.h>
#include <linux/falloc.h>
#include <linux/iomap.h>
#include <linux/pagemap.h>
#include <linux/slab.h>
#include <linux/splice.h>
#include <linux/writeback.h>

#include "vexfs.h"

/* Folios that are written back at once. */
#define PARTS 64
#define PART_BYTES (1 << 20)
/* Blocks that writers leave for the tree. */
#define ROOM 64

static int begin(struct inode *inode, loff_t offset, loff_t length, unsigned int flags, struct iomap *iomap,
		 struct iomap *source)
{
	iomap->type = IOMAP_MAPPED;
	iomap->offset = offset;
	iomap->length = length;
	return 0;
}

static const struct iomap_ops mapping_ops = { .iomap_begin = begin };

/* ---- reading */

static int read_range(struct inode *inode, struct folio *folio, loff_t pos, size_t len)
{
	struct vexfs_buffer buffer = { folio_address(folio) + offset_in_folio(folio, pos), len };
	ssize_t count = vexfs_read(vexfs_of(inode), inode->i_ino, pos, buffer);

	if (count < 0)
		return count;
	memset(buffer.data + count, 0, len - count);
	return 0;
}

static int read_folio_range(const struct iomap_iter *iter, struct iomap_read_folio_ctx *context, size_t len)
{
	struct folio *folio = context->cur_folio;
	int error = read_range(iter->inode, folio, iter->pos, len);

	if (!error)
		iomap_finish_folio_read(folio, offset_in_folio(folio, iter->pos), len, 0);
	return error;
}

static const struct iomap_read_ops read_ops = { .read_folio_range = read_folio_range };

static int vexfs_read_folio(struct file *file, struct folio *folio)
{
	struct iomap_read_folio_ctx context = { .cur_folio = folio, .ops = &read_ops };

	iomap_read_folio(&mapping_ops, &context, NULL);
	return 0;
}

static void vexfs_readahead(struct readahead_control *control)
{
	struct iomap_read_folio_ctx context = { .rac = control, .ops = &read_ops };

	iomap_readahead(&mapping_ops, &context, NULL);
}

/* Direct reads are served from the page cache, whatever their alignment. */
static ssize_t vexfs_read_iter(struct kiocb *iocb, struct iov_iter *to)
{
	iocb->ki_flags &= ~IOCB_DIRECT;
	return generic_file_read_iter(iocb, to);
}

/* ---- writing back */

struct batch {
	u64 offset;
	size_t len;
	unsigned int count;
	struct {
		struct folio *folio;
		size_t len;
	} folios[PARTS];
	struct vexfs_bytes parts[PARTS];
};

static void write_batch(struct inode *inode, struct batch *batch, int error)
{
	struct vexfs_times times = vexfs_times(inode);

	if (!batch->count)
		return;
	if (!error) {
		mutex_lock(&vexfs_inode(inode)->writing);
		error = vexfs_write_back(vexfs_of(inode), inode->i_ino, batch->offset, batch->parts, batch->count,
					 &times);
		mutex_unlock(&vexfs_inode(inode)->writing);
	}
	if (error)
		mapping_set_error(inode->i_mapping, error);
	for (unsigned int at = 0; at < batch->count; at++)
		iomap_finish_folio_write(inode, batch->folios[at].folio, batch->folios[at].len);
	batch->count = 0;
	batch->len = 0;
}

static ssize_t writeback_range(struct iomap_writepage_ctx *context, struct folio *folio, u64 pos, unsigned int len,
			       u64 end)
{
	struct batch *batch = context->wb_ctx;
	size_t bytes = min_t(u64, len, end - pos);
	unsigned int at;

	if (batch->count == PARTS || batch->len >= PART_BYTES ||
	    (batch->count && batch->offset + batch->len != pos))
		write_batch(context->inode, batch, 0);
	if (!batch->count)
		batch->offset = pos;
	at = batch->count++;
	batch->folios[at].folio = folio;
	batch->folios[at].len = len;
	batch->parts[at] = (struct vexfs_bytes){ folio_address(folio) + offset_in_folio(folio, pos), bytes };
	batch->len += bytes;
	return len;
}

static int writeback_submit(struct iomap_writepage_ctx *context, int error)
{
	write_batch(context->inode, context->wb_ctx, error);
	return error;
}

static const struct iomap_writeback_ops writeback_ops = {
	.writeback_range = writeback_range,
	.writeback_submit = writeback_submit,
};

static int vexfs_writepages(struct address_space *mapping, struct writeback_control *control)
{
	struct batch *batch = kzalloc(sizeof(*batch), GFP_NOFS | __GFP_NOFAIL);
	struct iomap_writepage_ctx context = {
		.inode = mapping->host,
		.iomap.type = IOMAP_MAPPED,
		.wbc = control,
		.ops = &writeback_ops,
		.wb_ctx = batch,
	};
	int error = iomap_writepages(&context);

	vexfs_refresh(mapping->host);
	kfree(batch);
	return error;
}

/* ---- writing */

static int write_read_range(const struct iomap_iter *iter, struct folio *folio, loff_t pos, size_t len)
{
	return read_range(iter->inode, folio, pos, len);
}

static const struct iomap_write_ops write_ops = { .read_folio_range = write_read_range };

/* Blocks for new data, after all that is dirty now got its own. */
static s64 blocks_left(struct super_block *sb)
{
	struct vexfs_statistics numbers;
	struct bdi_writeback *wb = &sb->s_bdi->wb;

	vexfs_statistics(vexfs_super(sb)->mount, &numbers);
	return (s64)numbers.available - wb_stat_sum(wb, WB_RECLAIMABLE) - wb_stat_sum(wb, WB_WRITEBACK) - ROOM;
}

/*
 * Bytes of `len` that there is room for. Blocks are allocated when they are written back, so a nearly full volume is
 * written back first: only then it is known what is left.
 */
static ssize_t room_for(struct inode *inode, size_t len)
{
	struct super_block *sb = inode->i_sb;
	s64 wanted = DIV_ROUND_UP(len, PAGE_SIZE) + 1, left = blocks_left(sb);

	if (left >= wanted)
		return len;
	if (down_read_trylock(&sb->s_umount)) {
		sync_inodes_sb(sb);
		up_read(&sb->s_umount);
	}
	vexfs_commit(vexfs_super(sb)->mount);
	left = blocks_left(sb);
	if (left < 2)
		return -ENOSPC;
	return min_t(s64, len, (left - 1) * PAGE_SIZE);
}

/* What lies behind the end in its folio becomes part of the file: a mapping may have written there. */
void vexfs_zero_tail(struct inode *inode, loff_t from, loff_t to)
{
	struct folio *folio;
	size_t offset;

	if (!(from % PAGE_SIZE))
		return;
	folio = filemap_lock_folio(inode->i_mapping, from >> PAGE_SHIFT);
	if (IS_ERR(folio))
		return;
	offset = offset_in_folio(folio, from);
	folio_wait_writeback(folio);
	folio_zero_range(folio, offset, min_t(u64, folio_size(folio) - offset, to - from));
	folio_unlock(folio);
	folio_put(folio);
}

static ssize_t write_checked(struct kiocb *iocb, struct iov_iter *from)
{
	struct inode *inode = file_inode(iocb->ki_filp);
	bool direct = iocb->ki_flags & IOCB_DIRECT;
	ssize_t count = generic_write_checks(iocb, from);
	loff_t start = iocb->ki_pos, size = i_size_read(inode);
	int error;

	if (count <= 0)
		return count;
	error = file_modified(iocb->ki_filp);
	if (error)
		return error;
	count = room_for(inode, count);
	if (count < 0)
		return count;
	iov_iter_truncate(from, count);
	if (start > size)
		vexfs_zero_tail(inode, size, start);
	iocb->ki_flags &= ~IOCB_DIRECT;
	count = iomap_file_buffered_write(iocb, from, &mapping_ops, &write_ops, NULL);
	/* A direct write has reached the device when it returns. */
	if (direct && count > 0) {
		error = filemap_write_and_wait_range(inode->i_mapping, start, start + count - 1);
		if (error)
			count = error;
	}
	return count;
}

static ssize_t vexfs_write_iter(struct kiocb *iocb, struct iov_iter *from)
{
	struct inode *inode = file_inode(iocb->ki_filp);
	ssize_t count;

	inode_lock(inode);
	count = write_checked(iocb, from);
	inode_unlock(inode);
	return count > 0 ? generic_write_sync(iocb, count) : count;
}

static vm_fault_t vexfs_page_mkwrite(struct vm_fault *fault)
{
	struct inode *inode = file_inode(fault->vma->vm_file);
	vm_fault_t result;

	sb_start_pagefault(inode->i_sb);
	file_update_time(fault->vma->vm_file);
	filemap_invalidate_lock_shared(inode->i_mapping);
	if (blocks_left(inode->i_sb) > 1)
		result = iomap_page_mkwrite(fault, &mapping_ops, NULL);
	else
		result = VM_FAULT_SIGBUS;
	filemap_invalidate_unlock_shared(inode->i_mapping);
	sb_end_pagefault(inode->i_sb);
	return result;
}

static const struct vm_operations_struct mapped = {
	.fault = filemap_fault,
	.map_pages = filemap_map_pages,
	.page_mkwrite = vexfs_page_mkwrite,
};

static int vexfs_mmap_prepare(struct vm_area_desc *area)
{
	file_accessed(area->file);
	area->vm_ops = &mapped;
	return 0;
}

/* ---- where the bytes lie */

static int tell_begin(struct inode *inode, loff_t offset, loff_t length, unsigned int flags, struct iomap *iomap,
		      struct iomap *source)
{
	static const u16 types[] = { IOMAP_HOLE, IOMAP_INLINE, IOMAP_MAPPED, IOMAP_UNWRITTEN };
	struct vexfs_extent extent;
	int error = vexfs_extent_at(vexfs_of(inode), inode->i_ino, offset, &extent);

	if (error)
		return error;
	iomap->offset = extent.offset;
	iomap->length = min_t(u64, extent.len, OFFSET_MAX - extent.offset);
	iomap->type = types[extent.kind];
	iomap->addr = extent.kind == VEXFS_DATA || extent.kind == VEXFS_UNWRITTEN ? extent.device : IOMAP_NULL_ADDR;
	return 0;
}

static const struct iomap_ops telling_ops = { .iomap_begin = tell_begin };

static int vexfs_fiemap(struct inode *inode, struct fiemap_extent_info *info, u64 start, u64 len)
{
	int error;

	inode_lock_shared(inode);
	/* Only what is written back has a place. */
	error = filemap_write_and_wait(inode->i_mapping);
	if (!error)
		error = iomap_fiemap(inode, info, start, len, &telling_ops);
	inode_unlock_shared(inode);
	return error;
}

/* ---- the rest */

static int vexfs_open(struct inode *inode, struct file *file)
{
	file->f_mode |= FMODE_CAN_ODIRECT;
	return generic_file_open(inode, file);
}

/*
 * The last who could write it closes a new file: vectors that were set while it was empty are of what it holds now, all
 * of which the volume must know first.
 */
static int vexfs_release_file(struct inode *inode, struct file *file)
{
	if (!(file->f_mode & FMODE_WRITE) || atomic_read(&inode->i_writecount) != 1 ||
	    !vexfs_awaits_content(vexfs_of(inode), inode->i_ino))
		return 0;
	/* Whoever froze the volume meanwhile is waited for. */
	sb_start_intwrite(inode->i_sb);
	if (!filemap_write_and_wait(inode->i_mapping))
		vexfs_bind_content(vexfs_of(inode), inode->i_ino);
	sb_end_intwrite(inode->i_sb);
	return 0;
}

int vexfs_fsync(struct file *file, loff_t start, loff_t end, int datasync)
{
	struct inode *inode = file_inode(file);
	int error = file_write_and_wait_range(file, start, end);

	if (!error)
		error = sync_inode_metadata(inode, 0);
	return error ? error : vexfs_sync(vexfs_of(inode));
}

static loff_t vexfs_llseek(struct file *file, loff_t offset, int whence)
{
	struct inode *inode = file_inode(file);
	loff_t found;
	int error;

	if (whence != SEEK_HOLE && whence != SEEK_DATA)
		return generic_file_llseek(file, offset, whence);
	if (offset < 0 || offset >= i_size_read(inode))
		return -ENXIO;
	inode_lock_shared(inode);
	error = filemap_write_and_wait(inode->i_mapping);
	found = error ? error : vexfs_seek(vexfs_of(inode), inode->i_ino, offset, whence == SEEK_HOLE);
	inode_unlock_shared(inode);
	return found < 0 ? found : vfs_setpos(file, found, inode->i_sb->s_maxbytes);
}

static int allocate(struct file *file, int mode, loff_t offset, loff_t len)
{
	struct inode *inode = file_inode(file);
	struct vexfs_attributes now;
	loff_t size = i_size_read(inode);
	int error = inode_newsize_ok(inode, mode & FALLOC_FL_KEEP_SIZE ? size : max(size, offset + len));

	if (!error)
		error = file_modified(file);
	/* The volume must know the size, and its blocks all that the page cache has. */
	if (!error)
		error = filemap_write_and_wait(inode->i_mapping);
	if (error)
		return error;
	if (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
		truncate_pagecache_range(inode, offset, offset + len - 1);
	if (!(mode & FALLOC_FL_KEEP_SIZE) && offset + len > size)
		vexfs_zero_tail(inode, size, offset + len);
	mutex_lock(&vexfs_inode(inode)->writing);
	error = vexfs_allocate(vexfs_of(inode), inode->i_ino, mode, offset, len);
	if (!error)
		error = vexfs_attributes(vexfs_of(inode), inode->i_ino, &now);
	mutex_unlock(&vexfs_inode(inode)->writing);
	if (error)
		return error;
	if (now.size > size)
		i_size_write(inode, now.size);
	vexfs_show(inode, &now);
	return 0;
}

long vexfs_fallocate(struct file *file, int mode, loff_t offset, loff_t len)
{
	struct inode *inode = file_inode(file);
	int error;

	if (!S_ISREG(inode->i_mode) ||
	    mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
		return -EOPNOTSUPP;
	inode_lock(inode);
	filemap_invalidate_lock(inode->i_mapping);
	error = allocate(file, mode, offset, len);
	filemap_invalidate_unlock(inode->i_mapping);
	inode_unlock(inode);
	return error;
}

const struct address_space_operations vexfs_pages = {
	.read_folio = vexfs_read_folio,
	.readahead = vexfs_readahead,
	.writepages = vexfs_writepages,
	.dirty_folio = iomap_dirty_folio,
	.release_folio = iomap_release_folio,
	.invalidate_folio = iomap_invalidate_folio,
	.is_partially_uptodate = iomap_is_partially_uptodate,
	.migrate_folio = filemap_migrate_folio,
};

const struct inode_operations vexfs_file_inode = {
	.getattr = vexfs_getattr,
	.setattr = vexfs_setattr,
	.listxattr = vexfs_listxattr,
	.fiemap = vexfs_fiemap,
	.get_inode_acl = vexfs_get_acl,
	.set_acl = vexfs_set_acl,
};

const struct file_operations vexfs_file = {
	.llseek = vexfs_llseek,
	.read_iter = vexfs_read_iter,
	.write_iter = vexfs_write_iter,
	.mmap_prepare = vexfs_mmap_prepare,
	.open = vexfs_open,
	.release = vexfs_release_file,
	.fsync = vexfs_fsync,
	.unlocked_ioctl = vexfs_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.fallocate = vexfs_fallocate,
	.splice_read = filemap_splice_read,
	.splice_write = iter_file_splice_write,
};

const struct address_space_operations vexfs_column_pages = {
	.read_folio = vexfs_read_folio,
	.readahead = vexfs_readahead,
	.dirty_folio = noop_dirty_folio,
	.release_folio = iomap_release_folio,
	.invalidate_folio = iomap_invalidate_folio,
	.is_partially_uptodate = iomap_is_partially_uptodate,
	.migrate_folio = filemap_migrate_folio,
};
