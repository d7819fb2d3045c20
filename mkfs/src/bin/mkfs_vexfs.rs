//! mkfs.vexfs: makes an empty VexFS volume on a block device or in a file.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use mkfs::{message, signature, size, time, uuid};
use vexfs_core::device::BlockDevice;
use vexfs_core::error::Error;
use vexfs_core::format::Superblock;
use vexfs_core::make::{MakeOptions, make};
use vexfs_core::numbers::Time;
use vexfs_host::{Access, LockedImage};

/// Make a VexFS volume on a block device or in a file.
#[derive(Parser)]
#[command(name = "mkfs.vexfs", version, after_help = EXAMPLES)]
struct Arguments {
    /// Label of the volume, at most 32 bytes
    #[arg(short = 'L', long)]
    label: Option<String>,

    /// Block size: 4K, 8K or 16K
    #[arg(short, long = "block-size", value_name = "SIZE", default_value = "4K", value_parser = block_size)]
    block_size: u32,

    /// UUID of the volume; the same UUID and time give the same bytes [default: random]
    #[arg(short = 'U', long, value_parser = parse_uuid)]
    uuid: Option<Choice>,

    /// Creation time in seconds since 1970 [default: now]
    #[arg(long, allow_hyphen_values = true, value_parser = time::parse)]
    time: Option<Time>,

    /// Overwrite a filesystem or partition table that is there
    #[arg(short, long)]
    force: bool,

    /// Print errors only
    #[arg(short, long)]
    quiet: bool,

    /// Block device, or file, which is created if it does not exist
    #[arg(value_name = "DEV|FILE")]
    path: PathBuf,

    /// Size of the volume, such as 64M or 2G [default: that of the device or file]
    #[arg(value_parser = size::parse)]
    size: Option<u64>,
}

const EXAMPLES: &str = "\
Examples:
  mkfs.vexfs notes.img 2G               a new file of 2 GiB (it takes space only as it fills)
  mkfs.vexfs -L notes /dev/sdb1         a whole partition
  mkfs.vexfs -b 16K -f old.img          anew over whatever is there, at its size
  mount -t vexfs notes.img /mnt         ... and use it

A mounted or locked image is always refused, also with -f.";

#[derive(Clone, Copy)]
enum Choice {
    Random,
    Given([u8; 16]),
}

fn parse_uuid(text: &str) -> Result<Choice, String> {
    if text == "random" { Ok(Choice::Random) } else { uuid::parse(text).map(Choice::Given) }
}

fn block_size(text: &str) -> Result<u32, String> {
    match size::parse(text)? {
        4096 => Ok(4096),
        8192 => Ok(8192),
        16384 => Ok(16384),
        _ => Err("the block size is 4K, 8K or 16K".into()),
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    message::start_log("mkfs.vexfs");
    match format(&arguments) {
        Ok(superblock) => {
            if !arguments.quiet {
                print_made(&arguments.path, &superblock);
            }
            ExitCode::SUCCESS
        }
        Err(text) => {
            eprintln!("mkfs.vexfs: {text}");
            ExitCode::FAILURE
        }
    }
}

fn format(arguments: &Arguments) -> Result<Superblock, String> {
    let path = &arguments.path;
    let label = arguments.label.as_deref().unwrap_or("").as_bytes();
    if label.len() > 32 {
        return Err(format!("the label has {} bytes; 32 are allowed", label.len()));
    }
    let uuid = match arguments.uuid {
        Some(Choice::Given(uuid)) => uuid,
        Some(Choice::Random) | None => uuid::random()
            .map_err(|error| format!("no random UUID from /dev/urandom: {error}; give one with -U"))?,
    };
    let is_new = create(path, arguments.size)?;
    let claimed = LockedImage::open(path, Access::Write, Duration::ZERO).map_err(|error| error.to_string());
    let made = claimed.and_then(|mut image| {
        let size = prepare(&mut image, arguments)?;
        let options = MakeOptions {
            block_size: arguments.block_size,
            size,
            uuid,
            label,
            hash_seed: uuid::hash_seed(&uuid),
            uid: nix::unistd::geteuid().as_raw(),
            gid: nix::unistd::getegid().as_raw(),
            now: arguments.time.unwrap_or_else(time::now),
            journal_blocks: None,
        };
        make(&image, &options).map_err(|error| message::describe(path, error))
    });
    if made.is_err() && is_new {
        // The half-made file is ours; the error that is reported is the one that matters.
        let _ = fs::remove_file(path);
    }
    made
}

// Creates the file if there is none; true if it did.
fn create(path: &Path, size: Option<u64>) -> Result<bool, String> {
    if fs::exists(path).map_err(|error| format!("{}: {error}", path.display()))? {
        return Ok(false);
    }
    if size.is_none() {
        return Err(format!("{}: no such file; give a SIZE to create it, such as 2G", path.display()));
    }
    let created = fs::OpenOptions::new().write(true).create_new(true).open(path);
    created.map(|_| true).map_err(|error| format!("{}: cannot create: {error}", path.display()))
}

// Makes sure that the volume fits and that nothing is lost unasked, and clears the image; gives the volume's size.
fn prepare(image: &mut LockedImage, arguments: &Arguments) -> Result<u64, String> {
    let path = &arguments.path;
    let describe = |error: Error| message::describe(path, error);
    let found = signature::find(image, path).map_err(describe)?;
    if let Some(name) = found.filter(|_| !arguments.force) {
        return Err(format!("{}: holds {name}; use -f to overwrite it", path.display()));
    }
    let size = arguments.size.unwrap_or(image.len());
    if size < vexfs_core::format::Layout::SIZE_MIN {
        let advice = if arguments.size.is_none() { "; give a SIZE, such as 2G" } else { "" };
        return Err(format!(
            "{}: {} is too small, a volume has at least 1 MiB{advice}",
            path.display(),
            size::display(size)
        ));
    }
    if size > image.len() {
        if image.is_block_device() {
            let (asked, has) = (size::display(size), size::display(image.len()));
            return Err(format!("{}: {asked} asked for, but the device has {has}", path.display()));
        }
        image
            .resize(size)
            .map_err(|error| format!("{}: cannot make it {size} bytes long: {error}", path.display()))?;
    }
    image.discard(0, image.len()).map_err(describe)?;
    signature::wipe(image).map_err(describe)?;
    Ok(size)
}

fn print_made(path: &Path, superblock: &Superblock) {
    let (block_size, blocks) = (superblock.block_size.get(), superblock.block_count.get());
    let label = String::from_utf8_lossy(&superblock.label);
    println!("{}: VexFS volume made", path.display());
    println!("  uuid     {}", uuid::display(&superblock.uuid));
    if !label.trim_end_matches('\0').is_empty() {
        println!("  label    {}", label.trim_end_matches('\0'));
    }
    println!(
        "  size     {} ({blocks} blocks of {block_size} bytes)",
        size::display(blocks * u64::from(block_size))
    );
    println!("  free     {}", size::display(superblock.free_blocks.get() * u64::from(block_size)));
    println!("  journal  {}", size::display(superblock.journal_blocks.get() * u64::from(block_size)));
}
