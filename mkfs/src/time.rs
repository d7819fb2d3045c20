//! Times on the command line and on the screen.

use std::time::{SystemTime, UNIX_EPOCH};

use vexfs_core::numbers::Time;

/// Now.
pub fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time { seconds: since.as_secs().try_into().unwrap_or(i64::MAX), nanoseconds: since.subsec_nanos() }
}

/// The time that `text` means: seconds since 1970, with up to nine digits of fraction.
pub fn parse(text: &str) -> Result<Time, String> {
    let wrong =
        || format!("`{text}` is no time: give seconds since 1970, such as 1700000000 or 1700000000.5");
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_number =
        !fraction.is_empty() && fraction.len() <= 9 && fraction.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number {
        return Err(wrong());
    }
    let nanoseconds = format!("{fraction:0<9}").parse().map_err(|_| wrong())?;
    Ok(Time { seconds: seconds.parse().map_err(|_| wrong())?, nanoseconds })
}

/// `2023-11-14 22:13:20.500000000 UTC`.
pub fn display(time: Time) -> String {
    let (days, second) = (time.seconds.div_euclid(86_400), time.seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{:09} UTC", time.nanoseconds)
}

// Year, month and day of the day `days` after 1970-01-01 (Howard Hinnant's civil_from_days).
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days.saturating_add(719_468);
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_fractions() {
        assert_eq!(parse("1700000000").unwrap(), Time { seconds: 1_700_000_000, nanoseconds: 0 });
        assert_eq!(parse("-1.5").unwrap(), Time { seconds: -1, nanoseconds: 500_000_000 });
        for wrong in ["", "now", "1.", "1.1234567890", "1.-1", ".5"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn known_days() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00"),
            (-1, "1969-12-31 23:59:59"),
            (951_782_400, "2000-02-29 00:00:00"),
            (1_700_000_000, "2023-11-14 22:13:20"),
            (4_107_542_400, "2100-03-01 00:00:00"),
        ] {
            assert!(display(Time { seconds, nanoseconds: 0 }).starts_with(text), "{seconds}");
        }
        let _never_panics = (
            display(Time { seconds: i64::MAX, nanoseconds: 0 }),
            display(Time { seconds: i64::MIN, nanoseconds: 0 }),
        );
    }
}
