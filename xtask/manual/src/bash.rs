//! Completions for bash.

use qemu_img::manual::{CommandDoc, OptionDoc};

use crate::words::{Values, spellings, values};

/// The script, to be read by bash or put where bash-completion looks for it.
pub(crate) fn script(commands: &[CommandDoc], options: &[OptionDoc]) -> String {
    let names: Vec<&str> = commands.iter().map(|command| command.name).collect();
    let own: Vec<String> = options.iter().flat_map(spellings).collect();
    let with_value = options.iter().filter(|option| option.value.is_some()).flat_map(spellings);
    let with_value = with_value.collect::<Vec<_>>().join(" | ");
    let mut cases = String::new();
    for command in commands {
        cases.push_str(&format!("        {})\n{}            ;;\n", command.name, case(command)));
    }
    format!(
        "# bash completion for qemu-img

_qemu_img() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD - 1]}} command= options= i
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${{COMP_WORDS[i]}} in
            {with_value}) ((i++)) ;;
            -*) ;;
            *)
                command=${{COMP_WORDS[i]}}
                break
                ;;
        esac
    done
    case $command in
        '')
            COMPREPLY=($(compgen -W '{} {}' -- \"$current\"))
            return
            ;;
{cases}    esac
    if [[ $current == -* ]]; then
        COMPREPLY=($(compgen -W \"$options\" -- \"$current\"))
    else
        COMPREPLY=($(compgen -f -- \"$current\"))
    fi
}}

complete -o filenames -F _qemu_img qemu-img
",
        names.join(" "),
        own.join(" ")
    )
}

/// What a command takes: words after its options, and the options themselves.
fn case(command: &CommandDoc) -> String {
    let mut after = String::new();
    for option in &command.options {
        let Some(values) = values(option) else { continue };
        let names = spellings(option).collect::<Vec<_>>().join(" | ");
        let reply = match values {
            Values::Words(words) => format!("COMPREPLY=($(compgen -W '{}' -- \"$current\"))", words.join(" ")),
            Values::File => "COMPREPLY=($(compgen -f -- \"$current\"))".to_owned(),
            Values::Anything => ":".to_owned(),
        };
        after.push_str(&format!("                {names})\n                    {reply}\n                    return\n"));
        after.push_str("                    ;;\n");
    }
    let options: Vec<String> = command.options.iter().flat_map(spellings).collect();
    format!("            case $previous in\n{after}            esac\n            options='{}'\n", options.join(" "))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use qemu_img::manual::{commands, program_options};

    /// What bash offers after the words of `line`; the last one is being written.
    fn offers(line: &str) -> Vec<String> {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("qemu-img.bash");
        let commands = crate::with_common_options(commands());
        fs::write(&path, super::script(&commands, &program_options())).expect("the script can be written");
        let words: Vec<String> = line.split(' ').map(|word| format!("'{word}'")).collect();
        let run = format!(
            "source '{}'; COMP_WORDS=({}); COMP_CWORD={}; _qemu_img; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            path.display(),
            words.join(" "),
            words.len() - 1
        );
        let output = Command::new("bash").args(["-c", &run]).current_dir(dir.path()).output().expect("bash runs");
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        let text = String::from_utf8(output.stdout).expect("text");
        text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }

    #[test]
    fn commands_come_first() {
        assert_eq!(offers("qemu-img conv"), ["convert"]);
        assert_eq!(offers("qemu-img --vers"), ["--version"]);
        assert!(offers("qemu-img ").contains(&"info".to_owned()));
    }

    #[test]
    fn options_and_their_values_belong_to_the_command() {
        assert_eq!(offers("qemu-img convert --target-is"), ["--target-is-zero"]);
        assert_eq!(offers("qemu-img info --out"), ["--output"]);
        assert_eq!(offers("qemu-img info --output j"), ["json"]);
        assert_eq!(offers("qemu-img convert -O q"), ["qcow2"]);
        assert_eq!(offers("qemu-img check -r l"), ["leaks"]);
        assert_eq!(offers("qemu-img convert -t write"), ["writeback", "writethrough"]);
        assert_eq!(offers("qemu-img info qemu-img.b"), ["qemu-img.bash"]);
        assert_eq!(offers("qemu-img --strict --allow x info --out"), ["--output"]);
        assert_eq!(offers("qemu-img map --str"), ["--strict"]);
    }
}
