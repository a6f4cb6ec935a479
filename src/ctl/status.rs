//! What the supervisor knows, for people.

use std::time::{Duration, UNIX_EPOCH};

use crate::control::protocol::{Process, State, Status};

/// One fact a line.
pub fn lines(status: &Status) -> String {
    let state = match status.state {
        State::Starting => "starting",
        State::Serving => "serving",
        State::Stopping => "stopping",
    };
    let worker = status.worker.as_ref();
    let worker = worker.map_or_else(|| "none at the moment".to_owned(), process);
    let upgrade = if status.upgrading { "yes" } else { "no" };
    format!(
        "{}: {state}\n\
         backing:         {}\n\
         supervisor:      {}\n\
         worker:          {worker}\n\
         workers started: {}\n\
         upgrading:       {upgrade}\n",
        status.mountpoint,
        status.backing,
        process(&status.supervisor),
        status.workers_started,
    )
}

fn process(of: &Process) -> String {
    let since = UNIX_EPOCH + Duration::from_secs(of.since);
    let since = humantime::format_rfc3339_seconds(since);
    format!("pid {}, version {}, since {since}", of.pid, of.version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fact_has_a_line() {
        let process = Process {
            pid: 7,
            version: "0.1.0".to_owned(),
            since: 86_400,
        };
        let status = Status {
            host: "mail1".to_owned(),
            mountpoint: "/m".to_owned(),
            backing: "/b".to_owned(),
            state: State::Serving,
            supervisor: process.clone(),
            worker: None,
            workers_started: 3,
            upgrading: false,
        };
        let lines = lines(&status);
        assert_eq!(
            lines.lines().collect::<Vec<_>>(),
            [
                "/m: serving",
                "backing:         /b",
                "supervisor:      pid 7, version 0.1.0, since 1970-01-02T00:00:00Z",
                "worker:          none at the moment",
                "workers started: 3",
                "upgrading:       no",
            ]
        );
    }
}
