//! `vexfs compact`: asks for compaction through the collection's `control` file, and waits for its end.

use std::fs;
use std::io;
use std::thread;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::arguments::{Common, Compact};
use crate::failure::Failure;
use crate::output;
use crate::site::Place;

const POLL: Duration = Duration::from_millis(100);

pub(crate) fn run(arguments: &Compact, common: &Common) -> Result<(), Failure> {
    let place = Place::new(&arguments.collection, None, common)?;
    place.existing()?;
    let before = State::read(&place)?;
    let control = place.directory.join("control");
    fs::write(&control, "compact\n").map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => Failure::new(format!(
            "{}: compacting needs write permission on the collection",
            place.directory.display()
        )),
        _ => Failure::io(&control, &error),
    })?;
    let bar = ProgressBar::new(before.gaps());
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} gaps closed, {elapsed}, {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let after = loop {
        let state = State::read(&place)?;
        bar.set_position(before.gaps().saturating_sub(state.gaps()));
        if !state.compacting {
            break state;
        }
        thread::sleep(POLL);
    };
    bar.finish_and_clear();
    if after.gaps() > 0 {
        let (left, log) = (after.gaps(), place.site.control().join("log"));
        return Err(Failure::new(format!(
            "{}: {left} gaps are left: the volume is full or damaged, or vectors were removed meanwhile ({} says more); \
             run it again once that is mended",
            place.directory.display(),
            log.display()
        )));
    }
    if common.json {
        let closed = before.gaps();
        output::line(&json!({"collection": place.name.collection, "live": after.live, "closed": closed}))?;
    } else {
        println!(
            "{}: {} vectors without a gap, {} gaps closed",
            place.directory.display(),
            after.live,
            before.gaps()
        );
    }
    Ok(())
}

// What `control` shows.
struct State {
    compacting: bool,
    live: u64,
    frontier: u64,
}

impl State {
    fn read(place: &Place) -> Result<Self, Failure> {
        let path = place.directory.join("control");
        let text = fs::read(&path).map_err(|error| Failure::io(&path, &error))?;
        let wrong =
            || Failure::new(format!("{}: not understood; is the mount of another version?", path.display()));
        let state: Value = serde_json::from_slice(&text).map_err(|_| wrong())?;
        let number = |name: &str| state.get(name).and_then(Value::as_u64).ok_or_else(wrong);
        let compacting = state.get("compacting").and_then(Value::as_bool).ok_or_else(wrong)?;
        Ok(Self { compacting, live: number("live")?, frontier: number("frontier")? })
    }

    // Rows that are taken up by no vector.
    fn gaps(&self) -> u64 {
        self.frontier.saturating_sub(self.live)
    }
}
