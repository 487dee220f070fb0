//! The options of commands: letters, in the manner of the C library's `getopt`.
//!
//! Operands and options mix, letters cluster, a value is the rest of the word or the next word, and `--` ends the
//! options. There are no long names.

use std::collections::VecDeque;

/// Walks the words of one command.
#[derive(Debug)]
pub(super) struct Letters<'a> {
    /// The letters there are; a colon behind one says that it has a value.
    known: &'static str,
    words: VecDeque<&'a str>,
    cluster: &'a str,
    operands: Vec<&'a str>,
}

impl<'a> Letters<'a> {
    /// A walk over `words`, which do not include the name of the command.
    pub(super) fn new(known: &'static str, words: &'a [String]) -> Self {
        let words = words.iter().map(String::as_str).collect();
        Self { known, words, cluster: "", operands: Vec::new() }
    }

    /// The next letter with its value; none when only operands are left.
    ///
    /// # Errors
    /// The complaint, without the name of the command.
    pub(super) fn next(&mut self) -> Result<Option<(char, &'a str)>, String> {
        while self.cluster.is_empty() {
            let Some(word) = self.words.pop_front() else { return Ok(None) };
            if word == "--" {
                self.operands.extend(self.words.drain(..));
                return Ok(None);
            }
            match word.strip_prefix('-') {
                Some(letters) if !letters.is_empty() => self.cluster = letters,
                _ => self.operands.push(word),
            }
        }
        self.letter().map(Some)
    }

    fn letter(&mut self) -> Result<(char, &'a str), String> {
        let mut rest = self.cluster.chars();
        let letter = rest.next().unwrap_or_default();
        self.cluster = rest.as_str();
        let known = self.known.find(letter).filter(|_| letter != ':');
        let Some(at) = known else { return Err(format!("invalid option -- '{letter}'")) };
        if !self.known[at + letter.len_utf8()..].starts_with(':') {
            return Ok((letter, ""));
        }
        let value = match std::mem::take(&mut self.cluster) {
            "" => self.words.pop_front(),
            rest => Some(rest),
        };
        value.map(|value| (letter, value)).ok_or_else(|| format!("option requires an argument -- '{letter}'"))
    }

    /// The operands, once [`Letters::next`] has returned none.
    pub(super) fn into_operands(self) -> Vec<&'a str> {
        self.operands
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Walked = (Vec<(char, String)>, Vec<String>);

    fn walk(known: &'static str, line: &str) -> Result<Walked, String> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let mut letters = Letters::new(known, &words);
        let mut given = Vec::new();
        while let Some((letter, value)) = letters.next()? {
            given.push((letter, value.to_owned()));
        }
        Ok((given, letters.into_operands().into_iter().map(str::to_owned).collect()))
    }

    #[test]
    fn letters_cluster_and_operands_mix() {
        let (given, operands) = walk("qvP:", "0 -qP5 512 -v -P 6 -- -q").expect("valid");
        let expected = [('q', ""), ('P', "5"), ('v', ""), ('P', "6")].map(|(letter, text)| (letter, text.to_owned()));
        assert_eq!(given, expected);
        assert_eq!(operands, ["0", "512", "-q"]);
    }

    #[test]
    fn complaints_are_the_c_librarys() {
        assert_eq!(walk("q", "-Z"), Err("invalid option -- 'Z'".to_owned()));
        assert_eq!(walk("q", "--quiet"), Err("invalid option -- '-'".to_owned()));
        assert_eq!(walk("P:", "-:"), Err("invalid option -- ':'".to_owned()));
        assert_eq!(walk("P:", "0 -P"), Err("option requires an argument -- 'P'".to_owned()));
    }
}
