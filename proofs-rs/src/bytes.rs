//! Little-endian reading with every length checked, and the section table that all of snarkjs's binary files share.

/// Why a file was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bad {
    /// Too short, too long, or a section is missing, doubled or of the wrong length.
    Form,
    /// Another magic number, version, protocol or field than the one that is read here.
    Kind,
    /// A number that is not below its modulus, or an index that is out of range.
    Range,
    /// More than the limits of this module allow.
    Large,
    /// Files or parts that do not belong together.
    Mismatch,
    /// Wires of a circuit that do not follow from its inputs.
    Unsolvable,
    /// Inputs that break a constraint.
    Unsatisfied,
}

pub type Read<T> = Result<T, Bad>;

/// A cursor over bytes; every method fails with `Bad::Form` past the end.
#[derive(Clone, Copy)]
pub struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub fn take(&mut self, count: usize) -> Read<&'a [u8]> {
        if count > self.rest.len() {
            return Err(Bad::Form);
        }
        let (head, tail) = self.rest.split_at(count);
        self.rest = tail;
        Ok(head)
    }

    /// `count` records of `size` bytes each.
    pub fn records(&mut self, count: usize, size: usize) -> Read<&'a [u8]> {
        self.take(count.checked_mul(size).ok_or(Bad::Form)?)
    }

    pub fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| Bad::Form)
    }

    pub fn u32(&mut self) -> Read<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// A count or an index; u32 fits usize on every target.
    pub fn size(&mut self) -> Read<usize> {
        Ok(self.u32()? as usize)
    }

    pub fn u64(&mut self) -> Read<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub fn left(&self) -> usize {
        self.rest.len()
    }

    pub fn end(&self) -> Read<()> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(Bad::Form)
        }
    }
}

/// Sections by number, of a file that begins `magic (4), version u32, count u32`, then `number u32, length u64, bytes`.
pub struct Sections<'a> {
    found: Vec<(u32, &'a [u8])>,
}

/// Sections that any of the files has; more are refused before they are read.
const SECTIONS_MAX: usize = 32;

impl<'a> Sections<'a> {
    pub fn read(file: &'a [u8], magic: &[u8; 4], version: u32) -> Read<Self> {
        let mut at = Cursor::new(file);
        if at.take(4)? != magic || at.u32()? != version {
            return Err(Bad::Kind);
        }
        let count = at.size()?;
        if count > SECTIONS_MAX {
            return Err(Bad::Large);
        }
        let mut found: Vec<(u32, &[u8])> = Vec::with_capacity(count);
        for _ in 0..count {
            let number = at.u32()?;
            let length = usize::try_from(at.u64()?).map_err(|_| Bad::Form)?;
            let bytes = at.take(length)?;
            if found.iter().any(|(other, _)| *other == number) {
                return Err(Bad::Form);
            }
            found.push((number, bytes));
        }
        at.end()?;
        Ok(Self { found })
    }

    pub fn get(&self, number: u32) -> Read<&'a [u8]> {
        self.find(number).ok_or(Bad::Form)
    }

    pub fn find(&self, number: u32) -> Option<&'a [u8]> {
        self.found.iter().find(|(other, _)| *other == number).map(|(_, bytes)| *bytes)
    }
}
