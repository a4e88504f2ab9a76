//! HPACK's Huffman code (RFC 7541 section 5.2 and appendix B).
//!
//! The code is canonical: codes of one length follow each other in the order of their symbols, and those of the next
//! length follow them. So the lengths say everything. They become tables when this is compiled.
use super::{malformed, too_long};
use crate::h2::frame::Violation;

/// The length of each symbol's code, in bits; the last one is EOS, which is never sent.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
     13,  23,  28,  28,  28,  28,  28,  28,  28,  24,  30,  28,  28,  30,  28,  28,
     28,  28,  28,  28,  28,  28,  30,  28,  28,  28,  28,  28,  28,  28,  28,  28,
      6,  10,  10,  12,  13,   6,   8,  11,  10,  10,   8,  11,   8,   6,   6,   6,
      5,   5,   5,   6,   6,   6,   6,   6,   6,   6,   7,   8,  15,   6,  12,  10,
     13,   6,   7,   7,   7,   7,   7,   7,   7,   7,   7,   7,   7,   7,   7,   7,
      7,   7,   7,   7,   7,   7,   7,   7,   8,   7,   8,  13,  19,  13,  14,   6,
     15,   5,   6,   5,   6,   5,   6,   6,   6,   5,   7,   7,   6,   6,   6,   5,
      6,   7,   6,   5,   5,   6,   7,   7,   7,   7,   7,  15,  11,  14,  13,  28,
     20,  22,  20,  20,  22,  22,  22,  23,  22,  23,  23,  23,  23,  23,  24,  23,
     24,  24,  22,  23,  24,  23,  23,  23,  23,  21,  22,  23,  22,  23,  23,  24,
     22,  21,  20,  22,  22,  23,  23,  21,  23,  22,  22,  24,  21,  22,  23,  23,
     21,  21,  22,  21,  23,  22,  23,  23,  20,  22,  22,  22,  23,  22,  22,  23,
     26,  26,  20,  19,  22,  23,  22,  25,  26,  26,  26,  27,  27,  26,  24,  25,
     19,  21,  26,  27,  27,  26,  27,  24,  21,  21,  26,  26,  28,  27,  27,  27,
     20,  24,  20,  21,  22,  21,  21,  23,  22,  22,  25,  25,  24,  24,  26,  23,
     26,  27,  26,  26,  27,  27,  27,  27,  27,  28,  27,  27,  27,  27,  27,  26,
     30,
];

/// Bits by which most symbols are found at once: all letters and digits have shorter codes.
const FAST: u32 = 8;

/// The codes of one length, as the beginning of 32 bits.
#[derive(Clone, Copy)]
struct Level {
    length: u32,
    first: u32,
    /// The last of 32 bits that begin with such a code.
    last: u32,
    /// The place of the first one's symbol in `Codes::symbols`.
    place: usize,
}

struct Codes {
    /// By the next bits: a symbol, and the length of its code; 0 where that is longer.
    fast: [(u8, u8); 1 << FAST],
    /// Symbols in the order of their codes, without EOS.
    symbols: [u8; 256],
    /// The longer codes.
    levels: [Level; LEVELS],
}

/// Lengths above `FAST` that there are.
const LEVELS: usize = 17;
const EOS: usize = 256;

static CODES: Codes = Codes::new();

impl Codes {
    const fn new() -> Self {
        let none = Level { length: 0, first: 0, last: 0, place: 0 };
        let mut codes = Codes { fast: [(0, 0); 1 << FAST], symbols: [0; 256], levels: [none; LEVELS] };
        let (mut next, mut place, mut level, mut length) = (0u64, 0, 0, 1u32);
        while length <= 30 {
            let (first, before) = (next, place);
            let step = 1u64 << (32 - length);
            let mut symbol = 0;
            while symbol < LENGTHS.len() {
                if LENGTHS[symbol] as u32 == length {
                    if symbol != EOS {
                        codes.symbols[place] = symbol as u8;
                        place += 1;
                    }
                    if length <= FAST {
                        let mut at = (next >> (32 - FAST)) as usize;
                        while at < ((next + step) >> (32 - FAST)) as usize {
                            codes.fast[at] = (symbol as u8, length as u8);
                            at += 1;
                        }
                    }
                    next += step;
                }
                symbol += 1;
            }
            if length > FAST && next > first {
                codes.levels[level] = Level { length, first: first as u32, last: (next - 1) as u32, place: before };
                level += 1;
            }
            length += 1;
        }
        codes
    }

    /// The symbol with whose code `bits` begin, and the code's length. None for EOS.
    #[inline]
    fn find(&self, bits: u32) -> (Option<u8>, u32) {
        let (symbol, length) = self.fast[(bits >> (32 - FAST)) as usize];
        if length > 0 {
            return (Some(symbol), length.into());
        }
        let level = self.levels.iter().find(|level| bits <= level.last).unwrap_or(&self.levels[LEVELS - 1]);
        let place = level.place + ((bits - level.first) >> (32 - level.length)) as usize;
        (self.symbols.get(place).copied(), level.length)
    }
}

/// Appends what `code` says to `out`. Errors: EOS in it; an end that is more than 7 bits or not the beginning of EOS;
/// more than `room` bytes, where the work stops.
pub fn decode(code: &[u8], room: usize, out: &mut Vec<u8>) -> Result<(), Violation> {
    let most = out.len() + room;
    let mut code = code.iter();
    // The next bits are the highest ones; behind them are zeros.
    let (mut bits, mut have) = (0u64, 0u32);
    loop {
        while have <= 56 {
            let Some(&byte) = code.next() else { break };
            bits |= u64::from(byte) << (56 - have);
            have += 8;
        }
        let (symbol, length) = CODES.find((bits >> 32) as u32);
        if length > have {
            break;
        }
        let Some(symbol) = symbol else { return malformed("a Huffman string with EOS in it") };
        if out.len() == most {
            return too_long();
        }
        out.push(symbol);
        bits <<= length;
        have -= length;
    }
    // At most 7 ones (section 5.2).
    match have > 7 || bits.leading_ones() < have {
        true => malformed("a Huffman string that ends in no padding"),
        false => Ok(()),
    }
}
