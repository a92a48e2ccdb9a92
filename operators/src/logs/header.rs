//! Header formats: where in a line the message begins, declared as Loghub does it.

use regex::Regex;

use super::line::Span;
use crate::error::{OperatorError, Result};

const OWNER: &str = "log format";

/// How a line is made up: `<Date> <Time> <Level> <Component>: <Content>`.
///
/// Names in angle brackets are fields, one of which is `Content`, the message. What stands between them is a regular
/// expression, in which a run of spaces means any white space: `\[<Pid>\]`, `( \(<Address>\))?`. A field is as short as
/// it can be.
///
/// # Examples
/// ```
/// use driftline_operators::logs::HeaderFormat;
///
/// let format = HeaderFormat::new("<Date> <Time> <Level> <Component>: <Content>")?;
/// let line = "17/06/09 20:10:40 INFO executor.Backend: Registered signal handlers";
/// assert_eq!(format.content(line), Some("Registered signal handlers"));
/// assert_eq!(format.field(line, "Level"), Some("INFO"));
/// assert_eq!(format.content("no header"), None);
/// # Ok::<(), driftline_operators::error::OperatorError>(())
/// ```
#[derive(Clone, Debug)]
pub struct HeaderFormat {
    declaration: String,
    pattern: Regex,
    content: usize,
    /// The literals between fields, where that is all there is: such lines are cut without the regular expression.
    cuts: Option<Cuts>,
}

/// A chain of fields with literals between them, the message last.
#[derive(Clone, Debug)]
struct Cuts {
    /// What comes before the first field, then what comes after each field but the last.
    literals: Vec<Vec<Piece>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    /// One or more white space characters.
    Space,
    /// This text.
    Text(String),
}

impl HeaderFormat {
    /// Reads a declaration.
    ///
    /// # Errors
    /// If it has no field `Content`, has a field twice, or does not make a regular expression.
    pub fn new(declaration: &str) -> Result<Self> {
        let refuse = |problem: String| {
            OperatorError::Option {
            owner: OWNER.into(),
            option: declaration.into(),
            problem,
            hint: "write fields in angle brackets, such as '<Date> <Time> <Level> <Component>: <Content>'".into(),
        }
        };
        let mut pattern = String::from(r"(?s)^");
        let mut literals = Vec::new();
        let mut names: Vec<&str> = Vec::new();
        let mut rest = declaration;
        while let Some((literal, name, after)) = next_field(rest) {
            if names.contains(&name) {
                return Err(refuse(format!("has the field <{name}> twice")));
            }
            push_literal(literal, &mut pattern);
            // Optional parts hold groups of their own: fields are named to tell them apart.
            pattern.extend(["(?P<f", &names.len().to_string(), ">.*?)"]);
            literals.push(literal);
            names.push(name);
            rest = after;
        }
        push_literal(rest, &mut pattern);
        pattern.push('$');
        let Some(content) = names.iter().position(|&name| name == "Content") else {
            return Err(refuse("has no field <Content>".into()));
        };
        let cuts = if rest.is_empty() && content + 1 == names.len() {
            let pieces: Option<Vec<_>> = literals.iter().map(|literal| pieces(literal)).collect();
            pieces.map(|literals| Cuts { literals })
        } else {
            None
        };
        let pattern =
            Regex::new(&pattern).map_err(|error| refuse(format!("is not a pattern: {error}")))?;
        Ok(Self { declaration: declaration.to_owned(), pattern, content, cuts })
    }

    /// The declaration as it was given.
    #[must_use]
    pub fn declaration(&self) -> &str {
        &self.declaration
    }

    /// The message of a line, or none if the line is made up differently.
    #[must_use]
    pub fn content<'a>(&self, line: &'a str) -> Option<&'a str> {
        let line = line.trim();
        if let Some(span) = self.cuts.as_ref().and_then(|cuts| cuts.last_field(line)) {
            return Some(span.of(line));
        }
        self.group(line, self.content)
    }

    /// A field of a line by its name, as it is declared.
    #[must_use]
    pub fn field<'a>(&self, line: &'a str, name: &str) -> Option<&'a str> {
        let mut rest = self.declaration.as_str();
        let mut index = 0;
        while let Some((_, found, after)) = next_field(rest) {
            if found == name {
                return self.group(line.trim(), index);
            }
            index += 1;
            rest = after;
        }
        None
    }

    fn group<'a>(&self, line: &'a str, index: usize) -> Option<&'a str> {
        let captures = self.pattern.captures(line)?;
        captures.name(&format!("f{index}")).map(|found| found.as_str())
    }
}

/// The next `<Name>`: what comes before it, the name, what comes after.
fn next_field(text: &str) -> Option<(&str, &str, &str)> {
    let mut from = 0;
    loop {
        let open = from + text[from..].find('<')?;
        let after = &text[open + 1..];
        let close = after.find('>')?;
        let name = &after[..close];
        if !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Some((&text[..open], name, &after[close + 1..]));
        }
        from = open + 1;
    }
}

/// Appends a literal, its runs of spaces as any white space.
fn push_literal(literal: &str, pattern: &mut String) {
    let mut in_spaces = false;
    for c in literal.chars() {
        if c != ' ' {
            pattern.push(c);
        } else if !in_spaces {
            pattern.push_str(r"\s+");
        }
        in_spaces = c == ' ';
    }
}

/// The pieces of a literal that holds no operator of regular expressions but escapes of single characters.
fn pieces(literal: &str) -> Option<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut chars = literal.chars();
    while let Some(c) = chars.next() {
        let c = match c {
            ' ' => {
                if pieces.last() != Some(&Piece::Space) {
                    pieces.push(Piece::Space);
                }
                continue;
            }
            '\\' => chars.next().filter(char::is_ascii_punctuation)?,
            '.' | '+' | '*' | '?' | '(' | ')' | '|' | '[' | ']' | '{' | '}' | '^' | '$' => {
                return None;
            }
            other => other,
        };
        match pieces.last_mut() {
            Some(Piece::Text(text)) => text.push(c),
            _ => pieces.push(Piece::Text(c.into())),
        }
    }
    Some(pieces)
}

impl Cuts {
    /// Where the last field lies, if each field can be cut at the first place where the literal after it stands. That
    /// is what the regular expression prefers; where it does not work out, the expression is asked.
    fn last_field(&self, line: &str) -> Option<Span> {
        let bytes = line.as_bytes();
        let (first, between) = self.literals.split_first()?;
        let mut at = match_here(first, bytes, 0)?;
        for literal in between {
            at = match_next(literal, bytes, at)?;
        }
        line.get(at..).map(|_| Span::new(at, line.len()))
    }
}

/// The end of the pieces where they first stand at `at` or after.
fn match_next(pieces: &[Piece], bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        // Most bytes are not the first of the pieces.
        let rest = &bytes[at..];
        at += match pieces.first() {
            None => return Some(at),
            Some(Piece::Space) => rest.iter().position(u8::is_ascii_whitespace)?,
            Some(Piece::Text(text)) => rest.iter().position(|b| *b == text.as_bytes()[0])?,
        };
        if let Some(end) = match_here(pieces, bytes, at) {
            return Some(end);
        }
        at += 1;
    }
}

/// The end of the pieces if they stand at `at`.
fn match_here(pieces: &[Piece], bytes: &[u8], mut at: usize) -> Option<usize> {
    for piece in pieces {
        match piece {
            Piece::Space => {
                let spaces = bytes[at..].iter().take_while(|b| b.is_ascii_whitespace()).count();
                if spaces == 0 {
                    return None;
                }
                at += spaces;
            }
            Piece::Text(text) => {
                if !bytes[at..].starts_with(text.as_bytes()) {
                    return None;
                }
                at += text.len();
            }
        }
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cutting_agrees_with_the_regular_expression() {
        let declarations = [
            "<Date> <Time> <Level> <Component>: <Content>",
            r"\[<Time>\] \[<Level>\] <Content>",
            r"<Time>\|<Component>\|<Pid>\|<Content>",
            r"<A>  <B>:<Content>",
        ];
        let lines = [
            "a b c d: e f",
            "a  b c d:  e: f ",
            "[x y] [z] content [1] 2",
            "1|2|3|4|5",
            "a b:c",
            "a  :x",
            "ä ö ü ß: é",
            "a b c: ",
            "",
            ": : :",
            "a\tb\tc: d: e",
        ];
        for declaration in declarations {
            let format = HeaderFormat::new(declaration).unwrap();
            assert!(format.cuts.is_some(), "{declaration}");
            for line in lines {
                let slow = HeaderFormat { cuts: None, ..format.clone() };
                assert_eq!(format.content(line), slow.content(line), "{declaration} on {line:?}");
            }
        }
    }

    #[test]
    fn optional_parts_are_taken_where_they_are() {
        let format =
            HeaderFormat::new(r"<Month> <Day> <Time> <Component>(\[<Pid>\])?: <Content>").unwrap();
        let with = "Jun 14 15:16:01 sshd(pam_unix)[19939]: check pass; user unknown";
        assert_eq!(format.content(with), Some("check pass; user unknown"));
        assert_eq!(format.field(with, "Pid"), Some("19939"));
        assert_eq!(format.field(with, "Component"), Some("sshd(pam_unix)"));
        let without = "Jun 14 15:16:01 syslogd: restart.";
        assert_eq!(format.content(without), Some("restart."));
        assert_eq!(format.field(without, "Pid"), None);
    }

    #[test]
    fn declarations_that_mean_nothing_are_refused() {
        for (declaration, problem) in [
            ("<Date> <Time>", "has no field <Content>"),
            ("<A> <A> <Content>", "has the field <A> twice"),
            ("(<Content>", "is not a pattern"),
        ] {
            let error = HeaderFormat::new(declaration).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
    }
}
