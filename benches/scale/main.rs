//! What a million users cost: memory of the daemon and of the kernel, logins, sweeps, and a kill of the worker.
//!
//! `scripts/bench-scale` runs it: in namespaces of its own, on a tmpfs of its own.

mod figures;
mod logins;
mod memory;
mod threads;

#[path = "../../tests/support/mod.rs"]
mod support;

use std::path::PathBuf;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use rustix::process::Signal;

use figures::Figures;
use logins::Users;
use memory::{Daemon, Kernel};
use support::mount::{Mount, Options, tool};
use support::{Lab, process};
use threads::Threads;

/// Users are compared with so many.
const FEW: usize = 1000;
/// After how long the daemon gives back what is cached of a user, and a while for the work.
const GIVEN_BACK: Duration = Duration::from_secs(600 + 30);
/// After how long it has forgotten who has just been here.
const QUIET: Duration = Duration::from_secs(11);
/// What a user takes in RAM that cannot be given back, bytes, about: three pages, four inodes and names of tmpfs.
const NEEDS: u64 = 17_000;
/// So much is to be left, bytes.
const LEFT: u64 = 4 << 30;
/// Longer than any walk.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Measures with many users. Run it through scripts/bench-scale.
#[derive(Parser, Debug)]
struct Cli {
    /// A directory on tmpfs, for the backing
    #[arg(long)]
    ram: Option<PathBuf>,
    /// A directory on a disk, for INDEX
    #[arg(long)]
    disk: Option<PathBuf>,
    /// How many users
    #[arg(long, default_value_t = 1_000_000)]
    users: usize,
    /// Do not wait until what is cached is given back
    #[arg(long)]
    no_wait: bool,
    /// Passed by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    let (Some(ram), Some(disk)) = (&cli.ram, &cli.disk) else {
        println!(
            "not run: this bench mounts and takes much memory; run it with scripts/bench-scale"
        );
        return Ok(());
    };
    ensure!(cli.users >= 2 * FEW, "not fewer than {} users", 2 * FEW);
    let room = memory::available()?.saturating_sub(LEFT) / NEEDS;
    ensure!(
        cli.users as u64 <= room,
        "there is memory for {room} users, of which {} GiB stay free",
        LEFT >> 30
    );
    let lab = Lab::within(disk, ram);
    let options = Options::new(&lab, "bench")
        .option("max_age=1d")
        .env("RUST_LOG", "warn,listindexfs::keep=info");
    let mount = options.mount();
    let users = Users::new(&lab, &mount);
    let mut figures = Figures::default();
    let built = build(&cli, &mount, &users, &mut figures)?;
    idle(&cli, &mount, &users, &built, &mut figures)?;
    for (what, due) in [("few", cli.users / 1000), ("a tenth", cli.users / 10)] {
        takeover(&cli, &mount, &users, what, due, &mut figures)?;
    }
    print!("{figures}");
    drop(mount);
    // It goes with the filesystems that it is on: file by file would take minutes.
    std::mem::forget(lab);
    Ok(())
}

/// What there was with few users and right after the last one's first session.
struct Built {
    few: (Daemon, Kernel),
    cold: logins::Times,
    warm: logins::Times,
}

fn build(cli: &Cli, mount: &Mount, users: &Users, figures: &mut Figures) -> Result<Built> {
    let bare = Kernel::now()?;
    users.make(0..FEW)?;
    sleep(QUIET);
    let few = (Daemon::of(mount)?, Kernel::now()?);
    let sample: Vec<usize> = (0..FEW).collect();
    let warm = users.log_in(&sample, |_| Ok(()))?;
    let cold = users.log_in(&sample, logins::chill)?;
    let began = Instant::now();
    let tops = users.make(FEW..cli.users)?;
    let took = began.elapsed();
    figures.heading(&format!("{} users", cli.users));
    let rate = (cli.users - FEW) as f64 / took.as_secs_f64();
    figures.row("first sessions", format!("{rate:.0}/s for {took:.0?}"));
    figures.row("worker's largest RSS meanwhile", memory::mib(tops.worker));
    figures.row(
        "fuse_inode, largest meanwhile",
        memory::mib(tops.fuse_inodes),
    );
    let many = Kernel::now()?;
    let per_user = |part: fn(&Kernel) -> u64| {
        let more = part(&many).saturating_sub(part(&bare));
        format!("{} B", more / cli.users as u64)
    };
    figures.heading("in the kernel right after, for each user");
    figures.row(
        "tmpfs",
        format!("{} B", mount_bytes(mount)? / cli.users as u64),
    );
    figures.row("shmem_inode_cache", per_user(|k| k.shmem_inodes));
    figures.row("dentry (tmpfs, INDEX, mount)", per_user(|k| k.dentries));
    figures.row("fuse_inode", per_user(|k| k.fuse_inodes));
    Ok(Built { few, cold, warm })
}

/// What the users cost while they are idle, and logins among them.
fn idle(
    cli: &Cli,
    mount: &Mount,
    users: &Users,
    built: &Built,
    figures: &mut Figures,
) -> Result<()> {
    let sample: Vec<usize> = spread(cli.users, 0);
    users.log_in(&sample, |_| Ok(()))?;
    let warm = users.log_in(&sample, |_| Ok(()))?;
    let before = Kernel::now()?;
    if !cli.no_wait {
        eprintln!("waiting until what is cached is given back");
        sleep(GIVEN_BACK);
    }
    sleep(QUIET);
    let after = Kernel::now()?;
    let mut threads = Threads::of(mount.worker().context("there is no worker")?);
    threads.look()?;
    figures.heading("given back once all are idle");
    figures.change("fuse_inode", before.fuse_inodes, after.fuse_inodes);
    figures.change(
        "fuse_inode with few users",
        built.few.1.fuse_inodes,
        after.fuse_inodes,
    );
    figures.change("dentry", before.dentries, after.dentries);
    figures.change("page cache without tmpfs", before.cached, after.cached);
    figures.row("CPU for that", format!("{:.2?}", threads.cpu("cached")));
    let other = spread(cli.users, 1);
    users.look_at_index(&other)?;
    let cold = users.log_in(&other, logins::chill)?;
    sleep(QUIET);
    let many = Daemon::of(mount)?;
    figures.heading("the daemon");
    let few = &built.few.0;
    figures.change(
        &format!("worker, {FEW} users and all"),
        few.worker,
        many.worker,
    );
    figures.change("supervisor", few.supervisor, many.supervisor);
    let more = many.all().saturating_sub(few.all());
    let each = more / (cli.users - FEW) as u64;
    figures.row("for each idle user", format!("{each} B (at most 200)"));
    figures.row(
        "descriptors of the worker",
        format!("{} (at most 1024)", many.descriptors),
    );
    figures.heading("a login, of who was here just now and of who was idle");
    figures.logins(&format!("warm, {FEW} users"), &built.warm, None);
    figures.logins("warm, all users", &warm, Some(&built.warm));
    figures.logins(&format!("cold, {FEW} users"), &built.cold, None);
    figures.logins("cold, all users", &cold, Some(&built.cold));
    Ok(())
}

/// Ages some users, kills the worker, and has the next one count everybody and evict those.
fn takeover(
    cli: &Cli,
    mount: &Mount,
    users: &Users,
    what: &str,
    due: usize,
    figures: &mut Figures,
) -> Result<()> {
    let from = match what {
        "few" => 0,
        _ => cli.users / 2,
    };
    let old = SystemTime::now() - Duration::from_secs(2 * 24 * 3600);
    users.age(from..from + due, old)?;
    let gone_before = gone(mount)?;
    let worker = mount.worker().context("there is no worker")?;
    let killed = Instant::now();
    process::signal(worker, Signal::KILL);
    users.wait_answer(worker)?;
    let answered = killed.elapsed();
    figures.heading(&format!("the worker is killed, {due} users are due"));
    figures.row(
        "until it is answered again",
        format!("{answered:.0?} (at most 1 s)"),
    );
    let worker = mount.worker().context("there is no worker")?;
    let mut threads = Threads::of(worker);
    let until = Instant::now() + PATIENCE;
    while threads.look()?.contains("walk") || gone(mount)? < gone_before + due {
        ensure!(Instant::now() < until, "not all of {due} went");
        sleep(Duration::from_millis(100));
    }
    let took = killed.elapsed();
    let keeper = threads.cpu("keeper");
    threads.wait_idle("cached")?;
    let began = threads.cpu("keeper");
    sleep(QUIET);
    threads.look()?;
    let idle = (threads.cpu("keeper") - began).div_f64(QUIET.as_secs_f64());
    figures.row(
        "until all is counted and they have gone",
        format!("{took:.1?}"),
    );
    figures.row(
        "CPU to count everybody",
        format!("{:.2?}", threads.cpu("walk")),
    );
    let cached = threads.cpu("cached");
    figures.row(
        "CPU to give back what is cached of everybody",
        format!("{cached:.2?}"),
    );
    figures.row(
        "CPU to sweep",
        format!("{keeper:.2?} (at most 10 s where few are due)"),
    );
    figures.row("CPU of a sweep where nobody is", format!("{idle:.0?}"));
    figures.row("worker's RSS", memory::mib(Daemon::of(mount)?.worker));
    Ok(())
}

/// How many users went because they were not used, as the daemon counts.
fn gone(mount: &Mount) -> Result<usize> {
    let mut metrics = Command::new(tool());
    let output = metrics.arg("metrics").arg(mount.path()).output()?;
    let text = String::from_utf8(output.stdout)?;
    let age = text.lines().find(|line| {
        line.starts_with("listindexfs_evictions_total{") && line.contains("reason=\"age\"")
    });
    let count = age.and_then(|line| line.rsplit_once(' '));
    Ok(count.context("not counted")?.1.parse()?)
}

/// `FEW` of all users, the same distance from one to the next.
fn spread(all: usize, first: usize) -> Vec<usize> {
    (0..FEW).map(|n| n * (all / FEW) + first).collect()
}

fn mount_bytes(mount: &Mount) -> Result<u64> {
    let stat = rustix::fs::statvfs(mount.backing())?;
    Ok((stat.f_blocks - stat.f_bfree) * stat.f_frsize)
}
