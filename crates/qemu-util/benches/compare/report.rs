//! The results as a table for people and as JSON.

use std::fmt::Write;

use crate::cases::Role;
use crate::measure::{Measured, Times};

/// The aim: never slower than this, compared with the best rival.
const RATIO_MAX: f64 = 1.2;

/// The heads of the columns of [`table`].
pub(crate) const HEADING: &str = "case                      contender                        ns/iter      ours / it";

/// The lines of a group.
pub(crate) fn table(group: &Measured) -> String {
    let mut text = format!("{}: {}\n", group.name, group.what);
    let best = group.best_rival().map(|rival| rival.name);
    for times in &group.contenders {
        let ratio = match (times.role, group.ours()) {
            (Role::Rival | Role::Floor, Some(ours)) => format!("{:.2}", ours.ratio_to(times)),
            _ => String::new(),
        };
        let mark = if best == Some(times.name) { " best rival" } else { "" };
        let role = match times.role {
            Role::Ours => "ours",
            Role::Variant => "variant",
            Role::Rival => "",
            Role::Floor => "floor",
        };
        let (name, ns) = (times.name, times.median());
        writeln!(text, "{role:>24}  {name:<30} {ns:>9.1} {ratio:>14}{mark}").ok();
    }
    text
}

/// One line a group: ours, the best rival, their ratio, and whether that is what we aim at.
pub(crate) fn summary(groups: &[Measured]) -> String {
    let mut text = format!("\n{:<28}{:>10}{:>10}{:>8}  best rival\n", "summary", "ours ns", "rival ns", "ratio");
    for group in groups {
        let Some(ours) = group.ours() else { continue };
        write!(text, "{:<28}{:>10.1}", group.name, ours.median()).ok();
        if let Some(rival) = group.best_rival() {
            let ratio = ours.ratio_to(rival);
            let verdict = if ratio <= RATIO_MAX { "" } else { "   SLOWER THAN THE AIM" };
            write!(text, "{:>10.1}{ratio:>8.2}  {}{verdict}", rival.median(), rival.name).ok();
        }
        if let Some(floor) = group.floor() {
            write!(text, "; {:+.2} ns over {}", ours.nanoseconds_over(floor), floor.name).ok();
        }
        text.push('\n');
    }
    text
}

/// Everything, for other programs.
pub(crate) fn json(groups: &[Measured]) -> String {
    let groups: Vec<_> = groups.iter().map(group_json).collect();
    format!("{:#}\n", serde_json::json!({ "unit": "ns/iteration", "ratio_max": RATIO_MAX, "cases": groups }))
}

fn group_json(group: &Measured) -> serde_json::Value {
    let ours = group.ours();
    let ratio = |times: &Times| ours.map(|ours| ours.ratio_to(times));
    let contenders: Vec<_> = group
        .contenders
        .iter()
        .map(|times| {
            serde_json::json!({
                "name": times.name,
                "role": times.role.name(),
                "median": times.median(),
                "ours_relative": ratio(times),
            })
        })
        .collect();
    serde_json::json!({
        "name": group.name,
        "what": group.what,
        "contenders": contenders,
        "best_rival": group.best_rival().map(|rival| rival.name),
        "ratio_to_best_rival": group.best_rival().and_then(ratio),
        "over_floor": ours.zip(group.floor()).map(|(ours, floor)| ours.nanoseconds_over(floor)),
    })
}
