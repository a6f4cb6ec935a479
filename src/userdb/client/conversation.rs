//! The connection's thread: what is asked goes out, answers are told by their number, and what is not answered in time is
//! given up. A connection that is closed, as when Dovecot is reloaded, is made anew once for what was in flight on it.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, send, socket_with,
};

use super::super::Error;
use super::super::protocol::{self, Answer, Line, REPLY_MAX};
use super::{Ask, Shared};

/// So many requests are in flight at most; what else is asked waits here.
const WINDOW: usize = 512;
/// So often it is read before what is due is seen to.
const READS: usize = 4;
/// With nothing to ask for so long the connection is closed: while there is one, an auth that is to end at a reload or at
/// Dovecot's end goes on, and complains then.
const IDLE: Duration = Duration::from_millis(200);
/// Where too many wait for auth to take their connection, or nobody listens, it is tried again after this.
const PAUSE: Duration = Duration::from_millis(50);
/// That nobody listens is believed after so long: when Dovecot is reloaded its sockets are made anew.
const GAP: Duration = Duration::from_secs(1);

/// The thread's state.
struct Conversation<'a> {
    shared: &'a Shared,
    /// Not sent yet.
    waiting: VecDeque<Ask>,
    connection: Option<Connection>,
    /// Not to be connected before.
    pause_until: Option<Instant>,
    /// Since when nobody has listened.
    gone_since: Option<Instant>,
}

struct Connection {
    socket: OwnedFd,
    out: Vec<u8>,
    input: Vec<u8>,
    /// By number, so the oldest first.
    in_flight: BTreeMap<u32, Ask>,
    next: u32,
    /// When anybody was answered last.
    heard: Option<Instant>,
    greeted: bool,
}

/// Why a connection ends.
enum End {
    /// It was closed.
    Closed,
    /// It is of no use.
    Useless(Error),
}

/// Serves until nothing has been asked for a while, or the client is gone.
pub(super) fn serve(shared: &Shared) {
    let mut conversation = Conversation {
        shared,
        waiting: VecDeque::new(),
        connection: None,
        pause_until: None,
        gone_since: None,
    };
    let mut idle_until = Instant::now() + IDLE;
    loop {
        let idle = !conversation.has_work() && Instant::now() >= idle_until;
        {
            let mut inbox = shared.inbox.lock();
            conversation.waiting.extend(inbox.asks.drain(..));
            let nothing = conversation.waiting.is_empty();
            if inbox.ended || (idle && nothing) {
                inbox.running = false;
                break;
            }
        }
        conversation.step(idle_until);
        if conversation.has_work() {
            idle_until = Instant::now() + IDLE;
        }
    }
    // Whoever dropped the client waits for none of it.
    let left = conversation.everything();
    left.into_iter()
        .for_each(|ask| ask.tell(Err(Error::HungUp)));
}

impl Conversation<'_> {
    fn has_work(&self) -> bool {
        let in_flight = self.connection.iter().any(|c| !c.in_flight.is_empty());
        in_flight || !self.waiting.is_empty()
    }

    /// Sends what can be sent, waits for something to happen, and sees to it.
    fn step(&mut self, idle_until: Instant) {
        if let Err(end) = self.send().and_then(|()| self.wait_and_read(idle_until)) {
            self.ended(end);
        }
        self.give_up_late();
    }

    fn send(&mut self) -> Result<(), End> {
        if self.waiting.is_empty() && self.connection.is_none() {
            return Ok(());
        }
        if self.connection.is_none() {
            self.connect()?;
        }
        let Some(connection) = &mut self.connection else {
            return Ok(()); // later
        };
        while connection.in_flight.len() < WINDOW {
            let Some(ask) = self.waiting.pop_front() else {
                break;
            };
            match protocol::request(connection.next, &ask.name) {
                Some(line) => {
                    connection.out.extend(line);
                    connection.in_flight.insert(connection.next, ask);
                    connection.next = connection.next.checked_add(1).unwrap_or(1);
                }
                None => ask.tell(Err(Error::NameTooLong)),
            }
        }
        connection.write()
    }

    fn connect(&mut self) -> Result<(), End> {
        let now = Instant::now();
        if self.pause_until.is_some_and(|until| now < until) {
            return Ok(());
        }
        let path = &self.shared.socket;
        match Connection::to(path) {
            Ok(connection) => {
                log::debug!("{}: connected", path.display());
                self.connection = Some(connection);
                (self.pause_until, self.gone_since) = (None, None);
                Ok(())
            }
            Err(Errno::AGAIN) => {
                self.pause_until = Some(now + PAUSE);
                Ok(())
            }
            Err(Errno::NOENT | Errno::CONNREFUSED) if self.may_come_back(now) => {
                self.pause_until = Some(now + PAUSE);
                Ok(())
            }
            Err(e) => {
                let why = std::io::Error::from(e);
                let why = Error::Unreachable(format!("{}: {why}", path.display()));
                Err(End::Useless(why))
            }
        }
    }

    /// Not where nobody was answered before.
    fn may_come_back(&mut self, now: Instant) -> bool {
        let gap = GAP.min(self.shared.patience / 2);
        let since = *self.gone_since.get_or_insert(now);
        let soon = !self.shared.is_down() && now < since + gap;
        if !soon {
            self.gone_since = None;
        }
        soon
    }

    fn wait_and_read(&mut self, idle_until: Instant) -> Result<(), End> {
        let asked = |asks: &VecDeque<Ask>| asks.front().map(|ask| ask.until);
        let sent = self.connection.as_ref().and_then(Connection::oldest);
        let pause = (self.pause_until).filter(|_| !self.waiting.is_empty());
        let times = [asked(&self.waiting), sent, pause];
        let until = times.into_iter().flatten().min().unwrap_or(idle_until);
        let left = until.saturating_duration_since(Instant::now());
        let mut fds = vec![PollFd::new(&self.shared.wake, PollFlags::IN)];
        if let Some(connection) = &self.connection {
            let mut wanted = PollFlags::IN;
            wanted.set(PollFlags::OUT, !connection.out.is_empty());
            fds.push(PollFd::new(&connection.socket, wanted));
        }
        let readable = match poll(&mut fds, Some(&timespec(left))) {
            Ok(_) | Err(Errno::INTR) => fds.get(1).is_some_and(|fd| {
                (fd.revents()).intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR)
            }),
            Err(e) => return Err(End::Useless(Error::Unreachable(e.to_string()))),
        };
        // Emptied, whatever was in it: the inbox is looked at in any case.
        let _ = rustix::io::read(&self.shared.wake, &mut [0; 8]);
        match &mut self.connection {
            Some(connection) if readable => connection.read(self.shared),
            _ => Ok(()),
        }
    }

    /// What was in flight on a connection that was closed is asked once more.
    fn ended(&mut self, end: End) {
        let in_flight = self
            .connection
            .take()
            .map(|connection| connection.in_flight);
        let mut lost: Vec<_> = in_flight.unwrap_or_default().into_values().collect();
        match end {
            End::Closed if !lost.iter().any(|ask| ask.again) => {
                lost.iter_mut().for_each(|ask| ask.again = true);
                lost.into_iter()
                    .rev()
                    .for_each(|ask| self.waiting.push_front(ask));
            }
            End::Closed => {
                let all = lost.into_iter().chain(self.waiting.drain(..));
                self.shared.fail(all, Error::HungUp);
            }
            End::Useless(why) => {
                let all = lost.into_iter().chain(self.waiting.drain(..));
                self.shared.fail(all, why);
            }
        }
    }

    /// Who has waited too long is refused. If nobody was answered since he was asked for, so are all.
    fn give_up_late(&mut self) {
        let (now, patience) = (Instant::now(), self.shared.patience);
        let is_late = |ask: &Ask| ask.until <= now;
        let oldest = self.connection.as_ref().and_then(Connection::oldest);
        let heard = self.connection.as_ref().map(|connection| connection.heard);
        let silent = match (oldest, heard) {
            (Some(until), Some(heard)) => {
                until <= now && heard.is_none_or(|heard| heard + patience <= until)
            }
            _ => self.waiting.front().is_some_and(is_late),
        };
        if silent {
            return self.ended(End::Useless(Error::Silent(patience)));
        }
        let late = self.connection.iter_mut().flat_map(|connection| {
            let late = connection.in_flight.iter().filter(|(_, ask)| is_late(ask));
            let late: Vec<_> = late.map(|(id, _)| *id).collect();
            let late = late.into_iter();
            late.filter_map(|id| connection.in_flight.remove(&id))
        });
        let mut late: Vec<_> = late.collect();
        while self.waiting.front().is_some_and(is_late) {
            late.extend(self.waiting.pop_front());
        }
        late.into_iter()
            .for_each(|ask| ask.tell(Err(Error::Late(patience))));
    }

    fn everything(&mut self) -> Vec<Ask> {
        let in_flight = self
            .connection
            .take()
            .map(|connection| connection.in_flight);
        let in_flight = in_flight.unwrap_or_default().into_values();
        in_flight.chain(self.waiting.drain(..)).collect()
    }
}

impl Connection {
    fn to(path: &std::path::Path) -> Result<Self, Errno> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        connect(&socket, &SocketAddrUnix::new(path)?)?;
        Ok(Self {
            socket,
            out: protocol::GREETING.to_vec(),
            input: Vec::new(),
            in_flight: BTreeMap::new(),
            next: 1,
            heard: None,
            greeted: false,
        })
    }

    /// Until when the oldest request is waited for.
    fn oldest(&self) -> Option<Instant> {
        self.in_flight.first_key_value().map(|(_, ask)| ask.until)
    }

    fn write(&mut self) -> Result<(), End> {
        while !self.out.is_empty() {
            match send(&self.socket, &self.out, SendFlags::NOSIGNAL) {
                Ok(sent) => drop(self.out.drain(..sent)),
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(_closed) => return Err(End::Closed),
            }
        }
        Ok(())
    }

    fn read(&mut self, shared: &Shared) -> Result<(), End> {
        let mut buffer = [0; 16 << 10];
        // Whoever never ends keeps nobody waiting for more than his time.
        for _ in 0..READS {
            match rustix::io::read(&self.socket, &mut buffer) {
                Ok(0) => return Err(End::Closed),
                Ok(length) => self.input.extend_from_slice(&buffer[..length]),
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => continue,
                Err(_closed) => return Err(End::Closed),
            }
            self.lines(shared)?;
        }
        Ok(())
    }

    fn lines(&mut self, shared: &Shared) -> Result<(), End> {
        let mut begin = 0;
        while let Some(length) = self.input[begin..].iter().position(|&byte| byte == b'\n') {
            let line = self.input[begin..begin + length].to_vec();
            begin += length + 1;
            self.line(&line, shared)?;
        }
        self.input.drain(..begin);
        match self.input.len() > REPLY_MAX {
            true => Err(End::Useless(Error::Foreign)),
            false => Ok(()),
        }
    }

    fn line(&mut self, line: &[u8], shared: &Shared) -> Result<(), End> {
        match protocol::parse(line) {
            Some(Line::Version) => self.greeted = true,
            Some(_) | None if !self.greeted => return Err(End::Useless(Error::Foreign)),
            None => return Err(End::Useless(Error::Foreign)),
            Some(Line::Other) => {}
            Some(Line::Answer(id, answer)) => self.answered(id, answer, shared),
        }
        Ok(())
    }

    /// One that nobody waits for any more came too late.
    fn answered(&mut self, id: u32, answer: Answer, shared: &Shared) {
        shared.is_up();
        self.heard = Some(Instant::now());
        if let Some(ask) = self.in_flight.remove(&id) {
            ask.tell(Ok(answer));
        }
    }
}

fn timespec(time: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        // Rounded up, so as not to wake up for nothing a moment before the time.
        tv_nsec: (time.subsec_nanos() + 999_999).min(999_999_999).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{EventfdFlags, eventfd};
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    /// Else whoever waits for it would wait for as long as it goes on.
    #[test]
    fn a_server_that_never_ends_is_left_now_and_then() {
        let (ours, mut theirs) = UnixStream::pair().expect("a pair");
        for end in [&ours, &theirs] {
            end.set_nonblocking(true).expect("set");
        }
        while theirs.write(&[b'\n'; 4096]).is_ok() {}
        let mut connection = Connection {
            socket: ours.into(),
            out: Vec::new(),
            input: Vec::new(),
            in_flight: BTreeMap::new(),
            next: 1,
            heard: None,
            greeted: true,
        };
        let shared = Shared {
            socket: "/auth".into(),
            patience: GAP,
            inbox: Default::default(),
            wake: eventfd(0, EventfdFlags::CLOEXEC).expect("an eventfd"),
        };
        assert!(connection.read(&shared).is_ok());
        let mut more = [0];
        assert_eq!(rustix::io::read(&connection.socket, &mut more), Ok(1));
    }
}
