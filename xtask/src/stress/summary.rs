//! What came out of all iterations, as text and as JSON.

use std::time::Duration;

use serde_json::{Value, json};

use super::autopsy::Autopsy;
use super::options::Options;
use super::plan::Plan;
use super::watchdog::Times;

/// How one iteration ended.
#[derive(Debug)]
pub(super) enum Ending {
    /// The output is right.
    Right(Duration),
    /// The output differs.
    Wrong(String),
    /// The program failed.
    Failed(String),
    /// The program hung.
    Hung(Autopsy),
}

/// All iterations that ended.
#[derive(Debug, Default)]
pub(super) struct Results {
    pub(super) endings: Vec<(Plan, Ending)>,
}

impl Results {
    fn count(&self, is_it: impl Fn(&Ending) -> bool) -> usize {
        self.endings.iter().filter(|(_, ending)| is_it(ending)).count()
    }

    pub(super) fn hangs(&self) -> usize {
        self.count(|ending| matches!(ending, Ending::Hung(_)))
    }

    fn wrong(&self) -> usize {
        self.count(|ending| matches!(ending, Ending::Wrong(_)))
    }

    fn failed(&self) -> usize {
        self.count(|ending| matches!(ending, Ending::Failed(_)))
    }

    pub(super) fn are_good(&self) -> bool {
        self.count(|ending| matches!(ending, Ending::Right(_))) == self.endings.len()
    }

    fn slowest(&self) -> Option<(&Plan, Duration)> {
        let times = self.endings.iter().filter_map(|(plan, ending)| match ending {
            Ending::Right(time) => Some((plan, *time)),
            _ => None,
        });
        times.max_by_key(|(_, time)| *time)
    }

    /// The lines at the end.
    pub(super) fn text(&self, times: &Times, seed: u64) -> String {
        let seconds = |per_mille| times.quantile(per_mille).as_secs_f64();
        let mut lines = vec![
            format!(
                "{} iterations with seed {seed}: {} hung, {} wrong, {} failed.",
                self.endings.len(),
                self.hangs(),
                self.wrong(),
                self.failed()
            ),
            format!(
                "Seconds a run: {:.2} at half, {:.2} at 90 %, {:.2} at 99 %, {:.2} at most.",
                seconds(500),
                seconds(900),
                seconds(990),
                seconds(1000)
            ),
        ];
        lines.extend(self.slowest().map(|(plan, time)| format!("The slowest, {:.2} s: {plan}.", time.as_secs_f64())));
        for (plan, ending) in &self.endings {
            match ending {
                Ending::Right(_) => {}
                Ending::Wrong(how) => lines.push(format!("Wrong output: {plan}: {how}")),
                Ending::Failed(how) => lines.push(format!("Failed: {plan}: {how}")),
                Ending::Hung(autopsy) => lines.push(format!("Hung: {plan}: {}", autopsy.verdict.join("; "))),
            }
        }
        lines.join("\n")
    }

    /// Everything, for programs.
    pub(super) fn json(&self, times: &Times, options: &Options) -> Value {
        let seconds = |per_mille| times.quantile(per_mille).as_secs_f64();
        let slowest = self.slowest().map(|(plan, time)| {
            json!({ "iteration": plan.iteration, "plan": plan.to_string(), "seconds": time.as_secs_f64() })
        });
        let runs: Vec<Value> = self.endings.iter().map(|(plan, ending)| run(plan, ending)).collect();
        json!({
            "seed": options.seed,
            "first": options.first,
            "jobs": options.jobs,
            "native": options.native,
            "features": options.features,
            "mutant": options.mutant,
            "pressure": options.pressure,
            "iterations": self.endings.len(),
            "hangs": self.hangs(),
            "wrong": self.wrong(),
            "failed": self.failed(),
            "seconds": { "p50": seconds(500), "p90": seconds(900), "p99": seconds(990), "max": seconds(1000) },
            "slowest": slowest,
            "runs": runs,
        })
    }
}

fn run(plan: &Plan, ending: &Ending) -> Value {
    let mut value = json!({ "iteration": plan.iteration, "seed": plan.seed, "plan": plan.to_string() });
    match ending {
        Ending::Right(time) => value["seconds"] = json!(time.as_secs_f64()),
        Ending::Wrong(how) => value["wrong"] = json!(how),
        Ending::Failed(how) => value["failed"] = json!(how),
        Ending::Hung(autopsy) => value["hang"] = json!({ "verdict": autopsy.verdict, "report": autopsy.report }),
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_wrong_is_counted_and_named() {
        let times = Times::default();
        times.add(Duration::from_secs(2));
        let autopsy = Autopsy { verdict: vec!["lost wake-up".to_owned()], report: "all".to_owned() };
        let endings =
            [Ending::Right(Duration::from_secs(2)), Ending::Hung(autopsy), Ending::Wrong("differs".to_owned())];
        let endings = (0..).zip(endings).map(|(i, ending)| (Plan::new(5, i, &[0], false), ending)).collect();
        let results = Results { endings };
        assert!(!results.are_good());
        let text = results.text(&times, 5);
        assert!(text.starts_with("3 iterations with seed 5: 1 hung, 1 wrong, 0 failed."), "{text}");
        assert!(text.contains("Hung: iteration 1") && text.contains("Wrong output: iteration 2"), "{text}");
        let json = results.json(&times, &Options::new());
        assert_eq!((&json["hangs"], &json["runs"][1]["hang"]["report"]), (&json!(1), &json!("all")));
    }
}
