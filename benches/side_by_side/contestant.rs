//! Who takes part: one row of `KNOWN` for each, so that one more is one row more.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::place::Place;

/// The names that ratios and targets speak of.
pub const DIRECT: &str = "direct";
pub const LISTINDEXFS: &str = "listindexfs";
pub const BINDFS: &str = "bindfs";
pub const PASSTHROUGH_HP: &str = "passthrough_hp";

/// How the user's directory hangs below a top directory, in Dovecot's variables.
pub const LAYOUT: &str = "%2.256Nu/%u";

/// Whether the daemon prints every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Talk {
    Quiet,
    EveryRequest,
}

/// A filesystem daemon: its program and how it is called.
#[derive(Clone, Debug)]
pub struct Daemon {
    pub program: PathBuf,
    pub args: fn(&Place, Talk) -> Vec<OsString>,
    /// It makes files as itself, not as the caller, and lets nobody else in: it must run as their owner.
    pub as_owner: bool,
}

/// One contestant: plain tmpfs, or a daemon mounted over it.
#[derive(Clone, Debug)]
pub struct Contestant {
    pub name: &'static str,
    pub daemon: Option<Daemon>,
}

impl fmt::Display for Contestant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

struct Known {
    name: &'static str,
    args: Option<fn(&Place, Talk) -> Vec<OsString>>,
    as_owner: bool,
}

const KNOWN: &[Known] = &[
    Known {
        name: DIRECT,
        args: None,
        as_owner: false,
    },
    Known {
        name: LISTINDEXFS,
        args: Some(listindexfs),
        as_owner: false,
    },
    Known {
        name: BINDFS,
        args: Some(bindfs),
        as_owner: false,
    },
    Known {
        name: PASSTHROUGH_HP,
        args: Some(passthrough_hp),
        as_owner: true,
    },
];

/// The contestants in the order they run, with the programs given as `NAME=PATH`. One without a program is
/// left out, scripts/bench having told why; plain tmpfs always takes part, since the others are measured by it.
pub fn line_up(programs: &[(String, PathBuf)], only: &[String]) -> Result<Vec<Contestant>> {
    let known = |name: &str| KNOWN.iter().any(|k| k.name == name);
    for name in programs.iter().map(|(name, _)| name).chain(only) {
        if !known(name) {
            bail!("no contestant is called {name}");
        }
    }
    let mut lined_up = Vec::new();
    for known in KNOWN {
        if !only.is_empty() && known.args.is_some() && !only.iter().any(|name| name == known.name) {
            continue;
        }
        let program = programs
            .iter()
            .find(|(name, _)| name == known.name)
            .map(|(_, path)| path.as_path());
        match (known.args, program) {
            (None, _) => lined_up.push(Contestant {
                name: known.name,
                daemon: None,
            }),
            (Some(args), Some(program)) => lined_up.push(with_daemon(known, args, program)),
            (Some(_), None) => {}
        }
    }
    Ok(lined_up)
}

fn with_daemon(
    known: &Known,
    args: fn(&Place, Talk) -> Vec<OsString>,
    program: &Path,
) -> Contestant {
    let daemon = Daemon {
        program: program.to_path_buf(),
        args,
        as_owner: known.as_owner,
    };
    Contestant {
        name: known.name,
        daemon: Some(daemon),
    }
}

fn listindexfs(place: &Place, talk: Talk) -> Vec<OsString> {
    let index = place.index.display();
    let options = format!("index={index}/{LAYOUT},layout={LAYOUT},index_fs=any,host=bench");
    let mut args: Vec<OsString> = vec![
        place.backing.clone().into(),
        place.mountpoint.clone().into(),
    ];
    args.extend(["-f".into(), "-o".into(), options.into()]);
    if talk == Talk::EveryRequest {
        args.push("-d".into());
    }
    args
}

/// As everybody starts it: no options.
fn bindfs(place: &Place, talk: Talk) -> Vec<OsString> {
    let how = if talk == Talk::EveryRequest {
        "-d"
    } else {
        "-f"
    };
    vec![
        how.into(),
        place.backing.clone().into(),
        place.mountpoint.clone().into(),
    ]
}

fn passthrough_hp(place: &Place, talk: Talk) -> Vec<OsString> {
    let how = if talk == Talk::EveryRequest {
        "--debug-fuse"
    } else {
        "--foreground"
    };
    vec![
        how.into(),
        place.backing.clone().into(),
        place.mountpoint.clone().into(),
    ]
}
