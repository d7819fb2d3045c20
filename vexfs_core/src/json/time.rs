//! Timestamps in texts, as nanoseconds since 1970.

use core::fmt::{self, Write};

use crate::memory::Text;

/// A date and time as RFC 3339 writes it (`2026-11-21T14:30:00.5+01:00`, the zone being `Z` if it is left out), or a date
/// alone; `None` for anything else, and for what 64 bits of nanoseconds do not reach (years 1678 to 2261).
pub(crate) fn nanoseconds(text: &[u8]) -> Option<i64> {
    let (date, rest) = text.split_at_checked(10)?;
    let [year, month, day] = [number(&date[..4])?, number(&date[5..7])?, number(&date[8..])?];
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if date[4] != b'-' || date[7] != b'-' || !(1..=length).contains(&day) {
        return None;
    }
    let seconds = days(year, month, day) * 86_400;
    let (within, fraction) = match rest {
        [] => (0, 0),
        [b'T' | b't' | b' ', time @ ..] => time_of_day(time)?,
        _ => return None,
    };
    (seconds + within).checked_mul(1_000_000_000)?.checked_add(fraction)
}

/// Appends a time as [`nanoseconds`] reads it, in UTC.
pub(crate) fn write_time(text: &mut Text, nanoseconds: u64) -> fmt::Result {
    let (seconds, fraction) = (nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000);
    let (days_past, second) = ((seconds / 86_400) as i64, seconds % 86_400);
    // Not a year too many, and at most one too few.
    let mut year = 1970 + days_past * 400 / 146_097 - 1;
    while days(year + 1, 1, 1) <= days_past {
        year += 1;
    }
    let mut month = 1;
    while month < 12 && days(year, month + 1, 1) <= days_past {
        month += 1;
    }
    let day = days_past - days(year, month, 1) + 1;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    write!(text, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:09}Z")
}

// Seconds of the day in UTC, perhaps below zero or above a day, and nanoseconds.
fn time_of_day(text: &[u8]) -> Option<(i64, i64)> {
    let (clock, mut rest) = text.split_at_checked(8)?;
    let [hour, minute, second] = [number(&clock[..2])?, number(&clock[3..5])?, number(&clock[6..])?];
    // A leap second counts as the one after it.
    if clock[2] != b':' || clock[5] != b':' || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut fraction = 0;
    if let [b'.', behind @ ..] = rest {
        let len = behind.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if len == 0 {
            return None;
        }
        for place in 0..9 {
            fraction = fraction * 10 + behind[..len].get(place).map_or(0, |digit| i64::from(digit - b'0'));
        }
        rest = &behind[len..];
    }
    let offset = match rest {
        [] | [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), h, ten, b':', m, one] => {
            let (hours, minutes) = (number(&[*h, *ten])?, number(&[*m, *one])?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let offset = hours * 3600 + minutes * 60;
            if *sign == b'-' { -offset } else { offset }
        }
        _ => return None,
    };
    Some((hour * 3600 + minute * 60 + second - offset, fraction))
}

// Days from 1970-01-01 in the proleptic Gregorian calendar: years that begin in March end with the leap day, and 400 of
// them have 146,097 days.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn number(digits: &[u8]) -> Option<i64> {
    digits
        .iter()
        .try_fold(0, |value, digit| digit.is_ascii_digit().then(|| value * 10 + i64::from(digit - b'0')))
}
