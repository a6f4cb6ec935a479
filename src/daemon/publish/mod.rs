//! Gives what is counted to whoever monitors: over HTTP (`metrics=`), and in a file (`metrics_file=`).
//!
//! The supervisor does it, so that there is an answer while no worker is there. All of it is in threads of its own, with bounds: what
//! goes wrong here is a line in the log, and the mount is served all the same.

mod http;
mod textfile;

use std::sync::Arc;

use parking_lot::Mutex;

use crate::options::Config;
use crate::stats::Stats;
use crate::stats::exposition::{self, Shown};

/// What is told.
#[derive(Debug)]
pub struct Told {
    /// Where it is mounted.
    pub mountpoint: String,
    /// The numbers.
    pub stats: Arc<Stats>,
    /// The worker's version, while there is one.
    pub worker: Arc<Mutex<Option<String>>>,
}

/// What is given until this is dropped.
#[derive(Debug)]
pub struct Publishing {
    _file: Option<textfile::Writer>,
}

impl Told {
    fn text(&self) -> String {
        exposition::text(&[Shown {
            mountpoint: self.mountpoint.clone(),
            versions: (
                env!("CARGO_PKG_VERSION").to_owned(),
                self.worker.lock().clone(),
            ),
            reading: self.stats.read(),
        }])
    }
}

/// Begins to give it, in the ways that the options name.
pub fn start(config: &Config, told: Told) -> Publishing {
    let told = Arc::new(told);
    if let Some(address) = config.publish.http {
        if let Err(error) = http::serve(address, Arc::clone(&told)) {
            log::error!("no metrics over HTTP: cannot start a thread: {error}");
        }
    }
    let file = config.publish.file.clone().and_then(|path| {
        let writer = textfile::Writer::start(path, told);
        let cannot = |error| log::error!("no file of metrics: cannot start a thread: {error}");
        writer.map_err(cannot).ok()
    });
    Publishing { _file: file }
}
