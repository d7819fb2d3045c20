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
        Ok(after) => Time { seconds: clamped(after.as_secs()), nanoseconds: after.subsec_nanos() },
        Err(before) => {
            let before = before.duration();
            let seconds = 0i64.saturating_sub_unsigned(before.as_secs());
            match before.subsec_nanos() {
                0 => Time { seconds, nanoseconds: 0 },
                rest => Time { seconds: seconds.saturating_sub(1), nanoseconds: 1_000_000_000 - rest },
            }
        }
    }
}

/// A time as fuser gives it: before 1970 it takes the nanoseconds away from the seconds, where the kernel adds them.
pub fn from_fuser(time: SystemTime) -> Time {
    match time.duration_since(UNIX_EPOCH) {
        Ok(_) => from_system(time),
        Err(before) => {
            let before = before.duration();
            let seconds = 0i64.saturating_sub_unsigned(before.as_secs());
            Time { seconds, nanoseconds: before.subsec_nanos() }
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

fn clamped(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_come_back_as_they_were() {
        for seconds in [0, 1, -1, -2, 1 << 33, -(1 << 33), i64::MAX, i64::MIN + 1, i64::MIN] {
            for nanoseconds in [0, 1, 999_999_999] {
                let time = Time { seconds, nanoseconds };
                assert_eq!(from_system(to_system(time)), time);
            }
        }
    }

    #[test]
    fn a_time_before_1970_is_what_the_kernel_sent() {
        // What fuser 0.18 makes of it.
        let made = |seconds: u64, nanoseconds| UNIX_EPOCH - Duration::new(seconds, nanoseconds);
        assert_eq!(from_fuser(made(1, 999_999_999)), Time { seconds: -1, nanoseconds: 999_999_999 });
        assert_eq!(from_fuser(made(5, 0)), Time { seconds: -5, nanoseconds: 0 });
        assert_eq!(from_fuser(made(1 << 63, 0)), Time { seconds: i64::MIN, nanoseconds: 0 });
        let after = UNIX_EPOCH + Duration::new(5, 7);
        assert_eq!(from_fuser(after), Time { seconds: 5, nanoseconds: 7 });
    }
}
