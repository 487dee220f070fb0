//! The manual page, in the macros of man(7).

use qemu_img::manual::{CommandDoc, OptionDoc, ValueDoc};

/// The page `qemu-img(1)`.
pub(crate) fn page(commands: &[CommandDoc], options: &[OptionDoc]) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let mut text = format!(
        ".TH QEMU\\-IMG 1 \"\" \"qemu\\-img in Rust {version}\" \"User Commands\"\n\
         .SH NAME\nqemu\\-img \\- disk image tool\n\
         .SH SYNOPSIS\n.B qemu\\-img\n[\\fIstandard options\\fR] \\fIcommand\\fR [\\fIoptions of the command\\fR]\n\
         .SH DESCRIPTION\n"
    );
    paragraph(&mut text, INTRODUCTION);
    text.push_str(".SH STANDARD OPTIONS\n");
    options.iter().for_each(|option| item(&mut text, &names(option), option.help));
    text.push_str(".SH COMMANDS\n");
    commands.iter().for_each(|command| section(&mut text, command));
    text.push_str(".SH EXIT STATUS\n");
    STATUSES.iter().for_each(|(status, meaning)| item(&mut text, &format!("\\fB{status}\\fR"), meaning));
    text.push_str(".SH SEE ALSO\n.BR qemu\\-io (1),\n.BR qemu\\-nbd (8)\n");
    text
}

const INTRODUCTION: &str = "Creates, converts, checks and changes disk images of virtual machines in the formats raw, \
    qcow2 and luks. Options, output and exit statuses are those of the tool of the same name that comes with QEMU. \
    Sizes and offsets are in bytes, or have a suffix: K, M, G, T, P and E mean powers of 1024. \
    An image that is in use by a running machine must not be changed.";

const STATUSES: &[(&str, &str)] = &[
    ("0", "Success."),
    ("1", "Any failure; standard error says which. For compare: the images differ, or the command line is wrong."),
    ("2", "For check: the image is corrupt. For compare: an image cannot be opened."),
    ("3", "For check: there are leaked clusters only. For compare: the status of a range cannot be read."),
    ("4", "For compare: data cannot be read."),
    ("63", "For check: the format has nothing to check."),
];

/// The page `qemu-io(1)`. Its commands explain themselves: the program has a help of its own.
pub(crate) fn io_page(program: &CommandDoc) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let mut text = format!(
        ".TH QEMU\\-IO 1 \"\" \"qemu\\-img in Rust {version}\" \"User Commands\"\n\
         .SH NAME\nqemu\\-io \\- sends requests to a disk image\n\
         .SH SYNOPSIS\n.B qemu\\-io\n{}\n.SH DESCRIPTION\n",
        escape(program.synopsis)
    );
    paragraph(&mut text, IO_INTRODUCTION);
    text.push_str(".SH OPTIONS\n");
    program.options.iter().for_each(|option| item(&mut text, &names(option), option.help));
    program.operands.iter().for_each(|(name, help)| item(&mut text, &format!("\\fI{}\\fR", escape(name)), help));
    text.push_str(".SH SEE ALSO\n.BR qemu\\-img (1)\n");
    text
}

const IO_INTRODUCTION: &str = "Opens an image and does what its commands say: read, write, discard, flush and so on. \
    They come from -c, one after the other, or from standard input, a line each. The command help lists them, \
    and help COMMAND explains one. The language and the output are those of the tool of the same name that comes with QEMU.";

fn section(text: &mut String, command: &CommandDoc) {
    text.push_str(&format!(".SS {}\n", escape(command.name)));
    text.push_str(&format!(".B qemu\\-img {}\n{}\n.PP\n", escape(command.name), escape(command.synopsis)));
    paragraph(text, command.summary);
    command.options.iter().for_each(|option| item(text, &names(option), option.help));
    command.operands.iter().for_each(|(name, help)| item(text, &format!("\\fI{}\\fR", escape(name)), help));
    if !command.notes.is_empty() {
        text.push_str(".PP\n");
        paragraph(text, command.notes);
    }
}

/// `-f, --format FMT`, with every long name.
fn names(option: &OptionDoc) -> String {
    let spellings: Vec<String> =
        crate::words::spellings(option).map(|name| format!("\\fB{}\\fR", escape(&name))).collect();
    let value = match option.value {
        None => String::new(),
        Some(ValueDoc { name, is_optional: false }) => format!(" \\fI{}\\fR", escape(name)),
        Some(ValueDoc { name, is_optional: true }) => format!("[=\\fI{}\\fR]", escape(name)),
    };
    spellings.join(", ") + &value
}

fn item(text: &mut String, head: &str, body: &str) {
    text.push_str(&format!(".TP\n{head}\n"));
    paragraph(text, body);
}

fn paragraph(text: &mut String, body: &str) {
    text.push_str(&escape(body));
    text.push('\n');
}

/// Text that has no meaning to the formatter: a backslash, a hyphen that must stay one, and a control character at the
/// beginning of a line.
fn escape(text: &str) -> String {
    let escaped = text.replace('\\', "\\e").replace('-', "\\-");
    if escaped.starts_with(['.', '\'']) { format!("\\&{escaped}") } else { escaped }
}

#[cfg(test)]
mod tests {
    use qemu_img::manual::{commands, program_options, qemu_io};

    use super::*;

    #[test]
    fn every_command_and_option_is_there() {
        let commands = commands();
        let page = page(&commands, &program_options());
        for command in &commands {
            assert!(page.contains(&format!("\n.SS {}\n", command.name)), "{}", command.name);
            for option in &command.options {
                for name in crate::words::spellings(option) {
                    assert!(page.contains(&escape(&name)), "{} {name}", command.name);
                }
            }
        }
    }

    #[test]
    fn no_text_is_taken_for_a_macro() {
        assert_eq!(escape(".x -y \\z"), "\\&.x \\-y \\ez");
        let page = page(&commands(), &program_options());
        let page = page + &io_page(&qemu_io());
        let macros = [".TH", ".SH", ".SS", ".TP", ".PP", ".B ", ".BR"];
        let stray =
            page.lines().find(|line| line.starts_with(['.', '\'']) && !macros.iter().any(|m| line.starts_with(m)));
        assert_eq!(stray, None);
    }
}
