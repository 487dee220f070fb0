//! Completions for fish.

use qemu_img::manual::{CommandDoc, OptionDoc};

use crate::words::{Values, values};

/// The script, to be put into a folder of `fish_complete_path`.
pub(crate) fn script(commands: &[CommandDoc], options: &[OptionDoc]) -> String {
    let mut text = "# fish completion for qemu-img\n".to_owned();
    for option in options {
        text.push_str(&line("__fish_use_subcommand", option));
    }
    for CommandDoc { name, summary, .. } in commands {
        text.push_str(&format!("complete -c qemu-img -f -n __fish_use_subcommand -a {name} -d {}\n", quoted(summary)));
    }
    for command in commands {
        let condition = format!("__fish_seen_subcommand_from {}", command.name);
        command.options.iter().for_each(|option| text.push_str(&line(&condition, option)));
    }
    text
}

fn line(condition: &str, option: &OptionDoc) -> String {
    let mut line = format!("complete -c qemu-img -n {}", quoted(condition));
    if let Some(short) = option.short {
        line.push_str(&format!(" -s {short}"));
    }
    option.long.iter().for_each(|long| line.push_str(&format!(" -l {long}")));
    match values(option) {
        None => {}
        Some(Values::Words(words)) => line.push_str(&format!(" -x -a {}", quoted(&words.join(" ")))),
        Some(Values::File) => line.push_str(" -r"),
        Some(Values::Anything) => line.push_str(" -x"),
    }
    format!("{line} -d {}\n", quoted(option.help))
}

/// A word in single quotes, in which fish knows two escapes.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[cfg(test)]
mod tests {
    use qemu_img::manual::{commands, program_options};

    use super::*;

    #[test]
    fn every_line_completes_something() {
        let script = script(&commands(), &program_options());
        assert!(script.lines().skip(1).all(|line| line.starts_with("complete -c qemu-img ")));
        assert!(script.contains(" -n '__fish_seen_subcommand_from info' -l output -x -a 'human json' -d "));
        assert_eq!(quoted("it's \\"), "'it\\'s \\\\'");
    }
}
