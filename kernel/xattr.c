// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * xattr.c: extended attributes, vectors among them, and access lists.
 *
 * The VFS checks namespaces and permissions. A vector is made from what its file holds: whatever the page cache still
 * has of it is written back before the vector is set.
 */
#include <linux/pagemap.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <linux/slab.h>
#include <linux/xattr.h>

#include "vexfs.h"

/* Names from our own: what they say depends on the file's content. */
static bool is_ours(const char *name)
{
	return !strncmp(name, "user.vector.", 12) || !strncmp(name, "user.vexfs.", 11);
}

static int write_content(struct inode *inode, const char *name)
{
	return S_ISREG(inode->i_mode) && is_ours(name) ? filemap_write_and_wait(inode->i_mapping) : 0;
}

static int get(const struct xattr_handler *handler, struct dentry *dentry, struct inode *inode, const char *name,
	       void *buffer, size_t size)
{
	const char *full = xattr_full_name(handler, name);
	int error = write_content(inode, full);

	if (error)
		return error;
	return vexfs_attribute(vexfs_of(inode), inode->i_ino, vexfs_string(full),
			       (struct vexfs_buffer){ buffer, size });
}

static int set(const struct xattr_handler *handler, struct mnt_idmap *idmap, struct dentry *dentry,
	       struct inode *inode, const char *name, const void *value, size_t size, int flags)
{
	const char *full = xattr_full_name(handler, name);
	struct vexfs_caller caller = vexfs_caller();
	int error = write_content(inode, full);

	if (error)
		return error;
	if (value)
		error = vexfs_set_attribute(vexfs_of(inode), inode->i_ino, vexfs_string(full),
					    (struct vexfs_bytes){ value, size }, flags, &caller);
	else
		error = vexfs_remove_attribute(vexfs_of(inode), inode->i_ino, vexfs_string(full), &caller);
	if (!error)
		inode_set_ctime_current(inode);
	return error;
}

#define HANDLER(space)                                                                                 \
	static const struct xattr_handler space##_handler = { .prefix = #space ".", .get = get, .set = set }

HANDLER(user);
HANDLER(trusted);
HANDLER(security);

const struct xattr_handler *const vexfs_xattr_handlers[] = { &user_handler, &trusted_handler, &security_handler, NULL };

/* Takes away the names that the caller may not see; gives the length that is left. */
static ssize_t filter(char *names, ssize_t len)
{
	char *from = names, *to = names;
	bool all = capable(CAP_SYS_ADMIN);

	while (from < names + len) {
		size_t step = strlen(from) + 1;

		if (all || strncmp(from, XATTR_TRUSTED_PREFIX, XATTR_TRUSTED_PREFIX_LEN)) {
			memmove(to, from, step);
			to += step;
		}
		from += step;
	}
	return to - names;
}

ssize_t vexfs_listxattr(struct dentry *dentry, char *list, size_t size)
{
	struct inode *inode = d_inode(dentry);
	struct vexfs_buffer buffer = { .len = XATTR_LIST_MAX };
	ssize_t len;

	buffer.data = kvmalloc(XATTR_LIST_MAX, GFP_KERNEL);
	if (!buffer.data)
		return -ENOMEM;
	len = vexfs_list_attributes(vexfs_of(inode), inode->i_ino, buffer);
	if (len > 0)
		len = filter(buffer.data, len);
	if (len > 0 && size && len > size)
		len = -ERANGE;
	if (len > 0 && size)
		memcpy(list, buffer.data, len);
	kvfree(buffer.data);
	return len;
}

static const char *acl_name(int type)
{
	return type == ACL_TYPE_ACCESS ? XATTR_NAME_POSIX_ACL_ACCESS : XATTR_NAME_POSIX_ACL_DEFAULT;
}

struct posix_acl *vexfs_get_acl(struct inode *inode, int type, bool rcu)
{
	struct vexfs_bytes name = vexfs_string(acl_name(type));
	struct vexfs_buffer buffer = {};
	struct posix_acl *acl = NULL;
	ssize_t len;

	if (rcu)
		return ERR_PTR(-ECHILD);
	len = vexfs_attribute(vexfs_of(inode), inode->i_ino, name, buffer);
	if (len > 0) {
		buffer = (struct vexfs_buffer){ kvmalloc(len, GFP_KERNEL), len };
		if (!buffer.data)
			return ERR_PTR(-ENOMEM);
		len = vexfs_attribute(vexfs_of(inode), inode->i_ino, name, buffer);
	}
	if (len > 0)
		acl = posix_acl_from_xattr(&init_user_ns, buffer.data, len);
	else if (len < 0 && len != -ENODATA)
		acl = ERR_PTR(len);
	kvfree(buffer.data);
	return acl;
}

int vexfs_set_acl(struct mnt_idmap *idmap, struct dentry *dentry, struct posix_acl *acl, int type)
{
	struct inode *inode = d_inode(dentry);
	struct vexfs_bytes name = vexfs_string(acl_name(type));
	struct vexfs_caller caller = vexfs_caller();
	void *value = NULL;
	size_t size = 0;
	int error;

	if (acl) {
		value = posix_acl_to_xattr(&init_user_ns, acl, &size, GFP_KERNEL);
		if (!value)
			return -ENOMEM;
		error = vexfs_set_attribute(vexfs_of(inode), inode->i_ino, name, (struct vexfs_bytes){ value, size },
					    0, &caller);
	} else {
		error = vexfs_remove_attribute(vexfs_of(inode), inode->i_ino, name, &caller);
	}
	kfree(value);
	/* The mode follows the list; the volume sees to it. */
	forget_all_cached_acls(inode);
	if (!error) {
		struct vexfs_attributes now;

		error = vexfs_attributes(vexfs_of(inode), inode->i_ino, &now);
		if (!error) {
			inode->i_mode = now.mode;
			inode_set_ctime_current(inode);
		}
	}
	return error;
}
