//! `make-golden [NAME ...]`: writes the golden images that are not there yet, or those that are named, and their
//! listings into `tests/golden/` (see `vexfs_tests::golden`).

use std::fs::File;
use std::io::Write;
use std::process::{Command, ExitCode, Stdio};

use vexfs_tests::golden::{Features, IMAGES, directory, maker};

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    for (name, block_size) in IMAGES {
        let there = directory().join(format!("{name}.img.gz")).exists();
        if !wanted.iter().any(|wanted| wanted == name) && (there || !wanted.is_empty()) {
            continue;
        }
        match make(name, block_size) {
            Ok(size) => println!("{name}: {size} bytes packed"),
            Err(error) => {
                eprintln!("make-golden: {name}: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

fn make(name: &str, block_size: u32) -> Result<u64, Box<dyn std::error::Error>> {
    let made = maker::image(block_size, Features::of(name));
    let (bytes, listing) = made.map_err(|error| error.to_string())?;
    let directory = directory();
    std::fs::create_dir_all(&directory)?;
    std::fs::write(directory.join(format!("{name}.json")), listing.to_string())?;
    let packed = File::create(directory.join(format!("{name}.img.gz")))?;
    // Without name and time in the header, so that equal images give equal files.
    let gzip = Command::new("gzip").arg("-9n").stdin(Stdio::piped()).stdout(packed.try_clone()?).spawn();
    let mut gzip = gzip.map_err(|error| format!("cannot run gzip: {error}"))?;
    if let Some(mut input) = gzip.stdin.take() {
        input.write_all(&bytes)?;
    }
    if !gzip.wait()?.success() {
        return Err("gzip failed".into());
    }
    Ok(packed.metadata()?.len())
}
