//! Power cuts for as long as one likes: random sessions of all shapes, each from a seed that is printed when it fails.

#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crash::campaign::{DEPTH, all_shapes};
use crash::judge::{Count, judge_all};
use crash::session::{Plan, run};
use crash::shape::Shape;

/// How often the progress is shown.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(20);

/// What the command line asks for.
#[derive(Debug)]
struct Options {
    time: Duration,
    seed: Option<u64>,
    shape: Option<String>,
    n_actions: usize,
}

fn main() -> ExitCode {
    let done = parse(std::env::args().skip(1)).and_then(|options| cut(&options));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(complaint) => {
            writeln!(io::stderr(), "crash: {complaint}").ok();
            ExitCode::FAILURE
        }
    }
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options { time: Duration::from_secs(120), seed: None, shape: None, n_actions: 24 };
    while let Some(name) = args.next() {
        let value = args.next().ok_or_else(|| format!("{name} needs a value"))?;
        let number = || value.parse::<u64>().map_err(|error| format!("{name} {value}: {error}"));
        match name.as_str() {
            "--minutes" => {
                let minutes = value.parse::<f64>().map_err(|error| format!("{name} {value}: {error}"))?;
                let time = Duration::try_from_secs_f64(minutes * 60.0);
                options.time = time.map_err(|error| format!("{name} {value}: {error}"))?;
            }
            "--seed" => options.seed = Some(number()?),
            "--actions" => options.n_actions = usize::try_from(number()?).map_err(|error| error.to_string())?,
            "--shape" => options.shape = Some(value),
            _ => return Err(format!("unknown option {name}")),
        }
    }
    Ok(options)
}

/// Runs sessions until the time is over, or just the one that is asked for.
fn cut(options: &Options) -> Result<(), String> {
    let wanted = |shape: &Shape| options.shape.as_ref().is_none_or(|name| name == shape.name);
    let shapes: Vec<Shape> = all_shapes().into_iter().filter(wanted).collect();
    if shapes.is_empty() {
        return Err(format!("there is no shape '{}'", options.shape.as_deref().unwrap_or_default()));
    }
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| u64::from(time.subsec_nanos()));
    let first = options.seed.unwrap_or(clock);
    say(&format!("crash: seeds from {first} on, {} shapes, for {:?}", shapes.len(), options.time))?;
    let (start, mut shown, mut count) = (Instant::now(), Instant::now(), Count::default());
    for (n_sessions, seed) in (first..).enumerate() {
        for shape in &shapes {
            let trace = run(Plan::random(shape, seed, options.n_actions));
            count += judge_all(&trace, DEPTH).map_err(|violation| violation.report())?;
            if shown.elapsed() > PROGRESS_INTERVAL {
                shown = Instant::now();
                say(&format!("{} sessions a shape, {count:?}", n_sessions))?;
            }
        }
        // A seed and a shape together name one session.
        if start.elapsed() > options.time || (options.seed.is_some() && options.shape.is_some()) {
            break;
        }
    }
    say(&format!("All survived: {count:?}"))
}

fn say(line: &str) -> Result<(), String> {
    writeln!(io::stdout(), "{line}").map_err(|error| error.to_string())
}
