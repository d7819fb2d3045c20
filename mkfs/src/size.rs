//! Sizes as people write them.

/// The bytes that `text` means: a number with `K`, `M`, `G`, `T`, `P` (or `KiB` ...: powers of 1024),
/// `KB` ... (powers of 1000), or nothing for bytes. A fraction is fine: `1.5G`.
pub fn parse(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor = factor(unit.trim()).ok_or_else(|| {
        format!("unknown unit `{}`: use K, M, G, T (of 1024), or KB, MB ... (of 1000)", unit.trim())
    })?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let wrong = || format!("`{text}` is no size: give a number and a unit, such as 64M or 2G");
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') || fraction.len() > 9 {
        return Err(wrong());
    }
    let digits = |text: &str| if text.is_empty() { Ok(0) } else { text.parse::<u64>().map_err(|_| wrong()) };
    let scale = 10_u128.pow(fraction.len() as u32);
    let bytes = u128::from(digits(whole)?) * u128::from(factor)
        + u128::from(digits(fraction)?) * u128::from(factor) / scale;
    u64::try_from(bytes).ok().filter(|bytes| *bytes > 0).ok_or_else(wrong)
}

fn factor(unit: &str) -> Option<u64> {
    let upper = unit.to_ascii_uppercase();
    let (letter, rest) = match upper.chars().next() {
        None | Some('B') if upper.len() <= 1 => return Some(1),
        None => return None,
        Some(letter) => (letter, &upper[letter.len_utf8()..]),
    };
    let power = 1 + "KMGTP".find(letter)? as u32;
    match rest {
        "" | "IB" => Some(1024_u64.pow(power)),
        "B" => Some(1000_u64.pow(power)),
        _ => None,
    }
}

/// `bytes` for a person: `512 B`, `4.0 KiB`, `2.0 GiB`.
pub fn display(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_of_1024_unless_they_end_in_b_alone() {
        for (text, bytes) in [
            ("1", 1),
            ("4096", 4096),
            ("512B", 512),
            ("4K", 4096),
            ("4k", 4096),
            ("4KiB", 4096),
            ("4kb", 4000),
            ("64M", 64 << 20),
            ("1.5G", 3 << 29),
            (" 2 GiB ", 2 << 30),
            ("0.5M", 1 << 19),
            ("3T", 3 << 40),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in
            ["", "K", "4X", "1.2.3", "-1", "0", "1e9", "99999999999P", "4KK", ".", "1.1234567890K", "4é"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn shown_with_one_digit() {
        assert_eq!(display(1023), "1023 B");
        assert_eq!(display(4096), "4.0 KiB");
        assert_eq!(display(3 << 29), "1.5 GiB");
        assert_eq!(display(u64::MAX), "16.0 EiB");
    }
}
