//! Who takes part: one row of `KNOWN` for each, so that one more is one row more.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::place::{Owner, Place, ROOT};

/// The names that ratios and targets speak of.
pub const DIRECT: &str = "direct";
/// Plain tmpfs once more: what its ratio is off 1 is the error of the run.
pub const CONTROL: &str = "direct again";
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

/// As whom a daemon runs, and whose its top directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// It runs as root and makes files as the caller, who makes the hash directories: the top is the mail owner's.
    Callers,
    /// It makes files as itself and lets nobody else in: it runs as the mail owner, and the top is his.
    MailOwners,
    /// It runs as root and makes the hash directories itself: the top is root's.
    OwnTop,
}

/// How a program is called to mount a place.
type Args = fn(&Place, Talk) -> Vec<OsString>;

/// A filesystem daemon: its program and how it is called.
#[derive(Clone, Debug)]
pub struct Daemon {
    pub program: PathBuf,
    pub args: Args,
    pub rights: Rights,
}

/// One contestant: plain tmpfs, or a daemon mounted over it.
#[derive(Clone, Debug)]
pub struct Contestant {
    pub name: &'static str,
    pub daemon: Option<Daemon>,
}

impl Contestant {
    /// Makes its directories, where mail is `mail`'s.
    pub fn place(&self, dir: &Path, part: &str, mail: Owner) -> Result<Place> {
        let own_top = self
            .daemon
            .as_ref()
            .is_some_and(|d| d.rights == Rights::OwnTop);
        Place::make(
            dir,
            part,
            self.name,
            mail,
            if own_top { ROOT } else { mail },
        )
    }
}

impl fmt::Display for Contestant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

struct Known {
    name: &'static str,
    daemon: Option<(Args, Rights)>,
}

const KNOWN: &[Known] = &[
    Known {
        name: DIRECT,
        daemon: None,
    },
    Known {
        name: CONTROL,
        daemon: None,
    },
    Known {
        name: LISTINDEXFS,
        daemon: Some((listindexfs, Rights::OwnTop)),
    },
    Known {
        name: BINDFS,
        daemon: Some((bindfs, Rights::Callers)),
    },
    Known {
        name: PASSTHROUGH_HP,
        daemon: Some((passthrough_hp, Rights::MailOwners)),
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
        let Some((args, rights)) = known.daemon else {
            lined_up.push(Contestant {
                name: known.name,
                daemon: None,
            });
            continue;
        };
        let wanted = only.is_empty() || only.iter().any(|name| name == known.name);
        let program = programs
            .iter()
            .find(|(name, _)| wanted && name == known.name);
        if let Some((_, program)) = program {
            let daemon = Daemon {
                program: program.clone(),
                args,
                rights,
            };
            lined_up.push(Contestant {
                name: known.name,
                daemon: Some(daemon),
            });
        }
    }
    Ok(lined_up)
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
