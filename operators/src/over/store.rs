//! Rows that frames still need, of all partitions together: columns in chunks, as batches brought them.
//!
//! Chunks of like size are merged into one when there are eight of them, so that a row is copied about log8 times as often
//! as chunks come, and chunks stay few. A chunk of which little is in use is written anew.

use arrow::array::{Array, ArrayRef, UInt32Array};
use arrow::compute::{interleave, take};

use crate::error::Result;

/// Chunks of like size that are kept apart.
const LIKE_CHUNKS_MAX: usize = 8;
/// A chunk of which less than this part is in use is written anew.
const IN_USE_MIN: usize = 4;
/// Marks a chunk that is not among those being read.
const NOT_READ: u32 = u32::MAX;

/// A row of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    chunk: u32,
    row: u32,
}

/// Whose row it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner {
    /// The partition.
    pub(super) slot: u32,
    /// 0 for a row, else the level of a block of rows.
    pub(super) level: u32,
    /// Number of the row or block.
    pub(super) number: u64,
}

/// Whoever keeps the places of rows, and is told when they move.
pub(super) trait Keeper {
    /// Where the place of an owner's row is kept, if it still is.
    fn place(&mut self, owner: Owner) -> Option<&mut Place>;
}

/// Rows in chunks.
#[derive(Debug, Default)]
pub(super) struct Store {
    /// By number; in between are holes, which are taken again.
    chunks: Vec<Option<Chunk>>,
    rows: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Chunk {
    columns: Vec<ArrayRef>,
    owners: Vec<Owner>,
    in_use: usize,
    bytes: usize,
}

impl Store {
    /// How many rows are in use.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes rows in, one for each owner, all in use; answers with their places in order.
    pub(super) fn add(
        &mut self,
        columns: Vec<ArrayRef>,
        owners: Vec<Owner>,
    ) -> impl Iterator<Item = Place> + use<> {
        let rows = owners.len();
        let mut number = 0;
        if rows > 0 {
            let arrays = columns.iter().map(Array::get_array_memory_size).sum::<usize>();
            let bytes = arrays + rows * size_of::<Owner>();
            self.rows += rows;
            self.bytes += bytes;
            let chunk = Some(Chunk { columns, owners, in_use: rows, bytes });
            number = self.chunks.iter().position(Option::is_none).unwrap_or(self.chunks.len());
            match self.chunks.get_mut(number) {
                Some(hole) => *hole = chunk,
                None => self.chunks.push(chunk),
            }
        }
        (0..rows as u32).map(move |row| Place { chunk: number as u32, row })
    }

    /// A row is not needed any more.
    pub(super) fn let_go(&mut self, place: Place) {
        let Some(slot) = self.chunks.get_mut(place.chunk as usize) else { return };
        let Some(chunk) = slot else { return };
        self.rows -= 1;
        chunk.in_use -= 1;
        if chunk.in_use == 0 {
            self.bytes -= chunk.bytes;
            *slot = None;
        }
    }

    /// Some columns of rows, in the order of `places`.
    pub(super) fn read(&self, columns: &[usize], places: &[Place]) -> Result<Vec<ArrayRef>> {
        let reading = Reading::new(self, places.iter().copied().map(Some));
        columns.iter().map(|&column| reading.column(column, None)).collect()
    }

    /// One column of rows; where there is no place, the only value of `missing`.
    pub(super) fn read_or(
        &self,
        column: usize,
        places: &[Option<Place>],
        missing: &ArrayRef,
    ) -> Result<ArrayRef> {
        Reading::new(self, places.iter().copied()).column(column, Some(missing))
    }

    /// All rows in use: for each chunk their owners and columns, which are shared where all of it is in use. `place` tells
    /// where an owner keeps its row.
    pub(super) fn saved(
        &self,
        place: impl Fn(Owner) -> Option<Place>,
    ) -> Result<Vec<(Vec<Owner>, Vec<ArrayRef>)>> {
        let mut saved = Vec::new();
        for (number, chunk) in (0u32..).zip(&self.chunks) {
            let Some(chunk) = chunk else { continue };
            let is_used =
                |&(row, owner): &(u32, &Owner)| place(*owner) == Some(Place { chunk: number, row });
            let (rows, owners): (Vec<u32>, Vec<Owner>) =
                (0u32..).zip(&chunk.owners).filter(is_used).map(|(row, o)| (row, *o)).unzip();
            let columns = match rows.len() == chunk.owners.len() {
                true => chunk.columns.clone(),
                false => {
                    let rows = UInt32Array::from(rows);
                    let taken = chunk.columns.iter().map(|column| take(column, &rows, None));
                    taken.collect::<Result<_, _>>()?
                }
            };
            saved.push((owners, columns));
        }
        Ok(saved)
    }

    /// Merges chunks that are many, and writes those anew that are mostly unused.
    pub(super) fn tidy(&mut self, keeper: &mut impl Keeper) -> Result<()> {
        loop {
            let mut by_size: Vec<Vec<u32>> = Vec::new();
            let mut sparse = None;
            for (number, chunk) in self.chunks.iter().enumerate() {
                let Some(chunk) = chunk else { continue };
                if chunk.in_use * IN_USE_MIN < chunk.owners.len() {
                    sparse = Some(number as u32);
                }
                let size = chunk.in_use.ilog(LIKE_CHUNKS_MAX) as usize;
                by_size.resize(by_size.len().max(size + 1), Vec::new());
                by_size[size].push(number as u32);
            }
            let many = by_size.into_iter().find(|alike| alike.len() >= LIKE_CHUNKS_MAX);
            match many.or_else(|| sparse.map(|number| vec![number])) {
                Some(chunks) => self.merge(&chunks, keeper)?,
                None => break,
            }
        }
        while self.chunks.pop_if(|chunk| chunk.is_none()).is_some() {}
        Ok(())
    }

    /// Makes one chunk of several, of the rows that are in use.
    fn merge(&mut self, numbers: &[u32], keeper: &mut impl Keeper) -> Result<()> {
        let (mut places, mut owners, mut columns_of) = (Vec::new(), Vec::new(), 0);
        for &number in numbers {
            let chunk = self.chunks[number as usize].as_ref().expect("the caller listed it");
            columns_of = chunk.columns.len();
            for (row, &owner) in (0u32..).zip(&chunk.owners) {
                let place = Place { chunk: number, row };
                // The owner may be another by now, under the same numbers.
                if keeper.place(owner).is_some_and(|kept| *kept == place) {
                    places.push(place);
                    owners.push(owner);
                }
            }
        }
        let columns = self.read(&(0..columns_of).collect::<Vec<_>>(), &places)?;
        for &number in numbers {
            if let Some(chunk) = self.chunks[number as usize].take() {
                self.rows -= chunk.in_use;
                self.bytes -= chunk.bytes;
            }
        }
        for (place, owner) in self.add(columns, owners.clone()).zip(owners) {
            *keeper.place(owner).expect("it was found above") = place;
        }
        Ok(())
    }
}

/// Rows to be read: arrow wants the arrays that are read, and for each row which of them.
struct Reading<'a> {
    chunks: Vec<&'a Chunk>,
    rows: Vec<(usize, usize)>,
    /// Stands for rows that are not there.
    missing: usize,
}

impl<'a> Reading<'a> {
    fn new(store: &'a Store, places: impl Iterator<Item = Option<Place>>) -> Self {
        let mut number_of = vec![NOT_READ; store.chunks.len()];
        let (mut chunks, mut rows) = (Vec::new(), Vec::with_capacity(places.size_hint().0));
        let mut has_missing = false;
        for place in places {
            let Some(Place { chunk, row }) = place else {
                has_missing = true;
                rows.push((usize::MAX, 0));
                continue;
            };
            let number = &mut number_of[chunk as usize];
            if *number == NOT_READ {
                *number = chunks.len() as u32;
                chunks.push(store.chunks[chunk as usize].as_ref().expect("a kept row has a chunk"));
            }
            rows.push((*number as usize, row as usize));
        }
        let missing = chunks.len();
        if has_missing {
            rows.iter_mut().filter(|row| row.0 == usize::MAX).for_each(|row| row.0 = missing);
        }
        Self { chunks, rows, missing }
    }

    fn column(&self, column: usize, missing: Option<&ArrayRef>) -> Result<ArrayRef> {
        if let ([chunk], None) = (self.chunks.as_slice(), missing) {
            let rows: UInt32Array = self.rows.iter().map(|(_, row)| *row as u32).collect();
            return Ok(take(&chunk.columns[column], &rows, None)?);
        }
        let mut arrays: Vec<&dyn Array> =
            self.chunks.iter().map(|chunk| chunk.columns[column].as_ref()).collect();
        debug_assert_eq!(arrays.len(), self.missing);
        arrays.extend(missing.map(|array| array.as_ref() as &dyn Array));
        Ok(interleave(&arrays, &self.rows)?)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::Int64Type;

    use super::*;

    fn numbers(array: &ArrayRef) -> Vec<Option<i64>> {
        array.as_primitive::<Int64Type>().iter().collect()
    }

    fn column(values: impl IntoIterator<Item = i64>) -> Vec<ArrayRef> {
        vec![Arc::new(Int64Array::from_iter_values(values))]
    }

    struct Kept(Vec<Option<Place>>);

    impl Keeper for Kept {
        fn place(&mut self, owner: Owner) -> Option<&mut Place> {
            self.0[owner.number as usize].as_mut()
        }
    }

    fn owner(number: u64) -> Owner {
        Owner { slot: 0, level: 0, number }
    }

    #[test]
    fn rows_keep_their_values_while_chunks_come_and_go() {
        let mut store = Store::default();
        // Every row is its own owner; every third one stays.
        let mut kept = Kept(Vec::new());
        for batch in 0..200_u64 {
            let first = kept.0.len() as u64;
            let rows = 1 + batch % 7;
            let values = (first..first + rows).map(|number| number as i64);
            let owners = (first..first + rows).map(owner).collect();
            kept.0.extend(store.add(column(values), owners).map(Some));
            let before = first as usize;
            for number in before.saturating_sub(20)..before {
                if number % 3 > 0
                    && let Some(place) = kept.0[number].take()
                {
                    store.let_go(place);
                }
            }
            store.tidy(&mut kept).unwrap();
        }
        let alive: Vec<i64> =
            (0..).zip(&kept.0).filter_map(|(n, place)| place.map(|_| n)).collect();
        let places: Vec<Place> = kept.0.iter().copied().flatten().collect();
        assert_eq!(store.rows(), places.len());
        let read = store.read(&[0], &places).unwrap();
        assert_eq!(numbers(&read[0]), alive.into_iter().map(Some).collect::<Vec<_>>());
        assert!(store.chunks.len() < 40, "{}", store.chunks.len());
        places.into_iter().for_each(|place| store.let_go(place));
        assert_eq!((store.rows(), store.bytes()), (0, 0));
    }

    #[test]
    fn what_is_missing_is_filled_in() {
        let mut store = Store::default();
        let first: Vec<_> = store.add(column([1, 2]), vec![owner(0), owner(1)]).collect();
        let second: Vec<_> = store.add(column([3]), vec![owner(2)]).collect();
        let missing: ArrayRef = Arc::new(Int64Array::from(vec![-1]));
        let places = [Some(second[0]), None, Some(first[1])];
        let read = store.read_or(0, &places, &missing).unwrap();
        assert_eq!(numbers(&read), [Some(3), Some(-1), Some(2)]);
        let none = store.read_or(0, &[None, None], &missing).unwrap();
        assert_eq!(numbers(&none), [Some(-1), Some(-1)]);
    }
}
