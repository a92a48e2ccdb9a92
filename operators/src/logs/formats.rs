//! Loghub's sixteen systems: how their lines are made up, and with which masks and thresholds parsers are usually
//! measured on them.
//!
//! These are facts of the public benchmark of log parsers, declared in our own form. `tau` is Spell's, `similarity` and
//! `depth` are Drain's.

use super::header::HeaderFormat;
use crate::error::Result;

/// The log of one system.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoghubFormat {
    /// The system's name.
    pub name: &'static str,
    /// How a line is made up, for [`HeaderFormat::new`].
    pub header: &'static str,
    /// What is masked, in this order.
    pub masks: &'static [&'static str],
    /// Spell's share of common tokens.
    pub tau: f64,
    /// Drain's share of common tokens.
    pub similarity: f64,
    /// Drain's depth.
    pub depth: usize,
}

const IP: &str = r"(\d+\.){3}\d+";
const IP_PORT: &str = r"(\d+\.){3}\d+(:\d+)?";
const DOTTED: &str = r"([\w-]+\.){2,}[\w-]+";
const CLUSTER_HEADER: &str = "<Date> <Time> <Level> <Component>: <Content>";

/// All of them, in the order in which the benchmark lists them.
pub const LOGHUB_FORMATS: [LoghubFormat; 16] = [
    LoghubFormat {
        name: "HDFS",
        header: "<Date> <Time> <Pid> <Level> <Component>: <Content>",
        masks: &[r"blk_-?\d+", IP_PORT],
        tau: 0.7,
        similarity: 0.5,
        depth: 4,
    },
    LoghubFormat {
        name: "Hadoop",
        header: r"<Date> <Time> <Level> \[<Process>\] <Component>: <Content>",
        masks: &[IP],
        tau: 0.7,
        similarity: 0.5,
        depth: 4,
    },
    LoghubFormat {
        name: "Spark",
        header: CLUSTER_HEADER,
        masks: &[IP, r"\b[KGTM]?B\b", DOTTED],
        tau: 0.55,
        similarity: 0.5,
        depth: 4,
    },
    LoghubFormat {
        name: "Zookeeper",
        header: r"<Date> <Time> - <Level>  \[<Node>:<Component>@<Id>\] - <Content>",
        masks: &[r"(/|)(\d+\.){3}\d+(:\d+)?"],
        tau: 0.7,
        similarity: 0.5,
        depth: 4,
    },
    LoghubFormat {
        name: "BGL",
        header: "<Label> <Timestamp> <Date> <Node> <Time> <NodeRepeat> <Type> <Component> <Level> <Content>",
        masks: &[r"core\.\d+"],
        tau: 0.75,
        similarity: 0.5,
        depth: 4,
    },
    LoghubFormat {
        name: "HPC",
        header: "<LogId> <Node> <Component> <State> <Time> <Flag> <Content>",
        masks: &[r"=\d+"],
        tau: 0.65,
        similarity: 0.5,
        depth: 4,
    },
    LoghubFormat {
        name: "Thunderbird",
        header: r"<Label> <Timestamp> <Date> <User> <Month> <Day> <Time> <Location> <Component>(\[<Pid>\])?: <Content>",
        masks: &[IP],
        tau: 0.5,
        similarity: 0.5,
        depth: 4,
    },
    LoghubFormat {
        name: "Windows",
        header: "<Date> <Time>, <Level> <Component> <Content>",
        masks: &[r"0x.*?\s"],
        tau: 0.7,
        similarity: 0.7,
        depth: 5,
    },
    LoghubFormat {
        name: "Linux",
        header: r"<Month> <Date> <Time> <Level> <Component>(\[<Pid>\])?: <Content>",
        masks: &[IP, r"\d{2}:\d{2}:\d{2}"],
        tau: 0.55,
        similarity: 0.39,
        depth: 6,
    },
    LoghubFormat {
        name: "Android",
        header: "<Date> <Time>  <Pid>  <Tid> <Level> <Component>: <Content>",
        masks: &[r"(/[\w-]+)+", DOTTED, r"\b(\-?\+?\d+)\b|\b0[Xx][a-fA-F\d]+\b|\b[a-fA-F\d]{4,}\b"],
        tau: 0.95,
        similarity: 0.2,
        depth: 6,
    },
    LoghubFormat {
        name: "HealthApp",
        header: r"<Time>\|<Component>\|<Pid>\|<Content>",
        masks: &[],
        tau: 0.5,
        similarity: 0.2,
        depth: 4,
    },
    LoghubFormat {
        name: "Apache",
        header: r"\[<Time>\] \[<Level>\] <Content>",
        masks: &[IP],
        tau: 0.6,
        similarity: 0.5,
        depth: 4,
    },
    LoghubFormat {
        name: "Proxifier",
        header: r"\[<Time>\] <Program> - <Content>",
        masks: &[r"<\d+\ssec", r"([\w-]+\.)+[\w-]+(:\d+)?", r"\d{2}:\d{2}(:\d{2})*", r"[KGTM]B"],
        tau: 0.85,
        similarity: 0.6,
        depth: 3,
    },
    LoghubFormat {
        name: "OpenSSH",
        header: r"<Date> <Day> <Time> <Component> sshd\[<Pid>\]: <Content>",
        masks: &[IP, DOTTED],
        tau: 0.8,
        similarity: 0.6,
        depth: 5,
    },
    LoghubFormat {
        name: "OpenStack",
        header: r"<Logrecord> <Date> <Time> <Pid> <Level> <Component> \[<Address>\] <Content>",
        masks: &[r"((\d+\.){3}\d+,?)+", r"/.+?\s", r"\d+"],
        tau: 0.9,
        similarity: 0.5,
        depth: 5,
    },
    LoghubFormat {
        name: "Mac",
        header: r"<Month>  <Date> <Time> <User> <Component>\[<Pid>\]( \(<Address>\))?: <Content>",
        masks: &[DOTTED],
        tau: 0.6,
        similarity: 0.7,
        depth: 6,
    },
];

impl LoghubFormat {
    /// The format of a system, whatever the case of its name.
    #[must_use]
    pub fn find(name: &str) -> Option<&'static Self> {
        LOGHUB_FORMATS.iter().find(|format| format.name.eq_ignore_ascii_case(name))
    }

    /// Its header, ready to cut lines.
    ///
    /// # Errors
    /// Never for the formats of [`LOGHUB_FORMATS`]; a test holds them to it.
    pub fn header(&self) -> Result<HeaderFormat> {
        HeaderFormat::new(self.header)
    }
}

#[cfg(test)]
mod tests {
    use super::super::mask::compile;
    use super::*;

    #[test]
    fn every_declaration_holds() {
        for format in LOGHUB_FORMATS {
            format.header().unwrap();
            format.masks.iter().for_each(|mask| drop(compile(mask).unwrap()));
            assert!(0.0 < format.tau && format.tau <= 1.0 && format.depth >= 3);
            assert_eq!(
                LoghubFormat::find(&format.name.to_lowercase()),
                Some(&format).copied().as_ref()
            );
        }
        assert_eq!(LoghubFormat::find("VMS"), None);
    }
}
