//! The options for whoever monitors: `metrics=`, `metrics_file=`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use super::{OptionError, set};

/// To whom what is counted is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publish {
    /// Over HTTP, to who asks there; `None`: to nobody.
    pub http: Option<SocketAddr>,
    /// In this file; `None`: in none.
    pub file: Option<PathBuf>,
}

/// What has been read so far; `None` is "not given".
#[derive(Default)]
pub(super) struct Given {
    http: Option<Option<SocketAddr>>,
    file: Option<PathBuf>,
}

impl Given {
    pub(super) fn take(&mut self, name: &'static str, text: &str) -> Result<(), OptionError> {
        match name {
            "metrics" => set(&mut self.http, name, text, address),
            _ => set(&mut self.file, name, text, file),
        }
    }

    pub(super) fn finish(self) -> Publish {
        Publish {
            http: self.http.flatten(),
            file: self.file,
        }
    }
}

/// A port alone is one of this host's, for this host alone.
fn address(text: &str) -> Result<Option<SocketAddr>, String> {
    if text == "off" {
        return Ok(None);
    }
    let port = text.strip_prefix(':').unwrap_or(text).parse::<u16>();
    let local = port.map(|port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    match local.or_else(|_| text.parse::<SocketAddr>()) {
        Ok(address) if address.port() != 0 => Ok(Some(address)),
        _ => Err(
            "write a port, or an address and a port, such as 9101, 10.0.0.7:9101 or [::]:9101"
                .to_owned(),
        ),
    }
}

fn file(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    match path.is_absolute() && path.extension().is_some_and(|end| end == "prom") {
        true => Ok(path),
        false => Err(
            "must be a path from / on that ends in .prom, as node_exporter reads no other"
                .to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("9101", Some("127.0.0.1:9101"))]
    #[case(":9101", Some("127.0.0.1:9101"))]
    #[case("10.0.0.7:9101", Some("10.0.0.7:9101"))]
    #[case("0.0.0.0:1", Some("0.0.0.0:1"))]
    #[case("[::]:9101", Some("[::]:9101"))]
    #[case("off", None)]
    fn an_address_is_loopback_unless_told(#[case] text: &str, #[case] expected: Option<&str>) {
        let expected = expected.map(|text| text.parse().expect("an address"));
        assert_eq!(address(text), Ok(expected));
    }

    #[rstest]
    #[case("metrics", "0")]
    #[case("metrics", "70000")]
    #[case("metrics", "localhost:9101")]
    #[case("metrics", "10.0.0.7")]
    #[case("metrics", "on")]
    #[case("metrics_file", "x.prom")]
    #[case("metrics_file", "/var/lib/x.txt")]
    #[case("metrics_file", "/")]
    fn what_does_not_serve_is_told(#[case] name: &'static str, #[case] text: &str) {
        let error = Given::default().take(name, text).expect_err("refused");
        assert!(
            error.to_string().starts_with(&format!("{name}={text}: ")),
            "{error}"
        );
    }
}
