//! What the control directory shows of this host: messages, counters, state.

use alloc::vec::Vec;
use core::fmt::{self, Arguments, Write};
use core::sync::atomic::{AtomicU64, Ordering};

use vexfs_core::Error;
use vexfs_core::memory::{self, Text};
use vexfs_core::operations::Report;

use crate::host::{Host, Level, now};
use crate::mount::Mount;

/// Bytes that `/.vexfs/log` keeps.
const LOG_BYTES: usize = 64 << 10;

/// The last messages.
#[derive(Debug)]
pub(crate) struct Log(Vec<u8>);

impl Log {
    /// None yet.
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds a message, and says it in the kernel's log.
    pub(crate) fn say(&mut self, host: Host, level: Level, text: Arguments<'_>) {
        let mut line = Text::new();
        if line.write_fmt(text).is_err() {
            return;
        }
        host.log(level, line.as_bytes());
        let mut stamped = Text::new();
        // Without memory the kernel's log alone has it.
        let _ = writeln!(stamped, "{} {}", now().seconds, Lossy(line.as_bytes()));
        if self.0.len() + stamped.as_bytes().len() > LOG_BYTES {
            let keep = self.0.len() / 2;
            let start = self.0[keep..].iter().position(|byte| *byte == b'\n').map_or(0, |at| keep + at + 1);
            self.0.copy_within(start.., 0);
            self.0.truncate(self.0.len() - start);
        }
        let _ = memory::extend(&mut self.0, stamped.as_bytes());
    }
}

/// Bytes as text; what is no UTF-8 becomes U+FFFD.
struct Lossy<'b>(&'b [u8]);

impl fmt::Display for Lossy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            f.write_str(chunk.valid())?;
            if !chunk.invalid().is_empty() {
                f.write_str("\u{fffd}")?;
            }
        }
        Ok(())
    }
}

impl Mount {
    /// Counts and tells why an attribute of ours was not changed: setfattr can only print an errno.
    pub(crate) fn refused(&self, process: i32, inode: u64, name: &[u8], error: Error) {
        if name.starts_with(b"user.vexfs.") || name.starts_with(b"user.vector.") {
            self.refusals.fetch_add(1, Ordering::Relaxed);
            let name = Lossy(name);
            self.say(
                Level::Warning,
                format_args!("refused: pid {process}, inode {inode}, attribute {name}: {error}"),
            );
        }
    }
}

impl Report for Mount {
    fn metrics(&self, text: &mut dyn Write) -> fmt::Result {
        let cache = self.disk().cache_statistics();
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let rows = [
            ("cache_hits_total", "counter", "metadata blocks found in the cache", cache.hits),
            ("cache_misses_total", "counter", "metadata blocks read from the device", cache.misses),
            ("cache_bytes", "gauge", "memory of the metadata cache", cache.bytes),
            ("commits_total", "counter", "commits", count(&self.commits)),
            ("journal_records_total", "counter", "records of the journal", count(&self.log_records)),
            ("device_flushes_total", "counter", "flushes of the device", self.disk().flushes()),
            ("refusals_total", "counter", "refused vectors", count(&self.refusals)),
            (
                "failed",
                "gauge",
                "1 if nothing becomes durable until the next mount",
                u64::from(self.has_failed()),
            ),
        ];
        for (name, kind, help, value) in rows {
            write!(text, "# HELP vexfs_{name} {help}\n# TYPE vexfs_{name} {kind}\nvexfs_{name} {value}\n")?;
        }
        // No floats in a kernel: millionths, written as a decimal fraction.
        let millionths =
            (cache.hits.saturating_mul(1_000_000)).checked_div(cache.hits + cache.misses).unwrap_or(0);
        writeln!(text, "# HELP vexfs_cache_hit_ratio hits per look-up")?;
        writeln!(text, "# TYPE vexfs_cache_hit_ratio gauge")?;
        writeln!(text, "vexfs_cache_hit_ratio {}.{:06}", millionths / 1_000_000, millionths % 1_000_000)
    }

    fn log(&self, text: &mut dyn Write) -> fmt::Result {
        write!(text, "{}", Lossy(&self.log.read().0))
    }

    fn status(&self, text: &mut dyn Write) -> fmt::Result {
        text.write_str(",\"host\":\"kernel\",\"failure\":")?;
        match self.disk().failure() {
            Some(failure) => write!(text, "\"{failure}\""),
            None if self.has_failed() => text.write_str("\"a commit could not be put together\""),
            None => text.write_str("null"),
        }
    }
}
