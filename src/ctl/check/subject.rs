//! What is looked at: each listindexfs that stands, or that fstab, the unit or `--options` are to mount.

use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::mount::MountFlags;

use super::plan::{self, Plan};
use super::report::{About, Report};
use super::{Args, WITHIN};
use crate::ctl::bounded::in_thread;
use crate::ctl::mounts::{self, Served};
use crate::daemon::kept;
use crate::exit::Failure;
use crate::options::Config;

/// One of them.
#[derive(Debug)]
pub struct Subject {
    /// Where Dovecot finds it.
    pub point: PathBuf,
    /// Where its files are, if anything tells.
    pub backing: Option<PathBuf>,
    /// It stands.
    pub served: Option<Served>,
    /// Who is to mount it.
    pub plans: Vec<Plan>,
    /// What it was told, or will be.
    pub config: Option<Config>,
}

impl Subject {
    fn new(point: PathBuf) -> Self {
        Subject {
            point,
            backing: None,
            served: None,
            plans: Vec::new(),
            config: None,
        }
    }

    /// The part of `index=` that is the same for every user, if it is known and there is one.
    pub fn base(&self) -> Option<&Path> {
        self.config.as_ref()?.index.literal_prefix()
    }

    fn standing(served: Served) -> Self {
        Subject {
            backing: Some(served.backing.clone()),
            served: Some(served.clone()),
            ..Subject::new(served.point)
        }
    }
}

/// Finds them, and says what is wrong with that and their options.
///
/// # Errors
/// When there is no `/proc`, or it is not said where `--options` are to be mounted.
pub fn find(args: &Args, report: &mut Report) -> Result<Vec<Subject>, Failure> {
    let plans = plan::all();
    let mut subjects: Vec<_> = match &args.mountpoint {
        Some(given) => vec![named(given, &plans)?],
        None => mounts::all()?.into_iter().map(Subject::standing).collect(),
    };
    for plan in plans {
        match subjects.iter_mut().find(|s| s.point == plan.point) {
            Some(subject) => subject.plans.push(plan),
            None if args.mountpoint.is_some() => {}
            None => {
                let mut subject = Subject::new(plan.point.clone());
                subject.plans.push(plan);
                subjects.push(subject);
            }
        }
    }
    if subjects.is_empty() {
        report.error(
            About::Mount,
            "no listindexfs is mounted, and neither fstab nor a unit has one: see listindexfs(8)",
        );
    }
    if args.options.is_some() && subjects.len() != 1 {
        return Err(Failure::usage("say which MOUNTPOINT the --options are for"));
    }
    for subject in &mut subjects {
        let first = subject.plans.first().map(|plan| plan.backing.clone());
        let named = args.backing.clone().or(first);
        subject.backing = subject.backing.take().or(named);
        options(subject, args.options.as_deref(), report);
    }
    Ok(subjects)
}

/// That on `given`, or whose backing it is, whether it stands or not.
fn named(given: &Path, plans: &[Plan]) -> Result<Subject, Failure> {
    if let Ok(served) = mounts::find(Some(given)) {
        return Ok(Subject::standing(served));
    }
    let path = crate::ctl::absolute(given)?;
    let by_backing = plans.iter().find(|plan| plan.backing == path);
    let point = by_backing.map_or(path, |plan| plan.point.clone());
    Ok(Subject::new(point))
}

/// Reads all options that are known of it, and keeps those that count: those it is served with, else those it is to be.
fn options(subject: &mut Subject, given: Option<&str>, report: &mut Report) {
    let point = subject.point.display().to_string();
    let mut planned = planned(subject, given, report);
    let served = subject.served.as_ref().map(|served| kept(&served.backing));
    match served {
        Some(Ok(config)) => {
            for (place, planned) in &planned {
                compare(&point, &config, place, planned, report);
            }
            subject.config = Some(config);
        }
        Some(Err(why)) => report.warning(
            About::Options,
            format!("those of {point} are not known: {why}"),
        ),
        None => {}
    }
    let place = planned.first().map(|(place, _)| format!(" ({place})"));
    if subject.config.is_none() && !planned.is_empty() {
        subject.config = Some(planned.swap_remove(0).1);
    }
    match &subject.config {
        Some(config) => {
            let (index, layout) = (config.index.as_str(), config.layout.as_str());
            let place = place.unwrap_or_default();
            report.ok(
                About::Options,
                format!("{point}: index={index}, layout={layout}{place}"),
            );
            if config.flags.contains(MountFlags::RDONLY) {
                report.error(
                    About::Options,
                    format!("{point}: with ro Dovecot can make no list index there: take it out"),
                );
            }
        }
        None if !report.speaks_of(About::Options) => report.warning(
            About::Options,
            format!(
                "those of {point} are not known: name them with --options, or set it up in fstab or for the unit"
            ),
        ),
        None => {}
    }
}

/// Those of `--options`, and of whoever is to mount it, each with its place.
fn planned(subject: &Subject, given: Option<&str>, report: &mut Report) -> Vec<(String, Config)> {
    let point = subject.point.display();
    let backing = subject.backing.clone().unwrap_or_default();
    let plans = subject.plans.iter();
    let plans = plans.map(|plan| (plan.place(), plan.options.as_str()));
    let given = given.map(|options| ("--options".to_owned(), options));
    let (host_name, mut understood) = (crate::cli::host_name(), Vec::new());
    for (place, options) in given.into_iter().chain(plans) {
        let text = [options.to_owned()];
        match Config::parse(&backing, &subject.point, &text, &host_name) {
            Ok(config) => understood.push((place, config)),
            Err(error) => report.error(About::Options, format!("{point}: {place}: {error}")),
        }
    }
    understood
}

/// What it was mounted with against what it would be mounted with now.
fn compare(point: &str, served: &Config, place: &str, planned: &Config, report: &mut Report) {
    let differ = served.differences(planned).join(", ");
    if !differ.is_empty() {
        report.warning(
            About::Options,
            format!(
                "{point} was mounted with another {differ} than {place} has: unmount it and mount it again, or mend {place}"
            ),
        );
    }
}

/// With what a backing was mounted last.
fn kept(backing: &Path) -> Result<Config, String> {
    let path = backing.to_owned();
    let read = in_thread(WITHIN, move || {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::open(&path, flags, Mode::empty());
        let opened = opened.map_err(|error| format!("{}: {error}", path.display()))?;
        kept::read(&opened, &path).map_err(|failure| failure.to_string())
    });
    read.unwrap_or_else(|| Err(format!("{} gives no answer", backing.display())))
}
