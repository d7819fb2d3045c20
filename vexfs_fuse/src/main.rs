//! `mount.vexfs`: mounts a volume through FUSE, as mount(8) calls it or by hand.
//!
//! It starts itself again as the daemon, and returns once that one serves, or says why it cannot.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use clap::Parser;
use vexfs_fuse::options::{Arguments, Options};
use vexfs_fuse::{daemon, messages, mounting};

/// mount(8): wrong usage.
const USAGE: u8 = 1;
/// mount(8): mount failure.
const FAILURE: u8 = 32;
const READY: &str = "ready";

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { USAGE } else { 0 });
        }
    };
    let mut options = match Options::parse(&arguments.options, arguments.sloppy) {
        Ok(options) => options,
        Err(message) => return fail(USAGE, &message),
    };
    options.read_only = (options.read_only || arguments.read_only) && !arguments.read_write;
    if arguments.fake {
        return ExitCode::SUCCESS;
    }
    if options.remount {
        return finish(mounting::remount(&arguments.target, &options));
    }
    if !arguments.target.is_dir() {
        return fail(FAILURE, &format!("{}: not a directory to mount on", arguments.target.display()));
    }
    if arguments.foreground {
        let ring = messages::start(messages::Sink::Stderr);
        return finish(serve(&arguments, &options, ring, || Ok(())));
    }
    if arguments.serve {
        return daemonized(&arguments, &options);
    }
    finish(launch(&arguments))
}

fn serve(
    arguments: &Arguments,
    options: &Options,
    ring: messages::Ring,
    ready: impl FnOnce() -> io::Result<()>,
) -> Result<(), String> {
    daemon::run(&arguments.source, &arguments.target, options, ring, || {
        if let Ok(target) = std::path::absolute(&arguments.target) {
            mounting::raise_read_ahead(&target);
        }
        ready()
    })
}

// The daemon's side: serves, and lets go of the caller's terminal once it does.
fn daemonized(arguments: &Arguments, options: &Options) -> ExitCode {
    let _ = nix::unistd::setsid();
    let sink = match &options.log {
        Some(path) => match messages::Sink::file(path) {
            Ok(sink) => sink,
            Err(error) => return fail(USAGE, &format!("log={}: {error}", path.display())),
        },
        None => messages::Sink::Syslog,
    };
    let ring = messages::start(sink);
    let result = serve(arguments, options, ring, || {
        let mut out = io::stdout();
        writeln!(out, "{READY}")?;
        out.flush()?;
        let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
        nix::unistd::dup2_stdout(&null)?;
        nix::unistd::dup2_stderr(&null)?;
        std::env::set_current_dir("/")
    });
    if let Err(message) = &result {
        log::error!("{message}");
    }
    finish(result)
}

// The caller's side: starts the daemon and waits for its word.
fn launch(arguments: &Arguments) -> Result<(), String> {
    let program = std::env::current_exe().map_err(|error| format!("finding myself: {error}"))?;
    let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
    let mut command = Command::new(program);
    command.arg("--serve").arg(absolute(&arguments.source)).arg(absolute(&arguments.target));
    for list in &arguments.options {
        command.arg("-o").arg(list);
    }
    for (on, flag) in [(arguments.read_only, "-r"), (arguments.read_write, "-w"), (arguments.sloppy, "-s")] {
        if on {
            command.arg(flag);
        }
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("starting the daemon: {error}"))?;
    let (Some(out), Some(mut err)) = (child.stdout.take(), child.stderr.take()) else {
        return Err("starting the daemon: no pipe to it".into());
    };
    let mut line = String::new();
    let _ = BufReader::new(out).read_line(&mut line);
    if line.trim_end() == READY {
        return Ok(());
    }
    let mut message = String::new();
    let _ = err.read_to_string(&mut message);
    let _ = child.wait();
    let message = message.trim();
    let message = message.strip_prefix("mount.vexfs: ").unwrap_or(message);
    Err(if message.is_empty() { "the daemon ended without a word".into() } else { message.to_owned() })
}

fn finish(result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => fail(FAILURE, &message),
    }
}

fn fail(code: u8, message: &str) -> ExitCode {
    eprintln!("mount.vexfs: {message}");
    ExitCode::from(code)
}
