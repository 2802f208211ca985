//! Sums, gathers and broadcasts: an announcement, then the rest of the content, in pieces.

use std::rc::Rc;

use mpi::collective::SystemOperation;
use mpi::request::scope;
use mpi::traits::{Communicator, CommunicatorCollectives, Equivalence, Root};
use opt_core::collective::{CollectiveError, Numbers};

use super::Worker;
use super::patience::Answer;
use crate::command::Work;
use crate::header::{Header, INLINE, agreed};

impl Worker {
    /// Announces this rank's call, with the beginning of its content. Returns the headers and contents of all ranks,
    /// if all make the same call.
    pub(super) fn announce<R>(
        &mut self,
        group: usize,
        header: Header,
        content: &[u8],
        answer: &Answer<R>,
    ) -> Result<Vec<(Header, Vec<u8>)>, CollectiveError> {
        let own = header.to_bytes(content);
        let messages = self.gather_equal(group, &own, "announcement", answer)?;
        let headers = agreed(&messages)?;
        Ok(headers.into_iter().map(|(header, content)| (header, content.to_vec())).collect())
    }

    /// Gathers the same number of bytes from each rank.
    fn gather_equal<R>(
        &mut self,
        group: usize,
        own: &[u8],
        call: &'static str,
        answer: &Answer<R>,
    ) -> Result<Vec<u8>, CollectiveError> {
        if let Some(broken) = &self.broken {
            return Err(broken.clone());
        }
        let communicator = Rc::clone(&self.groups[group]);
        let mut all = vec![0; own.len() * communicator.size().unsigned_abs() as usize];
        scope(|scope| {
            let request = communicator.immediate_all_gather_into(scope, own, &mut all[..]);
            self.wait(request, call, answer)
        })?;
        Ok(all)
    }

    pub(super) fn sum(
        &mut self,
        group: usize,
        numbers: Numbers,
        answer: &Answer<Work>,
    ) -> Result<Numbers, CollectiveError> {
        let header = Header::sum(&numbers);
        match numbers {
            Numbers::F32(numbers) => self.sum_of(group, header, &numbers, answer).map(Numbers::F32),
            Numbers::F64(numbers) => self.sum_of(group, header, &numbers, answer).map(Numbers::F64),
            _ => Err(CollectiveError::Setup { reason: "numbers of a type that MPI is not asked to sum".to_owned() }),
        }
    }

    /// Sums. Short contents are added here, in the order of the ranks; long ones by MPI, in pieces.
    fn sum_of<E: Element>(
        &mut self,
        group: usize,
        header: Header,
        numbers: &[E],
        answer: &Answer<Work>,
    ) -> Result<Vec<E>, CollectiveError> {
        let len = numbers.len();
        let is_short = size_of_val(numbers) <= INLINE;
        let content: Vec<u8> =
            if is_short { numbers.iter().flat_map(|number| number.bytes()).collect() } else { Vec::new() };
        let announced = self.announce(group, header, &content, answer)?;
        let mut sums = vec![E::default(); len];
        if is_short {
            for (rank, (_, content)) in announced.iter().enumerate() {
                for (sum, bytes) in sums.iter_mut().zip(content.chunks_exact(size_of::<E>())) {
                    let number = E::number(bytes);
                    *sum = if rank == 0 { number } else { *sum + number };
                }
            }
            return Ok(sums);
        }
        let communicator = Rc::clone(&self.groups[group]);
        let piece = self.piece_bytes / size_of::<E>();
        for (own, sums) in numbers.chunks(piece).zip(sums.chunks_mut(piece)) {
            // MPI looks only at the first length, and would write that many bytes into the second buffer.
            assert_eq!(own.len(), sums.len(), "pieces of equal length");
            scope(|scope| {
                let request = communicator.immediate_all_reduce_into(scope, own, sums, SystemOperation::sum());
                self.wait(request, "sum", answer)
            })?;
        }
        Ok(sums)
    }

    pub(super) fn gather<R>(
        &mut self,
        group: usize,
        bytes: &[u8],
        answer: &Answer<R>,
    ) -> Result<Vec<Vec<u8>>, CollectiveError> {
        let announced = self.announce(group, Header::gather(bytes.len()), bytes, answer)?;
        let lengths: Vec<usize> = announced.iter().map(|(header, _)| header.len as usize).collect();
        let mut answers: Vec<Vec<u8>> = announced.into_iter().map(|(_, content)| content).collect();
        let longest = lengths.iter().copied().max().unwrap_or_default();
        // All ranks send pieces of the same length, even if they have less left.
        for start in (INLINE..longest).step_by(self.piece_bytes) {
            let piece = self.piece_bytes.min(longest - start);
            let mut own = vec![0; piece];
            let left = bytes.get(start..).unwrap_or_default();
            let count = left.len().min(piece);
            own[..count].copy_from_slice(&left[..count]);
            let all = self.gather_equal(group, &own, "gather", answer)?;
            answers.iter_mut().zip(all.chunks(piece)).for_each(|(answer, piece)| answer.extend_from_slice(piece));
        }
        answers.iter_mut().zip(lengths).for_each(|(answer, len)| answer.truncate(len));
        Ok(answers)
    }

    pub(super) fn broadcast(
        &mut self,
        group: usize,
        root: usize,
        mut bytes: Vec<u8>,
        answer: &Answer<Work>,
    ) -> Result<Work, CollectiveError> {
        let announced = self.announce(group, Header::broadcast(root, bytes.len()), &bytes, answer)?;
        let ranks = announced.len();
        let (header, content) = announced.get(root).ok_or(CollectiveError::NoRank { rank: root, ranks })?;
        let len = header.len as usize;
        let communicator = Rc::clone(&self.groups[group]);
        let is_root = communicator.rank().unsigned_abs() as usize == root;
        if !is_root {
            bytes.clone_from(content);
            bytes.resize(len, 0);
        }
        let root = communicator.process_at_rank(i32::try_from(root).unwrap_or_default());
        for piece in bytes.get_mut(INLINE..).unwrap_or_default().chunks_mut(self.piece_bytes) {
            scope(|scope| {
                let request = root.immediate_broadcast_into(scope, piece);
                self.wait(request, "broadcast", answer)
            })?;
        }
        bytes.truncate(len);
        Ok(Work::Broadcast(0, bytes))
    }
}

/// Numbers that MPI can sum.
trait Element: Equivalence + Copy + Default + std::ops::Add<Output = Self> {
    fn bytes(self) -> Vec<u8>;
    fn number(bytes: &[u8]) -> Self;
}

macro_rules! element {
    ($type:ty) => {
        impl Element for $type {
            fn bytes(self) -> Vec<u8> {
                self.to_le_bytes().to_vec()
            }
            fn number(bytes: &[u8]) -> Self {
                bytes.try_into().map(Self::from_le_bytes).unwrap_or_default()
            }
        }
    };
}

element!(f32);
element!(f64);
