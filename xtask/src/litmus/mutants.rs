//! The names in the files against those in the code.

use std::fs;

use super::file::LitmusFile;
use crate::process::root;

/// The mutants that the code knows: the names in `mutants! { ... }`.
fn known_mutants() -> Vec<String> {
    let text = fs::read_to_string(root().join("crates/qemu-util/src/mutant.rs")).unwrap();
    let list = text.split("\nmutants! {").nth(1).and_then(|rest| rest.split("\n}").next()).unwrap();
    let names = list.lines().filter_map(|line| line.trim().strip_suffix("\",")?.rsplit('"').next());
    names.map(str::to_owned).collect()
}

/// Files whose mutants are not the code's, or whose defects are.
fn check_mutants(files: &[LitmusFile], known: &[String]) -> Vec<String> {
    let is_known = |name: &String| known.contains(name);
    let mut complaints = Vec::new();
    for file in files {
        if file.mutant.as_ref().is_some_and(|mutant| !is_known(mutant)) {
            complaints
                .push(format!("{}: crates/qemu-util/src/mutant.rs knows no such mutant; a `Defect=`?", file.name));
        }
        if file.defect.as_ref().is_some_and(|defect| file.mutant.is_some() || is_known(defect)) {
            complaints.push(format!("{}: the defect is a mutant; say `Mutant=`", file.name));
        }
    }
    complaints
}

#[test]
fn the_files_name_the_mutants_of_the_code() {
    let known = known_mutants();
    assert!(known.contains(&"notify-without-fence".to_owned()));
    let complaints = check_mutants(&super::load(&super::folder()).unwrap(), &known);
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}
