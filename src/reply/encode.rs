//! Making an answer smaller: gzip, brotli and zstd, at levels where each is at least as small as `gzip -6`.

use std::io::{self, Write};

use flate2::write::GzEncoder;

use crate::config::Coding;

/// Where zlib-ng does as well as zlib on 6: its own 6 looks less far.
const GZIP_LEVEL: u32 = 9;

/// Where brotli begins to look at what comes later; twice the time of what is below, a tenth of what is above.
const BROTLI_QUALITY: i32 = 5;

/// Small answers leave little to be found, and little to look at: the levels below 12 lose to gzip on some of them.
const ZSTD_LEVEL: i32 = 15;

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

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Read;

    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    pub(crate) fn decoded(coding: Coding, coded: &[u8]) -> Vec<u8> {
        let mut body = Vec::new();
        match coding {
            Coding::Gzip => {
                let mut decoder = flate2::read::GzDecoder::new(coded);
                decoder.read_to_end(&mut body).unwrap();
            }
            Coding::Br => {
                brotli::BrotliDecompress(&mut &*coded, &mut body).unwrap();
            }
            Coding::Zstd => body = zstd::decode_all(coded).unwrap(),
        }
        body
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
