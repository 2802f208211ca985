//! Headers: the first message of each call, which detects ranks that make another call than the others.

use opt_core::collective::{CollectiveError, Numbers};

/// The size of the first message: small calls fit into it.
pub(crate) const SIZE: usize = 512;
/// The bytes of kind, detail and length.
const FIELDS: usize = 24;
/// The bytes of content that fit behind the header.
pub(crate) const INLINE: usize = SIZE - FIELDS;

/// The kind of a call, and the length of this rank's contribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    kind: Kind,
    /// The root of a broadcast.
    detail: u64,
    /// Bytes to gather or broadcast; numbers to sum.
    pub(crate) len: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    SumF32 = 1,
    SumF64,
    Gather,
    Broadcast,
    Split,
}

impl Header {
    pub(crate) fn sum(numbers: &Numbers) -> Self {
        let kind = if matches!(numbers, Numbers::F32(_)) { Kind::SumF32 } else { Kind::SumF64 };
        Self { kind, detail: 0, len: numbers.len() as u64 }
    }

    pub(crate) fn gather(len: usize) -> Self {
        Self { kind: Kind::Gather, detail: 0, len: len as u64 }
    }

    pub(crate) fn broadcast(root: usize, len: usize) -> Self {
        Self { kind: Kind::Broadcast, detail: root as u64, len: len as u64 }
    }

    pub(crate) fn split() -> Self {
        Self { kind: Kind::Split, detail: 0, len: 0 }
    }

    /// The first message: the header and as much of the content as fits.
    pub(crate) fn to_bytes(self, content: &[u8]) -> [u8; SIZE] {
        let mut bytes = [0; SIZE];
        for (place, field) in [self.kind as u64, self.detail, self.len].into_iter().enumerate() {
            bytes[place * 8..][..8].copy_from_slice(&field.to_le_bytes());
        }
        let inline = content.len().min(INLINE);
        bytes[FIELDS..][..inline].copy_from_slice(&content[..inline]);
        bytes
    }

    fn from_bytes(bytes: &[u8; SIZE]) -> Option<Self> {
        let field = |place: usize| bytes[place * 8..][..8].try_into().map(u64::from_le_bytes).ok();
        let kind = match field(0)? {
            1 => Kind::SumF32,
            2 => Kind::SumF64,
            3 => Kind::Gather,
            4 => Kind::Broadcast,
            5 => Kind::Split,
            _ => return None,
        };
        Some(Self { kind, detail: field(1)?, len: field(2)? })
    }

    /// The parts that must be the same on all ranks, in words.
    fn call(self) -> String {
        match self.kind {
            Kind::SumF32 => format!("the sum of {} numbers of 32 bits", self.len),
            Kind::SumF64 => format!("the sum of {} numbers of 64 bits", self.len),
            Kind::Gather => "a gather".to_owned(),
            Kind::Broadcast => format!("a broadcast of rank {}", self.detail),
            Kind::Split => "a new group".to_owned(),
        }
    }
}

/// The headers of all ranks, if all make the same call, and the beginning of their contents.
pub(crate) fn agreed(messages: &[u8]) -> Result<Vec<(Header, &[u8])>, CollectiveError> {
    let mut headers = Vec::with_capacity(messages.len() / SIZE);
    for (rank, bytes) in messages.as_chunks::<SIZE>().0.iter().enumerate() {
        let header = Header::from_bytes(bytes).ok_or(CollectiveError::Message { rank })?;
        headers.push((header, &bytes[FIELDS..]));
    }
    let expected = headers[0].0.call();
    match headers.iter().position(|(header, _)| header.call() != expected) {
        None => Ok(headers),
        Some(rank) => {
            let found = headers[rank].0.call();
            Err(CollectiveError::Disagreement { what: "the call", expected, rank, found })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_back_with_their_content() {
        let headers = [
            Header::sum(&Numbers::F32(vec![1.0])),
            Header::sum(&Numbers::F64(vec![])),
            Header::gather(700),
            Header::broadcast(3, 9),
            Header::split(),
        ];
        for header in headers {
            let bytes = header.to_bytes(&[7; 700]);
            assert_eq!(Header::from_bytes(&bytes), Some(header));
            assert_eq!(agreed(&bytes).unwrap(), [(header, &[7; INLINE][..])]);
        }
        assert_eq!(agreed(&[0; SIZE]), Err(CollectiveError::Message { rank: 0 }));
    }

    #[test]
    fn lengths_of_sums_must_agree_and_those_of_gathers_need_not() {
        let message = |headers: [Header; 2]| headers.map(|header| header.to_bytes(&[])).concat();
        let sums = message([2, 3].map(|len| Header::sum(&Numbers::F64(vec![0.0; len]))));
        let text = agreed(&sums).unwrap_err().to_string();
        assert!(
            text.ends_with("rank 0 has the sum of 2 numbers of 64 bits, rank 1 has the sum of 3 numbers of 64 bits")
        );
        assert!(agreed(&message([2, 3].map(Header::gather))).is_ok());
        assert!(agreed(&message([0, 1].map(|root| Header::broadcast(root, 1)))).is_err());
        assert!(agreed(&message([Header::split(), Header::gather(0)])).is_err());
    }
}
