//! The command: paths to its stdin, vectors from its stdout, within a time.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use crate::failure::Failure;

/// Bytes of output that are read at most: 512 files of 4,096 vectors are less.
const OUTPUT_MAX: u64 = 1 << 32;
/// How often a child that closed its output is asked whether it ended.
const POLL: Duration = Duration::from_millis(10);

/// Runs a command once; gives what it wrote, or why it failed. `tick` is called as often as `every` while it runs.
///
/// # Errors
/// A command that cannot be started at all.
pub(super) fn run(
    command: &[OsString],
    environment: &[(&str, String)],
    input: Vec<u8>,
    timeout: Duration,
    every: Duration,
    tick: &mut dyn FnMut(),
) -> Result<Result<Vec<u8>, String>, Failure> {
    let Some((program, arguments)) = command.split_first() else { return Err(Failure::new("no command")) };
    let started = Command::new(program)
        .args(arguments)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut child = started
        .map_err(|error| Failure::new(format!("`{}` cannot be run: {error}", program.to_string_lossy())))?;
    let output = child.stdout.take().map(reader);
    if let Some(stdin) = child.stdin.take() {
        writer(stdin, input);
    }
    let deadline = Instant::now() + timeout;
    let output = output.map_or(Ok(Vec::new()), |output| collect(&output, deadline, every, tick));
    let ended = output.and_then(|output| Ok((output, wait(&mut child, deadline)?)));
    Ok(match ended {
        Ok((output, status)) if status.success() => Ok(output),
        Ok((output, status)) => {
            Err(format!("the command ended with {status}, after {} bytes of output", output.len()))
        }
        Err(why) => {
            // It may be gone by itself.
            let _ = child.kill();
            let _ = child.wait();
            match why {
                Why::Late => Err(format!(
                    "the command took longer than {} s (--timeout) and was ended",
                    timeout.as_secs_f64()
                )),
                Why::Words(words) => Err(words),
            }
        }
    })
}

enum Why {
    Late,
    Words(String),
}

// A command may read before it writes, or not at all.
fn writer(mut stdin: ChildStdin, input: Vec<u8>) {
    thread::spawn(move || {
        // Who does not read all of it has no vector for all of it either, which is told.
        let _ = stdin.write_all(&input);
    });
}

fn reader(output: impl Read + Send + 'static) -> Receiver<Result<Vec<u8>, String>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = output.take(OUTPUT_MAX).read_to_end(&mut bytes);
        let read = read.map(|_| bytes).map_err(|error| format!("the command's output: {error}"));
        // Nobody waits for that of a command that was ended.
        let _ = sender.send(read);
    });
    receiver
}

fn collect(
    output: &Receiver<Result<Vec<u8>, String>>,
    deadline: Instant,
    every: Duration,
    tick: &mut dyn FnMut(),
) -> Result<Vec<u8>, Why> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match output.recv_timeout(left.min(every)) {
            Ok(read) => return read.map_err(Why::Words),
            Err(RecvTimeoutError::Timeout) if left <= every => return Err(Why::Late),
            Err(RecvTimeoutError::Timeout) => tick(),
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Why::Words("the command's output cannot be read".into()));
            }
        }
    }
}

fn wait(child: &mut Child, deadline: Instant) -> Result<ExitStatus, Why> {
    loop {
        let ended =
            child.try_wait().map_err(|error| Why::Words(format!("waiting for the command: {error}")))?;
        match ended {
            Some(status) => return Ok(status),
            None if Instant::now() >= deadline => return Err(Why::Late),
            None => thread::sleep(POLL),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, input: &[u8], milliseconds: u64) -> (Result<Vec<u8>, String>, u32) {
        let command = ["sh", "-c", script].map(OsString::from);
        let mut ticks = 0;
        let run = run(
            &command,
            &[("VEXFS_DIMENSION", "4".into())],
            input.to_vec(),
            Duration::from_millis(milliseconds),
            Duration::from_millis(50),
            &mut || ticks += 1,
        );
        (run.unwrap(), ticks)
    }

    #[test]
    fn input_goes_in_and_output_comes_out() {
        let input = b"a path\n".repeat(100_000);
        assert_eq!(shell("cat", &input, 60_000).0.as_deref(), Ok(&input[..]));
        assert_eq!(shell("echo $VEXFS_DIMENSION", &input, 60_000).0.as_deref(), Ok(&b"4\n"[..]), "unread");
        assert!(shell("sleep 0.3", b"", 60_000).1 >= 3);
    }

    #[test]
    fn what_went_wrong_is_told() {
        assert_eq!(
            shell("echo abc; exit 3", b"", 60_000).0.unwrap_err(),
            "the command ended with exit status: 3, after 4 bytes of output"
        );
        assert!(shell("kill -9 $$", b"", 60_000).0.unwrap_err().contains("signal: 9"));
        assert!(shell("exec sleep 60", b"", 200).0.unwrap_err().contains("longer than 0.2 s"));
        assert!(shell("exec >&-; exec sleep 60", b"", 200).0.unwrap_err().contains("longer than 0.2 s"));
        let nothing = ["/nonexistent/command".into()];
        let words = run(&nothing, &[], Vec::new(), Duration::ZERO, Duration::ZERO, &mut || ()).unwrap_err();
        assert!(words.to_string().starts_with("`/nonexistent/command` cannot be run: "), "{words}");
    }
}
