// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * super.c: the filesystem type, mounting with its options, the super block's operations, and the timed commit.
 */
#include <linux/blkdev.h>
#include <linux/fs_context.h>
#include <linux/fs_parser.h>
#include <linux/module.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/statfs.h>
#include <linux/uaccess.h>

#include "vexfs.h"

#define COMMIT_SECONDS 5

static struct kmem_cache *inodes;

static struct inode *vexfs_alloc_inode(struct super_block *sb)
{
	struct vexfs_inode *inode = alloc_inode_sb(sb, inodes, GFP_KERNEL);

	if (!inode)
		return NULL;
	inode->class = VEXFS_ORDINARY;
	return &inode->vfs;
}

static void vexfs_free_inode(struct inode *inode)
{
	kmem_cache_free(inodes, vexfs_inode(inode));
}

static void init_once(void *memory)
{
	struct vexfs_inode *inode = memory;

	mutex_init(&inode->writing);
	inode_init_once(&inode->vfs);
}

/* Times that reading or writing through the page cache left in memory. */
static int vexfs_write_inode(struct inode *inode, struct writeback_control *wbc)
{
	struct vexfs_times times = vexfs_times(inode);

	if (vexfs_inode(inode)->class != VEXFS_ORDINARY || !inode->i_nlink || sb_rdonly(inode->i_sb))
		return 0;
	return vexfs_set_times(vexfs_of(inode), inode->i_ino, &times);
}

static void vexfs_evict_inode(struct inode *inode)
{
	bool gone = !inode->i_nlink && vexfs_inode(inode)->class == VEXFS_ORDINARY && !is_bad_inode(inode);

	truncate_inode_pages_final(&inode->i_data);
	clear_inode(inode);
	if (!gone || !vexfs_of(inode) || sb_rdonly(inode->i_sb))
		return;
	/* A frozen volume does not change. */
	sb_start_intwrite(inode->i_sb);
	vexfs_release(vexfs_of(inode), inode->i_ino);
	sb_end_intwrite(inode->i_sb);
}

static void vexfs_put_super(struct super_block *sb)
{
	struct vexfs_super *super = vexfs_super(sb);

	cancel_delayed_work_sync(&super->commit);
	vexfs_stop(super->mount); /* its failure is in the log */
	vexfs_unmount(super->mount);
	super->mount = NULL;
}

static int vexfs_sync_fs(struct super_block *sb, int wait)
{
	return wait && !sb_rdonly(sb) ? vexfs_commit(vexfs_super(sb)->mount) : 0;
}

static int vexfs_freeze_fs(struct super_block *sb)
{
	cancel_delayed_work_sync(&vexfs_super(sb)->commit);
	return vexfs_sync_fs(sb, 1);
}

static void commit_later(struct vexfs_super *super)
{
	queue_delayed_work(system_dfl_long_wq, &super->commit, super->commit_seconds * HZ);
}

static int vexfs_unfreeze_fs(struct super_block *sb)
{
	if (!sb_rdonly(sb))
		commit_later(vexfs_super(sb));
	return 0;
}

/* XFS_IOC_GOINGDOWN, which ext4 and others have too, and what its argument asks to keep. */
#define IOC_SHUT_DOWN _IOR('X', 125, __u32)
enum { KEEP_ALL, KEEP_LOGGED, KEEP_DURABLE };

/* Nothing becomes durable any more, as after a power cut; for those who test what comes after one. */
static int shut_down(struct super_block *sb, u32 keep)
{
	int error = 0;

	switch (keep) {
	case KEEP_ALL:
		down_read(&sb->s_umount);
		error = sync_filesystem(sb);
		up_read(&sb->s_umount);
		break;
	case KEEP_LOGGED:
		error = vexfs_sync(vexfs_super(sb)->mount);
		break;
	case KEEP_DURABLE:
		break;
	default:
		return -EINVAL;
	}
	if (!error)
		vexfs_shut_down(vexfs_super(sb)->mount);
	return error;
}

long vexfs_ioctl(struct file *file, unsigned int command, unsigned long argument)
{
	u32 keep;

	if (command != IOC_SHUT_DOWN)
		return -ENOTTY;
	if (!capable(CAP_SYS_ADMIN))
		return -EPERM;
	if (get_user(keep, (u32 __user *)argument))
		return -EFAULT;
	return shut_down(file_inode(file)->i_sb, keep);
}

static int vexfs_statfs(struct dentry *dentry, struct kstatfs *out)
{
	struct super_block *sb = dentry->d_sb;
	struct vexfs_statistics numbers;

	vexfs_statistics(vexfs_super(sb)->mount, &numbers);
	out->f_type = VEXFS_MAGIC;
	out->f_bsize = numbers.block_size;
	out->f_frsize = numbers.block_size;
	out->f_blocks = numbers.blocks;
	out->f_bfree = numbers.free;
	out->f_bavail = numbers.available;
	/* An inode takes part of a block; as many can still be made as blocks are free, roughly. */
	out->f_files = numbers.inodes + numbers.available;
	out->f_ffree = numbers.available;
	out->f_namelen = NAME_MAX;
	out->f_fsid = uuid_to_fsid(numbers.uuid);
	return 0;
}

static int vexfs_show_options(struct seq_file *file, struct dentry *root)
{
	static const char *const implicit[] = { "off", "owner", "any" };
	struct vexfs_super *super = vexfs_super(root->d_sb);

	if (super->options.list_control)
		seq_puts(file, ",ctldir");
	if (super->options.implicit != VEXFS_IMPLICIT_ANY)
		seq_printf(file, ",implicit=%s", implicit[super->options.implicit]);
	if (super->options.discard)
		seq_puts(file, ",discard");
	if (super->commit_seconds != COMMIT_SECONDS)
		seq_printf(file, ",commit=%u", super->commit_seconds);
	return 0;
}

static const struct super_operations vexfs_operations = {
	.alloc_inode = vexfs_alloc_inode,
	.free_inode = vexfs_free_inode,
	.write_inode = vexfs_write_inode,
	.evict_inode = vexfs_evict_inode,
	.put_super = vexfs_put_super,
	.sync_fs = vexfs_sync_fs,
	.freeze_fs = vexfs_freeze_fs,
	.unfreeze_fs = vexfs_unfreeze_fs,
	.statfs = vexfs_statfs,
	.show_options = vexfs_show_options,
};

static void commit_by_time(struct work_struct *work)
{
	struct vexfs_super *super = container_of(to_delayed_work(work), struct vexfs_super, commit);

	vexfs_tick(super->mount);
	if (!sb_rdonly(super->sb))
		commit_later(super);
}

enum { OPTION_CTLDIR, OPTION_IMPLICIT, OPTION_COMMIT, OPTION_DISCARD, OPTION_NODISCARD };

static const struct constant_table implicit_values[] = {
	{ "off", VEXFS_IMPLICIT_OFF },
	{ "owner", VEXFS_IMPLICIT_OWNER },
	{ "any", VEXFS_IMPLICIT_ANY },
	{}
};

static const struct fs_parameter_spec parameters[] = {
	fsparam_flag("ctldir", OPTION_CTLDIR),
	fsparam_enum("implicit", OPTION_IMPLICIT, implicit_values),
	fsparam_u32("commit", OPTION_COMMIT),
	fsparam_flag("discard", OPTION_DISCARD),
	fsparam_flag("nodiscard", OPTION_NODISCARD),
	{}
};

static int vexfs_parse_param(struct fs_context *context, struct fs_parameter *parameter)
{
	struct vexfs_super *super = context->s_fs_info;
	struct fs_parse_result result;
	int option = fs_parse(context, parameters, parameter, &result);

	switch (option) {
	case OPTION_CTLDIR:
		super->options.list_control = 1;
		return 0;
	case OPTION_IMPLICIT:
		super->options.implicit = result.uint_32;
		return 0;
	case OPTION_COMMIT:
		if (!result.uint_32 || result.uint_32 > 3600)
			return invalf(context, "commit: 1 to 3600 seconds");
		super->commit_seconds = result.uint_32;
		return 0;
	case OPTION_DISCARD:
	case OPTION_NODISCARD:
		super->options.discard = option == OPTION_DISCARD;
		return 0;
	default:
		return option;
	}
}

static int make_root(struct super_block *sb)
{
	struct vexfs_attributes root;
	struct inode *inode;
	int error = vexfs_attributes(vexfs_super(sb)->mount, VEXFS_ROOT, &root);

	if (error)
		return error;
	inode = vexfs_iget(sb, &root);
	if (IS_ERR(inode))
		return PTR_ERR(inode);
	sb->s_root = d_make_root(inode);
	return sb->s_root ? 0 : -ENOMEM;
}

static int vexfs_fill_super(struct super_block *sb, struct fs_context *context)
{
	struct vexfs_super *super = vexfs_super(sb);
	struct vexfs_statistics numbers;
	int error;

	super->sb = sb;
	if (!sb_set_blocksize(sb, PAGE_SIZE))
		return invalf(context, "vexfs: the device cannot be read in blocks of %lu bytes", PAGE_SIZE);
	/* The journal is replayed even for a read-only mount, unless the device cannot be written at all. */
	super->options.read_only = bdev_read_only(sb->s_bdev);
	super->options.owner = from_kuid(&init_user_ns, current_fsuid());
	error = vexfs_mount(super, bdev_nr_bytes(sb->s_bdev), &super->options, &super->mount);
	if (error)
		return error;
	vexfs_statistics(super->mount, &numbers);
	error = -EINVAL;
	if (numbers.block_size != PAGE_SIZE) {
		errorf(context, "vexfs: blocks of %u bytes: the kernel mounts those of %lu (FUSE mounts all)",
		       numbers.block_size, PAGE_SIZE);
		goto failed;
	}
	if (numbers.read_only)
		sb->s_flags |= SB_RDONLY;
	sb->s_magic = VEXFS_MAGIC;
	sb->s_op = &vexfs_operations;
	sb->s_xattr = vexfs_xattr_handlers;
	sb->s_maxbytes = MAX_LFS_FILESIZE;
	sb->s_time_gran = 1;
	sb->s_time_min = S64_MIN;
	sb->s_time_max = S64_MAX;
	sb->s_flags |= SB_POSIXACL;
	super_set_uuid(sb, numbers.uuid, sizeof(numbers.uuid));
	error = make_root(sb);
	if (error)
		goto failed;
	if (!sb_rdonly(sb))
		commit_later(super);
	return 0;
failed:
	vexfs_unmount(super->mount);
	super->mount = NULL;
	return error;
}

static int vexfs_get_tree(struct fs_context *context)
{
	return get_tree_bdev(context, vexfs_fill_super);
}

static int vexfs_reconfigure(struct fs_context *context)
{
	struct super_block *sb = context->root->d_sb;
	struct vexfs_super *super = vexfs_super(sb);
	struct vexfs_super *wanted = context->s_fs_info;
	bool read_only = context->sb_flags & SB_RDONLY;
	struct vexfs_statistics numbers;
	int error;

	vexfs_statistics(super->mount, &numbers);
	if (!read_only && numbers.read_only)
		return invalf(context, "vexfs: the volume turned read-only, or its device is; unmount it first");
	sync_filesystem(sb);
	if (read_only && !sb_rdonly(sb)) {
		cancel_delayed_work_sync(&super->commit);
		error = vexfs_commit(super->mount);
		if (error)
			return error;
	}
	super->commit_seconds = wanted->commit_seconds;
	if (!read_only && sb_rdonly(sb))
		commit_later(super);
	return 0;
}

static void vexfs_free_context(struct fs_context *context)
{
	kfree(context->s_fs_info);
}

static const struct fs_context_operations context_operations = {
	.parse_param = vexfs_parse_param,
	.get_tree = vexfs_get_tree,
	.reconfigure = vexfs_reconfigure,
	.free = vexfs_free_context,
};

static int vexfs_init_fs_context(struct fs_context *context)
{
	struct vexfs_super *super = kzalloc(sizeof(*super), GFP_KERNEL);

	if (!super)
		return -ENOMEM;
	super->options.implicit = VEXFS_IMPLICIT_ANY;
	super->commit_seconds = COMMIT_SECONDS;
	if (context->purpose == FS_CONTEXT_FOR_RECONFIGURE)
		super->commit_seconds = vexfs_super(context->root->d_sb)->commit_seconds;
	INIT_DELAYED_WORK(&super->commit, commit_by_time);
	context->s_fs_info = super;
	context->ops = &context_operations;
	return 0;
}

static void vexfs_kill_sb(struct super_block *sb)
{
	struct vexfs_super *super = vexfs_super(sb);

	kill_block_super(sb);
	kfree(super);
}

static struct file_system_type type = {
	.owner = THIS_MODULE,
	.name = "vexfs",
	.init_fs_context = vexfs_init_fs_context,
	.parameters = parameters,
	.kill_sb = vexfs_kill_sb,
	.fs_flags = FS_REQUIRES_DEV,
};
MODULE_ALIAS_FS("vexfs");

static int __init vexfs_init(void)
{
	int error;

	inodes = kmem_cache_create("vexfs_inode", sizeof(struct vexfs_inode), 0,
				   SLAB_RECLAIM_ACCOUNT | SLAB_ACCOUNT, init_once);
	if (!inodes)
		return -ENOMEM;
	error = register_filesystem(&type);
	if (error)
		kmem_cache_destroy(inodes);
	return error;
}

static void __exit vexfs_exit(void)
{
	unregister_filesystem(&type);
	/* Inodes are freed after a grace period. */
	rcu_barrier();
	kmem_cache_destroy(inodes);
}

module_init(vexfs_init);
module_exit(vexfs_exit);
MODULE_DESCRIPTION("VexFS: a filesystem in which a file's embeddings belong to the file");
MODULE_AUTHOR("The VexFS developers");
MODULE_LICENSE("Dual MIT/GPL");
