//! What the list lets through.

use std::os::unix::fs::symlink;

use super::*;

fn list(patterns: &[&str]) -> AllowList {
    AllowList::new(patterns.iter().copied()).expect("valid patterns").with_hint("; say {}")
}

fn ask(list: &AllowList, origin: Origin, target: Target<'_>, name: &str) -> Result<()> {
    list.check(&Reference { origin, target, name })
}

fn allows_path(list: &AllowList, path: &str) -> bool {
    ask(list, Origin::Backing, Target::Path(path), path).is_ok()
}

#[test]
fn what_the_caller_names_is_followed_unless_it_hides_something() {
    let none = list(&[]);
    ask(&none, Origin::Caller, Target::Path("/etc/passwd"), "/etc/passwd").expect("his own choice");
    ask(&none, Origin::Caller, Target::Protocol("null-co"), "null-co://").expect("local");
    ask(&none, Origin::Caller, Target::Format("throttle"), "").expect("his own choice");
    ask(&none, Origin::Caller, Target::Json, "json:{}").expect_err("may name anything");
    let error = ask(&none, Origin::Caller, Target::Protocol("nbd"), "nbd://host").expect_err("network");
    assert_eq!(error.chain(), "The name 'nbd://host' is not followed; say nbd:");
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
}

#[test]
fn names_from_images_need_a_pattern() {
    let none = list(&[]);
    for (target, name) in [
        (Target::Path("base.raw"), "base.raw"),
        (Target::Json, "json:{}"),
        (Target::Protocol("null-co"), "null-co://"),
        (Target::Format("blkdebug"), "x"),
    ] {
        ask(&none, Origin::Backing, target, name).expect_err(name);
    }
    ask(&none, Origin::Backing, Target::Format("qcow2"), "").expect("only interprets what is there");
    let error = ask(&none, Origin::DataFile, Target::Path("/a\n"), "/a\n").expect_err("not allowed");
    assert_eq!(error.chain(), "The data file '/a\\x0a' is not followed; say /a\\x0a");
    assert!(!none.may_probe(Origin::Backing) && none.may_probe(Origin::Caller));
}

#[test]
fn protocols_are_allowed_by_name() {
    let nbd = list(&["nbd:", "json:", "ssh://host/x"]);
    for (protocol, name) in [("nbd", "nbd://a"), ("nbd+unix", "nbd+unix:///?socket=a"), ("ssh", "ssh://host/x")] {
        ask(&nbd, Origin::Backing, Target::Protocol(protocol), name).expect(name);
    }
    ask(&nbd, Origin::Backing, Target::Json, "json:{}").expect("allowed");
    // The driver is asked about by its own name.
    let unix = list(&["nbd+unix:"]);
    ask(&unix, Origin::Caller, Target::Protocol("nbd"), "nbd+unix:///?socket=a").expect("allowed");
    ask(&unix, Origin::Caller, Target::Protocol("nbd"), "nbd://a").expect_err("another way");
    ask(&nbd, Origin::Backing, Target::Protocol("ssh"), "ssh://host/y").expect_err("another name");
    assert!(nbd.has_network());
    assert!(!list(&["json:", "null-co:", "/etc/"]).has_network());
}

#[test]
fn paths_match_as_files_and_folders() {
    let dir = tempfile::tempdir().expect("a folder");
    let at = |name: &str| dir.path().join(name).to_str().expect("UTF-8").to_owned();
    std::fs::create_dir(at("in")).expect("a folder");
    for name in ["in/base", "in/other", "out"] {
        std::fs::write(at(name), "").expect("a file");
    }
    let file = list(&[&at("in/base")]);
    assert!(allows_path(&file, &at("in/base")) && allows_path(&file, &at("in/../in/./base")));
    assert!(!allows_path(&file, &at("in/other")) && !allows_path(&file, &at("in/base/x")));
    let folder = list(&[&format!("{}/", at("in"))]);
    assert!(allows_path(&folder, &at("in/base")) && allows_path(&folder, &at("in/missing")));
    assert!(!allows_path(&folder, &at("in/../out")) && !allows_path(&folder, &at("inner")));
}

#[test]
fn symbolic_links_lead_nowhere_else() {
    let dir = tempfile::tempdir().expect("a folder");
    let at = |name: &str| dir.path().join(name).to_str().expect("UTF-8").to_owned();
    std::fs::create_dir(at("in")).expect("a folder");
    std::fs::write(at("secret"), "").expect("a file");
    std::fs::write(at("in/base"), "").expect("a file");
    symlink(at("secret"), at("in/link")).expect("a link");
    symlink(at("in"), at("alias")).expect("a link");
    let folder = list(&[&format!("{}/", at("in"))]);
    let link = at("in/link");
    let error = ask(&folder, Origin::Backing, Target::Path(&link), &link).expect_err("it leads out");
    assert!(error.chain().contains("a symbolic link leads out of what is allowed"), "{}", error.chain());
    // A folder may be allowed by another of its names, and is then meant by both.
    let alias = list(&[&format!("{}/", at("alias"))]);
    assert!(allows_path(&alias, &at("alias/base")) && allows_path(&alias, &at("in/base")));
    assert!(!allows_path(&alias, &at("alias/link")));
}

#[test]
fn nonsense_is_no_pattern() {
    for pattern in ["", "a\0b"] {
        let error = AllowList::new([pattern]).expect_err("no pattern");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    }
}
