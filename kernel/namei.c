// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * namei.c: names: looking them up, listing, making, moving and removing them.
 *
 * The VFS holds a directory's lock while its names change. What a change did to inodes in memory is read anew from the
 * volume, so there is one place that counts links.
 */
#include <linux/namei.h>
#include <linux/slab.h>

#include "vexfs.h"

/* Bytes of entries that are read at a time. */
#define ENTRIES (16 << 10)

static bool is_control(const struct inode *inode)
{
	return vexfs_inode(inode)->class != VEXFS_ORDINARY;
}

static struct dentry *vexfs_lookup_entry(struct inode *directory, struct dentry *dentry, unsigned int flags)
{
	struct vexfs_attributes found;
	struct inode *inode = NULL;
	int error = vexfs_lookup(vexfs_of(directory), directory->i_ino, vexfs_name(dentry), &found);

	if (!error)
		inode = vexfs_iget(directory->i_sb, &found);
	else if (error != -ENOENT)
		return ERR_PTR(error);
	/* A collection may come by setting a vector: that it is not there is not remembered. */
	if (!inode && is_control(directory))
		return NULL;
	return d_splice_alias(inode, dentry);
}

static bool emit(struct dir_context *context, const void *buffer, ssize_t used)
{
	ssize_t at = 0;

	while (at < used) {
		const struct vexfs_entry *entry = buffer + at;

		if (!dir_emit(context, entry->name, entry->name_len, entry->inode, entry->kind))
			return false;
		context->pos = entry->cookie;
		at += round_up(sizeof(*entry) + entry->name_len, 8);
	}
	return true;
}

/* Entries are gathered first and given then: a page fault on the caller's buffer may need the volume. */
static int vexfs_iterate(struct file *file, struct dir_context *context)
{
	struct inode *inode = file_inode(file);
	struct vexfs_buffer buffer = { .len = ENTRIES };
	ssize_t used;

	if (!dir_emit_dots(file, context))
		return 0;
	buffer.data = kmalloc(ENTRIES, GFP_KERNEL);
	if (!buffer.data)
		return -ENOMEM;
	do {
		/* Cookies begin at 3; 2 is where the dots end. */
		u64 cookie = context->pos > 2 ? context->pos : 0;

		used = vexfs_read_directory(vexfs_of(inode), inode->i_ino, cookie, buffer);
	} while (used > 0 && emit(context, buffer.data, used));
	kfree(buffer.data);
	return used < 0 ? used : 0;
}

/* A new inode under a name; the lookup may have left the name without a place in the cache. */
static int instantiate(struct inode *directory, struct dentry *dentry, const struct vexfs_attributes *made)
{
	struct inode *inode = vexfs_iget(directory->i_sb, made);

	if (IS_ERR(inode))
		return PTR_ERR(inode);
	if (d_unhashed(dentry))
		d_add(dentry, inode);
	else
		d_instantiate(dentry, inode);
	return vexfs_refresh(directory);
}

static struct vexfs_new new_inode_of(struct mnt_idmap *idmap, struct inode *directory, umode_t mode, dev_t device)
{
	return (struct vexfs_new){
		.mode = mode,
		.umask = current_umask(),
		.uid = from_kuid(&init_user_ns, mapped_fsuid(idmap, i_user_ns(directory))),
		.gid = from_kgid(&init_user_ns, mapped_fsgid(idmap, i_user_ns(directory))),
		.device = new_encode_dev(device),
	};
}

static int make(struct mnt_idmap *idmap, struct inode *directory, struct dentry *dentry, umode_t mode, dev_t device)
{
	struct vexfs_new new = new_inode_of(idmap, directory, mode, device);
	struct vexfs_attributes made;
	int error = vexfs_create(vexfs_of(directory), directory->i_ino, vexfs_name(dentry), &new, &made);

	return error ? error : instantiate(directory, dentry, &made);
}

static int vexfs_create_file(struct mnt_idmap *idmap, struct inode *directory, struct dentry *dentry, umode_t mode,
			     bool exclusive)
{
	return make(idmap, directory, dentry, mode | S_IFREG, 0);
}

static struct dentry *vexfs_mkdir(struct mnt_idmap *idmap, struct inode *directory, struct dentry *dentry,
				  umode_t mode)
{
	return ERR_PTR(make(idmap, directory, dentry, mode | S_IFDIR, 0));
}

static int vexfs_mknod(struct mnt_idmap *idmap, struct inode *directory, struct dentry *dentry, umode_t mode,
		       dev_t device)
{
	return make(idmap, directory, dentry, mode, device);
}

static int vexfs_make_symlink(struct mnt_idmap *idmap, struct inode *directory, struct dentry *dentry,
			      const char *target)
{
	struct vexfs_new owner = new_inode_of(idmap, directory, 0, 0);
	struct vexfs_caller caller = { .uid = owner.uid, .gid = owner.gid };
	struct vexfs_attributes made;
	int error = vexfs_symlink(vexfs_of(directory), directory->i_ino, vexfs_name(dentry), vexfs_string(target),
				  &caller, &made);

	return error ? error : instantiate(directory, dentry, &made);
}

static int vexfs_tmpfile(struct mnt_idmap *idmap, struct inode *directory, struct file *file, umode_t mode)
{
	struct vexfs_new new = new_inode_of(idmap, directory, mode, 0);
	struct vexfs_attributes made;
	struct inode *inode;
	int error = vexfs_create_unnamed(vexfs_of(directory), directory->i_ino, &new, &made);

	if (error)
		return finish_open_simple(file, error);
	inode = vexfs_iget(directory->i_sb, &made);
	if (IS_ERR(inode))
		return finish_open_simple(file, PTR_ERR(inode));
	/* d_tmpfile takes the link away that a new inode has. */
	set_nlink(inode, 1);
	d_tmpfile(file, inode);
	return finish_open_simple(file, 0);
}

static int vexfs_link_entry(struct dentry *old, struct inode *directory, struct dentry *dentry)
{
	struct inode *inode = d_inode(old);
	struct vexfs_attributes linked;
	int error = vexfs_link(vexfs_of(directory), inode->i_ino, directory->i_ino, vexfs_name(dentry), &linked);

	if (error)
		return error;
	set_nlink(inode, linked.links);
	inode_set_ctime_current(inode);
	ihold(inode);
	d_instantiate(dentry, inode);
	return vexfs_refresh(directory);
}

/* After a name went: what the inode has left. */
static void unnamed(struct inode *inode)
{
	struct vexfs_attributes now;

	if (vexfs_attributes(vexfs_of(inode), inode->i_ino, &now))
		clear_nlink(inode);
	else
		set_nlink(inode, now.links);
	inode_set_ctime_current(inode);
}

static int vexfs_unlink_entry(struct inode *directory, struct dentry *dentry)
{
	int error = vexfs_unlink(vexfs_of(directory), directory->i_ino, vexfs_name(dentry));

	if (error)
		return error;
	unnamed(d_inode(dentry));
	return vexfs_refresh(directory);
}

static int vexfs_rmdir(struct inode *directory, struct dentry *dentry)
{
	int error = vexfs_remove_directory(vexfs_of(directory), directory->i_ino, vexfs_name(dentry));

	if (error)
		return error;
	clear_nlink(d_inode(dentry));
	return vexfs_refresh(directory);
}

static int vexfs_rename_entry(struct mnt_idmap *idmap, struct inode *from_directory, struct dentry *from,
			      struct inode *to_directory, struct dentry *to, unsigned int flags)
{
	int error;

	if (flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE))
		return -EINVAL;
	error = vexfs_rename(vexfs_of(from_directory), from_directory->i_ino, vexfs_name(from), to_directory->i_ino,
			     vexfs_name(to), flags);
	if (error)
		return error;
	inode_set_ctime_current(d_inode(from));
	if (d_inode(to) && flags & RENAME_EXCHANGE)
		inode_set_ctime_current(d_inode(to));
	else if (d_inode(to) && S_ISDIR(d_inode(to)->i_mode))
		clear_nlink(d_inode(to));
	else if (d_inode(to))
		unnamed(d_inode(to));
	error = vexfs_refresh(from_directory);
	return error ? error : vexfs_refresh(to_directory);
}

static const char *vexfs_get_link(struct dentry *dentry, struct inode *inode, struct delayed_call *done)
{
	struct vexfs_buffer buffer = { .len = PATH_MAX };
	ssize_t len;

	if (!dentry)
		return ERR_PTR(-ECHILD);
	buffer.data = kmalloc(PATH_MAX + 1, GFP_KERNEL);
	if (!buffer.data)
		return ERR_PTR(-ENOMEM);
	len = vexfs_read_link(vexfs_of(inode), inode->i_ino, buffer);
	if (len < 0) {
		kfree(buffer.data);
		return ERR_PTR(len);
	}
	((char *)buffer.data)[len] = 0;
	set_delayed_call(done, kfree_link, buffer.data);
	return buffer.data;
}

const struct inode_operations vexfs_directory_inode = {
	.lookup = vexfs_lookup_entry,
	.create = vexfs_create_file,
	.link = vexfs_link_entry,
	.unlink = vexfs_unlink_entry,
	.symlink = vexfs_make_symlink,
	.mkdir = vexfs_mkdir,
	.rmdir = vexfs_rmdir,
	.mknod = vexfs_mknod,
	.rename = vexfs_rename_entry,
	.tmpfile = vexfs_tmpfile,
	.getattr = vexfs_getattr,
	.setattr = vexfs_setattr,
	.listxattr = vexfs_listxattr,
	.get_inode_acl = vexfs_get_acl,
	.set_acl = vexfs_set_acl,
};

const struct inode_operations vexfs_link_inode = {
	.get_link = vexfs_get_link,
	.getattr = vexfs_getattr,
	.setattr = vexfs_setattr,
	.listxattr = vexfs_listxattr,
};

const struct inode_operations vexfs_special_inode = {
	.getattr = vexfs_getattr,
	.setattr = vexfs_setattr,
	.listxattr = vexfs_listxattr,
	.get_inode_acl = vexfs_get_acl,
	.set_acl = vexfs_set_acl,
};

const struct file_operations vexfs_directory_file = {
	.llseek = generic_file_llseek,
	.read = generic_read_dir,
	.iterate_shared = vexfs_iterate,
	.fsync = vexfs_fsync,
	.unlocked_ioctl = vexfs_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};
