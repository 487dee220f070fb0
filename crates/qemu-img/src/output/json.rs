//! JSON as QEMU prints it: four spaces a level, empty containers on two lines, ASCII only.

use std::fmt::Write;

/// A JSON value. Objects keep the order of their members, since consumers compare texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Json {
    /// A truth value.
    Bool(bool),
    /// A number.
    Int(u64),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Json>),
    /// Members, in order.
    Object(Vec<(&'static str, Json)>),
}

impl Json {
    /// A text.
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// The value over several lines, with a newline at the end.
    pub(crate) fn pretty(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, 0);
        out.push('\n');
        out
    }

    fn write(&self, out: &mut String, level: usize) {
        match self {
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Int(value) => out.push_str(&value.to_string()),
            Self::Text(text) => write_text(out, text),
            Self::List(values) => {
                write_container(out, level, ('[', ']'), values, |out, value| value.write(out, level + 1));
            }
            Self::Object(members) => {
                write_container(out, level, ('{', '}'), members, |out, (name, value)| {
                    write_text(out, name);
                    out.push_str(": ");
                    value.write(out, level + 1);
                });
            }
        }
    }
}

fn write_container<T>(
    out: &mut String,
    level: usize,
    (open, close): (char, char),
    elements: &[T],
    mut write: impl FnMut(&mut String, &T),
) {
    out.push(open);
    for (at, element) in elements.iter().enumerate() {
        out.push_str(if at == 0 { "\n" } else { ",\n" });
        indent(out, level + 1);
        write(out, element);
    }
    out.push('\n');
    indent(out, level);
    out.push(close);
}

fn indent(out: &mut String, level: usize) {
    out.extend(std::iter::repeat_n("    ", level));
}

fn write_text(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            ' '..='~' => out.push(c),
            _ => write_escaped(out, c),
        }
    }
    out.push('"');
}

fn write_escaped(out: &mut String, c: char) {
    for unit in c.encode_utf16(&mut [0; 2]) {
        // Writing to a string cannot fail.
        let _ = write!(out, "\\u{unit:04X}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_is_the_references() {
        let value = Json::Object(vec![
            ("children", Json::List(vec![])),
            ("data", Json::Object(vec![])),
            ("list", Json::List(vec![Json::Int(1), Json::Object(vec![("a", Json::Bool(true))])])),
            ("last", Json::text("x")),
        ]);
        let expected = r#"{
    "children": [
    ],
    "data": {
    },
    "list": [
        1,
        {
            "a": true
        }
    ],
    "last": "x"
}
"#;
        assert_eq!(value.pretty(), expected);
    }

    /// Taken from the reference's `info --output=json` on a file with this name.
    #[test]
    fn texts_are_ascii() {
        let value = Json::text("ü\u{1b}\"\\x😀\u{7f}.raw\t");
        assert_eq!(value.pretty(), "\"\\u00FC\\u001B\\\"\\\\x\\uD83D\\uDE00\\u007F.raw\\t\"\n");
    }
}
