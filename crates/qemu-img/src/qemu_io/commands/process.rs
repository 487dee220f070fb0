//! `help`, `quit`, `sleep`, `abort` and `sigraise`: what concerns the program and not the image.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, raise};

use super::super::command::{Call, Command, Needs};
use super::super::number::integer;
use super::super::shell::{Done, Shell};
use super::{ALL, size};

/// One more than the highest number of a signal, and the highest one that the reference takes.
const SIGNAL_MAX: u64 = 65;

pub(super) const HELP: Command = Command {
    name: "help",
    alias: Some("?"),
    arguments: Some("[command]"),
    summary: "help for one or all commands",
    details: "",
    words: (0, Some(1)),
    needs: Needs::Nothing,
    run: help,
};

pub(super) const QUIT: Command = Command {
    name: "quit",
    alias: Some("q"),
    arguments: None,
    summary: "exit the program",
    details: "",
    words: (0, None),
    needs: Needs::Nothing,
    run: |shell, _| {
        shell.quit();
        Ok(())
    },
};

pub(super) const SLEEP: Command = Command {
    name: "sleep",
    alias: None,
    arguments: None,
    summary: "waits for the given value in milliseconds",
    details: "",
    words: (1, Some(1)),
    needs: Needs::Nothing,
    run: sleep,
};

pub(super) const ABORT: Command = Command {
    name: "abort",
    alias: None,
    arguments: None,
    summary: "simulate a program crash using abort(3)",
    details: "",
    words: (0, Some(0)),
    needs: Needs::Nothing,
    // What is still in the output's buffer is lost, as the C library loses it.
    run: |_, _| std::process::abort(),
};

pub(super) const SIGRAISE: Command = Command {
    name: "sigraise",
    alias: None,
    arguments: Some("signal"),
    summary: "raises a signal",
    details: "
 The signal is a number: 'sigraise 15' is SIGTERM.

",
    words: (1, Some(1)),
    needs: Needs::Nothing,
    run: sigraise,
};

fn help(shell: &mut Shell, call: &Call<'_>) -> Done {
    let Some(name) = call.words.first() else {
        for command in ALL {
            shell.out.line(command.line(command.name));
        }
        shell.out.text("\nUse 'help commandname' for extended help.\n");
        return Ok(());
    };
    let Some(command) = Command::find(ALL, name) else {
        return Err(shell.refuse(format!("command {name} not found")));
    };
    shell.out.line(command.line(name));
    shell.out.text(command.details);
    Ok(())
}

fn sleep(shell: &mut Shell, call: &Call<'_>) -> Done {
    let text = call.words.first().map_or("", String::as_str);
    let Some(millis) = integer(text).and_then(|value| u64::try_from(value).ok()) else {
        return Err(shell.refuse(format!("{text} is not a valid number")));
    };
    let deadline = Instant::now().checked_add(Duration::from_millis(millis));
    let left = deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()));
    let sleep = shell.session.sleep(left);
    shell.wait(sleep);
    Ok(())
}

fn sigraise(shell: &mut Shell, call: &Call<'_>) -> Done {
    let text = call.words.first().map_or("", String::as_str);
    let number = size(shell, text)?;
    if number > SIGNAL_MAX {
        return Err(shell.refuse(format!("signal argument '{text}' is too large to be a valid signal")));
    }
    // The signal may end the process: what was printed so far is to be seen.
    shell.out.flush();
    let signal = i32::try_from(number).ok().and_then(|number| Signal::try_from(number).ok());
    if let Some(signal) = signal {
        // A signal that cannot be raised has no effect; the reference does not look either.
        let _unraised = raise(signal);
    }
    Ok(())
}
