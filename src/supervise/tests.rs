//! How the supervisor hears of a worker's end.

use super::*;

const PATIENCE: Duration = Duration::from_secs(60);

/// A worker that ends at once, and its end of the socket.
fn worker() -> (Worker, UnixStream) {
    let (told, theirs) = UnixStream::pair().expect("a pair");
    let worker = Worker {
        child: Command::new("true").spawn().expect("spawned"),
        started: Instant::now(),
        told,
        program: Program::open(Path::new(THIS_PROGRAM)).expect("opened"),
    };
    (worker, theirs)
}

/// A successor that is started in the moment in which a worker is inherits what that is to speak through, and waits until it ends.
#[test]
fn that_another_child_can_speak_for_it_does_not_hide_its_end() {
    let (worker, mut theirs) = worker();
    theirs.write_all(b"why").expect("written");
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || tell.send(worker.wait()));
    let ended = told.recv_timeout(PATIENCE).expect("it has ended");
    assert_eq!(ended.report, "why");
    assert!(ended.status.is_ok_and(|status| status.success()));
    drop(theirs);
}

#[test]
fn a_worker_that_says_nothing_has_ended_all_the_same() {
    let (worker, theirs) = worker();
    drop(theirs);
    let ended = worker.wait();
    assert_eq!(ended.report, "");
}

#[test]
fn its_number_is_its_own_until_it_has_been_waited_for() {
    let (mut worker, theirs) = worker();
    drop(theirs);
    worker.await_end();
    let pid = worker.pid().expect("a number");
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    let stat = stat.expect("it is there");
    assert!(stat.contains(") Z "), "{stat}");
    kill(pid);
    let ended = worker.wait();
    assert!(ended.status.is_ok_and(|status| status.success()));
}
