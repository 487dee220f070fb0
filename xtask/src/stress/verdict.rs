//! What the state of a program that hangs means: the reasoning of the report, on the lines that the program has written.

/// The state, as lines of words.
#[derive(Debug)]
pub(super) struct State<'a> {
    lines: Vec<&'a str>,
}

impl<'a> State<'a> {
    /// The last complete state in what a program has written to standard error.
    pub(super) fn find(text: &'a str) -> Option<Self> {
        let (before, _) = text.rsplit_once("qemu-img: trace: state ends")?;
        let (_, state) = before.rsplit_once("qemu-img: trace: state begins")?;
        Some(Self { lines: state.lines().filter(|line| !line.is_empty()).collect() })
    }

    pub(super) fn lines(&self) -> &[&'a str] {
        &self.lines
    }

    /// The lines of one kind.
    fn of(&self, kind: &str) -> impl Iterator<Item = Line<'a>> {
        self.lines
            .iter()
            .filter_map(move |line| line.split_once(':').filter(|(name, _)| *name == kind).map(|(_, rest)| Line(rest)))
    }

    fn one(&self, kind: &str) -> Line<'a> {
        self.of(kind).next().unwrap_or(Line(""))
    }
}

/// Words `key=value`.
#[derive(Clone, Copy, Debug)]
struct Line<'a>(&'a str);

impl<'a> Line<'a> {
    fn get(self, key: &str) -> &'a str {
        let mut pairs = self.0.split(' ').filter_map(|word| word.split_once('='));
        pairs.find(|(name, _)| *name == key).map_or("", |(_, value)| value)
    }

    fn number(self, key: &str) -> u64 {
        self.get(key).parse().unwrap_or(0)
    }

    fn is(self, key: &str) -> bool {
        self.get(key) == "true"
    }
}

/// What is wrong, in sentences; the most likely cause first.
pub(super) fn reason(state: &State<'_>) -> Vec<String> {
    let mut findings = vec![about_the_loop(state)];
    for pool in state.of("pool") {
        let (name, queued, idle) = (pool.get("name"), pool.number("queued"), pool.number("idle"));
        if queued > 0 && idle > 0 {
            findings
                .push(format!("{queued} jobs are queued in {name} while {idle} of its threads sleep: lost wake-up"));
        } else if queued > 0 && pool.number("threads") == 0 {
            findings.push(format!("{queued} jobs are queued in {name}, which has no thread"));
        } else if pool.number("running") > 0 {
            findings.push(format!("{} threads of {name} run a job: see what they wait for", pool.get("running")));
        }
    }
    findings.extend(about_rcu(state));
    findings
}

/// What waits for the loop, in words.
fn pending(state: &State<'_>) -> Vec<&'static str> {
    let (bh, tasks) = (state.one("bh"), state.one("tasks"));
    let timers = state.one("timers");
    let found = [
        (bh.get("scheduled") == "some", "a bottom half is scheduled"),
        (bh.number("taken") > 0, "a bottom half was taken and not called"),
        (tasks.get("woken") == "some", "a task was woken"),
        (tasks.number("ready") > 0, "a task was taken and has not run"),
        (state.one("aio").is("kicked"), "the loop was kicked"),
        (timers.get("next_ms") == "0", "a timer is due"),
    ];
    found.iter().filter(|(is_so, _)| *is_so).map(|(_, words)| *words).collect()
}

fn about_the_loop(state: &State<'_>) -> String {
    let aio = state.one("aio");
    if aio.0.is_empty() || aio.0.trim() == "gone" {
        return "there is no event loop".to_owned();
    }
    let (notify_me, pending) = (aio.number("notify_me"), pending(state));
    if notify_me == 0 {
        return "notify_me is 0: the loop does not sleep; it is stuck in what it runs".to_owned();
    }
    if pending.is_empty() {
        let tasks = state.one("tasks");
        return format!(
            "notify_me is {notify_me} and nothing is pending: the loop sleeps for a reason, and {} tasks wait for \
             somebody who does not come",
            tasks.get("idle")
        );
    }
    let what = pending.join(" and ");
    if aio.is("eventfd_readable") {
        return format!(
            "{what}, notify_me is {notify_me} and the eventfd is readable: the kernel does not end the sleep"
        );
    }
    let how = if aio.is("notified") {
        "notified is set, so a waker has seen notify_me, and never wrote the eventfd"
    } else {
        "notified is clear, so the waker has read notify_me as 0, and the loop had looked before"
    };
    format!("{what}, notify_me is {notify_me} and the eventfd is not readable: lost wake-up ({how})")
}

fn about_rcu(state: &State<'_>) -> Vec<String> {
    let mut findings = Vec::new();
    let rcu = state.one("rcu");
    if rcu.is("synchronizing") {
        findings.push(match rcu.number("inside") {
            0 if rcu.get("left") == "busy" => {
                "an RCU writer sleeps although no reader is inside a section: lost wake-up".to_owned()
            }
            inside => format!("an RCU writer waits for {inside} readers"),
        });
    } else if rcu.number("functions") > 0 && rcu.get("queued") == "busy" {
        findings.push("functions of call_rcu are queued while their thread sleeps: lost wake-up".to_owned());
    } else if rcu.get("queued") == "busy" {
        findings.push("RCU's event is busy because its thread has nothing to do: that is not the cause".to_owned());
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(aio: &str, more: &str) -> String {
        let text = format!(
            "noise\nqemu-img: trace: state begins\naio: {aio}\n{more}\nrcu: counter=1 synchronizing=false left=free \
             queued=free calling=false functions=0 readers=2 inside=0\nqemu-img: trace: state ends\n"
        );
        reason(&State::find(&text).expect("it is complete")).join("; ")
    }

    #[test]
    fn a_lost_wake_up_is_told_from_a_loop_that_waits() {
        let asleep = "notify_me=2 notified=false eventfd_readable=false kicked=false entered=true";
        let text = verdict(asleep, "bh: scheduled=some taken=0\ntasks: woken=none ready=0 live=1");
        assert_eq!(
            text,
            "a bottom half is scheduled, notify_me is 2 and the eventfd is not readable: lost wake-up (notified is \
             clear, so the waker has read notify_me as 0, and the loop had looked before)"
        );
        let text = verdict(asleep, "bh: scheduled=none taken=0\ntasks: woken=none ready=0 live=3 idle=3");
        assert!(text.starts_with("notify_me is 2 and nothing is pending"), "{text}");
        assert!(text.contains("3 tasks wait"), "{text}");
        let text = verdict("notify_me=2 notified=true eventfd_readable=false kicked=true", "");
        assert!(text.contains("the loop was kicked") && text.contains("never wrote the eventfd"), "{text}");
        let text = verdict("notify_me=2 notified=true eventfd_readable=true kicked=true", "");
        assert!(text.contains("the kernel does not end the sleep"), "{text}");
        assert!(verdict("notify_me=0 kicked=true", "").starts_with("notify_me is 0"));
    }

    #[test]
    fn pools_and_rcu_are_judged() {
        let pool = "pool: name=block-io threads=2 max=64 idle=1 queued=3 running=1 inline=0 closed=false";
        assert!(verdict("notify_me=2", pool).contains("3 jobs are queued in block-io while 1 of its threads sleep"));
        let text = "qemu-img: trace: state begins\nrcu: synchronizing=true left=busy inside=0\n\
                    qemu-img: trace: state ends";
        let findings = reason(&State::find(text).expect("it is complete"));
        assert!(findings[1].contains("no reader is inside"), "{findings:?}");
        assert!(State::find("qemu-img: trace: state begins\n").is_none());
    }
}
