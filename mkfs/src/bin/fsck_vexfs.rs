//! fsck.vexfs: checks a volume that is not mounted, and repairs it: all, or what can be repaired without losing
//! anything.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, exit};

use clap::Parser;
use clap::error::ErrorKind;
use indicatif::{ProgressBar, ProgressStyle};
use mkfs::{claim::claim, message, time};
use nix::sys::signal::{SigSet, Signal};
use vexfs_core::check::{CheckOptions, CheckReport, check};
use vexfs_core::device::Direct;
use vexfs_core::error::Error;
use vexfs_host::{Access, LockedImage};

/// Check a VexFS volume, and repair it.
#[derive(Parser)]
#[command(name = "fsck.vexfs", version, after_help = NOTES)]
struct Arguments {
    /// Change nothing, only report
    #[arg(short, conflicts_with_all = ["preen", "automatic", "yes"])]
    no: bool,

    /// Repair without asking what can be repaired without losing anything
    #[arg(short, conflicts_with = "yes")]
    preen: bool,

    /// Repair without asking (the same as -p)
    #[arg(short, conflicts_with_all = ["preen", "yes"])]
    automatic: bool,

    /// Repair everything without asking: what cannot be read, or contradicts what can, is given up;
    /// files that lose their name come to /lost+found
    #[arg(short)]
    yes: bool,

    /// Check even if it seems clean: every check here is a full one
    #[arg(short)]
    force: bool,

    /// Show a progress bar
    #[arg(short = 'C')]
    progress: bool,

    /// Read every vector, too, and check its CRC-32
    #[arg(long)]
    vectors: bool,

    /// Image or block device, not mounted
    image: PathBuf,
}

const NOTES: &str = "\
Without -n, -p, -a or -y it asks on a terminal before it repairs, and changes nothing otherwise.
A volume needs no check after a crash: mounting is enough. Inodes and rows that wait to be freed are no errors.

Exit status, as fsck(8): 0 clean, 1 errors corrected, 4 errors left, 8 the check could not be made,
16 wrong arguments, 32 cancelled; 1 and 4 may come together as 5.";

const CORRECTED: u8 = 1;
const UNCORRECTED: u8 = 4;
const OPERATIONAL: u8 = 8;
const USAGE: u8 = 16;
const CANCELLED: i32 = 32;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse_from(std::env::args_os().map(without_descriptor)) {
        Ok(arguments) => arguments,
        Err(error) => {
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            // Nothing is left to be done if even that cannot be printed.
            let _ = error.print();
            return if asked { ExitCode::SUCCESS } else { ExitCode::from(USAGE) };
        }
    };
    message::start_log("fsck.vexfs");
    exit_when_cancelled();
    match run(&arguments) {
        Ok(status) => ExitCode::from(status),
        Err((status, text)) => {
            eprintln!("fsck.vexfs: {text}");
            ExitCode::from(status)
        }
    }
}

// fsck(8) and systemd pass -C with a descriptor, for a progress format of their own.
fn without_descriptor(argument: std::ffi::OsString) -> std::ffi::OsString {
    let digits = argument.to_str().and_then(|text| text.strip_prefix("-C"));
    let has_descriptor = digits.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    if has_descriptor { "-C".into() } else { argument }
}

// Repairs are one commit, so that to end at any moment leaves the volume as it was or as it should be.
fn exit_when_cancelled() {
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM].into_iter().collect();
    if signals.thread_block().is_ok() {
        std::thread::spawn(move || {
            if signals.wait().is_ok() {
                eprintln!("\nfsck.vexfs: cancelled");
                exit(CANCELLED);
            }
        });
    }
}

fn run(arguments: &Arguments) -> Result<u8, (u8, String)> {
    let may_ask = io::stdin().is_terminal() && io::stdout().is_terminal();
    let asks = !arguments.no && !repairs(arguments) && may_ask;
    let access = if repairs(arguments) || asks { Access::Write } else { Access::Read };
    let image = claim(&arguments.image, access).map_err(|error| (OPERATIONAL, error.to_string()))?;
    let first = pass(&image, arguments, repairs(arguments), true)?;
    let mut corrected = first.report.repaired > 0;
    let mut last = first.report;
    if first.repairable > 0 && asks && confirm(first.repairable) {
        corrected = pass(&image, arguments, true, false)?.report.repaired > 0;
    }
    if corrected {
        // What is left is what a second look finds.
        last = pass(&image, arguments, false, false)?.report;
    }
    print_summary(&arguments.image, &first, &last, corrected);
    let status = if corrected { CORRECTED } else { 0 } | if last.errors > 0 { UNCORRECTED } else { 0 };
    Ok(status)
}

fn repairs(arguments: &Arguments) -> bool {
    arguments.preen || arguments.automatic || arguments.yes
}

struct Pass {
    report: CheckReport,
    repairable: u64,
}

fn pass(image: &LockedImage, arguments: &Arguments, repair: bool, tell: bool) -> Result<Pass, (u8, String)> {
    let bar = if arguments.progress { progress_bar() } else { ProgressBar::hidden() };
    let salvage = repair && arguments.yes;
    let options = CheckOptions { repair, salvage, vectors: arguments.vectors, now: time::now() };
    let mut repairable = 0;
    let checked = check(
        Direct(image),
        options,
        &mut |finding| {
            if tell && (finding.is_error() || finding.is_repairable()) {
                bar.suspend(|| println!("{finding}"));
            }
            repairable += u64::from(finding.is_repairable());
        },
        &mut |done, total| {
            bar.set_length(total);
            bar.set_position(done);
        },
    );
    bar.finish_and_clear();
    let report = checked.map_err(|error| (status_of(error), message::describe(&arguments.image, error)))?;
    Ok(Pass { report, repairable })
}

// Damage that keeps a check from being made is an error left on the volume; all else is the check's own failure.
fn status_of(error: Error) -> u8 {
    match error {
        Error::SuperblocksDamaged | Error::Corrupt(_) | Error::Truncated { .. } => UNCORRECTED,
        _ => OPERATIONAL,
    }
}

fn confirm(count: u64) -> bool {
    print!("Repair {count} of these? [y/N] ");
    let mut answer = String::new();
    let asked = io::stdout().flush().and_then(|()| io::stdin().read_line(&mut answer));
    asked.is_ok() && answer.trim().eq_ignore_ascii_case("y")
}

fn print_summary(path: &Path, first: &Pass, last: &CheckReport, corrected: bool) {
    let path = path.display();
    let seen = first.report;
    println!(
        "{path}: {}, {}, {}, {}, {} in use",
        counted(seen.files, "file", "files"),
        counted(seen.directories, "directory", "directories"),
        counted(seen.collections, "collection", "collections"),
        counted(seen.vectors, "vector", "vectors"),
        counted(seen.blocks_used, "block", "blocks"),
    );
    if seen.orphans > 0 {
        println!("{path}: {} to be freed at the next mount", counted(seen.orphans, "inode", "inodes"));
    }
    let errors = counted(seen.errors, "error", "errors");
    match (seen.errors, corrected, last.errors) {
        (0, ..) if first.repairable > 0 => {
            println!(
                "{path}: clean; the next mount, or fsck.vexfs -p, writes damaged superblock copies anew"
            );
        }
        (0, ..) => println!("{path}: clean"),
        (_, false, _) if first.repairable > 0 => {
            println!(
                "{path}: {errors}; fsck.vexfs -p repairs {} of them without losing anything, -y gives up what is left",
                first.repairable
            );
        }
        (_, false, _) => {
            println!("{path}: {errors}; restore what they name from a copy, or give it up with fsck.vexfs -y")
        }
        (_, true, 0) => println!("{path}: {errors}, all repaired"),
        (_, true, left) => println!("{path}: {errors}, {left} left; restore from a copy what they name"),
    }
}

fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

fn progress_bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {percent}% of the tree, {eta} left") {
        bar.set_style(style);
    }
    bar
}
