//! What goes wrong, when, and what a threshold would have said.

use super::random::Random;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A state that was never seen, each metric of it in its usual range.
    StrangeState,
    /// To and fro between two usual states.
    Flapping,
    /// A usual state that does not end.
    Stuck,
    /// Memory that is never given back.
    Leak,
}

impl Fault {
    pub const ALL: [Self; 4] = [Self::StrangeState, Self::Flapping, Self::Stuck, Self::Leak];

    pub fn text(self) -> &'static str {
        match self {
            Self::StrangeState => "strange state",
            Self::Flapping => "flapping",
            Self::Stuck => "stuck in a state",
            Self::Leak => "memory leak",
        }
    }
}

/// A fault of one component. It begins quietly, and only at `breaks` does a resource run out, which is what a rule with
/// thresholds sees.
#[derive(Clone, Debug)]
pub struct Incident {
    pub component: usize,
    pub fault: Fault,
    /// Slots: it begins, it breaks, it is mended.
    pub begins: i64,
    pub breaks: i64,
    pub ends: i64,
}

impl Incident {
    pub fn covers(&self, slot: i64) -> bool {
        (self.begins..self.ends).contains(&slot)
    }

    /// Values in the percent order of a profile, changed by the fault. `usual` is the state that the component would
    /// be in, `other` one of its other states.
    pub fn shape(&self, slot: i64, usual: &[f64; 9], other: &[f64; 9]) -> [f64; 9] {
        let since = slot - self.begins;
        let mut values = match self.fault {
            Fault::StrangeState => {
                // Threads wait on locks: system time up, traffic down.
                let mut strange = *usual;
                strange[0] = strange[0] * 1.9 + 4.0;
                strange[7] *= 0.55;
                strange[8] *= 0.5;
                strange
            }
            Fault::Flapping if since % 2 == 0 => *other,
            Fault::Flapping | Fault::Leak => *usual,
            Fault::Stuck => *other,
        };
        if self.fault == Fault::Leak {
            let part = since as f64 / (self.breaks - self.begins).max(1) as f64;
            values[2] += (97.0 - values[2]) * part.min(1.0);
        } else if slot >= self.breaks {
            // The processor is exhausted.
            values[0] = 24.0;
            values[1] = 71.0;
        }
        values
    }
}

/// Draws `count` incidents on distinct components of `candidates`, spread over the slots from `first` to `last`.
pub fn draw(
    random: &mut Random,
    count: usize,
    candidates: &[usize],
    (first, last): (i64, i64),
) -> Vec<Incident> {
    let mut free = candidates.to_vec();
    let count = if last > first { count.min(free.len()) } else { 0 };
    let stride = (last - first) as f64 / count.max(1) as f64;
    let mut incidents = Vec::new();
    for number in 0..count {
        let component = free.swap_remove(random.whole(0, free.len() as i64 - 1) as usize);
        let begins = first + (stride * (number as f64 + random.between(0.0, 0.5))) as i64;
        // An hour to three from the first sign until something breaks; the paper's ten incidents average 115 minutes.
        let breaks = begins + random.whole(14, 36);
        let ends = breaks + random.whole(6, 14);
        let fault = Fault::ALL[number % Fault::ALL.len()];
        incidents.push(Incident { component, fault, begins, breaks, ends });
    }
    incidents
}
