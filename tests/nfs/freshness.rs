//! The check sees at once what another host did to .lasthost, however long the attribute cache believes
//! itself. Each case holds a plain `stat` beside it, which does not: so the test can fail.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use listindexfs::index::creds::Creds;
use listindexfs::index::dir::{Base, IndexDir, IndexPath};
use listindexfs::index::guard::MountTable;
use listindexfs::options::IndexFs;

use crate::guest::{Client, changed, fresh_dir, version};

/// By then the attribute cache has grown to its default maximum of 60 s: it doubles from 3 s while nothing changes.
const GROWN: Duration = Duration::from_secs(100);

/// What host A does to .lasthost.
#[derive(Clone, Copy, Debug)]
enum Change {
    RenameOver,
    RenameOverLinked,
    Rewrite,
    Create,
}

const ALL: [Change; 4] = [
    Change::RenameOver,
    Change::RenameOverLinked,
    Change::Rewrite,
    Change::Create,
];

/// One INDEX, seen by both.
struct Case {
    change: Change,
    name: String,
}

impl Case {
    fn new(change: Change) -> Self {
        let case = Self {
            change,
            name: fresh_dir(),
        };
        let lasthost = case.at(Client::A);
        match change {
            Change::Create => {}
            Change::RenameOverLinked => {
                fs::write(&lasthost, "a\n").unwrap();
                fs::hard_link(&lasthost, lasthost.with_file_name("kept")).unwrap();
            }
            Change::RenameOver | Change::Rewrite => fs::write(&lasthost, "a\n").unwrap(),
        }
        case
    }

    fn at(&self, client: Client) -> PathBuf {
        client.mount().join(&self.name).join(".lasthost")
    }

    fn change(&self) {
        let lasthost = self.at(Client::A);
        match self.change {
            Change::RenameOver | Change::RenameOverLinked => {
                let new = lasthost.with_file_name("new");
                fs::write(&new, "another\n").unwrap();
                fs::rename(new, lasthost).unwrap();
            }
            Change::Rewrite | Change::Create => fs::write(lasthost, "another\n").unwrap(),
        }
    }

    /// What our check sees on host B: inode and size.
    fn checked(&self) -> Option<(u64, u64)> {
        let path = self.at(Client::B);
        let at = IndexPath {
            base: Client::B.mount(),
            rest: self.name.clone().into(),
            base_is: Base::Fixed,
        };
        let root = Creds {
            uid: 0,
            gid: 0,
            groups: Vec::new(),
        };
        let mounts = MountTable::open().unwrap();
        let index = IndexDir::open(&at, &root, &mounts, &IndexFs::Network);
        let index = index
            .unwrap()
            .unwrap_or_else(|| panic!("{path:?} is not there"));
        let seen = index.lasthost().unwrap();
        seen.map(|identity| (identity.ino, identity.size))
    }

    /// What `stat` sees on host B.
    fn stat(&self) -> Option<(u64, u64)> {
        fs::metadata(self.at(Client::B))
            .ok()
            .map(|seen| (seen.ino(), seen.size()))
    }

    fn truth(&self) -> Option<(u64, u64)> {
        let there = Path::new(crate::guest::EXPORT)
            .join(&self.name)
            .join(".lasthost");
        fs::metadata(there)
            .ok()
            .map(|seen| (seen.ino(), seen.size()))
    }
}

/// Host B has watched for so long; then A changes all. B's check must know; its `stat` must not, or it shows nothing.
fn seen_at_once(cases: &[Case], watched: Duration) {
    let start = Instant::now();
    loop {
        for case in cases {
            assert_eq!(case.stat(), case.truth(), "{:?}: before", case.change);
        }
        if start.elapsed() >= watched {
            break;
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    for case in cases {
        let before = case.truth();
        case.change();
        assert_ne!(
            case.truth(),
            before,
            "{:?}: the test changes nothing",
            case.change
        );
        assert_eq!(
            case.stat(),
            before,
            "{:?}: a plain stat sees it as well: the test cannot fail",
            case.change
        );
        assert_eq!(
            case.checked(),
            case.truth(),
            "{:?}: not seen by the check",
            case.change
        );
    }
}

#[test]
#[ignore = "runs in the NFS guest"]
fn with_default_options_after_the_attribute_cache_has_grown() {
    version();
    seen_at_once(&ALL.map(Case::new), GROWN);
}

#[test]
#[ignore = "runs in the NFS guest"]
fn with_attributes_kept_for_a_minute() {
    let with_actimeo = format!("vers={},actimeo=60", version());
    let _b = remounted(&with_actimeo);
    seen_at_once(&ALL.map(Case::new), Duration::ZERO);
}

/// Host B's mount with other options, until Drop.
fn remounted(options: &str) -> [crate::guest::Changed; 2] {
    let default = format!("vers={}", version());
    let gone = changed(&["umount", "b"], &["mount", "b", "1", &default]);
    let here = changed(&["mount", "b", "1", options], &["umount", "b"]);
    [here, gone] // dropped in this order
}
