//! The classes of components in a Cloud Foundry fleet, and what they look like while they work.

/// The metrics of the paper's Table I. The first eight come from the BOSH agent every 3 minutes, the others from a
/// network agent every 5.
pub const METRICS: [&str; 11] = [
    "cpu_system",
    "cpu_user",
    "cpu_total",
    "memory",
    "disk_system",
    "disk_persist",
    "disk_swap",
    "disk_ephemeral",
    "net_rx",
    "net_tx",
    "net_all",
];

/// How many of [`METRICS`] come from the BOSH agent.
pub const BOSH_METRICS: usize = 8;

/// Values of all metrics, percent and kB/s.
pub type Values = [f64; METRICS.len()];

pub struct Class {
    pub name: &'static str,
    /// Share of the fleet.
    pub share: f64,
    /// Share of its components that settle down; the paper found 37 % of DEA nodes and half of the core components.
    pub steady: f64,
    /// Slots between two that look like nothing else, if there are such.
    pub odd: Option<(i64, i64)>,
    /// Working states: CPU system and user, memory, disk system, persist, swap and ephemeral, received, sent.
    pub states: &'static [[f64; 9]],
}

pub const CLASSES: [Class; 8] = [
    // Runs applications.
    Class {
        name: "dea",
        share: 0.45,
        steady: 0.37,
        odd: None,
        states: &[
            [7.0, 22.0, 58.0, 42.0, 0.0, 1.0, 47.0, 820.0, 640.0],
            // Stages an application.
            [16.0, 46.0, 66.0, 42.0, 0.0, 1.0, 58.0, 2900.0, 450.0],
        ],
    },
    Class {
        name: "cell",
        share: 0.27,
        steady: 0.41,
        odd: None,
        states: &[
            [6.0, 26.0, 55.0, 38.0, 0.0, 2.0, 50.0, 1100.0, 900.0],
            [13.0, 49.0, 63.0, 38.0, 0.0, 2.0, 60.0, 2600.0, 2300.0],
        ],
    },
    Class {
        name: "router",
        share: 0.08,
        steady: 0.5,
        odd: Some((50, 110)),
        states: &[
            [6.0, 18.0, 38.0, 31.0, 0.0, 0.0, 12.0, 5200.0, 5600.0],
            [11.0, 37.0, 44.0, 31.0, 0.0, 0.0, 14.0, 11800.0, 12600.0],
        ],
    },
    // Cloud controller.
    Class {
        name: "cc",
        share: 0.06,
        steady: 0.5,
        odd: None,
        states: &[
            [6.0, 19.0, 55.0, 35.0, 0.0, 0.0, 18.0, 530.0, 610.0],
            [12.0, 45.0, 63.0, 35.0, 0.0, 0.0, 30.0, 2400.0, 1100.0],
        ],
    },
    Class {
        name: "loggregator",
        share: 0.05,
        steady: 0.5,
        odd: None,
        states: &[
            [8.0, 26.0, 34.0, 30.0, 0.0, 0.0, 11.0, 7400.0, 7300.0],
            [14.0, 44.0, 41.0, 30.0, 0.0, 0.0, 13.0, 15200.0, 15000.0],
        ],
    },
    // User account and authentication: the paper's example of many states.
    Class {
        name: "uaa",
        share: 0.04,
        steady: 0.5,
        odd: None,
        states: &[
            [5.0, 13.0, 52.0, 29.0, 0.0, 0.0, 9.0, 310.0, 280.0],
            // A wave of logins.
            [9.0, 33.0, 55.0, 29.0, 0.0, 0.0, 9.0, 960.0, 880.0],
            // Expired tokens are swept out.
            [6.0, 44.0, 64.0, 29.0, 0.0, 0.0, 11.0, 120.0, 90.0],
            // Keys are rotated.
            [19.0, 20.0, 46.0, 29.0, 0.0, 0.0, 14.0, 260.0, 640.0],
        ],
    },
    // Database of the cloud controller.
    Class {
        name: "ccdb",
        share: 0.03,
        steady: 0.5,
        odd: None,
        states: &[
            [4.0, 9.0, 47.0, 33.0, 56.0, 0.0, 8.0, 420.0, 510.0],
            // A dump.
            [14.0, 21.0, 58.0, 33.0, 61.0, 0.0, 22.0, 380.0, 2900.0],
        ],
    },
    // Health manager.
    Class {
        name: "hm",
        share: 0.02,
        steady: 0.5,
        odd: None,
        states: &[
            [3.0, 11.0, 28.0, 30.0, 0.0, 0.0, 7.0, 140.0, 150.0],
            [5.0, 38.0, 33.0, 30.0, 0.0, 0.0, 8.0, 620.0, 240.0],
        ],
    },
];
