//! `orlop logs`: reads the files itself; the agent only says where they are.

mod line;
mod printer;
mod reader;
mod segment;
mod watch;

use super::args::LogsArgs;
use super::client::Client;
use super::exit::{self, CliError};
use super::streams::Streams;
use crate::api::{ContainerView, ErrorKind, LogView, PodName, Request, Response};
use jiff::Timestamp;
use printer::Printer;
use reader::{LogReader, Step};
use std::io::{self, BufWriter};
use std::os::fd::AsFd;
use watch::{Wake, Watch};

/// With `-f`, how long a log is silent, in milliseconds, before the agent is asked
/// whether its container is gone: nothing in the folder tells.
const QUIET_MS: u16 = 500;

/// Prints a container's log.
pub fn run(client: &Client, streams: &Streams, args: &LogsArgs, now: Timestamp) -> Result<(), CliError> {
    let pod = args.pod.resolve()?;
    let request = Request::Log { pod: pod.clone(), container: args.container.clone() };
    let view = ask(client, &request)?;
    let attempt = match args.previous {
        true => previous(&view, restarting(client, pod, args.container.as_deref())?)?,
        false => view.attempt,
    };
    let unreadable = |source| CliError::Log { path: view.dir.clone(), source };

    // Watched before it is read, so that nothing falls between.
    let watch = if args.follow { Some(Watch::new(&view.dir).map_err(unreadable)?) } else { None };
    let mut reader = LogReader::new(&view.dir, attempt, args.follow).map_err(unreadable)?;
    let skip = match args.tail {
        Some(lines) => reader.skip_to_tail(lines).map_err(unreadable)?,
        None => [false; 2],
    };
    let since = args.since.map(|since| since.moment(now));
    let (mut stdout, mut stderr) = (BufWriter::new(&streams.stdout), BufWriter::new(&streams.stderr));
    let mut printer = Printer::new(&mut stdout, &mut stderr, args.timestamps, since, skip);
    match watch {
        None => drain(&mut reader, &mut printer, &view),
        Some(watch) => follow(client, &request, &view, streams, watch, (&mut reader, &mut printer)),
    }
}

fn ask(client: &Client, request: &Request) -> Result<LogView, CliError> {
    match client.ask(request)? {
        Response::Log(view) => Ok(view),
        _ => Err(CliError::Unexpected),
    }
}

/// The attempt that ended last, as kubectl means it: while a container waits for
/// its restart that is the newest.
fn previous(view: &LogView, restarting: bool) -> Result<u32, CliError> {
    let attempt = if restarting { Some(view.attempt) } else { view.attempt.checked_sub(1) };
    attempt.ok_or_else(|| CliError::Refused {
        kind: ErrorKind::NotFound,
        message: "the container's first attempt has none before it; leave out --previous to see its log".into(),
    })
}

/// Whether the container waits, for example in CrashLoopBackOff.
fn restarting(client: &Client, pod: PodName, container: Option<&str>) -> Result<bool, CliError> {
    let Response::Pod(detail) = client.ask(&Request::Pod { pod })? else { return Err(CliError::Unexpected) };
    let meant = |seen: &&ContainerView| container.map_or(!seen.init, |name| seen.name == name);
    Ok(detail.pod.containers.iter().find(meant).is_some_and(|seen| seen.state == "waiting"))
}

/// Prints what is there.
fn drain(reader: &mut LogReader, printer: &mut Printer<'_>, view: &LogView) -> Result<(), CliError> {
    let unreadable = |source: io::Error| CliError::Log { path: view.dir.clone(), source };
    loop {
        match reader.step().map_err(unreadable)? {
            Step::Line(line) => printer.raw(&line)?,
            Step::NextAttempt => printer.end_lines()?,
            Step::End => return Ok(printer.flush()?),
        }
    }
}

/// Prints what is there and what comes, until the container is gone for good.
fn follow(
    client: &Client,
    request: &Request,
    view: &LogView,
    streams: &Streams,
    mut watch: Watch,
    (reader, printer): (&mut LogReader, &mut Printer<'_>),
) -> Result<(), CliError> {
    let mut live = view.live;
    let mut warned = false;
    loop {
        drain(reader, printer, view)?;
        if !live {
            return Ok(());
        }
        let wake = watch.wait(streams.stdout.as_fd(), QUIET_MS);
        match wake.map_err(|source| CliError::Log { path: view.dir.clone(), source })? {
            Wake::Changed => {}
            Wake::Unread => return Err(CliError::Output(io::ErrorKind::BrokenPipe.into())),
            Wake::Quiet => match ask(client, request) {
                Ok(now) => live = now.live && now.dir == view.dir,
                Err(CliError::Refused { kind: ErrorKind::NotFound, .. }) => live = false,
                // The pod outlives its agent, and so does its log.
                Err(error) if error.code() == exit::NO_AGENT => {
                    if !std::mem::replace(&mut warned, true) {
                        streams.note("note: the agent does not answer; its log is followed until it does");
                    }
                }
                // An agent that has just been started may not have seen its pods yet.
                Err(CliError::Refused { .. }) => {}
                Err(error) => return Err(error),
            },
        }
    }
}
