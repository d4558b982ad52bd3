//! A client that speaks raw HTTP/1.1, so that nothing stands between a test and the bytes.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// An answer as it came.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Whether the body ended where its framing says.
    pub(crate) is_complete: bool,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let found = headers.find(|header| header.0.eq_ignore_ascii_case(name));
        found.map(|header| header.1.as_str())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }

    /// The ids of the objects, as they are written.
    pub(crate) fn ids(&self) -> Vec<String> {
        let objects: Vec<serde_json::Value> =
            serde_json::from_slice(&self.body).expect("the body is an array");
        objects
            .iter()
            .map(|object| object["id"].to_string())
            .collect()
    }
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Client {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address)
            .await
            .expect("the stand-in listens");
        Client {
            stream,
            unread: Vec::new(),
        }
    }

    /// Sends a request with the fields as given, and a Host.
    pub(crate) async fn send(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) {
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: vms.local\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        self.write(head.as_bytes()).await;
        self.write(body).await;
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        self.stream
            .write_all(bytes)
            .await
            .expect("the connection is open");
    }

    /// Reads an answer to a request with this method.
    pub(crate) async fn receive(&mut self, method: &str) -> io::Result<Reply> {
        let (status, headers) = self.receive_head().await?;
        let mut reply = Reply {
            status,
            headers,
            body: Vec::new(),
            is_complete: true,
        };
        if method == "HEAD" || matches!(status, 101 | 204 | 304) {
            return Ok(reply);
        }
        if reply.header("transfer-encoding") == Some("chunked") {
            while let Some(chunk) = self.receive_chunk().await? {
                reply.body.extend(chunk);
            }
        } else {
            let length = reply
                .header("content-length")
                .expect("the length is announced");
            let length: usize = length.parse().expect("the length is a number");
            while self.unread.len() < length && self.read_more().await? > 0 {}
            reply.is_complete = self.unread.len() >= length;
            let available = length.min(self.unread.len());
            reply.body = self.unread.drain(..available).collect();
        }
        Ok(reply)
    }

    pub(crate) async fn receive_head(&mut self) -> io::Result<(u16, Vec<(String, String)>)> {
        loop {
            let mut fields = [httparse::EMPTY_HEADER; 64];
            let mut head = httparse::Response::new(&mut fields);
            if let Ok(httparse::Status::Complete(length)) = head.parse(&self.unread) {
                let status = head.code.expect("a complete head has a status");
                let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
                let headers = head.headers.iter();
                let headers = headers.map(|field| (field.name.to_owned(), text(field.value)));
                let head = (status, headers.collect());
                self.unread.drain(..length);
                return Ok(head);
            }
            if self.read_more().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// The next chunk of a chunked body; `None` at its end.
    pub(crate) async fn receive_chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Ok(httparse::Status::Complete((start, size))) =
                httparse::parse_chunk_size(&self.unread)
            {
                let size = usize::try_from(size).expect("a chunk fits into memory");
                if self.unread.len() >= start + size + 2 {
                    let chunk = self.unread[start..start + size].to_vec();
                    self.unread.drain(..start + size + 2);
                    return Ok((size > 0).then_some(chunk));
                }
            }
            if self.read_more().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Exactly so many bytes.
    pub(crate) async fn receive_bytes(&mut self, count: usize) -> Vec<u8> {
        while self.unread.len() < count {
            assert!(
                self.read_more().await.expect("the connection is open") > 0,
                "the connection ended"
            );
        }
        self.unread.drain(..count).collect()
    }

    pub(crate) async fn request(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Reply {
        self.send(method, target, headers, body).await;
        self.receive(method).await.expect("an answer comes")
    }

    async fn read_more(&mut self) -> io::Result<usize> {
        self.stream.read_buf(&mut self.unread).await
    }
}
