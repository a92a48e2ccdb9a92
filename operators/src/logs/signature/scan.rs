//! One pass over a line: words, and what is variable by its looks.
//!
//! A line is cut at white space and runs of dots into chunks, and a chunk at brackets, quotes and `= : , ; |` into
//! words. Variable by their looks are
//!
//! * whole chunks that are a path (`/var/log`), a URL, a host with its port, an IPv6 or hardware address;
//! * words with a digit, a path within them, two dots (`com.example.Main`, but not a constant such as
//!   `intent.action.SCREEN_ON`), or eight or more hexadecimal digits;
//! * with such a word before them, units (`1.16 KB`), and with such a word after them, names of days and months.
//!
//! Adjacent variable parts become one, together with the punctuation between them, unless the second is a value
//! (`a=1 b=2`). A group of words that repeats at once (`node1 ok node2 ok`) is kept once.

use crate::logs::line::Span;

/// A word of a line, or a variable part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) span: Span,
    pub(super) is_variable: bool,
    /// It stands right after `=`.
    pub(super) is_value: bool,
    /// It belongs to the same chunk as the word before it.
    pub(super) is_glued: bool,
}

/// Stands for a variable part in the bytes of a signature; control characters of lines count as white space.
pub(super) const VARIABLE: u8 = 1;

/// Ends each part in the bytes of a signature.
pub(super) const END: u8 = 0;

/// A longer word is no word that somebody wrote: it is variable.
pub(super) const WORD_BYTES_MAX: usize = 256;

const SPACE: u8 = 1;
const CUT: u8 = 2;
const DIGIT: u8 = 4;
const HEX: u8 = 8;
const LETTER: u8 = 16;
const DOT: u8 = 32;

/// What a byte is.
static CLASS: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = match byte as u8 {
            0..=b' ' | 127 => SPACE,
            b'=' | b':' | b',' | b';' | b'(' | b')' | b'[' | b']' | b'{' | b'}' | b'<' | b'>'
            | b'"' | b'\'' | b'|' => CUT,
            b'0'..=b'9' => DIGIT | HEX | LETTER,
            b'a'..=b'f' | b'A'..=b'F' => HEX | LETTER,
            b'g'..=b'z' | b'G'..=b'Z' | b'_' | 128..=255 => LETTER,
            b'.' => DOT,
            _ => 0,
        };
        byte += 1;
    }
    table
}

fn class(byte: u8) -> u8 {
    CLASS[byte as usize]
}

/// Scans lines; holds the parts of the latest.
#[derive(Clone, Debug, Default)]
pub(super) struct Scanner {
    pub(super) parts: Vec<Part>,
    /// The line's parts as bytes, the same for all lines that differ in variable parts alone.
    pub(super) signature: Vec<u8>,
}

impl Scanner {
    pub(super) fn scan(&mut self, text: &str, parts_max: usize) {
        self.parts.clear();
        let bytes = text.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            let byte = bytes[at];
            if class(byte) == SPACE {
                at += 1;
            } else if is_filler(bytes, at) {
                at += bytes[at..].iter().take_while(|&&b| b == b'.').count();
            } else {
                let start = at;
                while at < bytes.len()
                    && (class(bytes[at]) & (SPACE | DOT) == 0
                        || (bytes[at] == b'.' && !is_filler(bytes, at)))
                {
                    at += 1;
                }
                self.chunk(bytes, start, at);
                if self.parts.len() > parts_max {
                    self.fold_rest(parts_max, bytes.len());
                    break;
                }
            }
        }
        self.drop_repeats(bytes);
        self.sign(bytes);
    }

    fn chunk(&mut self, bytes: &[u8], start: usize, end: usize) {
        let opens = |b: &u8| matches!(b, b'(' | b'[' | b'{' | b'<' | b'"' | b'\'');
        let closes =
            |b: &u8| matches!(b, b',' | b';' | b':' | b')' | b']' | b'}' | b'>' | b'"' | b'\'');
        let first = start + bytes[start..end].iter().take_while(|b| opens(b)).count();
        let core = end - bytes[first..end].iter().rev().take_while(|b| closes(b)).count();
        if is_variable_chunk(&bytes[first..core], self.parts.is_empty()) {
            self.push(bytes, Span::new(first, core), true, false, false);
            return;
        }
        let (mut at, mut before, mut is_glued) = (first, b' ', false);
        while at < end {
            if class(bytes[at]) == CUT {
                before = bytes[at];
                at += 1;
                continue;
            }
            let (word, mut seen) = (at, 0);
            while at < end && class(bytes[at]) != CUT {
                seen |= class(bytes[at]);
                at += 1;
            }
            if seen & LETTER != 0 {
                let is_variable = seen & DIGIT != 0
                    || at - word > WORD_BYTES_MAX
                    || is_variable_word(&bytes[word..at]);
                self.push(bytes, Span::new(word, at), is_variable, before == b'=', is_glued);
                (before, is_glued) = (b' ', true);
            }
        }
    }

    fn push(
        &mut self,
        bytes: &[u8],
        span: Span,
        is_variable: bool,
        is_value: bool,
        is_glued: bool,
    ) {
        let text = |span: Span| &bytes[span.start as usize..span.end as usize];
        if !is_variable {
            match self.parts.last_mut() {
                Some(last) if last.is_variable && is_unit(text(span)) => last.span.end = span.end,
                _ => self.parts.push(Part { span, is_variable, is_value, is_glued }),
            }
            return;
        }
        let mut part = Part { span, is_variable, is_value, is_glued };
        while let Some(last) = self.parts.last() {
            let joins = !last.is_variable && is_date_word(text(last.span));
            if !joins && (!last.is_variable || part.is_value) {
                break;
            }
            part =
                Part { span: Span { end: part.span.end, ..last.span }, is_variable: true, ..*last };
            self.parts.pop();
        }
        self.parts.push(part);
    }

    /// Makes one variable part of everything from the last allowed part on.
    fn fold_rest(&mut self, parts_max: usize, end: usize) {
        self.parts.truncate(parts_max);
        if let Some(last) = self.parts.last_mut() {
            last.is_variable = true;
            last.span.end = end as u32;
        }
    }

    /// Keeps a group of up to three parts once where it repeats at once and holds a variable part.
    fn drop_repeats(&mut self, bytes: &[u8]) {
        if self.parts.iter().filter(|part| part.is_variable).count() < 2 {
            return;
        }
        let text = |part: &Part| &bytes[part.span.start as usize..part.span.end as usize];
        let equal = |a: &Part, b: &Part| {
            a.is_variable == b.is_variable && (a.is_variable || text(a) == text(b))
        };
        for size in 1..=3 {
            let mut at = 0;
            while at + 2 * size <= self.parts.len() {
                let (group, next) = self.parts[at..at + 2 * size].split_at(size);
                let repeats = group.iter().zip(next).all(|(a, b)| equal(a, b));
                let variable = group.iter().rposition(|part| part.is_variable);
                let Some(variable) = variable.filter(|_| repeats) else {
                    at += 1;
                    continue;
                };
                // The last variable part of the group takes the values of all.
                self.parts[at + variable].span.end = self.parts[at + size + variable].span.end;
                self.parts.drain(at + size..at + 2 * size);
            }
        }
    }

    fn sign(&mut self, bytes: &[u8]) {
        self.signature.clear();
        for part in &self.parts {
            if part.is_variable {
                self.signature.push(VARIABLE);
            } else {
                let text = &bytes[part.span.start as usize..part.span.end as usize];
                self.signature.extend_from_slice(text);
            }
            self.signature.push(END);
        }
    }
}

fn is_filler(bytes: &[u8], at: usize) -> bool {
    bytes[at] == b'.' && bytes.get(at + 1) == Some(&b'.')
}

/// A path, a URL, a host with its port, or an address with colons.
fn is_variable_chunk(chunk: &[u8], is_first: bool) -> bool {
    if chunk.first() == Some(&b'/') {
        return chunk.len() > 1;
    }
    let Some(colon) = chunk.iter().rposition(|&b| b == b':') else { return false };
    let (head, port) = (&chunk[..colon], &chunk[colon + 1..]);
    chunk.windows(3).any(|three| three == b"://")
        || is_host_and_port(head, port, is_first)
        || is_address(chunk)
}

/// `name.example:443`; the name of a host without dots is known by its place only, at the beginning of a line.
fn is_host_and_port(host: &[u8], port: &[u8], is_first: bool) -> bool {
    let is_port = (1..=5).contains(&port.len()) && port.iter().all(u8::is_ascii_digit);
    let is_name = |b: &u8| class(*b) & LETTER != 0 || matches!(b, b'.' | b'-');
    is_port
        && !host.is_empty()
        && host.iter().all(is_name)
        && if host.contains(&b'.') {
            host.split(|&b| b == b'.').all(|label| !label.is_empty())
        } else {
            is_first && host[0].is_ascii_alphabetic()
        }
}

/// Groups of up to four hexadecimal digits with colons between them, as in IPv6 and hardware addresses.
fn is_address(chunk: &[u8]) -> bool {
    let mut groups = chunk.split(|&b| b == b':');
    let is_group = |group: &[u8]| group.len() <= 4 && group.iter().all(|&b| class(b) & HEX != 0);
    groups.next().is_some_and(|first| !first.is_empty() && is_group(first))
        && groups.clone().count() >= 2
        && groups.all(is_group)
}

/// Whether a word without digits is variable.
fn is_variable_word(word: &[u8]) -> bool {
    // Whether a byte is there more than once.
    let twice = |word: &[u8], byte: u8| word.iter().filter(|&&b| b == byte).nth(1).is_some();
    if (word[0] == b'/' && word.len() > 1) || word.starts_with(b"./") {
        return true;
    }
    if twice(word, b'/') || twice(word, b'\\') {
        return true;
    }
    let leading = word.iter().take_while(|&&b| b == b'.').count();
    let trailing = word.iter().rev().take_while(|&&b| b == b'.').count();
    let core = &word[leading..(word.len() - trailing).max(leading)];
    if twice(core, b'.') {
        let last = core.rsplit(|&b| b == b'.').next().unwrap_or(core);
        return !is_constant_name(last);
    }
    word.len() >= 8 && word.iter().all(|&b| class(b) & HEX != 0)
}

/// `SCREEN_ON`: a name that code gives to one of a few values.
fn is_constant_name(word: &[u8]) -> bool {
    word.len() > 3
        && word
            .split(|&b| b == b'_')
            .all(|part| !part.is_empty() && part.iter().all(u8::is_ascii_uppercase))
}

fn is_unit(word: &[u8]) -> bool {
    matches!(
        word,
        b"B" | b"KB"
            | b"MB"
            | b"GB"
            | b"TB"
            | b"kB"
            | b"KiB"
            | b"MiB"
            | b"GiB"
            | b"ns"
            | b"us"
            | b"ms"
            | b"s"
            | b"sec"
            | b"secs"
            | b"min"
            | b"mins"
            | b"byte"
            | b"bytes"
    )
}

fn is_date_word(word: &[u8]) -> bool {
    matches!(
        word,
        b"Mon"
            | b"Tue"
            | b"Wed"
            | b"Thu"
            | b"Fri"
            | b"Sat"
            | b"Sun"
            | b"Jan"
            | b"Feb"
            | b"Mar"
            | b"Apr"
            | b"May"
            | b"Jun"
            | b"Jul"
            | b"Aug"
            | b"Sep"
            | b"Oct"
            | b"Nov"
            | b"Dec"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(text: &str) -> String {
        let mut scanner = Scanner::default();
        scanner.scan(text, 128);
        let part = |part: &Part| match part.is_variable {
            true => format!("<{}>", part.span.of(text)),
            false => part.span.of(text).to_owned(),
        };
        scanner.parts.iter().map(part).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn variable_parts_are_known_by_their_looks() {
        for (line, expected) in [
            (
                "Received block blk_-16 of size 67108864 from /10.2.3.4",
                "Received block <blk_-16> of size <67108864> from </10.2.3.4>",
            ),
            (
                "src: /10.250.19.102:54106 dest: /10.250.19.102:50010",
                "src </10.250.19.102:54106> dest </10.250.19.102:50010>",
            ),
            ("wpad:80 error : Could not connect", "<wpad:80> error Could not connect"),
            ("by uid:1000 pid=7 name=x", "by uid <1000> pid <7> name x"),
            ("a=1 b=2", "a <1> b <2>"),
            (
                "sent 1190 bytes (1.16 KB) at Fri Jun 17 07:07:00 2005",
                "sent <1190 bytes (1.16 KB> at <Fri Jun 17 07:07:00 2005>",
            ),
            ("data address space.........0", "data address space <0>"),
            (
                "action:android.intent.action.SCREEN_ON in com.example.Main",
                "action android.intent.action.SCREEN_ON in <com.example.Main>",
            ),
            (
                "sets node-160 0xed <ok> node-161 0xfd <ok> done",
                "sets <node-160 0xed <ok> node-161 0xfd> ok done",
            ),
            ("mask ffffffff of facade", "mask <ffffffff> of facade"),
            (
                "Addr: 2607:f140:6000:8:c6b3:1ff:fecd:467f up",
                "Addr <2607:f140:6000:8:c6b3:1ff:fecd:467f> up",
            ),
            ("", ""),
            ("... ::: ---", ""),
            ("käse größe é", "käse größe é"),
        ] {
            assert_eq!(scan(line), expected, "{line}");
        }
    }

    #[test]
    fn what_lies_beyond_the_bound_is_one_part() {
        let text = "a b c d e f";
        let mut scanner = Scanner::default();
        scanner.scan(text, 3);
        assert_eq!(scanner.parts.len(), 3);
        assert_eq!(scanner.parts[2].span.of(text), "c d e f");
        assert!(scanner.parts[2].is_variable);
        assert_eq!(scanner.signature, b"a\0b\0\x01\0");
    }
}
