//! Errors and messages of the programs, in words, with the program's name in front.

use std::path::Path;

use vexfs_core::error::Error;

/// Puts a core error about the image at `path` into a sentence that says what to do.
pub fn describe(path: &Path, error: Error) -> String {
    let advice = match error {
        Error::NotVexfs => "; make one with mkfs.vexfs, or check the path",
        Error::SuperblocksDamaged => "; restore it from a copy",
        Error::Device { .. } => "; see the messages above, and check the disk and its free space",
        _ => "",
    };
    format!("{}: {error}{advice}", path.display())
}

/// Sends the messages of the libraries to stderr: errors and warnings, or what `RUST_LOG` says.
pub fn start_log(program: &'static str) {
    let filter = env_logger::Env::default().default_filter_or("warn");
    env_logger::Builder::from_env(filter)
        .format(move |out, record| {
            use std::io::Write;
            writeln!(out, "{program}: {}", record.args())
        })
        .init();
}
