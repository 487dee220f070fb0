//! Medians and ratios, as a table and as JSON.
//!
//! A ratio is the reference's value divided by ours: above 1 we are better, in every column.

use std::time::Duration;

use serde_json::{Value, json};

use super::meter::Sample;
use super::options::Options;

/// A cell below this ratio of wall times is flagged.
const RATIO_WANTED: f64 = 0.95;

/// One value for each of the two programs.
#[derive(Debug)]
pub(super) struct Pair<T> {
    pub(super) ours: T,
    pub(super) reference: T,
}

/// What became of a cell.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Both programs did it. `sizes` are the bytes that the outputs occupy; 0 without an output.
    Measured { samples: Pair<Vec<Sample>>, sizes: Pair<u64> },
    /// One of them did not.
    Failed(String),
}

/// A line of the table.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) outcome: Outcome,
}

impl Row {
    /// Whether the cell was measured and is not flagged.
    pub(super) fn is_fast_enough(&self) -> bool {
        matches!(&self.outcome, Outcome::Measured { samples, .. } if wall(samples).ratio() >= RATIO_WANTED)
    }
}

impl Pair<f64> {
    fn ratio(&self) -> f64 {
        if self.ours == 0.0 { f64::NAN } else { self.reference / self.ours }
    }
}

fn median_of(samples: &[Sample], value: impl Fn(&Sample) -> f64) -> f64 {
    let mut values: Vec<f64> = samples.iter().map(value).collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        len if len % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

fn medians(samples: &Pair<Vec<Sample>>, value: impl Fn(&Sample) -> f64) -> Pair<f64> {
    Pair { ours: median_of(&samples.ours, &value), reference: median_of(&samples.reference, &value) }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn wall(samples: &Pair<Vec<Sample>>) -> Pair<f64> {
    medians(samples, |sample| milliseconds(sample.wall))
}

fn cpu(samples: &Pair<Vec<Sample>>) -> Pair<f64> {
    medians(samples, |sample| milliseconds(sample.cpu))
}

fn peak_mib(samples: &Pair<Vec<Sample>>) -> Pair<f64> {
    // Sizes below 2^53 KiB are exact in a float.
    medians(samples, |sample| sample.peak_kib as f64 / 1024.0)
}

fn sizes_mib(sizes: &Pair<u64>) -> Pair<f64> {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    Pair { ours: mib(sizes.ours), reference: mib(sizes.reference) }
}

/// How wide the column of names has to be.
pub(super) fn name_width<'a>(names: impl Iterator<Item = &'a str>) -> usize {
    names.map(|name| name.chars().count()).max().unwrap_or(0).max(HEADING.len())
}

const HEADING: &str = "medians; ratio = reference / ours";

/// The first line of the table for people.
pub(super) fn heading(width: usize) -> String {
    let heads =
        ["wall ms", "ref", "ratio", "cpu ms", "ref", "ratio", "peak MiB", "ref", "ratio", "size MiB", "ref", "ratio"];
    let heads: String = heads.iter().map(|head| format!("{head:>9}")).collect();
    format!("{HEADING:width$}{heads}")
}

/// One line of it.
pub(super) fn line(row: &Row, width: usize) -> String {
    let cells = match &row.outcome {
        Outcome::Failed(why) => format!("   failed: {why}"),
        Outcome::Measured { samples, sizes } => {
            let size = sizes_mib(sizes);
            let pairs = [wall(samples), cpu(samples), peak_mib(samples)];
            let cells: String = pairs.iter().map(columns).collect();
            cells + &if size.ours > 0.0 { columns(&size) } else { String::new() }
        }
    };
    let flag = if row.is_fast_enough() { "" } else { "  <--" };
    format!("{:width$}{cells}{flag}", row.name)
}

/// The last line.
pub(super) fn summary(rows: &[Row]) -> String {
    let slow = rows.iter().filter(|row| !row.is_fast_enough()).count();
    format!("{} cells, {slow} failed or below {RATIO_WANTED}", rows.len())
}

fn columns(pair: &Pair<f64>) -> String {
    format!("{:9.1}{:9.1}{:9.2}", pair.ours, pair.reference, pair.ratio())
}

/// Everything, for programs.
pub(super) fn json(rows: &[Row], options: &Options) -> String {
    let rows: Vec<Value> = rows.iter().map(row_json).collect();
    let spec = json!({ "content-mib": options.spec.content_mib, "disk-mib": options.spec.disk_mib });
    let document = json!({ "images": spec, "runs": options.runs, "ratio-wanted": RATIO_WANTED, "cells": rows });
    format!("{document:#}\n")
}

fn row_json(row: &Row) -> Value {
    let pair = |pair: &Pair<f64>| json!({ "ours": pair.ours, "reference": pair.reference, "ratio": pair.ratio() });
    match &row.outcome {
        Outcome::Failed(why) => json!({ "name": row.name, "failed": why }),
        Outcome::Measured { samples, sizes } => {
            let all = |samples: &[Sample]| samples.iter().map(|s| milliseconds(s.wall)).collect::<Vec<_>>();
            let mut cell = json!({
                "name": row.name,
                "wall-ms": pair(&wall(samples)),
                "cpu-ms": pair(&cpu(samples)),
                "peak-mib": pair(&peak_mib(samples)),
                "wall-ms-samples": { "ours": all(&samples.ours), "reference": all(&samples.reference) },
            });
            if sizes.ours > 0 {
                cell["size-mib"] = pair(&sizes_mib(sizes));
            }
            cell
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(milliseconds: u64) -> Sample {
        let time = Duration::from_millis(milliseconds);
        Sample { wall: time, cpu: time, peak_kib: 1024 }
    }

    #[test]
    fn medians_and_ratios_favour_the_smaller_value() {
        let samples = Pair { ours: [5, 1, 100].map(sample).to_vec(), reference: [10, 20].map(sample).to_vec() };
        let pair = wall(&samples);
        assert_eq!((pair.ours, pair.reference, pair.ratio()), (5.0, 15.0, 3.0));
    }

    #[test]
    fn slow_and_failed_cells_are_flagged() {
        let samples = Pair { ours: vec![sample(100)], reference: vec![sample(90)] };
        let slow = Outcome::Measured { samples, sizes: Pair { ours: 0, reference: 0 } };
        let rows = [slow, Outcome::Failed("why".to_owned())].map(|outcome| Row { name: "cell".to_owned(), outcome });
        assert!(!rows.iter().any(Row::is_fast_enough));
        assert!(rows.iter().all(|row| line(row, 4).ends_with("<--")));
        assert!(summary(&rows).starts_with("2 cells, 2 failed"));
    }
}
