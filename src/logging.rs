//! Where log lines go: standard error in the foreground, syslog in the background.
//!
//! Syslog is connected to when there is something to say, and again when that fails: a host whose
//! syslog starts later, is restarted, is stuck or is missing is served like any other.
//!
//! What is logged can be changed while the program runs: [`set`]. Names in a line cannot forge another line.

use std::io::Write as _;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use log::{Level, LevelFilter, Log, Metadata, Record};
use parking_lot::{Mutex, RwLock};
use syslog::{Facility, Formatter3164, Logger, LoggerBackend};

use crate::printable::clean;

type Connection = Logger<LoggerBackend, Formatter3164>;

/// What is logged where nobody says otherwise.
const USUAL: &str = "info";
/// The variable in which the supervisor tells workers what it was told: they are to log the same.
pub const TOLD: &str = "LISTINDEXFS_LOG";
/// A longer filter is a mistake, bytes.
const LONGEST: usize = 1000;
/// How long syslog may take for a line, and how long nobody tries where it did not take one.
const PATIENCE: Duration = Duration::from_millis(50);
const STUCK: Duration = Duration::from_secs(1);
/// Crates that log, for who means all of one.
const CRATES: [&str; 2] = ["listindexfs", "fuser"];

static SWITCH: OnceLock<Switch> = OnceLock::new();

/// The logger, whose filter can be changed.
struct Switch {
    /// It prints what it lets through, unless that goes to syslog.
    chosen: RwLock<Arc<env_logger::Logger>>,
    /// What is logged where nobody says otherwise.
    usual: String,
    syslog: Option<Mutex<Syslog>>,
}

/// The connection, while there is one.
#[derive(Default)]
struct Syslog {
    connection: Option<Connection>,
    /// It takes nothing: until then nobody tries.
    stuck_until: Option<Instant>,
}

/// Logs to standard error: without time stamps, which journald adds; `RUST_LOG` has the last word.
pub fn to_stderr(debug: bool) {
    begin(if debug { "debug" } else { USUAL }, None);
}

/// Logs to syslog as `daemon`. To be called by the process that stays: its id is in every line.
pub fn to_syslog() {
    begin(USUAL, Some(Mutex::default()));
}

fn begin(usual: &str, syslog: Option<Mutex<Syslog>>) {
    let usual = std::env::var(env_logger::DEFAULT_FILTER_ENV).unwrap_or(usual.to_owned());
    let chosen = RwLock::new(Arc::new(logger(&usual)));
    let switch = SWITCH.get_or_init(|| Switch {
        chosen,
        usual,
        syslog,
    });
    // Fails only where a logger is set already, and then that one serves.
    if log::set_logger(switch).is_ok() {
        log::set_max_level(switch.level());
    }
    // What the supervisor says it has checked.
    if let Some(Err(error)) = std::env::var(TOLD).ok().map(|told| set(Some(&told))) {
        log::warn!("{TOLD}: {error}");
    }
}

fn logger(filter: &str) -> env_logger::Logger {
    let mut builder = env_logger::Builder::new();
    builder.parse_filters(filter).format_timestamp(None);
    // journald takes the level from the number in front (sd-daemon(3)).
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        builder
            .format(|out, record| writeln!(out, "<{}>{}", severity(record.level()), record.args()));
    }
    builder.build()
}

/// As syslog(3) counts.
fn severity(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

/// From now on this is logged, written as in `RUST_LOG`; `None`: what is usual. Gives what holds now.
///
/// # Errors
/// As [`checked`].
pub fn set(filter: Option<&str>) -> Result<String, String> {
    let Some(switch) = SWITCH.get() else {
        return Err("nothing is logged here".to_owned());
    };
    let filter = filter.map_or(Ok(switch.usual.clone()), checked)?;
    *switch.chosen.write() = Arc::new(logger(&filter));
    log::set_max_level(switch.level());
    Ok(filter)
}

/// The filter, in which modules that it does not name go on to be logged as usual.
///
/// # Errors
/// What is wrong with it.
pub fn checked(filter: &str) -> Result<String, String> {
    if filter.len() > LONGEST || filter.chars().any(char::is_control) {
        return Err(format!("must be at most {LONGEST} bytes, and on one line"));
    }
    let mut builder = env_filter::Builder::new();
    builder.try_parse(filter).map_err(|_| {
        format!("`{filter}` is no filter: write a level, as debug, or MODULE=LEVEL, as listindexfs::user=debug")
    })?;
    let directives = filter.split('/').next().unwrap_or_default().split(',');
    let mut names_all = false;
    for directive in directives.map(str::trim) {
        let is_level = directive.parse::<LevelFilter>().is_ok();
        names_all |= is_level;
        let is_module = directive.contains("::") || CRATES.contains(&directive);
        if !is_level && !is_module && !directive.contains('=') {
            return Err(format!(
                "no such level: `{directive}`: write error, warn, info, debug, trace or off, or MODULE=LEVEL"
            ));
        }
    }
    Ok(match names_all {
        true => filter.to_owned(),
        false => format!("{USUAL},{filter}"),
    })
}

impl Switch {
    fn level(&self) -> LevelFilter {
        self.chosen.read().filter()
    }

    /// Not held while something is written, which may wait.
    fn chosen(&self) -> Arc<env_logger::Logger> {
        Arc::clone(&self.chosen.read())
    }
}

impl Log for Switch {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.chosen().enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        let chosen = self.chosen();
        if !chosen.matches(record) {
            return;
        }
        // There are names and paths in it that others have made.
        let line = clean(&record.args().to_string());
        match &self.syslog {
            None => chosen.log(
                &Record::builder()
                    .metadata(record.metadata().clone())
                    .module_path(record.module_path())
                    .args(format_args!("{line}"))
                    .build(),
            ),
            Some(syslog) => to(syslog, record.level(), &line),
        }
    }

    fn flush(&self) {}
}

/// A second time with a new connection, for syslog may have been restarted.
fn to(syslog: &Mutex<Syslog>, level: Level, line: &str) {
    let mut syslog = syslog.lock();
    if syslog
        .stuck_until
        .is_some_and(|until| Instant::now() < until)
    {
        return;
    }
    for _ in 0..2 {
        if syslog.connection.is_none() {
            syslog.connection = connect();
        }
        let connection = syslog.connection.as_mut();
        match connection.map(|logger| say(logger, level, line)) {
            None | Some(Ok(())) => return,
            Some(Err(_)) => syslog.connection = None,
        }
    }
    syslog.stuck_until = Some(Instant::now() + STUCK);
}

fn connect() -> Option<Connection> {
    patient(syslog::unix(formatter()).ok()?).ok()
}

fn formatter() -> Formatter3164 {
    Formatter3164 {
        facility: Facility::LOG_DAEMON,
        hostname: None,
        process: "listindexfs".to_owned(),
        pid: std::process::id(),
    }
}

/// Whoever says something may be holding others up: what a syslog that is stuck does not take is lost.
fn patient(logger: Connection) -> std::io::Result<Connection> {
    match &logger.backend {
        LoggerBackend::Unix(socket) => socket.set_write_timeout(Some(PATIENCE))?,
        LoggerBackend::UnixStream(stream) => stream.get_ref().set_write_timeout(Some(PATIENCE))?,
        LoggerBackend::Udp(..) | LoggerBackend::Tcp(_) => {}
    }
    Ok(logger)
}

fn say(logger: &mut Connection, level: Level, line: &str) -> syslog::Result<()> {
    match level {
        Level::Error => logger.err(line),
        Level::Warn => logger.warning(line),
        Level::Info => logger.info(line),
        Level::Debug | Level::Trace => logger.debug(line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("debug", "debug")]
    #[case("WARN", "WARN")]
    #[case("off", "off")]
    #[case("listindexfs::user=debug", "info,listindexfs::user=debug")]
    #[case("warn,listindexfs::user=debug", "warn,listindexfs::user=debug")]
    #[case("listindexfs::user::flight", "info,listindexfs::user::flight")]
    #[case("fuser", "info,fuser")]
    #[case("debug/alice", "debug/alice")]
    fn what_is_not_named_goes_on_as_usual(#[case] filter: &str, #[case] expected: &str) {
        assert_eq!(checked(filter), Ok(expected.to_owned()));
    }

    #[rstest]
    #[case("debugg", "no such level: `debugg`")]
    #[case("info,verbose", "no such level: `verbose`")]
    #[case("listindexfs=loud", "loud")]
    #[case("a=b=c", "a=b=c")]
    #[case("", "no such level: ``")]
    #[case("info\0", "on one line")]
    #[case("info\nx=y", "on one line")]
    fn what_is_not_understood_is_said(#[case] filter: &str, #[case] expected: &str) {
        let refused = checked(filter).expect_err("refused");
        assert!(refused.contains(expected), "{refused}");
    }

    #[test]
    fn a_syslog_that_is_stuck_holds_nobody_up() {
        let (ours, _theirs) = std::os::unix::net::UnixDatagram::pair().expect("a pair");
        let logger = Logger::new(LoggerBackend::Unix(ours), formatter());
        let mut logger = patient(logger).expect("set");
        while say(&mut logger, Level::Info, "nobody reads").is_ok() {}
        let syslog = Mutex::new(Syslog {
            connection: Some(logger),
            stuck_until: Some(Instant::now() + Duration::from_secs(3600)),
        });
        to(&syslog, Level::Info, "nobody tries");
        assert!(syslog.lock().connection.is_some());
    }

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_name_forges_no_line() {
        let (sink, mut builder) = (Sink::default(), env_logger::Builder::new());
        let pipe = env_logger::Target::Pipe(Box::new(sink.clone()));
        let plain = |out: &mut env_logger::fmt::Formatter, record: &Record<'_>| {
            writeln!(out, "{}", record.args())
        };
        builder.parse_filters("info").target(pipe).format(plain);
        let switch = Switch {
            chosen: RwLock::new(Arc::new(builder.build())),
            usual: USUAL.to_owned(),
            syslog: None,
        };
        let mut record = Record::builder();
        record.level(Level::Warn).target("listindexfs");
        let name = "x\n<3>listindexfs: all is well\u{1b}[2J";
        switch.log(&record.args(format_args!("{name}: no")).build());
        let said = String::from_utf8(sink.0.lock().clone()).expect("UTF-8");
        assert_eq!(said, "x\\n<3>listindexfs: all is well\\u{1b}[2J: no\n");
    }

    #[test]
    fn a_long_filter_is_refused() {
        let long = "listindexfs::user=debug,".repeat(100) + "info";
        assert!(checked(&long).is_err());
    }
}
