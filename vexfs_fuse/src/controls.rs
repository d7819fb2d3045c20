//! What ioctl(2) asks of the mount as a whole: to shut down, or to give free space back to the device.

use fuser::Errno;
use zerocopy::little_endian::U64;
use zerocopy::{FromBytes as _, IntoBytes as _};

use crate::convert::errno;
use crate::service::Service;

/// `XFS_IOC_GOINGDOWN`, which ext4 and others have too: `_IOR('X', 125, __u32)`.
const SHUT_DOWN: u32 = 0x8004_587d;
/// `FITRIM` of linux/fs.h: `_IOWR('X', 121, struct fstrim_range)`.
const TRIM: u32 = 0xc018_5879;

/// Does what ioctl(2) asks for, if user `uid` may; gives what it answers.
///
/// # Errors
/// `EPERM`; `ENOTTY` for what there is not; those of [`Service::trim`].
pub fn control(
    service: &Service,
    uid: u32,
    command: u32,
    argument: &[u8],
) -> std::result::Result<Vec<u8>, Errno> {
    if ![SHUT_DOWN, TRIM].contains(&command) {
        return Err(Errno::ENOTTY);
    }
    if ![0, service.shown().owner.0].contains(&uid) {
        return Err(Errno::EPERM);
    }
    if command == SHUT_DOWN {
        service.shut_down();
        return Ok(Vec::new());
    }
    // `struct fstrim_range`: start, length, and the shortest run that counts; in bytes.
    let [start, len, least] = <[U64; 3]>::read_from_bytes(argument).map_err(|_| Errno::EINVAL)?;
    let trimmed = service.trim(start.get(), len.get(), least.get()).map_err(errno)?;
    Ok([start, U64::new(trimmed), least].as_bytes().to_vec())
}
