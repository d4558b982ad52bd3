//! How a target is asked, as it is said on the command line.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::TypedValueParser;
use clap::{Args, ValueEnum};

/// Requests per second that a target is asked without more ado.
pub(super) const MAX_RATE: u32 = 100;

/// The same of connections, and of time.
pub(super) const MAX_CONNECTIONS: u16 = 64;
pub(super) const MAX_DURATION: Duration = Duration::from_secs(3600);

/// Who is asked, on whose behalf, for what, and how often.
#[derive(Debug, Args)]
#[group(id = "of_a_target")]
pub(crate) struct Target {
    /// Where to ask: an http or https URL; without a path it is that of intercoms.
    #[arg(long, value_name = "URL", required = true)]
    pub(super) target: String,
    /// Bearer tokens of users of the target, one a line. They are shown nowhere.
    #[arg(long, value_name = "FILE", required = true)]
    pub(super) token_file: PathBuf,
    /// Ids to ask for: a range such as 1-500, or a file with one id a line.
    #[arg(long, value_name = "RANGE|FILE", required = true, value_parser = ids)]
    pub(super) ids: Ids,
    /// Ids in a request.
    #[arg(long, value_name = "COUNT", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(super) batch: u16,
    /// Requests per second; more than 100 need --unbounded.
    #[arg(long, value_name = "PER_SECOND", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(super) rate: u32,
    /// When requests are due: at Poisson times, as those of many phones are, or at steady ones.
    #[arg(long, value_enum, default_value_t = Arrivals::Poisson)]
    pub(super) arrivals: Arrivals,
    /// How long requests are sent; more than an hour needs --unbounded.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration())]
    pub(super) duration: Duration,
    /// End after so many requests, if that is sooner.
    #[arg(long, value_name = "COUNT")]
    pub(super) requests: Option<u64>,
    /// Requests that can be under way at once; more than 64 need --unbounded.
    #[arg(long, value_name = "COUNT", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) connections: u16,
    /// Ask for the first so many tokens only.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) users: Option<u32>,
    /// Devices of each user, which differ in X-UUID.
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) devices: u16,
    /// What X-Client says.
    #[arg(long, value_name = "NAME", default_value = "ios", value_parser = field_value)]
    pub(super) client: String,
    /// A further header field; may be given several times.
    #[arg(long, value_name = "NAME: VALUE", value_parser = field)]
    pub(super) header: Vec<String>,
    /// Begin with another random number: which user asks for what, and when, follows from it.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub(super) seed: u64,
    /// PEM file with the authorities of the target's certificate; left out: the system's.
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    pub(super) ca: Option<PathBuf>,
    /// Ask whoever answers, whatever its certificate: tokens are sent to it.
    #[arg(long)]
    pub(super) insecure: bool,
    /// The target may be asked as much as is said here.
    #[arg(long)]
    pub(super) unbounded: bool,
    /// Where report.json, report.html and report.md are written.
    #[arg(long, value_name = "FOLDER", default_value = "target/load")]
    pub(super) out: PathBuf,
}

/// When requests are due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Arrivals {
    Poisson,
    Steady,
}

/// Which ids are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ids {
    Range(u64, u64),
    File(PathBuf),
}

/// Most ids of a range.
const MAX_IDS: u64 = 1_000_000;

/// More is asked for than a target is asked without more ado.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{what} is more than {most}. If the target is yours, and may be asked as much, say so with --unbounded."
)]
pub(super) struct TooMuch {
    what: String,
    most: String,
}

impl Target {
    /// Whether the target may be asked as much as this.
    pub(super) fn is_bounded(&self) -> Result<(), TooMuch> {
        let too_much = |what: String, most: String| Err(TooMuch { what, most });
        if self.unbounded {
            return Ok(());
        }
        if self.rate > MAX_RATE {
            return too_much(format!("--rate {}", self.rate), MAX_RATE.to_string());
        }
        if self.connections > MAX_CONNECTIONS {
            return too_much(
                format!("--connections {}", self.connections),
                MAX_CONNECTIONS.to_string(),
            );
        }
        if self.duration > MAX_DURATION {
            return too_much(
                format!("--duration {}s", self.duration.as_secs()),
                "1h".to_owned(),
            );
        }
        Ok(())
    }
}

impl fmt::Display for Arrivals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Poisson => "poisson",
            Self::Steady => "steady",
        })
    }
}

/// Whatever is no range is a file.
fn ids(text: &str) -> Result<Ids, String> {
    let range = || {
        let (first, last) = text.split_once('-')?;
        let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
        (1 <= first && first <= last).then_some((first, last))
    };
    match range() {
        None => Ok(Ids::File(PathBuf::from(text))),
        Some((first, last)) if last - first < MAX_IDS => Ok(Ids::Range(first, last)),
        Some(_) => Err(format!("a range may have {MAX_IDS} ids")),
    }
}

fn duration() -> impl TypedValueParser<Value = Duration> {
    clap::builder::StringValueParser::new().try_map(|text| vms_edge::config::duration(&text))
}

fn field(text: &str) -> Result<String, String> {
    let (name, value) = text
        .split_once(':')
        .ok_or("it is not of the form NAME: VALUE")?;
    let name = http::HeaderName::from_bytes(name.as_bytes()).map_err(|error| error.to_string())?;
    if name == http::header::AUTHORIZATION {
        return Err("tokens come from --token-file, where nobody else sees them".to_owned());
    }
    let own = [
        "host",
        "accept",
        "content-type",
        "x-client",
        "x-uuid",
        "connection",
        "content-length",
    ];
    if own.contains(&name.as_str()) || name == http::header::TRANSFER_ENCODING {
        return Err(format!("{name} is set by the generator itself"));
    }
    let value = field_value(value.trim())?;
    Ok(format!("{name}: {value}\r\n"))
}

fn field_value(text: &str) -> Result<String, String> {
    let is_visible = |byte: u8| (b' '..=b'~').contains(&byte);
    match text.bytes().all(is_visible) {
        true => Ok(text.to_owned()),
        false => Err("it has other than visible ASCII characters".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use clap::error::ErrorKind;

    use super::*;
    use crate::cli::Arguments;

    const LEAST: [&str; 6] = [
        "--target",
        "http://127.0.0.1:8080",
        "--token-file",
        "tokens",
        "--ids",
        "1-20",
    ];

    fn target(more: &[&str]) -> Result<Target, clap::Error> {
        let arguments = ["vms-edge-load"].iter().chain(&LEAST).chain(more);
        Arguments::try_parse_from(arguments).map(|arguments| arguments.target.expect("it has one"))
    }

    #[test]
    fn more_than_a_target_should_bear_is_refused_unless_it_is_said_that_it_may_be() {
        for (more, refusal) in [
            (
                &["--rate", "100", "--connections", "64", "--duration", "1h"][..],
                None,
            ),
            (&["--rate", "101"], Some("--rate 101 is more than 100.")),
            (
                &["--connections", "65"],
                Some("--connections 65 is more than 64."),
            ),
            (
                &["--duration", "2h"],
                Some("--duration 7200s is more than 1h."),
            ),
        ] {
            let told = target(more).unwrap().is_bounded().err();
            let told = told.map(|told| told.to_string());
            match refusal {
                None => assert_eq!(told, None),
                Some(refusal) => assert!(told.is_some_and(|told| told.starts_with(refusal))),
            }
            let allowed = [more, &["--unbounded"]].concat();
            assert_eq!(target(&allowed).unwrap().is_bounded(), Ok(()));
        }
    }

    #[test]
    fn a_target_needs_tokens_and_ids_and_a_bench_needs_neither() {
        for left_out in [0, 2, 4] {
            let mut arguments = vec!["vms-edge-load"];
            arguments.extend(&LEAST[..left_out]);
            arguments.extend(&LEAST[left_out + 2..]);
            let error = Arguments::try_parse_from(&arguments).unwrap_err();
            assert_eq!(
                error.kind(),
                ErrorKind::MissingRequiredArgument,
                "{arguments:?}"
            );
        }
        for bench in [
            &["vms-edge-load", "bench", "--quick"][..],
            &["vms-edge-load", "bench", "--only", "hit-10", "tls"],
        ] {
            let arguments = Arguments::try_parse_from(bench).unwrap();
            assert!(arguments.command.is_some() && arguments.target.is_none());
        }
        assert!(Arguments::try_parse_from(["vms-edge-load", "bench", "--only", "hit-11"]).is_err());
        assert!(Arguments::try_parse_from(["vms-edge-load"]).is_err());
    }

    #[test]
    fn a_token_cannot_be_given_where_others_see_it() {
        let error = target(&["--header", "Authorization: Bearer secret"]).unwrap_err();
        assert!(error.to_string().contains("--token-file"));
        for refused in [
            "X-UUID: mine",
            "Nothing",
            "X-Version: \u{7}",
            "Connection: close",
        ] {
            assert!(target(&["--header", refused]).is_err(), "{refused}");
        }
        let header = target(&["--header", "X-Version: 24.03"]).unwrap().header;
        assert_eq!(header, ["x-version: 24.03\r\n"]);
    }

    #[test]
    fn ids_are_a_range_or_a_file() {
        assert_eq!(ids("1-500"), Ok(Ids::Range(1, 500)));
        assert_eq!(ids("7-1000006"), Ok(Ids::Range(7, 1_000_006)));
        for file in ["ids.txt", "my-ids", "5-1", "0-7"] {
            assert_eq!(ids(file), Ok(Ids::File(PathBuf::from(file))));
        }
    }

    #[test]
    fn a_range_without_end_is_refused_before_it_is_made() {
        for range in ["7-1000007", "1-18446744073709551615"] {
            let arguments = ["vms-edge-load"].iter().chain(&LEAST[..5]).chain([&range]);
            let refused = Arguments::try_parse_from(arguments).unwrap_err();
            let refused = refused.to_string();
            assert!(refused.contains("1000000 ids"), "{refused}");
        }
    }

    #[test]
    fn the_readme_tells_what_a_target_is_asked_without_more_ado() {
        let bounds = format!(
            "More than {MAX_RATE} requests per second, {MAX_CONNECTIONS} connections or an hour need `--unbounded`"
        );
        let readme = include_str!("../../../../README.md").replace('\n', " ");
        assert!(readme.contains(&bounds), "{bounds}");
        assert_eq!(MAX_DURATION, Duration::from_secs(3600));
    }
}
