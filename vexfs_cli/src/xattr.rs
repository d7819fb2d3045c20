//! Extended attributes by system call; the one place with `unsafe`.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Whether an attribute may, must or must not be there when it is set.
#[derive(Clone, Copy)]
pub(crate) enum Mode {
    Any = 0,
    Create = libc::XATTR_CREATE as isize,
    Replace = libc::XATTR_REPLACE as isize,
}

/// Sets an attribute.
pub(crate) fn set(path: &Path, name: &str, value: &[u8]) -> io::Result<()> {
    set_as(path, name, value, Mode::Any)
}

/// Sets an attribute that is or is not there already: else `EEXIST` or `ENODATA`.
pub(crate) fn set_as(path: &Path, name: &str, value: &[u8], mode: Mode) -> io::Result<()> {
    let (path, name) = (c_string(path.as_os_str())?, c_string(OsStr::new(name))?);
    // SAFETY: both strings end with a NUL, and `value` is readable for its length.
    let result = unsafe {
        libc::setxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), mode as i32)
    };
    checked(result as isize).map(drop)
}

/// Removes an attribute.
pub(crate) fn remove(path: &Path, name: &str) -> io::Result<()> {
    let (path, name) = (c_string(path.as_os_str())?, c_string(OsStr::new(name))?);
    // SAFETY: both strings end with a NUL.
    checked(unsafe { libc::removexattr(path.as_ptr(), name.as_ptr()) } as isize).map(drop)
}

/// The value of an attribute; `None` if there is none of that name.
pub(crate) fn get(path: &Path, name: &str) -> io::Result<Option<Vec<u8>>> {
    let (path, name) = (c_string(path.as_os_str())?, c_string(OsStr::new(name))?);
    let read = |buffer: &mut [u8]| {
        // SAFETY: both strings end with a NUL, and `buffer` is writable for its length.
        checked(unsafe {
            libc::getxattr(path.as_ptr(), name.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len())
        })
    };
    match grown(read) {
        Err(error) if error.raw_os_error() == Some(libc::ENODATA) => Ok(None),
        other => other.map(Some),
    }
}

/// True if there is an attribute of that name.
pub(crate) fn exists(path: &Path, name: &str) -> io::Result<bool> {
    let (path, name) = (c_string(path.as_os_str())?, c_string(OsStr::new(name))?);
    // SAFETY: both strings end with a NUL; with length 0 nothing is written.
    match checked(unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), std::ptr::null_mut(), 0) }) {
        Err(error) if error.raw_os_error() == Some(libc::ENODATA) => Ok(false),
        other => other.map(|_| true),
    }
}

/// The names of all attributes.
pub(crate) fn list(path: &Path) -> io::Result<Vec<String>> {
    let path = c_string(path.as_os_str())?;
    let names = grown(|buffer| {
        // SAFETY: the string ends with a NUL, and `buffer` is writable for its length.
        checked(unsafe { libc::listxattr(path.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) })
    })?;
    let names = names.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    Ok(names.map(|name| String::from_utf8_lossy(name).into_owned()).collect())
}

// Reads with a buffer that takes most values at once; Linux allows no more than 64 KiB.
fn grown(read: impl Fn(&mut [u8]) -> io::Result<usize>) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; 8192];
    let len = match read(&mut buffer) {
        Err(error) if error.raw_os_error() == Some(libc::ERANGE) => {
            buffer.resize(65536, 0);
            read(&mut buffer)?
        }
        other => other?,
    };
    buffer.truncate(len);
    Ok(buffer)
}

fn checked(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

fn c_string(text: &OsStr) -> io::Result<CString> {
    CString::new(text.as_bytes()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_list_and_read_back() {
        let path = std::env::temp_dir().join(format!("vexfs_cli-xattr-{}", std::process::id()));
        std::fs::write(&path, b"").unwrap();
        let done = (|| {
            set(&path, "user.small", b"value")?;
            Ok::<_, io::Error>((get(&path, "user.small")?, exists(&path, "user.none")?, list(&path)?))
        })();
        std::fs::remove_file(&path).unwrap();
        match done {
            Ok((value, none, names)) => {
                assert_eq!(value.as_deref(), Some(&b"value"[..]));
                assert!(!none && names.contains(&"user.small".to_owned()));
            }
            // A temporary directory without user attributes has its own answer.
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EOPNOTSUPP)),
        }
    }

    #[test]
    fn a_name_with_a_nul_is_refused() {
        assert_eq!(set(Path::new("/"), "user.\0", b"").unwrap_err().raw_os_error(), Some(libc::EINVAL));
    }
}
