//! Where log lines go: standard error in the foreground, syslog in the background.
//!
//! Syslog is connected to when there is something to say, and again when that fails: a host whose
//! syslog starts later, is restarted or is missing is served like any other.
//!
//! What is logged can be changed while the program runs: [`set`].

use std::io::Write as _;
use std::sync::{Arc, OnceLock};

use log::{Level, LevelFilter, Log, Metadata, Record};
use parking_lot::{Mutex, RwLock};
use syslog::{Facility, Formatter3164, Logger, LoggerBackend};

type Connection = Logger<LoggerBackend, Formatter3164>;

/// What is logged where nobody says otherwise.
const USUAL: &str = "info";
/// The variable in which the supervisor tells workers what it was told: they are to log the same.
pub const TOLD: &str = "LISTINDEXFS_LOG";
/// A longer filter is a mistake, bytes.
const LONGEST: usize = 1000;
/// Crates that log, for who means all of one.
const CRATES: [&str; 2] = ["listindexfs", "fuser"];

static SWITCH: OnceLock<Switch> = OnceLock::new();

/// The logger, whose filter can be changed.
struct Switch {
    /// It prints what it lets through, unless that goes to syslog.
    chosen: RwLock<Arc<env_logger::Logger>>,
    /// What is logged where nobody says otherwise.
    usual: String,
    syslog: Option<Mutex<Option<Connection>>>,
}

/// Logs to standard error: without time stamps, which journald adds; `RUST_LOG` has the last word.
pub fn to_stderr(debug: bool) {
    begin(if debug { "debug" } else { USUAL }, None);
}

/// Logs to syslog as `daemon`. To be called by the process that stays: its id is in every line.
pub fn to_syslog() {
    begin(USUAL, Some(Mutex::new(None)));
}

fn begin(usual: &str, syslog: Option<Mutex<Option<Connection>>>) {
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
    let understood = env_filter::Builder::new().try_parse(filter).map(drop);
    understood.map_err(|error| error.to_string())?;
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
        match &self.syslog {
            None => chosen.log(record),
            Some(connection) if chosen.matches(record) => to(connection, record),
            Some(_) => {}
        }
    }

    fn flush(&self) {}
}

/// A second time with a new connection, for syslog may have been restarted.
fn to(connection: &Mutex<Option<Connection>>, record: &Record<'_>) {
    let mut connection = connection.lock();
    for _ in 0..2 {
        if connection.is_none() {
            *connection = connect();
        }
        match connection.as_mut().map(|logger| say(logger, record)) {
            None | Some(Ok(())) => return,
            Some(Err(_)) => *connection = None,
        }
    }
}

fn connect() -> Option<Connection> {
    syslog::unix(Formatter3164 {
        facility: Facility::LOG_DAEMON,
        hostname: None,
        process: "listindexfs".to_owned(),
        pid: std::process::id(),
    })
    .ok()
}

fn say(logger: &mut Connection, record: &Record<'_>) -> syslog::Result<()> {
    let message = record.args().to_string();
    match record.level() {
        Level::Error => logger.err(message),
        Level::Warn => logger.warning(message),
        Level::Info => logger.info(message),
        Level::Debug | Level::Trace => logger.debug(message),
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
    fn a_long_filter_is_refused() {
        let long = "listindexfs::user=debug,".repeat(100) + "info";
        assert!(checked(&long).is_err());
    }
}
