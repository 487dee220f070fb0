//! `qemu-img info`: what an image says about itself.
//!
//! Opens the named file and nothing else: neither backing nor data files, unless `--backing-chain` asks for the former.

use std::collections::HashSet;

use qemu_block::types::OpenFlags;

use super::Command;
use crate::cli::common::{ImageArg, OutputFormat, one_filename};
use crate::cli::getopt::{Flag, Parser};
use crate::cli::manual::docs;
use crate::cli::program;
use crate::cli::shared::{Shared, SharedArgs};
use crate::failure::{CommandResult, Failure, Outcome};
use crate::output::image_info::ImageInfo;
use crate::output::json::Json;
use crate::output::messages;
use crate::session::Session;

/// The command.
pub(crate) const COMMAND: Command = Command {
    name: "info",
    summary: "Shows what an image says about itself: format, sizes, backing file, snapshots.",
    synopsis: "[--object OBJDEF] [--image-opts | -f FMT] [--output human|json] [--backing-chain] [-U] FILENAME",
    options: || docs(FLAGS),
    operands: &[("FILENAME", "the image")],
    notes: "",
    run,
};

/// Longer chains are refused: each image costs an open file, and nobody has them on purpose.
const CHAIN_LEN_MAX: usize = 200;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Id {
    BackingChain,
}

const FLAGS: &[Flag<Id>] = &[
    Flag::shared(Shared::Help),
    Flag::shared(Shared::Format),
    Flag::shared(Shared::Output),
    Flag::switch(Id::BackingChain, Some('b'), &["backing-chain"])
        .doc("go on with the backing file, its backing file, and so on"),
    Flag::shared(Shared::Object),
    Flag::shared(Shared::ImageOpts),
    Flag::shared(Shared::ForceShare),
];

#[derive(Debug, Default)]
struct Arguments {
    shared: SharedArgs,
    chain: bool,
}

/// The arguments; none when the user asks for help.
fn parse(words: Vec<String>) -> Result<Option<Arguments>, Failure> {
    let mut parser = Parser::new(COMMAND.name, FLAGS, words);
    let mut arguments = Arguments::default();
    while let Some(given) = parser.next()? {
        match given.id {
            Id::BackingChain => arguments.chain = true,
        }
    }
    let Some((shared, operands)) = parser.finish() else { return Ok(None) };
    arguments.shared = shared;
    arguments.shared.image.name = one_filename(COMMAND.name, operands)?;
    arguments.shared.image.check_exclusive("--format")?;
    Ok(Some(arguments))
}

fn run(words: Vec<String>) -> CommandResult {
    let Some(arguments) = parse(words)? else { return program::print(&COMMAND.help()) };
    let session = Session::new()?.with_objects(&arguments.shared.objects);
    let chain = session.block_on(collect(&session, &arguments))?;
    messages::print(&match arguments.shared.output {
        OutputFormat::Human => chain.iter().map(ImageInfo::to_human).collect::<Vec<_>>().join("\n"),
        OutputFormat::Json if arguments.chain => Json::List(chain.iter().map(ImageInfo::to_json).collect()).pretty(),
        OutputFormat::Json => chain.iter().map(|info| info.to_json().pretty()).collect(),
    })?;
    Ok(Outcome::Success)
}

/// Looks at the image and, if asked to, at those below it, one after the other.
async fn collect(session: &Session, arguments: &Arguments) -> Result<Vec<ImageInfo>, Failure> {
    let mut chain = Vec::new();
    let mut seen = HashSet::new();
    let mut next = Some(arguments.shared.image.clone());
    while let Some(image) = next {
        if !seen.insert(image.name.clone()) {
            return Err(Failure::new(format!("Backing file '{}' creates an infinite loop.", image.name)));
        }
        if chain.len() == CHAIN_LEN_MAX {
            return Err(Failure::new(format!("The backing chain has more than {CHAIN_LEN_MAX} images")));
        }
        let info = look_at(session, &image).await?;
        next = next_in_chain(&image, &info).filter(|_| arguments.chain);
        chain.push(info);
    }
    Ok(chain)
}

async fn look_at(session: &Session, image: &ImageArg) -> Result<ImageInfo, Failure> {
    let node = session.open_image(image, OpenFlags::NO_BACKING | OpenFlags::NO_IO).await?;
    let info = ImageInfo::gather(&node).await;
    let closed = node.close().await;
    let info = info.map_err(|error| Failure::block(format!("Could not read '{}'", image.name), &error))?;
    closed.map_err(|error| Failure::block(format!("Could not close '{}'", image.name), &error))?;
    Ok(info)
}

/// The backing file as an image to open. Whatever the image names is a plain name, never a list of options.
fn next_in_chain(image: &ImageArg, info: &ImageInfo) -> Option<ImageArg> {
    let facts = info.driver_info();
    let name = facts.full_backing_filename.clone()?;
    let force_share = image.force_share;
    Some(ImageArg { name, format: facts.backing_format.clone(), force_share, ..ImageArg::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(words: &[&str]) -> Result<Option<Arguments>, Failure> {
        parse(words.iter().map(|word| (*word).to_owned()).collect())
    }

    /// nova: `info PATH --force-share --output=json -f qcow2`.
    #[test]
    fn options_follow_the_name() {
        let words = ["disk", "--force-share", "--output=json", "-f", "qcow2"];
        let arguments = parse_words(&words).expect("valid").expect("no help");
        assert_eq!(arguments.shared.output, OutputFormat::Json);
        assert_eq!(
            (arguments.shared.image.name.as_str(), arguments.shared.image.format.as_deref()),
            ("disk", Some("qcow2"))
        );
        assert!(arguments.shared.image.force_share && !arguments.chain);
    }

    #[test]
    fn mistakes_are_named() {
        for (words, text) in [
            (&["a", "b"][..], "qemu-img: Expecting one image file name\nTry 'qemu-img info --help' for more info"),
            (&["--image-opts", "-f", "raw", "a"], "qemu-img: --image-opts and --format are mutually exclusive"),
            (
                &["--output=x"],
                "qemu-img: --output expects 'human' or 'json' not 'x'\nTry 'qemu-img info --help' for more info",
            ),
        ] {
            let complaint = parse_words(words).expect_err("accepted").into_text();
            assert_eq!(complaint, text);
        }
        assert!(parse_words(&["--help", "-Z"]).expect("the help comes first").is_none());
    }
}
