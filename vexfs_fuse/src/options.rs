//! What mount.vexfs is told: the command line of a mount(8) helper, and its `-o` options.

use std::path::PathBuf;

use clap::{ArgAction, Parser};

/// Mounts a VexFS image or block device through FUSE.
#[derive(Debug, Parser)]
#[command(
    name = "mount.vexfs",
    version,
    after_help = "\
OPTIONS of -o, separated by commas:
  ro, rw               read-only, or not (default rw)
  noatime, relatime    never mark reads, or at most once a day (default)
  allow_other          let other users in; permissions are always checked by the kernel
  ctldir               list .vexfs in the root directory
  implicit=off|owner|any
                       who may create a collection by setting a first vector
                       (default any; owner with allow_other)
  cache=SIZE           memory for metadata, such as 64M (default 32M)
  index_cache=SIZE     memory for the indexes that .vexfs/.../query is answered by
                       (default 256M); 0 answers every question exactly
  commit=SECONDS       seconds between commits (default 5)
  discard, nodiscard   give blocks that were freed back to the image's filesystem or
                       device after each commit, or keep them (default)
  fuseblk              mount a block device so that sync(2), syncfs(2) and umount(2) wait
                       until all is on disk (root; Linux 6.18); requests are smaller and
                       slower. With an image file: -o loop,fuseblk by mount(8)
  dev, suid            honour device nodes and setuid bits (root only)
  log=FILE             messages go to FILE instead of syslog
  remount              change ro, rw, noatime of a mount

WHEN THE DISK FAILS a write or a flush, every fsync fails with EIO from then on and
the volume is read-only until it is mounted anew. .vexfs/status.json (failure),
.vexfs/metrics (vexfs_failed) and the log say so; df and statvfs(3) cannot, because
FUSE has no field for it.

EXAMPLES
  mkfs.vexfs disk.img 2G && mount.vexfs disk.img /mnt
  mount -t vexfs disk.img /mnt -o noatime,commit=30
  umount /mnt"
)]
pub struct Arguments {
    /// Image file or block device.
    pub source: PathBuf,
    /// Directory to mount on.
    pub target: PathBuf,
    /// Options, separated by commas; may be given several times.
    #[arg(short = 'o', value_name = "OPTIONS")]
    pub options: Vec<String>,
    /// Stay in the foreground, with messages on stderr.
    #[arg(long)]
    pub foreground: bool,
    /// Read-only.
    #[arg(short = 'r')]
    pub read_only: bool,
    /// Read-write.
    #[arg(short = 'w')]
    pub read_write: bool,
    /// Do nothing but check the arguments.
    #[arg(short = 'f')]
    pub fake: bool,
    /// Ignore options that are not known.
    #[arg(short = 's')]
    pub sloppy: bool,
    /// Accepted for mount(8): mtab is never written.
    #[arg(short = 'n')]
    pub no_mtab: bool,
    /// Say more.
    #[arg(short = 'v', action = ArgAction::Count)]
    pub verbose: u8,
    /// Accepted for mount(8): the type is always vexfs.
    #[arg(short = 't', value_name = "TYPE")]
    pub kind: Option<String>,
    /// Internal: serve, and say on stdout when ready.
    #[arg(long, hide = true)]
    pub serve: bool,
}

/// Who may create a collection by setting a first vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Implicit {
    /// Nobody.
    Off,
    /// The user who mounts.
    Owner,
    /// Anyone.
    Any,
}

/// The `-o` options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Change nothing.
    pub read_only: bool,
    /// Never mark reads.
    pub no_access_times: bool,
    /// Let other users in.
    pub allow_other: bool,
    /// List `.vexfs` in the root.
    pub list_control: bool,
    /// Who may create collections implicitly; none = by `allow_other`.
    pub implicit: Option<Implicit>,
    /// Bytes of the metadata cache.
    pub cache_bytes: usize,
    /// Bytes of indexes that questions of nearness are answered by.
    pub index_cache_bytes: usize,
    /// Seconds between commits.
    pub commit_seconds: u64,
    /// Give freed blocks back to the image's filesystem or device.
    pub discard: bool,
    /// Mount as `fuseblk`, whose kernel's side asks for SYNCFS and waits for DESTROY.
    pub block: bool,
    /// Honour device nodes.
    pub devices: bool,
    /// Honour setuid bits.
    pub setuid: bool,
    /// Forbid execution.
    pub no_exec: bool,
    /// Messages go there.
    pub log: Option<PathBuf>,
    /// Change an existing mount.
    pub remount: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            read_only: false,
            no_access_times: false,
            allow_other: false,
            list_control: false,
            implicit: None,
            cache_bytes: 32 << 20,
            index_cache_bytes: 256 << 20,
            commit_seconds: 5,
            discard: false,
            block: false,
            devices: false,
            setuid: false,
            no_exec: false,
            log: None,
            remount: false,
        }
    }
}

impl Options {
    /// Parses lists of options; `sloppy` ignores unknown ones.
    pub fn parse(lists: &[String], sloppy: bool) -> Result<Self, String> {
        let mut options = Self::default();
        for option in lists.iter().flat_map(|list| list.split(',')).filter(|option| !option.is_empty()) {
            options.apply(option, sloppy)?;
        }
        Ok(options)
    }

    fn apply(&mut self, option: &str, sloppy: bool) -> Result<(), String> {
        let (name, value) = match option.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (option, None),
        };
        match (name, value) {
            ("ro", None) => self.read_only = true,
            ("rw", None) => self.read_only = false,
            ("noatime", None) => self.no_access_times = true,
            ("relatime" | "atime", None) => self.no_access_times = false,
            ("allow_other", None) => self.allow_other = true,
            ("ctldir", None) => self.list_control = true,
            ("discard", None) => self.discard = true,
            ("nodiscard", None) => self.discard = false,
            ("fuseblk", None) => self.block = true,
            ("dev", None) => self.devices = true,
            ("nodev", None) => self.devices = false,
            ("suid", None) => self.setuid = true,
            ("nosuid", None) => self.setuid = false,
            ("noexec", None) => self.no_exec = true,
            ("exec", None) => self.no_exec = false,
            ("remount", None) => self.remount = true,
            ("implicit", Some("off")) => self.implicit = Some(Implicit::Off),
            ("implicit", Some("owner")) => self.implicit = Some(Implicit::Owner),
            ("implicit", Some("any")) => self.implicit = Some(Implicit::Any),
            ("cache", Some(size)) => self.cache_bytes = parse_size("cache", size)?,
            ("index_cache", Some("0")) => self.index_cache_bytes = 0,
            ("index_cache", Some(size)) => self.index_cache_bytes = parse_size("index_cache", size)?,
            ("commit", Some(seconds)) => {
                self.commit_seconds =
                    seconds.parse().ok().filter(|seconds| (1..=3600).contains(seconds)).ok_or_else(|| {
                        format!("commit={seconds}: give a number of seconds from 1 to 3600")
                    })?;
            }
            ("log", Some(path)) => self.log = Some(PathBuf::from(path)),
            // What mount(8) and fstab carry for others.
            (
                "defaults" | "auto" | "noauto" | "nofail" | "_netdev" | "user" | "nouser" | "users" | "owner",
                None,
            )
            | (
                "async" | "sync" | "dirsync" | "lazytime" | "nolazytime" | "default_permissions" | "loop",
                None,
            ) => {}
            // What the kernel tells of the mount: mount(8) hands it back to remount.
            ("user_id" | "group_id" | "max_read" | "blksize", Some(_)) => {}
            _ if name.starts_with("x-") || name.starts_with("comment") => {}
            _ if sloppy => {}
            _ => {
                return Err(format!(
                    "unknown or incomplete option '{option}'; mount.vexfs --help lists them"
                ));
            }
        }
        Ok(())
    }
}

// `64M`, `1G`, `4096`.
fn parse_size(name: &str, text: &str) -> Result<usize, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "B" => 1,
        "K" | "k" | "KiB" => 1 << 10,
        "M" | "m" | "MiB" => 1 << 20,
        "G" | "g" | "GiB" => 1usize << 30,
        _ => 0,
    };
    let size =
        digits.parse::<usize>().ok().and_then(|number| number.checked_mul(unit)).filter(|size| *size > 0);
    size.ok_or_else(|| format!("{name}={text}: give a size such as 64M"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Options, String> {
        Options::parse(&[text.to_owned()], false)
    }

    #[test]
    fn options_are_understood_or_named() {
        let options = parse(
            "ro,noatime,implicit=owner,cache=64M,index_cache=1G,commit=30,log=/x,ctldir,x-systemd.y,defaults",
        )
        .unwrap();
        assert!(options.read_only && options.no_access_times && options.list_control);
        assert_eq!(options.implicit, Some(Implicit::Owner));
        assert_eq!((options.cache_bytes, options.index_cache_bytes), (64 << 20, 1 << 30));
        assert_eq!((options.commit_seconds, parse("index_cache=0").unwrap().index_cache_bytes), (30, 0));
        for bad in [
            "nonsense",
            "commit=0",
            "commit=x",
            "cache=12X",
            "cache=",
            "index_cache=x",
            "cache=0",
            "implicit=all",
            "log",
        ] {
            let message = parse(bad).unwrap_err();
            assert!(message.contains(bad.split('=').next().unwrap()), "{message}");
        }
        assert!(Options::parse(&["nonsense".to_owned()], true).is_ok());
    }
}
