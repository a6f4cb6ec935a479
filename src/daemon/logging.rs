//! Where log lines go: standard error in the foreground, syslog in the background.
//!
//! Syslog is connected to when there is something to say, and again when that fails: a host whose
//! syslog starts later, is restarted or is missing is served like any other.

use std::sync::Mutex;

use log::{Level, Log, Metadata, Record};
use syslog::{Facility, Formatter3164, Logger, LoggerBackend};

type Connection = Logger<LoggerBackend, Formatter3164>;

/// Logs to standard error: without time stamps, which journald adds; `RUST_LOG` has the last word.
pub fn to_stderr(debug: bool) {
    let mut builder = filtered(if debug { "debug" } else { "info" });
    builder.format_timestamp(None);
    // Fails only where a logger is set already, and then that one serves.
    let _ = builder.try_init();
}

/// Logs to syslog as `daemon`. To be called by the process that stays: its id is in every line.
pub fn to_syslog() {
    let filter = filtered("info").build();
    let level = filter.filter();
    let logger = Syslog {
        filter,
        connection: Mutex::new(None),
    };
    if log::set_boxed_logger(Box::new(logger)).is_ok() {
        log::set_max_level(level);
    }
}

fn filtered(default: &str) -> env_logger::Builder {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(default))
}

struct Syslog {
    /// Never prints: it only knows what `RUST_LOG` lets through.
    filter: env_logger::Logger,
    connection: Mutex<Option<Connection>>,
}

impl Log for Syslog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.filter.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.filter.matches(record) {
            return;
        }
        let mut connection = match self.connection.lock() {
            Ok(connection) => connection,
            Err(poisoned) => poisoned.into_inner(),
        };
        // A second time with a new connection, for syslog may have been restarted.
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

    fn flush(&self) {}
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
