//! The terminal while something is shown on it that changes: a screen of its own, keys that are heard at once, and all of it as it was
//! when this is dropped.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr,
};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// Another screen without a cursor, and back.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// To the top, to the end of a line, to the end of all.
const HOME: &str = "\x1b[H";
const REST_OF_LINE: &str = "\x1b[K\n";
const REST: &str = "\x1b[J";
/// Where a terminal does not tell how many lines it has.
const LINES: usize = 24;
/// How often it is looked whether a signal has come.
const TURN: Duration = Duration::from_millis(100);

/// The terminal, taken.
pub struct Screen {
    before: Termios,
    ended: Arc<AtomicBool>,
}

/// Whether there is a terminal to read from and to write to.
pub fn is_there() -> bool {
    has_cursor() && io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// Whether terminals can do more than to write line after line.
pub fn has_cursor() -> bool {
    std::env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb")
}

impl Screen {
    /// Takes it.
    ///
    /// # Errors
    /// As `tcsetattr(3)`.
    pub fn take() -> io::Result<Self> {
        let ended = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&ended))?;
        }
        let before = tcgetattr(io::stdin())?;
        let mut now = before.clone();
        now.local_modes
            .remove(LocalModes::ICANON | LocalModes::ECHO);
        now.special_codes[SpecialCodeIndex::VSUSP] = 0; // a shell would be left with our screen
        tcsetattr(io::stdin(), OptionalActions::Now, &now)?;
        let screen = Screen { before, ended };
        screen.write(ENTER)?;
        Ok(screen)
    }

    /// How many lines it has.
    pub fn lines(&self) -> usize {
        let rows = tcgetwinsize(io::stdout()).map_or(0, |size| usize::from(size.ws_row));
        if rows == 0 { LINES } else { rows }
    }

    /// Shows these lines, as far as there is room, and nothing else.
    ///
    /// # Errors
    /// When nobody reads any more.
    pub fn show(&self, lines: &str) -> io::Result<()> {
        let most = self.lines();
        let shown: Vec<_> = lines.lines().take(most.saturating_sub(1)).collect();
        self.write(&format!(
            "{HOME}{}{REST_OF_LINE}{REST}",
            shown.join(REST_OF_LINE)
        ))
    }

    /// Waits so long. Tells whether somebody wants to end it: `q`, Ctrl-C, the end of input.
    ///
    /// # Errors
    /// As `poll(2)` and `read(2)`.
    pub fn wait(&self, time: Duration) -> io::Result<bool> {
        let until = Instant::now() + time;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if self.ended.load(Ordering::Relaxed) {
                return Ok(true);
            }
            if left.is_zero() {
                return Ok(false);
            }
            if pressed(left.min(TURN))?.is_some_and(|key| matches!(key, b'q' | b'Q' | 0x03 | 0x04))
            {
                return Ok(true);
            }
        }
    }

    fn write(&self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Who has gone sees nothing of it.
        let _ = self.write(LEAVE);
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

/// A key that is pressed within this time; the end of input counts as `q`.
fn pressed(within: Duration) -> io::Result<Option<u8>> {
    let stdin = io::stdin();
    let mut fds = [PollFd::new(&stdin, PollFlags::IN)];
    let within = Timespec {
        tv_sec: 0,
        tv_nsec: within.subsec_nanos().into(),
    };
    match poll(&mut fds, Some(&within)) {
        Ok(0) | Err(Errno::INTR) => return Ok(None),
        Ok(_) => {}
        Err(error) => return Err(error.into()),
    }
    let mut key = [0];
    Ok(match rustix::io::read(&stdin, &mut key)? {
        0 => Some(b'q'),
        _ => Some(key[0]),
    })
}
