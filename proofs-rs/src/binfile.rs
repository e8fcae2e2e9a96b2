//! The container that circom and snarkjs share: magic, version, then sections of `id: u32, length: u64, bytes`.
//!
//! Every length is checked against what is there before it is believed; nothing here panics or allocates by a number
//! that the file names.

/// Why an input is refused, for whoever made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused(pub &'static str);

pub type Checked<T> = Result<T, Refused>;

/// More than any of the three formats has; a file that claims more is no such file.
const SECTIONS_MAX: u32 = 64;

/// Bytes read from the front, little-endian numbers.
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn take(&mut self, len: usize) -> Checked<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(len).ok_or(Refused("the file ends too early"))?;
        self.0 = tail;
        Ok(head)
    }

    pub fn array<const N: usize>(&mut self) -> Checked<&'a [u8; N]> {
        self.take(N)?.try_into().map_err(|_| Refused("the file ends too early"))
    }

    pub fn u32(&mut self) -> Checked<u32> {
        Ok(u32::from_le_bytes(*self.array()?))
    }

    pub fn u64(&mut self) -> Checked<u64> {
        Ok(u64::from_le_bytes(*self.array()?))
    }

    /// Nothing may be left.
    pub fn end(&self) -> Checked<()> {
        if self.0.is_empty() { Ok(()) } else { Err(Refused("a section is longer than what it holds")) }
    }
}

/// The sections of a file, in the file's order.
pub struct Sections<'a>(Vec<(u32, &'a [u8])>);

impl<'a> Sections<'a> {
    /// Splits `bytes`; the magic word and the version must be these.
    pub fn read(bytes: &'a [u8], magic: &[u8; 4], version: u32) -> Checked<Self> {
        let mut reader = Reader(bytes);
        if reader.array::<4>()? != magic {
            return Err(Refused("not a file of this kind: its first four bytes differ"));
        }
        if reader.u32()? != version {
            return Err(Refused("a version of the format that is not known"));
        }
        let count = reader.u32()?;
        if count > SECTIONS_MAX {
            return Err(Refused("too many sections"));
        }
        let mut found = Vec::new();
        for _ in 0..count {
            let id = reader.u32()?;
            let len = usize::try_from(reader.u64()?).map_err(|_| Refused("a section is too long"))?;
            found.push((id, reader.take(len)?));
        }
        Ok(Self(found))
    }

    /// The one section of this id.
    pub fn one(&self, id: u32) -> Checked<&'a [u8]> {
        let mut of_id = self.0.iter().filter(|(each, _)| *each == id);
        match (of_id.next(), of_id.next()) {
            (Some((_, bytes)), None) => Ok(bytes),
            _ => Err(Refused("a section is missing, or there twice")),
        }
    }

    /// True if no section of this id holds anything.
    pub fn is_empty(&self, id: u32) -> bool {
        self.0.iter().all(|(each, bytes)| *each != id || bytes.is_empty())
    }
}

/// Writes the same container.
pub struct Writer(Vec<u8>);

impl Writer {
    pub fn new(magic: &[u8; 4], version: u32, sections: u32) -> Self {
        let mut bytes = magic.to_vec();
        bytes.extend(version.to_le_bytes());
        bytes.extend(sections.to_le_bytes());
        Self(bytes)
    }

    pub fn section(&mut self, id: u32, bytes: &[u8]) {
        self.0.extend(id.to_le_bytes());
        self.0.extend((bytes.len() as u64).to_le_bytes());
        self.0.extend(bytes);
    }

    pub fn finish(self) -> Vec<u8> {
        self.0
    }
}
