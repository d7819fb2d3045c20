//! `vexfs-guest`: what the kernel module is tested with, on a mount of either host.
//!
//! `populate DIR` makes a tree with one of everything. `manifest DIR` prints all that can be seen of a tree, so that two
//! hosts that mount the same image must print the same. `exercise DIR` changes a tree and checks each change.

mod call;
mod exercise;
mod manifest;
mod populate;

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[1..] {
        ["populate", directory] => populate::run(Path::new(directory)),
        ["manifest", directory] => manifest::run(Path::new(directory)),
        ["exercise", directory] => exercise::run(Path::new(directory)),
        _ => Err("usage: vexfs-guest populate|manifest|exercise DIR".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vexfs-guest: {error}");
            ExitCode::FAILURE
        }
    }
}
