//! A file of models: what a detector has learned, and the log keys that it reads, in one sealed whole.

use serde::{Deserialize, Serialize};

use super::snapshot;
use crate::error::Result;

/// The version of the file. Version 1 had no log keys.
const VERSION: u8 = 2;

/// What a file of models holds.
///
/// Its form is that of every snapshot: a byte with the version, the kind with the word `models`, both lists in
/// postcard's form, and a checksum of all that. Each item is sealed in the same way by itself.
///
/// # Examples
/// ```
/// use driftline_operators::model::SavedModels;
///
/// let saved = SavedModels { models: vec![b"of worker 0".to_vec()], log_keys: vec![] };
/// let bytes = saved.to_bytes("ewma")?;
/// assert_eq!(SavedModels::from_bytes("ewma", &bytes)?, saved);
/// let problem = SavedModels::from_bytes("robust_zscore", &bytes).unwrap_err();
/// assert_eq!(problem.to_string(), "snapshot of robust_zscore models is of \"ewma models\"");
/// # Ok::<(), driftline_operators::error::OperatorError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedModels {
    /// What the detector wrote on each worker.
    pub models: Vec<Vec<u8>>,
    /// What each `LOG_KEYS` of the detector's query has learned: templates, and the sessions that it follows. In the
    /// order in which the query's operators are wired.
    pub log_keys: Vec<Vec<u8>>,
}

impl SavedModels {
    /// The file of a detector of this kind.
    ///
    /// # Errors
    /// If it cannot be written, which would be a bug.
    pub fn to_bytes(&self, kind: &str) -> Result<Vec<u8>> {
        snapshot::seal_as(VERSION, &format!("{kind} models"), self)
    }

    /// Opens a file.
    ///
    /// # Errors
    /// If it is cut short, damaged, of another kind or of another version.
    pub fn from_bytes(kind: &str, bytes: &[u8]) -> Result<Self> {
        snapshot::open_as(VERSION, &format!("{kind} models"), bytes)
    }

    /// Refuses a file for a query with another number of `LOG_KEYS`.
    ///
    /// # Errors
    /// If the numbers differ; the error names both.
    pub fn check_log_keys(&self, kind: &str, wanted: usize) -> Result<()> {
        let found = self.log_keys.len();
        if found == wanted {
            return Ok(());
        }
        let problem = format!(
            "holds the templates of {found} LOG_KEYS, and the detector's query has {wanted}"
        );
        Err(snapshot::problem(&format!("{kind} models"), problem))
    }
}
