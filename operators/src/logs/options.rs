//! The options of `LOG_KEYS`, and the parser that they ask for.

use super::drain::{Drain, DrainSettings};
use super::formats::{LOGHUB_FORMATS, LoghubFormat};
use super::header::HeaderFormat;
use super::line::{LogParser, ParsedLine};
use super::mask::compile;
use super::signature::{Signature, SignatureSettings};
use super::spell::{Spell, SpellSettings};
use super::split::{Split, SplitSettings};
use crate::error::Result;
use crate::options::{OptionKind, OptionReader, OptionSpec, OptionValue, Options};

const OWNER: &str = "LOG_KEYS";

/// The options of `LOG_KEYS`, checked.
///
/// # Examples
/// ```
/// use driftline_operators::logs::{LogKeyOptions, ParsedLine};
/// use driftline_operators::options::Options;
///
/// let options = LogKeyOptions::new(&Options::new().with("parser", "spell").with("format", "HDFS"))?;
/// let mut reader = options.reader()?;
/// let mut line = ParsedLine::default();
/// let text = "081109 203615 148 INFO dfs.DataNode: PacketResponder 1 for block blk_38 terminating";
/// let message = reader.read(text, &mut line);
/// assert_eq!(&*line.template, "PacketResponder 1 for block <*> terminating");
/// assert_eq!(line.parameters[0].of(line.text(message)), "blk_38");
/// # Ok::<(), driftline_operators::error::OperatorError>(())
/// ```
#[derive(Clone, Debug)]
pub struct LogKeyOptions {
    parser: ParserSettings,
    split: Option<SplitSettings>,
    header: Option<HeaderFormat>,
    reader: OptionReader,
    given: Options,
}

#[derive(Clone, Debug)]
enum ParserSettings {
    Signature(SignatureSettings),
    Spell(SpellSettings),
    Drain(DrainSettings),
}

impl LogKeyOptions {
    /// The options that there are, in the order in which docs list them.
    #[must_use]
    pub fn specs() -> Vec<OptionSpec> {
        vec![
            OptionSpec::new(
                "parser",
                OptionKind::Choice(&["signature", "spell", "drain"]),
                "signature",
                "How templates are found.",
            ),
            OptionSpec::new(
                "format",
                OptionKind::Text,
                "",
                "How a line is made up, such as '<Date> <Level> <Component>: <Content>', or the name of a Loghub \
                 system, whose masks and thresholds are then the defaults; empty where the whole text is the message.",
            ),
            OptionSpec::new(
                "masks",
                OptionKind::Text,
                "",
                "Regular expressions of what varies, one a line; for spell and drain.",
            ),
            OptionSpec::new(
                "delimiters",
                OptionKind::Text,
                "=:,",
                "Characters that end a token beside white space; for spell.",
            ),
            OptionSpec::new(
                "protected",
                OptionKind::Text,
                "",
                "Words that never become variable, with a blank between each two.",
            ),
            OptionSpec::new(
                "tau",
                OptionKind::number_above(0.0, 1.0),
                0.5,
                "Share of a line's tokens that a template must have in common with it; for spell.",
            ),
            OptionSpec::new(
                "prefilters",
                OptionKind::Boolean,
                true,
                "Whether a line is first looked for in a prefix tree and by a simple loop; without, by common subsequences \
                 alone, which is slower; for spell.",
            ),
            OptionSpec::new(
                "similarity",
                OptionKind::number(0.0..=1.0),
                0.4,
                "Share of its tokens that a template must have in common with a line; for drain.",
            ),
            OptionSpec::new(
                "depth",
                OptionKind::Integer(3, 32),
                4,
                "Depth of the tree; for drain.",
            ),
            OptionSpec::new(
                "values_min",
                OptionKind::Integer(2, 100),
                3,
                "After how many different words a place is variable; for signature.",
            ),
            OptionSpec::new(
                "assigned_values_min",
                OptionKind::Integer(2, 100),
                4,
                "The same for a place right after '='; for signature.",
            ),
            OptionSpec::new(
                "split_values_max",
                OptionKind::Integer(0, 100),
                0,
                "Up to how many different words of a variable place have keys of their own; 0 for none; for spell and drain.",
            ),
            OptionSpec::new(
                "split_lines_min",
                OptionKind::Integer(1, 1_000_000),
                100,
                "After how many lines without a new word in such a place its words keep their keys, whatever comes.",
            ),
            OptionSpec::new(
                "tokens_max",
                OptionKind::Integer(1, 1024),
                128,
                "Most tokens of a line; what comes after is one variable part.",
            ),
            OptionSpec::new(
                "templates_max",
                OptionKind::Integer(1, 1_000_000),
                10_000,
                "Most templates; beyond it the least recently used go.",
            ),
            OptionSpec::new(
                "sessions_max",
                OptionKind::Integer(1, 10_000_000),
                100_000,
                "Most sessions whose latest line is remembered; beyond it the longest silent go.",
            ),
        ]
    }

    /// Checks options.
    ///
    /// # Errors
    /// If an option is unknown or out of range, the format is neither a system nor a declaration, or a mask is no
    /// regular expression.
    pub fn new(options: &Options) -> Result<Self> {
        let reader = OptionReader::new(OWNER, options, &Self::specs())?;
        let format = reader.text("format");
        let system = LoghubFormat::find(format);
        let header = match system {
            Some(system) => Some(system.header()?),
            None if format.is_empty() => None,
            None if !format.contains('<') => {
                let names: Vec<&str> = LOGHUB_FORMATS.iter().map(|format| format.name).collect();
                return Err(reader.refuse(
                    "format",
                    format!("is '{format}', which is no known system"),
                    format!(
                        "declare fields in angle brackets, or name one of {}",
                        names.join(", ")
                    ),
                ));
            }
            None => Some(HeaderFormat::new(format)?),
        };
        let is_given = |name: &str| options.get(name).is_some();
        let masks: Vec<String> = match system {
            Some(system) if !is_given("masks") => system.masks.iter().map(|&m| m.into()).collect(),
            _ => reader.text("masks").lines().filter(|m| !m.is_empty()).map(Into::into).collect(),
        };
        masks.iter().try_for_each(|mask| compile(mask).map(drop))?;
        let protected: Vec<String> =
            reader.text("protected").split_whitespace().map(Into::into).collect();
        let number = |name: &str, of_system: fn(&LoghubFormat) -> f64| match system {
            Some(system) if !is_given(name) => of_system(system),
            _ => reader.number(name),
        };
        let tokens_max = reader.count("tokens_max");
        let templates_max = reader.count("templates_max");
        let parser = match reader.text("parser") {
            "spell" => ParserSettings::Spell(SpellSettings {
                tau: number("tau", |system| system.tau),
                masks,
                delimiters: reader.text("delimiters").into(),
                protected,
                prefilters: reader.boolean("prefilters"),
                tokens_max,
                templates_max,
            }),
            "drain" => ParserSettings::Drain(DrainSettings {
                similarity: number("similarity", |system| system.similarity),
                depth: match system {
                    Some(system) if !is_given("depth") => system.depth,
                    _ => reader.count("depth"),
                },
                masks,
                protected,
                tokens_max,
                templates_max,
                ..DrainSettings::default()
            }),
            _ => ParserSettings::Signature(SignatureSettings {
                values_min: reader.count("values_min"),
                assigned_values_min: reader.count("assigned_values_min"),
                protected,
                tokens_max,
                templates_max,
                ..SignatureSettings::default()
            }),
        };
        let values_max = reader.count("split_values_max");
        let split =
            (values_max > 1 && !matches!(parser, ParserSettings::Signature(_))).then(|| {
                let lines_min = reader.count("split_lines_min") as u64;
                SplitSettings { values_max, lines_min, templates_max }
            });
        Ok(Self { parser, split, header, reader, given: options.clone() })
    }

    /// The options as they were given.
    #[must_use]
    pub fn given(&self) -> &Options {
        &self.given
    }

    /// Every option with its value, those that were not given with their defaults.
    pub(super) fn settled(&self) -> impl Iterator<Item = (&'static str, &OptionValue)> {
        self.reader.settled()
    }

    /// Whether the value of an option, as SQL spells it, is the one that it has where none is given.
    pub(super) fn is_default(name: &str, value: &str) -> bool {
        Self::specs().iter().any(|spec| spec.name == name && spec.default.to_string() == value)
    }

    /// The name of the parser asked for.
    #[must_use]
    pub fn parser_name(&self) -> &str {
        self.reader.text("parser")
    }

    /// Templates that are kept; the longest unused one leaves for a new one.
    #[must_use]
    pub fn templates_max(&self) -> usize {
        self.reader.count("templates_max")
    }

    /// Most sessions whose latest line is remembered.
    #[must_use]
    pub fn sessions_max(&self) -> usize {
        self.reader.count("sessions_max")
    }

    /// A reader of lines that knows no template yet.
    ///
    /// # Errors
    /// Never for checked options.
    pub fn reader(&self) -> Result<LineReader> {
        Ok(LineReader { header: self.header.clone(), parser: self.parser()? })
    }

    fn parser(&self) -> Result<Box<dyn LogParser>> {
        let parser: Box<dyn LogParser> = match &self.parser {
            ParserSettings::Signature(settings) => Box::new(Signature::new(settings)),
            ParserSettings::Spell(settings) => Box::new(Spell::new(settings)?),
            ParserSettings::Drain(settings) => Box::new(Drain::new(settings)?),
        };
        Ok(match self.split {
            Some(settings) => Box::new(Split::new(parser, settings)),
            None => parser,
        })
    }
}

/// Cuts headers off lines and parses what is left.
#[derive(Debug)]
pub struct LineReader {
    header: Option<HeaderFormat>,
    parser: Box<dyn LogParser>,
}

impl LineReader {
    /// Parses a line, and gives its message: the line without its header, or all of it where it is made up differently.
    pub fn read<'a>(&mut self, text: &'a str, line: &mut ParsedLine) -> &'a str {
        let message = self.header.as_ref().and_then(|header| header.content(text)).unwrap_or(text);
        self.parser.parse(message, line);
        message
    }

    /// The parser within.
    #[must_use]
    pub fn parser(&self) -> &dyn LogParser {
        &*self.parser
    }

    /// The parser within, to take changes from it or to give it a snapshot.
    pub fn parser_mut(&mut self) -> &mut dyn LogParser {
        &mut *self.parser
    }
}
