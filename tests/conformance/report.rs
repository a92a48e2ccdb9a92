//! What the matrix found.

use super::axes::Cell;

/// Cells that have run.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// All of them, the late relations of sources among them.
    pub(crate) cells: usize,
    /// Those of cases.
    pub(crate) cells_of_cases: usize,
    pub(crate) failures: usize,
    /// A line for each case that fails, of its first failing cells.
    pub(crate) lines: Vec<String>,
}

/// Failing cells of one case that are described; a case that fails everywhere says no more in its hundredth cell.
const DESCRIBED: usize = 5;

impl Report {
    pub(crate) fn passed(&mut self) {
        self.cells += 1;
    }

    pub(crate) fn failed(&mut self, cell: &Cell, line: u32, what: &str) {
        self.cells += 1;
        self.failures += 1;
        let again = self.lines.iter().filter(|line| line.contains(&format!(" {} ", cell.case)));
        let what = if again.count() < DESCRIBED { what.trim_end() } else { "" };
        self.lines.push(format!(
            "FAILED line {line}: cargo test --workspace --all-features --test conformance -- ' {cell} '\n{what}"
        ));
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.cells += other.cells;
        self.cells_of_cases += other.cells_of_cases;
        self.failures += other.failures;
        self.lines.extend(other.lines);
    }

    pub(crate) fn print(&self) {
        self.lines.iter().for_each(|line| println!("{line}"));
        println!("figure: matrix_cells = {} cells", self.cells);
        println!("figure: matrix_failures = {} cells", self.failures);
    }
}
