// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * inode.c: inodes in memory: made from what the volume tells, shown, changed.
 *
 * The volume is the truth for all but the size and the times of a regular file, which the page cache is ahead of.
 */
#include <linux/pagemap.h>
#include <linux/posix_acl.h>
#include <linux/statfs.h>

#include "vexfs.h"

static struct timespec64 timespec(struct vexfs_time time)
{
	return (struct timespec64){ .tv_sec = time.seconds, .tv_nsec = time.nanoseconds };
}

static struct vexfs_time time_of(struct timespec64 time)
{
	return (struct vexfs_time){ .seconds = time.tv_sec, .nanoseconds = time.tv_nsec };
}

struct vexfs_caller vexfs_caller(void)
{
	return (struct vexfs_caller){
		.uid = from_kuid(&init_user_ns, current_fsuid()),
		.gid = from_kgid(&init_user_ns, current_fsgid()),
		.process = task_tgid_nr(current),
	};
}

struct vexfs_times vexfs_times(const struct inode *inode)
{
	return (struct vexfs_times){
		.accessed = time_of(inode_get_atime(inode)),
		.modified = time_of(inode_get_mtime(inode)),
		.changed = time_of(inode_get_ctime(inode)),
	};
}

/* Takes over what the volume tells, but the access time, and the size of what has a page cache that may be ahead. */
void vexfs_show(struct inode *inode, const struct vexfs_attributes *from)
{
	inode->i_mode = from->mode;
	i_uid_write(inode, from->uid);
	i_gid_write(inode, from->gid);
	set_nlink(inode, from->links);
	inode_set_mtime_to_ts(inode, timespec(from->modified));
	inode_set_ctime_to_ts(inode, timespec(from->changed));
	spin_lock(&inode->i_lock);
	inode->i_blocks = from->sectors;
	if (!S_ISREG(from->mode) || from->class != VEXFS_ORDINARY)
		i_size_write(inode, from->size);
	spin_unlock(&inode->i_lock);
}

int vexfs_refresh(struct inode *inode)
{
	struct vexfs_attributes now;
	int error = vexfs_attributes(vexfs_of(inode), inode->i_ino, &now);

	if (!error)
		vexfs_show(inode, &now);
	return error;
}

static void set_operations(struct inode *inode, const struct vexfs_attributes *from)
{
	switch (inode->i_mode & S_IFMT) {
	case S_IFDIR:
		inode->i_op = &vexfs_directory_inode;
		inode->i_fop = &vexfs_directory_file;
		break;
	case S_IFLNK:
		inode->i_op = &vexfs_link_inode;
		break;
	case S_IFREG:
		inode->i_op = &vexfs_file_inode;
		if (from->class == VEXFS_COMPUTED || from->class == VEXFS_REQUEST) {
			inode->i_fop = &vexfs_computed_file;
		} else if (from->class == VEXFS_QUERY) {
			inode->i_fop = &vexfs_query_file;
		} else if (from->class == VEXFS_COLUMN) {
			inode->i_fop = &vexfs_column_file;
			inode->i_mapping->a_ops = &vexfs_column_pages;
			mapping_set_large_folios(inode->i_mapping);
		} else {
			inode->i_fop = &vexfs_file;
			inode->i_mapping->a_ops = &vexfs_pages;
			mapping_set_large_folios(inode->i_mapping);
		}
		break;
	default:
		inode->i_op = &vexfs_special_inode;
		init_special_inode(inode, inode->i_mode, new_decode_dev(from->device));
	}
}

struct inode *vexfs_iget(struct super_block *sb, const struct vexfs_attributes *from)
{
	struct inode *inode = iget_locked(sb, from->inode);

	if (!inode)
		return ERR_PTR(-ENOMEM);
	if (!(inode_state_read_once(inode) & I_NEW))
		return inode;
	vexfs_inode(inode)->class = from->class;
	vexfs_inode(inode)->created = timespec(from->created);
	i_size_write(inode, from->size);
	vexfs_show(inode, from);
	inode_set_atime_to_ts(inode, timespec(from->accessed));
	if (from->class != VEXFS_ORDINARY)
		inode->i_flags |= S_NOATIME;
	set_operations(inode, from);
	unlock_new_inode(inode);
	return inode;
}

int vexfs_getattr(struct mnt_idmap *idmap, const struct path *path, struct kstat *stat, u32 mask, unsigned int flags)
{
	struct inode *inode = d_inode(path->dentry);
	int error = 0;

	/* What nobody told us of: a collection's rows come and go with other files. */
	if (vexfs_inode(inode)->class != VEXFS_ORDINARY)
		error = vexfs_refresh(inode);
	generic_fillattr(idmap, mask, inode, stat);
	stat->result_mask |= STATX_BTIME;
	stat->btime = vexfs_inode(inode)->created;
	return error;
}

static struct vexfs_changes changes_of(struct mnt_idmap *idmap, struct inode *inode, const struct iattr *attr)
{
	struct vexfs_changes out = {};

	if (attr->ia_valid & ATTR_MODE) {
		out.which |= VEXFS_SET_MODE;
		out.mode = attr->ia_mode;
	}
	if (attr->ia_valid & ATTR_UID) {
		out.which |= VEXFS_SET_UID;
		out.uid = from_kuid(&init_user_ns, from_vfsuid(idmap, i_user_ns(inode), attr->ia_vfsuid));
	}
	if (attr->ia_valid & ATTR_GID) {
		out.which |= VEXFS_SET_GID;
		out.gid = from_kgid(&init_user_ns, from_vfsgid(idmap, i_user_ns(inode), attr->ia_vfsgid));
	}
	if (attr->ia_valid & ATTR_SIZE) {
		out.which |= VEXFS_SET_SIZE;
		out.size = attr->ia_size;
	}
	if (attr->ia_valid & ATTR_ATIME) {
		out.which |= VEXFS_SET_ACCESSED;
		out.accessed = time_of(attr->ia_atime);
	}
	if (attr->ia_valid & ATTR_MTIME) {
		out.which |= VEXFS_SET_MODIFIED;
		out.modified = time_of(attr->ia_mtime);
	}
	return out;
}

/* The page cache first: nothing of it may be written behind the new end. */
static int set_size(struct inode *inode, loff_t size)
{
	loff_t old = i_size_read(inode);

	inode_dio_wait(inode);
	if (size > old)
		vexfs_zero_tail(inode, old, size);
	truncate_setsize(inode, size);
	return 0;
}

int vexfs_setattr(struct mnt_idmap *idmap, struct dentry *dentry, struct iattr *attr)
{
	struct inode *inode = d_inode(dentry);
	struct vexfs_changes changes;
	struct vexfs_attributes now;
	u32 class = vexfs_inode(inode)->class;
	bool resizes = attr->ia_valid & ATTR_SIZE;
	int error = setattr_prepare(idmap, dentry, attr);

	if (error)
		return error;
	/* `echo request > control` truncates first, which says nothing to a file without a size. */
	if (resizes && !attr->ia_size && (class == VEXFS_REQUEST || class == VEXFS_QUERY))
		return 0;
	if (resizes && class != VEXFS_ORDINARY)
		return -EPERM;
	changes = changes_of(idmap, inode, attr);
	if (resizes) {
		filemap_invalidate_lock(inode->i_mapping);
		set_size(inode, attr->ia_size);
	}
	mutex_lock(&vexfs_inode(inode)->writing);
	error = vexfs_set_attributes(vexfs_of(inode), inode->i_ino, &changes, &now);
	mutex_unlock(&vexfs_inode(inode)->writing);
	if (!error) {
		struct timespec64 modified = inode_get_mtime(inode);

		vexfs_show(inode, &now);
		/* The volume hears of writes late: until then the inode in memory knows better. */
		if (!(attr->ia_valid & (ATTR_MTIME | ATTR_SIZE)))
			inode_set_mtime_to_ts(inode, modified);
		if (attr->ia_valid & ATTR_ATIME)
			inode_set_atime_to_ts(inode, timespec(now.accessed));
		if (attr->ia_valid & ATTR_MODE)
			forget_all_cached_acls(inode);
	} else if (resizes && !vexfs_attributes(vexfs_of(inode), inode->i_ino, &now)) {
		truncate_setsize(inode, now.size);
	}
	if (resizes)
		filemap_invalidate_unlock(inode->i_mapping);
	return error;
}
