//! What is done for the indexes in memory beside questions: they are dropped where memory is wanted elsewhere, or nobody asks;
//! and questions that they answered are compared with the exact answers while the mount is idle.

use std::time::{Duration, Instant};

use super::comparing::compare_waiting;
use crate::service::Service;

/// Between two looks.
const PERIOD: Duration = Duration::from_secs(1);
/// Memory is short if less than this share of it is available.
const AVAILABLE_MIN: u64 = 20;

/// How long no request came to an idle mount.
const IDLE: Duration = Duration::from_secs(3);

/// Tends the indexes until the service stops.
pub fn tend(service: &Service) {
    let (mut requests, mut since) = (service.requests(), Instant::now());
    while !service.rest(PERIOD) {
        let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        service.indexes_kept().tend(is_short(&text).unwrap_or(false));
        if service.requests() != requests {
            (requests, since) = (service.requests(), Instant::now());
        } else if since.elapsed() >= IDLE {
            compare_waiting(service);
        }
    }
}

// What /proc/meminfo tells; none if it does not.
fn is_short(text: &str) -> Option<bool> {
    let number = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.strip_prefix(':')?.split_whitespace().next()?.parse::<u64>().ok()
    };
    Some(number("MemAvailable")? < number("MemTotal")? / AVAILABLE_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_short_below_a_twentieth() {
        let text = |available| format!("MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable:   {available} kB\n");
        assert_eq!(is_short(&text(49)), Some(true));
        assert_eq!(is_short(&text(50)), Some(false));
        assert_eq!(is_short("MemTotal: 1000 kB"), None);
    }
}
