//! The life of a mount: open and lock the image, mount, serve, commit, let go.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::Duration;

use fuser::{Config, MountOption, Session, SessionACL};
use nix::sys::signal::{SigSet, Signal};
use vexfs_core::{Implicit as CoreImplicit, MountOptions, Volume};
use vexfs_host::{Access, LockedImage};

use crate::capabilities::REQUEST_BYTES;
use crate::disk::Disk;
use crate::filesystem::Vexfs;
use crate::messages::Ring;
use crate::mounting;
use crate::near::{self, Indexes};
use crate::notifier::Notifier;
use crate::options::{Implicit, Options};
use crate::relay;
use crate::service::{Later, Service, THREADS};

/// How long a mount waits for another program to let go of the image, as after an unmount.
const WAIT_FOR_IMAGE: Duration = Duration::from_secs(10);

/// Mounts `source` on `target` and serves it until it is unmounted; calls `ready` once it is mounted.
///
/// # Errors
/// In words, for a person.
pub fn run(
    source: &Path,
    target: &Path,
    options: &Options,
    ring: Ring,
    ready: impl FnOnce() -> io::Result<()>,
) -> Result<(), String> {
    let access = if options.read_only { Access::Read } else { Access::Write };
    let image = open_image(source, access, options)?;
    let disk = Disk::new(image, options.cache_bytes);
    let volume = Volume::mount(disk.clone(), mount_options(options))
        .map_err(|error| format!("{}: {error}", source.display()))?;
    for (slot, damaged) in volume.damaged_slots().iter().enumerate() {
        if *damaged {
            log::warn!("superblock copy {slot} is damaged; the next commits write it anew");
        }
    }
    let mut options = options.clone();
    if volume.is_read_only() && !options.read_only {
        log::warn!("it has features that this version can read but not write: it is mounted read-only");
        options.read_only = true;
    }
    let options = &options;
    let recovered = volume.recovered().records;
    if recovered > 0 {
        log::info!("it was not unmounted: replayed {recovered} record(s) of its journal");
    }
    let indexes = Indexes::new(options.index_cache_bytes as u64);
    let request_bytes = if options.block { relay::REQUEST_BYTES } else { REQUEST_BYTES };
    let service = Service::new(disk, volume, ring, options.discard, indexes);
    let service = Arc::new(service.with_requests_of(request_bytes));
    let signals = stop_signals();
    signals.thread_block().map_err(|error| format!("signals: {error}"))?;

    let filesystem = Vexfs::new(Arc::clone(&service), !options.no_access_times && !options.read_only);
    let target = target.canonicalize().map_err(|error| format!("{}: {error}", target.display()))?;
    let (session, notifier) = start_session(&service, filesystem, source, &target, options)?;
    let queue = service.connect(notifier);
    let helpers = Helpers::start(&service, options, queue)?;
    let place = target.clone();
    thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            if signals.wait().is_ok() {
                log::info!("a signal asks to unmount");
                // In use: it vanishes from sight, and ends with its last user.
                if mounting::unmount(&place, false).or_else(|_| mounting::unmount(&place, true)).is_err() {
                    log::error!("{} cannot be unmounted", place.display());
                }
            }
        })
        .map_err(|error| format!("threads: {error}"))?;
    log::info!("{} is mounted on {}", source.display(), target.display());
    ready().map_err(|error| format!("telling the caller: {error}"))?;

    let served = session.run();
    let stopped = service.stop();
    helpers.join();
    served.map_err(|error| format!("serving {}: {error}", target.display()))?;
    stopped.map_err(|error| format!("the last commit failed: {error}"))?;
    log::info!("{} is unmounted", source.display());
    Ok(())
}

// Of a `fuseblk` mount the kernel claims the device, so the daemon must not; the lock keeps our own tools out either way.
fn open_image(source: &Path, access: Access, options: &Options) -> Result<LockedImage, String> {
    if !options.block {
        return LockedImage::open(source, access, WAIT_FOR_IMAGE).map_err(|error| error.to_string());
    }
    if !nix::unistd::geteuid().is_root() {
        return Err("only root can mount with -o fuseblk; leave it out".to_owned());
    }
    let image =
        LockedImage::open_for_mount(source, access, WAIT_FOR_IMAGE).map_err(|error| error.to_string())?;
    match image.is_block_device() {
        true => Ok(image),
        false => Err(format!(
            "{source} is no block device, which -o fuseblk needs; `mount -t vexfs -o loop,fuseblk {source} DIR` \
             makes one of it",
            source = source.display()
        )),
    }
}

// Root mounts by itself, others through fusermount3.
fn start_session(
    service: &Arc<Service>,
    filesystem: Vexfs,
    source: &Path,
    target: &Path,
    options: &Options,
) -> Result<(Session<Vexfs>, Notifier), String> {
    let config = config(source, options, service.request_bytes());
    if !nix::unistd::geteuid().is_root() {
        let session = Session::new(filesystem, target, &config);
        let session = session.map_err(|error| mounting::why_not(target, &error))?;
        let notifier = Notifier::new(&session).map_err(|error| format!("descriptors: {error}"))?;
        return Ok((session, notifier));
    }
    let image = source.canonicalize().unwrap_or_else(|_| source.to_path_buf());
    let fuse = mounting::mount_fuse(&image, target, options, service.request_bytes())?;
    let acl = config.acl;
    let started = || -> io::Result<(Session<Vexfs>, Notifier)> {
        let notifier = Notifier::new(&fuse)?;
        let fuse = if options.block { relay::start(fuse, service)? } else { fuse };
        Ok((Session::from_fd(filesystem, fuse, acl, config)?, notifier))
    };
    started().map_err(|error| {
        // Nothing is served there.
        let _ = mounting::unmount(target, true);
        format!("the kernel's FUSE did not start: {error}")
    })
}

struct Helpers(Vec<thread::JoinHandle<()>>);

impl Helpers {
    fn start(service: &Arc<Service>, options: &Options, queue: Receiver<Later>) -> Result<Self, String> {
        let interval = Duration::from_secs(options.commit_seconds);
        let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
            thread::Builder::new().name(name.into()).spawn(work).map_err(|error| format!("threads: {error}"))
        };
        let (committing, telling, tending) = (Arc::clone(service), Arc::clone(service), Arc::clone(service));
        Ok(Self(vec![
            spawn("commit", Box::new(move || committing.commit_by_time(interval)))?,
            spawn("notify", Box::new(move || telling.serve_later(&queue)))?,
            spawn("tend", Box::new(move || near::tend(&tending)))?,
        ]))
    }

    fn join(self) {
        for handle in self.0 {
            let _ = handle.join();
        }
    }
}

fn mount_options(options: &Options) -> MountOptions {
    let owner = nix::unistd::getuid().as_raw();
    let implicit = options.implicit.unwrap_or(match options.allow_other {
        true => Implicit::Owner,
        false => Implicit::Any,
    });
    MountOptions {
        read_only: options.read_only,
        implicit: match implicit {
            Implicit::Off => CoreImplicit::Off,
            Implicit::Owner => CoreImplicit::Owner(owner),
            Implicit::Any => CoreImplicit::Any,
        },
        list_control: options.list_control,
        daemon: true,
    }
}

fn config(source: &Path, options: &Options, request_bytes: u32) -> Config {
    let name = source.canonicalize().unwrap_or_else(|_| source.to_path_buf());
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::FSName(name.to_string_lossy().into_owned()),
        MountOption::Subtype("vexfs".into()),
        MountOption::DefaultPermissions,
        MountOption::CUSTOM(format!("max_read={request_bytes}")),
        if options.read_only { MountOption::RO } else { MountOption::RW },
        if options.devices { MountOption::Dev } else { MountOption::NoDev },
        if options.setuid { MountOption::Suid } else { MountOption::NoSuid },
    ];
    if options.no_access_times {
        config.mount_options.push(MountOption::NoAtime);
    }
    if options.no_exec {
        config.mount_options.push(MountOption::NoExec);
    }
    config.acl = if options.allow_other { SessionACL::All } else { SessionACL::Owner };
    config.n_threads = Some(THREADS);
    // The relay has one descriptor: a reply must come by the one that its request came by.
    config.clone_fd = !options.block;
    config
}

fn stop_signals() -> SigSet {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        signals.add(signal);
    }
    signals
}
