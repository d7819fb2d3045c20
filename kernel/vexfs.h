/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * What the two sides of vexfs.ko say to each other.
 *
 * The C side faces the VFS: it knows inodes, dentries and folios. The Rust side (src/) knows the volume. Every
 * function of the Rust side may sleep, and allocates without calling back into filesystems; pointers that it is given
 * are valid for the call. It gives 0 or a length, or a negative errno.
 */
#ifndef VEXFS_H
#define VEXFS_H

#include <linux/fs.h>
#include <linux/mutex.h>
#include <linux/workqueue.h>

#define VEXFS_MAGIC 0x56454354
#define VEXFS_ROOT 1
#define VEXFS_CONTROL 2

struct vexfs_mount; /* Rust's: struct Mount */

struct vexfs_bytes {
	const void *data;
	size_t len;
};

struct vexfs_buffer {
	void *data;
	size_t len;
};

struct vexfs_time {
	s64 seconds;
	u32 nanoseconds;
	u32 reserved;
};

/* What of the control directory an inode is. */
enum vexfs_class { VEXFS_ORDINARY, VEXFS_DIRECTORY, VEXFS_COMPUTED, VEXFS_COLUMN, VEXFS_REQUEST, VEXFS_QUERY };

struct vexfs_attributes {
	u64 inode;
	u64 size;
	u64 sectors;
	struct vexfs_time accessed, modified, changed, created;
	u32 mode;
	u32 uid;
	u32 gid;
	u32 links;
	u32 device; /* as makedev(3) of 32 bits */
	u32 class;
};

struct vexfs_statistics {
	u64 blocks, free, available, inodes;
	u32 block_size;
	u32 read_only;
	u8 uuid[16];
};

enum vexfs_implicit { VEXFS_IMPLICIT_OFF, VEXFS_IMPLICIT_OWNER, VEXFS_IMPLICIT_ANY };

struct vexfs_options {
	u8 read_only;
	u8 list_control;
	u8 implicit;
	u8 discard;
	u32 owner;
};

struct vexfs_new {
	u32 mode, umask, uid, gid, device;
};

enum {
	VEXFS_SET_MODE = 1,
	VEXFS_SET_UID = 2,
	VEXFS_SET_GID = 4,
	VEXFS_SET_SIZE = 8,
	VEXFS_SET_ACCESSED = 16,
	VEXFS_SET_MODIFIED = 32,
	VEXFS_KILL_PRIVILEGES = 64,
};

struct vexfs_changes {
	u32 which, mode, uid, gid;
	u64 size;
	struct vexfs_time accessed, modified;
};

struct vexfs_times {
	struct vexfs_time accessed, modified, changed;
};

struct vexfs_caller {
	u32 uid, gid;
	s32 process;
};

/* What lies at a byte of a file. */
enum vexfs_extent_kind { VEXFS_HOLE, VEXFS_INLINE, VEXFS_DATA, VEXFS_UNWRITTEN };

struct vexfs_extent {
	u64 offset, len;
	u64 device; /* of data, written or not */
	u32 kind;
	u32 reserved;
};

/* An entry in the buffer of vexfs_read_directory; the next one is at a multiple of 8 bytes. */
struct vexfs_entry {
	u64 inode;
	u64 cookie;
	u32 kind; /* as d_type */
	u32 name_len;
	char name[];
};

/* ---- the Rust side (src/abi.rs) */

int vexfs_mount(void *host, u64 size, const struct vexfs_options *options, struct vexfs_mount **out);
int vexfs_stop(struct vexfs_mount *m);
void vexfs_unmount(struct vexfs_mount *m);
void vexfs_statistics(struct vexfs_mount *m, struct vexfs_statistics *out);
void vexfs_tick(struct vexfs_mount *m);
int vexfs_sync(struct vexfs_mount *m);
int vexfs_commit(struct vexfs_mount *m);
void vexfs_shut_down(struct vexfs_mount *m);
int vexfs_attributes(struct vexfs_mount *m, u64 inode, struct vexfs_attributes *out);
int vexfs_lookup(struct vexfs_mount *m, u64 directory, struct vexfs_bytes name, struct vexfs_attributes *out);
ssize_t vexfs_read_directory(struct vexfs_mount *m, u64 directory, u64 cookie, struct vexfs_buffer buffer);
int vexfs_parent(struct vexfs_mount *m, u64 directory, struct vexfs_attributes *out);
ssize_t vexfs_read_link(struct vexfs_mount *m, u64 inode, struct vexfs_buffer buffer);
ssize_t vexfs_read(struct vexfs_mount *m, u64 inode, u64 offset, struct vexfs_buffer buffer);
ssize_t vexfs_render(struct vexfs_mount *m, u64 inode, void **out);
int vexfs_request(struct vexfs_mount *m, u64 inode, struct vexfs_bytes text);
struct vexfs_exchange *vexfs_exchange_new(void);
void vexfs_exchange_free(struct vexfs_exchange *exchange);
int vexfs_exchange_write(struct vexfs_exchange *exchange, u64 offset, struct vexfs_bytes question);
ssize_t vexfs_exchange_read(struct vexfs_mount *m, u64 inode, struct vexfs_exchange *exchange, u64 offset,
			    struct vexfs_buffer buffer, const struct vexfs_caller *caller);
ssize_t vexfs_attribute(struct vexfs_mount *m, u64 inode, struct vexfs_bytes name, struct vexfs_buffer buffer);
ssize_t vexfs_list_attributes(struct vexfs_mount *m, u64 inode, struct vexfs_buffer buffer);
int vexfs_set_attribute(struct vexfs_mount *m, u64 inode, struct vexfs_bytes name, struct vexfs_bytes value, int flags,
			const struct vexfs_caller *caller);
int vexfs_remove_attribute(struct vexfs_mount *m, u64 inode, struct vexfs_bytes name,
			   const struct vexfs_caller *caller);
int vexfs_create(struct vexfs_mount *m, u64 directory, struct vexfs_bytes name, const struct vexfs_new *new,
		 struct vexfs_attributes *out);
int vexfs_create_unnamed(struct vexfs_mount *m, u64 directory, const struct vexfs_new *new,
			 struct vexfs_attributes *out);
int vexfs_symlink(struct vexfs_mount *m, u64 directory, struct vexfs_bytes name, struct vexfs_bytes target,
		  const struct vexfs_caller *caller, struct vexfs_attributes *out);
int vexfs_link(struct vexfs_mount *m, u64 inode, u64 directory, struct vexfs_bytes name, struct vexfs_attributes *out);
int vexfs_unlink(struct vexfs_mount *m, u64 directory, struct vexfs_bytes name);
int vexfs_remove_directory(struct vexfs_mount *m, u64 directory, struct vexfs_bytes name);
int vexfs_rename(struct vexfs_mount *m, u64 from_directory, struct vexfs_bytes from, u64 to_directory,
		 struct vexfs_bytes to, u32 flags);
void vexfs_release(struct vexfs_mount *m, u64 inode);
bool vexfs_awaits_content(struct vexfs_mount *m, u64 inode);
void vexfs_bind_content(struct vexfs_mount *m, u64 inode);
int vexfs_set_attributes(struct vexfs_mount *m, u64 inode, const struct vexfs_changes *changes,
			 struct vexfs_attributes *out);
int vexfs_set_times(struct vexfs_mount *m, u64 inode, const struct vexfs_times *times);
int vexfs_write_back(struct vexfs_mount *m, u64 inode, u64 offset, const struct vexfs_bytes *parts, size_t count,
		     const struct vexfs_times *times);
int vexfs_allocate(struct vexfs_mount *m, u64 inode, int mode, u64 offset, u64 len);
int vexfs_extent_at(struct vexfs_mount *m, u64 inode, u64 offset, struct vexfs_extent *out);
ssize_t vexfs_seek(struct vexfs_mount *m, u64 inode, u64 offset, bool hole);

/* ---- the C side, for the Rust side (host.c) */

int vexfs_host_read(void *host, u64 offset, void *buffer, size_t len);
int vexfs_host_write(void *host, u64 offset, const void *bytes, size_t len);
int vexfs_host_zero(void *host, u64 offset, u64 len);
int vexfs_host_flush(void *host);
int vexfs_host_discard(void *host, u64 offset, u64 len);
void vexfs_host_now(s64 *seconds, u32 *nanoseconds);
void vexfs_host_log(void *host, int level, const char *text, size_t len);
void vexfs_host_changed(void *host, u64 inode, u64 offset, u64 len);
bool vexfs_host_retire(void *host, u64 inode);
void vexfs_host_failed(void *host);
bool vexfs_host_in_group(u32 group);
bool vexfs_host_abandoned(void);
u32 vexfs_host_nofs_save(void);
void vexfs_host_nofs_restore(u32 flags);
void *vexfs_lock_new(u32 class);
void vexfs_lock_free(void *lock);
void vexfs_lock_read(void *lock);
void vexfs_unlock_read(void *lock);
void vexfs_lock_write(void *lock);
void vexfs_unlock_write(void *lock);
void *vexfs_kvmalloc(size_t size);
void *vexfs_kvrealloc(void *memory, size_t size);
void vexfs_kvfree(void *memory);

/* ---- between the C files */

struct vexfs_super {
	struct super_block *sb;
	struct vexfs_mount *mount;
	struct vexfs_options options;
	unsigned int commit_seconds;
	struct delayed_work commit;
};

struct vexfs_inode {
	struct mutex writing; /* one writer of the file's blocks at a time */
	struct timespec64 created;
	u32 class;
	struct inode vfs;
};

static inline struct vexfs_super *vexfs_super(const struct super_block *sb)
{
	return sb->s_fs_info;
}

static inline struct vexfs_mount *vexfs_of(const struct inode *inode)
{
	return vexfs_super(inode->i_sb)->mount;
}

static inline struct vexfs_inode *vexfs_inode(const struct inode *inode)
{
	return container_of(inode, struct vexfs_inode, vfs);
}

static inline struct vexfs_bytes vexfs_string(const char *text)
{
	return (struct vexfs_bytes){ text, strlen(text) };
}

static inline struct vexfs_bytes vexfs_name(const struct dentry *dentry)
{
	return (struct vexfs_bytes){ dentry->d_name.name, dentry->d_name.len };
}

struct vexfs_caller vexfs_caller(void);
struct vexfs_times vexfs_times(const struct inode *inode);
struct inode *vexfs_iget(struct super_block *sb, const struct vexfs_attributes *from);
void vexfs_show(struct inode *inode, const struct vexfs_attributes *from);
int vexfs_refresh(struct inode *inode);
int vexfs_getattr(struct mnt_idmap *idmap, const struct path *path, struct kstat *stat, u32 mask, unsigned int flags);
int vexfs_setattr(struct mnt_idmap *idmap, struct dentry *dentry, struct iattr *attr);
ssize_t vexfs_listxattr(struct dentry *dentry, char *list, size_t size);
struct posix_acl *vexfs_get_acl(struct inode *inode, int type, bool rcu);
int vexfs_set_acl(struct mnt_idmap *idmap, struct dentry *dentry, struct posix_acl *acl, int type);

extern const struct xattr_handler *const vexfs_xattr_handlers[];
extern const struct inode_operations vexfs_directory_inode, vexfs_file_inode, vexfs_link_inode, vexfs_special_inode;
extern const struct file_operations vexfs_directory_file, vexfs_file, vexfs_column_file, vexfs_computed_file, vexfs_query_file;
extern const struct address_space_operations vexfs_pages, vexfs_column_pages;
long vexfs_fallocate(struct file *file, int mode, loff_t offset, loff_t len);
long vexfs_ioctl(struct file *file, unsigned int command, unsigned long argument);
int vexfs_fsync(struct file *file, loff_t start, loff_t end, int datasync);
void vexfs_zero_tail(struct inode *inode, loff_t from, loff_t to);

#endif
