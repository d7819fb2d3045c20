// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * control.c: the files of the control directory: columns, which the page cache has, and computed files, which are what
 * they were when they were opened. What is written to some of these is a request. `query` answers what is written to it.
 */
#include <linux/pagemap.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/writeback.h>

#include "vexfs.h"

struct text {
	void *data;
	size_t len;
};

/* Bytes of a request. */
#define REQUEST_MAX 4096

static int refuse_writing(struct file *file)
{
	u32 class = vexfs_inode(file_inode(file))->class;

	return file->f_mode & FMODE_WRITE && class != VEXFS_REQUEST ? -EACCES : 0;
}

static int computed_open(struct inode *inode, struct file *file)
{
	struct text *text;
	ssize_t len = refuse_writing(file);

	if (len)
		return len;
	text = kmalloc(sizeof(*text), GFP_KERNEL);
	if (!text)
		return -ENOMEM;
	len = vexfs_render(vexfs_of(inode), inode->i_ino, &text->data);
	if (len < 0) {
		kfree(text);
		return len;
	}
	text->len = len;
	file->private_data = text;
	return 0;
}

static int computed_release(struct inode *inode, struct file *file)
{
	struct text *text = file->private_data;

	/* An empty one has no memory: what Rust gives for its address is none. */
	if (text->len)
		kvfree(text->data);
	kfree(text);
	return 0;
}

static ssize_t computed_read(struct file *file, char __user *to, size_t count, loff_t *pos)
{
	struct text *text = file->private_data;

	return simple_read_from_buffer(to, count, pos, text->data, text->len);
}

static ssize_t computed_write(struct file *file, const char __user *from, size_t count, loff_t *pos)
{
	struct inode *inode = file_inode(file);
	struct super_block *sb = inode->i_sb;
	void *text;
	int error;

	if (count > REQUEST_MAX)
		return -EINVAL;
	text = memdup_user(from, count);
	if (IS_ERR(text))
		return PTR_ERR(text);
	/* A codebook comes in a file that may be in memory alone as yet, and is read off the disk. */
	if (strnstr(text, "pq", count)) {
		down_read(&sb->s_umount);
		sync_inodes_sb(sb);
		up_read(&sb->s_umount);
	}
	error = vexfs_request(vexfs_of(inode), inode->i_ino, (struct vexfs_bytes){ text, count });
	kfree(text);
	if (error)
		return error;
	/* The work is done in the background, from now on. */
	mod_delayed_work(system_dfl_long_wq, &vexfs_super(sb)->commit, 0);
	return count;
}

static loff_t computed_llseek(struct file *file, loff_t offset, int whence)
{
	return fixed_size_llseek(file, offset, whence, ((struct text *)file->private_data)->len);
}

const struct file_operations vexfs_computed_file = {
	.llseek = computed_llseek,
	.read = computed_read,
	.write = computed_write,
	.open = computed_open,
	.release = computed_release,
};

/* Bytes that one call takes or gives at most. */
#define PIECE_MAX (1 << 20)

static int query_open(struct inode *inode, struct file *file)
{
	file->private_data = vexfs_exchange_new();
	return file->private_data ? 0 : -ENOMEM;
}

static int query_release(struct inode *inode, struct file *file)
{
	vexfs_exchange_free(file->private_data);
	return 0;
}

static ssize_t query_write(struct file *file, const char __user *from, size_t count, loff_t *pos)
{
	void *question;
	int error;

	count = min_t(size_t, count, PIECE_MAX);
	question = vmemdup_user(from, count);
	if (IS_ERR(question))
		return PTR_ERR(question);
	error = vexfs_exchange_write(file->private_data, *pos, (struct vexfs_bytes){ question, count });
	kvfree(question);
	if (error)
		return error;
	*pos += count;
	return count;
}

/* Who opened the file is answered, whoever reads. */
static ssize_t query_read(struct file *file, char __user *to, size_t count, loff_t *pos)
{
	struct inode *inode = file_inode(file);
	const struct cred *reader;
	struct vexfs_caller caller;
	void *answer;
	ssize_t len;

	count = min_t(size_t, count, PIECE_MAX);
	answer = kvzalloc(count, GFP_KERNEL);
	if (!answer)
		return -ENOMEM;
	reader = override_creds(file->f_cred);
	caller = vexfs_caller();
	len = vexfs_exchange_read(vexfs_of(inode), inode->i_ino, file->private_data, *pos,
				  (struct vexfs_buffer){ answer, count }, &caller);
	revert_creds(reader);
	if (len > 0 && copy_to_user(to, answer, len))
		len = -EFAULT;
	kvfree(answer);
	if (len > 0)
		*pos += len;
	return len;
}

const struct file_operations vexfs_query_file = {
	.llseek = no_seek_end_llseek,
	.read = query_read,
	.write = query_write,
	.open = query_open,
	.release = query_release,
};

static int column_open(struct inode *inode, struct file *file)
{
	int error = refuse_writing(file);

	if (error)
		return error;
	file->f_mode |= FMODE_CAN_ODIRECT;
	return vexfs_refresh(inode);
}

static ssize_t column_read(struct kiocb *iocb, struct iov_iter *to)
{
	iocb->ki_flags &= ~IOCB_DIRECT;
	return generic_file_read_iter(iocb, to);
}

const struct file_operations vexfs_column_file = {
	.llseek = generic_file_llseek,
	.read_iter = column_read,
	.mmap_prepare = generic_file_readonly_mmap_prepare,
	.open = column_open,
	.splice_read = filemap_splice_read,
};
