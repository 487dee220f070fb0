//! From one row of options a command to all the command lines that are worth running.

use test_support::words;

/// What there is to say about a command.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table {
    /// Its name.
    pub(super) command: &'static str,
    /// Options without which it does nothing.
    pub(super) needs: &'static str,
    /// Its operands; `IMAGE` stands for the image.
    pub(super) operands: &'static str,
    /// The image that most lines are about.
    pub(super) image: &'static str,
    /// A line for each option: its spellings `|` values that are taken `|` values that are refused. The first two values
    /// that are taken are the ones for pairs and repetitions; an option without any takes none.
    pub(super) options: &'static str,
    /// Further images to run it on, each with nothing but what it needs; each a word.
    pub(super) images: &'static str,
    /// Further lines, without the name of the command if they do not begin with `;`.
    pub(super) lines: &'static str,
}

/// An option of a [`Table`].
struct CommandOption {
    spellings: Vec<String>,
    good: Vec<String>,
    bad: Vec<String>,
}

impl CommandOption {
    fn parse(row: &str) -> Self {
        let mut columns = row.split('|').map(words::split);
        let mut next = || columns.next().unwrap_or_default();
        Self { spellings: next(), good: next(), bad: next() }
    }

    fn takes_value(&self) -> bool {
        !self.good.is_empty()
    }

    /// The first spelling with the value that comes at `n`, or with the last one there is.
    fn with(&self, n: usize) -> String {
        let value = self.good.get(n).or(self.good.last());
        value.map_or_else(|| self.spellings[0].clone(), |value| format!("{} {}", self.spellings[0], quoted(value)))
    }

    /// Every spelling, with a value in every form.
    fn forms(&self) -> Vec<String> {
        let mut forms = Vec::new();
        for spelling in &self.spellings {
            let Some(value) = self.good.first().map(|value| quoted(value)) else {
                forms.push(spelling.clone());
                continue;
            };
            forms.push(format!("{spelling} {value}"));
            let joint = if spelling.starts_with("--") { "=" } else { "" };
            forms.push(format!("{spelling}{joint}{value}"));
        }
        forms
    }
}

/// A word as [`words::split`] reads it.
fn quoted(word: &str) -> String {
    if word.is_empty() || word.contains(' ') { format!("'{word}'") } else { word.to_owned() }
}

/// What an image may be called, and what may be wrong with it.
const NAMES: &[&str] = &[
    "./plain.qcow2",
    "file:plain.qcow2",
    "raw.img",
    "over.qcow2",
    "missing",
    "missing/image",
    "''",
    "-",
    "folder",
    "text",
    "zero-length",
    "nonesuch:plain.qcow2",
    "json:{\"driver\":\"qcow2\",\"file\":{\"driver\":\"file\",\"filename\":\"plain.qcow2\"}}",
    "json:{\"file.filename\":\"plain.qcow2\",\"driver\":\"qcow2\"}",
    "json:{\"driver\":\"qcow2\",\"file\":{\"driver\":\"file\",\"filename\":\"missing\"}}",
    "json:{\"driver\":\"qcow2\"}",
    "json:{\"driver\":\"nonesuch\",\"filename\":\"plain.qcow2\"}",
    "json:{",
    "json:[]",
];

/// Values of `--image-opts`, right and wrong.
const IMAGE_OPTS: &[&str] = &[
    "driver=qcow2,file.driver=file,file.filename=plain.qcow2",
    "driver=qcow2,file.filename=plain.qcow2",
    "file.filename=plain.qcow2",
    "driver=raw,file.filename=raw.img",
    "driver=qcow2,file.filename=missing",
    "driver=qcow2,file.filename=",
    "driver=qcow2,file.filename=plain.qcow2,nonesuch=1",
    "driver=qcow2,file.filename=plain.qcow2,lazy-refcounts=maybe",
    "driver=nonesuch,file.filename=plain.qcow2",
    "driver=qcow2",
    "filename=plain.qcow2",
    "plain.qcow2",
    "driver=qcow2,file=nonesuch",
    "''",
    ",",
    "=x",
];

impl Table {
    /// All lines for the command, each once.
    pub(super) fn all(&self) -> Vec<String> {
        let options: Vec<_> =
            self.options.lines().map(str::trim).filter(|row| !row.is_empty()).map(CommandOption::parse).collect();
        let mut all = self.about_operands();
        all.extend(options.iter().flat_map(|option| self.about_one(option)));
        all.extend(self.about_pairs(&options));
        all.extend(self.about_images(&options));
        for line in self.lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
            all.push(line.strip_prefix(';').map_or_else(|| format!("{} {line}", self.command), str::to_owned));
        }
        let mut seen = std::collections::HashSet::new();
        all.retain(|line| seen.insert(line.clone()));
        all
    }

    /// A line with `options` in front of the operands.
    fn line(&self, options: &str) -> String {
        self.line_about(self.image, options)
    }

    fn line_about(&self, image: &str, options: &str) -> String {
        let operands = self.operands.replace("IMAGE", image);
        words_joined(&[self.command, self.needs, options, &operands])
    }

    fn about_operands(&self) -> Vec<String> {
        let Self { command, needs, image, .. } = *self;
        let operands = self.operands.replace("IMAGE", image);
        let mut lines = vec![
            command.to_owned(),
            words_joined(&[command, needs]),
            words_joined(&[command, &operands]),
            self.line(""),
            self.line("--"),
            format!("{} --", self.line("")),
            format!("{} superfluous", self.line("")),
            format!("{} ''", self.line("")),
            words_joined(&[command, &operands, needs]),
            words_joined(&[command, "--", needs, &operands]),
        ];
        // Unknown options, and the list of all long ones: every name begins with nothing.
        let unknown = ["-Z", "-qZ", "--nonesuch", "--nonesuch=1", "--=1", "---", "--help=x"];
        lines.extend(unknown.map(|option| self.line(option)));
        lines
    }

    fn about_one(&self, option: &CommandOption) -> Vec<String> {
        let Self { command, needs, .. } = *self;
        let operands = self.operands.replace("IMAGE", self.image);
        let first = option.with(0);
        let mut lines: Vec<String> = option.forms().iter().map(|form| self.line(form)).collect();
        lines.push(words_joined(&[command, needs, &operands, &first]));
        lines.push(self.line(&format!("{first} {}", option.with(1))));
        let values = option.good.iter().skip(1).chain(&option.bad);
        lines.extend(values.map(|value| self.line(&format!("{} {}", option.spellings[0], quoted(value)))));
        for spelling in &option.spellings {
            if option.takes_value() {
                lines.push(words_joined(&[command, needs, &operands, spelling]));
            } else if spelling.starts_with("--") {
                lines.push(self.line(&format!("{spelling}=x")));
            }
        }
        lines
    }

    fn about_pairs(&self, options: &[CommandOption]) -> Vec<String> {
        let mut lines = Vec::new();
        for (n, first) in options.iter().enumerate() {
            for second in &options[n + 1..] {
                lines.push(self.line(&format!("{} {}", first.with(0), second.with(0))));
            }
        }
        lines
    }

    fn about_images(&self, options: &[CommandOption]) -> Vec<String> {
        let has = |name: &str| options.iter().any(|option| option.spellings.iter().any(|spelling| spelling == name));
        let named = NAMES.iter().map(|name| self.line_about(name, ""));
        let further = self.images.split_whitespace().map(|image| self.line_about(image, ""));
        let mut lines: Vec<String> = named.chain(further).collect();
        if has("-f") {
            lines.extend(["raw.img", "text", "missing", "zero-length"].map(|image| self.line_about(image, "-f qcow2")));
            lines.push(self.line_about("plain.qcow2", "-f raw"));
        }
        if has("--image-opts") {
            lines.extend(IMAGE_OPTS.iter().map(|image| self.line_about(image, "--image-opts")));
        }
        let plain = self.line_about("plain.qcow2", "");
        lines.extend(["lock", "protect", "hide"].map(|verb| format!("{verb} plain.qcow2; {plain}")));
        if has("-U") {
            lines.push(format!("lock plain.qcow2; {}", self.line_about("plain.qcow2", "-U")));
        }
        lines
    }
}

fn words_joined(parts: &[&str]) -> String {
    parts.iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join(" ")
}
