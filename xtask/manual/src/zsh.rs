//! Completions for zsh.

use qemu_img::manual::{CommandDoc, OptionDoc};

use crate::words::{Values, spellings, values};

/// The function, to be put as `_qemu-img` into a folder of `fpath`.
pub(crate) fn script(commands: &[CommandDoc], options: &[OptionDoc]) -> String {
    let list: Vec<String> =
        commands.iter().map(|command| format!("        '{}:{}'", command.name, plain(command.summary))).collect();
    let own: Vec<String> = options.iter().flat_map(specs).collect();
    let mut cases = String::new();
    for command in commands {
        let specs: Vec<String> = command.options.iter().flat_map(specs).collect();
        cases.push_str(&format!(
            "                ({})\n                    _arguments -s -S \\\n{} \\\n                        '*:file:_files'\n                    ;;\n",
            command.name,
            indented(&specs, 24)
        ));
    }
    format!(
        "#compdef qemu-img

_qemu-img() {{
    local context state state_descr line
    typeset -A opt_args
    local -a commands=(
{}
    )
    _arguments -s -S -C \\
{} \\
        '1:command:->command' \\
        '*::argument:->argument'
    case $state in
        (command)
            _describe command commands
            ;;
        (argument)
            case $words[1] in
{cases}            esac
            ;;
    esac
}}

_qemu-img \"$@\"
",
        list.join("\n"),
        indented(&own, 8)
    )
}

fn indented(specs: &[String], columns: usize) -> String {
    specs.iter().map(|spec| format!("{:columns$}{spec}", "")).collect::<Vec<_>>().join(" \\\n")
}

/// The specifications of an option, one for each way to write it.
fn specs(option: &OptionDoc) -> Vec<String> {
    let help = plain(option.help);
    let value = match values(option) {
        None => String::new(),
        Some(Values::Words(words)) => format!(":value:({})", words.join(" ")),
        Some(Values::File) => ":file:_files".to_owned(),
        Some(Values::Anything) => ":value: ".to_owned(),
    };
    spellings(option)
        .map(|name| {
            let equals = if name.starts_with("--") && !value.is_empty() { "=" } else { "" };
            format!("'*{name}{equals}[{help}]{value}'")
        })
        .collect()
}

/// Text without characters that mean something inside of a specification.
fn plain(text: &str) -> String {
    text.replace('\'', "").replace(['[', ']'], "").replace(':', ",")
}

#[cfg(test)]
mod tests {
    use qemu_img::manual::{commands, program_options};

    use super::*;

    #[test]
    fn quotes_and_brackets_are_balanced() {
        let script = script(&commands(), &program_options());
        for line in script.lines() {
            assert!(line.matches('\'').count().is_multiple_of(2), "{line}");
            assert_eq!(line.matches('[').count(), line.matches(']').count(), "{line}");
        }
    }

    #[test]
    fn values_are_offered() {
        let script = script(&commands(), &program_options());
        for part in ["'convert:", "'*--output=[", ":value:(human json)'", "'*-U["] {
            assert!(script.contains(part), "{part}");
        }
    }
}
