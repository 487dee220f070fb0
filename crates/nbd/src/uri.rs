//! URIs, as far as names of exports need them.
//!
//! QEMU uses GLib's parser; names that it refuses are refused here, too.

/// The parts of `scheme://host:port/path?query`, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Uri {
    /// What stands before `://`.
    pub(crate) scheme: String,
    /// The host without brackets; none when it is empty.
    pub(crate) host: Option<String>,
    /// The port, if there is one.
    pub(crate) port: Option<u16>,
    /// The path with its first slash.
    pub(crate) path: String,
    /// What stands behind the question mark, decoded once.
    pub(crate) query: Option<String>,
}

impl Uri {
    /// Parses `text`; none when it is not a URI.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let rest = rest.split_once('#').map_or(rest, |(rest, _fragment)| rest);
        let (rest, query) = match rest.split_once('?') {
            Some((rest, query)) => (rest, Some(decode(query)?)),
            None => (rest, None),
        };
        let path_at = rest.find('/').unwrap_or(rest.len());
        let (authority, path) = rest.split_at(path_at);
        let place = authority.rsplit_once('@').map_or(authority, |(_user, place)| place);
        let (host, port) = split_place(place)?;
        let host = decode(host)?;
        let port = match port {
            None | Some("") => None,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(digits.parse().ok()?),
            Some(_) => return None,
        };
        let host = (!host.is_empty()).then_some(host);
        Some(Self { scheme: scheme.to_owned(), host, port, path: decode(path)?, query })
    }

    /// The parameters in the query, which are decoded a second time; none when one is malformed.
    pub(crate) fn parameters(&self) -> Option<Vec<(String, String)>> {
        let parts = self.query.iter().flat_map(|query| query.split('&')).filter(|part| !part.is_empty());
        parts.map(|part| part.split_once('=').and_then(|(key, value)| Some((decode(key)?, decode(value)?)))).collect()
    }
}

/// Host and port; the host may be a number of IPv6 in brackets.
fn split_place(place: &str) -> Option<(&str, Option<&str>)> {
    let Some(rest) = place.strip_prefix('[') else {
        return Some(match place.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        });
    };
    let (host, rest) = rest.split_once(']')?;
    match rest.strip_prefix(':') {
        Some(port) => Some((host, Some(port))),
        None if rest.is_empty() => Some((host, None)),
        None => None,
    }
}

/// Replaces `%41` and the like; none for what is no such number, for a zero byte, and for what is no text.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        let digits = std::str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'))?;
        let byte = u8::from_str_radix(digits, 16).ok().filter(|byte| *byte != 0)?;
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Uri {
        Uri::parse(text).expect(text)
    }

    #[test]
    fn the_parts_are_found() {
        let found = uri("nbd://user@host:10/a/b%20c?x=y#z");
        assert_eq!((found.scheme.as_str(), found.host.as_deref(), found.port), ("nbd", Some("host"), Some(10)));
        assert_eq!((found.path.as_str(), found.query.as_deref()), ("/a/b c", Some("x=y")));
        assert_eq!(uri("nbd://[::1]:7").host.as_deref(), Some("::1"));
        assert_eq!(uri("nbd+unix://?socket=s").path, "");
        assert_eq!(uri("nbd://h:/").port, None);
    }

    #[test]
    fn parameters_are_decoded_twice() {
        let parameters = |text| uri(text).parameters();
        assert_eq!(parameters("nbd+unix:///?socket=%2572"), Some(vec![("socket".to_owned(), "r".to_owned())]));
        assert_eq!(parameters("nbd+unix:///?socket"), None);
        assert_eq!(parameters("nbd+unix:///").map(|found| found.len()), Some(0));
    }

    #[test]
    fn what_is_no_uri_is_refused() {
        for text in ["nbd:h", "nbd://h:x/", "nbd://h:99999/", "nbd://h/%", "nbd://h/%zz", "nbd://h/%00", "nbd://[::1"] {
            assert_eq!(Uri::parse(text), None, "{text}");
        }
    }
}
