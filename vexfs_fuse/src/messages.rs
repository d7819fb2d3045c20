//! Messages: to syslog, a file or stderr, and the last 64 KiB of them to `/.vexfs/log`.

use std::collections::VecDeque;
use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use env_logger::{Builder, Target};
use log::LevelFilter;

/// Bytes that `/.vexfs/log` keeps.
const RING_BYTES: usize = 64 << 10;

/// The last messages, to be shown in the control directory.
#[derive(Clone, Debug, Default)]
pub struct Ring(Arc<Mutex<VecDeque<u8>>>);

impl Ring {
    /// What it holds, from the first whole line on.
    pub fn text(&self) -> String {
        let ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes: Vec<u8> = ring.iter().copied().collect();
        let start = if bytes.len() < RING_BYTES {
            0
        } else {
            bytes.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1)
        };
        String::from_utf8_lossy(&bytes[start..]).into_owned()
    }

    fn push(&self, bytes: &[u8]) {
        let mut ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ring.extend(bytes);
        let surplus = ring.len().saturating_sub(RING_BYTES);
        ring.drain(..surplus);
    }
}

/// Where messages go beside the ring.
#[derive(Debug)]
pub enum Sink {
    /// The terminal, in the foreground.
    Stderr,
    /// The system's log.
    Syslog,
    /// A file, appended to.
    File(File),
}

impl Sink {
    /// The file at `path`.
    pub fn file(path: &Path) -> io::Result<Self> {
        OpenOptions::new().create(true).append(true).open(path).map(Self::File)
    }
}

/// Starts logging; `RUST_LOG` sets the level, `info` by default.
pub fn start(sink: Sink) -> Ring {
    let ring = Ring::default();
    let pipe = Tee { ring: ring.clone(), sink };
    // A second start, as in a test, keeps the first logger.
    let _ = Builder::new()
        .filter_level(LevelFilter::Info)
        .parse_default_env()
        .format(|to, record| {
            let seconds = std::time::UNIX_EPOCH.elapsed().map(|time| time.as_secs()).unwrap_or(0);
            writeln!(to, "{seconds} {}: {}", record.level(), record.args())
        })
        .target(Target::Pipe(Box::new(pipe)))
        .try_init();
    ring
}

struct Tee {
    ring: Ring,
    sink: Sink,
}

impl Write for Tee {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.ring.push(bytes);
        match &mut self.sink {
            Sink::Stderr => io::stderr().write_all(bytes)?,
            Sink::File(file) => file.write_all(bytes)?,
            Sink::Syslog => syslog(bytes),
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

// One datagram to /dev/log, as syslog(3) writes it: facility daemon, severity notice.
fn syslog(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let Ok(line) = CString::new(format!("<29>mount.vexfs[{}]: {}", std::process::id(), text.trim_end()))
    else {
        return;
    };
    // Nobody may listen there, as in a container; the ring has the message all the same.
    if let Ok(socket) = std::os::unix::net::UnixDatagram::unbound() {
        let _ = socket.send_to(line.as_bytes(), "/dev/log");
    }
}
