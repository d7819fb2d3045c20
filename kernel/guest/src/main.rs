//! `vexfs-guest`: what the kernel module is tested with, on a mount of either host.
//!
//! `populate DIR` makes a tree with one of everything. `manifest DIR` prints all that can be seen of a tree, so that two
//! hosts that mount the same image must print the same. `exercise DIR` changes a tree and checks each change.
//! `workload DIR DISK WORKERS ACTS SEED` changes it at random, and tells on DISK what it is about to do.
//! `stress DIR PROCESSES SECONDS SEED` changes it by processes beside each other, which check what they find.
//! `damaged DISK INDEX DIR SECONDS` mounts damaged images, one after the other, and does everything with them.
//! `load NPY DIR` gives the rows of a matrix files, `loaded NPY DIR` checks them, `ask DIR` prints what is near to what.
//! `bench DIR DIR` measures a VexFS mount beside an ext4 mount.
//! `failing DIR COUNT` writes until the disk fails, `shutdown DIR COUNT` shuts a mount down, and `failed DIR COUNT`
//! checks after another mount what was synced before.
//! `partition DISK NUMBER START LEN` makes part of a disk a disk of its own, or takes that back if LEN is 0.

mod asked;
mod bench;
mod call;
mod damaged;
mod dice;
mod exercise;
mod failing;
mod manifest;
mod populate;
mod quantized;
mod sample;
mod stress;
mod worker;
mod workload;

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[1..] {
        ["populate", directory] => populate::run(Path::new(directory)),
        ["manifest", directory] => manifest::run(Path::new(directory)),
        ["exercise", directory] => exercise::run(Path::new(directory)),
        ["workload", directory, disk, workers, acts, seed] => number(workers).and_then(|workers| {
            let (directory, disk) = (Path::new(directory), Path::new(disk));
            workload::run(directory, disk, workers as u32, number(acts)?, number(seed)?)
        }),
        ["stress", directory, processes, seconds, seed] => number(processes).and_then(|processes| {
            stress::run(Path::new(directory), processes as u32, number(seconds)?, number(seed)?)
        }),
        ["stress-one", directory, process, seconds, seed] => number(process).and_then(|process| {
            stress::one(Path::new(directory), process as u32, number(seconds)?, number(seed)?)
        }),
        ["damaged", disk, index, at, seconds] => number(seconds)
            .and_then(|seconds| damaged::run(Path::new(disk), Path::new(index), Path::new(at), seconds)),
        ["failing", directory, count] => failing::run(Path::new(directory), Path::new(count)),
        ["shutdown", directory, count] => failing::shut_down(Path::new(directory), Path::new(count)),
        ["failed", directory, count] => failing::check(Path::new(directory), Path::new(count)),
        ["bench", vexfs, ext4] => bench::run(Path::new(vexfs), Path::new(ext4)),
        ["load", matrix, directory] => sample::load(Path::new(matrix), Path::new(directory)),
        ["loaded", matrix, directory] => sample::check(Path::new(matrix), Path::new(directory)),
        ["ask", directory] => asked::run(Path::new(directory)),
        ["partition", disk, which, start, len] => partition(disk, which, start, len),
        _ => {
            Err("usage: vexfs-guest populate|manifest|exercise|workload|partition ..., see the source".into())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vexfs-guest: {error}");
            ExitCode::FAILURE
        }
    }
}

fn number(text: &str) -> Result<u64, manifest::Failure> {
    text.parse().map_err(|_| format!("not a number: {text}").into())
}

fn partition(disk: &str, which: &str, start: &str, len: &str) -> manifest::Outcome {
    let disk = std::fs::OpenOptions::new().read(true).write(true).open(disk)?;
    Ok(call::set_partition(&disk, number(which)? as i32, number(start)?, number(len)?)?)
}
