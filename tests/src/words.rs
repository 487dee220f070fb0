//! Command lines written as one string.

/// Splits `line` at white space; single quotes keep a word together, and `''` is an empty word.
///
/// ```
/// assert_eq!(test_support::words::split("convert -o 'a b' ''"), ["convert", "-o", "a b", ""]);
/// ```
pub fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            c if c.is_whitespace() && !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}
