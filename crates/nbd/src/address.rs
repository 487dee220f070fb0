//! Where a server is.

use std::fmt;

/// The port when none is given.
pub(crate) const PORT_DEFAULT: &str = "10809";

/// The address of a server. QEMU: `SocketAddress` (qapi/sockets.json).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// A host in a network.
    Inet(InetAddress),
    /// A socket in the file system.
    Unix(String),
    /// A socket in the abstract name space of Linux; `tight` leaves out the zeros behind the name.
    Abstract { name: String, tight: bool },
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InetAddress {
    /// Name or number.
    pub(crate) host: String,
    /// A number.
    pub(crate) port: String,
    /// Whether IPv4 may be used, if the user said anything.
    pub(crate) ipv4: Option<bool>,
    /// Whether IPv6 may be used, if the user said anything.
    pub(crate) ipv6: Option<bool>,
    /// Whether the kernel looks from time to time if the server is still there, if the user said anything.
    pub(crate) keep_alive: Option<bool>,
}

impl InetAddress {
    /// An address without wishes.
    pub(crate) fn new(host: impl Into<String>, port: impl Into<String>) -> Self {
        Self { host: host.into(), port: port.into(), ipv4: None, ipv6: None, keep_alive: None }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(inet) => write!(f, "{}:{}", inet.host, inet.port),
            Self::Unix(path) => f.write_str(path),
            Self::Abstract { name, .. } => f.write_str(name),
        }
    }
}

impl Address {
    /// The name of an export there as the reference prints it; none if no name can say it.
    ///
    /// QEMU: `nbd_refresh_filename` (block/nbd.c).
    pub(crate) fn canonical_name(&self, export: Option<&str>) -> Option<String> {
        /// The reference's names end before this many bytes.
        const NAME_MAX: usize = 4096;
        let name = match (self, export) {
            (Self::Unix(path) | Self::Abstract { name: path, .. }, Some(export)) => {
                format!("nbd+unix:///{export}?socket={path}")
            }
            (Self::Unix(path) | Self::Abstract { name: path, .. }, None) => format!("nbd+unix://?socket={path}"),
            (Self::Inet(inet), _) if inet.ipv4.is_some() || inet.ipv6.is_some() => return None,
            (Self::Inet(inet), Some(export)) => format!("nbd://{}:{}/{export}", inet.host, inet.port),
            (Self::Inet(inet), None) => format!("nbd://{}:{}", inet.host, inet.port),
        };
        (name.len() < NAME_MAX).then_some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_reference() {
        let unix = Address::Unix("/run/s".to_owned());
        assert_eq!(unix.canonical_name(None).as_deref(), Some("nbd+unix://?socket=/run/s"));
        assert_eq!(unix.canonical_name(Some("")).as_deref(), Some("nbd+unix:///?socket=/run/s"));
        assert_eq!(unix.canonical_name(Some("e p")).as_deref(), Some("nbd+unix:///e p?socket=/run/s"));
        let inet = InetAddress::new("h", "10809");
        assert_eq!(Address::Inet(inet.clone()).canonical_name(Some("x")).as_deref(), Some("nbd://h:10809/x"));
        assert_eq!(Address::Inet(inet.clone()).canonical_name(None).as_deref(), Some("nbd://h:10809"));
        let limited = InetAddress { ipv4: Some(true), ..inet };
        assert_eq!(Address::Inet(limited).canonical_name(None), None);
        assert_eq!(unix.canonical_name(Some(&"x".repeat(4096))), None);
    }
}
