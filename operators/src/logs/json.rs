//! Lines of JSON, flattened to key paths, so that field names become constant parts and values variable ones (SP-11).

use std::fmt::Write;

use serde_json::Value;

/// Most bytes that an object is flattened to; what comes after is left out. Long paths repeat for each value.
const BYTES_MAX: usize = 1 << 16;

/// Writes an object as `path=value path=value`, ordered by path; false if the text is no JSON object.
///
/// Text values are written as they are, so that a message within the object is parsed like any other.
pub(super) fn flatten(text: &str, out: &mut String) -> bool {
    out.clear();
    let text = text.trim();
    if !(text.starts_with('{') && text.ends_with('}')) {
        return false;
    }
    let Ok(value @ Value::Object(_)) = serde_json::from_str::<Value>(text) else { return false };
    let mut path = String::new();
    write_value(&value, &mut path, out);
    // An empty object leaves nothing; it is then a line like any other.
    !out.is_empty()
}

fn write_value(value: &Value, path: &mut String, out: &mut String) {
    let length = path.len();
    if out.len() + length >= BYTES_MAX {
        return;
    }
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_unstable_by_key(|(name, _)| *name);
            for (name, value) in fields {
                if length > 0 {
                    path.push('.');
                }
                path.push_str(name);
                write_value(value, path, out);
                path.truncate(length);
            }
        }
        leaf => {
            if !out.is_empty() {
                out.push(' ');
            }
            out.push_str(path);
            out.push('=');
            match leaf {
                Value::String(text) => {
                    let room = BYTES_MAX.saturating_sub(out.len());
                    out.push_str(&text[..text.floor_char_boundary(room)]);
                }
                other => {
                    // Writing to a string does not fail.
                    let _ = write!(out, "{other}");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_becomes_paths_and_values_whatever_the_order_of_its_fields() {
        let mut out = String::new();
        let lines = [
            r#"{"msg":"user logged in","user":{"id":7,"roles":["a","b"]},"ok":true}"#,
            r#" {"ok":true,"user":{"roles":["a","b"],"id":7},"msg":"user logged in"} "#,
        ];
        for line in lines {
            assert!(flatten(line, &mut out));
            assert_eq!(out, r#"msg=user logged in ok=true user.id=7 user.roles=["a","b"]"#);
        }
    }

    #[test]
    fn paths_that_repeat_do_not_multiply() {
        let fields: Vec<String> = (0..2000).map(|i| format!("\"{i}\":{i}")).collect();
        let line = format!("{{\"{}\":{{{}}}}}", "p".repeat(1000), fields.join(","));
        let mut out = String::new();
        assert!(flatten(&line, &mut out));
        assert!(out.len() <= BYTES_MAX + 2000, "{}", out.len());
        let line = format!("{{\"text\":\"{}\"}}", "é".repeat(BYTES_MAX));
        assert!(flatten(&line, &mut out) && out.len() <= BYTES_MAX);
    }

    #[test]
    fn what_is_no_object_is_left_alone() {
        let deep = "{\"a\":".repeat(1000) + "1" + &"}".repeat(1000);
        for line in ["", "{", "{}", "[1]", "{not json}", "plain", deep.as_str()] {
            assert!(!flatten(line, &mut String::new()), "{line:.20}");
        }
    }
}
