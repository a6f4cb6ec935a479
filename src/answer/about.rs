//! `listindexctl user` as the worker answers it: what the gate knows of one user, in the words of the protocol.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::list::state_of;
use super::{Worker, named};
use crate::control::clean::Who;
use crate::control::protocol::Answer;
use crate::control::users::{
    About, Decision, FILES, File, Ghost, Holder, Index, LastHost, PROCESSES, Record,
};
use crate::index::Trouble;
use crate::index::lasthost;
use crate::template::User;
use crate::user::about::{self, Activity, Told};
use crate::user::ghosts::Why;
use crate::user::history::Decided;
use crate::user::process::program;
use crate::user::record::{self, Kept};
use crate::user::state;

/// Tells what is known of somebody.
pub fn of(worker: &Worker, who: &Who) -> Answer {
    let gate = &worker.gate;
    let Some(user) = named(&worker.config.layout, who) else {
        return Answer::User(None);
    };
    match gate.about(&user, FILES) {
        Ok(None) => Answer::User(None),
        Ok(Some(known)) => Answer::User(Some(Box::new(all(worker, &user, known)))),
        Err(error) => Answer::Error(format!("{user}: his directory cannot be read: {error}")),
    }
}

fn all(worker: &Worker, user: &User, known: about::About) -> About {
    let gate = &worker.gate;
    let index = match gate.index_of(user) {
        Ok(path) => Index::Path(path.to_string_lossy().into_owned()),
        Err(why) => Index::None(why.to_string()),
    };
    let activity = Activity {
        handles: known.holders.iter().map(|h| u64::from(h.handles)).sum(),
        busy: known.busy,
        haunted: !known.ghosts.is_empty() || known.record == Kept::Haunted,
    };
    let recorded = match &known.record {
        Kept::Record(record) => Some(record.lasthost),
        Kept::Haunted | Kept::Nothing => None,
    };
    About {
        name: user.to_string(),
        path: text(OsStr::from_bytes(user.dir())),
        index,
        bytes: known.counted.bytes.managed,
        plain_bytes: known.counted.bytes.plain,
        files: known.files.iter().map(file).collect(),
        more_files: known.more_files,
        last_access: known.last.0 / 1000,
        state: state_of(activity),
        checking: known.busy,
        record: record(&known.record),
        lasthost: lasthost(gate.ask_lasthost(user), &gate.own_claim(), recorded),
        more_holders: known.holders.len().saturating_sub(PROCESSES) as u64,
        holders: (known.holders.iter().take(PROCESSES).map(holder)).collect(),
        more_ghosts: known.ghosts.len().saturating_sub(PROCESSES) as u64,
        ghosts: known.ghosts.iter().take(PROCESSES).map(ghost).collect(),
        decisions: known.decisions.iter().map(decision).collect(),
    }
}

fn text(name: &OsStr) -> String {
    name.to_string_lossy().into_owned()
}

fn file((name, size): &(std::ffi::OsString, u64)) -> File {
    File {
        name: text(name),
        size: *size,
    }
}

fn record(kept: &Kept) -> Record {
    match kept {
        Kept::Nothing => Record::None,
        Kept::Haunted => Record::Haunted,
        Kept::Record(record::Record {
            lasthost,
            instance,
            pulled,
        }) => Record::Accepted {
            lasthost: lasthost.to_string(),
            inode: lasthost.ino,
            instance: instance.to_string(),
            pulled: pulled.iter().map(|(name, _)| text(name)).collect(),
        },
    }
}

fn lasthost(
    told: Result<Told, Trouble>,
    ours: &lasthost::LastHost,
    recorded: Option<lasthost::Identity>,
) -> LastHost {
    match told {
        Err(trouble) => LastHost::Trouble {
            why: trouble.to_string(),
        },
        Ok(Told::Nothing(why)) => LastHost::NotAsked { why },
        Ok(Told::NoIndex) => LastHost::NoIndex,
        Ok(Told::Absent) => LastHost::Absent,
        Ok(Told::LastHost(_, None)) => LastHost::Foreign,
        Ok(Told::LastHost(identity, Some(said))) => LastHost::Claim {
            ours: said.is_by(ours),
            recorded: recorded == Some(identity),
            stale: said.stale.len() as u64,
            instance: said.instance.map(|instance| instance.to_string()),
            host: said.host,
        },
    }
}

fn holder(of: &state::Holder) -> Holder {
    Holder {
        pid: of.process.pid,
        program: program(of.process).unwrap_or_default(),
        uid: of.creds.uid,
        handles: of.handles,
        wrote: of.wrote,
    }
}

fn ghost(of: &crate::user::ghosts::Ghost) -> Ghost {
    let why = match of.why {
        Why::Refused => "was refused, or could not write: it keeps its list index in memory",
        Why::Held => "had files open that had to go",
        Why::MovedOn => "has gone on or ended, and the fence for it is not set yet",
    };
    Ghost {
        pid: of.process.pid,
        program: program(of.process).unwrap_or_default(),
        why: why.to_owned(),
    }
}

fn decision(of: &Decided) -> Decision {
    Decision {
        at: of.at.0 / 1000,
        decision: of.word.to_owned(),
        served: of.served,
        why: of.why().to_owned(),
        took_us: u64::try_from(of.took.as_micros()).unwrap_or(u64::MAX),
    }
}
