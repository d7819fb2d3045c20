//! The clock, and times between the system's form and the core's.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use vexfs_core::numbers::Time;

/// The time now.
pub fn now() -> Time {
    from_system(SystemTime::now())
}

/// A time of the system as the core's.
pub fn from_system(time: SystemTime) -> Time {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => Time { seconds: after.as_secs() as i64, nanoseconds: after.subsec_nanos() },
        Err(before) => {
            let before = before.duration();
            let (seconds, nanoseconds) = (before.as_secs() as i64, before.subsec_nanos());
            match nanoseconds {
                0 => Time { seconds: -seconds, nanoseconds: 0 },
                _ => Time { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds },
            }
        }
    }
}

/// A time of the core as the system's.
pub fn to_system(time: Time) -> SystemTime {
    let nanoseconds = Duration::from_nanos(u64::from(time.nanoseconds));
    let seconds = Duration::from_secs(time.seconds.unsigned_abs());
    let whole = match time.seconds < 0 {
        true => UNIX_EPOCH.checked_sub(seconds),
        false => UNIX_EPOCH.checked_add(seconds),
    };
    whole.and_then(|whole| whole.checked_add(nanoseconds)).unwrap_or(UNIX_EPOCH)
}
