//! The checks that need no mount; `tests/mount.rs` has the others.

use super::*;
use rstest::rstest;

#[rstest]
#[case("6.1.0-18-amd64", Some((6, 1)))]
#[case("5.10.0", Some((5, 10)))]
#[case("6.18.44-fc-v669", Some((6, 18)))]
#[case("5.9-rc1", Some((5, 9)))]
#[case("unknown", None)]
fn a_release_begins_with_two_numbers(#[case] release: &str, #[case] expected: Option<(u32, u32)>) {
    assert_eq!(version(release), expected);
}

#[test]
fn backing_and_mountpoint_lie_apart() {
    let top = tempfile::tempdir().expect("tempdir");
    let path = |name: &str| {
        let path = top.path().join(name);
        std::fs::create_dir_all(&path).expect("directory");
        path.canonicalize().expect("real path")
    };
    let (backing, inside, beside) = (path("b"), path("b/m"), path("bm"));
    assert!(apart(&inside, &backing).is_err());
    assert!(apart(&backing, &inside).is_err());
    assert!(apart(&backing, &backing).is_err());
    assert!(apart(&beside, &backing).is_ok());
}
