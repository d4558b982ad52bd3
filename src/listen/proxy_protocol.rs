//! The PROXY protocol, versions 1 and 2: the client's address, told by the proxy before the first byte of the client's own.
//!
//! Exactly the header is taken from the stream; what follows is left for whoever reads next. The header itself is parsed by
//! the crate `proxy-header`: it has no dependencies, takes both versions from a slice, and says when it lacks bytes.

use std::io;
use std::net::SocketAddr;

use proxy_header::{ParseConfig, Protocol, ProxyHeader};
use tokio::io::{AsyncRead, AsyncReadExt};

/// The first bytes of version 2.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// The longest line of version 1, with its end.
const MAX_LINE_BYTES: usize = 107;

/// The longest header of version 2 that is read: addresses, and the additions that proxies are known to make.
const MAX_BINARY_BYTES: usize = 4 << 10;

/// Why there is no header.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoHeader {
    /// What came is none.
    #[error("no valid PROXY header")]
    Invalid,
    /// Nothing more came.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// For whom a proxy speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaker {
    /// For a client at this address.
    Client(SocketAddr),
    /// For a client, and it does not say for which: that may be anybody.
    Anybody,
    /// For itself, as when it looks whether the edge is there.
    Itself,
}

/// Reads the header.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Speaker, NoHeader> {
    // Each of the two is longer.
    let mut header = vec![0; SIGNATURE.len()];
    stream.read_exact(&mut header).await?;
    if header == SIGNATURE {
        header.resize(16, 0);
        stream.read_exact(&mut header[12..]).await?;
        let length = usize::from(u16::from_be_bytes([header[14], header[15]]));
        if length > MAX_BINARY_BYTES {
            return Err(NoHeader::Invalid);
        }
        header.resize(16 + length, 0);
        stream.read_exact(&mut header[16..]).await?;
    } else if header.starts_with(b"PROXY ") {
        while !header.ends_with(b"\r\n") {
            if header.len() == MAX_LINE_BYTES {
                return Err(NoHeader::Invalid);
            }
            header.push(stream.read_u8().await?);
        }
    } else {
        return Err(NoHeader::Invalid);
    }
    client(&header)
}

fn client(header: &[u8]) -> Result<Speaker, NoHeader> {
    let (parsed, length) =
        ProxyHeader::parse(header, ParseConfig::default()).map_err(|_| NoHeader::Invalid)?;
    if length != header.len() {
        return Err(NoHeader::Invalid);
    }
    // The command of version 2 is LOCAL; version 1 has none.
    let is_local = header.starts_with(SIGNATURE) && header[12] & 0x0f == 0;
    match parsed.proxied_address() {
        _ if is_local => Ok(Speaker::Itself),
        None => Ok(Speaker::Anybody),
        Some(address) if address.protocol == Protocol::Stream => {
            Ok(Speaker::Client(address.source))
        }
        Some(_) => Err(NoHeader::Invalid),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proxy_header::ProxiedAddress;

    use super::*;

    /// For whom the proxy speaks, and what is left for the next reader.
    fn read_from(bytes: &[u8]) -> Result<(Speaker, Vec<u8>), NoHeader> {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.build().unwrap();
        let mut left = bytes;
        let speaker = runtime.block_on(read(&mut left))?;
        Ok((speaker, left.to_vec()))
    }

    fn v2(header: &ProxyHeader<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        header.encode_v2(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn both_versions_tell_the_client_and_leave_what_follows() {
        let (client, edge) = ("192.0.2.7:4711", "198.51.100.1:443");
        let address = ProxiedAddress::stream(client.parse().unwrap(), edge.parse().unwrap());
        let line = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n".to_vec();
        for header in [line, v2(&ProxyHeader::with_address(address))] {
            let (told, left) = read_from(&[&header, &b"GET / HTTP/1.1\r\n"[..]].concat()).unwrap();
            assert_eq!(told, Speaker::Client(client.parse().unwrap()));
            assert_eq!(left, b"GET / HTTP/1.1\r\n");
        }
    }

    #[test]
    fn a_proxy_that_speaks_for_itself_is_told_from_one_that_does_not_say_for_whom() {
        let mut unspecified = SIGNATURE.to_vec();
        unspecified.extend([0x21, 0, 0, 0]);
        for (header, speaker) in [
            (b"PROXY UNKNOWN\r\n".to_vec(), Speaker::Anybody),
            (
                b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(),
                Speaker::Anybody,
            ),
            (unspecified, Speaker::Anybody),
            (v2(&ProxyHeader::with_local()), Speaker::Itself),
        ] {
            assert_eq!(read_from(&header).unwrap(), (speaker, Vec::new()));
        }
    }

    #[test]
    fn what_is_no_header_is_refused_and_read_no_further_than_a_header_goes() {
        let mut long = SIGNATURE.to_vec();
        long.extend([0x21, 0x11, 0xff, 0xff]);
        for bytes in [
            &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
            b"PROXY TCP4 192.0.2.7 198.51.100.1 4711\r\n....",
            b"PROXY TCP4 192.0.2.300 198.51.100.1 4711 443\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00",
            &[&b"PROXY "[..], &[b'x'; 200]].concat(),
            &long,
        ] {
            let refused = matches!(read_from(bytes), Err(NoHeader::Invalid));
            assert!(refused, "{}", bytes.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn a_header_that_is_cut_off_is_never_taken_for_one(at in 0..28_usize) {
            let addresses = ("192.0.2.7:1".parse().unwrap(), "198.51.100.1:2".parse().unwrap());
            let header = v2(&ProxyHeader::with_address(ProxiedAddress::stream(addresses.0, addresses.1)));
            prop_assert!(matches!(read_from(&header[..at]), Err(NoHeader::Io(_))));
        }

        #[test]
        fn no_bytes_are_too_odd(bytes in prop::collection::vec(any::<u8>(), 0..300), version in 0..3_u8) {
            let start = [&SIGNATURE[..], b"PROXY ", b""][usize::from(version)];
            drop(read_from(&[start, &bytes].concat()));
        }
    }
}
