//! The typed form of `LOG_KEYS`: a relation to put into FROM.

use std::fmt;

use crate::options::{OptionValue, Options};

/// How templates are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogKeyParser {
    /// What is left of a line without its variable parts; for unknown logs.
    Signature,
    /// Longest common subsequences.
    Spell,
    /// A tree of fixed depth.
    Drain,
}

/// A use of `LOG_KEYS`, written as SQL by its [`Display`](fmt::Display).
///
/// # Examples
/// ```
/// use driftline_operators::logs::{LogKeyParser, LogKeys};
///
/// let keys = LogKeys::of("logs", "message")
///     .parser(LogKeyParser::Drain)
///     .masks([r"blk_-?\d+", r"(\d+\.){3}\d+"])
///     .session(["host", "pid"])
///     .templates_max(500);
/// let sql = format!("SELECT log_key, parameters FROM {keys}");
/// assert!(sql.starts_with(r#"SELECT log_key, parameters FROM LOG_KEYS("logs", "message", session => ("host", "pid"), "#));
/// assert!(keys.templates().starts_with("LOG_TEMPLATES("));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct LogKeys {
    relation: String,
    message: String,
    session: Vec<String>,
    options: Options,
}

impl LogKeys {
    /// The lines in a text column of a relation. Names are taken as they are, upper and lower case told apart.
    #[must_use]
    pub fn of(relation: &str, message: &str) -> Self {
        Self::over(quoted(relation), message)
    }

    /// The lines in a text column of a query.
    #[must_use]
    pub fn of_query(query: &str, message: &str) -> Self {
        Self::over(format!("({query})"), message)
    }

    fn over(relation: String, message: &str) -> Self {
        Self { relation, message: quoted(message), session: Vec::new(), options: Options::new() }
    }

    /// Columns that tell sessions apart; `elapsed` is the time since the session's line before.
    #[must_use]
    pub fn session<'a>(mut self, columns: impl IntoIterator<Item = &'a str>) -> Self {
        self.session = columns.into_iter().map(quoted).collect();
        self
    }

    /// How templates are found.
    #[must_use]
    pub fn parser(self, parser: LogKeyParser) -> Self {
        let name = match parser {
            LogKeyParser::Signature => "signature",
            LogKeyParser::Spell => "spell",
            LogKeyParser::Drain => "drain",
        };
        self.set("parser", name)
    }

    /// How a line is made up, or the name of a Loghub system.
    #[must_use]
    pub fn format(self, format: &str) -> Self {
        self.set("format", format)
    }

    /// Regular expressions of what varies; for Spell and Drain.
    #[must_use]
    pub fn masks<'a>(self, masks: impl IntoIterator<Item = &'a str>) -> Self {
        let masks: Vec<&str> = masks.into_iter().collect();
        self.set("masks", masks.join("\n"))
    }

    /// Characters that end a token beside white space; for Spell.
    #[must_use]
    pub fn delimiters(self, delimiters: &str) -> Self {
        self.set("delimiters", delimiters)
    }

    /// Words that never become variable.
    #[must_use]
    pub fn protected<'a>(self, words: impl IntoIterator<Item = &'a str>) -> Self {
        let words: Vec<&str> = words.into_iter().collect();
        self.set("protected", words.join(" "))
    }

    /// Share of a line's tokens that a template must have in common with it; for Spell.
    #[must_use]
    pub fn tau(self, tau: f64) -> Self {
        self.set("tau", tau)
    }

    /// Looks for templates by longest common subsequences alone, as Spell is defined, without the prefix tree and the simple
    /// loop (SP-04, SP-05) that are faster and nearly always give the same keys. For Spell.
    ///
    /// # Examples
    /// ```
    /// use driftline_operators::logs::{LogKeyParser, LogKeys};
    ///
    /// let keys = LogKeys::of("logs", "message").parser(LogKeyParser::Spell).without_prefilters();
    /// assert!(keys.to_string().ends_with("parser => 'spell', prefilters => FALSE)"));
    /// ```
    #[must_use]
    pub fn without_prefilters(self) -> Self {
        self.set("prefilters", false)
    }

    /// Share of its tokens that a template must have in common with a line; for Drain.
    #[must_use]
    pub fn similarity(self, similarity: f64) -> Self {
        self.set("similarity", similarity)
    }

    /// Depth of the tree; for Drain.
    #[must_use]
    pub fn depth(self, depth: i64) -> Self {
        self.set("depth", depth)
    }

    /// After how many different words a place is variable; for signatures.
    #[must_use]
    pub fn values_min(self, values: i64) -> Self {
        self.set("values_min", values)
    }

    /// The same for a place right after `=`.
    #[must_use]
    pub fn assigned_values_min(self, values: i64) -> Self {
        self.set("assigned_values_min", values)
    }

    /// Up to how many different words of a variable place have keys of their own, such as `Started` and `Paused` in `VM <*>
    /// (Lifecycle Event)` (SP-08); 0, as where this is not called, for none. For Spell and Drain.
    ///
    /// # Examples
    /// ```
    /// use driftline_operators::logs::{LogKeyOptions, LogKeyParser, LogKeys, ParsedLine};
    /// use driftline_operators::options::Options;
    ///
    /// let keys = LogKeys::of("logs", "message").parser(LogKeyParser::Drain).split_values_max(4);
    /// assert!(keys.to_string().ends_with("parser => 'drain', split_values_max => 4)"));
    ///
    /// let options = Options::new().with("parser", "drain").with("split_values_max", 4);
    /// let mut reader = LogKeyOptions::new(&options)?.reader()?;
    /// let mut line = ParsedLine::default();
    /// let mut template = |text: &str| {
    ///     reader.read(text, &mut line);
    ///     line.template.to_string()
    /// };
    /// assert_eq!(template("VM Started (Lifecycle Event)"), "VM Started (Lifecycle Event)");
    /// assert_eq!(template("VM Paused (Lifecycle Event)"), "VM Paused (Lifecycle Event)");
    /// // A number is variable from the first line on.
    /// template("Took 7 s");
    /// assert_eq!(template("Took 8 s"), "Took <*> s");
    /// # Ok::<(), driftline_operators::error::OperatorError>(())
    /// ```
    #[must_use]
    pub fn split_values_max(self, values: i64) -> Self {
        self.set("split_values_max", values)
    }

    /// After how many lines without a new word in such a place its words keep their keys. A word that comes later then
    /// shares one key with all others; one that comes earlier, and is one too many, makes the place variable.
    ///
    /// # Examples
    /// ```
    /// use driftline_operators::logs::LogKeys;
    ///
    /// let keys = LogKeys::of("logs", "message").split_values_max(4).split_lines_min(1000);
    /// assert!(keys.to_string().ends_with("split_lines_min => 1000, split_values_max => 4)"));
    /// ```
    #[must_use]
    pub fn split_lines_min(self, lines: i64) -> Self {
        self.set("split_lines_min", lines)
    }

    /// Most tokens of a line.
    #[must_use]
    pub fn tokens_max(self, tokens: i64) -> Self {
        self.set("tokens_max", tokens)
    }

    /// Most templates.
    #[must_use]
    pub fn templates_max(self, templates: i64) -> Self {
        self.set("templates_max", templates)
    }

    /// Most sessions whose latest line is remembered.
    #[must_use]
    pub fn sessions_max(self, sessions: i64) -> Self {
        self.set("sessions_max", sessions)
    }

    /// The changes of templates, as SQL.
    #[must_use]
    pub fn templates(&self) -> String {
        self.call("LOG_TEMPLATES")
    }

    fn set(mut self, name: &str, value: impl Into<OptionValue>) -> Self {
        self.options.set(name, value);
        self
    }

    fn call(&self, function: &str) -> String {
        let mut arguments = vec![self.relation.clone(), self.message.clone()];
        if !self.session.is_empty() {
            arguments.push(format!("session => ({})", self.session.join(", ")));
        }
        arguments.extend(self.options.iter().map(|(name, value)| format!("{name} => {value}")));
        format!("{function}({})", arguments.join(", "))
    }
}

impl fmt::Display for LogKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.call("LOG_KEYS"))
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
