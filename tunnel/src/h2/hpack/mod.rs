//! HPACK's decoder (RFC 7541), for peers that may mean harm: the work for a block is in proportion to its bytes, it stops
//! where the list gets too long, nothing is allocated for a field, and a connection keeps a table of at most 4,096 bytes.
//! The crates that there are allocate for each string, and one builds Huffman's table anew for it.
mod huffman;
mod table;

use crate::h2::frame::{Code, Violation};
use table::Table;

/// The size of a header list that is accepted: names and values and 32 bytes for each field (RFC 9113 section 6.5.2).
pub const LIST_MAX: usize = 64 << 10;
/// What a field counts beside its text.
const OVERHEAD: usize = 32;
/// Bytes of an integer behind its prefix: it stays below 2^28 + 255.
const INTEGER_MAX: u32 = 4;
/// Changes of the table's size at a block's beginning: the smallest one that there was, and the last (section 4.2).
const SIZE_UPDATES_MAX: usize = 2;
/// What is kept of the memory for a field.
const TEXT_KEPT: usize = 1 << 10;

fn malformed<T>(what: &'static str) -> Result<T, Violation> {
    Err(Violation { code: Code::COMPRESSION_ERROR, what })
}

fn too_long<T>() -> Result<T, Violation> {
    Err(Violation { code: Code::ENHANCE_YOUR_CALM, what: "a header list too long" })
}

/// What is left of a list's room.
fn less(room: usize, used: usize) -> Result<usize, Violation> {
    room.checked_sub(used).map_or_else(too_long, Ok)
}

/// The state of one direction of a connection.
#[derive(Default)]
pub struct Decoder {
    table: Table,
    /// A field's name and value, one behind the other.
    text: Vec<u8>,
}

impl Decoder {
    pub fn new() -> Self {
        Self::default()
    }

    /// Tells each field's name and value, in order. Each block of a connection must pass here: they share state.
    ///
    /// Errors end the connection, since the table is not what the peer believes it to be: COMPRESSION_ERROR where the
    /// block is none, ENHANCE_YOUR_CALM where the list is longer than `LIST_MAX`.
    pub fn decode(&mut self, block: &[u8], field: impl FnMut(&[u8], &[u8])) -> Result<(), Violation> {
        let result = self.fields(Reader(block), field);
        self.text.clear();
        self.text.shrink_to(TEXT_KEPT);
        result
    }

    fn fields(&mut self, mut block: Reader<'_>, mut field: impl FnMut(&[u8], &[u8])) -> Result<(), Violation> {
        self.size_updates(&mut block)?;
        let mut room = LIST_MAX;
        while let Some(&kind) = block.0.first() {
            room = less(room, OVERHEAD)?;
            room = match kind {
                0x80.. => {
                    let (name, value) = self.table.get(block.integer(7)?)?;
                    let room = less(room, name.len() + value.len())?;
                    field(name, value);
                    room
                }
                0x20..0x40 => return malformed("a change of the table's size within a header block"),
                _ => {
                    let indexed = kind >= 0x40;
                    let split = self.literal(&mut block, if indexed { 6 } else { 4 }, room)?;
                    let (name, value) = self.text.split_at(split);
                    field(name, value);
                    if indexed {
                        self.table.insert(&self.text, split);
                    }
                    less(room, self.text.len())?
                }
            };
        }
        Ok(())
    }

    /// Section 6.3.
    fn size_updates(&mut self, block: &mut Reader<'_>) -> Result<(), Violation> {
        for _ in 0..SIZE_UPDATES_MAX {
            if !matches!(block.0.first(), Some(0x20..0x40)) {
                break;
            }
            self.table.resize(block.integer(5)?)?;
        }
        Ok(())
    }

    /// Puts a literal's name and value into `text`, at most `room` bytes; gives the name's length (section 6.2).
    fn literal(&mut self, block: &mut Reader<'_>, prefix: u32, room: usize) -> Result<usize, Violation> {
        self.text.clear();
        match block.integer(prefix)? {
            0 => block.string(room, &mut self.text)?,
            index => self.text.extend_from_slice(self.table.get(index)?.0),
        }
        let split = self.text.len();
        block.string(less(room, split)?, &mut self.text)?;
        Ok(split)
    }
}

/// What is left of a block.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Result<u8, Violation> {
        let Some((&byte, rest)) = self.0.split_first() else { return malformed("a header block that is cut off") };
        self.0 = rest;
        Ok(byte)
    }

    /// Section 5.1; the prefix has this many bits.
    fn integer(&mut self, prefix: u32) -> Result<usize, Violation> {
        let most = (1 << prefix) - 1;
        let mut value = usize::from(self.byte()?) & most;
        if value < most {
            return Ok(value);
        }
        for place in 0..INTEGER_MAX {
            let byte = usize::from(self.byte()?);
            value += (byte & 0x7f) << (7 * place);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        malformed("an integer too large in a header block")
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], Violation> {
        let Some((taken, rest)) = self.0.split_at_checked(n) else {
            return malformed("a string longer than its header block");
        };
        self.0 = rest;
        Ok(taken)
    }

    /// Appends a string of at most `room` bytes (section 5.2).
    fn string(&mut self, room: usize, text: &mut Vec<u8>) -> Result<(), Violation> {
        let huffman = self.0.first().is_some_and(|first| first & 0x80 != 0);
        let length = self.integer(7)?;
        let coded = self.take(length)?;
        match huffman {
            true => huffman::decode(coded, room, text),
            false if coded.len() > room => too_long(),
            false => {
                text.extend_from_slice(coded);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests;
