//! The end of a connection whose client is refused: told why, and waited for.
//!
//! One that is closed while input is unread is reset, and its client may then never see the answer.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::reply::error::EdgeError;

/// Longest wait for a client to read why, and to end the connection.
const LINGER: Duration = Duration::from_secs(1);

/// Tells a client why it is refused, and waits for it.
pub(super) async fn tell(mut stream: impl AsyncRead + AsyncWrite + Unpin, error: &EdgeError) {
    let told = async {
        stream.write_all(&error.last_answer()).await?;
        wait_for(&mut stream).await
    };
    // A client that takes nothing, or goes on sending, loses it.
    let _ = timeout(LINGER, told).await;
}

/// Waits for a client that was told.
pub(super) async fn linger(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let _ = timeout(LINGER, wait_for(&mut stream)).await;
}

async fn wait_for(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<()> {
    stream.shutdown().await?;
    let mut unread = [0; 1024];
    while stream.read(&mut unread).await? > 0 {}
    Ok(())
}
