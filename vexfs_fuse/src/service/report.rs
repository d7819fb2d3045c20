//! What the control directory shows of this host: counters, messages, state.

use std::sync::atomic::{AtomicU64, Ordering};

use vexfs_core::numbers::CollectionId;
use vexfs_core::operations::Report;

use super::Service;

impl Report for Service {
    fn metrics(&self, text: &mut dyn std::fmt::Write) -> std::fmt::Result {
        let cache = self.disk.cache_statistics();
        let opens = self.opens.count();
        let failed = u64::from(self.failure().is_some());
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let rows = [
            ("cache_hits_total", "counter", "metadata blocks found in the cache", cache.hits),
            ("cache_misses_total", "counter", "metadata blocks read from the device", cache.misses),
            ("cache_bytes", "gauge", "memory of the metadata cache", cache.bytes),
            ("cache_bytes_max", "gauge", "memory it may take", cache.bytes_max),
            (
                "index_cache_bytes",
                "gauge",
                "memory of the indexes that questions are answered by",
                self.indexes.bytes(),
            ),
            ("commits_total", "counter", "commits", count(&self.commits)),
            ("journal_records_total", "counter", "records of the journal", count(&self.log_records)),
            ("journal_bytes_total", "counter", "bytes of them", count(&self.log_bytes)),
            ("device_flushes_total", "counter", "flushes of the device", self.disk.flushes()),
            (
                "discarded_bytes_total",
                "counter",
                "bytes given back to the device",
                count(&self.discarded_bytes),
            ),
            ("fuse_reads_total", "counter", "reads that the kernel asked for", count(&self.reads)),
            ("fuse_read_bytes_total", "counter", "bytes of them", count(&self.read_bytes)),
            ("fuse_writes_total", "counter", "writes", count(&self.writes)),
            ("fuse_written_bytes_total", "counter", "bytes of them", count(&self.written_bytes)),
            ("refusals_total", "counter", "refused vectors", count(&self.refusals)),
            ("panics_total", "counter", "requests that met a mistake of this program", count(&self.panics)),
            ("failed", "gauge", "1 if nothing becomes durable until the next mount", failed),
            ("open_inodes", "gauge", "inodes that are open", opens),
        ];
        for (name, kind, help, value) in rows {
            write!(text, "# HELP vexfs_{name} {help}\n# TYPE vexfs_{name} {kind}\nvexfs_{name} {value}\n")?;
        }
        let ratio = cache.hit_ratio();
        writeln!(text, "# HELP vexfs_cache_hit_ratio hits per look-up")?;
        writeln!(text, "# TYPE vexfs_cache_hit_ratio gauge\nvexfs_cache_hit_ratio {ratio:.6}")
    }

    fn log(&self, text: &mut dyn std::fmt::Write) -> std::fmt::Result {
        text.write_str(&self.ring.text())
    }

    fn recall(&self, collection: CollectionId, text: &mut dyn std::fmt::Write) -> std::fmt::Result {
        text.write_str(&self.indexes.recall().render(collection))
    }

    fn status(&self, text: &mut dyn std::fmt::Write) -> std::fmt::Result {
        let seconds = self.started.elapsed().as_secs();
        write!(text, ",\"host\":\"fuse\",\"pid\":{},\"uptime_seconds\":{seconds}", std::process::id())?;
        match self.failure() {
            Some(failure) => {
                write!(text, ",\"failure\":\"{}\"", failure.to_string().replace(['"', '\\'], "'"))
            }
            None => text.write_str(",\"failure\":null"),
        }
    }
}
