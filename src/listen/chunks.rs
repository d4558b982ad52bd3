//! Where a chunked body ends, and whether it is well formed all the way (RFC 9112, 7.1).
//!
//! Pingora reads bodies itself, but a little too kindly: an empty size is zero to it, and a bare line feed may stand in an
//! extension. What two readers might cut in two ways is read by nobody here.

/// Most bytes of a line: a size with its extensions, or a field after the last chunk.
const MAX_LINE_BYTES: usize = 8 << 10;

/// Most digits of a size.
const MAX_DIGITS: usize = 16;

/// How far a body was read.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    state: State,
    /// Of the chunk, as far as its size is known, in bytes.
    left: u64,
    /// Of the line so far, in bytes.
    line: usize,
}

/// The body is none that everybody reads alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an ill-formed chunk")]
pub(super) struct IllFormed;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Size,
    Extension,
    SizeEnd,
    Data,
    DataEnd,
    DataEndLf,
    /// At the beginning of a line after the last chunk.
    Trailer,
    Field,
    FieldEnd,
    End,
    Over,
}

impl Chunks {
    /// Whether the whole body has come.
    pub(super) fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// Reads on, and tells how many of the bytes are of the body: those behind are of the next request.
    ///
    /// # Errors
    ///
    /// [`IllFormed`], once and for all.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Result<usize, IllFormed> {
        let mut at = 0;
        while at < bytes.len() && !self.is_over() {
            if self.state == State::Data {
                let here = bytes.len() - at;
                let taken = usize::try_from(self.left).map_or(here, |left| left.min(here));
                at += taken;
                self.left -= taken as u64;
                if self.left == 0 {
                    self.state = State::DataEnd;
                }
                continue;
            }
            self.state = self.after(bytes[at])?;
            at += 1;
        }
        Ok(at)
    }

    /// What is expected after a byte that is not a chunk's own.
    fn after(&mut self, byte: u8) -> Result<State, IllFormed> {
        self.line += 1;
        if self.line > MAX_LINE_BYTES {
            return Err(IllFormed);
        }
        let is_text = byte == b'\t' || !byte.is_ascii_control();
        Ok(match (self.state, byte) {
            (State::Size, _) if byte.is_ascii_hexdigit() && self.line <= MAX_DIGITS => {
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                self.left = self.left << 4 | u64::from(digit);
                State::Size
            }
            (State::Size, b';' | b' ' | b'\t') if self.line > 1 => State::Extension,
            (State::Size, b'\r') if self.line > 1 => State::SizeEnd,
            (State::Extension, b'\r') => State::SizeEnd,
            (State::Extension, _) if is_text => State::Extension,
            (State::SizeEnd, b'\n') => {
                self.line = 0;
                match self.left {
                    0 => State::Trailer,
                    _ => State::Data,
                }
            }
            (State::DataEnd, b'\r') => State::DataEndLf,
            (State::DataEndLf, b'\n') => {
                self.line = 0;
                State::Size
            }
            (State::Trailer, b'\r') => State::End,
            (State::Trailer | State::Field, _) if is_text => State::Field,
            (State::Field, b'\r') => State::FieldEnd,
            (State::FieldEnd, b'\n') => {
                self.line = 0;
                State::Trailer
            }
            (State::End, b'\n') => State::Over,
            _ => return Err(IllFormed),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> Result<(usize, bool), IllFormed> {
        let mut chunks = Chunks::default();
        let taken = chunks.read(bytes)?;
        Ok((taken, chunks.is_over()))
    }

    #[test]
    fn a_body_ends_with_its_last_line_and_what_follows_is_not_of_it() {
        for (body, further) in [
            ("0\r\n\r\n", ""),
            ("5\r\nhello\r\n0\r\n\r\n", "GET / HTTP/1.1\r\n"),
            (
                "5;a=\"b\"\r\nhello\r\nA\r\n0123456789\r\n00\r\n\r\n",
                "\r\n",
            ),
            ("1 \r\nx\r\n0\r\nX-T: 1\r\nX-U:\r\n\r\n", "0\r\n\r\n"),
        ] {
            let bytes = format!("{body}{further}");
            assert_eq!(read(bytes.as_bytes()), Ok((body.len(), true)), "{bytes}");
        }
    }

    #[test]
    fn what_readers_may_cut_in_two_ways_is_ill_formed() {
        let (long, large) = ("x".repeat(MAX_LINE_BYTES), "F".repeat(MAX_DIGITS + 1));
        for bytes in [
            "\r\n",
            "\n",
            ";a\r\n",
            " 5\r\n",
            "+5\r\n",
            "0x5\r\n",
            "5\n",
            "5\r5",
            "5;a\nb\r\n",
            "5;a\0\r\n",
            "5\r\nhello!",
            "5\r\nhello\n",
            "5\r\nhello\r0",
            "0\r\n\n",
            "0\r\nX: 1\n",
            "0\r\nX: 1\r\r\n",
            &format!("5;{long}"),
            &format!("0\r\nX: {long}"),
            &format!("{large}\r\n"),
        ] {
            assert_eq!(read(bytes.as_bytes()), Err(IllFormed), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn a_body_is_read_alike_in_whatever_pieces_it_comes(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..6),
            pieces in proptest::collection::vec(1usize..20, 1..8),
        ) {
            let mut body = Vec::new();
            for chunk in &chunks {
                body.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                body.extend_from_slice(chunk);
                body.extend_from_slice(b"\r\n");
            }
            body.extend_from_slice(b"0\r\n\r\n");
            let length = body.len();
            body.extend_from_slice(b"5\r\nGET / ");
            let mut reader = Chunks::default();
            let (mut at, mut pieces) = (0, pieces.into_iter().cycle());
            while !reader.is_over() {
                let end = body.len().min(at + pieces.next().unwrap());
                at += reader.read(&body[at..end]).unwrap();
            }
            prop_assert_eq!(at, length);
            prop_assert_eq!(reader.read(&body[at..]), Ok(0));
        }

        #[test]
        fn no_bytes_make_reading_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
        }
    }
}
