//! Names of exports: `nbd://host:port/export`, `nbd+unix:///export?socket=path`, `nbd:host:port:exportname=export`.
//!
//! QEMU: `nbd_parse_filename` (block/nbd.c), `inet_parse` (util/qemu-sockets.c).

use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_block::options::Options;

use crate::address::PORT_DEFAULT;
use crate::uri::Uri;

/// What precedes the export in a name that is no URI.
const EXPORT_MARK: &str = ":exportname=";

/// Options that say the same as a name.
const PLACES: [&str; 4] = ["host", "port", "path", "export"];

/// Adds the options that `name` stands for.
///
/// # Errors
/// `InvalidArgument` when the name says nothing, or `options` say where the server is, too.
pub(crate) fn add_options(name: &str, options: &mut Options) -> Result<()> {
    if let Some(key) = options.keys().find(|key| PLACES.contains(key) || key.starts_with("server.")) {
        return Err(invalid(format!("Option '{key}' cannot be used with a file name")));
    }
    if name.contains("://") {
        return add_uri(name, options).ok_or_else(|| invalid("No valid URL specified"));
    }
    let (place, export) = match name.split_once(EXPORT_MARK) {
        // The reference takes a name with an empty export for no name at all.
        Some((_, "")) => return Ok(()),
        Some((place, export)) => (place, Some(export)),
        None => (name, None),
    };
    if let Some(export) = export {
        options.set("export", export);
    }
    let Some(place) = place.strip_prefix("nbd:") else {
        return Err(invalid("File name string for NBD must start with 'nbd:'"));
    };
    if let Some(path) = place.strip_prefix("unix:") {
        options.set("server.type", "unix");
        options.set("server.path", path);
    } else if !place.is_empty() {
        add_inet(place, options).ok_or_else(|| invalid(format!("error parsing address '{place}'")))?;
    }
    Ok(())
}

fn add_uri(name: &str, options: &mut Options) -> Option<()> {
    let uri = Uri::parse(name)?;
    let is_unix = match uri.scheme.as_str() {
        "nbd" | "nbd+tcp" => false,
        "nbd+unix" => true,
        _ => return None,
    };
    let export = uri.path.strip_prefix('/').unwrap_or(&uri.path);
    if !export.is_empty() {
        options.set("export", export);
    }
    let parameters = uri.parameters()?;
    if !is_unix {
        if !parameters.is_empty() {
            return None;
        }
        options.set("server.type", "inet");
        options.set("server.host", uri.host?);
        let port = uri.port.filter(|port| *port > 0);
        options.set("server.port", port.map_or_else(|| PORT_DEFAULT.to_owned(), |port| port.to_string()));
        return Some(());
    }
    match parameters.as_slice() {
        [(key, path)] if key == "socket" && uri.host.is_none() && uri.port.is_none() => {
            options.set("server.type", "unix");
            options.set("server.path", path.as_str());
            Some(())
        }
        _ => None,
    }
}

/// `host:port`, perhaps with options behind a comma.
fn add_inet(place: &str, options: &mut Options) -> Option<()> {
    let (address, wishes) = place.split_once(',').map_or((place, ""), |(address, wishes)| (address, wishes));
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => rest.split_once("]:")?,
        None => address.split_once(':')?,
    };
    if port.is_empty() {
        return None;
    }
    options.set("server.type", "inet");
    options.set("server.host", host);
    options.set("server.port", port);
    for wish in wishes.split(',').filter(|wish| !wish.is_empty()) {
        let (key, value) = wish.split_once('=').unwrap_or((wish, "on"));
        if !matches!((key, value), ("ipv4" | "ipv6" | "keep-alive", "on" | "off")) {
            return None;
        }
        options.set(format!("server.{key}"), value);
    }
    Some(())
}

fn invalid(message: impl Into<String>) -> BlockError {
    BlockError::new(ErrorKind::InvalidArgument, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(name: &str) -> Result<String, String> {
        let mut options = Options::new();
        add_options(name, &mut options).map_err(|error| error.chain())?;
        let words: Vec<_> = options.iter().map(|(key, value)| format!("{key}={}", value.to_text())).collect();
        Ok(words.join(" "))
    }

    #[test]
    fn every_way_to_name_an_export_is_known() {
        for (name, options) in [
            ("nbd://h", "server.host=h server.port=10809 server.type=inet"),
            ("nbd://h:0/", "server.host=h server.port=10809 server.type=inet"),
            ("nbd+tcp://[::1]:7/e%20p", "export=e p server.host=::1 server.port=7 server.type=inet"),
            ("nbd+unix:///e/f?socket=/s", "export=e/f server.path=/s server.type=unix"),
            ("nbd+unix://?socket=s", "server.path=s server.type=unix"),
            ("nbd:unix:s:exportname=e", "export=e server.path=s server.type=unix"),
            ("nbd:unix:", "server.path= server.type=unix"),
            ("nbd:h:7:exportname=e", "export=e server.host=h server.port=7 server.type=inet"),
            ("nbd::7", "server.host= server.port=7 server.type=inet"),
            ("nbd:[::1]:7", "server.host=::1 server.port=7 server.type=inet"),
            ("nbd:a:b:c", "server.host=a server.port=b:c server.type=inet"),
            ("nbd:h:7,ipv4=on", "server.host=h server.ipv4=on server.port=7 server.type=inet"),
            ("nbd:", ""),
            ("nbd:unix:s:exportname=", ""),
        ] {
            assert_eq!(parsed(name).as_deref(), Ok(options), "{name}");
        }
    }

    #[test]
    fn names_that_say_nothing_are_refused() {
        for (name, text) in [
            ("nbd://", "No valid URL specified"),
            ("nbd+unix:///", "No valid URL specified"),
            ("nbd+unix://h/?socket=s", "No valid URL specified"),
            ("nbd+unix:///?socke=s", "No valid URL specified"),
            ("nbd+unix:///?socket=s&x=1", "No valid URL specified"),
            ("nbd://h?x=y", "No valid URL specified"),
            ("nbd:host", "error parsing address 'host'"),
            ("nbd:h:", "error parsing address 'h:'"),
        ] {
            assert_eq!(parsed(name), Err(text.to_owned()), "{name}");
        }
    }

    #[test]
    fn a_place_is_said_once() {
        let mut options = Options::new();
        options.set("server.type", "unix");
        let error = add_options("nbd:unix:s", &mut options).unwrap_err();
        assert_eq!(error.message(), "Option 'server.type' cannot be used with a file name");
    }
}
