//! When a generated query answers.

use proptest::prelude::*;

/// How far rows are out of order, in quarters of a second: by the source's watermark, its allowed lateness and what the
/// query takes in, together.
const DISORDER: i64 = 40;

/// An EMIT clause.
#[derive(Clone, Copy, Debug)]
enum Form {
    Close,
    Delay,
    Corrections,
    CorrectionsFor,
    Update,
    Every { quarters: i64 },
}

/// An EMIT clause, and how much of the disorder is not the watermark's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Emission {
    form: Form,
    late: i64,
}

/// A length of so many quarters of a second.
pub(super) fn interval(quarters: i64) -> String {
    format!("INTERVAL '{} milliseconds'", quarters * 250)
}

impl Emission {
    /// Any clause, or one whose results are final.
    pub(super) fn any(is_final: bool) -> BoxedStrategy<Self> {
        let at_last = prop_oneof![Just(Form::Close), Just(Form::Delay)];
        let changing = prop_oneof![
            Just(Form::Update),
            (1i64..80).prop_map(|quarters| Form::Every { quarters }),
            Just(Form::Corrections),
            Just(Form::CorrectionsFor),
        ];
        let form = match is_final {
            true => at_last.boxed(),
            false => prop_oneof![2 => at_last, 5 => changing].boxed(),
        };
        (form, 1..DISORDER).prop_map(|(form, late)| Self { form, late }).boxed()
    }

    /// The source, with the disorder that the query does not take in itself.
    pub(super) fn source(self) -> String {
        let option = match self.form {
            Form::Delay | Form::CorrectionsFor => String::new(),
            _ => format!(" WITH (allowed_lateness = {})", interval(self.late)),
        };
        format!(
            "CREATE SOURCE samples (ts TIMESTAMP NOT NULL, host TEXT, service TEXT NOT NULL, value DOUBLE, bytes BIGINT,
               WATERMARK FOR ts AS ts - {}){option}",
            interval(DISORDER - self.late)
        )
    }

    /// What stands at the end of the query.
    pub(super) fn clause(self) -> String {
        match self.form {
            Form::Close => String::new(),
            Form::Delay => format!("EMIT ON WINDOW CLOSE WITH DELAY {}", interval(self.late)),
            Form::Corrections => "EMIT ON WINDOW CLOSE WITH CORRECTIONS".to_owned(),
            Form::CorrectionsFor => {
                format!("EMIT ON WINDOW CLOSE WITH CORRECTIONS FOR {}", interval(self.late))
            }
            Form::Update => "EMIT ON UPDATE".to_owned(),
            Form::Every { quarters } => format!("EMIT EVERY {}", interval(quarters)),
        }
    }

    /// Whether results are changes.
    pub(super) fn is_changelog(self) -> bool {
        !matches!(self.form, Form::Close | Form::Delay)
    }
}
