//! Partial states of many groups that begin, join and end one by one.
//!
//! An accumulator gives all its groups away at once, which suits a window that all keys share. Sessions and windows of
//! so many rows end key by key. So their state is kept as partial states in chunks, arrays with one row for each group
//! that a batch brought. A cell is one group's list of such rows. A cell that ends has its rows merged in a fresh
//! accumulator, together with those of all cells that end with it.
//!
//! Chunks of like size are merged into one when there are eight of them, and so are the rows of one cell among them, as
//! in a log-structured merge tree: a state is merged again only about log8 times as often as chunks come, there are few
//! chunks, and a cell has few rows.

use arrow::array::{Array, ArrayRef, UInt32Array};

use super::aggregate::{Accumulators, take_arrays};
use crate::error::Result;
use crate::expression::{AggregateProgram, finish_all};

/// Names a cell while it is open.
pub(super) type CellId = u32;

/// Marks a row of a chunk that belongs to no cell any more.
const NOBODY: CellId = CellId::MAX;
/// Marks a cell that no merge has met yet.
const NO_GROUP: u32 = u32::MAX;
/// Chunks of like size that are kept apart.
const LIKE_CHUNKS_MAX: usize = 8;
/// A chunk of which less than this part is in use is written anew.
const IN_USE_MIN: usize = 4;

/// Partial states of open groups.
#[derive(Default)]
pub(super) struct Cells {
    cells: Vec<Vec<Place>>,
    free: Vec<CellId>,
    /// By number; in between are holes, which are taken again.
    chunks: Vec<Option<Chunk>>,
    /// For each cell its group while chunks are merged; between merges there is none.
    group_of: Vec<u32>,
    bytes: usize,
}

/// The arrays of each aggregate's state.
pub(super) type States = Vec<Vec<ArrayRef>>;

/// A row of a chunk.
#[derive(Clone, Copy)]
struct Place {
    chunk: u32,
    row: u32,
}

struct Chunk {
    /// The arrays of each aggregate's state.
    states: Vec<Vec<ArrayRef>>,
    /// The cell of each row.
    owners: Vec<CellId>,
    in_use: usize,
    bytes: usize,
}

/// Names a chunk until the next [`Cells::tidy`].
#[derive(Clone, Copy)]
pub(super) struct ChunkId(u32);

impl Cells {
    /// Opens a cell that holds nothing yet.
    pub(super) fn open(&mut self) -> CellId {
        self.free.pop().unwrap_or_else(|| {
            self.cells.push(Vec::new());
            (self.cells.len() - 1) as CellId
        })
    }

    /// How many cells are open.
    pub(super) fn len(&self) -> usize {
        self.cells.len() - self.free.len()
    }

    /// Takes partial states in; `rows` of them, which belong to no cell yet.
    pub(super) fn store(&mut self, states: Vec<Vec<ArrayRef>>, rows: usize) -> ChunkId {
        let arrays = states.iter().flatten().map(Array::get_array_memory_size).sum::<usize>();
        let bytes = arrays + rows * size_of::<CellId>();
        let chunk = Chunk { states, owners: vec![NOBODY; rows], in_use: 0, bytes };
        self.bytes += bytes;
        match self.chunks.iter().position(Option::is_none) {
            Some(hole) => {
                self.chunks[hole] = Some(chunk);
                ChunkId(hole as u32)
            }
            None => {
                self.chunks.push(Some(chunk));
                ChunkId((self.chunks.len() - 1) as u32)
            }
        }
    }

    /// Adds a row of a chunk to a cell.
    pub(super) fn add(&mut self, cell: CellId, chunk: ChunkId, row: usize) {
        let chunk_of_row = self.chunks[chunk.0 as usize].as_mut().expect("the chunk is new");
        chunk_of_row.owners[row] = cell;
        chunk_of_row.in_use += 1;
        self.cells[cell as usize].push(Place { chunk: chunk.0, row: row as u32 });
    }

    /// Moves all of a cell into another; the emptied one is closed.
    pub(super) fn join(&mut self, into: CellId, from: CellId) {
        let places = std::mem::take(&mut self.cells[from as usize]);
        for place in &places {
            let chunk = self.chunks[place.chunk as usize].as_mut();
            chunk.expect("a cell's chunk is kept").owners[place.row as usize] = into;
        }
        self.cells[into as usize].extend(places);
        self.free.push(from);
    }

    /// Closes a cell; its states are forgotten at the next [`Cells::tidy`].
    pub(super) fn close(&mut self, cell: CellId) {
        for place in std::mem::take(&mut self.cells[cell as usize]) {
            let chunk = self.chunks[place.chunk as usize].as_mut();
            let chunk = chunk.expect("a cell's chunk is kept");
            chunk.owners[place.row as usize] = NOBODY;
            chunk.in_use -= 1;
        }
        self.free.push(cell);
    }

    /// What the aggregates come to over groups of cells, which stay as they are: `groups[i]` is the group of `cells[i]`,
    /// and every group below `group_count` has a cell.
    pub(super) fn finish(
        &self,
        program: &dyn AggregateProgram,
        cells: &[CellId],
        groups: &[usize],
        group_count: usize,
    ) -> Result<Vec<ArrayRef>> {
        let mut wanted: Vec<(u32, u32, usize)> = Vec::with_capacity(cells.len());
        for (&cell, &group) in cells.iter().zip(groups) {
            let places = self.cells[cell as usize].iter();
            wanted.extend(places.map(|place| (place.chunk, place.row, group)));
        }
        // Stable, so that the states of a group are merged in the order of its cells within each chunk.
        wanted.sort_by_key(|(chunk, _, _)| *chunk);
        let mut accumulators = program.accumulators()?;
        // Accumulators count a group from its first row on, so that groups are numbered as they come.
        let (mut numbers, mut met) = (vec![NO_GROUP; group_count], 0);
        for part in wanted.chunk_by(|left, right| left.0 == right.0) {
            let chunk = self.chunks[part[0].0 as usize].as_ref().expect("a cell's chunk is kept");
            let rows: UInt32Array = part.iter().map(|(_, row, _)| *row).collect();
            let mut groups = Vec::with_capacity(part.len());
            for &(_, _, group) in part {
                if numbers[group] == NO_GROUP {
                    numbers[group] = met;
                    met += 1;
                }
                groups.push(numbers[group] as usize);
            }
            merge(&mut accumulators, chunk, &rows, &groups, met as usize)?;
        }
        take_arrays(&finish_all(program, &mut accumulators)?, &UInt32Array::from(numbers))
    }

    /// Drops chunks that nothing uses, and merges those that are many or mostly unused.
    pub(super) fn tidy(&mut self, program: &dyn AggregateProgram) -> Result<()> {
        loop {
            let mut by_size: Vec<Vec<u32>> = Vec::new();
            let mut sparse = None;
            for number in 0..self.chunks.len() {
                let Some(chunk) = &self.chunks[number] else { continue };
                if chunk.in_use == 0 {
                    self.drop_chunk(number as u32);
                    continue;
                }
                if chunk.in_use * IN_USE_MIN < chunk.owners.len() {
                    sparse = Some(number as u32);
                }
                let size = chunk.in_use.ilog(LIKE_CHUNKS_MAX) as usize;
                by_size.resize(by_size.len().max(size + 1), Vec::new());
                by_size[size].push(number as u32);
            }
            let many = by_size.into_iter().find(|alike| alike.len() >= LIKE_CHUNKS_MAX);
            match many.or_else(|| sparse.map(|number| vec![number])) {
                Some(chunks) => self.merge_chunks(&chunks, program)?,
                None => break,
            }
        }
        while self.chunks.pop_if(|chunk| chunk.is_none()).is_some() {}
        Ok(())
    }

    /// Makes one chunk of several, with one row for each cell among them.
    fn merge_chunks(&mut self, numbers: &[u32], program: &dyn AggregateProgram) -> Result<()> {
        self.group_of.resize(self.cells.len(), NO_GROUP);
        let mut owners: Vec<CellId> = Vec::new();
        let mut accumulators = program.accumulators()?;
        for &number in numbers {
            let chunk = self.chunks[number as usize].as_ref().expect("the caller listed it");
            let (mut rows, mut groups) = (Vec::new(), Vec::new());
            for (row, &owner) in chunk.owners.iter().enumerate() {
                if owner == NOBODY {
                    continue;
                }
                let group = &mut self.group_of[owner as usize];
                if *group == NO_GROUP {
                    *group = owners.len() as u32;
                    owners.push(owner);
                }
                rows.push(row as u32);
                groups.push(*group as usize);
            }
            merge(&mut accumulators, chunk, &rows.into(), &groups, owners.len())?;
        }
        let states = accumulators.iter_mut().map(|a| a.state()).collect::<Result<Vec<_>>>()?;
        for &owner in &owners {
            self.group_of[owner as usize] = NO_GROUP;
            self.cells[owner as usize].retain(|place| !numbers.contains(&place.chunk));
        }
        for &number in numbers {
            self.drop_chunk(number);
        }
        let chunk = self.store(states, owners.len());
        for (row, owner) in owners.into_iter().enumerate() {
            self.add(owner, chunk, row);
        }
        Ok(())
    }

    fn drop_chunk(&mut self, number: u32) {
        if let Some(chunk) = self.chunks[number as usize].take() {
            self.bytes -= chunk.bytes;
        }
    }

    /// All partial states: for each chunk the cells of its rows, and the rows.
    pub(super) fn saved(&self) -> Result<Vec<(Vec<CellId>, States)>> {
        let mut saved = Vec::new();
        for chunk in self.chunks.iter().flatten().filter(|chunk| chunk.in_use > 0) {
            let rows = (0..chunk.owners.len() as u32)
                .filter(|row| chunk.owners[*row as usize] != NOBODY)
                .collect::<Vec<_>>();
            let cells = rows.iter().map(|row| chunk.owners[*row as usize]).collect();
            let rows = UInt32Array::from(rows);
            let states = chunk.states.iter().map(|state| take_arrays(state, &rows));
            saved.push((cells, states.collect::<Result<_>>()?));
        }
        Ok(saved)
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        // A cell's list has room for at least four places.
        let cell = size_of::<Vec<Place>>() + 4 * size_of::<Place>() + size_of::<u32>();
        self.bytes + self.cells.len() * cell
    }
}

/// Merges rows of a chunk.
fn merge(
    accumulators: &mut Accumulators,
    chunk: &Chunk,
    rows: &UInt32Array,
    groups: &[usize],
    group_count: usize,
) -> Result<()> {
    for (accumulator, state) in accumulators.iter_mut().zip(&chunk.states) {
        accumulator.merge(&take_arrays(state, rows)?, groups, group_count)?;
    }
    Ok(())
}
