//! `vexfs`: collections and vectors of a mounted VexFS volume.
//!
//! It works through ordinary system calls alone: attributes, the control directory, the mapped columns. What it
//! may see and do is what its caller may; it never opens an image.

#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used))]

mod analyze;
mod arguments;
mod ask;
mod chart;
mod chunk;
mod codebook;
mod compact;
mod create;
mod export;
mod failure;
mod formats;
mod import;
mod index;
mod list;
mod log;
mod metadata;
mod output;
mod paths;
mod query;
mod recall;
mod recode;
mod search;
mod site;
mod stale;
mod switch;
mod table;
mod unmount;
mod value;
mod vector;
mod watch;
mod xattr;

use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, Command};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let common = &arguments.common;
    let done = match &arguments.command {
        Command::Create(create) => create::run(create, common),
        Command::Ls => list::collections(common),
        Command::Info(info) => list::info(info, common),
        Command::Set(set) => value::set(set, common),
        Command::Get(get) => value::get(get, common),
        Command::Import(import) => import::run(import, common),
        Command::Export(export) => export::run(export, common),
        Command::Stale(stale) => stale::run(stale, common),
        Command::Watch(watch) => watch::run(watch, common),
        Command::Analyze(analyze) => analyze::run(analyze, common),
        Command::Log(log) => log::run(log, common),
        Command::Compact(compact) => compact::run(compact, common),
        Command::Switch(switch) => switch::run(switch, common),
        Command::Recode(recode) => recode::run(recode, common),
        Command::Stats => list::stats(common),
        Command::Search(search) => search::run(search, common),
        Command::Query(query) => query::run(query, common),
        Command::Meta(arguments) => metadata::meta(arguments, common),
        Command::Column(column) => metadata::column(column, common),
        Command::Index(index) => index::run(index, common),
        Command::Recall(recall) => recall::run(recall, common),
        Command::Umount(umount) => unmount::run(umount),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // `vexfs ls | head` is no failure.
        Err(failure) if failure.is_broken_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("vexfs: {failure}");
            ExitCode::FAILURE
        }
    }
}
