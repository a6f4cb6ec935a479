//! Times that a SETATTR gives, as `utimensat(2)` takes them.

use std::time::UNIX_EPOCH;

use fuser::TimeOrNow;
use rustix::fs::{Timespec, Timestamps};

/// `utimensat(2)` times; `None` when neither is given.
pub(super) fn of(atime: Option<TimeOrNow>, mtime: Option<TimeOrNow>) -> Option<Timestamps> {
    (atime.is_some() || mtime.is_some()).then(|| Timestamps {
        last_access: time(atime),
        last_modification: time(mtime),
    })
}

fn time(time: Option<TimeOrNow>) -> Timespec {
    let special = |tv_nsec| Timespec { tv_sec: 0, tv_nsec };
    match time {
        None => special(rustix::fs::UTIME_OMIT),
        Some(TimeOrNow::Now) => special(rustix::fs::UTIME_NOW),
        Some(TimeOrNow::SpecificTime(at)) => match at.duration_since(UNIX_EPOCH) {
            Ok(since) => Timespec {
                tv_sec: since.as_secs() as i64,
                tv_nsec: since.subsec_nanos().into(),
            },
            // fuser takes the nanoseconds for some before the second, and they are some after it.
            Err(before) => Timespec {
                tv_sec: (before.duration().as_secs() as i64).wrapping_neg(),
                tv_nsec: before.duration().subsec_nanos().into(),
            },
        },
    }
}
