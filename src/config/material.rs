//! The files that the configuration names: certificate authorities, tokens, and what can be wrong with them.
//!
//! No message from here quotes what was in a file. The admin listener's token itself is not kept (see [`Token`]); those of
//! test users are, since they are sent (see [`UserToken`]).

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use bytes::Bytes;
use http::HeaderValue;
use pingora_core::tls::{CertificateDer, RootCertStore};
use rustls_pki_types::pem::PemObject;

/// Most bytes read from any file: far more than a system's whole bundle of authorities, far less than a wrong path
/// such as a disk image or `/dev/zero`.
const MAX_FILE_BYTES: u64 = 4 << 20;
/// A shorter token could be guessed.
const MIN_TOKEN_CHARACTERS: usize = 16;
/// A longer one would not fit a request's header in common clients.
const MAX_TOKEN_CHARACTERS: usize = 1024;
/// A request with a longer one is not understood.
const MAX_USER_TOKEN_CHARACTERS: usize = 8 << 10;

/// Why a file that the configuration names is of no use. Reads on after the file's name.
#[derive(Debug, thiserror::Error)]
pub enum MaterialError {
    /// Missing, a directory, not permitted …
    #[error("cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// Larger than any sensible file of its kind.
    #[error("is larger than 4MiB")]
    TooLarge,
    /// No certificate in the file.
    #[error("holds no PEM certificate")]
    NoCertificate,
    /// One certificate, counted from 1, is damaged.
    #[error("holds a certificate that cannot be parsed, number {number}: {reason}")]
    BadCertificate {
        /// Which one, from 1.
        number: usize,
        /// In the parser's words.
        reason: String,
    },
    /// No key in the file.
    #[error("holds no PEM private key")]
    NoKey,
    /// A key that is damaged, encrypted, or of a kind that is not used any more.
    #[error(
        "holds a private key that cannot be used; RSA, ECDSA on P-256 and P-384, and Ed25519 can"
    )]
    BadKey,
    /// Not the key of the certificate beside it.
    #[error("holds the key of another certificate")]
    OtherKey,
    /// Nothing in the token's file.
    #[error("is empty")]
    NoToken,
    /// More than one line in the token's file.
    #[error("holds more than one line")]
    TokenLines,
    /// Characters that cannot be sent in an Authorization header.
    #[error("holds a token with spaces or other characters than visible ASCII")]
    TokenCharacters,
    /// Characters that do not make one plain token for every reader.
    #[error("holds a token with a comma, spaces or other characters than visible ASCII")]
    UserTokenCharacters,
    /// Too short or too long.
    #[error("holds a token of {0} characters")]
    TokenLength(usize),
}

/// The admin listener's secret.
///
/// Only a digest is kept, so neither a log line nor a memory dump can show the token.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(blake3::Hash);

impl Token {
    /// Checks that `text` can serve as a token: 16 to 1024 visible ASCII characters.
    pub fn new(text: &str) -> Result<Self, MaterialError> {
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(MaterialError::TokenCharacters);
        }
        if !(MIN_TOKEN_CHARACTERS..=MAX_TOKEN_CHARACTERS).contains(&text.len()) {
            return Err(MaterialError::TokenLength(text.len()));
        }
        Ok(Self(blake3::hash(text.as_bytes())))
    }

    /// Whether `offered` is this token, in time that tells nothing about where they differ.
    pub fn matches(&self, offered: &[u8]) -> bool {
        // Equality of blake3 hashes is constant-time.
        self.0 == blake3::hash(offered)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(********)")
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("********")
    }
}

/// A test user's secret, as it is sent to the VMS. Nothing shows it but [`UserToken::authorization`].
#[derive(Clone, PartialEq, Eq)]
pub struct UserToken(HeaderValue);

impl UserToken {
    /// The field by which it is sent; marked as sensitive, so that it is not shown either.
    pub fn authorization(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl fmt::Debug for UserToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UserToken(********)")
    }
}

/// Reads a whole file, within bounds.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, MaterialError> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(MaterialError::TooLarge);
    }
    Ok(bytes)
}

/// Reads the certificates of a PEM file: at least one, each fit to be an authority. Other PEM sections are skipped.
pub fn read_authorities(path: &Path) -> Result<Vec<CertificateDer<'static>>, MaterialError> {
    let pem = read(path)?;
    let mut authorities = Vec::new();
    // A store that is thrown away: adding to it is what parses the certificate inside the PEM.
    let mut store = RootCertStore::empty();
    for (index, certificate) in CertificateDer::pem_slice_iter(&pem).enumerate() {
        let bad = |reason: String| MaterialError::BadCertificate {
            number: index + 1,
            reason,
        };
        let certificate = certificate.map_err(|error| bad(error.to_string()))?;
        store
            .add(certificate.clone())
            .map_err(|error| bad(error.to_string()))?;
        authorities.push(certificate);
    }
    if authorities.is_empty() {
        return Err(MaterialError::NoCertificate);
    }
    Ok(authorities)
}

/// Reads a token: one line, with or without a line break at its end.
pub(super) fn read_token(path: &Path) -> Result<Token, MaterialError> {
    let bytes = read(path)?;
    Token::new(str::from_utf8(line(&bytes)?).map_err(|_| MaterialError::TokenCharacters)?)
}

/// Reads the token of a test user, in the same form.
pub(super) fn read_user_token(path: &Path) -> Result<UserToken, MaterialError> {
    let bytes = read(path)?;
    let token = line(&bytes)?;
    let is_plain = |byte: &u8| byte.is_ascii_graphic() && *byte != b',';
    if !token.iter().all(is_plain) {
        return Err(MaterialError::UserTokenCharacters);
    }
    if token.len() > MAX_USER_TOKEN_CHARACTERS {
        return Err(MaterialError::TokenLength(token.len()));
    }
    let field = [b"Bearer ", token].concat();
    let field = HeaderValue::from_maybe_shared(Bytes::from(field));
    let mut field = field.map_err(|_| MaterialError::UserTokenCharacters)?;
    field.set_sensitive(true);
    Ok(UserToken(field))
}

/// The one line of a file.
fn line(bytes: &[u8]) -> Result<&[u8], MaterialError> {
    let line = bytes
        .strip_suffix(b"\n")
        .map_or(bytes, |line| line.strip_suffix(b"\r").unwrap_or(line));
    if line.is_empty() {
        return Err(MaterialError::NoToken);
    }
    if line.contains(&b'\n') {
        return Err(MaterialError::TokenLines);
    }
    Ok(line)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use tempfile::TempDir;

    use super::*;

    fn file(directory: &TempDir, content: impl AsRef<[u8]>) -> PathBuf {
        let path = directory.path().join("file");
        std::fs::write(&path, content).unwrap();
        path
    }

    fn certificate() -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["vms.local".to_owned()]).unwrap();
        params.self_signed(&key).unwrap().pem()
    }

    #[test]
    fn a_token_is_held_and_compared_as_a_digest_only() {
        const TEXT: &str = "0123456789abcdef";
        let token = Token::new(TEXT).unwrap();
        assert!(token.matches(TEXT.as_bytes()));
        for at in 0..TEXT.len() {
            let mut other = TEXT.as_bytes().to_vec();
            other[at] ^= 1;
            assert!(!token.matches(&other), "{at}");
            assert!(!token.matches(&TEXT.as_bytes()[..at]), "{at}");
        }
        assert!(!token.matches(format!("{TEXT}0").as_bytes()));
        // Whose equality takes the same time wherever two differ, which that of its bytes, or of the texts, would not.
        let Token(digest) = token;
        let digest: blake3::Hash = digest;
        assert_eq!(digest, blake3::hash(TEXT.as_bytes()));
        assert_eq!(size_of::<Token>(), blake3::OUT_LEN);
    }

    #[test]
    fn all_certificates_of_a_bundle_are_read() {
        let directory = TempDir::new().unwrap();
        let path = file(&directory, certificate() + &certificate());
        assert_eq!(read_authorities(&path).unwrap().len(), 2);
    }

    #[test]
    fn a_bundle_says_which_certificate_is_damaged() {
        let directory = TempDir::new().unwrap();
        let damaged = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let path = file(&directory, certificate() + damaged);
        let error = read_authorities(&path).unwrap_err().to_string();
        assert!(
            error.starts_with("holds a certificate that cannot be parsed, number 2: "),
            "{error}"
        );
    }

    #[test]
    fn a_key_is_not_an_authority() {
        let directory = TempDir::new().unwrap();
        let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
        let error = read_authorities(&file(&directory, key)).unwrap_err();
        assert_eq!(error.to_string(), "holds no PEM certificate");
    }

    #[test]
    fn a_token_may_end_with_a_line_break() {
        let directory = TempDir::new().unwrap();
        for end in ["", "\n", "\r\n"] {
            let path = file(&directory, format!("0123456789abcdef{end}"));
            let token = read_token(&path).unwrap();
            assert!(token.matches(b"0123456789abcdef"));
            assert!(!token.matches(b"0123456789abcdeX"));
        }
    }

    #[test]
    fn an_unfit_token_is_refused_without_being_quoted() {
        let directory = TempDir::new().unwrap();
        for (content, message) in [
            ("", "is empty"),
            ("\n", "is empty"),
            ("0123456789abcdef\n\n", "holds more than one line"),
            ("0123456789abcdef\nx", "holds more than one line"),
            (
                "0123456789 abcdef",
                "holds a token with spaces or other characters than visible ASCII",
            ),
            ("0123456789abcde", "holds a token of 15 characters"),
        ] {
            let error = read_token(&file(&directory, content)).unwrap_err();
            assert_eq!(error.to_string(), message);
        }
    }

    #[test]
    fn a_token_never_shows_itself() {
        let token = Token::new("correct-horse-battery").unwrap();
        assert_eq!(format!("{token} {token:?}"), "******** Token(********)");
    }

    #[test]
    fn a_users_token_is_sent_and_not_shown() {
        let directory = TempDir::new().unwrap();
        let token = read_user_token(&file(&directory, "tok-1-ios\n")).unwrap();
        assert_eq!(token.authorization(), "Bearer tok-1-ios");
        let shown = format!("{token:?} {:?}", token.authorization());
        assert_eq!(shown, "UserToken(********) Sensitive");
    }

    #[test]
    fn a_file_without_end_is_not_read_to_its_end() {
        let error = read(Path::new("/dev/zero")).unwrap_err();
        assert_eq!(error.to_string(), "is larger than 4MiB");
    }
}
