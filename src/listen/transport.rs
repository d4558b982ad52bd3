//! What carries a connection's bytes: its socket, or TLS on it.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use pingora_core::protocols::tls::{SslDigest, TlsRef, TlsStream};
use pingora_core::protocols::{
    ALPN, GetSocketDigest, GetTimingDigest, SocketDigest, Ssl, TimingDigest, UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::socket::Socket;

/// Most bytes that a record of TLS protects (RFC 8446, 5.1).
const RECORD_BYTES: usize = 16 << 10;

/// What carries a connection's bytes.
#[derive(Debug)]
pub(super) enum Transport {
    /// As they are.
    Plain(Socket),
    /// Protected.
    Tls(Box<TlsStream<Socket>>),
}

/// Does the same with either.
macro_rules! either {
    ($transport:expr, $io:ident => $action:expr) => {
        match $transport {
            Transport::Plain($io) => $action,
            Transport::Tls($io) => $action,
        }
    };
}

impl Transport {
    /// Whether it is protected.
    pub(super) fn is_protected(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Sends an answer. Nothing else is unsent.
    ///
    /// # Errors
    ///
    /// When the client is gone.
    pub(super) async fn send(&mut self, head: &[u8], body: &[u8]) -> io::Result<()> {
        match self {
            Transport::Plain(socket) => {
                let (mut head, mut body) = (head, body);
                while !head.is_empty() || !body.is_empty() {
                    let pieces = [IoSlice::new(head), IoSlice::new(body)];
                    let sent = poll_fn(|cx| socket.poll_send_with(cx, &pieces)).await?;
                    let of_head = sent.min(head.len());
                    head = &head[of_head..];
                    body = &body[sent - of_head..];
                }
                Ok(())
            }
            Transport::Tls(stream) => {
                // The first record is filled, so that there are as few as can be.
                let of_body = body.len().min(RECORD_BYTES.saturating_sub(head.len()));
                let (with_head, rest) = body.split_at(of_body);
                stream.write_all(&[head, with_head].concat()).await?;
                stream.write_all(rest).await?;
                stream.flush().await
            }
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        either!(self.get_mut(), io => Pin::new(io).poll_read(cx, buffer))
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), io => Pin::new(io).poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), io => Pin::new(io).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), io => Pin::new(io).poll_shutdown(cx))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), io => Pin::new(io).poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        either!(self, io => io.is_write_vectored())
    }
}

impl UniqueID for Transport {
    fn id(&self) -> UniqueIDType {
        either!(self, io => io.id())
    }
}

impl Ssl for Transport {
    fn get_ssl(&self) -> Option<&TlsRef> {
        either!(self, io => io.get_ssl())
    }

    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        either!(self, io => io.get_ssl_digest())
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        either!(self, io => io.selected_alpn_proto())
    }
}

impl GetTimingDigest for Transport {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        either!(self, io => io.get_timing_digest())
    }
}

impl GetSocketDigest for Transport {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        either!(self, io => io.get_socket_digest())
    }
}
