//! A file for node_exporter's textfile collector: written beside and renamed, so that nobody reads half of it.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::Builder;
use std::time::Duration;

use super::Told;

/// How often it is written.
const PERIOD: Duration = Duration::from_secs(15);
/// How long the end of a mount waits until the file is gone.
const END_WITHIN: Duration = Duration::from_secs(1);

/// Writes until it is dropped; then the file goes, so that it does not tell of a mount that has ended.
#[derive(Debug)]
pub struct Writer {
    /// Dropped first.
    ends: Option<Sender<()>>,
    ended: Receiver<()>,
}

impl Writer {
    /// Begins.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(path: PathBuf, told: Arc<Told>) -> io::Result<Self> {
        let (ends, end) = channel::<()>();
        let (done, ended) = channel();
        let run = move || {
            let mut failed = false;
            loop {
                match write(&path, &told.text()) {
                    Ok(()) => failed = false,
                    Err(error) if !failed => {
                        log::warn!("metrics are not written to {}: {error}", path.display());
                        failed = true;
                    }
                    Err(_) => {}
                }
                if end.recv_timeout(PERIOD) != Err(RecvTimeoutError::Timeout) {
                    break;
                }
            }
            if let Err(error) = fs::remove_file(&path) {
                log::debug!("{}: {error}", path.display());
            }
            let _ = done.send(()); // fails where nobody waits any more
        };
        Builder::new().name("metrics file".to_owned()).spawn(run)?;
        let ends = Some(ends);
        Ok(Writer { ends, ended })
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.ends.take());
        // Not longer: it may lie where nobody answers.
        let _ = self.ended.recv_timeout(END_WITHIN);
    }
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new"); // which the collector does not read
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // Through no link that somebody has put there.
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(&new);
    file?.write_all(text.as_bytes())?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::{Cell, Stats};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn it_is_replaced_as_a_whole_and_through_no_link() {
        let dir = tempfile::tempdir().expect("a directory");
        let (path, other) = (dir.path().join("l.prom"), dir.path().join("other"));
        fs::write(&other, "theirs").expect("written");
        std::os::unix::fs::symlink(&other, dir.path().join("l.prom.new")).expect("a link");
        std::os::unix::fs::symlink(&other, &path).expect("a link");
        write(&path, "a 1\n").expect("written");
        write(&path, "a 2\n").expect("written");
        assert_eq!(fs::read_to_string(&path).expect("read"), "a 2\n");
        assert_eq!(fs::read_to_string(&other).expect("read"), "theirs");
        let mode = fs::metadata(&path).expect("stat").permissions().mode();
        assert_eq!(mode & 0o777, 0o644);
        assert_eq!(fs::read_dir(dir.path()).expect("list").count(), 2);
    }

    #[test]
    fn it_goes_with_the_mount() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("l.prom");
        let stats = Arc::new(Stats::default());
        stats.add(Cell::Keep, 3);
        let told = Told {
            mountpoint: "/m".to_owned(),
            stats,
            worker: Arc::default(),
        };
        let writer = Writer::start(path.clone(), Arc::new(told)).expect("a thread");
        while !path.exists() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let text = fs::read_to_string(&path).expect("read");
        assert!(text.contains("outcome=\"keep\"} 3\n"), "{text}");
        drop(writer);
        assert!(!path.exists());
    }
}
