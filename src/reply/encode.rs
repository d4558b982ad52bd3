//! Making an answer smaller: gzip, brotli and zstd, at levels where each is at least as small as `gzip -6`; and undoing it.

use std::io::{self, Read, Write};

use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

use crate::config::Coding;

/// Where zlib-ng does as well as zlib on 6: its own 6 looks less far.
const GZIP_LEVEL: u32 = 9;

/// Where brotli begins to look at what comes later; twice the time of what is below, a tenth of what is above.
const BROTLI_QUALITY: i32 = 5;

/// Small answers leave little to be found, and little to look at: the levels below 12 lose to gzip on some of them.
const ZSTD_LEVEL: i32 = 15;

/// What is read of brotli at a time.
const BROTLI_BUFFER_BYTES: usize = 4 << 10;

/// The body in a coding.
///
/// # Errors
///
/// When the encoder fails, which happens only for want of memory.
pub fn encode(coding: Coding, body: &[u8]) -> io::Result<Vec<u8>> {
    match coding {
        Coding::Gzip => {
            let level = flate2::Compression::new(GZIP_LEVEL);
            let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), level);
            encoder.write_all(body)?;
            encoder.finish()
        }
        Coding::Br => {
            let parameters = brotli::enc::BrotliEncoderParams {
                quality: BROTLI_QUALITY,
                mode: brotli::enc::backward_references::BrotliEncoderMode::BROTLI_MODE_TEXT,
                size_hint: body.len(),
                ..Default::default()
            };
            let mut coded = Vec::with_capacity(body.len() / 4);
            brotli::BrotliCompress(&mut &*body, &mut coded, &parameters)?;
            Ok(coded)
        }
        Coding::Zstd => zstd::bulk::compress(body, ZSTD_LEVEL),
    }
}

/// The body without a coding, at most `most` bytes of it.
///
/// # Errors
///
/// When it is not in that coding, or longer.
pub fn decode(coding: Coding, coded: &[u8], most: usize) -> io::Result<Vec<u8>> {
    let mut decoder: Box<dyn Read> = match coding {
        Coding::Gzip => Box::new(GzDecoder::new(coded)),
        Coding::Br => Box::new(brotli::Decompressor::new(coded, BROTLI_BUFFER_BYTES)),
        Coding::Zstd => Box::new(zstd::Decoder::new(coded)?),
    };
    let mut body = Vec::new();
    let length = decoder
        .by_ref()
        .take(most as u64 + 1)
        .read_to_end(&mut body)?;
    match length > most {
        true => Err(io::ErrorKind::FileTooLarge.into()),
        false => Ok(body),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    pub(crate) fn decoded(coding: Coding, coded: &[u8]) -> Vec<u8> {
        decode(coding, coded, 1 << 24).unwrap()
    }

    #[test]
    fn what_is_longer_than_it_may_be_is_given_up_and_so_is_what_is_in_no_coding() {
        for coding in Coding::ALL {
            let coded = encode(coding, &[b'a'; 1_000]).unwrap();
            assert_eq!(decode(coding, &coded, 1_000).unwrap(), [b'a'; 1_000]);
            assert!(decode(coding, &coded, 999).is_err(), "{coding}");
            assert!(decode(coding, b"[{\"id\":1}]", 1_000).is_err(), "{coding}");
        }
    }

    proptest! {
        #[test]
        fn what_is_decoded_is_what_was_encoded(
            coding in select(Coding::ALL.to_vec()), body in proptest::collection::vec(any::<u8>(), 0..3_000),
            text in "([a-c\"{}:,]{0,40}){0,40}",
        ) {
            for body in [body, text.into_bytes()] {
                prop_assert_eq!(decoded(coding, &encode(coding, &body).unwrap()), body);
            }
        }
    }
}
